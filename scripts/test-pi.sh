#!/usr/bin/env bash
# Tests the package on an emulated Raspberry Pi: a Debian 12 for arm64 with its own kernel and systemd under QEMU, with
# 512 MB of memory and a disk as slow as an SD card that loses what was not flushed.
#
#   scripts/test-pi.sh      build the program and the package for arm64, then test them (as root; about 25 minutes)
#
# PACKAGE=FILE: test this package and build none. PI_SECONDS (1500) limits the tests; see scripts/pi/run.py for
# CUTS and TEST_SEED. The machine is built once in target/pi (scripts/pi/image.sh, 300 MB). Missing tools are installed
# with apt-get. Skipped, with a message, when the machine cannot be built here.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "test-pi: skipped: $*" >&2
    exit 0
}

# needs COMMAND PACKAGE
needs() {
    command -v "$1" >/dev/null && return
    missing+=("$2")
}

[ "$(id -u)" = 0 ] || { echo "test-pi: this requires root" >&2; exit 1; }
PATH=$PATH:/usr/sbin:/sbin
missing=()
needs debootstrap debootstrap
needs qemu-system-aarch64 qemu-system-arm
needs qemu-aarch64-static qemu-user-static
needs cpio cpio
needs modprobe kmod
needs debugfs e2fsprogs
needs python3 python3
if [ "${#missing[@]}" -gt 0 ]; then
    timeout 300 apt-get update -qq || skip "apt-get update failed"
    DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        skip "${missing[*]} cannot be installed"
fi
[ -n "${PACKAGE:-}" ] || scripts/deb.sh build arm64
package=${PACKAGE:-$(ls -t target/debian/coffee-tracker_*_arm64.deb | head -n 1)}
started=$SECONDS
code=0
scripts/pi/image.sh || code=$?
[ "$code" != 75 ] || skip "no machine (see above)"
[ "$code" = 0 ] || exit "$code"
left=$((${PI_SECONDS:-1500} - SECONDS + started))
# The tests skip what does not fit; a second limit ends them when they hang.
PI_SECONDS=$((left - 60)) timeout --kill-after=30 "$left" python3 -B scripts/pi/run.py "$package"
