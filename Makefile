# `make demo` and `make test` need nothing but Python (>= 3.11) and make: they set up .venv themselves.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
ROADS ?= data/roads
SMALL_ROADS ?= data/small_roads
SEED ?= 0
JOBS ?= 2
TEST_JOBS ?= 2
# One thread a process: two that fight over the cores take longer than one after the other. A file stays in one process,
# because what its tests share is trained or built once.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile
STUDIES ?= distillation distillation_why time_steps architecture head neuron input

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast sanitize lint format simulate bench fuzz kill results firing-rate-study studies \
	wheel clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## set up .venv with everything

# torch comes first and by its exact version: left to the resolver, another build brings gigabytes of CUDA along.
$(READY): pyproject.toml constraints.txt $(wildcard native/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt pip
	$(BIN)/python -m pip install -q -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[train,formats,track,live,onnx,openvino,nir]" --group dev
	touch $@

demo: $(READY) ## simulate a drive, detect in it and in a real recording, evaluate, write demo/index.html
	$(BIN)/scn demo --out demo

test: $(READY) ## check the code and run every test
	$(BIN)/ruff check
	$(PYTEST)

test-fast: $(READY) ## run the tests that take less than ten seconds each
	$(PYTEST) -m "not slow"

sanitize: $(READY) ## run the native kernels' tests under the address and undefined-behaviour sanitizers
	$(BIN)/python -m pytest tests/test_sanitized.py

lint: $(READY) ## ruff, its formatter and pyright
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(READY) ## let ruff mend what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

simulate: $(READY) ## write the simulated data set to ROADS from SEED
	$(BIN)/scn simulate $(ROADS) --seed $(SEED)

# Studies train for hours and are asked for by name.
bench: $(READY) ## run every benchmark
	$(BIN)/python -m pip install -q --no-deps -c constraints.txt --group bench
	set -e; for script in $(filter-out %_study.py,$(wildcard benchmarks/*.py)); do \
	  if grep -q __main__ "$$script"; then echo "== $$script"; $(BIN)/python "$$script"; fi; done
	$(BIN)/python benchmarks/training.py --preset paper --batch 2 --rounds 1 --no-agreement
	$(BIN)/scn bench --out bench
	cp bench/bench.json results/bench.json
	cp bench/race.png docs/images/bench_race.png
	cp bench/rates.png docs/images/bench_rates.png

fuzz: $(READY) ## feed 200,000 damaged inputs to every reader (FUZZ_INPUTS=...)
	$(BIN)/python tests/fuzz.py --inputs $(or $(FUZZ_INPUTS),200000) --jobs $(JOBS)

kill: $(READY) ## kill training, simulation, detection and a study at 50 random moments each (KILLS=...)
	$(BIN)/python benchmarks/kill_test.py --kills $(or $(KILLS),50)

# In this order, because each step reads what the one before it wrote. Takes hours: it trains the shipped weights anew.
results: $(READY) ## measure every file in results/ again, and fill the pages
	$(BIN)/scn simulate data/roads --seed 0 --train 800 --train_duration_s 1 --val 32 --test 40 --duration_s 3
	$(BIN)/scn train recipes/nano_roads.yaml --data data/roads --out runs/nano --resume
	mkdir -p src/spiking_centernet/models
	cp runs/nano/best.safetensors src/spiking_centernet/models/nano.safetensors
	$(BIN)/scn val nano --data data/roads --split test --protocol all --save runs/nano/test
	cp runs/nano/test/score.json results/nano_roads.json
	$(BIN)/scn energy nano --data data/roads --split test --report runs/nano/energy
	cp runs/nano/energy/energy.json results/nano_energy.json
	$(BIN)/scn demo --out demo
	cp demo/demo.json results/demo.json
	$(MAKE) bench fuzz
	$(BIN)/python docs/make_simulator_page.py --data data/roads
	$(BIN)/python docs/fill.py

firing-rate-study: $(READY) ## fine-tune nano to fire less, six targets and three seeds; goes on where it was stopped
	$(BIN)/python benchmarks/firing_rate_study.py --data data/roads --out runs/firing_rate
	$(BIN)/python docs/fill.py

# Hours on two cores; stopped and started again, it goes on. JOBS runs at a time share the cores.
studies: $(READY) ## run every study on SMALL_ROADS, keep the tables in results/ and fill the pages
	test -d $(SMALL_ROADS)/test || $(BIN)/scn simulate $(SMALL_ROADS) --size 152x120 --train 800 --train_duration_s 1 \
	  --val 32 --test 40 --duration_s 3
	set -e; before=; for study in $(STUDIES); do \
	  $(BIN)/scn study recipes/studies/$$study.yaml --data $(SMALL_ROADS) --out studies/$$study --jobs $(JOBS) \
	    $${before:+--reuse $$before}; \
	  cp studies/$$study/study.json results/study_$$study.json; \
	  cp studies/$$study/study.png docs/images/study_$$study.png; before="$$before studies/$$study"; done
	$(BIN)/python docs/fill.py

wheel: $(READY) ## build the wheel into dist/
	$(BIN)/python -m pip wheel -q . --no-deps --wheel-dir dist

clean: ## remove .venv and what the other targets wrote
	rm -rf $(VENV) build dist demo bench
