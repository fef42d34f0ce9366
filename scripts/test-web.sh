#!/usr/bin/env bash
# Tests the pages in a headless Chromium. Screenshots are saved in target/web. Arguments are passed to the test
# runner of Node.js: --test-name-pattern="undo". Requirements and settings: scripts/web-tools.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/web-tools.sh

rm -rf ../../target/web
node --test --test-reporter=spec "$@" ./*.test.js
