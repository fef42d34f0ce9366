#!/usr/bin/env bash
# Uses the pages as a person does, in a headless Chromium; pictures of what it saw lie in target/web.
# Arguments go to node's test runner: --test-name-pattern="second visit". What it needs and which
# settings it knows stands in scripts/web-tools.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/web-tools.sh

rm -rf ../../target/web
node --test --test-reporter=spec "$@" ./*.test.js
