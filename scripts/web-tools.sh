# shellcheck shell=bash
# Sourced by the scripts that run a browser: installs what is missing, builds the server, and changes to
# tests/web.
#
#   COFFEE_TRACKER=path   use this server binary instead of building one
#   CHROMIUM=path         use another browser
#
# Chromium, Node.js (18 or newer) and curl are installed from Debian's packages (as root), the libraries from
# package-lock.json. In Debian, npm is a separate package; elsewhere it comes with Node.js.
install_packages() {
    if [ -z "${lists_updated:-}" ]; then apt-get update -qq; fi
    lists_updated=yes
    echo "installing $*"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || install_packages chromium fonts-dejavu-core
command -v curl >/dev/null || install_packages curl ca-certificates
command -v node >/dev/null || install_packages nodejs
command -v npm >/dev/null || install_packages npm

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
