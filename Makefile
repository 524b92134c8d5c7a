# make demo   environment + `bab run --encoder hubert --task vtc` on the shipped sample, offline
# make test   environment + the whole fast suite
# make docs   the documentation as a site in build/site, offline
# make lint   ruff, mypy          make slow   the tests that take minutes or need real recordings
# make gpu    ten minutes on a machine with a CUDA device: is all as on the CPU, and how fast is it?
# make fuzz   20,000 broken files of every kind; FIRST=N begins at another seed
# make mutants   how many small faults the suite sees (an hour)
# make accepted   after a change of words, defaults or pictures that was looked at (git diff tests)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.PHONY: demo test slow docs fuzz mutants accepted lint gpu samples clean

demo: $(RUN)
	$(BIN)/bab run --encoder hubert --task vtc --offline

# Two workers, one thread each: with more, torch's thread pools fight over the cores.
test: $(DEV) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(DEV)
	$(BIN)/python -m pytest -m slow

# Writes gpu.json, and the table of docs/speed.md. Exit status 2: there is no GPU.
gpu: $(DEV)
	@$(BIN)/python benchmarks/gpu.py --out gpu.json --docs docs/speed.md

docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/site/index.html"

fuzz: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzzers.py 20000 $(or $(FIRST),0)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What the suite holds to the letter, as it is now: read what `git diff tests` then shows.
accepted: $(DEV)
	for made in defaults command_options transcripts drawn told; do $(BIN)/python tests/$$made.py || exit 1; done

# 60 small faults, planted one at a time in a copy: which ones does the suite see?
# COVERAGE=FILE, of `pytest --cov=bab --cov-context=test`, shows each to the tests that run its line.
mutants: $(DEV)
	$(BIN)/python scripts/mutants.py --count 60 $(if $(COVERAGE),--coverage $(COVERAGE))

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
