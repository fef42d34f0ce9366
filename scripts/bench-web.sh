#!/usr/bin/env bash
# Measures the pages in a headless Chromium, with the release binary: bytes, first paint, answers, jumps.
# What it needs and which settings it knows stands in scripts/web-tools.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${COFFEE_TRACKER:-}" ]; then
    cargo build --release --locked
    COFFEE_TRACKER=${CARGO_TARGET_DIR:-target}/release/coffee-tracker
fi
source scripts/web-tools.sh

node --test --test-reporter=spec ./bench.js
