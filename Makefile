# `make help` lists the targets. Each makes its own environment in .venv when that is missing.

PYTHON ?= python3
VENV := .venv
# Stages are started as `python -m stages...`, so the environment's own python has to come first.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help repro test lint format lock clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: $(INSTALLED)  ## Run the pipeline: whatever is not up to date
	dvc repro

test: $(INSTALLED) lint  ## Check formatting, style and types, then run the tests
	pytest

lint: $(INSTALLED)  ## Check formatting, style and types
	ruff format --check .
	ruff check .
	mypy

format: $(INSTALLED)  ## Format the code
	ruff format .
	ruff check --fix .

lock:  ## Resolve requirements.txt anew (needs uv)
	uv pip compile pyproject.toml --universal --extra dev --extra offline --python-version 3.10 --upgrade --quiet \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" --output-file requirements.txt

clean:  ## Remove the environment; data and metrics stay
	rm -rf $(VENV)

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --requirement requirements.txt
	$(VENV)/bin/python -m pip install --quiet --no-deps --editable .
	touch $@
