# Builds its own virtual environment from constraints.txt; nothing outside this folder is touched.
# Each target installs only what it needs: demo and real the package, test and lint the developers' tools, docs sphinx.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMPS := $(VENV)/.stamps
PINS := constraints.txt pyproject.toml
OUT ?= runs/demo
NAME ?=
export PYTHONHASHSEED := 0
export TOKENIZERS_PARALLELISM := false

.PHONY: help setup demo real test lint docs notebooks bench wheel-test

help:
	@echo "make setup       build .venv with everything a developer needs"
	@echo "make demo        the whole path on simulated drug responses and real blood cells; report in $(OUT)/screen"
	@echo "make real        the screen on public Kang et al. cells (needs C2S_DATA_DIR)"
	@echo "make test        tests that need neither network nor data"
	@echo "make lint        ruff, mypy, import contract"
	@echo "make docs        build docs/_build/html; warnings are errors"
	@echo "make notebooks   execute notebooks/"
	@echo "make bench NAME=x   run benchmarks/x and render docs/benchmarks.md"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "c2s needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(STAMPS)/core: $(BIN)/python $(PINS)
	$(PIP) install -q -c constraints.txt hatchling
	$(PIP) install -q -c constraints.txt --no-build-isolation -e .
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/test: $(STAMPS)/core
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[test]"
	@touch $@

$(STAMPS)/docs: $(STAMPS)/core
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[docs]"
	@touch $@

setup: $(STAMPS)/test $(STAMPS)/docs
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[dev]"

demo: $(STAMPS)/core
	$(BIN)/c2s demo $(OUT) $(if $(QUICK),--quick) $(if $(OVERWRITE),--overwrite)

real: $(STAMPS)/core
	@test -n "$$C2S_DATA_DIR" || { echo "make real needs C2S_DATA_DIR: the folder that holds kang_ifnb/ and gene_sets/ (see docs/guide/screen.md)" >&2; exit 2; }
	$(BIN)/python -m benchmarks.real.run $(if $(REDUCED),--reduced)

# two processes with one OpenMP thread each: threads of torch that wait for one another cost more than they bring on tiny models
test: export OMP_NUM_THREADS := 1
test: $(STAMPS)/test
	$(BIN)/python -m pytest -m "not slow and not network and not gpu" -n 2 --dist loadfile

lint: $(STAMPS)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMPS)/docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

notebooks: $(STAMPS)/test
	$(BIN)/python -m pytest -m slow tests/test_notebooks.py

$(STAMPS)/bench: $(STAMPS)/core
	$(PIP) install -q -c constraints.txt --no-build-isolation -e ".[bench]"
	@touch $@

bench: $(STAMPS)/bench
	@test -n "$(NAME)" || { echo "make bench needs NAME, one of: $$(ls -d benchmarks/*/ | xargs -n1 basename | grep -v __ | tr '\n' ' ')" >&2; exit 2; }
	$(BIN)/python -m benchmarks.$(NAME).run $(ARGS)
	$(BIN)/python -m benchmarks.render

wheel-test: $(STAMPS)/test
	bash .ci/wheel-test
