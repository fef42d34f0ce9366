# Coffee Tracker: every verb. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help run build test check fmt lint bench bench-import crash kills fire power-cut fuzz demo openapi clean

BINARY := target/release/coffee-tracker
ROUNDS ?= 200
KILLS ?= 300
BACKUPS ?= 50
RESTORES ?= 20
CUTS ?= 1000

help: ## List every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build, start on 127.0.0.1:8000 with data/coffee.db, print the URL, the key and a first curl line
	cargo build --release --locked
	@$(BINARY) serve

build: ## Build the release binary
	cargo build --release --locked
	@ls -l $(BINARY) | awk '{ printf "%s: %.1f MB\n", $$NF, $$5 / 1e6 }'

test: ## Run every test that needs no browser and no root
	cargo test --locked

check: fmt lint test ## Format, clippy, tests: what must pass before a commit

fmt: ## Check the formatting
	cargo fmt --all --check

lint: ## Clippy, warnings are errors
	cargo clippy --locked --all-targets -- -D warnings

bench: ## Measure speed and size against a bare handler and raw SQLite (some 5 minutes)
	cargo bench --locked --bench server

bench-import: ## Import 3 million heart rates while a server is asked, beside a bare insert loop
	cargo bench --locked --bench import

crash: ## Kill -9 while writing, restart, compare: ROUNDS=200
	CRASH_ROUNDS=$(ROUNDS) cargo test --locked --test cli -- --nocapture crash

kills: ## Kill -9 at every step of backup, restore, import, migration and first start: KILLS=300
	KILLS=$(KILLS) cargo test --locked --test cli -- --nocapture kills::

fire: ## Back up and restore while clients read and write at full speed: BACKUPS=50 RESTORES=20
	FIRE_BACKUPS=$(BACKUPS) FIRE_RESTORES=$(RESTORES) cargo test --locked --test cli -- --nocapture under_fire

power-cut: ## Cut the power while writing, backing up and restoring: CUTS=1000
	POWER_CUTS=$(CUTS) cargo test --locked --test faults -- --nocapture

fuzz: ## Try the API against its own document with schemathesis (installs it into .venv)
	scripts/fuzz.sh

demo: ## Fill data/coffee.db, if it is empty, with a plausible person's year
	cargo run --release --locked -- demo

openapi: ## Print the OpenAPI document
	@cargo run --quiet --locked -- openapi

clean: ## Remove what was built; never data or backups
	cargo clean
	rm -rf .venv
