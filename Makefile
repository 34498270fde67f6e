# Every target works on a fresh clone: it makes .venv first where it is missing or older than the pins.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Anonymous usage reports of the tools below stay off.
export DO_NOT_TRACK = 1
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export GX_ANALYTICS_ENABLED = false
export MLFLOW_DISABLE_TELEMETRY = true
# Tests start dozens of processes: each would compile the library's modules again where bytecode is not kept.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help demo test explore explore-api up bench soak soak-live soak-alerts soak-alerts-memory soak-alert-scale soak-availability lint types contracts check clean
.DEFAULT_GOAL := help

help: ## say what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tapeline needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv

# Bytecode is compiled at installation: the first run would otherwise spend most of its time on it.
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run ## run the whole chain on the packaged real bars: ingest -> ... -> score, with a report
	$(BIN)/tapeline run --source sample --symbols EURUSD --timeframe H1

# A file to one process: tests of a file share what is slow to make. One process more than two cores: some wait for servers.
test: $(VENV)/.dev ## install what the tests need and run them all
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

explore: $(VENV)/.dev ## run the tests on random cases that no run has drawn before, to find what the fixed ones miss
	TAPELINE_PROPERTIES=explore $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

explore-api: $(VENV)/.dev ## draw fifty requests for each operation from the API's own description: none may make it fail
	TAPELINE_API_EXAMPLES=50 $(BIN)/python -m pytest tests/gateway/test_schemathesis.py

up: $(VENV)/.run ## Prefect server and UI, work pool, worker, all deployments, MLflow UI; Ctrl-C stops them
	$(BIN)/python ops/up.py

$(VENV)/.peers: $(VENV)/.dev
	$(BIN)/uv pip install --python $(BIN)/python --quiet --compile-bytecode -c constraints.txt -e '.[dev,peers]'
	@touch $@

bench: $(VENV)/.peers ## run every benchmark, each beside its peer, and print a table
	$(BIN)/python -m benchmarks

soak: $(VENV)/.dev ## feed ticks through buffer, journal and lake for a minute and demand a flat memory
	MALLOC_ARENA_MAX=2 ARROW_DEFAULT_MEMORY_POOL=system $(BIN)/python -m benchmarks.soak_buffer

soak-live: $(VENV)/.dev ## kill a live run 50 times at random instants and demand that nothing acknowledged is lost
	TAPELINE_SOAK_KILLS=50 $(BIN)/python -m pytest tests/tasks/test_live_crash.py

soak-alerts: $(VENV)/.dev ## kill the alert engine 200 times at random instants: no firing lost, none doubled, all told
	TAPELINE_ALERT_KILLS=200 $(BIN)/python -m pytest tests/alerts/test_alert_crash.py

soak-alerts-memory: $(VENV)/.dev ## the alert service under load for ten minutes: a flat memory and no firing missing
	MALLOC_ARENA_MAX=2 $(BIN)/python -m benchmarks.soak_alerts

soak-alert-scale: $(VENV)/.dev ## kill, stop and replace engines, feed and Redis 60 times: no firing lost, none doubled
	$(BIN)/python -m benchmarks.soak_alert_scale

soak-availability: $(VENV)/.dev ## kill the alert service once a minute for ten minutes: 99.9 per cent in time, none lost
	$(BIN)/python -m benchmarks.soak_availability

lint: $(VENV)/.dev ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy on the library
	$(BIN)/mypy

contracts: $(VENV)/.dev ## who may import whom
	$(BIN)/lint-imports

check: test lint types contracts ## everything that CI runs

clean: ## remove caches and build results; the lake, MLflow and the virtual environment stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
