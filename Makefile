# `make run` and `make test` set up all they need: see `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# The Python that makes .venv.
export PYTHON ?= python3.11
# More arguments for pytest, for instance: make test PYTEST_ARGS='-k image -x'
PYTEST_ARGS ?=
BIN := .venv/bin

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: venv docker image-ready ## set everything up and serve on HOST:PORT (0.0.0.0:8000)
	@scripts/setup-curl
	@exec $(BIN)/code-interpreter-api

.PHONY: test
test: venv-dev docker chromium image-ready check ## set everything up, check the code, and run every test against real containers
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

# How many examples of each kind; they are new each time.
FUZZ_EXAMPLES ?= 300
.PHONY: fuzz
fuzz: venv-dev docker image-ready ## look for requests that are not answered as documented, for long
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/fuzz $(PYTEST_ARGS)

.PHONY: check
check: venv-dev ## mypy and ruff, as the pre-commit hooks run them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

.PHONY: format
format: venv-dev ## let ruff repair and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: venv-dev docker image-ready ## measure speed and memory beside `docker run`
	@$(BIN)/python -m bench
	@$(BIN)/python -m bench.sessions
	@$(BIN)/python -m bench.throughput

.PHONY: image
image: venv docker ## build the kernel image
	@kernel_image/build

.PHONY: lock
lock: ## pin the newest versions of everything into the lock files
	@scripts/lock

.PHONY: clean
clean: ## remove the virtual environment, the caches and the build folders
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: clean-image
clean-image: ## remove the kernel image, the base made for it, and what their builds left
	-docker image rm code-interpreter-kernel:latest
	-docker image ls --quiet --filter label=code-interpreter.stage=build | sort -u | xargs -r docker image rm
	-docker image rm code-interpreter-base:bookworm

# What the others stand on. Each has nothing to do, and says nothing, the second time.
.PHONY: venv venv-dev docker chromium image-ready
venv:
	@scripts/setup-venv runtime
venv-dev:
	@scripts/setup-venv development
docker:
	@scripts/setup-docker
chromium:
	@scripts/setup-chromium
image-ready: docker
	@scripts/setup-image
