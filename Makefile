# Two commands set everything up on a fresh machine with Python >= 3.11:
#   make demo    installs into .venv and runs the main job on drawn cells; no data, no network after installation
#   make test    installs the tools for development too, and passes the fast tests

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: help demo test test-slow test-versions check site format clean

help:  ## shows this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.base: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) --editable '.[dev]'
	$(BIN)/python -m compileall -q src  # once: where PYTHONDONTWRITEBYTECODE is set, every process that tests start would
	touch $@

demo: $(VENV)/.base  ## installs, then runs the few-shot experiment on drawn cells: demo/report/index.html
	$(BIN)/cytolora demo --out demo

test: $(VENV)/.dev  ## the fast tests: 5 to 12 minutes on 2 cores, by their kind
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

test-slow: $(VENV)/.dev  ## the others: minutes each; a module stays in one process, and makes its fixtures once
	$(BIN)/python -m pytest -m slow -n 3 --dist loadscope  # a third process has the cores while others wait

CONSTRAINTS ?= constraints-lowest.txt
USERS_EXTRAS := text,ray,onnx,serve,cloud,wsi,exchange,mlflow,tensorboard
DECISIVE := tests/config/test_specs.py tests/core/test_files.py tests/core/test_registry.py tests/core/test_tables.py \
	tests/metrics/test_metrics.py tests/data/exchange/test_label_files.py tests/training/heads/test_fitted.py \
	tests/display/test_columns.py tests/api/test_stores.py tests/classifier/inference/test_predict_refusals.py

test-versions:  ## a decisive few of the tests on other versions (CONSTRAINTS, PYTHON), in an environment that is removed
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(PYTHON) -m venv "$$folder" && \
	"$$folder/bin/python" -m pip install --quiet --constraint $(CONSTRAINTS) '.[$(USERS_EXTRAS)]' \
		beartype httpx hypothesis pytest pytest-timeout pytest-xdist && \
	"$$folder/bin/python" -m pytest -m "not slow" $(DECISIVE)

check: $(VENV)/.dev  ## style, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

site: $(VENV)/.dev  ## the documentation as a site, strict and without a network: build/site/html/index.html
	$(BIN)/python scripts/docs_site

format: $(VENV)/.dev  ## puts style right where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## removes what was built, not what was computed
	rm -rf $(VENV) dist build
