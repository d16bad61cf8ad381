# `make help` lists the targets. Nothing needs to be installed but Python 3.11 or newer, make, git.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
# How to install torch before the rest; for a CPU or a CUDA build take the options that the
# selector on pytorch.org's "Get Started" page shows:  make book TORCH_PIP_ARGS="--index-url …"
TORCH_PIP_ARGS ?=
# Options for `dlcourse run`, such as RUN_ARGS="-j 4 --force".
RUN_ARGS ?=
# Options for `dlcourse record`, such as RECORD_ARGS="--cell 119.2.step-time".
RECORD_ARGS ?=
# The versions to install; CONSTRAINTS=/dev/null takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
# Options for pytest, such as PYTEST_ARGS="-k lion". With any, nothing is skipped as proved.
PYTEST_ARGS ?=
PORT ?= 8888
# Options for JupyterLab, such as LAB_ARGS="--no-browser --allow-root" in a container.
LAB_ARGS ?=

# Relative, and quoted where it is used: the checkout's path may have blanks in it.
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --no-input --disable-pip-version-check
SITE := _build/html
export PYTHONUNBUFFERED := 1

.PHONY: help install execute book test lab gpu long bench linkcheck constraints clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## set up .venv with the versions of constraints.txt, and fetch the data
	@$(BIN)/dlcourse fetch

# The first Python that runs and is new enough; PYTHON=… overrides the search.
$(STAMP): pyproject.toml constraints.txt
	@for python in $${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    found=$$python; break; fi; done; \
	if [ -z "$${found:-}" ]; then \
	  echo "dlcourse needs Python 3.11 or newer and found none. Name one: make PYTHON=/path/to/it" >&2; \
	  exit 1; fi; \
	echo "== Setting up $(VENV) with $$("$$found" --version)"; \
	[ -x $(BIN)/python ] || "$$found" -m venv $(VENV)
	$(PIP) install $(TORCH_PIP_ARGS) -c $(CONSTRAINTS) torch torchvision
	$(PIP) install -c $(CONSTRAINTS) -e '.[test,lab]'
	@touch $@

execute: install  ## execute the notebooks that changed
	@echo "== Executing notebooks"
	@$(BIN)/dlcourse run $(RUN_ARGS)

book: execute  ## build the site: _build/html/index.html
	@echo "== Building the site"
	@PATH="$$(cd "$(BIN)" && pwd):$$PATH" $(BIN)/jupyter-book build -W -n --keep-going .
	@echo "== The site is at $(abspath $(SITE))/index.html"

# One pytest on all cores: the tests, then every executed notebook executed again and compared
# (nbval), each on one worker. What was proved, of what has not changed since, is not repeated.
test: book  ## run the tests, and the notebooks once more against their outputs
	@echo "== Testing"
	@DLCOURSE_STATIC=1 DLCOURSE_GPU=0 OMP_NUM_THREADS=1 PATH="$$(cd "$(BIN)" && pwd):$$PATH" \
	$(BIN)/python -m pytest tests _build/executed -n auto --dist loadfile -p dlcourse.build.proofs \
	-p dlcourse.build.tested \
	--nbval-lax --nbval-cell-timeout=600 $(if $(PYTEST_ARGS),$(PYTEST_ARGS),--skip-if-proved)

lab: $(STAMP)  ## copy the notebooks to workspace/ and open JupyterLab there
	@$(BIN)/dlcourse workspace
	@$(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" --port=$(PORT) \
	  --ServerApp.port_retries=0 --LabApp.default_url=/lab/tree/workspace $(LAB_ARGS)

gpu: $(STAMP)  ## record the GPU cells whose record is missing or of older code
	@$(BIN)/dlcourse doctor
	@$(BIN)/dlcourse record --kind gpu $(RECORD_ARGS)

long: $(STAMP)  ## record the long cells whose record is missing or of older code
	@$(BIN)/dlcourse record --kind long $(RECORD_ARGS)

bench: $(STAMP)  ## measure the benchmarks against their peers
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file"; done

linkcheck: execute  ## ask every external link on the site whether it answers
	@PATH="$$(cd "$(BIN)" && pwd):$$PATH" $(BIN)/jupyter-book build --builder linkcheck \
	  --path-output _build/linkcheck .

constraints: $(STAMP)  ## write the versions now in .venv to constraints.txt
	@$(PIP) freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' > constraints.txt.new
	@mv constraints.txt.new constraints.txt
	@touch $(STAMP)
	@git --no-pager diff --stat constraints.txt

clean:  ## delete what was built (.venv and workspace/ stay)
	rm -rf _build .pytest_cache .hypothesis
