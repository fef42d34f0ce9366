# shellcheck shell=bash
# Shared by scripts/check-deploy.sh and scripts/check-standby.sh: a temporary folder, background processes that
# end with the script, and third-party programs.
#
#   binary    the server under test: COFFEE_TRACKER, or else a debug build
set -euo pipefail

work=$(mktemp -d)
tools=$PWD/target/check-deploy
started=()
skipped=()

cleanup() {
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

step() { printf '\n== %s\n' "$*"; }

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

skip() {
    echo "skipped: $*"
    skipped+=("$*")
}

say_skipped() { [ "${#skipped[@]}" = 0 ] || printf 'skipped: %s\n' "${skipped[@]}"; }

is_root() { [ "$(id -u)" = 0 ]; }

# Updates the package lists, which a new container lacks.
update_lists() {
    [ -n "${lists_updated:-}" ] && return
    lists_updated=1
    if is_root; then timeout 300 apt-get update -qq >/dev/null 2>&1 || true; fi
}

# installed COMMAND PACKAGE: succeeds when the command exists or its package can be installed.
installed() {
    command -v "$1" >/dev/null && return
    is_root && command -v apt-get >/dev/null || return 1
    update_lists
    DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends "$2" >/dev/null 2>&1
    command -v "$1" >/dev/null
}

# installed_unstarted COMMAND PACKAGE: like `installed`, but starts no service of the package.
installed_unstarted() {
    local policy=/usr/sbin/policy-rc.d
    PATH=$PATH:/usr/sbin command -v "$1" >/dev/null && return
    is_root || return 1
    if [ -e "$policy" ]; then
        installed "$1" "$2"
        return
    fi
    # Debian's programs for services ask this one.
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 0755 "$policy"
    installed "$1" "$2" || true
    rm -f "$policy"
    PATH=$PATH:/usr/sbin command -v "$1" >/dev/null
}

# unpacked COMMAND PACKAGE: prints the path of the command, from the system or from the unpacked package.
unpacked() {
    local found
    if found=$(PATH=$PATH:/usr/sbin command -v "$1"); then
        echo "$found"
        return
    fi
    found=$(find "$tools/$2" -type f -name "$1" -perm -u+x -path '*bin/*' 2>/dev/null | head -n 1 || true)
    if [ -z "$found" ]; then
        command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
        update_lists
        rm -rf "${tools:?}/$2"
        mkdir -p "$tools/$2/deb"
        (cd "$tools/$2/deb" && timeout 300 apt-get -o APT::Sandbox::User=root download "$2" >/dev/null 2>&1) || return 1
        dpkg-deb -x "$tools/$2"/deb/*.deb "$tools/$2"
        found=$(find "$tools/$2" -type f -name "$1" -perm -u+x -path '*bin/*' | head -n 1)
    fi
    [ -n "$found" ] && echo "$found"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# waits_for SECONDS COMMAND...: waits until the command succeeds.
waits_for() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# is VALUE EXPECTED DESCRIPTION
is() { [ "$1" = "$2" ] || fail "$3: \"$1\" instead of \"$2\""; }

for tool in curl openssl python3; do
    installed "$tool" "$tool" || fail "$tool is required"
done
if [ -z "${COFFEE_TRACKER:-}" ]; then
    cargo build --locked
    COFFEE_TRACKER=${CARGO_TARGET_DIR:-target}/debug/coffee-tracker
fi
# shellcheck disable=SC2034 # used by the scripts that source this file
binary=$(realpath "$COFFEE_TRACKER")
