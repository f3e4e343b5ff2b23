# `make help` lists the targets. Each makes its own environment in .venv when that is missing.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
SAMPLE := data/sample.zip
# Stages are started as `python -m stages...`, so the environment's own python has to come first.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo repro experiments advise report bench battery gpu-check test unit mutants soak lint format lock clean clean-rows

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# In a folder of its own (--temp): the files here, params.yaml among them, stay as they are. DVC needs a name to put
# on the experiment; where git has none configured, one is lent to it for this command. In its table DVC marks with !
# what it cannot read, and a clone's HEAD has no metrics yet: they are not wrong, they are not there.
demo: $(INSTALLED) $(SAMPLE)  ## Run the whole pipeline on drawn ants and bees; downloads nothing but packages
	@git rev-parse --verify --quiet HEAD >/dev/null || { echo "make demo: this is no git clone; get the project with git clone" >&2; exit 1; }
	@git config user.email >/dev/null || { \
		mkdir -p .dvc/tmp/identity/git; \
		printf '[user]\n\tname = nobody\n\temail = nobody@localhost\n' > .dvc/tmp/identity/git/config; \
		export XDG_CONFIG_HOME="$(CURDIR)/.dvc/tmp/identity"; \
	}; \
	dvc exp remove --quiet demo 2>/dev/null; \
	dvc exp run --temp --name demo --set-param strategy=linear --set-param backbone.name=efficientnet_lite1 \
		--set-param backbone.weights=IMAGENET1K_V1 --set-param backbone.sha256=null \
		--set-param data.path=data/own --set-param "data.url=\"$$PWD/$(SAMPLE)\"" --set-param data.sha256=null
	@table="$$(dvc exp show --no-pager --rev HEAD --hide-workspace --only-changed --drop '^(?!Experiment|accuracy|roc_auc).*' --sort-by accuracy)" \
		&& printf '%s\n' "$$table" | sed 's/ ! / - /g'
	@echo 'Plots:                    dvc plots diff HEAD demo'
	@echo 'Its files, to look into:  dvc exp apply demo   (then: python -m tools.predict PICTURE)'
	@echo 'First:                    source $(VENV)/bin/activate'

# DVC writes two files of its own in place, and cannot read them where it was killed meanwhile.
repro: $(INSTALLED)  ## Run the pipeline: whatever is not up to date
	@echo dvc repro; dvc repro || { python -m tools.mend --quiet && dvc repro; }

experiments: $(INSTALLED)  ## Compare the experiments: what was changed, and what came of it
	dvc exp show --no-pager --only-changed --sort-by accuracy --sort-order desc \
		--drop '^(?!Experiment|accuracy|loss|calibration_error|strateg|backbone|seed|data\.(url|path)).*'

advise: $(INSTALLED)  ## Say which strategy the pictures call for, and which of them are in the way
	python -m tools.advise

report: $(INSTALLED)  ## Write what the last run came to: report/index.html, and report/report.md to post
	python -m tools.report

test: $(INSTALLED) lint  ## Check formatting, style and types, then run the tests
	pytest

unit: $(INSTALLED) lint  ## The same without those that run DVC and whole programs
	pytest tests/unit

mutants: $(INSTALLED)  ## Plant small faults in a copy of the code, and count those that the unit tests notice (ROOM=training EVERY=40)
	python -m tests.mutants $(ROOM) --every $(or $(EVERY),40)

soak: $(INSTALLED)  ## All the tests, with 20000 damaged archives, pictures, params, weights and answers, and 100 kills (an hour and a half)
	FUZZ_EXAMPLES=20000 SOAK_KILLS=100 pytest

lint: $(INSTALLED)  ## Check formatting, style, imports between rooms and types
	ruff format --check .
	ruff check .
	lint-imports --no-logo
	mypy

format: $(INSTALLED)  ## Format the code
	ruff format .
	ruff check --fix .

bench: $(INSTALLED)  ## Measure the pipeline against the tutorial's recipe; writes docs/benchmarks.md
	python -m benchmarks

battery: $(INSTALLED)  ## Run every strategy on each zip of pictures in a folder (SETS=folder); writes docs/battery.md
	@[ -n "$(SETS)" ] || { echo "make battery: name a folder of zips, a set of pictures each: make battery SETS=folder" >&2; exit 1; }
	python -m benchmarks.battery "$(SETS)"

gpu-check: $(INSTALLED)  ## Prove the stages on a GPU against the CPU beside it, in ten minutes
	python -m benchmarks.gpu_check

lock:  ## Resolve requirements.txt anew (needs uv)
	uv pip compile pyproject.toml --universal --all-extras --python-version 3.10 --upgrade --quiet \
		--no-emit-index-url --no-annotate --custom-compile-command "make lock" --output-file requirements.txt

clean:  ## Remove the environment; data and metrics stay
	rm -rf $(VENV)

clean-rows:  ## Remove what is kept so that no picture is computed twice: data/rows and data/inputs
	rm -rf data/rows data/inputs

$(SAMPLE): $(wildcard tools/sample/*.py) | $(INSTALLED)
	python -m tools.sample $@

$(INSTALLED): requirements.txt pyproject.toml
	@command -v git >/dev/null || { echo "git is missing: install it first" >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo "there is no $(PYTHON): install Python 3.10 or newer, or name yours with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "Python %d.%d is too old: 3.10 or newer is needed; name one with make PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "this Python cannot make virtual environments: install its venv package (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
