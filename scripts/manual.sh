#!/usr/bin/env bash
# Generates manual pages and shell completions from the current command line.
#
#   scripts/manual.sh [FOLDER]      FOLDER (target/manual)/man/*.1, FOLDER/bash, FOLDER/fish, FOLDER/zsh
#
# A separate program generates them, so that the server binary does not contain the generator.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=(--release)
[ ! -d "${CARGO_TARGET_DIR:-target}/debug/deps" ] || profile=()
cargo run --quiet --locked "${profile[@]}" --example manual -- "${1:-target/manual}"
