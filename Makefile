# make, or make help, says what there is: what follows ## behind a target.

PYTHON ?= python3
PYTEST_FLAGS ?= --numprocesses 4 --dist loadfile --no-loadscope-reorder
PIP_FLAGS ?= --quiet --disable-pip-version-check
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install $(PIP_FLAGS) --constraint requirements/constraints.txt

SOAK_MINUTES ?= 20
SOAK_TARS ?= 400

.DEFAULT_GOAL := help
.PHONY: help demo quick test system test-gpu coverage lint format docs bench soak clean

help: ## this list
	@echo "make TARGET, where TARGET is one of"
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1	\2/p' $(MAKEFILE_LIST) | expand -t 14
	@echo "Programs and packages go into $(VENV); PYTHON=... chooses the Python. README.md says how to use tar2tokens without make."

demo: $(VENV)/base.done ## five recordings -> tars -> tokens, on this machine; replaces the folder demo
	rm -rf demo
	$(BIN)/python -m tools.pack examples/speech --output-dir demo/tars --max-clips 3 --without-text
	$(BIN)/python -m hpc.submit --list demo/tars/tars.txt --backend mulaw --cluster local --output-dir demo/tokens
	$(BIN)/python -m tools.check_progress --output-dir demo/tokens --check-validity --verbose --remaining-output demo/remaining_tar_files.txt
	@echo && $(BIN)/python -m tools.show speech-000000 --output-dir demo/tokens
	@echo && $(BIN)/python -m tools.merge --output-dir demo/tokens --output demo/all.jsonl.gz
	@echo && echo "The first record of demo/all.jsonl.gz, its tokens shortened:"
	@gzip -dc demo/all.jsonl.gz | head -n 1 | sed -E 's/("tokens":\[\[([0-9]+,){8})[^]]*/\1.../'

quick: $(VENV)/test.done ## in under a minute: the tests that are not slow and need neither models nor Slurm
	$(BIN)/python -m pytest --quick --numprocesses 4 --dist loadfile

test: $(VENV)/test.done system ## every test that needs no GPU
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# tests/slurm starts real Slurm clusters of its own, others run 7-Zip. Where programs are missing and we may, install them.
system:
	@requirements/debian.sh

test-gpu: $(VENV)/test.done ## those that need one
	$(BIN)/python -m pytest -m gpu --require-gpu

coverage: $(VENV)/test.done system ## the tests, and how much of the code they reach: fails below the floor of pyproject.toml
	$(BIN)/python -m pytest $(PYTEST_FLAGS) --ignore tests/slurm --cov --cov-report=term

lint: $(VENV)/test.done ## ruff, mypy and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(VENV)/test.done ## bring the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(BIN)/python ## docs/ as a site, into site/; a link that leads nowhere is an error
	$(PIP) --requirement requirements/docs.txt
	$(BIN)/mkdocs build --strict

bench: $(VENV)/test.done ## the figures of benchmarks/README.md
	$(PIP) --editable '.[bench]'
	$(BIN)/python requirements/cpu_torchaudio.py
	$(BIN)/python -m benchmarks.run_all

soak: $(VENV)/test.done system ## a real Slurm in which something breaks every few seconds (root; SOAK_MINUTES, SOAK_TARS, SOAK_SEED)
	$(BIN)/python -m benchmarks.soak --minutes $(SOAK_MINUTES) --tars $(SOAK_TARS) $(if $(SOAK_SEED),--seed $(SOAK_SEED)) --out soak.json

clean: ## delete .venv, demo, and what builds and tests have left
	rm -rf $(VENV) demo build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*

# Debian splits off what venv needs to bring pip; where it is missing, a pip outside can stand in.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); $(PYTHON) -m virtualenv $(VENV); } \
		|| { rm -rf $(VENV); $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install pip; } \
		|| { rm -rf $(VENV); echo "error: $(PYTHON) has neither venv, virtualenv nor pip: install python3-venv," \
			"or set PYTHON to one that has" >&2; exit 2; }

$(VENV)/base.done: setup.cfg requirements/constraints.txt | $(BIN)/python
	$(PIP) --editable .
	touch $@

# torchaudio: PyPI's wheels load CUDA libraries, which a CPU torch lacks; without them it is all Python, which is enough.
# boson-multimodal pins an old transformers that its code does not need, hence --no-deps.
$(VENV)/test.done: $(VENV)/base.done requirements/boson.txt requirements/no_deps.txt
	$(PIP) --editable '.[test,dev]'
	$(PIP) --no-deps --requirement requirements/boson.txt --requirement requirements/no_deps.txt
	$(BIN)/python requirements/cpu_torchaudio.py
	touch $@
