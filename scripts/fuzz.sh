#!/usr/bin/env bash
# Validates the OpenAPI document, then fuzzes the server with Schemathesis: valid and invalid requests, single
# and in sequences.
#
#   scripts/fuzz.sh                          build and fuzz the server
#   COFFEE_TRACKER=path scripts/fuzz.sh      fuzz this binary
#   FUZZ_EXAMPLES=500 scripts/fuzz.sh        cases per route (default 50)
#   FUZZ_SECONDS=600 scripts/fuzz.sh         repeat with new cases for this time
#   FUZZ_TIMEOUT=60 scripts/fuzz.sh          timeout in seconds, exit code 124 (default 900)
#   FUZZ_SEED=1 scripts/fuzz.sh              repeat the cases of an earlier run
#
# Further arguments are passed to Schemathesis. schemathesis.toml and fuzz_hooks.py list the exclusions.
set -euo pipefail
cd "$(dirname "$0")/.."

. scripts/venv.sh
python_with schemathesis==4.32.5 openapi-spec-validator==0.9.0

if [ -z "${COFFEE_TRACKER:-}" ]; then
    cargo build
    COFFEE_TRACKER=${CARGO_TARGET_DIR:-target}/debug/coffee-tracker
fi

work=$(mktemp -d)
server=
cleanup() {
    if [ -n "$server" ] && kill "$server" 2>/dev/null; then
        wait "$server" || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

API_KEY=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export API_KEY
binary=$(realpath "$COFFEE_TRACKER")
: >"$work/out"
# In a folder of its own, so that no `.env` changes the rules; the document states the defaults.
(
    cd "$work"
    exec env -u API_KEY_FILE DATABASE_URL="sqlite:///$work/fuzz.db" BACKUP_DIR="$work/backups" \
        HOST=127.0.0.1 PORT=0 RATE_LIMIT_ENABLED=false LOG_LEVEL=warning "$binary" serve
) >"$work/out" 2>"$work/log" &
server=$!

url=
for _ in $(seq 100); do
    url=$(sed -n 's/^Listening on \(http:.*\)$/\1/p' "$work/out")
    if [ -n "$url" ] || ! kill -0 "$server" 2>/dev/null; then
        break
    fi
    sleep 0.1
done
if [ -z "$url" ]; then
    echo "the server did not start:" >&2
    cat "$work/log" >&2
    exit 1
fi

"$venv/bin/python" scripts/fuzz_document.py "$url/openapi.json"

options=(--max-examples "${FUZZ_EXAMPLES:-50}")
if [ -n "${FUZZ_SECONDS:-}" ]; then
    options+=(--max-time "$FUZZ_SECONDS")
fi
if [ -n "${FUZZ_SEED:-}" ]; then
    options+=(--seed "$FUZZ_SEED")
fi
status=0
SCHEMATHESIS_HOOKS=scripts/fuzz_hooks.py PYTHONDONTWRITEBYTECODE=1 \
    timeout "${FUZZ_TIMEOUT:-900}" "$venv/bin/schemathesis" --config-file scripts/schemathesis.toml run "$url/openapi.json" \
    --header "Authorization: Bearer $API_KEY" "${options[@]}" "$@" || status=$?

if ! kill -0 "$server" 2>/dev/null; then
    echo "the server exited:" >&2
    cat "$work/log" >&2
    exit 1
fi
if [ -s "$work/log" ]; then
    echo "log of the server:" >&2
    tail -n 20 "$work/log" >&2
fi
exit "$status"
