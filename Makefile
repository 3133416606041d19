# Two commands set everything up on a fresh machine: `make demo` runs the main job, `make test` the quick tests.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin

# Tests start hundreds of interpreters: without compiled files on the disk each would compile every module again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-system drill check format bench lock clean setup services

setup: $(VENV)/.ready

# The lock holds a hash for every file; the project itself is installed from this folder, without its dependencies.
$(VENV)/.ready: locks/dev.txt pyproject.toml deploy/setup.sh
	@VENV=$(VENV) deploy/setup.sh

# KIND: yandex-container-registry, yandex-cloud-registry (both simulated) or oci (Debian's docker-registry).
demo: setup $(if $(filter oci,$(KIND)),services)
	@$(BIN)/python -m tests.demo $(KIND)

# Every module's tests, the contract of every driver, the properties by examples that are always the same, and a night of
# each kind with real servers and processes: five minutes.
test: setup services
	@$(BIN)/python -m pytest -n 5 --dist worksteal --ignore tests/system $(ARGS)

# The rest, tests/system: every crash point and bad link, histories, nights on real registries, secrets, parity of fakes;
# and of the others the nights again on PostgreSQL, the properties again by random examples.
test-system: setup services
	@$(BIN)/python -m pytest -n 4 --dist worksteal --system $(ARGS)

# Servers that only tests need (Redis, PostgreSQL, docker-registry and more): by apt-get when root, else the tests say so.
services:
	@deploy/test-services.sh

# Ten thousand histories against a model of a registry (HISTORIES, SEED): half an hour on two processors.
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
