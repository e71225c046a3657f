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
# How many test modules run at once: tests wait for containers half of the time.
TEST_WORKERS ?= 2
BIN := .venv/bin
SPREAD = $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
# How pytest ends that has nothing to run, such as nothing that has failed before.
NONE_LEFT := 5

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: venv docker image-ready ## set everything up and serve on HOST:PORT (0.0.0.0:8000)
	@scripts/setup-curl
	@exec $(BIN)/code-interpreter-api

.PHONY: test
test: venv-dev docker image-ready deploy-ready chromium check ## set everything up, check the code, and run every test against real containers
	@$(SPREAD) --ignore tests/kubernetes $(PYTEST_ARGS)

# What has to hold whatever runs the kernels: execute, sessions, files, restart, reuse, hostile. Other modules take
# `--backend kubernetes` as well; these tell most for their time.
ON_BOTH := tests/sessions/test_session_survival.py tests/routes/test_execute_limits.py tests/sessions/test_sessions.py tests/sessions/test_session_files.py \
	tests/routes/test_execute.py tests/routes/test_stream.py tests/routes/test_files.py tests/isolation/test_isolation.py tests/hostile/test_network.py \
	tests/hostile/test_workspace_files.py tests/hostile/test_seccomp.py \
	tests/containers/test_reuse.py::test_nothing_is_left_in_a_hundred_rounds tests/containers/test_reuse.py::test_a_container_is_never_used_across_keys
# These stop the cluster's parts, and so run by themselves.
FAULTS := tests/kubernetes/test_faults.py tests/kubernetes/test_nodes.py
.PHONY: test-kubernetes
test-kubernetes: venv-dev docker image-ready ## start a Kubernetes (the first time it is compiled) and run the tests on its pods
	@deploy/build --if-changed
	@scripts/setup-test-tools
	@scripts/setup-kubernetes
	@trap 'scripts/setup-kubernetes down' EXIT; \
	status=0; \
	$(SPREAD) --backend kubernetes $(ON_BOTH) $(PYTEST_ARGS) || [ $$? -eq $(NONE_LEFT) ] || status=1; \
	$(SPREAD) tests/kubernetes $(FAULTS:%=--ignore %) $(PYTEST_ARGS) || [ $$? -eq $(NONE_LEFT) ] || status=1; \
	$(BIN)/python -m pytest $(FAULTS) $(PYTEST_ARGS) || [ $$? -eq $(NONE_LEFT) ] || status=1; \
	exit $$status

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

.PHONY: service-image
service-image: docker ## build the service's image, code-interpreter (SKIP_NESTED_DOCKER=1: without an engine inside)
	@deploy/build

.PHONY: lock
lock: ## pin the newest versions of everything into the lock files
	@scripts/lock

.PHONY: clean
clean: ## remove the virtual environment, the caches and the build folders
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info deploy/packages/*
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: clean-image
clean-image: ## remove the images, the base made for it, and what their builds left
	-docker image rm code-interpreter:preloaded code-interpreter:latest code-interpreter-kernel:latest
	-docker image ls --quiet --filter label=code-interpreter.stage=build | sort -u | xargs -r docker image rm
	-docker image rm code-interpreter-base:bookworm

# What the others stand on. Each has nothing to do, and says nothing, the second time.
.PHONY: venv venv-dev docker image-ready deploy-ready chromium
venv:
	@scripts/setup-venv runtime
venv-dev:
	@scripts/setup-venv development
docker:
	@scripts/setup-docker
image-ready: docker
	@scripts/setup-image
# What the tests of the containers want.
deploy-ready: docker image-ready
	@deploy/build --if-changed
	@./build-preloaded.sh code-interpreter:preloaded
	@scripts/setup-test-tools
chromium:
	@scripts/setup-chromium
