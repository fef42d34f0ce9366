#!/usr/bin/env bash
# The service as it lives on a Pi: a Debian of its own is booted, the program is installed there by
# `make install` and as a package, and everything is done to it that happens to a service within ten
# years: killed, stuck, upgraded well and badly, without room for a backup, restarted, removed.
#
#   scripts/test-service.sh      of the release binary (as root; some two minutes)
#
# SUITE=bookworm: another Debian than trixie. What is missing here is installed with apt-get. The machine
# has a network of its own, without anything in it, and is gone afterwards: nothing of this one is touched.
cd "$(dirname "$0")/.."
. scripts/machine.sh

program=${CARGO_TARGET_DIR:-target}/release/coffee-tracker
settings=/etc/coffee-tracker/coffee-tracker.env
state=/var/lib/coffee-tracker
said='' code=0 since=''

step() { printf 'service: %s\n' "$*"; }

broken() {
    printf 'FAIL: %s\n' "$*" >&2
    printf '%s\n' "$said" | tail -n 40 | sed 's/^/    | /' >&2
    inside 'journalctl -u "coffee-tracker*" -n 20 --no-pager' >&2 || true
    exit 1
}
trap remove_machine EXIT
trap 'exit 130' INT TERM

# gets COMMAND: runs it there; its words are in $said, its exit code in $code.
gets() { said=$(inside "$1" 2>&1) && code=0 || code=$?; }
does() { gets "$1"; [ "$code" = 0 ] || broken "this goes well: $1 (it ended with $code)"; }
fails() { gets "$1"; [ "$code" != 0 ] || broken "this fails: $1"; }
has() { grep -qF -- "$1" <<<"$said" || broken "it says: $1"; }
has_not() { ! grep -qF -- "$1" <<<"$said" || broken "it does not say: $1"; }
# is COMMAND TEXT: what it says is exactly this.
is() { does "$1"; [ "$said" = "$2" ] || broken "$1 says: $2"; }
# within SECONDS COMMAND: it goes well before long.
within() {
    local until=$((SECONDS + $1))
    while [ "$SECONDS" -le "$until" ]; do
        gets "$2"
        [ "$code" != 0 ] || return 0
        sleep 0.2
    done
    broken "within $1 s this goes well: $2"
}

# drop_in UNIT TEXT: what would take long takes short; without a text, as before.
drop_in() {
    local folder=/run/systemd/system/$1.d
    does "rm -rf $folder && { [ -z '$2' ] || { mkdir -p $folder && printf '$2' >$folder/test.conf; }; } && systemctl daemon-reload"
}

ask() { printf "curl --silent --max-time 5 --header \"Authorization: Bearer \$(cat /etc/coffee-tracker/api_key)\" '127.0.0.1:8000%s'" "$1"; }
log_coffee() { does "$(ask /coffee/) --data '{\"caffeine_mg\": 95}'"; has '"caffeine_mg":95'; }
coffees() { inside "coffee-tracker --config $settings sql --csv 'select count(*) from coffees'" | tail -n 1; }
holds() { [ "$(coffees)" = "$1" ] || broken "$1 coffees are stored, not $(coffees)"; }
pid() { inside 'systemctl show --property=MainPID --value coffee-tracker'; }
restarts() { inside 'systemctl show --property=NRestarts --value coffee-tracker'; }
is_active() { is 'systemctl is-active coffee-tracker' active; }
answers() { does "$(ask /health)"; has '"status":"alive"'; }
# What the journal has of the service and its helpers since the mark, in these words of journalctl's.
mark() { since=$(inside "date '+%F %T.%6N'"); }
journal() { gets "journalctl --sync; journalctl --quiet --no-pager --output=cat --since='$since' -u 'coffee-tracker*' $1"; }
is_clean() {
    journal '-p warning'
    [ -z "$said" ] || broken "the journal has no warnings and no errors"
}

# -- What is installed --------------------------------------------------------------------

# programs FOLDER: upgrades that go wrong, each in its way, beside the good one.
lay_programs() {
    local folder=$machine/opt/programs
    mkdir -p "$folder"
    cp "$program" "$folder/good"
    # Another build of the same.
    { cat "$program" && echo; } >"$folder/other"
    printf '#!/bin/sh\nexit 1\n' >"$folder/dead"
    # Well by hand, where it is tried on a copy, but not as a service.
    printf '#!/bin/sh\n[ -z "$NOTIFY_SOCKET" ] || { echo "no, I do not" >&2; exit 1; }\nexec /opt/programs/good "$@"\n' >"$folder/mute"
    # Moves the schema (user_version, at byte 60) beyond what the one before can read, then fails.
    cat >"$folder/mover" <<'END'
#!/bin/sh
if [ -n "$NOTIFY_SOCKET" ]; then
    printf '\0\0\0\143' | dd of=/var/lib/coffee-tracker/coffee.db bs=1 seek=60 conv=notrunc status=none
    echo "I cannot go on" >&2
    exit 1
fi
[ "$1" = sql ] || exec /opt/programs/good "$@"
END
    chmod -R 0755 "$folder"
}

lay_checkout() {
    local there=$machine/root/coffee-tracker
    mkdir -p "$there/target/release" "$there/target/debian" "$machine/root/commands"
    tar -cf - --exclude=./.git --exclude=./target --exclude=./data --exclude=./backups --exclude=./.venv \
        --exclude=./.env --exclude=node_modules . | tar -xf - -C "$there"
    cp "$program" "$there/target/release/"
    cp -r target/deb "$there/target/manual"
    cp "$package" "$there/target/debian/"
    python3 scripts/doc-commands.py service "$machine/root/commands" >/dev/null
}

# a_package VERSION PROGRAM: the package with another version and program, in /root.
a_package() {
    local draft=$machine/root/draft
    rm -rf "$draft"
    dpkg-deb --raw-extract "$package" "$draft"
    sed -i "s/^Version: .*/Version: $1/" "$draft/DEBIAN/control"
    cp "$machine/opt/programs/$2" "$draft/usr/bin/coffee-tracker"
    dpkg-deb --root-owner-group -Znone --build "$draft" "$machine/root/$1.deb" >/dev/null
    rm -rf "$draft"
}

# run_documented KIND: every block of commands of the documents for such a machine.
run_documented() {
    local script
    for script in "$machine"/root/commands/"$1"-*.sh; do
        script=${script##*/}
        INSIDE_SECONDS=300 does "cd coffee-tracker && bash /root/commands/$script"
        step "    $script: $(grep -c "^printf '..%s" "$machine/root/commands/$script") commands"
        [ "$1" != bare ] || is_bare "$script"
    done
}

is_bare() {
    [ ! -e "$machine/usr/local/bin/coffee-tracker" ] && [ ! -e "$machine/usr/bin/coffee-tracker" ] || broken "$1 leaves no program"
    fails 'systemctl is-active coffee-tracker'
    does 'cd coffee-tracker && make uninstall PURGE=yes'
    left_nowhere
}

# Neither files nor units; the user of a package stays, as Debian wants it.
left_nowhere() {
    gets "find /etc /usr /var -xdev -iname '*coffee*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/lib/apt/*'"
    [ -z "$said" ] || broken "nothing is left"
    gets "systemctl list-units --all --no-legend --plain 'coffee-tracker*'"
    [ -z "$said" ] || broken "systemd knows no unit of it"
}

# -- From a checkout ----------------------------------------------------------------------

with_make() {
    local make='cd coffee-tracker && make --no-print-directory'
    step "make install"
    does "$make install"
    has "installed, enabled, started and backed up; the key: sudo cat /etc/coffee-tracker/api_key"
    is_active
    does 'systemctl is-enabled coffee-tracker coffee-tracker-backup.timer coffee-tracker-verify.timer'
    does 'man --where coffee-tracker coffee-tracker-key-add && ls /usr/local/share/bash-completion/completions/coffee-tracker'
    log_coffee
    for verb in status health validate backup verify drill; do does "$make $verb"; done
    fails "$make install"
    has "sudo make upgrade"

    step "make upgrade, of what must not be there: nothing is changed"
    fails "BINARY=/opt/programs/dead; export BINARY; $make upgrade"
    has "does not run on this machine"
    fails "BINARY=/bin/true; export BINARY; $make upgrade"
    has "does not do well with a copy of the data: nothing was changed"
    does 'cmp /opt/programs/good /usr/local/bin/coffee-tracker'

    step "make upgrade, of what does not come up: the one before is back"
    fails "BINARY=/opt/programs/mute; export BINARY; $make upgrade"
    has "The new program does not do well: the one before comes back."
    does 'cmp /opt/programs/good /usr/local/bin/coffee-tracker'
    is_active
    holds 1
    log_coffee

    step "make upgrade, of what moves the schema and fails: the backup is back too"
    fails "BINARY=/opt/programs/mover; export BINARY; $make upgrade"
    has "The new program does not do well: the one before comes back."
    has "restored $state/backups/coffee_"
    does "ls $state/coffee.db.broken-*"
    is_active
    holds 2

    step "make upgrade and back by hand"
    does "BINARY=/opt/programs/other; export BINARY; $make upgrade"
    does 'cmp /opt/programs/other /usr/local/bin/coffee-tracker'
    log_coffee
    does "$make rollback"
    does 'cmp /opt/programs/good /usr/local/bin/coffee-tracker'
    is_active
    holds 3

    step "make uninstall keeps what was logged; the package goes on with it"
    fails "apt-get install ./$(basename "$package")"
    has "make uninstall"
    does "$make uninstall"
    has "data and backups stay"
    does "apt-get install ./$(basename "$package")"
    is_active
    holds 3
    fails "$make install"
    has "sudo apt remove coffee-tracker"
    does 'apt-get purge coffee-tracker'
    left_nowhere
}

# -- The package --------------------------------------------------------------------------

first_install() {
    step "the package: installed, it runs, shut in and ready"
    mark
    does "apt-get install ./$(basename "$package")"
    has_not "coffee-tracker cannot"
    has "coffee-tracker is running at http://kitchen:8000. Show the key: sudo cat /etc/coffee-tracker/api_key"
    # No second try: it is ready when systemd says so.
    answers
    is_active
    is 'systemctl is-enabled coffee-tracker coffee-tracker-backup.timer coffee-tracker-verify.timer' "$(printf 'enabled\nenabled\nenabled')"
    is "stat -c '%a %U %n' /etc/coffee-tracker /etc/coffee-tracker/* $state $state/backups $state/coffee.db" "750 root /etc/coffee-tracker
600 root /etc/coffee-tracker/api_key
640 root $settings
700 coffee-tracker $state
700 coffee-tracker $state/backups
600 coffee-tracker $state/coffee.db"
    is 'wc -c </etc/coffee-tracker/api_key' 48
    does 'man --where coffee-tracker coffee-tracker-key-add'
    does 'dpkg --verify coffee-tracker'
    is 'systemd-analyze verify /usr/lib/systemd/system/coffee-tracker*' ''
    is_shut_in
    log_coffee
    # The clock is this host's, and so is the disk.
    gets "coffee-tracker check --config $settings"
    for line in "API key .*strong [(]/etc/coffee-tracker/api_key[)]" "database .* is intact: " "backups .* can be restored" \
        "files .*private to their owner" "unit .*exposure 1.0"; do
        grep -qE "^OK: +$line" <<<"$said" || broken "check finds good: $line"
    done
    [ "$(grep -cE '^FAIL: +' <<<"$said")" = "$(grep -cE '^FAIL: +(clock|disk) ' <<<"$said")" ] || broken "check finds nothing to do but for the clock and the disk"
    does "$(ask /export/coffee)"
    is_clean
}

# What the unit promises holds of the process.
is_shut_in() {
    local line
    does "cat /proc/$(pid)/status"
    for line in 'CapBnd: 0000000000000000' 'CapEff: 0000000000000000' 'NoNewPrivs: 1' 'Seccomp: 2'; do
        tr -s '\t ' ' ' <<<"$said" | grep -qx "$line" || broken "its process has: $line"
    done
    gets "nsenter --target $(pid) --mount sh -c 'touch /usr/x || touch /etc/x || touch /x || ls -A /root | grep .'"
    [ "$code" != 0 ] || broken "it can write nowhere and looks into nobody's home"
    gets "[ \$(readlink /proc/1/ns/user) != \$(readlink /proc/$(pid)/ns/user) ]"
    [ "$code" = 0 ] || broken "it has users of its own"
    gets "tr '\\0' '\\n' </proc/$(pid)/environ | grep -F \$(cat /etc/coffee-tracker/api_key)"
    [ "$code" = 1 ] || broken "the key is not in its environment"
    does 'systemd-analyze security --no-pager coffee-tracker'
    has 'Overall exposure level for coffee-tracker.service: 1.0 OK'
}

ready_only_when_it_answers() {
    step "ready only when it answers"
    for _ in 1 2 3 4 5; do
        does "systemctl restart coffee-tracker && $(ask /health)"
    done
    # Somebody has its port.
    does 'systemctl stop coffee-tracker'
    does 'systemd-run --quiet --unit=squatter --collect systemd-socket-activate --listen=127.0.0.1:8000 /bin/sleep 1000'
    within 10 'systemctl is-active squatter'
    fails 'systemctl start coffee-tracker'
    does 'journalctl -u coffee-tracker -n 20 -p err -o cat'
    has "is already in use by another program"
    fails 'systemctl is-active coffee-tracker'
    does 'systemctl stop squatter'
    within 20 'systemctl is-active coffee-tracker'
    answers
    holds 1
}

killed_and_stuck() {
    local before
    step "kill -9: it is started again"
    before=$(pid)
    log_coffee
    does "kill -KILL $before"
    within 20 "[ \$(systemctl show --property=MainPID --value coffee-tracker) != $before ] && systemctl is-active coffee-tracker"
    answers
    holds 2
    [ "$(restarts)" -ge 1 ] || broken "systemd counts a restart"

    step "stuck: the watchdog ends it, and it is started again"
    is 'systemctl show --property=WatchdogUSec --value coffee-tracker' 1min
    drop_in coffee-tracker.service '[Service]\nWatchdogSec=3\n'
    does 'systemctl restart coffee-tracker'
    before=$(pid)
    does "kill -STOP $before"
    within 40 "[ \$(systemctl show --property=MainPID --value coffee-tracker) != $before ] && systemctl is-active coffee-tracker"
    does 'journalctl -u coffee-tracker -n 30 -o cat'
    has 'Watchdog timeout'
    answers
    holds 2
    drop_in coffee-tracker.service ''
    does 'systemctl restart coffee-tracker'
}

backups() {
    local stamp=/var/lib/systemd/timers/stamp-coffee-tracker-backup.timer
    step "the timer makes up for the nights that the machine was off"
    # After a boot it waits up to ten minutes for others.
    drop_in coffee-tracker-backup.timer '[Timer]\nRandomizedDelaySec=0\n'
    mark
    does "rm $state/backups/* && systemctl stop coffee-tracker-backup.timer && touch -d '3 days ago' $stamp && systemctl start coffee-tracker-backup.timer"
    within 20 "ls $state/backups/coffee_*.db && [ \$(systemctl show --property=ActiveState --value coffee-tracker-backup) = inactive ]"
    drop_in coffee-tracker-backup.timer ''
    does "coffee-tracker verify $state/backups/*.db && systemctl start coffee-tracker-verify"
    within 5 "$(ask /health) | grep -F '\"backup\":{\"status\":\"ok\"'"
    is_clean

    step "a backup that fails is seen: systemctl --failed, /health, /metrics"
    does "chmod 500 $state/backups"
    fails 'systemctl start coffee-tracker-backup'
    does 'systemctl --failed --no-legend --plain'
    has coffee-tracker-backup.service
    within 10 "$(ask /health) | grep -F '\"backup\":{\"status\":\"failed\"'"
    does "$(ask /metrics)"
    has 'backup_last_result 0'
    journal '-p err'
    # Within one moment the journal has no order.
    [ "$(sort -r <<<"$said")" = "coffee-tracker: the folder $state/backups cannot be used: Permission denied (os error 13)
Failed to start coffee-tracker-backup.service - Coffee Tracker backup." ] || broken "the journal's errors are those of this backup alone"
    does "chmod 700 $state/backups && systemctl start coffee-tracker-backup"
    is 'systemctl --failed --no-legend --plain' ''
    within 10 "$(ask /metrics) | grep -x 'backup_last_result 1'"
}

upgrades() {
    step "the package's upgrade keeps everything; one without a backup does not begin"
    does 'echo "MAX_CAFFEINE_MG=900" >>/etc/coffee-tracker/coffee-tracker.env && sha256sum /etc/coffee-tracker/* >/root/before'
    does 'apt-get install ./2.0-1.deb'
    has_not "coffee-tracker:"
    does 'cmp /usr/bin/coffee-tracker /opt/programs/other && sha256sum --check --quiet /root/before'
    answers
    holds 2
    does "ls $state/backups/coffee_*.db"
    does "mount -t tmpfs -o size=8k,uid=coffee-tracker,mode=700 full $state/backups"
    fails 'apt-get install ./2.0-2.deb'
    has "the backup before the upgrade failed (see above), so nothing was changed"
    does "cmp /usr/bin/coffee-tracker /opt/programs/other && umount $state/backups"
    is_active

    step "an upgrade that does not come up: the program before is back"
    fails 'apt-get install ./2.0-2.deb'
    has "the new version did not start (see journalctl -u coffee-tracker), so 2.0-1"
    does 'cmp /usr/bin/coffee-tracker /opt/programs/other'
    is_active
    holds 2
    log_coffee
    fails 'dpkg --configure coffee-tracker'
    is_active
    does 'cmp /usr/bin/coffee-tracker /opt/programs/other'

    step "an upgrade that moves the schema and fails: the backup is back too"
    fails 'apt-get install ./2.0-3.deb'
    has "restored $state/backups/coffee_"
    does "cmp /usr/bin/coffee-tracker /opt/programs/other && ls $state/coffee.db.broken-*"
    is_active
    holds 3

    step "a good one after that, and the one before it by hand"
    does 'apt-get install ./2.0-4.deb'
    does 'cmp /usr/bin/coffee-tracker /opt/programs/good'
    does 'apt-get install --allow-downgrades ./2.0-1.deb'
    does 'cmp /usr/bin/coffee-tracker /opt/programs/other && sha256sum --check --quiet /root/before'
    is "dpkg-query --show --showformat='\${db:Status-Status} \${Version}' coffee-tracker" 'installed 2.0-1'
    answers
    holds 3
}

power_off() {
    step "the machine is switched off and on: it runs by itself"
    mark
    shut_down
    boot
    within 20 'systemctl is-active coffee-tracker'
    answers
    holds 3
    journal ''
    has 'coffee-tracker.service: Deactivated successfully'
    is 'systemctl --failed --no-legend --plain' ''
    is_clean
}

leaves() {
    step "removed, its data stay; purged, nothing does"
    does 'apt-get remove coffee-tracker'
    has "kept data and backups in $state"
    fails 'systemctl is-active coffee-tracker'
    does "ls $state/coffee.db $state/backups/*.db /etc/coffee-tracker/api_key && sha256sum --check --quiet /root/before"
    does 'apt-get install ./2.0-4.deb'
    holds 3
    # What has failed is forgotten too.
    does "chmod 500 $state/backups"
    fails 'systemctl start coffee-tracker-backup'
    does 'apt-get purge coffee-tracker'
    has "removed the database, the backups in $state, the settings and the keys"
    left_nowhere
}

[ -x "$program" ] || give_up "$program is not there: \`make build\` first"
[ -n "${PACKAGE:-}" ] || scripts/deb.sh package
package=${PACKAGE:-$(ls -t target/debian/coffee-tracker_*_"$(dpkg --print-architecture)".deb | head -n 1)}
prepare_machine
lay_programs
lay_checkout
cp "$package" "$machine/root/"
a_package 2.0-1 other
a_package 2.0-2 mute
a_package 2.0-3 mover
a_package 2.0-4 good
boot
step "booted: $(inside '. /etc/os-release; systemctl --version | sed -n "1s/ (.*//p"; echo "$PRETTY_NAME"' | paste -sd,)"
step "what the documents say to type where nothing is installed"
run_documented bare
with_make
first_install
ready_only_when_it_answers
killed_and_stuck
step "what the documents say to type where the service runs"
run_documented service
backups
upgrades
power_off
leaves
step "all as it should be"
