# Everything a person, a hook or CI calls. Each target sets up what it needs; a set-up that is current costs nothing.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.SILENT:
.PHONY: setup demo demo-loop test check lint types pytest format clean
.DEFAULT_GOAL := setup

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
UNFINISHED := $(VENV)/.unfinished
PIP := $(PYTHON) -m pip --disable-pip-version-check --no-input -qq

# The stamp holds what was installed and where: a new lock, a changed pyproject.toml or a moved checkout installs again.
# Whatever was cut off before its stamp begins with an empty environment, since pip cannot see half a package.
setup:
	if command -v flock >/dev/null; then exec 9<Makefile; flock 9; fi
	wanted="$$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1) $(CURDIR)"
	if [ "$$(cat $(STAMP) 2>/dev/null || true)" = "$$wanted" ] && $(PYTHON) -c '' 2>/dev/null; then exit 0; fi
	base=
	for candidate in python3.11 python3; do
	  if $$candidate -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then base=$$candidate; break; fi
	done
	if [ -z "$$base" ]; then
	  echo "Retort needs Python 3.11; found $$(python3 --version 2>&1 || echo 'no python3')." >&2
	  echo "Install it (Debian 12: apt-get install python3 python3-venv; Ubuntu: apt-get install python3.11 python3.11-venv from the deadsnakes PPA; or: pyenv install 3.11), then run make again." >&2
	  exit 1
	fi
	if ! $$base -c 'import ensurepip, venv' >/dev/null 2>&1; then
	  echo "$$base cannot make virtual environments: expected its venv module, which Debian and Ubuntu package apart." >&2
	  echo "Install it (apt-get install python3-venv, or python3.11-venv), then run make again." >&2
	  exit 1
	fi
	echo "Setting up $(VENV) with $$($$base --version): about two minutes the first time." >&2
	if [ -e $(UNFINISHED) ] || ! $(PYTHON) -m pip --version >/dev/null 2>&1 || [ "$$(cut -d' ' -f2- $(STAMP) 2>/dev/null || echo "$(CURDIR)")" != "$(CURDIR)" ]; then
	  rm -rf $(VENV)
	  $$base -m venv $(VENV)
	fi
	rm -f $(STAMP)
	touch $(UNFINISHED)
	$(PIP) install --progress-bar off -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e .
	$(PIP) check
	rm $(UNFINISHED)
	echo "$$wanted" > $(STAMP)

demo: setup
	$(VENV)/bin/retort run configs/quickstart.yaml

# Build, serve, drift, audit, retrain, promotion under load, a bad challenger: some minutes, in a state folder of its own.
demo-loop: setup
	rm -rf .retort-demo
	RETORT_HOME=.retort-demo $(PYTHON) -m flows.demo.loop

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: setup
	$(VENV)/bin/mypy

# A process a core, each with whole files, so that what a file's tests share is made once; the files with slow tests first.
pytest: setup
	$(PYTHON) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# What CI runs.
test: lint types pytest

check: test

format: setup
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# The environment and the tools' caches; what Retort built (.retort/) stays.
clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build ./*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
