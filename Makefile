# `make run` and `make test` on a fresh clone do all the set-up: Python 3.11+, pip and make suffice.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: run test lint docs pictures install

run: install  ## the whole chain once, on the generated corpus
	$(BIN)/repartee run --corpus sample --recipe quick

test: install  ## three files at a time, for they wait for servers; in their order, for the last ones are short
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(STAMP)

# PYTHON only makes the environment; one that is there and new enough is kept.
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null

$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python $(NEW_ENOUGH) || $(PYTHON) $(NEW_ENOUGH) || { \
	  echo "Python 3.11 or newer is needed, and $(PYTHON) is not: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up .venv: pip install -c constraints.txt -e '.[dev]' (some minutes the first time)"
	@$(BIN)/python $(NEW_ENOUGH) || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

docs: install  ## the pages that are made from the code
	$(BIN)/python -c "from flows.recipes import settings_page; print(settings_page(), end='')" > docs/settings.md
	$(BIN)/python -m cli.pages > docs/cli.md
	$(BIN)/python tests/support/outages.py > docs/outages.md

pictures: install  ## the pictures of the pages in a browser (apt-get install chromium), from real runs: some minutes
	PICTURES=docs/pictures $(BIN)/pytest -m soak tests/deployments/test_pictures.py
