#!/usr/bin/env bash
# Runs the commands of docs/STANDBY.md in a booted Debian container that is both the Pi and its standby, with
# Litestream, sshd and the units in deploy/. Its file system is a temporary folder.
#
#   scripts/test-standby.sh      test target/release/coffee-tracker (as root; about 2 minutes)
#
# Skipped, with a message, when Litestream is unavailable (scripts/litestream.sh).
cd "$(dirname "$0")/.."
. scripts/machine.sh

program=${CARGO_TARGET_DIR:-target}/release/coffee-tracker
state=/var/lib/coffee-tracker
card=/media/card$state
step() { printf 'standby: %s\n' "$*"; }

fail_test() {
    printf 'FAIL: expected: %s\n' "$1" >&2
    printf '%s\n' "${2:-}" | tail -n 40 | sed 's/^/    | /' >&2
    inside 'journalctl -u litestream -u coffee-tracker -n 20 --no-pager' >&2 || true
    exit 1
}
trap remove_machine EXIT
trap 'exit 130' INT TERM

does() {
    local output
    output=$(inside "$1" 2>&1) || fail_test "succeeds: $1" "$output"
}

within() {
    local until=$((SECONDS + $1))
    until inside "$2" >/dev/null 2>&1; do
        [ "$SECONDS" -le "$until" ] || fail_test "succeeds within $1 s: $2"
        sleep 0.2
    done
}

copy_files() {
    local there=$machine/root/coffee-tracker
    mkdir -p "$there/target/release"
    tar -cf - --exclude=./.git --exclude=./target --exclude=./data --exclude=./backups --exclude=./.venv \
        --exclude=./.env --exclude=node_modules . | tar -xf - -C "$there"
    cp "$program" "$there/target/release/"
    cp "$litestream" "$machine/usr/bin/litestream"
    python3 scripts/doc-commands.py service "$machine/root/commands" >/dev/null
    # Editor for sudoedit that enters the values printed by the standby.
    cat >"$machine/root/editor" <<'END'
#!/bin/sh
sed -i -e 's#standby.lan:22#127.0.0.1:22#' \
    -e "s#ecdsa-sha2-nistp256 AAAA#$(cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ecdsa_key.pub)#" "$1"
END
    chmod 0755 "$machine/root/editor"
}

# Before the container boots, while it uses the network of this machine.
install_programs() {
    timeout 300 systemd-nspawn --quiet --directory="$machine" --register=no --keep-unit --pipe bash -c \
        'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            openssh-server openssh-client sudo' >target/service/standby.log 2>&1 8>&- </dev/null ||
        abort "apt-get: $(tail -n 3 target/service/standby.log)"
}

blocks=0
# run_next_block DESCRIPTION: runs the next block of commands.
run_next_block() {
    local script
    blocks=$((blocks + 1))
    script=$(cd "$machine/root/commands" && echo "standby-0$blocks"-*.sh)
    step "$script: $1"
    INSIDE_SECONDS=300 does "cd coffee-tracker && SUDO_EDITOR=/root/editor bash /root/commands/$script"
}

log_coffees() {
    local n
    for ((n = 0; n < $1; n++)); do
        does "curl -sf -o /dev/null -H \"Authorization: Bearer \$(cat /etc/coffee-tracker/api_key)\" -d '{\"caffeine_mg\":60}' 127.0.0.1:8000/coffee/"
    done
}

has_coffees() {
    local found
    found=$(inside "coffee-tracker sql --csv 'select count(*) from coffees' --database-url $state/coffee.db" | tail -n 1)
    [ "$found" = "$1" ] || fail_test "$1 coffees are stored" "$found"
}

[ -x "$program" ] || abort "$program does not exist; run \`make build\` first"
if ! litestream=$(scripts/litestream.sh)/bin/litestream; then
    step "skipped: Litestream is unavailable"
    exit 0
fi
prepare_machine
install_programs
copy_files
boot
run_next_block "which Litestream"
run_next_block "the standby is set up"
does 'systemctl enable --now coffee-tracker'
run_next_block "the Pi is set up"
does 'cp /etc/coffee-tracker/sftp_key.pub /etc/ssh/coffee-replica.pub'
log_coffees 20
within 40 'journalctl -u litestream --no-pager | grep "snapshot complete"'
verify_replica="litestream restore -o /root/replica.db file:///srv/coffee-replica/coffee && coffee-tracker verify /root/replica.db | grep '20 coffees'"
within 30 "rm -f /root/replica.db; $verify_replica"
run_next_block "a folder for the replicas of other people"
run_next_block "the replica is complete"

step "standby offline: the Pi keeps working, restarts and catches up"
does 'systemctl stop ssh'
log_coffees 1
does 'systemctl restart coffee-tracker'
log_coffees 1
does 'systemctl start ssh'
within 60 "rm -f /root/replica.db; ${verify_replica/20 coffees/22 coffees}"

step "failover"
does 'systemctl stop ssh'
log_coffees 3
does "systemctl disable -q litestream; systemctl kill --signal=KILL litestream coffee-tracker; systemctl stop litestream coffee-tracker
    mkdir -p $card && mv $state/coffee.db* $state/.coffee* $card"
run_next_block "the standby takes over"
has_coffees 22
run_next_block "the rest comes from the card"
has_coffees 25
does 'systemctl is-active coffee-tracker && systemctl is-enabled coffee-tracker coffee-tracker-backup.timer'
[ "$blocks" = "$(find "$machine/root/commands" -name 'standby-*.sh' | wc -l)" ] || fail_test "every block was run"
step "all tests passed"
