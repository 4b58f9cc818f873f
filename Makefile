# make demo   a real fine-tuning run against its baseline, start to finish, in minutes
# make test   everything that CI checks
# make up / make down   keep a local Ray head, an MLflow server and the endpoint running
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
# First on PATH, so that jobs started by Ray find this Python and these tools.
export PATH := $(abspath $(BIN)):$(PATH)
export RAY_USAGE_STATS_ENABLED := 0
# Images of containers often set it: every process would compile torch and transformers anew, for seconds.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/python -m pytest -q

.PHONY: help install demo up down test lint types contracts unit law integration e2e deploy bench bench-gpu console console-packages clean

help:
	@sed -n 's/^# //p' Makefile | head -3
	@echo "also: install lint types contracts unit law integration e2e deploy bench bench-gpu console console-packages clean"

$(VENV)/.installed: pyproject.toml constraints.txt infra/bootstrap.sh
	VENV=$(VENV) sh infra/bootstrap.sh

install: $(VENV)/.installed

demo: install
	$(BIN)/python infra/demo.py

up: install
	$(BIN)/steerline up

down: install
	$(BIN)/steerline down

test: lint types contracts console-packages unit law deploy integration e2e

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

contracts: install
	$(BIN)/lint-imports

unit: install
	$(PYTEST) -n auto --dist loadfile tests/unit

law: install
	$(PYTEST) -n auto --dist loadfile tests/law

deploy: install
	$(PYTEST) tests/deploy

integration: install
	$(PYTEST) tests/integration

e2e: install
	$(PYTEST) tests/e2e

# Only after changes to its sources, with Node 20.19 or later; what it builds is committed.
console:
	cd services/console/web && npm ci --no-audit --no-fund && npm run build
	git diff --exit-code --stat -- services/console/static

# With its packages a unit test builds the console anew and compares; nobody needs Node for anything else.
console-packages:
	@cd services/console/web && npm ci --no-audit --no-fund --silent \
	    || echo "console: no Node, or no packages for it; its committed files are not compared with a new build"

bench: install
	$(BIN)/python -m benchmarks.run

bench-gpu: install
	$(BIN)/python -m benchmarks.run --device cuda

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
