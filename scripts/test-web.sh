#!/usr/bin/env bash
# Tests the pages in a headless Chromium. Screenshots are saved in target/web. Arguments are regular expressions
# that select tests by name. Requirements and settings: scripts/web-tools.sh.
#
#   WEB_TIMEZONE=zone   run servers and browsers in this time zone instead of one in which it is afternoon
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/web-tools.sh

rm -rf ../../target/web
node run.js "$@"
