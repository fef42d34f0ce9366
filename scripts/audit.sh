#!/usr/bin/env bash
# Compares Cargo.lock with the advisory database of Rust packages. 0: nothing known; 1: something is;
# 75: it could not be looked up here.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

if ! cargo audit --version >/dev/null 2>&1; then
    echo "Not audited: this takes cargo-audit (cargo install --locked cargo-audit)." >&2
    exit 75
fi
said=$(cargo audit --color never 2>&1)
status=$?
printf '%s\n' "$said"
if [ "$status" = 0 ]; then
    echo "No dependency has a known weakness."
elif grep -qiE "vulnerabilit(y|ies) found|denied warning" <<<"$said"; then
    echo "Dependencies have known weaknesses: see above." >&2
    exit 1
else
    echo "Not audited: the advisory database could not be fetched." >&2
    exit 75
fi
