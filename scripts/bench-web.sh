#!/usr/bin/env bash
# Benchmarks the pages with the release binary in a headless Chromium: transferred bytes, first paint, API
# response times, layout shift. Requirements and settings: scripts/web-tools.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${COFFEE_TRACKER:-}" ]; then
    cargo build --release --locked
    COFFEE_TRACKER=${CARGO_TARGET_DIR:-target}/release/coffee-tracker
fi
source scripts/web-tools.sh

node --test --test-reporter=spec ./bench.js
