# shellcheck shell=bash
# Architectures, build time and tools of releases. Sourced after scripts/where.sh, in the root of a checkout.
#
#   TOOLS (target/tools)     folder of Cargo's subcommands, each built once; checkouts can share it
#   SOURCE_DATE_EPOCH        build time, which is that of the commit by default

TOOLS=$(realpath -m "${TOOLS:-target/tools}")

# The time of the commit, so that the same sources give the same files.
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
fi
export SOURCE_DATE_EPOCH

# target_of ARCH: sets $triple and $gnu to the names that Rust and GCC use for an architecture of Debian.
# shellcheck disable=SC2034 # used by the scripts that source this file
target_of() {
    case $1 in
        amd64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu ;;
        arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu ;;
        armhf) triple=armv7-unknown-linux-gnueabihf gnu=arm-linux-gnueabihf ;;
        *) fail 2 "unknown architecture $1; use amd64, arm64 or armhf" ;;
    esac
}

# cargo_tool NAME VERSION: adds a subcommand of Cargo to PATH; builds it if it is missing.
cargo_tool() {
    local root=$TOOLS/$1-$2
    if [ ! -x "$root/bin/$1" ]; then
        say "building $1 $2, once"
        # An unoptimized build takes a fifth of the time and is fast enough.
        cargo install --locked --quiet --debug --root "$root" --version "$2" "$1"
    fi
    PATH=$root/bin:$PATH
}

# Prints the version in Cargo.toml.
version() { sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1; }
