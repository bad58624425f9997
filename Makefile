# Everything that a person or a machine does with this repository starts here; `make` lists it.
# The private servers live in .flotilla and are the business of deploy/servers.sh.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

export CARGO_TERM_COLOR ?= auto
export FLOTILLA_HOME ?= $(CURDIR)/.flotilla
# A shell that is not a login shell often does not have cargo's folder.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin

.PHONY: help build up down clean demo test sim exhaustive check guard guard-renew bench compare

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# By name: the simulation compiles planted bugs into the turn logic, and a build of all members would
# share that with the product.
build: ## target/release/flotilla and target/release/flotilla-loadtest
	@cargo build --release --package flotilla --package flotilla-loadtest </dev/null

up: ## start private Postgres and RabbitMQ servers and write .flotilla/env
	@deploy/servers.sh up

down: ## stop the private servers
	@deploy/servers.sh down

clean: ## stop the private servers and remove all their data
	@deploy/servers.sh clean

demo: ## run an example from end to end; the servers stay up
	@deploy/demo.sh </dev/null

# Given servers are used as they are, but for the queues of Flotilla in the vhost, which are removed; without
# FLOTILLA_HOME, tests know that they may not stop them.
test: ## all tests, against DATABASE_URL and AMQP_URL or else private servers
	@if deploy/servers.sh given; then \
	    unset FLOTILLA_HOME; \
	else \
	    deploy/servers.sh up; \
	    set -a; . "$$FLOTILLA_HOME/env"; set +a; \
	fi; \
	deploy/summarize-tests.sh cargo test --workspace --no-fail-fast

sim: ## simulate the fleet for SIM_SECONDS (60) or with one SIM_SEED, optimised
	@SIM_SECONDS=$${SIM_SECONDS:-60} cargo run --quiet --release --package flotilla-simulation --bin simulate </dev/null

# Optimised, and with checks all the same: the tests ask for them themselves.
exhaustive: ## all small graphs against the interpreter, optimised (`make test` runs every 19th, of loops fewer); FLOW_CASES random ones
	@FLOW_ALL=1 FLOW_CASES=$${FLOW_CASES:-100000} cargo test --release --package flotilla-engine --test flow </dev/null

# The build of the tests, in which the engine and the turn are optimised. By all members at once, so that
# it shares what the tests have compiled.
GUARD := cargo build --quiet --workspace --bin flotilla-bench </dev/null && "$${CARGO_TARGET_DIR:-target}/debug/flotilla-bench"

guard: ## count the instructions of the engine and the turn against benches/baseline.json (needs valgrind)
	@deploy/servers.sh install-valgrind || true
	@$(GUARD) guard benches/baseline.json

guard-renew: ## write benches/baseline.json anew, where more instructions are meant
	@deploy/servers.sh install-valgrind
	@$(GUARD) renew benches/baseline.json

# Private servers, or the given ones, which nothing else may use meanwhile.
SERVERS := if ! deploy/servers.sh given; then \
	    deploy/servers.sh up >/dev/null; set -a; . "$$FLOTILLA_HOME/env"; set +a; \
	fi

bench: build ## measure what there are goals for, and print both; BENCH_SECONDS (20) a run, BENCH_RUNS (3), BENCH_ONLY, BENCH_FOLDER
	@cargo build --release --package flotilla-benches </dev/null
	@$(SERVERS); "$${CARGO_TARGET_DIR:-target}/release/flotilla-loadtest" bench

compare: build ## Flotilla and its peers at the same work; PEER_SECONDS (20) a run, PEER_RUNS (3), PEER_SYSTEMS, PEER_WORKLOADS
	@deploy/servers.sh install-clients
	@loadtest/peers/install.sh
	@$(SERVERS); \
	PEERS_HOME="$$FLOTILLA_HOME/peers" FLOTILLA_LOADTEST="$$(realpath "$${CARGO_TARGET_DIR:-target}")/release/flotilla-loadtest" \
	    "$$FLOTILLA_HOME/peers/venv/bin/python" loadtest/peers/compare.py

check: ## format, lints, documentation, layout rules, dependencies; writes nothing to the tree
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	cargo test --package flotilla-tests --test tidy --locked --quiet </dev/null
	@if ! cargo deny --version >/dev/null 2>&1; then \
	    echo "check: cargo-deny is not installed: bans, licenses, sources and advisories are skipped"; \
	    exit 0; \
	fi; \
	echo "cargo deny check bans licenses sources"; \
	cargo deny --locked check bans licenses sources; \
	if cargo deny --locked fetch db >/dev/null 2>&1; then \
	    echo "cargo deny check advisories"; \
	    cargo deny --locked check --disable-fetch advisories; \
	else \
	    echo "check: the advisory database cannot be had: advisories are skipped"; \
	fi
	@echo "check: ok"
