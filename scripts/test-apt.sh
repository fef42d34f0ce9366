#!/usr/bin/env bash
# Tests in a booted Debian container that apt installs, upgrades and rolls back the service from the repository that
# scripts/apt-repository.sh writes, and that it rejects packages and indexes that were changed or signed by another key.
#
#   scripts/test-apt.sh      test the release binary (as root; about a minute)
#
# PACKAGE: test this package instead of building one. SUITE=bookworm: use this Debian release instead of trixie.
# The commands are those of README.md and docs/RUNBOOK.md that are marked `run: apt`. The repository is served over HTTP on
# loopback, and signed with a GPG key that exists only during the test. The versions 1.0.0-1 (the older one in the
# documents), 9.2-1 and 9.3-1 are the same package with another version. The container has no network and is removed
# afterwards.
cd "$(dirname "$0")/.."
. scripts/machine.sh

port=8089
output='' code=0 server='' work=''

step() { printf 'apt: %s\n' "$*"; }

fail_test() {
    printf 'FAIL: expected: %s\n' "$*" >&2
    printf '%s\n' "$output" | tail -n 40 | sed 's/^/    | /' >&2
    exit 1
}

cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    remove_machine
    [ ! -d "$work/releases" ] || GNUPGHOME=$work/releases gpgconf --kill all
    [ -z "$work" ] || rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# capture COMMAND: runs a command in the container; sets $output to its output and $code to its exit code.
capture() { output=$(inside "$1" 2>&1) && code=0 || code=$?; }
does() { capture "$1"; [ "$code" = 0 ] || fail_test "succeeds: $1 (exit code $code)"; }
fails() { capture "$1"; [ "$code" != 0 ] || fail_test "fails: $1"; }
has() { grep -qF -- "$1" <<<"$output" || fail_test "prints: $1"; }

request() { printf "curl --silent --fail --max-time 5 --header \"Authorization: Bearer \$(cat /etc/coffee-tracker/api_key)\" '127.0.0.1:8000%s'" "$1"; }
log_coffee() { does "$(request /coffee/) --data '{\"caffeine_mg\": 95}'"; has '"caffeine_mg":95'; }
# runs VERSION COFFEES: this version is installed, and the service runs with so many coffees.
runs() {
    does "dpkg-query --show --showformat='\${db:Status-Status} \${Version}' coffee-tracker"
    [ "$output" = "installed $1" ] || fail_test "version $1 is installed"
    does "systemctl is-active coffee-tracker && $(request /health)"
    has '"status":"alive"'
    does "coffee-tracker --config /etc/coffee-tracker/coffee-tracker.env sql --csv 'select count(*) from coffees' | tail -n 1"
    [ "$output" = "$2" ] || fail_test "$2 coffees are stored"
}

# -- Repository ---------------------------------------------------------------------------

make_key() {
    export GNUPGHOME=$work/$1
    mkdir -m 700 "$GNUPGHOME"
    gpg --quiet --batch --pinentry-mode loopback --passphrase '' --quick-generate-key "$1 <$1@example.org>" ed25519 sign never 2>/dev/null
}

# publish [VERSION]: adds a version to the repository, and indexes and signs it. Its date is later each time, even
# within a second.
published_at=$(date +%s)
publish() {
    [ $# = 0 ] || repack "$package" "$1" "$repository/coffee-tracker_$1_$(dpkg-deb --field "$package" Architecture).deb"
    published_at=$((published_at + 1))
    SIGN_KEY=releases@example.org APT_URL=http://127.0.0.1:$port SOURCE_DATE_EPOCH=$published_at \
        scripts/apt-repository.sh "$repository"
    # HTTP compares whole seconds.
    find "$repository" -type f -exec touch -d "@$published_at" {} +
}

serve() {
    # In the network of the container.
    nsenter --target "$pid1" --net python3 -m http.server --bind 127.0.0.1 --directory "$repository" "$port" >"$work/http.log" 2>&1 8>&- &
    server=$!
    for ((n = 0; n < 100; n++)); do
        ! INSIDE_SECONDS=5 inside "curl --silent --fail --output /dev/null 127.0.0.1:$port/Release" || return 0
        sleep 0.1
    done
    abort "the repository is not served: $(cat "$work/http.log")"
}

matches() { grep -qE -- "$1" <<<"$output" || fail_test "prints a line that matches: $1"; }

# rejected PATTERN: apt rejects the repository, on a machine that has used it before and on a new one, and installs nothing.
rejected() {
    capture 'apt update'
    matches "$1"
    fails 'rm -rf /var/lib/apt/lists/* && apt update'
    matches "$1"
    fails 'apt install coffee-tracker=9.3-1'
    runs 9.2-1 4
}

# -- Tests --------------------------------------------------------------------------------

# documented NUMBER: runs a documented block of commands.
documented() {
    local script
    script=$(basename "$machine"/root/commands/apt-"$1"-*.sh)
    step "    $script"
    does "bash commands/$script"
}

install_and_upgrade() {
    step "two commands install the service"
    documented 01
    has "coffee-tracker is running at http://kitchen:8000"
    runs 1.0.0-1 0
    log_coffee
    documented 02
    runs 1.0.0-1 1

    step "apt upgrade installs the next version and keeps the data"
    cp -a "$repository" "$work/older"
    publish 9.2-1
    does 'apt update && apt upgrade'
    runs 9.2-1 1
    does 'ls /var/lib/coffee-tracker/backups/coffee_*.db'
    log_coffee

    step "apt returns to the older version, keeps the data, and holds the version"
    documented 03
    has 9.2-1
    runs 1.0.0-1 2
    log_coffee
    does 'apt upgrade'
    runs 1.0.0-1 3
    does 'apt-mark unhold coffee-tracker && apt upgrade'
    runs 9.2-1 3
    log_coffee
}

tampering() {
    local package_file
    step "an older repository, which was signed, is ignored"
    cp "$work"/older/*Release* "$work"/older/Packages* "$repository"
    does 'apt update && apt-cache madison coffee-tracker'
    has 9.2-1

    step "a package that was changed is rejected"
    publish 9.3-1
    package_file=$(echo "$repository"/coffee-tracker_9.3-1_*.deb)
    cp -a "$package_file" "$work/good.deb"
    # One byte in the middle, so that the size is right.
    printf '\377' | dd of="$package_file" bs=1 seek=$(($(stat -c %s "$package_file") / 2)) conv=notrunc status=none
    does 'apt update'
    fails 'apt upgrade'
    has 'Hash Sum mismatch'
    runs 9.2-1 4
    cp -a "$work/good.deb" "$package_file"

    step "an index that was changed is rejected"
    cp -a "$repository/Packages.gz" "$repository/Packages" "$work"
    sed -i 's/^Version: 9.3-1/Version: 9.4-1/' "$repository/Packages"
    gzip -n9 <"$repository/Packages" >"$repository/Packages.gz"
    does 'rm -rf /var/lib/apt/lists/*'
    fails 'apt update'
    matches 'unexpected size|Hash Sum mismatch'
    runs 9.2-1 4
    cp -a "$work/Packages.gz" "$work/Packages" "$repository"

    step "a list of indexes that was changed is rejected"
    sed -i 's/^Label: .*/Label: Another Tracker/' "$repository"/{InRelease,Release}
    rejected 'BADSIG|verification failed'

    step "a repository that is signed by another key, or not signed, is rejected"
    (make_key other && SIGN_KEY=other@example.org scripts/apt-repository.sh "$repository" && gpgconf --kill all)
    rejected 'NO_PUBKEY|verification failed'
    SIGN_KEY='' scripts/apt-repository.sh "$repository" >/dev/null
    rejected 'is (not|no longer) signed'

    step "after all this, a repository with the right signature is used"
    publish
    does 'apt update && apt upgrade'
    runs 9.3-1 4
}

needs gpg gnupg
if [ -z "${PACKAGE:-}" ]; then
    scripts/deb.sh package
    PACKAGE=$(ls -t target/debian/coffee-tracker_*_"$(dpkg --print-architecture)".deb | head -n 1)
fi
package=$(realpath "$PACKAGE")
# gpg-agent's socket has a short path.
work=$(mktemp -d /tmp/coffee-apt.XXXXXX)
repository=$work/repository
mkdir "$repository"
make_key releases
prepare_machine
python3 scripts/doc-commands.py service "$machine/root/commands" >/dev/null
sed -i "s#URL/#http://127.0.0.1:$port/#" "$machine"/root/commands/apt-*.sh
# The only repository: the others cannot be reached.
rm -rf "$machine"/etc/apt/sources.list "$machine"/etc/apt/sources.list.d/*
boot
publish 1.0.0-1
serve
step "booted: $(inside '. /etc/os-release; apt --version; echo "$PRETTY_NAME"' | paste -sd,)"
install_and_upgrade
tampering
step "all tests passed"
