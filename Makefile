# What to do with a checkout. `make` alone lists it.

SHELL := bash
CARGO_TARGET_DIR ?= target
ARGS ?=

.PHONY: help run servers test bench drills check contracts
.SILENT: help run servers test bench drills

help: ## List the targets
	awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: servers ## Build and run everything on this machine (ARGS="..." for `shoptalk dev`); Ctrl-C ends it
	if [[ ! -x $(CARGO_TARGET_DIR)/release/shoptalk ]]; then echo "run: the first build takes some minutes"; fi
	cargo build --release --locked
	# In the place of the shell: a signal reaches the program itself, and only once.
	exec $(CARGO_TARGET_DIR)/release/shoptalk dev $(ARGS)

servers: ## Make sure that a nats-server and a MongoDB are there to be started
	scripts/servers

test: ## Run all tests (ARGS="..." for `cargo test`)
	exec scripts/test $(ARGS)

bench: ## Measure the log: ratios, in about three minutes after the build (ARGS="publish", "instance", "resume", "history", "orders" or "attachments" for a part)
	exec scripts/bench $(ARGS)

drills: ## Kill, freeze and cut off what can be, at length, and print what came of it (ARGS="..." for `cargo test`)
	exec scripts/drills $(ARGS)

check: ## What must be clean: format, lints, documentation, contracts
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	cargo test --locked --test it contract

contracts: ## Write the generated contracts again (openapi, nats)
	cargo run --locked --quiet -- contracts --write
