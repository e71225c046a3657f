# `make run` and `make test` install everything that they need. `make help` lists all targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# The Python that creates .venv.
export PYTHON ?= python3.11
# More arguments for pytest, for instance: make test PYTEST_ARGS='-k image -x'
PYTEST_ARGS ?=
# The number of test modules that run at the same time. Half of the time, tests wait for containers.
TEST_WORKERS ?= 2
BIN := .venv/bin
SPREAD = $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder
# The exit status of pytest when it has no tests to run, for instance because none failed before.
NONE_LEFT := 5

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: venv docker image-ready ## install everything and serve on HOST:PORT (0.0.0.0:8000)
	@scripts/setup-curl
	@exec $(BIN)/code-interpreter-api

.PHONY: test
test: venv-dev docker image-ready deploy-ready chromium check ## install everything, check the code, and run all tests with real containers
	@$(SPREAD) --ignore tests/kubernetes $(PYTEST_ARGS)

# Tests that must also pass on Kubernetes: execute, sessions, files, restart, reuse, hostile code. Other modules accept
# `--backend kubernetes` as well; these find most for the time they take.
ON_BOTH := tests/sessions/test_session_survival.py tests/routes/test_execute_limits.py tests/sessions/test_sessions.py tests/sessions/test_session_files.py \
	tests/routes/test_execute.py tests/routes/test_stream.py tests/isolation/test_isolation.py tests/hostile/test_network.py \
	tests/hostile/test_workspace_files.py tests/hostile/test_seccomp.py \
	tests/containers/test_reuse.py::test_nothing_is_left_in_a_hundred_rounds tests/containers/test_reuse.py::test_a_container_is_never_used_across_keys
# These stop parts of the cluster, so they run alone.
FAULTS := tests/kubernetes/test_faults.py tests/kubernetes/test_nodes.py
.PHONY: test-kubernetes
test-kubernetes: venv-dev docker image-ready ## start a Kubernetes cluster (compiled the first time) and run the tests on its pods
	@deploy/build --if-changed
	@scripts/setup-test-tools
	@scripts/setup-kubernetes
	@trap 'scripts/setup-kubernetes down' EXIT; \
	status=0; \
	$(SPREAD) --backend kubernetes $(ON_BOTH) $(PYTEST_ARGS) || [ $$? -eq $(NONE_LEFT) ] || status=1; \
	$(SPREAD) tests/kubernetes $(FAULTS:%=--ignore %) $(PYTEST_ARGS) || [ $$? -eq $(NONE_LEFT) ] || status=1; \
	$(BIN)/python -m pytest $(FAULTS) $(PYTEST_ARGS) || [ $$? -eq $(NONE_LEFT) ] || status=1; \
	exit $$status

.PHONY: test-hostile
test-hostile: venv-dev docker image-ready ## run the hostile tests with reused containers, and again with a new one for each call
	@$(SPREAD) --reuse tenant tests/hostile $(PYTEST_ARGS)
	@$(SPREAD) --reuse never tests/hostile $(PYTEST_ARGS)

# The number of examples of each kind. They are generated anew in each run.
FUZZ_EXAMPLES ?= 300
.PHONY: fuzz
fuzz: venv-dev docker image-ready ## search for requests whose answers differ from the documentation
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/fuzz $(PYTEST_ARGS)

.PHONY: check
check: venv-dev ## check the code, as the pre-commit hooks do
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports --config pyproject.toml

.PHONY: format
format: venv-dev ## fix and format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: venv-dev docker image-ready ## measure speed and memory, and compare with `docker run`
	@$(BIN)/python -m bench
	@$(BIN)/python -m bench.sessions
	@$(BIN)/python -m bench.throughput

.PHONY: image
image: venv docker ## build the kernel image
	@kernel_image/build

.PHONY: service-image
service-image: docker ## build the service's image, code-interpreter (SKIP_NESTED_DOCKER=1: without a Docker engine inside)
	@deploy/build

.PHONY: lock
lock: ## pin the newest versions of everything into the lock files
	@scripts/lock

.PHONY: clean
clean: ## remove the virtual environment, the caches and the build folders
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build dist *.egg-info deploy/packages/*
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

.PHONY: clean-image
clean-image: ## remove the images, their base image, and what their builds left
	-docker image rm code-interpreter:preloaded code-interpreter:latest code-interpreter-kernel:latest
	-docker image ls --quiet --filter label=code-interpreter.stage=build | sort -u | xargs -r docker image rm
	-docker image rm code-interpreter-base:bookworm

# Prerequisites of the other targets. The second time they do nothing and print nothing.
.PHONY: venv venv-dev docker image-ready deploy-ready chromium
venv:
	@scripts/setup-venv runtime
venv-dev:
	@scripts/setup-venv development
docker:
	@scripts/setup-docker
image-ready: docker
	@scripts/setup-image
# Prerequisites of the tests in tests/deploy.
deploy-ready: docker image-ready
	@deploy/build --if-changed
	@./build-preloaded.sh code-interpreter:preloaded
	@scripts/setup-test-tools
chromium:
	@scripts/setup-chromium
