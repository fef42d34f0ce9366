#!/usr/bin/env bash
# The monthly task: restores the newest backup (or FILE) into a scratch folder, starts a server on it
# at a free port of this machine, compares what it holds with what the backup holds, asks it, and
# removes it all. The real database and server are not touched.
#
# TMPDIR (/var/tmp: /tmp is often memory) needs room for the backup twice.
cd "$(dirname "$0")/.."
. scripts/where.sh

file=${FILE:-$(newest_backup)} || fail 1 "There is no backup to restore: \`make backup\` makes one."
file=$(realpath "$file")
[ -x "$binary" ] || fail 1 "$binary is not there: build it with \`make build\`."
program=$(realpath "$binary")
needs_curl

scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/coffee-drill.XXXXXX")
server=
tidy() {
    if [ -n "$server" ] && kill "$server" 2>/dev/null; then
        wait "$server" || true
    fi
    rm -rf "$scratch"
}
trap tidy EXIT
trap 'exit 130' INT TERM
answer=$scratch/answer
mkdir "$scratch/run"
# As root, the program acts for the owner of the folder that the database lies in.
[ "$(id -u)" != 0 ] || chown --reference="$file" "$scratch" "$scratch/run"

# Nothing of the real server's settings.
in_scratch() {
    cd "$scratch/run"
    exec env -i PATH="$PATH" DATABASE_URL=coffee.db BACKUP_DIR=backups HOST=127.0.0.1 PORT=0 \
        RATE_LIMIT_ENABLED=false LOG_LEVEL=warning "$program" "$@"
}

held=$("$program" verify --json "$file") || fail 1 "$file cannot be restored: $held"
(in_scratch restore "$file" --yes >"$scratch/said" 2>&1) || fail 1 "The restore failed: $(cat "$scratch/said")"
(in_scratch serve) >"$scratch/said" 2>"$scratch/log" &
server=$!

at=
for ((n = 0; n < 600; n++)); do
    at=$(sed -n 's/^Listening on \(http:.*\)$/\1/p' "$scratch/said")
    if [ -n "$at" ] || ! started_at "$server" >/dev/null; then
        break
    fi
    sleep 0.1
done
[ -n "$at" ] || fail 1 "The server did not start on what was restored: $(tail -n 3 "$scratch/log")"
url() { printf '%s' "$at"; }

restored=$("$program" verify --json "$scratch/run/coffee.db") || fail 1 "What was restored is not sound: $restored"
for name in coffees readings newest_entry; do
    [ "$(field $name "$held")" = "$(field $name "$restored")" ] ||
        fail 1 "$name: the backup holds $(field $name "$held"), what was restored $(field $name "$restored")"
done

# get PATH: the answer, which must be a 200.
get() {
    local status
    status=$(ask "$answer" "$1" --config <(printf 'header = "Authorization: Bearer %s"\n' "$(cat "$scratch/run/coffee.key")"))
    [ "$status" = 200 ] || fail 1 "GET $1 answered $status on what was restored: $(head -c 500 "$answer")"
    cat "$answer"
}

health=$(get /health)
coffees=$(get '/coffee/?limit=1')
readings=$(get '/heartrate/?limit=1')
newest=$(printf '%s\n' "$(field timestamp "$coffees")" "$(field timestamp "$readings")" | sort | tail -n 1)
expected=$(field newest_entry "$held")
[ "$expected" = null ] || [ "$newest" = "$expected" ] ||
    fail 1 "The newest entry that the server shows is of $newest, that of the backup of $expected"
digests="every row as it was backed up"
[ "$(field has_digests "$held")" = true ] || digests="made before backups carried digests"
say "$file can be relied on: restored, served and compared: $(field coffees "$held") coffees, $(field readings "$held") readings," \
    "newest entry ${expected/null/none}, $digests, health $(field status "$health")."
