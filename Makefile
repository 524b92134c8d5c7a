# make demo   environment + `bab run --encoder hubert --task vtc` on the shipped sample, offline
# make test   environment + the whole fast suite
# make lint   ruff, mypy          make slow   the tests that take minutes or need real recordings
# make mutants   how many small faults the suite sees (an hour)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.PHONY: demo test slow lint mutants samples clean

demo: $(RUN)
	$(BIN)/bab run --encoder hubert --task vtc --offline

# Two workers, one thread each: with more, torch's thread pools fight over the cores.
test: $(DEV) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(DEV)
	$(BIN)/python -m pytest -m slow

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# 60 small faults, planted one at a time in a copy: which ones does the suite see?
mutants: $(DEV)
	$(BIN)/python scripts/mutants.py --count 60

# The shipped recordings, made anew (needs espeak-ng and sox).
samples: $(DEV)
	$(BIN)/python scripts/make_samples.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bab needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN): $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(DEV): $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(RUN)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
