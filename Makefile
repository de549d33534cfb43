# make demo: from nothing to a tuned, measured model.   make test: every check.   make install: .venv/bin/luthier
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test install lint docs clean

demo: $(READY)
	$(BIN)/luthier run interviewmate

test: $(READY) lint
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=
	$(BIN)/coverage report --include='src/luthier/data/*,src/luthier/recipe/*,src/luthier/run/*' --fail-under=90

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(READY)

docs: $(READY)
	TERM=dumb $(BIN)/python -m typer luthier.cli utils docs --name luthier --output docs/commands.md

# The stamp comes last, so that a broken installation is made again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Luthier needs Python 3.11 to 3.13: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
