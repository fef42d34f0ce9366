#!/usr/bin/env bash
# Holds deploy/litestream.yml and docs/STANDBY.md to what they promise: a real Litestream streams the
# database of a server that is written to, over SFTP; a backup is restored meanwhile; the server and
# Litestream are killed; the standby is started from what had arrived; and what had not is brought over
# from the dead machine's card.
#
#   scripts/check-standby.sh                          builds the server
#   COFFEE_TRACKER=path scripts/check-standby.sh      takes one that is built already
#
# When Litestream cannot be had (scripts/litestream.sh) nothing is checked, and that is said. What people type on
# the two machines is run by scripts/test-standby.sh.
cd "$(dirname "$0")/.."
. scripts/tools.sh

# Seconds. It sends every second (sync-interval) what it looks for every second; the rest is for a slow machine.
LAG=6

primary=$work/primary
standby=$work/standby
replica=$work/arrived
mkdir "$primary" "$standby" "$replica"
API_KEY=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
export API_KEY

# tracker FOLDER ARGUMENT…
tracker() {
    (cd "$1" && DATABASE_URL=coffee.db BACKUP_DIR=backups TZ=UTC "$binary" "${@:2}")
}

# serve FOLDER: its address goes into `server`, its pid into `process`.
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

ask() { curl -s -m 10 -H "Authorization: Bearer $API_KEY" "$@"; }

now() { date +%s%3N; }

# write_on MARK: posts coffees until there is a file MARK or no server; notes when each was answered
# (milliseconds), and its mark and number.
write_on() {
    local n
    for ((n = 1; n < 20000; n++)); do
        [ ! -e "$work/$1" ] || return 0
        [ "$(ask -o /dev/null -w '%{http_code}' -d "{\"caffeine_mg\":60,\"notes\":\"$1 $n\"}" "http://$server/coffee/")" = 201 ] || return 0
        echo "$(now) $1 $n" >>"$work/answered"
    done
}

# Replica and standby as docs/STANDBY.md has them, on loopback.
start_litestream() {
    step "Litestream streams over SFTP, by deploy/litestream.yml"
    installed ssh-keygen openssh-client || fail "ssh-keygen is needed"
    mkdir "$work/credentials"
    # sshd has several; Litestream takes the first that both know.
    for kind in ecdsa ed25519 rsa; do ssh-keygen -q -t "$kind" -N '' -C '' -f "$work/host_key_$kind"; done
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/credentials/sftp_key"
    "$folder/bin/python" scripts/sftp_server.py "$work/credentials/sftp_key.pub" "$replica" "$work"/host_key_{rsa,ecdsa,ed25519} \
        >"$work/sftp-port" 2>"$work/sftp-log" &
    started+=($!)
    waits_for 20 grep -q . "$work/sftp-port" || fail "the SFTP server did not start: $(cat "$work/sftp-log")"
    sed -e "s#path: /var/lib/coffee-tracker/coffee.db#path: $primary/coffee.db#" \
        -e "s#host: standby.lan:22#host: 127.0.0.1:$(cat "$work/sftp-port")#" \
        -e "s#host-key: ecdsa-sha2-nistp256 AAAA#host-key: $(cut -d ' ' -f 1,2 "$work/host_key_ecdsa.pub")#" \
        deploy/litestream.yml >"$work/litestream.yml"
    CREDENTIALS_DIRECTORY=$work/credentials "$litestream" replicate -config "$work/litestream.yml" >"$work/litestream-log" 2>&1 &
    streaming=$!
    started+=("$streaming")
    waits_for 20 has_arrived || fail "nothing arrives: $(cat "$work/litestream-log" "$work/sftp-log")"
}

has_arrived() { find "$replica/coffee" -name '*.ltx' | grep -q .; }

# A backup from before Litestream comes back while it streams: it must not be led astray by that.
restore_meanwhile() {
    step "a backup is restored meanwhile"
    local writer
    write_on before &
    writer=$!
    waits_for 20 grep -q 'before 40$' "$work/answered" || fail "nothing is written"
    tracker "$primary" restore "$primary"/backups/*.db --yes
    is "$(tracker "$primary" sql --csv "select count(*) from sqlite_schema where name like '@_litestream%' escape '@'" | tail -n 1)" \
        2 "Litestream's tables after the restore"
    touch "$work/before"
    wait "$writer"
    : >"$work/answered"
}

has_written_for_long() {
    awk -v now="$(now)" -v lag="$LAG" 'NR == 1 { first = $1 } END { exit !(first && now - first > (lag + 4) * 1000) }' "$work/answered"
}

write_and_die() {
    step "the machine dies while it is written to"
    local writer
    write_on after &
    writer=$!
    waits_for 60 has_written_for_long || fail "nothing is written"
    kill -KILL "$process" "$streaming"
    died=$(now)
    { wait "$process" "$streaming" "$writer" || true; } 2>/dev/null
    if grep -E 'level=(ERROR|WARN)' "$work/litestream-log"; then fail "Litestream complains"; fi
    is "$(cat "$primary.log")" "" "what the server complains of"
    echo "$(wc -l <"$work/answered") coffees were answered"
}

# Of every coffee that the server holds.
marks() {
    ask -f "http://$server/export/coffee" |
        python3 -c 'import csv, sys; print(*(row["notes"] for row in csv.DictReader(sys.stdin)), sep="\n")' | sort
}

start_standby() {
    step "the standby is started"
    local old
    timeout 60 "$litestream" restore -o "$work/arrived.db" "file://$replica/coffee" >"$work/said" 2>&1 ||
        fail "litestream restore: $(cat "$work/said")"
    tracker "$standby" verify "$work/arrived.db"
    tracker "$standby" restore "$work/arrived.db" --yes
    serve "$standby"
    is "$(ask -o /dev/null -w '%{http_code}' "http://$server/health")" 200 "the standby's health"
    marks >"$work/there"
    old=$(awk -v until=$((died - LAG * 1000)) '$1 <= until { print $2, $3 }' "$work/answered" | sort)
    [ "$(wc -l <<<"$old")" -gt 20 ] || fail "too little was written to tell"
    is "$(comm -13 "$work/there" <(echo "$old"))" "" "answered more than $LAG s before, and lost"
    ! grep -qx 'before 1' "$work/there" || fail "it has what the restored backup had not"
    awk -v died="$died" 'NR == FNR { there[$0] = 1; next } !(($2 " " $3) in there) { if (!lost++) since = died - $1 }
        END { printf "not arrived: %d coffees, of the last %d ms\n", lost, since }' "$work/there" "$work/answered"
}

# What was answered and had not arrived is on the dead machine's card.
bring_the_rest() {
    step "what had not arrived comes from the dead machine's card"
    tracker "$primary" export coffee -o "$work/rest.csv"
    tracker "$standby" import "$work/rest.csv"
    marks >"$work/there"
    is "$(comm -13 "$work/there" <(cut -d ' ' -f 2- "$work/answered" | sort))" "" "answered, and not there"
    tracker "$standby" import "$work/rest.csv"
    marks >"$work/there-again"
    cmp "$work/there" "$work/there-again" || fail "a second import adds something"
}

step "Litestream"
if ! folder=$(scripts/litestream.sh); then
    skip "the standby: Litestream cannot be had"
    exit 0
fi
litestream=$folder/bin/litestream
step "a server, and a backup from before Litestream came"
serve "$primary"
for n in 1 2 3; do
    is "$(ask -o /dev/null -w '%{http_code}' -d "{\"caffeine_mg\":$n}" "http://$server/coffee/")" 201 "POST /coffee/"
done
tracker "$primary" backup --quiet
start_litestream
restore_meanwhile
write_and_die
start_standby
bring_the_rest
