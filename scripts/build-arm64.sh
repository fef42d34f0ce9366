#!/usr/bin/env bash
# Builds target/aarch64-unknown-linux-gnu/release/coffee-tracker for a 64-bit Raspberry Pi.
#
#   scripts/build-arm64.sh              use rustup's target if available, otherwise a Debian chroot
#   WAY=rustup|debian scripts/build-arm64.sh
#
# Both link with the C library of Raspberry Pi OS bookworm, unpacked into target/arm64/pi once; a newer one would not
# run there. rustup: adds the target and installs Debian's C cross compiler; run it as a normal user, and sudo is used
# only to install and unpack. debian: creates a Debian sid chroot with debootstrap (about 1.5 GB, once), whose rustc
# supports arm64; run it as root. Nothing stays mounted.
# On an arm64 machine use `make build`.
set -euo pipefail
cd "$(dirname "$0")/.."

TRIPLE=aarch64-unknown-linux-gnu
NEWEST_GLIBC=2.36
pi=$PWD/target/arm64/pi
sid=target/arm64/sid
built=target/$TRIPLE/release/coffee-tracker

fail() {
    echo "build-arm64: $*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

install_packages() {
    as_root timeout 300 apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# debian_folder FOLDER SUITE OPTIONS...: creates a Debian folder with debootstrap, which requires root.
debian_folder() {
    local folder=$1 suite=$2
    shift 2
    [ -x /usr/sbin/debootstrap ] || install_packages debootstrap
    as_root rm -rf "$folder"
    mkdir -p "$folder"
    as_root timeout 900 debootstrap "$@" --variant=minbase "$suite" "$folder" >"$folder.log" 2>&1 ||
        fail "debootstrap: see $folder.log"
}

# Unpacks the libraries that a program for a Pi is linked with and tested with.
make_pi() {
    local package
    debian_folder "$pi" bookworm --arch=arm64 --foreign --include=libc6-dev,tzdata
    as_root chown -R "$(id -u):$(id -g)" "$pi"
    for package in libc6-dev linux-libc-dev tzdata; do
        dpkg-deb -x "$pi/var/cache/apt/archives/${package}"_*.deb "$pi"
    done
    touch "$pi/complete"
}

has_rustup_target() {
    command -v rustup >/dev/null && timeout 300 rustup target add "$TRIPLE"
}

# compiler_for FOLDER: prints the variables with which Cargo compiles and links with the libraries in FOLDER.
compiler_for() {
    echo "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc"
    echo "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS=-Clink-arg=--sysroot=$1"
    echo "CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc"
    echo "CFLAGS_aarch64_unknown_linux_gnu=--sysroot=$1"
}

by_rustup() {
    local compiler
    command -v aarch64-linux-gnu-gcc >/dev/null || install_packages gcc-aarch64-linux-gnu
    mapfile -t compiler < <(compiler_for "$pi")
    env "${compiler[@]}" cargo build --release --locked --target "$TRIPLE"
}

make_sid() {
    debian_folder "$sid" sid
    echo 'Acquire::Check-Valid-Until "false";' >"$sid/etc/apt/apt.conf.d/90old"
    cp -rL /etc/resolv.conf "$sid/etc/resolv.conf"
    chroot "$sid" dpkg --add-architecture arm64
    chroot "$sid" timeout 300 apt-get update -qq
    # Without libc6-dev-arm64-cross, which the compiler would use instead of the Pi's libraries.
    DEBIAN_FRONTEND=noninteractive chroot "$sid" timeout 1200 apt-get install -y -qq --no-install-recommends \
        rustc cargo libstd-rust-dev:arm64 gcc libc6-dev gcc-aarch64-linux-gnu libc6:arm64 libgcc-s1:arm64 \
        >"$sid.log" 2>&1 || fail "apt-get: see $sid.log"
    mkdir -p "$sid/source" "$sid/crates" "$sid/target" "$sid/pi"
    touch "$sid/complete"
}

# Runs in its own mount namespace, so that nothing stays mounted.
by_debian() {
    local compiler
    [ "$(id -u)" = 0 ] || fail "rustup has no target $TRIPLE here; run this as root to compile in a Debian chroot"
    [ -f "$sid/complete" ] || make_sid
    cargo fetch --locked --target "$TRIPLE"
    mkdir -p target/arm64/target
    mapfile -t compiler < <(compiler_for /pi)
    # shellcheck disable=SC2016 # the inner shell's own arguments
    unshare --mount --propagation private -- bash -euo pipefail -c '
        sid=$1 pi=$2
        shift 2
        mount --bind . "$sid/source"
        mount -o remount,ro,bind "$sid/source"
        mount --bind "$pi" "$sid/pi"
        mount --bind target/arm64/target "$sid/target"
        mount --bind "${CARGO_HOME:-$HOME/.cargo}" "$sid/crates"
        mount -t proc proc "$sid/proc"
        exec chroot "$sid" env -i PATH=/usr/bin:/bin HOME=/root CARGO_HOME=/crates CARGO_TARGET_DIR=/target "$@"
    ' build "$sid" "$pi" "${compiler[@]}" sh -c \
        "cd /source && exec cargo build --release --locked --offline --target $TRIPLE"
    install -D "target/arm64/target/$TRIPLE/release/coffee-tracker" "$built"
}

case ${WAY:-} in
    rustup | debian | '') ;;
    *) fail "WAY is rustup or debian" ;;
esac
[ -f "$pi/complete" ] || make_pi
if [ "${WAY:-rustup}" = rustup ] && has_rustup_target; then
    by_rustup
elif [ "${WAY:-debian}" = debian ]; then
    by_debian
else
    fail "rustup has no target $TRIPLE here"
fi
newest=$(grep -aoE 'GLIBC_2\.[0-9]+' "$built" | sort -uV | tail -n 1)
printf '%s\n' "${newest#GLIBC_}" "$NEWEST_GLIBC" | sort -CV ||
    fail "$built requires $newest, but a Pi has $NEWEST_GLIBC. Is libc6-dev-arm64-cross installed? WAY=debian does not need it."
echo "$built: $(stat -c %s "$built" | awk '{ printf "%.1f MB", $1 / 1e6 }'), needs glibc ${newest#GLIBC_}"
