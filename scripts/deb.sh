#!/usr/bin/env bash
# Builds the Debian package target/debian/coffee-tracker_VERSION-1_ARCH.deb.
#
#   scripts/deb.sh build [ARCH]        build the program first
#   scripts/deb.sh package [ARCH]      package an existing build
#
# ARCH (this machine's): amd64 or arm64. For another one, target/TRIPLE/release/coffee-tracker is packaged;
# scripts/build-arm64.sh builds it for arm64.
#
# Manual pages and completions are generated on this machine: they are the same on every architecture. cargo-deb is
# built into target/tools once.
cd "$(dirname "$0")/.."
. scripts/where.sh

CARGO_DEB=3.8.0
# Newest glibc that a package for another machine may require: that of Raspberry Pi OS bookworm.
NEWEST_GLIBC=2.36

stage=target/deb
tools=target/tools/cargo-deb-$CARGO_DEB
host=${CARGO_TARGET_DIR:-target}/release/coffee-tracker

verb=${1:-}
case $verb in
    build | package) ;;
    *) fail 2 "usage: $(sed -n 's/^#   //p' "$0")" ;;
esac
here=$(dpkg --print-architecture) || fail 1 "dpkg is not installed; build Debian packages on Debian"
arch=${2:-$here}
case $arch in
    amd64) triple=x86_64-unknown-linux-gnu ;;
    arm64) triple=aarch64-unknown-linux-gnu ;;
    *) [ "$arch" = "$here" ] || fail 2 "unknown architecture $arch; use amd64 or arm64" ;;
esac
if [ "$arch" = "$here" ]; then
    built=$host
    options=()
else
    unset CARGO_TARGET_DIR
    built=target/$triple/release/coffee-tracker
    options=(--target "$triple" --variant "$arch")
fi

build() {
    if [ "$built" = "$host" ]; then
        cargo build --release --locked
    elif [ "$arch" = arm64 ]; then
        scripts/build-arm64.sh
    fi
}

get_cargo_deb() {
    [ ! -x "$tools/bin/cargo-deb" ] || return 0
    say "building cargo-deb $CARGO_DEB, once"
    # An unoptimized build takes a fifth of the time and is fast enough.
    cargo install --locked --quiet --debug --root "$tools" --version "$CARGO_DEB" cargo-deb
}

# For another machine, $auto cannot determine the libraries: the declared version is checked.
check_glibc() {
    local newest
    newest=$(readelf --version-info "$built" | grep -o 'GLIBC_2[0-9.]*' | sort -uV | tail -n 1)
    printf '%s\n%s\n' "${newest#GLIBC_}" "$NEWEST_GLIBC" | sort -CV ||
        fail 1 "$built requires glibc ${newest#GLIBC_}, but the target systems have $NEWEST_GLIBC"
}

# The time of the commit, so that the same sources give the same package.
changed_at() { git log -1 --format=%ct 2>/dev/null || date +%s; }

stage_files() {
    local version
    rm -rf "$stage"
    scripts/manual.sh "$stage"
    service_settings >"$stage/coffee-tracker.env"
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
    {
        printf 'coffee-tracker (%s) stable; urgency=medium\n\n  * See CHANGELOG.md.\n\n' "$version-1"
        printf ' -- %s  %s\n' "$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)" "$(date -uRd "@$SOURCE_DATE_EPOCH")"
    } >"$stage/changelog"
}

[ "$verb" = package ] || build
[ -x "$built" ] || fail 1 "$built does not exist; build it first"
get_cargo_deb
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(changed_at)}
export SOURCE_DATE_EPOCH
[ "$built" = "$host" ] || check_glibc
stage_files
package=$("$tools/bin/cargo-deb" --no-build --no-strip --no-dbgsym --output target/debian/ "${options[@]}" | tail -n 1)
say "$(realpath --relative-to=. "$package"): $(stat -c %s "$package" | awk '{ printf "%.1f MB", $1 / 1e6 }')," \
    "needs $(dpkg-deb --field "$package" Depends)"
