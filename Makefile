# make demo   speech -> tars -> tokens, on this machine, in .venv
# make test   every test that needs no GPU;  make test-gpu  those that do
# make lint   ruff and mypy;  make bench  the figures of benchmarks/README.md
# make soak   a real Slurm in which something breaks every few seconds (root; SOAK_MINUTES, SOAK_TARS, SOAK_SEED)

PYTHON ?= python3
PYTEST_FLAGS ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder
PIP_FLAGS ?= --quiet --disable-pip-version-check
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install $(PIP_FLAGS) --constraint requirements/constraints.txt

SOAK_MINUTES ?= 20
SOAK_TARS ?= 400

.PHONY: demo test system test-gpu lint format bench soak clean

demo: $(VENV)/base.done
	rm -rf demo
	$(BIN)/python -m tools.pack examples/speech --output-dir demo/tars --max-clips 3 --without-text
	$(BIN)/python -m hpc.submit --list demo/tars/tars.txt --backend mulaw --cluster local --output-dir demo/tokens
	$(BIN)/python -m tools.check_progress --output-dir demo/tokens --check-validity --verbose --remaining-output demo/remaining_tar_files.txt
	@echo && $(BIN)/python -m tools.show speech-000000 --output-dir demo/tokens
	@echo && $(BIN)/python -m tools.merge --output-dir demo/tokens --output demo/all.jsonl.gz
	@echo && echo "The first record of demo/all.jsonl.gz, its tokens shortened:"
	@gzip -dc demo/all.jsonl.gz | head -n 1 | sed -E 's/("tokens":\[\[([0-9]+,){8})[^]]*/\1.../'

test: $(VENV)/test.done system
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

# tests/slurm starts real Slurm clusters of its own, others run 7-Zip. Where programs are missing and we may, install them.
system:
	@requirements/debian.sh

test-gpu: $(VENV)/test.done
	$(BIN)/python -m pytest -m gpu --require-gpu

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/test.done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/test.done
	$(PIP) --editable '.[bench]'
	$(BIN)/python requirements/cpu_torchaudio.py
	$(BIN)/python -m benchmarks.run_all

soak: $(VENV)/test.done system
	$(BIN)/python -m benchmarks.soak --minutes $(SOAK_MINUTES) --tars $(SOAK_TARS) $(if $(SOAK_SEED),--seed $(SOAK_SEED)) --out soak.json

clean:
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

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
