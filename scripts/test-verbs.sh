#!/usr/bin/env bash
# Tests the targets of the Makefile with the release binary, in copies of this checkout and on free ports;
# the installation goes into a temporary folder.
#
#   COFFEE_TRACKER=path scripts/test-verbs.sh      use this binary instead of the release build
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "${COFFEE_TRACKER:-${CARGO_TARGET_DIR:-target}/release/coffee-tracker}")
[ -x "$program" ] || { echo "$program does not exist; run \`make build\` first" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/var/tmp}/coffee-verbs.XXXXXX")
here=$work/first other=$work/second other_process=
cleanup() {
    local folder pid
    [ -z "$other_process" ] || kill "$other_process" 2>/dev/null || true
    for folder in "$here" "$other"; do
        for pid in $(processes_of "$folder"); do kill "$pid" 2>/dev/null || true; done
    done
    rm -rf "$work"
}

# Prints the PIDs of processes whose program is in this folder.
processes_of() {
    local exe target
    for exe in /proc/[0-9]*/exe; do
        target=$(readlink "$exe" 2>/dev/null) || continue
        case $target in "$1"/*) basename "${exe%/exe}" ;; esac
    done
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail_test() {
    printf 'FAIL: expected: %s\n' "$*" >&2
    printf '%s\n' "${output:-}" | sed 's/^/    | /' >&2
    [ ! -f "$here/data/coffee-tracker.log" ] || tail -n 5 "$here/data/coffee-tracker.log" >&2
    exit 1
}
step() { printf 'verbs: %s\n' "$*"; }

# Runs make in $here without the settings of the caller.
verb() { env -i PATH="$PATH" HOME="$HOME" make --no-print-directory -C "$here" "$@" 2>&1; }
# does TEXT TARGET…: the target succeeds and prints the text.
does() {
    local words=$1
    shift
    output=$(verb "$@") || fail_test "make $* succeeds"
    grep -qF -- "$words" <<<"$output" || fail_test "make $* prints: $words"
}
# refuses TEXT TARGET…: the target fails and prints the text.
refuses() {
    local words=$1
    shift
    if output=$(verb "$@"); then fail_test "make $* fails"; fi
    grep -qF -- "$words" <<<"$output" || fail_test "make $* prints: $words"
}
is() { [ "$1" = "$2" ] || fail_test "${3:-it} is $2 (it is $1)"; }
# within SECONDS DESCRIPTION COMMAND…: the command succeeds in time.
within() {
    local seconds=$1 description=$2
    shift 2
    for ((n = 0; n < seconds * 10; n++)); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail_test "$description"
}
pid() { sed -n 1p "$here/data/coffee-tracker.pid"; }
is_gone() { [ -z "$(processes_of "$1")" ]; }
log_rotation_has_ended() {
    local process
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/cwd" 2>/dev/null)" != "$here" ] || ! grep -q keep-log "$process/cmdline" || return 1
    done
}
post() {
    local status
    status=$(curl -s --noproxy '*' -o /dev/null -w '%{http_code}' -d "$2" "$(sed -n 4p "$here/data/coffee-tracker.pid")$1" \
        --config <(printf 'header = "Authorization: Bearer %s"\n' "$(cat "$here/data/coffee.key")"))
    is "$status" 201 "the status of POST $1"
}
mode() { stat -c %a "$1"; }

copy() {
    mkdir -p "$1/target/release"
    tar -cf - --exclude=./.git --exclude=./target --exclude=./data --exclude=./backups --exclude=./.venv \
        --exclude=./.env . | tar -xf - -C "$1"
    cp "$program" "$1/target/release/coffee-tracker"
    echo PORT=0 >"$1/.env"
}

# -- Scripts ------------------------------------------------------------------------------

if command -v shellcheck >/dev/null; then
    step "shellcheck"
    shellcheck -x -S warning scripts/{,pi/}*.sh deploy/{import-folder,move-person,route-people,restore-people} .ci/run
else
    step "skipped: shellcheck is not installed"
fi

# -- Releases -----------------------------------------------------------------------------

step "the package rejects ARMv6"
mkdir "$work/armv6"
printf '#!/bin/sh\necho armv6l\n' >"$work/armv6/uname"
chmod +x "$work/armv6/uname"
if output=$(PATH=$work/armv6:$PATH sh deploy/debian/preinst install 2>&1); then fail_test "preinst fails on ARMv6"; fi
grep -qF "a Pi 2 or later is" <<<"$output" || fail_test "preinst prints which Pi is supported"

# -- A plain checkout ---------------------------------------------------------------------

copy "$here"
step "dist"
refuses "unknown architecture sparc; use amd64, arm64 or armhf" dist ARCHS="amd64 sparc"

step "before the first start"
does "upgrade" help
refuses "coffee-tracker is not running" status
refuses "coffee-tracker is not running" reload
refuses "no response from" health
refuses "there is no log yet" logs FOLLOW=no
refuses "there is no backup" verify
does "coffee-tracker is not running" down

step "up"
does "coffee-tracker started: pid" up
grep -qF "key: data/coffee.key" <<<"$output" || fail_test "make up prints the location of the key"
key=$(cat "$here/data/coffee.key")
! grep -qF "$key" <<<"$output" || fail_test "the key is not shown"
! grep -rqF "$key" "$here/data" --include='coffee-tracker.*' || fail_test "no log contains the key"
is "$(mode "$here/data/coffee-tracker.log")" 600 "the log's mode"
is "$(find "$here/data" -name '.up*' | wc -l)" 0 "the number of leftovers"
first=$(pid)
does "coffee-tracker is already running: pid $first" up

step "reload"
refuses "1 invalid setting" reload PORT=many
printf 'PORT=0\nALLOWED_HOSTS=coffee.example\nMAX_CAFFEINE_MG=500\n' >"$here/.env"
does "restart the server to apply: MAX_CAFFEINE_MG" reload
grep -qxF "settings reloaded: ALLOWED_HOSTS" <<<"$output" || fail_test "make reload prints what has changed"
is "$(pid)" "$first" "the pid"
output=$("$program" healthcheck --url "$(sed -n 4p "$here/data/coffee-tracker.pid")") || fail_test "the server is alive"
grep -qF " is alive: Coffee Tracker " <<<"$output" || fail_test "healthcheck prints a sentence"
echo "BEDTIME=late" >>"$here/.env"
refuses "BEDTIME=late: " reload
echo PORT=0 >"$here/.env"
does "settings reloaded: ALLOWED_HOSTS" reload

step "health, validate, status, logs, sql"
does '"status": "alive"' health
does "all checks passed" validate
for line in "/openapi.json 200 ok" "/coffee/today (without a key) 401 ok" "/metrics (with the key) 200 ok"; do
    tr -s ' ' <<<"$output" | grep -qxF -- "$line" || fail_test "make validate prints: $line"
done
does "      0" sql QUERY="select (select count(*) from coffees) + (select count(*) from heart_rates) as entries"
post /coffee/ '{"caffeine_mg": 95, "coffee_type": "espresso"}'
post /heartrate/ '{"bpm": 72}'
does "espresso" sql QUERY="select coffee_type from coffees"
refuses "only statements that read" sql QUERY="delete from coffee_logs"
does "coffee-tracker is running: pid $first" status
grep -qF "health: alive, database ok" <<<"$output" || fail_test "make status prints the health"
does "POST" logs FOLLOW=no LINES=1000
does "request" logs FOLLOW=no LINES=1
is "$(wc -l <<<"$output")" 1 "the number of lines"
does "listening on" logs FOLLOW=no SINCE="1 hour ago"
does "request" logs FOLLOW=no SINCE="1 hour ago" LINES=1
is "$(wc -l <<<"$output")" 1 "the number of lines"
does "" logs FOLLOW=no SINCE="tomorrow"
is "$output" "" "the output"
refuses "is not a valid time" logs FOLLOW=no SINCE="teatime"

step "backup, verify, drill, restore"
does "backups/coffee_" backup
does "can be restored" verify
does "1 coffee, 1 reading," drill
# Other checks, such as free disk space, depend on this machine.
output=$(verb prod-check || true)
grep -qE "^OK: +database +data/coffee.db is intact" <<<"$output" || fail_test "prod-check checks the database: $output"
grep -qE "^OK: +backups +.*can be restored" <<<"$output" || fail_test "prod-check checks the backup: $output"
post /coffee/ '{"caffeine_mg": 40}'
file=$(ls "$here/backups")
does "restored" restore FILE="backups/$file" YES=yes
does "      1" sql QUERY="select count(*) as coffees from coffees"
# The safety backup of that restore is newer and must not be chosen.
does "/backups/$file into data/coffee.db" restore YES=yes
does "      1" sql QUERY="select count(*) as coffees from coffees"

step "several people"
tracker() { (cd "$here" && env -i PATH="$PATH" HOME="$HOME" target/release/coffee-tracker "$@"); }
tracker person add anna >/dev/null 2>&1
refuses "anna: there is no backup to restore" drill
grep -qF "owner: " <<<"$output" || fail_test "the drill continues with the others"
refuses "without a backup" verify
does "newest backup of anna: none" status
does "backups/anna/coffee_" backup
does "backups/anna/coffee_" verify
does "anna: $here/backups/anna/coffee_" drill
grep -qE "^owner: .* passed: .* 1 coffee," <<<"$output" || fail_test "the drill covers the owner"
does "newest backup of anna: backups/anna/coffee_" status
does "      0" sql PERSON=anna QUERY="select count(*) as coffees from coffees"
does "/backups/anna/" restore PERSON=anna YES=yes
does "      1" sql QUERY="select count(*) as coffees from coffees"
tracker person remove anna --yes >/dev/null 2>&1
does "1 coffee, 1 reading," drill

step "restart"
does "coffee-tracker started: pid" restart
[ "$(pid)" != "$first" ] || fail_test "it is another process"

step "port or database in use"
copy "$other"
port=$(sed -n '4s/.*://p' "$here/data/coffee-tracker.pid")
at=$here here=$other
refuses "is already in use by another program" up PORT="$port"
refuses "in use by another coffee-tracker server" up DATABASE_URL="sqlite:///$at/data/coffee.db"
is_gone "$other" || fail_test "no process is left"
[ ! -e "$other/data/coffee-tracker.pid" ] || fail_test "no pid file is left"
here=$at

step "down"
does "coffee-tracker stopped" down
is_gone "$here" || fail_test "the server has ended"
within 5 "the log rotation has ended" log_rotation_has_ended
does "coffee-tracker is not running" down
refuses "coffee-tracker is not running" status

step "built into another folder"
mkdir "$here/built"
mv "$here/target/release" "$here/built"
does "coffee-tracker started" up CARGO_TARGET_DIR="$here/built"
does "backups/coffee_" backup CARGO_TARGET_DIR="$here/built"
does "coffee-tracker stopped" down
does "nothing was started" install CARGO_TARGET_DIR="$here/built" DESTDIR="$work/from-there"
mv "$here/built/release" "$here/target"

step "stale pid file"
sleep 1000 &
other_process=$!
read -ra fields <<<"$(sed 's/.*) //' "/proc/$other_process/stat")"
for stale in "999999999 1" "$other_process 1" "$other_process ${fields[19]}" "0 0" "-1 x"; do
    read -r number since <<<"$stale"
    printf '%s\n' "$number" "$since" "$(realpath "$here/target/release/coffee-tracker")" http://127.0.0.1:1 >"$here/data/coffee-tracker.pid"
    refuses "coffee-tracker is not running" status
    does "coffee-tracker is not running" down
    kill -0 "$other_process" || fail_test "the process of another program is not killed"
done
echo "$other_process" >"$here/data/coffee-tracker.pid"
does "coffee-tracker started" up
kill -KILL "$(pid)"
within 5 "the killed server is reported as not running" refuses "coffee-tracker is not running" status
does "coffee-tracker started" up

step "the log is bounded"
does "coffee-tracker stopped" down
does "coffee-tracker started" up LOG_BYTES=20000 LOG_SECONDS=1 RATE_LIMIT_ENABLED=false
for _ in 1 2 3 4 5; do
    curl -s --noproxy '*' -o /dev/null "$(sed -n 4p "$here/data/coffee-tracker.pid")/[1-300]"
    within 5 "it is rotated" sh -c "[ \$(stat -c %s '$here/data/coffee-tracker.log') -lt 20000 ]"
done
is "$(cd "$here/data" && echo coffee-tracker.log*)" \
    "coffee-tracker.log coffee-tracker.log.1 coffee-tracker.log.2 coffee-tracker.log.3" "the list of log files"
does '"status": "alive"' health
does "coffee-tracker stopped" down

# -- Installed into a folder --------------------------------------------------------------

root=$work/root
bin=$root/usr/local/bin state=$root/var/lib/coffee-tracker
step "install"
does "nothing was started" install DESTDIR="$root"
for file in "755 usr/local/bin/coffee-tracker" "640 etc/coffee-tracker/coffee-tracker.env" \
    "644 etc/systemd/system/coffee-tracker.service" "644 etc/systemd/system/coffee-tracker-backup.timer"; do
    is "$(mode "$root/${file#* }")" "${file%% *}" "the mode of ${file#* }"
done
grep -qx "ExecStart=/usr/local/bin/coffee-tracker serve" "$root/etc/systemd/system/coffee-tracker.service" || fail_test "the unit starts the program"
! grep -q "API_KEY" "$root/etc/coffee-tracker/coffee-tracker.env" || fail_test "the settings contain no key"
grep -qx "DATABASE_URL=sqlite:////var/lib/coffee-tracker/coffee.db" "$root/etc/coffee-tracker/coffee-tracker.env" || fail_test "the settings contain the database"
is "$(find "$root" -name '*key*' | wc -l)" 0 "the number of keys in a staged tree"
does "nothing was started" install DESTDIR="$root"
staged() { (cd "$1" && find . -type f ! -name coffee-tracker -print0 | sort -z | xargs -0 sha256sum); }
staged "$root" >"$work/staged-first"
does "creates an API key at its first start" install DESTDIR="$work/second-root"
staged "$work/second-root" >"$work/staged-second"
cmp -s "$work/staged-first" "$work/staged-second" || fail_test "two staged trees are identical"

step "upgrade"
"$program" demo --days 3 --readings-per-day 20 --database-url "$state/coffee.db" >/dev/null
before=$("$program" sql --csv "select count(*), max(time) from coffees" --database-url "$state/coffee.db")
does "upgraded to coffee-tracker" upgrade DESTDIR="$root"
is "$(find "$state/backups" -type f | wc -l)" 1 "the number of backups"
[ -x "$bin/coffee-tracker.previous" ] || fail_test "the previous program is kept"

step "rejected upgrades"
printf '#!/bin/sh\nexit 1\n' >"$work/fails-always"
printf '#!/bin/sh\ncase $1 in serve) echo "cannot start" >&2; exit 1;; esac\nexec %s "$@"\n' "$program" >"$work/fails-to-serve"
chmod +x "$work/fails-always" "$work/fails-to-serve"
refuses "does not run on this machine" upgrade DESTDIR="$root" BINARY="$work/fails-always"
refuses "failed with a copy of the data" upgrade DESTDIR="$root" BINARY="$work/fails-to-serve"
refuses "does not exist; build it" upgrade DESTDIR="$root" BINARY="$work/none"
cmp -s "$program" "$bin/coffee-tracker" || fail_test "the installed program is unchanged"

step "upgrade and rollback with several people"
"$program" person add anna --database-url "$state/coffee.db" >/dev/null 2>&1
does "/backups/anna/coffee_" upgrade DESTDIR="$root"
# An older program, without the command `person`.
printf '#!/bin/sh\ncase $1 in person) exit 2;; esac\nexec %s "$@"\n' "$program" >"$bin/coffee-tracker.previous"
refuses "left behind: anna" rollback DESTDIR="$root"
cmp -s "$program" "$bin/coffee-tracker" || fail_test "the installed program is unchanged"
does "left behind: anna" rollback DESTDIR="$root" FORCE=yes
does "restored coffee-tracker" rollback DESTDIR="$root"
cmp -s "$program" "$bin/coffee-tracker" || fail_test "the newer program is installed again"
[ -f "$state/people/anna/coffee.db" ] || fail_test "the data of the others is kept"

step "rollback, uninstall"
printf '#!/bin/sh\n# an older one\nexec %s "$@"\n' "$program" >"$bin/coffee-tracker.previous"
does "restored coffee-tracker" rollback DESTDIR="$root"
grep -q "an older one" "$bin/coffee-tracker" || fail_test "the older program is installed"
does "restored coffee-tracker" rollback DESTDIR="$root"
cmp -s "$program" "$bin/coffee-tracker" || fail_test "the newer program is installed again"
is "$("$program" sql --csv "select count(*), max(time) from coffees" --database-url "$state/coffee.db")" "$before" "the stored data"
does "kept data and backups" uninstall DESTDIR="$root"
is "$(find "$root/usr" "$root/etc/systemd" "$root/etc/sysusers.d" "$root/etc/tmpfiles.d" -type f | wc -l)" 0 "the number of files left"
[ -f "$state/coffee.db" ] || fail_test "data is kept"
[ -f "$root/etc/coffee-tracker/coffee-tracker.env" ] || fail_test "settings are kept"
does "removed, including data" uninstall DESTDIR="$root" PURGE=yes
is "$(find "$root" -type f | wc -l)" 0 "the number of files left"

for folder in "$here" "$other"; do is_gone "$folder" || fail_test "no process is left"; done
echo "verbs: all tests passed"
