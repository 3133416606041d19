# Two commands set up a fresh machine: `make demo` shows a complete run, `make test` runs the quick tests.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin

# Tests start hundreds of interpreters; without compiled files on disk each of them compiles every module.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-system drill check format bench lock clean setup services

setup: $(VENV)/.ready

# The lock file has a hash for every file; the project itself is installed from this folder, without dependencies.
$(VENV)/.ready: locks/dev.txt pyproject.toml deploy/setup.sh
	@VENV=$(VENV) deploy/setup.sh

# KIND: yandex-container-registry, yandex-cloud-registry (both simulated) or oci (Debian's docker-registry).
demo: setup $(if $(filter oci,$(KIND)),services)
	@$(BIN)/python -m tests.demo $(KIND)

# The tests of every module, the contract of every driver, the properties with fixed examples, and a complete run on each
# kind of registry with real servers and processes: five minutes.
test: setup services
	@$(BIN)/python -m pytest -n 5 --dist worksteal --ignore tests/system $(ARGS)

# tests/system: every crash point and bad link, histories, runs on real registries, secrets, parity of fakes; and from the
# other tests the complete runs on PostgreSQL, and the properties with random examples.
test-system: setup services
	@$(BIN)/python -m pytest -n 4 --dist worksteal --system $(ARGS)

# Servers that only tests need (Redis, PostgreSQL, docker-registry and more): installed by apt-get if root, else reported.
services:
	@deploy/test-services.sh

# Ten thousand random histories against a model of a registry (HISTORIES, SEED): half an hour on two processors.
drill: setup
	@$(BIN)/python -m tests.system.histories.drill

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup
	@$(BIN)/python -m tests.bench $(ARGS)
	@$(BIN)/python -m tests.bench.scan
	@$(BIN)/python -m tests.bench.load
	@$(BIN)/python -m tests.bench.sweep

# Needs uv on the PATH. No index address is written into the locks.
lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --all-extras --group dev pyproject.toml -o locks/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --all-extras pyproject.toml -c locks/dev.txt -o locks/run.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis build dist
