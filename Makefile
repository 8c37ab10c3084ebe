# Two commands: `make demo` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= output/demo

.PHONY: help demo test test-slow install check lint bench bench-gpu clean

help: ## what each target does
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.installed ## edit 16 faces with 13 prompts on the embedded pack
	$(BIN)/styleclip edit-dataset --prompts examples/prompts.csv --run $(RUN) --num-latents 16

test: $(VENV)/.installed-test ## the test suite
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed-test ## the tests that take minutes: processes of Prefect killed, C++ compiled
	$(BIN)/python -m pytest -m slow

install: $(VENV)/.installed-test ## .venv with everything

check: lint test ## linters, types, import rule, tests

lint: $(VENV)/.installed-test ## ruff, pyright, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: $(VENV)/.installed-test ## measure the fast paths against their references, into benchmarks/results*; 35 minutes
	$(BIN)/python -m benchmarks.bench --write
	$(BIN)/python -m benchmarks.directions --modes --write
	$(BIN)/python -m benchmarks.bench_edits --single-runs 2 --write

bench-gpu: $(VENV)/.installed-test ## measure the GPU path against the old one and the card, into benchmarks/; 6 minutes
	$(BIN)/python -m benchmarks.bench_gpu

clean: ## remove .venv and outputs
	rm -rf $(VENV) output build .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@ $(VENV)/.installed
