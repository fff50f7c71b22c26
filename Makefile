# Corral's commands. `make` lists them.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export PATH := $(PATH):$(HOME)/.cargo/bin
cache := $(or $(CORRAL_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/corral)
export CARGO_TARGET_DIR ?= $(cache)/target
export CORRAL_PYTHON ?= $(cache)/venv/bin/python

.PHONY: help
help: ## list these commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: demo
demo: build ## play the founding story; KEEP=1 leaves it running
	@.ci/setup database hosts node
	@$(CORRAL_PYTHON) demo/demo.py $(if $(KEEP),--keep)

.PHONY: demo-k8s
demo-k8s: build ## the same with a Kubernetes cluster, which it builds (minutes, once)
	@.ci/setup database hosts node cluster
	@$(cache)/venv-k8s/bin/python demo/demo_k8s.py $(if $(KEEP),--keep)

.PHONY: test
test: ## install what is missing, build, and run every test of a change
	@.ci/setup build clients drivers
	@python3 tests/run.py

.PHONY: test-all
test-all: ## make test, and the long tests
	@.ci/setup build browser saml drivers
	@python3 tests/run.py --long

.PHONY: test-k8s
test-k8s: ## build a Kubernetes cluster (minutes, once) and test with it
	@.ci/setup build cluster
	@cargo build -p corral
	@CORRAL_PYTHON=$(cache)/venv-k8s/bin/python python3 tests/run.py --cluster

.PHONY: test-agents
test-agents: build ## install three agent frameworks (once), and test with them and a scripted model
	@.ci/setup agents
	@CORRAL_PYTHON=$(cache)/venv-agents/bin/python python3 tests/run.py --agents

.PHONY: test-k8s-oldest
test-k8s-oldest: ## the same with the oldest control plane at hand
	@CORRAL_K8S=oldest $(MAKE) --no-print-directory test-k8s

.PHONY: test-ssh
test-ssh: build ## OpenSSH's own regression scripts, directly and through the gateway; OpenSSH 10
	@.ci/setup database foreign
	@$(CORRAL_PYTHON) -m pytest -q -c tests/e2e/pytest.ini tests/foreign/test_openssh10.py
	@$(CORRAL_PYTHON) tests/foreign/openssh.py

.PHONY: test-foreign
test-foreign: build ## the suites of PostgreSQL and its drivers, directly and through the gateway (minutes)
	@.ci/setup suites
	@$(CORRAL_PYTHON) tests/foreign/all.py

.PHONY: soak
soak: build ## half an hour of mixed load with crashes: flat memory, a record that verifies; SOAK_SECONDS=… for another time
	@.ci/setup database
	@$(CORRAL_PYTHON) tests/soak/soak.py --seconds $(or $(SOAK_SECONDS),1800)

.PHONY: bench-ssh
bench-ssh: ## measure SSH beside ssh -J, print a table, write target/bench-ssh.json
	@.ci/setup build database hosts
	@cargo build --release -p corral
	@$(CORRAL_PYTHON) bench/ssh.py $(if $(QUICK),--quick)

.PHONY: bench-relay
bench-relay: ## measure a relay's tunnel beside ssh -L, print a table, write target/bench-relay.json
	@.ci/setup build database hosts
	@cargo build --release -p corral-relay --examples
	@$(CORRAL_PYTHON) bench/relay.py $(if $(QUICK),--quick)

.PHONY: bench-runs
bench-runs: ## measure the end of runs and people, print a table, write target/bench-runs.json
	@.ci/setup build database
	@cargo build --release -p corral
	@$(CORRAL_PYTHON) bench/runs.py $(if $(QUICK),--quick)

.PHONY: bench-stress
bench-stress: ## measure a crowded gateway, print a table, write target/bench-stress.json
	@.ci/setup build database
	@cargo build --release -p corral -p corral-testkit --bins
	@$(CORRAL_PYTHON) bench/stress.py $(if $(QUICK),--quick)

.PHONY: bench
bench: ## measure, print a table, write target/bench.json; QUICK=1 for a short one
	@.ci/setup build database
	@cargo build --release -p corral -p corral-testkit --bins
	@$(CORRAL_PYTHON) bench/bench.py $(if $(QUICK),--quick)

.PHONY: build
build: ## build the corral binary as the tests and the demo use it
	@.ci/setup build
	@cargo build --workspace --bins

.PHONY: lint
lint: ## formatting, clippy, house rules
	@.ci/setup build
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask tidy

.PHONY: fmt
fmt: ## format the code
	cargo fmt

.PHONY: clean
clean: ## remove what was built
	cargo clean
	rm -rf target
