# The commands of this repository; `make` alone lists them. The first use of each installs and builds what it needs.

.DEFAULT_GOAL := help
SHELL := /bin/sh
export PATH := $(CURDIR)/.venv/bin:$(CURDIR)/.toolchain/bin:$(PATH)
export GOTOOLCHAIN := local
export GOFLAGS := -buildvcs=false

SEEDS ?= 300
MINUTES ?= 10

.PHONY: help
help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

.PHONY: demo
demo: setup ## start two members, let them exchange messages and files, stop again
	@.venv/bin/photinus demo $(ARGS)

.PHONY: up
up: setup ## start a network of two members and leave it running until Ctrl-C (ARGS="--members 3")
	@.venv/bin/photinus up $(ARGS)

.PHONY: test
test: setup-test ## every check and every test
	@.venv/bin/python -m scripts.run_tests

.PHONY: check
check: setup-dev ## formatting, lint, types, imports, protos, unit tests: before each commit
	@.venv/bin/python -m scripts.run_checks

.PHONY: format
format: setup-dev ## format all code
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix-only --quiet .
	@cd gateway && go fmt ./...
	@cd connectors/example-go && go fmt ./...
	@cd connectors/example-typescript && npm run --silent format

.PHONY: coverage
coverage: setup-python ## branch coverage of the unit tests and the simulator
	@.venv/bin/coverage run -m pytest -q tests/unit $(wildcard tests/simulation)
	@.venv/bin/coverage report --show-missing --skip-covered

.PHONY: simulate
simulate: setup-python ## run the simulator over SEEDS=n seeds (300)
	@.venv/bin/python -m tests.simulation.run --seeds $(SEEDS) --jobs 2 $(ARGS)

.PHONY: chaos
chaos: setup-test ## break a network on purpose for MINUTES=n from SEED=s, and check what it kept (ARGS="--replicas 1")
	@GRPC_VERBOSITY=ERROR .venv/bin/python -m tests.robustness --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: bench
bench: setup ## measure throughput and latency on a network of two members
	@.venv/bin/python -m bench $(ARGS)

.PHONY: bench-host
bench-host: setup-python ## measure the plugin host: calls, events, lost and hung connectors (ARGS="--only losses")
	@GRPC_VERBOSITY=ERROR .venv/bin/python -m bench.host $(ARGS)

.PHONY: bench-api
bench-api: setup-test ## measure requests, event replay and memory of one member (ARGS="--only replays")
	@GRPC_VERBOSITY=ERROR .venv/bin/python -m bench.api $(ARGS)

.PHONY: proto
proto: setup-dev ## generate Python and Go from the protos
	@.venv/bin/python -m scripts.generate_rest
	@.venv/bin/python scripts/generate_protos.py
	@.venv/bin/python -m scripts.generate_go_template

.PHONY: proto-check
proto-check: setup-dev ## fail when generated code is not current
	@.venv/bin/python -m scripts.generate_rest --check
	@.venv/bin/python scripts/generate_protos.py --check
	@.venv/bin/python -m scripts.generate_go_template --check

.PHONY: proto-release
proto-release: setup-dev ## freeze the connector protocol as it is (see RELEASE.md)
	@if [ -f proto/released.binpb ]; then buf breaking --against proto/released.binpb; fi
	@buf build --path proto/photinus/connector/v1 --exclude-source-info -o proto/released.binpb
	@echo "proto/released.binpb is the connector protocol as it is now"

.PHONY: lock
lock: setup-python ## lock the dependencies again (UPGRADE=1: newest versions)
	@scripts/lock

.PHONY: setup
setup: ## install and build what a network needs
	@scripts/setup run

.PHONY: setup-python
setup-python: ## install the Python packages only
	@scripts/setup python

.PHONY: setup-dev
setup-dev: ## install and build what `make check` and `make proto` need
	@scripts/setup dev

.PHONY: setup-test
setup-test: ## install and build everything
	@scripts/setup test

.PHONY: clean
clean: ## remove everything that was installed or built, and the data of `make up`
	rm -rf .venv .toolchain build .photinus .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf $(addprefix connectors/example-typescript/,node_modules dist src/gen)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
