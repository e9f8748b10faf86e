# The two commands: `make verify` and `make test`. `make test-documents` runs docstrings, examples, notebooks and the
# wheel, and builds the site; `make test-all` leaves no case out (tests/support/tiers.py), and tests both ends of what is
# supported (tools/matrix.py); `make matrix-other` tests the end that .venv is not, for what depends on it.
# The environment in .venv is made once, and again when pyproject.toml changes.
# Recipes use relative paths only, so that a checkout may lie in a path with a space.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: verify test test-documents test-all test-times matrix matrix-other accelerators accelerators-quick lint types docs tables wheel clean

verify: .venv/installed
	$(BIN)/python -m lossjax verify
	$(BIN)/python examples/01_train_digits.py

test: lint types
	$(BIN)/python -m pytest

test-documents: .venv/installed
	$(BIN)/python -m pytest -m "documents and not slow"

test-all: lint types
	$(BIN)/python -m pytest -m ""
	$(BIN)/python tools/matrix.py

# What each test costs, in CPU seconds; the table goes into CONTRIBUTING.md.
test-times: .venv/installed
	rm -rf build/cpu_times.jsonl .pytest_cache/jax
	mkdir -p build
	$(BIN)/python -m pytest --cpu-times build/cpu_times.jsonl
	$(BIN)/python -m tests.support.cpu_times build/cpu_times.jsonl CONTRIBUTING.md

matrix: .venv/installed
	$(BIN)/python tools/matrix.py

matrix-other: .venv/installed
	$(BIN)/python tools/matrix.py --other

# What the losses' programs for TPUs and GPUs move, by those chips' own compilers (tools/accelerators.py).
accelerators: .venv/installed
	$(BIN)/python tools/accelerators.py

# A few of their tests, for one chip of each compiler.
accelerators-quick: .venv/installed
	$(BIN)/python tools/accelerators.py --quick

lint: .venv/installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: .venv/installed
	$(BIN)/python -m basedpyright

# To read it, with its search: .venv/bin/python -m http.server --directory build/site
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The tables of README and docs, from signatures, the first example, benchmarks/results, `lossjax verify`: some minutes.
tables: .venv/installed
	$(BIN)/python tools/tables.py

# Into dist, and then proven in an environment that has nothing else.
wheel: .venv/installed
	rm -rf dist build/clean
	$(BIN)/python tools/build.py dist
	$(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet --disable-pip-version-check "$$(echo dist/*.whl)[verify]"
	cd build && clean/bin/lossjax verify

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lossjax needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

clean:
	rm -rf .venv .venv-matrix .venv-accelerators build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
