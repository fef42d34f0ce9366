#!/usr/bin/env bash
# Uses the pages as a person does, in a headless Chromium; pictures of what it saw lie in target/web.
#
#   scripts/test-web.sh                          builds the server and tests it
#   COFFEE_TRACKER=path scripts/test-web.sh      tests a server that is built already
#   CHROMIUM=path scripts/test-web.sh            in another browser
#
# Further arguments go to node's test runner: --test-name-pattern="second visit". What is missing
# (Chromium, Node.js 18 or newer) comes from Debian's packages, the test libraries from their lock file.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" fonts-dejavu-core
fi

if [ -z "${COFFEE_TRACKER:-}" ]; then
    cargo build --locked
    COFFEE_TRACKER=${CARGO_TARGET_DIR:-target}/debug/coffee-tracker
fi
COFFEE_TRACKER=$(realpath "$COFFEE_TRACKER")
export COFFEE_TRACKER

cd tests/web
lock=node_modules/.package-lock.json
if [ ! -e "$lock" ] || [ package-lock.json -nt "$lock" ]; then
    npm ci --silent --no-audit --no-fund
fi
rm -rf ../../target/web
node --test --test-reporter=spec "$@" ./*.test.js
