# `make demo` and `make test` need nothing but Python (>= 3.11) and make: they set up .venv themselves.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
ROADS ?= data/roads
SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint format simulate bench wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## set up .venv with everything

# torch comes first and by its exact version: left to the resolver, another build brings gigabytes of CUDA along.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt pip
	$(BIN)/python -m pip install -q -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[train]" --group dev
	touch $@

demo: $(READY) ## simulate a drive, detect in it and in a real recording, evaluate, write demo/index.html
	$(BIN)/scn demo --out demo

test: $(READY) ## check the code and run every test
	$(BIN)/ruff check
	$(BIN)/python -m pytest

test-fast: $(READY) ## run the tests that take less than ten seconds each
	$(BIN)/python -m pytest -m "not slow"

lint: $(READY) ## ruff, its formatter and pyright
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

simulate: $(READY) ## write the simulated data set to ROADS from SEED
	$(BIN)/scn simulate $(ROADS) --seed $(SEED)

bench: $(READY) ## run every benchmark
	set -e; for script in benchmarks/*.py; do \
	  if grep -q __main__ "$$script"; then echo "== $$script"; $(BIN)/python "$$script"; fi; done

wheel: $(READY) ## build the wheel into dist/
	$(BIN)/python -m pip wheel -q . --no-deps --wheel-dir dist

clean: ## remove .venv and what the other targets wrote
	rm -rf $(VENV) build dist demo
