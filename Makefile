# Tasks of Coffee Tracker. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help run up down restart reload status logs health validate backup restore verify drill prod-check sql \
	install upgrade rollback uninstall build test test-statistics oracle test-web screenshots test-verbs test-arm64 test-pi test-docs test-apps check fmt lint audit check-deploy \
	manual deb dist test-dist test-apt test-service test-standby test-cluster bench bench-import bench-instructions bench-peers bench-web bench-wear siege crash kills fire power-cut fuzz fuzz-parsers demo openapi clean

PROGRAM := $(or $(CARGO_TARGET_DIR),target)/release/coffee-tracker
ROUNDS ?= 200
SECONDS ?= 120
KILLS ?= 300
BACKUPS ?= 50
RESTORES ?= 20
CUTS ?= 1000
RUNS ?= 1000
# Long random tests use a new seed in every run; `make test` uses a fixed one.
RANDOM_SEED = TEST_SEED=$(or $(TEST_SEED),$(shell date +%s))

help: ## List every target
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build and run the server on 127.0.0.1:8000 in the foreground
	cargo build --release --locked
	@$(PROGRAM) serve

up: ## Start the server in the background, or the installed service
	@scripts/service.sh up

down: ## Stop the server or the service
	@scripts/service.sh down

restart: ## Restart the server or the service
	@scripts/service.sh restart

reload: ## Reload the settings without a restart; name those that need one
	@scripts/service.sh reload

status: ## Show the process, its health and the newest backup of everyone
	@scripts/service.sh status

logs: ## Follow the log: LINES=100 SINCE="1 hour ago" FOLLOW=no
	@scripts/service.sh logs

health: ## Query /health; fail unless the server is healthy
	@scripts/service.sh health

validate: ## Check the responses of the running server; change nothing
	@scripts/service.sh validate

backup: ## Create and verify a backup of everyone (works while the server is running): PERSON=…
	@scripts/service.sh backup

restore: ## Restore the newest backup after confirmation: FILE=… PERSON=… YES=yes
	@scripts/service.sh restore

verify: ## Check that everyone's newest backup can be restored: FILE=… or PERSON=…
	@scripts/service.sh verify

drill: ## Restore everyone's newest backup into a temporary server and compare: FILE=… or PERSON=…
	@scripts/drill.sh

prod-check: ## Check the installation and print how to fix each problem
	@scripts/service.sh check

sql: ## Run read-only SQL queries: QUERY="select …", or a prompt without it; PERSON=…
	@scripts/service.sh sql

install: ## Install the built binary as a service (sudo): PREFIX=/usr/local DESTDIR=
	@scripts/install.sh install

upgrade: ## Upgrade the installed binary (sudo); roll back automatically on failure
	@scripts/install.sh upgrade

rollback: ## Return to the previous binary (sudo): FILE=… also restores a backup; FORCE=yes leaves people behind
	@scripts/install.sh rollback

uninstall: ## Remove the binary and the units (sudo): PURGE=yes also removes data, backups, settings and key
	@scripts/install.sh uninstall

build: ## Build the release binary
	cargo build --release --locked
	@ls -l $(PROGRAM) | awk '{ printf "%s: %.1f MB\n", $$NF, $$5 / 1e6 }'

manual: ## Build manual pages and shell completions in target/manual
	@scripts/manual.sh

deb: ## Build a Debian package in target/debian: ARCH=arm64 for a 64-bit Pi, ARCH=armhf for 32-bit Raspberry Pi OS
	@scripts/deb.sh build $(ARCH)

dist: ## Build the files of a release in dist/: ARCHS="amd64 arm64 armhf" SIGN_KEY=… APT_URL=…
	@scripts/dist.sh

# Tests that require root are listed as ignored unless root runs them.
test: ## Run the tests (as root, also those that require it): TEST_SEED=…
	cargo test --locked $(if $(filter 0,$(shell id -u)),-- --include-ignored)

test-statistics: ## Measure how often intervals contain the true value, on simulated people: RUNS=1000
	STATISTICS_RUNS=$(RUNS) cargo test --locked --test api -- --nocapture coverage

oracle: ## Compare the reference values of the statistics with SciPy
	@scripts/oracle.sh

test-web: ## Test the web pages in headless Chromium; save screenshots in target/web
	@scripts/test-web.sh

screenshots: ## Update the screenshots in the README
	@scripts/screenshots.sh

test-verbs: ## Test the targets of this Makefile with the release binary
	@scripts/test-verbs.sh

test-docs: ## Run every command in README.md and docs/ with the release binary
	@scripts/doc-commands.py run

test-apps: ## Play the apps of docs/APPS.md against the release binary, and Home Assistant
	@scripts/test-apps.sh

test-service: ## Test installation, upgrade and failures in a booted Debian container (root)
	@scripts/test-service.sh

test-standby: ## Test the failover in docs/STANDBY.md in a booted Debian container (root)
	@scripts/test-standby.sh

test-cluster: ## Move people between three machines, kill one, restore its people (root)
	@scripts/test-cluster.sh

test-dist: ## Build the release twice, in two folders, and compare every file (30 minutes): ARCHS=amd64 AGAINST=dist
	@scripts/test-dist.sh

test-apt: ## Test installation, upgrade and rollback by apt in a booted Debian container (root)
	@scripts/test-apt.sh

test-arm64: ## Test the build for a 64-bit Pi under QEMU (root)
	@scripts/test-arm64.sh

test-pi: ## Test the package on an emulated Raspberry Pi with power cuts (root, 25 minutes): CUTS=10 PACKAGE=…
	@scripts/test-pi.sh

check: fmt lint test ## Run the checks required before a commit: format, Clippy, tests

fmt: ## Check the formatting
	cargo fmt --all --check

lint: ## Run Clippy with warnings as errors
	cargo clippy --locked --all-targets -- -D warnings

audit: ## Check the dependencies for known vulnerabilities
	@scripts/audit.sh

check-deploy: ## Validate the files in deploy/ with the programs that read them
	@scripts/check-deploy.sh

bench: ## Measure performance and memory use (about 15 minutes): ARGS=--long for longer rounds
	cargo bench --locked --bench server -- $(ARGS)

bench-import: ## Measure imports of Apple Health and Fitbit exports: ARGS=--fitbit for 20 million heart rates
	cargo bench --locked --bench import -- $(ARGS)

bench-instructions: ## Compare the instructions of requests with kept values: UPDATE=yes keeps the new ones
	@UPDATE=$(UPDATE) COFFEE_TRACKER=$${COFFEE_TRACKER:-$(PROGRAM)} python3 scripts/instructions.py

bench-peers: ## Compare with a bare handler, SQLite alone and PocketBase (about three minutes)
	@scripts/bench-peers.sh

bench-web: ## Measure page sizes, first paint and response times
	@scripts/bench-web.sh

bench-wear: ## Measure the bytes written to a disk, and estimate the life of an SD card (root)
	@scripts/bench-wear.py

siege: ## Test a server limited to 256 MB of memory under hostile load: SECONDS=120
	@SECONDS=$(SECONDS) COFFEE_TRACKER=$${COFFEE_TRACKER:-$(PROGRAM)} python3 scripts/siege.py

crash: ## Test that SIGKILL loses no acknowledged write of one or several people: ROUNDS=200
	$(RANDOM_SEED) CRASH_ROUNDS=$(ROUNDS) cargo test --locked --test cli -- --nocapture crash

kills: ## Test SIGKILL at every step of backup, restore, import, migration and person commands: KILLS=300
	$(RANDOM_SEED) KILLS=$(KILLS) cargo test --locked --test cli -- --nocapture kills::

fire: ## Test backup and restore under full load: BACKUPS=50 RESTORES=20
	FIRE_BACKUPS=$(BACKUPS) FIRE_RESTORES=$(RESTORES) cargo test --locked --test cli -- --nocapture under_load

power-cut: ## Test simulated power cuts during writes, backup and restore: CUTS=1000
	$(RANDOM_SEED) POWER_CUTS=$(CUTS) cargo test --locked --test faults -- --nocapture

fuzz: ## Fuzz the API with Schemathesis
	scripts/fuzz.sh

fuzz-parsers: ## Fuzz the parsers of pushes and files, with coverage guidance: SECONDS=120 each
	SECONDS_EACH=$(SECONDS) scripts/fuzz-parsers.sh

demo: ## Fill an empty database with sample data
	cargo run --release --locked -- demo

openapi: ## Print the OpenAPI document
	@cargo run --quiet --locked -- openapi

clean: ## Remove build output; keep data and backups
	cargo clean
	rm -rf .venv
	@echo "removed the build output; data/ and backups/ are unchanged"
