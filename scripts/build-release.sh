#!/usr/bin/env bash
# Builds target/TRIPLE/release/coffee-tracker as it is released: it runs on Debian 12 and later, contains the list of
# its dependencies (cargo-auditable), and the same compilers build the same bytes in any folder.
#
#   scripts/build-release.sh ARCH      amd64, arm64 (64-bit Pi) or armhf (32-bit Raspberry Pi OS on a Pi 2 or later)
#
# WAY=rustup: compile with the Rust and the C compiler of this machine. Run it as a normal user: sudo is used only to
#   unpack the C library and to install Debian's cross compiler, and rustup adds the target.
# WAY=debian: compile in a chroot of Debian sid, whose rustc supports the three architectures (2 GB, created once).
#   Run it as root. Nothing stays mounted.
# Without WAY: rustup if Rust has the target or rustup can add it, otherwise debian.
# CROSS (target/cross): folder of the C libraries and the chroot; checkouts can share it.
# SOURCE_DATE_EPOCH, TOOLS: see scripts/release.sh.
#
# Both ways link with the C library of Debian 12, which is that of Raspberry Pi OS bookworm: a program that is linked
# with a newer one does not start there. target/TRIPLE/release/toolchain.txt names the compilers.
cd "$(dirname "$0")/.."
. scripts/where.sh
. scripts/release.sh

CARGO_AUDITABLE=0.7.7
SUITE=bookworm
NEWEST_GLIBC=2.36

[ $# = 1 ] || fail 2 "usage: $(sed -n 's/^#   //p' "$0" | head -n 1)"
arch=$1
target_of "$arch"
cross=$(realpath -m "${CROSS:-target/cross}")
libraries=$cross/$arch
sid=$cross/sid
crates=$(realpath "${CARGO_HOME:-$HOME/.cargo}")
folder=target/$triple/release
built=$folder/coffee-tracker
unset CARGO_TARGET_DIR RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CFLAGS
case $PWD$cross$crates in *\ *) fail 1 "the paths of the checkout, CROSS and CARGO_HOME must not contain spaces" ;; esac

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
    say "creating $folder, once"
    as_root rm -rf "$folder"
    mkdir -p "$folder"
    as_root timeout 900 debootstrap "$@" --variant=minbase "$suite" "$folder" >"$folder.log" 2>&1 ||
        fail 1 "debootstrap: see $folder.log"
}

# Unpacks the C library that the program is linked with, and what tests need to run it under QEMU.
make_libraries() {
    local package
    debian_folder "$libraries" "$SUITE" --arch="$arch" --foreign --include=libc6-dev,tzdata
    as_root chown -R "$(id -u):$(id -g)" "$libraries"
    for package in libc6-dev linux-libc-dev tzdata; do
        dpkg-deb -x "$libraries/var/cache/apt/archives/${package}"_*.deb "$libraries"
    done
    touch "$libraries/complete"
}

has_target() { [ -d "$(rustc --print target-libdir --target "$triple")" ]; }

# compilers LIBRARIES FROM=TO...: prints the variables with which Cargo compiles and links with a C library, and the
# program contains the path TO instead of FROM.
compilers() {
    # The linker is a flag, because as a variable it would also apply to build scripts, and each architecture rebuild them.
    local variable=${triple^^} rustflags="-Clinker=$gnu-gcc -Clink-arg=--sysroot=$1" cflags="--sysroot=$1"
    local underscored=${triple//-/_}
    shift
    rustflags+=$(printf ' --remap-path-prefix=%s' "$@")
    cflags+=$(printf ' -ffile-prefix-map=%s' "$@")
    variable=CARGO_TARGET_${variable//-/_}
    printf '%s\n' "${variable}_RUSTFLAGS=$rustflags" "CC_$underscored=$gnu-gcc" "CFLAGS_$underscored=$cflags"
}

# sources_of CARGO_HOME: prints FROM=TO for each folder with the sources of crates; its name depends on the registry.
sources_of() {
    local registry
    for registry in "$crates"/registry/src/*/; do
        printf '%s\n' "$1/registry/src/$(basename "$registry")=/crates"
    done
}

# `cargo auditable build` names its wrapper by its path, which would change the hashes in the program; here, by its name.
build=(env CARGO=env cargo-auditable auditable -u CARGO RUSTC_WORKSPACE_WRAPPER=cargo-auditable
    cargo build --release --locked --offline --target "$triple")

# toolchain COMMAND...: prints the versions of the compilers, which the command runs.
toolchain() {
    printf '%s: %s; %s; C library %s\n' "$arch" "$("$@" rustc --version)" "$("$@" "$gnu-gcc" --version | head -n 1)" \
        "$(dpkg-deb --field "$libraries"/var/cache/apt/archives/libc6-dev_*.deb Version)"
}

by_rustup() {
    local variables moved
    command -v "$gnu-gcc" >/dev/null || install_packages "gcc-${gnu//_/-}"
    # rustc prints paths of its sources if rustup has installed them.
    mapfile -t moved < <(
        echo "$PWD=/coffee-tracker"
        echo "$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')"
        sources_of "$crates"
    )
    mapfile -t variables < <(compilers "$libraries" "${moved[@]}")
    env "${variables[@]}" "${build[@]}"
    toolchain env >"$folder/toolchain.txt"
}

make_sid() {
    local other packages=(rustc cargo gcc libc6-dev)
    debian_folder "$sid" sid
    echo 'Acquire::Check-Valid-Until "false";' >"$sid/etc/apt/apt.conf.d/90old"
    cp -rL /etc/resolv.conf "$sid/etc/resolv.conf"
    for other in amd64 arm64 armhf; do
        [ "$other" != "$(dpkg --print-architecture)" ] || continue
        target_of "$other"
        chroot "$sid" dpkg --add-architecture "$other"
        # Without libc6-dev-ARCH-cross, which the compiler would use instead of the older library.
        packages+=("libstd-rust-dev:$other" "gcc-${gnu//_/-}" "libc6:$other" "libgcc-s1:$other")
    done
    target_of "$arch"
    chroot "$sid" timeout 300 apt-get update -qq
    DEBIAN_FRONTEND=noninteractive chroot "$sid" timeout 1800 apt-get install -y -qq --no-install-recommends "${packages[@]}" \
        >"$sid.log" 2>&1 || fail 1 "apt-get: see $sid.log"
    mkdir -p "$sid"/{source,crates,target,libraries,tools}
    touch "$sid/complete"
}

# Runs in its own mount namespace, so that nothing stays mounted.
by_debian() {
    local variables moved
    [ "$(id -u)" = 0 ] || fail 1 "Rust has no target $triple here; run this as root to compile in a Debian chroot"
    [ -f "$sid/complete" ] || make_sid
    mkdir -p "target/chroot/$arch" "$folder"
    mapfile -t moved < <(echo /source=/coffee-tracker && sources_of /crates)
    mapfile -t variables < <(compilers /libraries "${moved[@]}")
    # shellcheck disable=SC2016 # the inner shell's own arguments
    unshare --mount --propagation private -- bash -euo pipefail -c '
        sid=$1 libraries=$2 crates=$3 tools=$4 arch=$5
        shift 5
        mount --bind . "$sid/source"
        mount -o remount,ro,bind "$sid/source"
        mount --bind "$libraries" "$sid/libraries"
        mount --bind "target/chroot/$arch" "$sid/target"
        mount --bind "$crates" "$sid/crates"
        mount --bind "$tools" "$sid/tools"
        mount -t proc proc "$sid/proc"
        exec chroot "$sid" env -i PATH=/usr/bin:/bin:/tools HOME=/root CARGO_HOME=/crates CARGO_TARGET_DIR=/target "$@"
    ' build "$sid" "$libraries" "$crates" "$(dirname "$(command -v cargo-auditable)")" "$arch" "${variables[@]}" \
        SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" sh -c 'cd /source && exec "$@"' sh "${build[@]}"
    install "target/chroot/$arch/$triple/release/coffee-tracker" "$built"
    toolchain chroot "$sid" >"$folder/toolchain.txt"
}

check_built() {
    local newest path
    newest=$(grep -aoE 'GLIBC_2\.[0-9]+' "$built" | sort -uV | tail -n 1)
    printf '%s\n' "${newest#GLIBC_}" "$NEWEST_GLIBC" | sort -CV ||
        fail 1 "$built requires $newest, but Debian 12 has $NEWEST_GLIBC. Is libc6-dev-$arch-cross installed? WAY=debian does not need it."
    for path in "$PWD/" "$crates/" /source/ /crates/registry/; do
        ! grep -aqF "$path" "$built" || fail 1 "$built contains the path $path, so that its bytes depend on it"
    done
    readelf --sections --wide "$built" | grep -qF .dep-v0 || fail 1 "$built does not contain the list of its dependencies"
    say "$built: $(stat -c %s "$built" | awk '{ printf "%.1f MB", $1 / 1e6 }'), needs glibc ${newest#GLIBC_}"
}

case ${WAY:-} in
    rustup | debian | '') ;;
    *) fail 2 "WAY is rustup or debian" ;;
esac
cargo_tool cargo-auditable "$CARGO_AUDITABLE"
[ -f "$libraries/complete" ] || make_libraries
cargo fetch --quiet --locked --target "$triple"
if [ "${WAY:-rustup}" = rustup ] && { has_target || timeout 300 rustup target add "$triple"; }; then
    by_rustup
elif [ "${WAY:-debian}" = debian ]; then
    by_debian
else
    fail 1 "Rust has no target $triple here"
fi
check_built
