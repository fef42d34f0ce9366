#!/usr/bin/env bash
# Tests that a release is reproducible and complete: builds the last commit in two clones, in different folders and with
# different CARGO_HOMEs, and compares every file. Then checks the digests, the SBOM, the list of dependencies in the
# program, and that the archive can be installed and run.
#
#   scripts/test-dist.sh      about 30 minutes on two cores, for one architecture
#
# ARCHS (this machine's): the architectures to build.
# AGAINST=dist: compare with this release of the last commit, instead of building the first clone. Signatures and the index of
#   the repository, which may contain earlier versions, are not compared then.
# KEEP=yes: keep the clones.
# Both clones use the tools, C libraries and chroot of this checkout (TOOLS, CROSS) and the same build of the generator of
# manual pages: it is the program that is compiled twice.
cd "$(dirname "$0")/.."
. scripts/where.sh
. scripts/release.sh

archs=${ARCHS:-$(dpkg --print-architecture)}
cross=$(realpath -m "${CROSS:-target/cross}")
manual=$(realpath -m "${MANUAL_TARGET:-target}")
crates=$(realpath "${CARGO_HOME:-$HOME/.cargo}")
work=$(mktemp -d "${TMPDIR:-/var/tmp}/coffee-dist.XXXXXX")
first=${AGAINST:+$(realpath "$AGAINST")}
first=${first:-$work/first/dist}
second=$work/a/second/and/longer/path

cleanup() {
    [ ! -x "$work/run/scripts/service.sh" ] || (cd "$work/run" && scripts/service.sh down >/dev/null) || true
    if [ "${KEEP:-}" = yes ]; then say "kept $work"; else rm -rf "$work"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

step() { printf 'dist: %s\n' "$*"; }

# build FOLDER CARGO_HOME
build() {
    step "building in $1"
    git clone --quiet . "$1"
    (
        unset SOURCE_DATE_EPOCH SIGN_KEY APT_URL
        CARGO_HOME=$2 ARCHS=$archs TOOLS=$TOOLS CROSS=$cross MANUAL_TARGET=$manual "$1/scripts/dist.sh" >"$1.log" 2>&1
    ) || fail 1 "$(tail -n 20 "$1.log")"
}

compare() {
    local file different=0 options=(-type f)
    if [ -n "${AGAINST:-}" ]; then
        options=(-maxdepth 1 -type f -not -name '*.asc' -not -name BUILD.txt -not -name SHA256SUMS)
    else
        diff <(cd "$first" && find . -type f | sort) <(cd "$second/dist" && find . -type f | sort) || fail 1 "FAIL: the lists of files differ"
    fi
    while read -r file; do
        if cmp "$first/$file" "$second/dist/$file"; then
            printf 'identical: %9d bytes  %.12s  %s\n' "$(stat -c %s "$first/$file")" "$(sha256sum <"$first/$file")" "$file"
        else
            different=1
        fi
    done < <(cd "$second/dist" && find . "${options[@]}" -printf '%P\n' | sort)
    [ "$different" = 0 ] || fail 1 "FAIL: the same commit gave different files; KEEP=yes keeps them"
}

# check_dependencies ARCH: the list of dependencies in the program names the crates that the SBOM names.
check_dependencies() {
    local name
    name=coffee-tracker-$(version)-linux-$1
    tar -xzf "$first/$name.tar.gz" --directory="$work" "$name/target/release/coffee-tracker"
    python3 - "$work/$name/target/release/coffee-tracker" "$first/$name.cdx.json" <<'END'
import json, re, subprocess, sys, zlib
program, sbom = sys.argv[1:]
sections = subprocess.run(["readelf", "--sections", "--wide", program], capture_output=True, text=True, check=True).stdout
offset, size = (int(n, 16) for n in re.search(r"\.dep-v0 +\w+ +[0-9a-f]+ +([0-9a-f]+) +([0-9a-f]+)", sections).groups())
packages = json.loads(zlib.decompress(open(program, "rb").read()[offset : offset + size]))["packages"]
embedded = {(package["name"], package["version"]) for package in packages if package.get("kind") != "build"}
listed = {(component["name"], component["version"]) for component in json.load(open(sbom))["components"]}
if "rocket" not in dict(embedded) or not embedded - {("coffee-tracker", dict(embedded)["coffee-tracker"])} <= listed:
    raise SystemExit(f"FAIL: the SBOM lacks {sorted(embedded - listed)}")
print(f"dist: {len(embedded)} crates in the program, {len(listed)} in the SBOM")
END
}

# run_archive: installs what is in the archive into a folder, and runs the program.
run_archive() {
    local installed=$work/root file
    mkdir "$work/run"
    tar -xzf "$first/coffee-tracker-$(version)-linux-$(dpkg --print-architecture).tar.gz" --strip-components=1 --directory="$work/run"
    [ "$(tar -tvzf "$first"/*-"$(dpkg --print-architecture)".tar.gz | awk '{ print $2 }' | sort -u)" = 0/0 ] || fail 1 "FAIL: the archive has other owners than 0/0"
    make --no-print-directory --silent -C "$work/run" install DESTDIR="$installed"
    for file in bin/coffee-tracker share/man/man1/coffee-tracker.1 share/bash-completion/completions/coffee-tracker; do
        [ -s "$installed/usr/local/$file" ] || fail 1 "FAIL: the archive installs no $file"
    done
    (cd "$work/run" && echo PORT=0 >.env && make --no-print-directory up && make --no-print-directory validate && make --no-print-directory down)
}

[ -n "${AGAINST:-}" ] || build "$work/first" "$crates"
# Where the crates are unpacked must not matter either.
mkdir "$work/crates"
cp -R "$crates/registry" "$work/crates"
[ ! -e "$crates/config.toml" ] || cp "$crates/config.toml" "$work/crates"
build "$second" "$work/crates"
compare
(cd "$first" && sha256sum --check --quiet SHA256SUMS)
for arch in $archs; do check_dependencies "$arch"; done
case " $archs " in *" $(dpkg --print-architecture) "*) run_archive ;; esac
step "all tests passed: $(sed -n 1p "$first/BUILD.txt")"
