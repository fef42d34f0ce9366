#!/usr/bin/env bash
# Compares Cargo.lock with the RustSec advisory database. Exit codes: 0 no known vulnerabilities, 1 some,
# 75 not checked.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

if ! cargo audit --version >/dev/null 2>&1; then
    echo "skipped: cargo-audit is not installed (cargo install --locked cargo-audit)" >&2
    exit 75
fi
output=$(cargo audit --color never 2>&1)
status=$?
printf '%s\n' "$output"
if [ "$status" = 0 ]; then
    echo "no known vulnerabilities"
elif grep -qiE "vulnerabilit(y|ies) found|denied warning" <<<"$output"; then
    echo "dependencies have known vulnerabilities; see above" >&2
    exit 1
else
    echo "skipped: the advisory database could not be fetched" >&2
    exit 75
fi
