# make demo   an example batch on the embedded model
# make test   everything CI checks
# Both need only Python 3.11 to 3.13 and make: they set up .venv by themselves, once.

VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$name && break; done)

ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/$(VENV)/home
endif

.PHONY: help demo test check clean

help:
	@echo 'make demo    run an example batch on the embedded model'
	@echo 'make test    everything CI checks: format, lint, types, import contracts, tests'
	@echo 'make check   the same without the tests'
	@echo 'make clean   remove .venv and caches; runs stay'

demo: $(VENV)/.demo
	@$(BIN)/plait demo

test: check
	@$(BIN)/pytest -q

check: $(VENV)/.dev
	@$(BIN)/ruff format --check --quiet . || { echo 'format with: ruff format'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports > $(VENV)/contracts.txt 2>&1 || { cat $(VENV)/contracts.txt; exit 1; }
	@tail -n 1 $(VENV)/contracts.txt

# torch goes first and alone, so that nothing that depends on it brings another build.
$(VENV)/.torch:
	@test -n "$(PYTHON)" || { echo 'plait needs Python 3.11 to 3.13; none was found'; exit 1; }
	@echo 'setting up $(VENV) with $(PYTHON) and $(TORCH) (once; a download)'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) '$(TORCH)'
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo 'installing plait into $(VENV)'
	@$(PIP) -e '.[json]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	@echo 'installing plait and its development tools into $(VENV)'
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
