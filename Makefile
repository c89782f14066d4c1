# The vocabulary of the project. `make demo` and `make test` do all the set-up from a fresh clone.
PYTHON ?= python3
VENV   := .venv
LIGHT  := .venv-light
BIN    := $(VENV)/bin
PEERS  := .venv-peers

.PHONY: help demo test check format bench bench-docs bench-peers ablations test-isa golden clean

help:
	@echo 'make demo      classify the example photos with the light install'
	@echo 'make test      install everything the tests need, then run them'
	@echo 'make check     ruff, mypy, import floors, tests of the house'
	@echo 'make bench     measure the figures of docs/figures.md (DATA=... for accuracy)'
	@echo 'make bench-peers  the same model in other runtimes, side by side (PEERS_ONLY=bare,openvino)'
	@echo 'make bench-docs  write docs/benchmarks.md from RUNS="a.json b.json" of edge-fgr bench --json'
	@echo 'make ablations   write docs/ablations.md from the runs of edge_fgr_bench.ablate in ABLATIONS'
	@echo 'make test-isa  the same bits on AVX2 and ARM64, under emulation'
	@echo 'make golden    make the golden files of the tests again'

$(LIGHT)/.done: pyproject.toml
	$(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/pip install --quiet --editable .
	@touch $@

$(VENV)/.done: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(LIGHT)/.done
	$(LIGHT)/bin/edge-fgr classify examples/*.jpg

# A file stays in one process: its fixtures train networks. More than four would want much memory.
test: $(VENV)/.done
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/house

format: $(VENV)/.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.done
	$(BIN)/python -m edge_fgr_bench $(if $(DATA),--data $(DATA))

# Environments of 14 GB in all, Ultralytics (AGPL-3.0) in its own; one that cannot be made is told.
comma := ,
PEERS_ONLY ?= bare,openvino,litert,torch,ultralytics

$(PEERS)/%/.done: benchmarks/peers/requirements/%.txt
	$(PYTHON) -m venv $(PEERS)/$*
	-$(PEERS)/$*/bin/pip install --quiet --requirement $< && touch $@

bench-peers: $(VENV)/.done $(patsubst %,$(PEERS)/%/.done,$(subst $(comma), ,$(PEERS_ONLY)))
	$(PYTHON) -m venv $(PEERS)/edge-fgr
	$(PEERS)/edge-fgr/bin/pip install --quiet --requirement benchmarks/peers/requirements/edge-fgr.txt
	$(BIN)/python benchmarks/peers/run.py --only $(PEERS_ONLY) --docs docs/peers.md $(if $(TFLITE),--tflite $(TFLITE)) $(if $(JSON),--json $(JSON))

bench-docs: $(VENV)/.done
	$(BIN)/edge-fgr bench-report $(RUNS) --title 'grocery81 and flowers17' --markdown docs/benchmarks.md

# SHARED holds the folders that the plan names; what is finished there is not run again.
ablations: $(VENV)/.done
	$(BIN)/python -m edge_fgr_bench.ablate $(SHARED) $(ABLATIONS) --seeds 0,1,2 --table > docs/ablations.new
	mv docs/ablations.new docs/ablations.md

test-isa: $(VENV)/.done
	$(BIN)/python tests/isa/same_bits.py

golden: $(VENV)/.done
	$(BIN)/python tests/golden/make_golden.py

clean:
	rm -rf $(VENV) $(LIGHT) $(PEERS) build dist .cache
