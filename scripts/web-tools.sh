# shellcheck shell=bash
# Sourced by what drives a browser: brings in what is missing of it and of the server, and ends in tests/web.
#
#   COFFEE_TRACKER=path   a server that is built already
#   CHROMIUM=path         another browser
#
# Chromium, Node.js (18 or newer) and curl come from Debian's packages (as root), the libraries from their
# lock file. Debian has npm in a package of its own, others bring it with Node.js.
bring() {
    if [ -z "${lists_updated:-}" ]; then apt-get update -qq; fi
    lists_updated=yes
    echo "installing $*"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || bring chromium fonts-dejavu-core
command -v curl >/dev/null || bring curl ca-certificates
command -v node >/dev/null || bring nodejs
command -v npm >/dev/null || bring npm

if [ -z "${COFFEE_TRACKER:-}" ]; then
    cargo build --locked
    COFFEE_TRACKER=${CARGO_TARGET_DIR:-target}/debug/coffee-tracker
fi
COFFEE_TRACKER=$(realpath "$COFFEE_TRACKER")
export COFFEE_TRACKER

cd tests/web || exit
installed=node_modules/.package-lock.json
if [ ! -e "$installed" ] || [ package-lock.json -nt "$installed" ]; then
    npm ci --loglevel=error --no-audit --no-fund
fi
