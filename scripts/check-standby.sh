#!/usr/bin/env bash
# Tests replication as in deploy/litestream.yml and docs/STANDBY.md: Litestream replicates a busy database over
# SFTP, together with that of another person, a backup is restored meanwhile, server and Litestream are killed, the
# standby starts from the replica, and the missing entries are imported from the database of the failed machine.
#
#   scripts/check-standby.sh                          build the server
#   COFFEE_TRACKER=path scripts/check-standby.sh      use this binary
#
# Skipped, with a message, when Litestream is unavailable (scripts/litestream.sh). scripts/test-standby.sh runs the
# documented commands.
cd "$(dirname "$0")/.."
. scripts/tools.sh

# Maximum replication lag in seconds: two intervals of one second, and a margin for slow machines.
LAG=6

primary=$work/primary
standby=$work/standby
replica=$work/replica
mkdir "$primary" "$standby" "$replica"
API_KEY=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export API_KEY

# tracker FOLDER ARGUMENT…
tracker() {
    (cd "$1" && DATABASE_URL=coffee.db BACKUP_DIR=backups TZ=UTC "$binary" "${@:2}")
}

# serve FOLDER: starts a server; sets `server` to its address and `process` to its PID.
serve() {
    (
        cd "$1"
        exec env -u API_KEY_FILE DATABASE_URL=coffee.db BACKUP_DIR=backups HOST=127.0.0.1 PORT=0 TZ=UTC \
            RATE_LIMIT_ENABLED=false LOG_LEVEL=error "$binary" serve
    ) >"$1.out" 2>"$1.log" &
    process=$!
    started+=("$process")
    waits_for 20 grep -q '^Listening on' "$1.out" || fail "the server did not start: $(cat "$1.log")"
    server=$(sed -n 's#^Listening on http://##p' "$1.out")
}

request() { curl -s -m 10 -H "Authorization: Bearer $API_KEY" "$@"; }

as_anna() { curl -sf -m 10 -H "Authorization: Bearer $key_of_anna" "$@"; }

post_as_anna() { as_anna -d '{"caffeine_mg":80}' "http://$server/coffee/"; }

coffees_of_anna() { as_anna "http://$server/export/coffee" | tail -n +2 | wc -l; }

now() { date +%s%3N; }

# post_coffees_until MARK: posts coffees until the file MARK exists or the server is gone; records time (milliseconds), mark
# and number of each response.
post_coffees_until() {
    local n
    for ((n = 1; n < 20000; n++)); do
        [ ! -e "$work/$1" ] || return 0
        [ "$(request -o /dev/null -w '%{http_code}' -d "{\"caffeine_mg\":60,\"notes\":\"$1 $n\"}" "http://$server/coffee/")" = 201 ] || return 0
        echo "$(now) $1 $n" >>"$work/acknowledged"
    done
}

# Sets up replica and standby as in docs/STANDBY.md, on loopback.
start_litestream() {
    step "replicate over SFTP with deploy/litestream.yml"
    installed ssh-keygen openssh-client || fail "ssh-keygen is required"
    mkdir "$work/credentials"
    # Litestream uses the first host key type that both support.
    for kind in ecdsa ed25519 rsa; do ssh-keygen -q -t "$kind" -N '' -C '' -f "$work/host_key_$kind"; done
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/credentials/sftp_key"
    "$folder/bin/python" scripts/sftp_server.py "$work/credentials/sftp_key.pub" "$replica" "$work"/host_key_{rsa,ecdsa,ed25519} \
        >"$work/sftp-port" 2>"$work/sftp-log" &
    started+=($!)
    waits_for 20 grep -q . "$work/sftp-port" || fail "the SFTP server did not start: $(cat "$work/sftp-log")"
    # The commented lines are those about people.
    sed -e '/#- dir:/,/^$/ s/^  #/  /' -e "s#/var/lib/coffee-tracker#$primary#" \
        -e "s#host: standby.lan:22#host: 127.0.0.1:$(cat "$work/sftp-port")#" \
        -e "s#host-key: ecdsa-sha2-nistp256 AAAA#host-key: $(cut -d ' ' -f 1,2 "$work/host_key_ecdsa.pub")#" \
        deploy/litestream.yml >"$work/litestream.yml"
    CREDENTIALS_DIRECTORY=$work/credentials "$litestream" replicate -config "$work/litestream.yml" >"$work/litestream-log" 2>&1 &
    streaming=$!
    started+=("$streaming")
    waits_for 20 replica_exists || fail "the replica is empty: $(cat "$work/litestream-log" "$work/sftp-log")"
}

replica_exists() {
    find "$replica/coffee" -name '*.ltx' | grep -q . && find "$replica/coffee-people/anna" -name '*.ltx' | grep -q .
}

# restored_replica FOLDER FILE
restored_replica() {
    timeout 60 "$litestream" restore -o "$2" "file://$replica/$1" >"$work/output" 2>&1 || fail "litestream restore: $(cat "$work/output")"
}

# Restores an older backup during replication; the replica must follow.
restore_during_replication() {
    step "restore a backup during replication"
    local writer
    post_coffees_until before &
    writer=$!
    waits_for 20 grep -q 'before 40$' "$work/acknowledged" || fail "no coffee was written"
    tracker "$primary" restore "$primary"/backups/coffee_*.db --yes
    is "$(tracker "$primary" sql --csv "select count(*) from sqlite_schema where name like '@_litestream%' escape '@'" | tail -n 1)" \
        2 "number of Litestream tables after the restore"
    touch "$work/before"
    wait "$writer"
    : >"$work/acknowledged"
}

has_written_long_enough() {
    awk -v until="$(($(now) - LAG * 1000))" '$1 <= until { old++ } END { exit !(old > 30) }' "$work/acknowledged"
}

kill_during_writes() {
    step "kill the machine during writes"
    local writer
    post_coffees_until after &
    writer=$!
    waits_for 60 has_written_long_enough || fail "no coffee was written"
    kill -KILL "$process" "$streaming"
    died=$(now)
    { wait "$process" "$streaming" "$writer" || true; } 2>/dev/null
    if grep -E 'level=(ERROR|WARN)' "$work/litestream-log"; then fail "Litestream logged errors"; fi
    is "$(cat "$primary.log")" "" "log of the server"
    echo "$(wc -l <"$work/acknowledged") coffees were acknowledged"
}

# Prints mark and number of every stored coffee.
marks() {
    request -f "http://$server/export/coffee" |
        python3 -c 'import csv, sys; print(*(row["notes"] for row in csv.DictReader(sys.stdin)), sep="\n")' | sort
}

start_standby() {
    step "start the standby"
    local old
    restored_replica coffee "$work/replica.db"
    tracker "$standby" verify "$work/replica.db"
    tracker "$standby" restore "$work/replica.db" --yes
    restored_replica coffee-people/anna/coffee.db "$work/anna.db"
    tracker "$standby" person add anna >/dev/null 2>&1
    tracker "$standby" restore "$work/anna.db" --person anna --yes
    cp "$primary/people/anna/coffee.db.keys" "$standby/people/anna/"
    serve "$standby"
    is "$(coffees_of_anna)" 1 "number of coffees of the other person on the standby"
    is "$(request -o /dev/null -w '%{http_code}' "http://$server/health")" 200 "the standby's health"
    marks >"$work/stored"
    old=$(awk -v until=$((died - LAG * 1000)) '$1 <= until { print $2, $3 }' "$work/acknowledged" | sort)
    [ "$(wc -l <<<"$old")" -gt 20 ] || fail "too few coffees were written"
    is "$(comm -13 "$work/stored" <(echo "$old"))" "" "entries acknowledged more than $LAG s before the failure and lost"
    ! grep -qx 'before 1' "$work/stored" || fail "the standby has entries that the restored backup lacks"
    awk -v died="$died" 'NR == FNR { stored[$0] = 1; next } !(($2 " " $3) in stored) { if (!lost++) since = died - $1 }
        END { printf "not replicated: %d coffees of the last %d ms\n", lost, since }' "$work/stored" "$work/acknowledged"
}

# Imports acknowledged entries that the replica lacks from the database of the failed machine.
import_missing_entries() {
    step "import missing entries from the failed machine"
    tracker "$primary" export coffee -o "$work/missing.csv"
    tracker "$standby" import "$work/missing.csv"
    marks >"$work/stored"
    is "$(comm -13 "$work/stored" <(cut -d ' ' -f 2- "$work/acknowledged" | sort))" "" "acknowledged entries that are missing"
    tracker "$standby" import "$work/missing.csv"
    marks >"$work/stored-again"
    cmp "$work/stored" "$work/stored-again" || fail "a second import adds entries"
}

step "Litestream"
if ! folder=$(scripts/litestream.sh); then
    skip "the standby: Litestream is unavailable"
    exit 0
fi
litestream=$folder/bin/litestream
step "start a server and create a backup"
serve "$primary"
for n in 1 2 3; do
    is "$(request -o /dev/null -w '%{http_code}' -d "{\"caffeine_mg\":$n}" "http://$server/coffee/")" 201 "POST /coffee/"
done
key_of_anna=$(tracker "$primary" person add anna 2>/dev/null)
waits_for 20 post_as_anna || fail "the key of another person is not accepted"
tracker "$primary" backup --quiet
start_litestream
restore_during_replication
kill_during_writes
start_standby
import_missing_entries
