# The two commands: `make verify` and `make test`; `make test-all` leaves no case out (tests/tiers.py). The environment
# in .venv is made once, and again when pyproject.toml changes. Recipes use relative paths only, so that a checkout may
# lie in a path with a space.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: verify test test-all lint types clean

verify: .venv/installed
	$(BIN)/python -m lossjax verify
	$(BIN)/python examples/01_train_digits.py

test: lint types
	$(BIN)/python -m pytest

test-all: lint types
	$(BIN)/python -m pytest -m ""

lint: .venv/installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: .venv/installed
	$(BIN)/python -m basedpyright

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lossjax needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .hypothesis
