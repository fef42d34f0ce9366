# Coffee Tracker: every verb. `make help` lists them.

.DEFAULT_GOAL := help
.PHONY: help run up down restart status logs health validate backup restore verify drill prod-check sql \
	install upgrade rollback uninstall build test test-statistics oracle test-web screenshots test-verbs test-arm64 test-docs check fmt lint audit check-deploy \
	manual deb test-service test-standby bench bench-import bench-web siege crash kills fire power-cut fuzz demo openapi clean

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
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build, start on 127.0.0.1:8000 with data/coffee.db, print the URL, the key and a first curl line
	cargo build --release --locked
	@$(PROGRAM) serve

up: ## Start: in the background, or the installed service
	@scripts/service.sh up

down: ## Stop it; data stays
	@scripts/service.sh down

restart: ## Stop and start
	@scripts/service.sh restart

status: ## Does it run, since when, how is it, where is the newest backup
	@scripts/service.sh status

logs: ## Follow the log: LINES=100 SINCE="1 hour ago" FOLLOW=no
	@scripts/service.sh logs

health: ## Ask /health; fails when something is wrong
	@scripts/service.sh health

validate: ## Ask every public endpoint, and what needs the key; adds nothing
	@scripts/service.sh validate

backup: ## Back up and verify the copy, whether it runs or not
	@scripts/service.sh backup

restore: ## Restore the newest backup (or FILE=…), after a question: YES=yes for scripts
	@scripts/service.sh restore

verify: ## Can the newest backup (or FILE=…) be restored?
	@scripts/service.sh verify

drill: ## Restore the newest backup (or FILE=…) into a scratch server, compare, remove it: the monthly task
	@scripts/drill.sh

prod-check: ## Is it fit to be relied on? A line for each thing, and what to do
	@scripts/service.sh check

sql: ## Ask the database, read-only: a prompt, or QUERY="select …"
	@scripts/service.sh sql

install: ## Install what was built as a service (sudo): PREFIX=/usr/local DESTDIR=
	@scripts/install.sh install

upgrade: ## Put what was built in the place of what is installed (sudo); what fails comes back by itself
	@scripts/install.sh upgrade

rollback: ## Go back to the program before the upgrade (sudo): FILE=… restores a backup with it
	@scripts/install.sh rollback

uninstall: ## Remove program and units (sudo); PURGE=yes: data, backups, settings and key as well
	@scripts/install.sh uninstall

build: ## Build the release binary
	cargo build --release --locked
	@ls -l $(PROGRAM) | awk '{ printf "%s: %.1f MB\n", $$NF, $$5 / 1e6 }'

manual: ## Make manual pages and completions for bash, fish and zsh in target/manual; `install` takes them along
	@scripts/manual.sh

deb: ## Make a Debian package, target/debian/….deb: ARCH=arm64 for a 64-bit Pi
	@scripts/deb.sh build $(ARCH)

# Tests that require root are listed as ignored unless root runs them.
test: ## Run the tests (as root, also those that require it): TEST_SEED=…
	cargo test --locked $(if $(filter 0,$(shell id -u)),-- --include-ignored)

test-statistics: ## Do the intervals hold the truth, on 1,000 simulated people of each kind? RUNS=1000
	STATISTICS_RUNS=$(RUNS) cargo test --locked --test api -- --nocapture coverage

oracle: ## Compute the statistics' reference values anew with scipy (installs it into .venv), and compare
	@scripts/oracle.sh

test-web: ## Test the pages in a headless Chromium; screenshots in target/web
	@scripts/test-web.sh

screenshots: ## Update the screenshots of the README, with a year of sample data
	@scripts/screenshots.sh

test-verbs: ## Try the verbs themselves with the release binary, in a copy of this folder
	@scripts/test-verbs.sh

test-docs: ## Run every command of README.md and docs/ with the release binary, in a copy of this folder
	@scripts/doc-commands.py run

test-service: ## Boot a Debian, install the service there, and do to it what happens to a service (as root)
	@scripts/test-service.sh

test-standby: ## Set a standby up, let the Pi die, and take over, as docs/STANDBY.md says, in a Debian that is booted (as root)
	@scripts/test-standby.sh

test-arm64: ## Try the program for a 64-bit Pi under qemu (as root: builds it with what Raspberry Pi OS has)
	@scripts/test-arm64.sh

check: fmt lint test ## Format, clippy, tests: what must pass before a commit

fmt: ## Check the formatting
	cargo fmt --all --check

lint: ## Clippy, warnings are errors
	cargo clippy --locked --all-targets -- -D warnings

audit: ## Compare the dependencies with the advisory database
	@scripts/audit.sh

check-deploy: ## Check what lies in deploy/ with the programs that it is for
	@scripts/check-deploy.sh

bench: ## Measure speed and size against a bare handler and raw SQLite (some 10 minutes)
	cargo bench --locked --bench server

bench-import: ## Import 3 million heart rates while a server is asked, beside a bare insert loop
	cargo bench --locked --bench import

bench-web: ## Benchmark the pages: transferred bytes, first paint, API response times, layout shift
	@scripts/bench-web.sh

siege: ## Attack a server from strangers' connections in a cgroup of 256 MB, from one address and from 200: SECONDS=120 each
	@SECONDS=$(SECONDS) COFFEE_TRACKER=$${COFFEE_TRACKER:-$(PROGRAM)} python3 scripts/siege.py

crash: ## Kill -9 while writing, restart, compare: ROUNDS=200
	$(RANDOM_SEED) CRASH_ROUNDS=$(ROUNDS) cargo test --locked --test cli -- --nocapture crash

kills: ## Kill -9 at every step of backup, restore, import, migration and first start: KILLS=300
	$(RANDOM_SEED) KILLS=$(KILLS) cargo test --locked --test cli -- --nocapture kills::

fire: ## Back up and restore while clients read and write at full speed: BACKUPS=50 RESTORES=20
	FIRE_BACKUPS=$(BACKUPS) FIRE_RESTORES=$(RESTORES) cargo test --locked --test cli -- --nocapture under_fire

power-cut: ## Cut the power while writing, backing up and restoring: CUTS=1000
	$(RANDOM_SEED) POWER_CUTS=$(CUTS) cargo test --locked --test faults -- --nocapture

fuzz: ## Try the API against its own document with schemathesis (installs it into .venv)
	scripts/fuzz.sh

demo: ## Fill data/coffee.db, if it is empty, with a plausible person's year
	cargo run --release --locked -- demo

openapi: ## Print the OpenAPI document
	@cargo run --quiet --locked -- openapi

clean: ## Remove what was built; never data or backups
	cargo clean
	rm -rf .venv
	@echo "removed what was built; data/ and backups/ are as they were"
