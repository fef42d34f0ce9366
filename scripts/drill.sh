#!/usr/bin/env bash
# Monthly restore test: restores everyone's newest backup (or that of PERSON, or FILE) into a temporary folder, starts a
# server on a free port, compares its data with the backup and removes everything. The real databases and the real
# server are not touched.
#
# TMPDIR (/var/tmp, because /tmp is often in memory) needs space for two copies of a backup.
cd "$(dirname "$0")/.."
. scripts/where.sh

drill_everyone() {
    local person failed=()
    for person in "$@"; do
        PERSON=$person scripts/drill.sh || failed+=("$person")
    done
    [ "${#failed[@]}" = 0 ] || fail 1 "failed for ${#failed[@]} of $# people: ${failed[*]}"
}

if [ -z "${FILE:-}${PERSON:-}" ]; then
    names=$(people) || fail 1 "the people cannot be listed"
    if [ "$names" != owner ]; then
        # shellcheck disable=SC2086 # names have no spaces
        drill_everyone $names
        exit
    fi
fi
whose=${PERSON:+$PERSON: }
file=${FILE:-$(newest_backup "${PERSON:-}")} || fail 1 "${whose}there is no backup to restore; create one with \`make backup\`"
file=$(realpath "$file")
[ -x "$binary" ] || fail 1 "$binary does not exist; build it with \`make build\`"
program=$(realpath "$binary")
needs_curl

scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/coffee-drill.XXXXXX")
server=
cleanup() {
    if [ -n "$server" ] && kill "$server" 2>/dev/null; then
        wait "$server" || true
    fi
    rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
response=$scratch/response
mkdir "$scratch/run"
# As root, the program acts as the owner of the database folder.
[ "$(id -u)" != 0 ] || chown --reference="$file" "$scratch" "$scratch/run"

# Runs the program without the settings of the real server.
in_scratch() {
    cd "$scratch/run"
    exec env -i PATH="$PATH" DATABASE_URL=coffee.db BACKUP_DIR=backups HOST=127.0.0.1 PORT=0 \
        RATE_LIMIT_ENABLED=false LOG_LEVEL=warning "$program" "$@"
}

expected_contents=$("$program" verify --json "$file") || fail 1 "$whose$file cannot be restored: $expected_contents"
(in_scratch restore "$file" --yes >"$scratch/output" 2>&1) || fail 1 "the restore failed: $(cat "$scratch/output")"
(in_scratch serve) >"$scratch/output" 2>"$scratch/log" &
server=$!

at=
for ((n = 0; n < 600; n++)); do
    at=$(sed -n 's/^Listening on \(http:.*\)$/\1/p' "$scratch/output")
    if [ -n "$at" ] || ! started_at "$server" >/dev/null; then
        break
    fi
    sleep 0.1
done
[ -n "$at" ] || fail 1 "the server did not start with the restored database: $(tail -n 3 "$scratch/log")"
url() { printf '%s' "$at"; }

restored=$("$program" verify --json "$scratch/run/coffee.db") || fail 1 "the restored database failed the verification: $restored"
for name in coffees readings newest_entry; do
    [ "$(field $name "$expected_contents")" = "$(field $name "$restored")" ] ||
        fail 1 "$name: $(field $name "$expected_contents") in the backup, $(field $name "$restored") after the restore"
done

# get PATH: prints the response body; fails unless the status is 200.
get() {
    local status
    status=$(request "$response" "$1" --config <(printf 'header = "Authorization: Bearer %s"\n' "$(cat "$scratch/run/coffee.key")"))
    [ "$status" = 200 ] || fail 1 "GET $1 returned status $status after the restore: $(head -c 500 "$response")"
    cat "$response"
}

health=$(get /health)
coffees=$(get '/coffee/?limit=1')
readings=$(get '/heartrate/?limit=1')
newest=$(printf '%s\n' "$(field timestamp "$coffees")" "$(field timestamp "$readings")" | sort | tail -n 1)
expected=$(field newest_entry "$expected_contents")
[ "$expected" = null ] || [ "$newest" = "$expected" ] ||
    fail 1 "the newest entry is from $newest on the server but from $expected in the backup"
digests="row digests match"
[ "$(field has_digests "$expected_contents")" = true ] || digests="no row digests (backup of an older version)"
# counted N NOUN: "1 coffee", "2 coffees".
counted() { [ "$1" = 1 ] && printf '1 %s' "$2" || printf '%s %ss' "$1" "$2"; }
say "$whose$file passed: restored, served and compared: $(counted "$(field coffees "$expected_contents")" coffee)," \
    "$(counted "$(field readings "$expected_contents")" reading)," \
    "newest entry ${expected/null/none}, $digests, health $(field status "$health")."
