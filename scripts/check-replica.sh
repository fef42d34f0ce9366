#!/usr/bin/env bash
# Tests replication to an object store as in deploy/litestream-s3.yml and docs/SCALING.md: Litestream replicates the
# databases of everyone, rclone copies the key files, the machine is lost, and deploy/restore-people brings two people back
# on another machine. moto stands in for the object store.
#
#   scripts/check-replica.sh                          build the server
#   COFFEE_TRACKER=path scripts/check-replica.sh      use this binary
#
# Skipped, with a message, when Litestream, moto or rclone is unavailable.
cd "$(dirname "$0")/.."
. scripts/tools.sh

API_KEY=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export API_KEY
# Of this machine; Litestream 0.5.17 does not start with it.
unset AWS_CA_BUNDLE
declare -A server key

# tracker MACHINE ARGUMENT…
tracker() {
    (cd "$work/$1" && DATABASE_URL=coffee.db BACKUP_DIR=backups TZ=UTC "$binary" "${@:2}")
}

# serve MACHINE: starts a server in its folder; sets server[MACHINE] and process.
serve() {
    mkdir -p "$work/$1"
    (
        cd "$work/$1"
        exec env -u API_KEY_FILE DATABASE_URL=coffee.db BACKUP_DIR=backups HOST=127.0.0.1 PORT=0 TZ=UTC \
            RATE_LIMIT_ENABLED=false LOG_LEVEL=error "$binary" serve
    ) >"$work/$1.out" 2>"$work/$1.log" &
    process=$!
    started+=("$process")
    waits_for 20 grep -q '^Listening on' "$work/$1.out" || fail "the server did not start: $(cat "$work/$1.log")"
    server[$1]=$(sed -n 's#^Listening on http://##p' "$work/$1.out")
}

# post NAME MACHINE MILLIGRAMS
post() {
    curl -sf -m 10 -o "$work/response" -H "Authorization: Bearer ${key[$1]}" -d "{\"caffeine_mg\":$3}" \
        "http://${server[$2]}/coffee/"
}

coffees() { curl -sf -m 10 -H "Authorization: Bearer ${key[$1]}" "http://${server[$2]}/export/coffee" | tail -n +2 | wc -l; }

# A server finds changed key files within a few seconds.
has_coffees() { [ "$(coffees "$1" "$2")" = "$3" ]; }

start_object_store() {
    local port
    port=$(free_port)
    "$moto/bin/moto_server" -H 127.0.0.1 -p "$port" >"$work/moto.log" 2>&1 &
    started+=($!)
    REPLICA_ENDPOINT=http://127.0.0.1:$port
    waits_for 60 curl -sf -m 5 -X PUT "$REPLICA_ENDPOINT/coffee-replica" || fail "moto did not start: $(cat "$work/moto.log")"
}

# configure MACHINE: writes its replica.env, litestream.yml, restore-people and the command of replica-keys.service.
configure() {
    local folder=$work/$1
    mkdir -p "$folder"
    sed -e "s#^REPLICA_MACHINE=.*#REPLICA_MACHINE=$1#" -e "s#https://s3.example.net#$REPLICA_ENDPOINT#" \
        deploy/replica.env >"$folder/replica.env"
    sed "s#/var/lib/coffee-tracker#$folder#" deploy/litestream-s3.yml >"$folder/litestream.yml"
    sed -e "s#/etc/coffee-tracker/replica.env#$folder/replica.env#" -e "s#/var/lib/coffee-tracker#$folder#" \
        -e "s#/etc/coffee-tracker/coffee-tracker.env#$folder/settings.env#" deploy/restore-people >"$folder/restore-people"
    printf 'DATABASE_URL=sqlite:///%s\nBACKUP_DIR=%s\n' "$folder/coffee.db" "$folder/backups" >"$folder/settings.env"
    # The command line of a unit, as a shell reads it.
    sed -n '/^ExecStart=/,/[^\\]$/p' deploy/replica-keys.service |
        sed -e 's#^ExecStart=/usr/bin/##' -e "s#/var/lib/coffee-tracker#'$folder'#" -e "s#--include=\([^ ]*\)#--include='\1'#g" \
            >"$folder/copy-keys"
}

# as MACHINE COMMAND…: runs a command with the machine's replica.env.
as() {
    local machine=$1
    shift
    (
        set -a
        # shellcheck disable=SC1090 # written above
        . "$work/$machine/replica.env"
        "$@"
    )
}

replicated() {
    local name
    for name in owner/coffee.db people/anna/coffee.db people/ben/coffee.db; do
        as machine1 "$litestream" ltx "s3://coffee-replica/machine1/$name?endpoint=$REPLICA_ENDPOINT" | grep -q '^0' || return 1
    done
}

# Runs the command of docs/SCALING.md.
without_replica() {
    as machine1 bash -c "$(grep '^comm ' docs/SCALING.md | sed "s#/var/lib/coffee-tracker#$work/machine1#")"
}

restored_people() {
    local ours=$work/bin
    mkdir -p "$ours"
    ln -sf "$binary" "$ours/coffee-tracker"
    ln -sf "$litestream" "$ours/litestream"
    # Nothing is restarted here: Litestream does not run on this machine.
    printf '#!/bin/sh\nexit 3\n' >"$ours/systemctl"
    chmod +x "$ours/systemctl"
    PATH=$ours:$PATH bash "$work/machine2/restore-people" "$@"
}

step "Litestream, moto and rclone"
if ! folder=$(scripts/litestream.sh) || ! moto=$(scripts/moto.sh) || ! installed rclone rclone; then
    skip "the object store: Litestream, moto or rclone is unavailable"
    exit 0
fi
litestream=$folder/bin/litestream
start_object_store
serve machine1
for name in anna ben; do
    key[$name]=$(tracker machine1 person add "$name" --display-name "Display name of $name" 2>/dev/null)
    waits_for 20 post "$name" machine1 60 || fail "the key of $name is not accepted"
done
step "replicate to an object store with deploy/litestream-s3.yml and replica-keys.service"
configure machine1
(
    set -a
    . "$work/machine1/replica.env"
    exec "$litestream" replicate -config "$work/machine1/litestream.yml"
) >"$work/litestream.log" 2>&1 &
streaming=$!
started+=("$streaming")
waits_for 60 replicated || fail "the replica is empty: $(cat "$work/litestream.log")"
as machine1 bash "$work/machine1/copy-keys" || fail "rclone"
is "$(without_replica)" "" "people without a replica"
tracker machine1 person add carl >/dev/null 2>&1
is "$(without_replica)" carl "people without a replica, after another one was added"
for ((n = 0; n < 20; n++)); do post anna machine1 80; done
# Longer than the interval.
sleep 6

step "lose the machine; restore-people on another one"
kill -KILL "$process" "$streaming"
{ wait "$process" "$streaming" || true; } 2>/dev/null
if grep -E 'level=(ERROR|WARN)' "$work/litestream.log"; then fail "Litestream logged errors"; fi
mv "$work/machine1" "$work/lost"
serve machine2
configure machine2
if restored_people machine1 anna dora >"$work/output" 2>&1; then fail "restore-people succeeds for an unknown person"; fi
grep -qx 'not restored: dora' "$work/output" || fail "restore-people: $(cat "$work/output")"
if restored_people machine2 anna >"$work/output" 2>&1; then fail "restore-people accepts this machine"; fi
restored_people machine1 anna ben
waits_for 20 has_coffees anna machine2 21 || fail "anna has $(coffees anna machine2) coffees instead of 21"
waits_for 20 has_coffees ben machine2 1 || fail "ben has $(coffees ben machine2) coffees instead of 1"
post anna machine2 90
is "$(tracker machine2 person list | grep -c 'Display name of')" 2 "number of people with their display names"
is "$(cat "$work/machine2/people/anna/coffee.db.keys")" "$(cat "$work/lost/people/anna/coffee.db.keys")" "the keys"
is "$(restored_people machine1 anna ben)" $'anna was restored already\nben was restored already\nrestored: anna ben' "output of a second run"
is "$(coffees anna machine2)" 22 "number of coffees after a second run"
touch -d '25 hours ago' "$work/machine2/restore-people.d/ben.machine1.done"
if restored_people machine1 anna ben >"$work/output" 2>&1; then fail "restore-people accepts an old copy"; fi
grep -q '^ben has a copy on this machine' "$work/output" || fail "restore-people: $(cat "$work/output")"
touch "$work/machine2/people/ben/coffee.db.frozen.json"
if restored_people machine1 anna ben >"$work/output" 2>&1; then fail "restore-people accepts a person who was being moved"; fi
grep -q '^ben was being moved' "$work/output" || fail "restore-people: $(cat "$work/output")"
rm "$work/machine2/people/ben/coffee.db.frozen.json"

step "continue restore-people after it was killed before the restore"
tracker machine2 person remove ben --yes >/dev/null 2>&1
touch "$work/machine2/restore-people.d/ben"
tracker machine2 person add ben >/dev/null 2>&1
restored_people machine1 anna ben
waits_for 20 post ben machine2 95 || fail "the key of ben is not accepted"
is "$(coffees ben machine2)" 2 "number of coffees of ben"
