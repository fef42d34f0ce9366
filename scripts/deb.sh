#!/usr/bin/env bash
# Builds the Debian package target/debian/coffee-tracker_VERSION-1_ARCH.deb.
#
#   scripts/deb.sh build [ARCH]        build the program first
#   scripts/deb.sh package [ARCH]      package an existing build
#   scripts/deb.sh release ARCH        package what scripts/build-release.sh has built
#
# ARCH (this machine's): amd64, arm64 or armhf. For this machine, `build` and `package` use what `make build` builds;
# for another one, target/TRIPLE/release/coffee-tracker, which scripts/build-release.sh builds.
# OUTPUT (target/debian): folder of the package.
#
# Manual pages and completions are generated on this machine: they are the same on every architecture.
output=$(realpath -m "${OUTPUT:-$(dirname "$0")/../target/debian}")
cd "$(dirname "$0")/.."
. scripts/where.sh
. scripts/release.sh

CARGO_DEB=3.8.0
# Newest glibc that a package for another machine may require: that of Debian 12.
NEWEST_GLIBC=2.36

stage=target/deb
host=${CARGO_TARGET_DIR:-target}/release/coffee-tracker

verb=${1:-}
case $verb in
    build | package) ;;
    release) [ $# = 2 ] || fail 2 "usage: scripts/deb.sh release ARCH" ;;
    *) fail 2 "usage: $(sed -n 's/^#   //p' "$0")" ;;
esac
here=$(dpkg --print-architecture) || fail 1 "dpkg is not installed; build Debian packages on Debian"
arch=${2:-$here}
if [ "$arch" = "$here" ] && [ "$verb" != release ]; then
    built=$host
    options=()
else
    target_of "$arch"
    unset CARGO_TARGET_DIR
    built=target/$triple/release/coffee-tracker
    options=(--target "$triple" --variant "$arch")
fi

build() {
    if [ "$built" = "$host" ]; then
        cargo build --release --locked
    else
        scripts/build-release.sh "$arch"
    fi
}

# For another machine, $auto cannot determine the libraries: the declared version is checked.
check_glibc() {
    local newest
    newest=$(readelf --version-info "$built" | grep -o 'GLIBC_2[0-9.]*' | sort -uV | tail -n 1)
    printf '%s\n%s\n' "${newest#GLIBC_}" "$NEWEST_GLIBC" | sort -CV ||
        fail 1 "$built requires glibc ${newest#GLIBC_}, but the target systems have $NEWEST_GLIBC"
}

stage_files() {
    rm -rf "$stage"
    scripts/manual.sh "$stage"
    service_settings >"$stage/coffee-tracker.env"
    {
        printf 'coffee-tracker (%s) stable; urgency=medium\n\n  * See CHANGELOG.md.\n\n' "$(version)-1"
        printf ' -- %s  %s\n' "$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)" "$(date -uRd "@$SOURCE_DATE_EPOCH")"
    } >"$stage/changelog"
}

[ "$verb" != build ] || build
[ -x "$built" ] || fail 1 "$built does not exist; build it first"
cargo_tool cargo-deb "$CARGO_DEB"
[ "$built" = "$host" ] || check_glibc
stage_files
package=$(cargo-deb --no-build --no-strip --no-dbgsym --output "$output/" "${options[@]}" | tail -n 1)
say "$(realpath --relative-to=. "$package"): $(stat -c %s "$package" | awk '{ printf "%.1f MB", $1 / 1e6 }')," \
    "needs $(dpkg-deb --field "$package" Depends)"
