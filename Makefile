.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help quickstart test test-all lint bench clean

help: ## List these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | \
		awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

# The stamp is renewed whenever what is installed would change.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-all: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,eval]'
	@touch $@

quickstart: $(VENV)/.installed ## Set everything up and train a chat model in minutes
	$(BIN)/tmlm quickstart

test: $(VENV)/.installed-dev ## Set everything up and run the fast tests
	$(BIN)/python -m pytest -m 'not slow'

test-all: $(VENV)/.installed-all ## The slow tests too, and those of lm-evaluation-harness
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-dev ## Style and types
	$(BIN)/ruff check src tests benchmarks release
	$(BIN)/ruff format --check src tests benchmarks release
	$(BIN)/pyright

bench: $(VENV)/.installed-dev ## Time a local layer at growing lengths, and a training step
	$(BIN)/python benchmarks/attention_window.py
	$(BIN)/tmlm bench train

clean: ## Remove the virtual environment (runs are kept)
	rm -rf $(VENV)
