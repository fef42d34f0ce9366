#!/usr/bin/env bash
# Runs the command-line tests with the arm64 binary under QEMU, with the C library and time zones of Raspberry Pi
# OS bookworm.
#
#   scripts/test-arm64.sh [TEST...]      build and test target/aarch64-unknown-linux-gnu/release/coffee-tracker
#
# Skipped: tests that require a debug build (failpoints, a future schema) or a preloaded library, and the long load
# tests, which are meaningless under emulation.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$PWD/target/aarch64-unknown-linux-gnu/release/coffee-tracker
libraries=$(realpath -m "${CROSS:-target/cross}")/arm64
wrapper=$PWD/target/test-arm64
tests=(main_paths:: round_trip:: lifecycle:: backups:: restores:: export:: import:: prune:: keys:: verifying::
    settings:: demo:: sql:: check:: logs:: links_and_wal::)
debug_only=(an_older_schema_is_migrated_in_a_copy_and_a_newer_one_is_rejected)

[ -z "${COFFEE_TRACKER:-}" ] || { echo "test-arm64: COFFEE_TRACKER must not be set" >&2; exit 2; }
if ! command -v qemu-aarch64-static >/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "test-arm64: installing qemu-user-static requires root" >&2; exit 1; }
    timeout 300 apt-get update -qq
    DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends qemu-user-static >/dev/null
fi
scripts/build-release.sh arm64
# Tests run it as other users too, so it must be readable; the path is quoted.
printf '#!/bin/sh\nexec "%s" -L "%s" "%s" "$@"\n' "$(command -v qemu-aarch64-static)" "$libraries" "$program" >"$wrapper"
chmod 755 "$wrapper"
"$wrapper" --version
[ $# = 0 ] || tests=("$@")
COFFEE_TRACKER=$wrapper timeout 1500 cargo test --locked --test cli -- "${tests[@]}" "${debug_only[@]/#/--skip=}"
