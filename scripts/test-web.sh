#!/usr/bin/env bash
# Tests the pages in a headless Chromium. Screenshots are saved in target/web. Arguments are regular expressions
# that select tests by name. Requirements and settings: scripts/web-tools.sh.
#
#   NGINX=path               use another nginx; without one, the sign-in by a proxy is not tested
#   LARGE_BACKUP_DAYS=3100   move a backup of 400 MB between two servers (default 180: 24 MB)
#   WEB_TIMEZONE=zone        run servers and browsers in this time zone instead of one in which it is afternoon
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/web-tools.sh

rm -rf ../../target/web
status=0
node run.js "$@" || status=$?
[ -x "${NGINX:-/usr/sbin/nginx}" ] || echo "skipped: sign-in by a proxy (nginx is not installed)"
exit "$status"
