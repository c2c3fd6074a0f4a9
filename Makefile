# `make` without a target lists the targets. The first target that needs .venv creates it.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# The first of these that runs. A pyenv shim may exist for a version that is not installed.
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
demo: $(READY) ## the incident, without and with gate, on an embedded PostgreSQL (under a minute)
	@$(BIN)/python -W ignore:XDG_RUNTIME_DIR -m demo.demo

.PHONY: picture
picture: $(READY) ## run the demo and draw its output for README.md: demo/incident.svg
	@$(BIN)/python -W ignore:XDG_RUNTIME_DIR -m demo.picture

.PHONY: test
test: lint ## lint, then all tests; tests that need a missing program are skipped with the reason
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup

# Most tests wait for other processes, so two workers are efficient even on two cores.
WORKERS ?= 2

.PHONY: nightly
nightly: applications cluster examples kills lowest ## the next five (five hours); then write what was tried to docs/reliability.md
	$(BIN)/python -m tests.nightly.reliability

.PHONY: applications
applications: $(READY) ## run gate with ten real applications from the package registry (one hour; 4 GB in build/)
	$(BIN)/pytest $(call record,applications) tests/nightly

.PHONY: cluster
cluster: $(READY) ## run the Kubernetes files in a real cluster on this machine (needs root; builds it once: 20 minutes of CPU)
	@GATE_TEST_REQUIRE_ALL=1 CLUSTER=$(CLUSTER) tests/cluster/kubernetes/cluster.sh run \
		$(BIN)/pytest $(call record,cluster) tests/cluster

.PHONY: examples
examples: $(READY) ## draw 10,000 examples for each property-based test (GATE_TEST_EXAMPLES=N: another number)
	GATE_TEST_EXAMPLES=$(GATE_TEST_EXAMPLES) $(BIN)/pytest -n $(WORKERS) --dist worksteal --timeout 6000 \
		$(call record,examples) tests/unit tests/acceptance/test_any_request.py tests/integration/test_missing_oracle.py

.PHONY: kills
kills: $(READY) ## kill gate, its processes, connections and servers, and break the network, 80 times each; races (GATE_TEST_ROUNDS=N)
	GATE_TEST_ROUNDS=$(GATE_TEST_ROUNDS) $(BIN)/pytest -n $(WORKERS) $(call record,kills) $(KILLS)

KILLS := $(patsubst %,tests/acceptance/test_%.py,kill_rounds engines failover poolers replicas lock)

.PHONY: lowest
lowest: $(READY) ## run more of the tests with the lowest versions that pyproject.toml promises than make test does
	GATE_TEST_LOWEST=all $(BIN)/pytest $(call record,lowest) tests/acceptance/test_packaging.py

# For each property-based test, and for each victim. GATE_TEST_SEED repeats the random choices of the kills.
GATE_TEST_EXAMPLES ?= 10000
GATE_TEST_ROUNDS ?= 80

record = --junit-xml build/nightly/$(1).xml

# A folder for the programs, the images and the state of that cluster.
CLUSTER ?= build/cluster

.PHONY: coverage
coverage: $(READY) ## branch coverage of all tests and the processes that they start (15 minutes; writes to build/)
	rm -rf build/coverage && mkdir -p build/coverage
	COVERAGE_FILE=$(COVERAGE)/data $(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadgroup $(TESTS) \
		--deselect tests/unit/test_imports.py --ignore tests/acceptance/test_packaging.py
	COVERAGE_FILE=$(COVERAGE)/data $(BIN)/coverage combine --quiet
	COVERAGE_FILE=$(COVERAGE)/data $(BIN)/coverage report

COVERAGE := $(CURDIR)/build/coverage

.PHONY: bench
bench: $(READY_TO_BENCH) ## measure the costs of gate: benchmarks/RESULTS.md (40 minutes; QUICK=1: 8 minutes, writes to build/)
	@QUICK=$(QUICK) $(BIN)/python -W ignore:XDG_RUNTIME_DIR -m benchmarks

.PHONY: docs
docs: $(READY) ## build the site from docs/ in build/docs; warnings are errors
	@$(BIN)/sphinx-build -E -W --keep-going --quiet -d build/doctrees docs build/docs

.PHONY: lint
lint: docs ## build the site, then run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: format
format: $(READY) ## format the source and apply ruff's fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean: ## delete everything that the other targets created
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

# The stamp file is written last, so that make repeats an interrupted installation. pip is upgraded first, because
# dependency groups need pip 25.1. gate is compiled for the tests, which start it thousands of times: where
# PYTHONDONTWRITEBYTECODE is set, each start would compile it again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo 'gate $(NEEDS_PYTHON)' >&2; exit 1; }
	@echo 'Setting up $(VENV) (once; about a minute) ...'
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --constraint constraints.txt pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group test --group docs
	@$(BIN)/python -m compileall -q gate
	@touch $@

$(READY_TO_BENCH): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group bench
	@touch $@
