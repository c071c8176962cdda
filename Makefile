# What people and machines run here. `make help` says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
# rustup puts its programs where a shell that was there before does not look.
ifeq (,$(shell command -v cargo))
export PATH := $(PATH):$(HOME)/.cargo/bin
endif
DENY_VERSION := 0.20.2

# A line before everything that takes longer than a second.
say = printf '\n== %s\n' "$(1)" >&2

.PHONY: help
help: ## say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: rust ## start Maquette with the example shop; DEMO=once runs open, push, close without a terminal and ends
	@scripts/install-packages run shop build >&2
	$(call say,building)
	$(CARGO) build --locked --release --package maquette
	exec target/release/maquette demo $(if $(DEMO),--$(DEMO))

.PHONY: test
test: packages check gitea registry compose-diff tests vm-unless-here test-vm ## everything, from a clean checkout on a fresh machine

.PHONY: packages
packages:
	@$(call say,packages)
	scripts/install-packages run shop build test

.PHONY: gitea
gitea:
	@$(call say,a real Gitea for the tests)
	tools/gitea/build

.PHONY: registry
registry:
	@$(call say,a real registry for the tests)
	tools/registry/build

.PHONY: tests
tests: rust
	@$(call say,tests)
	export PATH="$$(tools/go/provide):$$PATH"
	$(CARGO) test --locked --workspace

.PHONY: test-v2
test-v2: rust ## the cell runtime on control groups of version 2 under systemd, in a virtual machine (some minutes)
	@$(call say,cells on control groups of version 2)
	tools/vm/test

.PHONY: cluster
cluster: ## a real Kubernetes cluster for the tests, of one node (builds it once, about 20 minutes); a KUBECONFIG that is set is used instead
	@[[ -n $${KUBECONFIG:-} ]] || scripts/install-packages cluster >&2
	$(call say,a real Kubernetes cluster for the tests)
	tools/cluster/up

.PHONY: cluster-down
cluster-down: ## end that cluster; nothing is left of it but the programs
	@tools/cluster/down

.PHONY: test-cluster
test-cluster: rust gitea registry ## the runtime for Kubernetes on a real cluster, which is left as it was (some minutes); CASE=words for a part
	@[[ -n $${KUBECONFIG:-} ]] || scripts/install-packages cluster >&2
	$(call say,the runtime for Kubernetes on a real cluster)
	$(CARGO) test --locked --package runtime-kubernetes --test cluster --no-run
	$(CARGO) test --locked --package maquette --test clusters --no-run
	tools/cluster/with sh -c '"$$@" --package runtime-kubernetes --test cluster -- --nocapture && "$$@" --package maquette --test clusters -- --nocapture' \
	    sh $(CARGO) test --locked

.PHONY: strangers
strangers: packages registry rust ## eight repositories of strangers from init to live, with real toolchains (some minutes)
	@$(call say,repositories of strangers)
	export PATH="$$(tools/go/provide):$$PATH"
	$(CARGO) test --locked --package maquette --test strangers -- --nocapture

# What `make test` does of it besides `test-vm`: nothing, on a machine that has version 2 itself.
.PHONY: vm-unless-here
vm-unless-here: rust
	@$(call say,cells on control groups of version 2)
	TEST_FILTER="--skip runc_too" tools/vm/test --unless-here machine

.PHONY: test-vm
test-vm: rust ## the host that users have, in a virtual machine: install by the guide, restarts, power cuts, conformance, kill -9 (some minutes)
	@$(call say,the host that users have: units restarts reboots power cuts; conformance and kill -9 there)
	KILL_LIVES=3 tools/vm/test survival life killed conformance

.PHONY: test-kill-all
test-kill-all: rust ## kill -9 of every process at every step of a pull request's life (long)
	@$(call say,every process killed at every step)
	KILL_ALL=1 $(CARGO) test --locked --package maquette --test killed -- --nocapture

.PHONY: test-vm-all
test-vm-all: test-v2 ## test-v2, and test-vm with power cuts at every step of opening and closing, and all of test-v2
	@$(call say,power cuts at every step)
	tools/vm/life --all

.PHONY: check
check: fmt clippy tidy deny doc ## the fast part of the tests

.PHONY: fmt
fmt: rust
	@$(call say,formatting)
	$(CARGO) fmt --all --check

.PHONY: clippy
clippy: rust
	@$(call say,clippy)
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	# Not one of all targets, because it is not run with all tests.
	$(CARGO) clippy --locked --package runtime-kubernetes --test cluster -- -D warnings
	$(CARGO) clippy --locked --package maquette --test clusters -- -D warnings

.PHONY: tidy
tidy: rust
	@$(call say,tidy)
	$(CARGO) xtask tidy

# Advisories are fetched from a host that not every machine may reach: `make audit`.
.PHONY: deny
deny: rust
	@$(call say,licences and sources of dependencies)
	if ! $(CARGO) deny --version >/dev/null 2>&1; then
		$(call say,building cargo-deny $(DENY_VERSION) once (some minutes))
		$(CARGO) install --locked cargo-deny@$(DENY_VERSION)
	fi
	$(CARGO) deny --log-level error check bans licenses sources

.PHONY: doc
doc: rust
	@$(call say,documentation)
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet

.PHONY: audit
audit: rust ## known holes in dependencies; needs the network
	@$(CARGO) deny --log-level error check advisories

.PHONY: bench
bench: rust ## measure; writes ratios, losses included
	@scripts/install-packages run shop build bench >&2
	bench/run

.PHONY: compose-diff
compose-diff: rust ## compare the Compose reader with Docker's own; COUNT=n generated applications, SEED=0 others than always
	@$(call say,building the two readers)
	$(CARGO) build --locked --package blueprint --example resolved
	mkdir -p target/compose-diff
	programs=$$(tools/go/provide)
	cd tools/compose-diff && PATH="$$programs:$$PATH" go build -o ../../target/compose-diff/compose-diff .
	cd ../..
	$(call say,comparing)
	target/compose-diff/compose-diff -random $(or $(COUNT),200) -seed $(or $(SEED),1) \
		target/debug/examples/resolved examples/shop crates/blueprint/tests/corpus/*

.PHONY: rust
rust:
	@scripts/install-rust $(firstword $(CARGO))
