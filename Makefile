# A plain `make` lists the targets. Each target sets up what it needs; the first one creates .venv.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The first of these that can be run: a shim may exist for a Python that is not installed.
PYTHON ?= $(firstword $(foreach name,python3.11 python3,$(shell $(name) -c 'print("$(name)")' 2>/dev/null)) python3)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_TO_BENCH := $(VENV)/.ready-to-bench
NEEDS_PYTHON = needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target meaning; \
		do printf '%-18s %s\n' "$$target" "$$meaning"; done

.PHONY: demo
demo: $(READY) ## show the incident and its remedy on an embedded PostgreSQL (under a minute)
	@$(BIN)/python -W ignore:XDG_RUNTIME_DIR -m demo.demo

.PHONY: picture
picture: $(READY) ## draw the demo for README.md: demo/incident.svg
	@$(BIN)/python -W ignore:XDG_RUNTIME_DIR -m demo.picture

.PHONY: test
test: lint ## lint, then all tests; a test whose program is missing is skipped with its reason
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup

# Most tests wait for processes and clocks, so two cores run two tests at a time well.
WORKERS ?= 2

.PHONY: nightly
nightly: applications ## put gate in front of applications, draw ten thousand cases for each Hypothesis test, kill a migration a hundred times (three hours)
	GATE_TEST_EXAMPLES=10000 $(BIN)/pytest -n $(WORKERS) --timeout 6000 tests/unit tests/acceptance/test_any_request.py
	GATE_TEST_ROUNDS=100 $(BIN)/pytest -n $(WORKERS) tests/acceptance/test_death.py tests/acceptance/test_engines.py

.PHONY: applications
applications: $(READY) ## put gate in front of ten public applications from the package registry (an hour, 4 GB in build/applications)
	$(BIN)/pytest tests/nightly

.PHONY: coverage
coverage: $(READY) ## measure the branch coverage of all tests and their processes (fifteen minutes; to build/)
	rm -rf build/coverage && mkdir -p build/coverage
	COVERAGE_FILE=$(COVERAGE)/data $(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadgroup $(TESTS) \
		--deselect tests/unit/test_imports.py --ignore tests/acceptance/test_packaging.py
	COVERAGE_FILE=$(COVERAGE)/data $(BIN)/coverage combine --quiet
	COVERAGE_FILE=$(COVERAGE)/data $(BIN)/coverage report

COVERAGE := $(CURDIR)/build/coverage

.PHONY: bench
bench: $(READY_TO_BENCH) ## measure what gate costs: benchmarks/RESULTS.md (twenty minutes; QUICK=1: four minutes, to build/)
	@QUICK=$(QUICK) $(BIN)/python -W ignore:XDG_RUNTIME_DIR -m benchmarks

.PHONY: airflow
airflow: ## install Airflow in build/airflow (300 MB), so that `make bench` measures it, too
	@$(PYTHON) -m venv --clear build/airflow
	@build/airflow/bin/python -m pip install --quiet --disable-pip-version-check $(AIRFLOW)

AIRFLOW = apache-airflow==3.3.2 asyncpg psycopg2-binary

.PHONY: docs
docs: $(READY) ## build the pages in docs/ as a site: build/docs; a warning is an error
	@$(BIN)/sphinx-build -E -W --keep-going --quiet -d build/doctrees docs build/docs

.PHONY: lint
lint: docs ## build the site, run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: $(READY) ## let ruff fix and format the source
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean: ## remove what the other targets created
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamp is written last, so that an interrupted installation starts again. pip is updated first, because the pip
# that comes with Python 3.11 does not know dependency groups.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo 'gate $(NEEDS_PYTHON)' >&2; exit 1; }
	@echo 'Setting up $(VENV) (once; about a minute) ...'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --constraint constraints.txt pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group test --group docs
	@touch $@

$(READY_TO_BENCH): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group bench
	@touch $@
