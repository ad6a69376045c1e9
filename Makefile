# Needed: Python 3.11 or newer, git and make. `make` lists what one can do.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
export PYTHON

BIN := .venv/bin
ROOMS := console widgets delivery backends
# Tests but for the journeys run in so many processes; journeys measure time, so each has the machine for itself.
WORKERS ?= 2
ARGS ?=

.PHONY: help
help: ## list what one can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  ARGS="…" is handed on:  make demo ARGS="--scenario errors --headless"   make test ARGS="-k journal -x"'
	@echo '  PYTHON=… names the Python to use;  WORKERS=4 runs more tests at once (journeys always go one by one)'

.PHONY: demo
demo: for-run ## a real release of a small real service, in the console
	@$(BIN)/pithead demo $(ARGS)

.PHONY: test
test: for-work ## all tests, journeys last; with ARGS one pytest that gets them
ifeq ($(strip $(ARGS)),)
	@status=0; \
	$(BIN)/pytest --ignore=tests/journeys --numprocesses=$(WORKERS) --dist=loadfile || status=$$?; \
	$(BIN)/pytest tests/journeys || status=$$?; \
	exit $$status
else
	@$(BIN)/pytest $(ARGS)
endif

.PHONY: check
check: for-work ## style, types, and which room may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict $(ROOMS:%=-p pithead.%)
	@MYPYPATH=tests:tools $(BIN)/mypy --strict tests benchmarks tools
	@PYTHONPATH=.typing $(BIN)/lint-imports --no-logo

.PHONY: bench
bench: for-work ## each figure that the project claims, measured here; ARGS=NAME for one of them
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: picture
picture: for-work ## draw docs/console.svg anew, on a real release of the demo's service
	@$(BIN)/python tools/picture.py

.PHONY: format
format: for-work ## put the code into the project's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: clean
clean: ## remove what was generated, .venv included
	@rm -rf .venv .typing .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist pithead.egg-info

.PHONY: for-run for-work
for-run for-work:
	@sh tools/python.sh tools/environment.py $(@:for-%=%)
