#!/usr/bin/env bash
# Generates manual pages and shell completions from the current command line.
#
#   scripts/manual.sh [FOLDER]      FOLDER (target/manual)/man/*.1, FOLDER/bash, FOLDER/fish, FOLDER/zsh
#
# MANUAL_TARGET (target): build folder of the generator; checkouts can share it.
#
# A separate program generates them, so that the server binary does not contain the generator.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${MANUAL_TARGET:-${CARGO_TARGET_DIR:-target}}
profile=(--release)
[ ! -d "$build/debug/deps" ] || profile=()
cargo run --quiet --locked "${profile[@]}" --target-dir "$build" --example manual -- "${1:-target/manual}"
