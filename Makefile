# `make demo` and `make test` need nothing but Python (>= 3.11) and make: they set up .venv themselves.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/core
READY := $(VENV)/ready
ROADS ?= data/roads
SMALL_ROADS ?= data/small_roads
SEED ?= 0
JOBS ?= 2
TEST_JOBS ?= 2
# One thread a process: two that compete for the cores take longer than one after the other. A file stays in one process,
# because what its tests share is trained or built once.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder
SHIPPED ?= nano small nano-robust nano-nir nano-sparse nano-integer nano-one-step small-integer-sparse small-one-step small-wide-one-step small-one-step-3d-pose
THRESHOLDS ?= 0.6 0.8 1.25 1.5 2
STUDIES ?= distillation distillation_why time_steps architecture head neuron integer_neurons input

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-random test-fast sanitize lint format docs docs-serve simulate bench fuzz kill \
	models worlds robustness results firing-rate-study studies wheel clean memory

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(READY) ## set up .venv with everything

# torch comes first and by its exact version: left to the resolver, another build brings gigabytes of CUDA along.
$(CORE): pyproject.toml constraints.txt $(wildcard native/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt pip
	$(BIN)/python -m pip install -q -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# The demo needs the core alone: a third of the space, most of the rest is for the tests. The package is installed by
# then; named without -e it brings what its extras ask for and is not compiled once more.
$(READY): $(CORE)
	$(BIN)/python -m pip install -q -c constraints.txt \
	  "spiking-centernet[train,formats,track,view,live,onnx,openvino,nir]" --group dev
	touch $@

demo: $(CORE) ## simulate a drive, detect in it and in a real recording, evaluate, write demo/index.html
	$(BIN)/scn demo --out demo

test: $(READY) ## check the code and run the tests, all but those that are much like others and take long
	$(BIN)/ruff check
	$(PYTEST) -m "not thorough"

test-all: $(READY) ## check the code and run every test
	$(BIN)/ruff check
	$(PYTEST)

test-random: $(READY) ## run every test in random order, drawn from SEED
	$(PYTEST) --random-order --random-order-seed=$(SEED)

test-fast: $(READY) ## run the tests that take about half a second at most
	$(PYTEST) -m "not slow"

sanitize: $(READY) ## run the native kernels' tests under the address and undefined-behavior sanitizers
	$(BIN)/python -m pytest tests/test_sanitized.py

lint: $(READY) ## ruff, its formatter, pyright and import-linter
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -c constraints.txt --group bench
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(READY) ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY) ## build the documentation into site/ and check its links
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt --group docs
	$(BIN)/python docs/fill.py --check
	$(BIN)/python docs/stage.py
	$(BIN)/zensical build --strict
	$(BIN)/python docs/check_site.py

docs-serve: docs ## show the documentation on http://localhost:8000
	$(BIN)/python -m http.server --bind localhost --directory site 8000

simulate: $(READY) ## write the simulated data set to ROADS from SEED
	$(BIN)/scn simulate $(ROADS) --seed $(SEED)

# Studies, kill tests and robustness take long and have targets of their own.
bench: $(READY) ## run every benchmark
	$(BIN)/python -m pip install -q --no-deps -c constraints.txt --group bench
	set -e; for script in $(filter-out %_study.py %kill_test.py %robustness.py,$(wildcard benchmarks/*.py)); do \
	  if grep -q __main__ "$$script"; then echo "== $$script"; $(BIN)/python "$$script"; fi; done
	$(BIN)/python benchmarks/training.py --preset paper --batch 2 --rounds 1 --no-agreement
	$(BIN)/scn bench --out bench
	cp bench/bench.json results/bench.json
	cp bench/race.png docs/images/bench_race.png
	cp bench/rates.png docs/images/bench_rates.png

fuzz: $(READY) ## feed 200,000 damaged inputs to every reader (FUZZ_INPUTS=...)
	$(BIN)/python tests/fuzz.py --inputs $(or $(FUZZ_INPUTS),200000) --jobs $(JOBS)

kill: $(READY) ## kill training, simulation, detection and a study at 50 random times each (KILLS=...)
	$(BIN)/python benchmarks/kill_test.py --kills $(or $(KILLS),50)

# nano first: the others start from its weights.
models: $(READY) ## train and evaluate the bundled weights, by the commands in the heads of their recipes; days
	$(BIN)/python benchmarks/reproduce.py $(SHIPPED) --bundle

memory: $(READY) ## train and measure nano-memory on traffic that stops; two hours
	test -d data/stops/test || $(BIN)/scn simulate data/stops --world stops --seed 6 --train 90 --train_duration_s 3 --val 16 \
	  --test 24 --duration_s 4
	for name in nano_memory nano_memory_longer; do \
	  $(BIN)/scn train recipes/$$name.yaml --data data/stops --out runs/$$name --resume || exit 1; done
	$(BIN)/python benchmarks/parked.py --data data/stops --models nano runs/nano_memory_longer --split test

worlds: $(READY) ## simulate the worlds that robustness is measured in; ten minutes
	set -e; make_world() { test -d data/$$1 || $(BIN)/scn simulate data/$$1 --train 0 --val 0 --test 20 --duration_s 3 \
	  $$2 $$3; }; \
	make_world clear; make_world night --light night; make_world rain --rain_mm_h 10; make_world flicker --flicker_hz 100; \
	for scale in $(THRESHOLDS); do make_world threshold_$$scale --threshold_scale $$scale; done

robustness: worlds ## evaluate nano, its ANN counterpart, nano-robust, its control and small under sensor corruptions
	$(BIN)/scn train recipes/nano_relu.yaml --data $(ROADS) --out runs/nano_relu --resume
	$(BIN)/python benchmarks/robustness.py --data data/clear --models nano runs/nano_relu nano-robust --worlds data/night \
	  data/rain data/flicker $(addprefix data/threshold_,$(THRESHOLDS))
	$(BIN)/scn train recipes/nano_control.yaml --data $(ROADS) --out runs/nano_control --resume
	$(BIN)/python benchmarks/robustness.py --data data/clear --models runs/nano_control --worlds data/night data/rain \
	  data/flicker $(addprefix data/threshold_,$(THRESHOLDS)) --out results/robustness_control.json
	$(BIN)/python benchmarks/robustness.py --data data/clear --models small --worlds data/night data/rain data/flicker \
	  $(addprefix data/threshold_,$(THRESHOLDS)) --out results/robustness_small.json

# In this order, because each step reads what the one before it wrote. Takes a day: it trains the bundled weights again.
results: $(READY) ## measure every file in results/ again, and fill the pages
	$(MAKE) models
	for name in nano nano-sparse; do $(BIN)/scn energy $$name --data $(ROADS) --split test --report runs/$$name-energy && \
	  cp runs/$$name-energy/energy.json results/$$(echo $$name | tr - _)_energy.json || exit 1; done
	$(BIN)/scn demo --out demo
	cp demo/demo.json results/demo.json
	$(BIN)/python docs/make_simulator_page.py --data $(ROADS)
	$(MAKE) bench fuzz kill robustness firing-rate-study studies

firing-rate-study: $(READY) ## fine-tune nano to spike less, six targets and three seeds; resumes
	$(BIN)/python benchmarks/firing_rate_study.py --data $(ROADS) --out runs/firing_rate
	$(BIN)/python docs/fill.py

# Hours on two cores; stopped and started again, it resumes. JOBS runs at a time share the cores.
studies: $(READY) ## run every ablation study on SMALL_ROADS, keep the tables and fill the pages
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
	rm -rf $(VENV) build dist demo bench site
