#!/usr/bin/env bash
# Tries the program for a 64-bit Pi under qemu, in the C library and the zones of Raspberry Pi OS bookworm:
# the tests of the command line, with that program in the place of the one they are built with.
#
#   scripts/test-arm64.sh [TEST...]      of target/aarch64-unknown-linux-gnu/release/coffee-tracker, which is built first
#
# Left out are what only a debug build does (dying at a named step, a schema to come) or cannot be had
# for another processor (a preloaded library), and the long runs under fire, of which emulation says nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$PWD/target/aarch64-unknown-linux-gnu/release/coffee-tracker
pi=$PWD/target/arm64/pi
wrapper=$PWD/target/arm64/coffee-tracker
tests=(main_paths:: round_trip:: lifecycle:: backups:: restores:: export:: import:: prune:: keys:: verifying::
    settings:: demo:: sql:: check:: logs::)
debug_only=(a_backup_of_an_older_schema_is_migrated_in_a_copy_and_a_newer_one_is_refused)

[ -z "${COFFEE_TRACKER:-}" ] || { echo "test-arm64: COFFEE_TRACKER is set, and this names it itself" >&2; exit 2; }
if ! command -v qemu-aarch64-static >/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "test-arm64: qemu-user-static must be installed, which takes root" >&2; exit 1; }
    timeout 300 apt-get update -qq
    DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends qemu-user-static >/dev/null
fi
scripts/build-arm64.sh
# Tests hand it to other users too: with quotes, for any folder.
printf '#!/bin/sh\nexec "%s" -L "%s" "%s" "$@"\n' "$(command -v qemu-aarch64-static)" "$pi" "$program" >"$wrapper"
chmod 755 "$wrapper"
"$wrapper" --version
[ $# = 0 ] || tests=("$@")
COFFEE_TRACKER=$wrapper timeout 1500 cargo test --locked --test cli -- "${tests[@]}" "${debug_only[@]/#/--skip=}"
