# One task runner for people and for CI. The first use of a target creates the environment in $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint format docs bench chaos fuzz azurite lock clean

$(READY): requirements-dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "rayforest needs Python 3.11 to 3.13: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: $(READY)            ## the whole job on generated payments, on a Ray of this machine
	$(BIN)/rayforest demo

test: $(READY)            ## every test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)            ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY)          ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY)            ## the documentation as a site under site/; a link to nowhere is an error
	$(BIN)/python docs/make_reference.py
	$(BIN)/zensical build --clean --strict

bench: $(READY)           ## every benchmark; results go to benchmarks/results. A peer that does not install is left out
	-$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[bench]"
	-$(BIN)/python -m pip install --quiet --no-deps "daft>=0.7,<0.8"  # it asks for pyarrow below 26, and runs with 26
	$(BIN)/python -m benchmarks

chaos: $(READY)           ## kill processes for a long time, and write down what held
	$(BIN)/python -m tests.chaos.long

fuzz: $(READY)            ## convert thousands of random models, and try many more examples of every generated test
	$(BIN)/python -m tests.onnx.fuzz --seeds 5000
	RAYFOREST_EXAMPLES_TIMES=20 $(BIN)/python -m pytest -n 2 --dist worksteal -m hypothesis

azurite: $(READY)         ## Azure's emulator, for the tests that skip without it; needs Node.js (npm) and 400 MB
	npm install --no-audit --no-fund --prefix $(VENV)/azurite azurite@3.37.0
	ln -sf ../azurite/node_modules/.bin/azurite-blob $(BIN)/azurite-blob

lock:                     ## pin what pyproject.toml allows, with hashes
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --output-file requirements-dev.lock

clean:                    ## remove the environment and everything that was made
	rm -rf $(VENV) demo site build dist .cache lib/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
