# Verbs of the project; `make` alone lists them. Nothing has to be set up before: each target brings what it needs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
CACHE := $(or $(STREAMD_TEST_CACHE),.cache/services)

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The project itself is enough to run it; the developers' tools come on top.
.venv/.project: pyproject.toml constraints.txt tools/setup
	@tools/setup project

.venv/.dev: pyproject.toml constraints.txt tools/setup
	@tools/setup dev

.PHONY: setup
setup: .venv/.dev ## Make .venv with the project and the developers' tools

.PHONY: run
run: .venv/.project ## Run the quickstart pipeline over the bundled sample events, without any server
	@rm -rf .streamd/quickstart
	STREAMD_STATE_DIR=.streamd/quickstart STREAMD_HTTP_ENABLED=false \
		$(BIN)/streamd run config/pipelines/quickstart.yaml --config config/streamd.yaml --until-idle

.PHONY: etl
etl: .venv/.project ## Run the ETL example: two sources checked, enriched, written to two sinks; then list its dead letters
	@rm -rf .streamd/etl
	STREAMD_STATE_DIR=.streamd/etl STREAMD_HTTP_ENABLED=false STREAMD_LOG_LEVEL=warning \
		$(BIN)/streamd run config/pipelines/etl.yaml --config config/streamd.yaml --until-idle
	STREAMD_STATE_DIR=.streamd/etl $(BIN)/streamd dlq ls config/pipelines/etl.yaml --config config/streamd.yaml

.PHONY: test
test: services lint ## Run every check and every test but the long fault tests, with a real Kafka broker
	$(BIN)/pytest

.PHONY: faults
faults: services ## Run the whole fault suite and renew the table of docs/reliability.md; a minimum of faults is held
	@rm -f .cache/faults.json
	$(BIN)/pytest tests/faults -m ""
	$(BIN)/python tools/reliability.py

.PHONY: services
services: .venv/.dev ## Install what tests need: Java, Maven, Kafka's jars, a schema registry, systemd's and Prometheus' checkers
	@tools/services
	@PYTHONPATH=tests $(BIN)/python -c "from services import kafka, registry; kafka.jars(); registry.jar()"

.PHONY: lint
lint: .venv/.dev ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.PHONY: format
format: .venv/.dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: .venv/.dev ## Generate docs/reference and config/schemas from the code
	$(BIN)/python tools/reference.py

.PHONY: lock
lock: .venv/.dev ## Renew constraints.txt: the versions everything is tested with
	@tools/lock

.PHONY: bench
bench: .venv/.dev ## Measure start-up and validation; bench/ has the rest
	$(BIN)/python bench/startup.py

# make soak MINUTES=20 SEED=1, or HOURS=8; STATE=1 keeps running totals for each key as well.
.PHONY: soak
soak: services ## Run two nodes under constant load and faults for 20 minutes (MINUTES=, HOURS=, SEED=, STATE=1); writes bench/SOAK.md
	$(BIN)/python bench/soak.py $(if $(HOURS),--hours $(HOURS),--minutes $(or $(MINUTES),20)) --seed $(or $(SEED),1) \
		$(if $(STATE),--state) --out bench/SOAK.md

.PHONY: image
image: ## Build the container image streamd:latest with docker or podman
	@tools/image

.PHONY: clean
clean: ## Delete what was built or cached, downloads included
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .streamd build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
