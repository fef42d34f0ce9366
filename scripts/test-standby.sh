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

broken() {
    printf 'FAIL: %s\n' "$1" >&2
    printf '%s\n' "${2:-}" | tail -n 40 | sed 's/^/    | /' >&2
    inside 'journalctl -u litestream -u coffee-tracker -n 20 --no-pager' >&2 || true
    exit 1
}
trap remove_machine EXIT
trap 'exit 130' INT TERM

does() {
    local said
    said=$(inside "$1" 2>&1) || broken "succeeds: $1" "$said"
}

within() {
    local until=$((SECONDS + $1))
    until inside "$2" >/dev/null 2>&1; do
        [ "$SECONDS" -le "$until" ] || broken "succeeds within $1 s: $2"
        sleep 0.2
    done
}

lay_files() {
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

# Before the machine boots, while it has this one's network.
install_programs() {
    timeout 300 systemd-nspawn --quiet --directory="$machine" --register=no --keep-unit --pipe bash -c \
        'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            openssh-server openssh-client sudo' >target/service/standby.log 2>&1 8>&- </dev/null ||
        abort "apt-get: $(tail -n 3 target/service/standby.log)"
}

blocks=0
# types DESCRIPTION: runs the next block of commands.
types() {
    local script
    blocks=$((blocks + 1))
    script=$(cd "$machine/root/commands" && echo "standby-0$blocks"-*.sh)
    step "$script: $1"
    INSIDE_SECONDS=300 does "cd coffee-tracker && SUDO_EDITOR=/root/editor bash /root/commands/$script"
}

logs_coffees() {
    local n
    for ((n = 0; n < $1; n++)); do
        does "curl -sf -o /dev/null -H \"Authorization: Bearer \$(cat /etc/coffee-tracker/api_key)\" -d '{\"caffeine_mg\":60}' 127.0.0.1:8000/coffee/"
    done
}

holds() {
    local found
    found=$(inside "coffee-tracker sql --csv 'select count(*) from coffees' --database-url $state/coffee.db" | tail -n 1)
    [ "$found" = "$1" ] || broken "it holds $1 coffees" "$found"
}

[ -x "$program" ] || abort "$program does not exist; run \`make build\` first"
if ! litestream=$(scripts/litestream.sh)/bin/litestream; then
    step "skipped: Litestream is unavailable"
    exit 0
fi
prepare_machine
install_programs
lay_files
boot
types "which Litestream"
types "the standby is set up"
does 'systemctl enable --now coffee-tracker'
types "the Pi is set up"
does 'cp /etc/coffee-tracker/sftp_key.pub /etc/ssh/coffee-replica.pub'
logs_coffees 20
within 40 'journalctl -u litestream --no-pager | grep "snapshot complete"'
arrived="litestream restore -o /root/there.db file:///srv/coffee-replica/coffee && coffee-tracker verify /root/there.db | grep '20 coffees'"
within 30 "rm -f /root/there.db; $arrived"
types "it arrives"

step "standby offline: the Pi keeps working, restarts and catches up"
does 'systemctl stop ssh'
logs_coffees 1
does 'systemctl restart coffee-tracker'
logs_coffees 1
does 'systemctl start ssh'
within 60 "rm -f /root/there.db; ${arrived/20 coffees/22 coffees}"

step "failover"
does 'systemctl stop ssh'
logs_coffees 3
does "systemctl disable -q litestream; systemctl kill --signal=KILL litestream coffee-tracker; systemctl stop litestream coffee-tracker
    mkdir -p $card && mv $state/coffee.db* $state/.coffee* $card"
types "the standby takes over"
holds 22
types "the rest comes from the card"
holds 25
does 'systemctl is-active coffee-tracker && systemctl is-enabled coffee-tracker coffee-tracker-backup.timer'
[ "$blocks" = "$(find "$machine/root/commands" -name 'standby-*.sh' | wc -l)" ] || broken "every block was run"
step "all tests passed"
