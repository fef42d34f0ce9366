#!/usr/bin/env bash
# Tests the service in a booted Debian container, installed with `make install` and as a package: SIGKILL, a hung
# process, successful and failed upgrades, no space for a backup, reboot, removal.
#
#   scripts/test-service.sh      test the release binary (as root; about 2 minutes)
#
# SUITE=bookworm: use this Debian release instead of trixie. Missing tools are installed with apt-get. The container
# has no network and is removed afterwards; this machine is not changed.
cd "$(dirname "$0")/.."
. scripts/machine.sh

program=${CARGO_TARGET_DIR:-target}/release/coffee-tracker
settings=/etc/coffee-tracker/coffee-tracker.env
state=/var/lib/coffee-tracker
output='' code=0 since=''

step() { printf 'service: %s\n' "$*"; }

fail_test() {
    printf 'FAIL: expected: %s\n' "$*" >&2
    printf '%s\n' "$output" | tail -n 40 | sed 's/^/    | /' >&2
    inside 'journalctl -u "coffee-tracker*" -n 20 --no-pager' >&2 || true
    exit 1
}
trap remove_machine EXIT
trap 'exit 130' INT TERM

# capture COMMAND: runs a command in the container; sets $output to its output and $code to its exit code.
capture() { output=$(inside "$1" 2>&1) && code=0 || code=$?; }
does() { capture "$1"; [ "$code" = 0 ] || fail_test "succeeds: $1 (exit code $code)"; }
fails() { capture "$1"; [ "$code" != 0 ] || fail_test "fails: $1"; }
has() { grep -qF -- "$1" <<<"$output" || fail_test "prints: $1"; }
has_not() { ! grep -qF -- "$1" <<<"$output" || fail_test "does not print: $1"; }
# is COMMAND TEXT: the command prints exactly this text.
is() { does "$1"; [ "$output" = "$2" ] || fail_test "$1 prints: $2"; }
# within SECONDS COMMAND: the command succeeds in time.
within() {
    local until=$((SECONDS + $1))
    while [ "$SECONDS" -le "$until" ]; do
        capture "$2"
        [ "$code" != 0 ] || return 0
        sleep 0.2
    done
    fail_test "succeeds within $1 s: $2"
}

# drop_in UNIT TEXT: overrides settings of a unit, for shorter delays; an empty text removes the override.
drop_in() {
    local folder=/run/systemd/system/$1.d
    does "rm -rf $folder && { [ -z '$2' ] || { mkdir -p $folder && printf '$2' >$folder/test.conf; }; } && systemctl daemon-reload"
}

request() { printf "curl --silent --max-time 5 --header \"Authorization: Bearer \$(cat /etc/coffee-tracker/api_key)\" '127.0.0.1:8000%s'" "$1"; }
log_coffee() { does "$(request /coffee/) --data '{\"caffeine_mg\": 95}'"; has '"caffeine_mg":95'; }
coffees() { inside "coffee-tracker --config $settings sql --csv 'select count(*) from coffees'" | tail -n 1; }
readings() { inside "coffee-tracker --config $settings sql --csv 'select count(*) from heart_rates'" | tail -n 1; }
has_readings() { [ "$(readings)" = "$1" ] || fail_test "$1 heart rates are stored (found $(readings))"; }
has_coffees() { [ "$(coffees)" = "$1" ] || fail_test "$1 coffees are stored (found $(coffees))"; }
pid() { inside 'systemctl show --property=MainPID --value coffee-tracker'; }
restarts() { inside 'systemctl show --property=NRestarts --value coffee-tracker'; }
is_active() { is 'systemctl is-active coffee-tracker' active; }
is_alive() { does "$(request /health)"; has '"status":"alive"'; }
# Prints the journal of the service and its helpers since the mark, with these options of journalctl.
mark() { since=$(inside "date '+%F %T.%6N'"); }
journal() { capture "journalctl --sync; journalctl --quiet --no-pager --output=cat --since='$since' -u 'coffee-tracker*' $1"; }
is_clean() {
    journal '-p warning'
    [ -z "$output" ] || fail_test "the journal has no warnings and no errors"
}

# -- Programs and packages ----------------------------------------------------------------

# Creates the good program and several that fail in different ways.
create_programs() {
    local folder=$machine/opt/programs
    mkdir -p "$folder"
    cp "$program" "$folder/good"
    # Another build of the same version.
    { cat "$program" && echo; } >"$folder/other"
    printf '#!/bin/sh\nexit 1\n' >"$folder/fails-always"
    # Works on a copy of the data, but not as a service.
    printf '#!/bin/sh\n[ -z "$NOTIFY_SOCKET" ] || { echo "cannot start" >&2; exit 1; }\nexec /opt/programs/good "$@"\n' >"$folder/fails-as-service"
    # Sets a schema version (user_version, at byte 60) that the previous program cannot read, then fails.
    cat >"$folder/breaks-schema" <<'END'
#!/bin/sh
if [ -n "$NOTIFY_SOCKET" ]; then
    printf '\0\0\0\143' | dd of=/var/lib/coffee-tracker/coffee.db bs=1 seek=60 conv=notrunc status=none
    echo "cannot continue" >&2
    exit 1
fi
[ "$1" = sql ] || exec /opt/programs/good "$@"
END
    chmod -R 0755 "$folder"
}

copy_checkout() {
    local there=$machine/root/coffee-tracker
    mkdir -p "$there/target/release" "$there/target/debian" "$machine/root/commands"
    tar -cf - --exclude=./.git --exclude=./target --exclude=./data --exclude=./backups --exclude=./.venv \
        --exclude=./.env --exclude=node_modules . | tar -xf - -C "$there"
    cp "$program" "$there/target/release/"
    cp -r target/deb "$there/target/manual"
    cp "$package" "$there/target/debian/"
    python3 scripts/doc-commands.py service "$machine/root/commands" >/dev/null
}

# build_package VERSION PROGRAM: builds a package of this version and program in /root.
build_package() { repack "$package" "$1" "$machine/root/$1.deb" "$machine/opt/programs/$2"; }

# run_documented KIND: runs every documented block of commands for this kind of machine.
run_documented() {
    local script
    for script in "$machine"/root/commands/"$1"-*.sh; do
        script=${script##*/}
        INSIDE_SECONDS=300 does "cd coffee-tracker && bash /root/commands/$script"
        step "    $script: $(grep -c "^printf '..%s" "$machine/root/commands/$script") commands"
        [ "$1" != bare ] || has_left_no_program "$script"
    done
}

has_left_no_program() {
    [ ! -e "$machine/usr/local/bin/coffee-tracker" ] && [ ! -e "$machine/usr/bin/coffee-tracker" ] || fail_test "$1 leaves no program"
    fails 'systemctl is-active coffee-tracker'
    does 'cd coffee-tracker && make uninstall PURGE=yes'
    has_left_nothing
}

# Asserts that no files and units are left. The user of a package stays, as Debian requires.
has_left_nothing() {
    capture "find /etc /usr /var -xdev -iname '*coffee*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -not -path '/var/lib/apt/*'"
    [ -z "$output" ] || fail_test "no files are left"
    capture "systemctl list-units --all --no-legend --plain 'coffee-tracker*'"
    [ -z "$output" ] || fail_test "systemd has no unit left"
}

# -- From a checkout ----------------------------------------------------------------------

with_make() {
    local make='cd coffee-tracker && make --no-print-directory'
    step "make install"
    does "$make install"
    has "installed, enabled, started and backed up; show the key with: sudo cat /etc/coffee-tracker/api_key"
    is_active
    does 'systemctl is-enabled coffee-tracker coffee-tracker-backup.timer coffee-tracker-verify.timer'
    does 'man --where coffee-tracker coffee-tracker-key-add && ls /usr/local/share/bash-completion/completions/coffee-tracker'
    log_coffee
    for verb in status health validate backup verify drill; do does "$make $verb"; done
    fails "$make install"
    has "sudo make upgrade"

    step "make upgrade: rejected programs change nothing"
    fails "BINARY=/opt/programs/fails-always; export BINARY; $make upgrade"
    has "does not run on this machine"
    fails "BINARY=/bin/true; export BINARY; $make upgrade"
    has "failed with a copy of the data; nothing was changed"
    does 'cmp /opt/programs/good /usr/local/bin/coffee-tracker'

    step "make upgrade: a program that does not start is rolled back"
    fails "BINARY=/opt/programs/fails-as-service; export BINARY; $make upgrade"
    has "the new program failed; restoring the previous one"
    does 'cmp /opt/programs/good /usr/local/bin/coffee-tracker'
    is_active
    has_coffees 1
    log_coffee

    step "make upgrade: a failed migration is rolled back with the backup"
    fails "BINARY=/opt/programs/breaks-schema; export BINARY; $make upgrade"
    has "the new program failed; restoring the previous one"
    has "restored $state/backups/coffee_"
    does "ls $state/coffee.db.broken-*"
    is_active
    has_coffees 2

    step "make upgrade, make rollback"
    does "BINARY=/opt/programs/other; export BINARY; $make upgrade"
    does 'cmp /opt/programs/other /usr/local/bin/coffee-tracker'
    log_coffee
    does "$make rollback"
    does 'cmp /opt/programs/good /usr/local/bin/coffee-tracker'
    is_active
    has_coffees 3

    step "make uninstall keeps the data; the package uses it"
    fails "apt-get install ./$(basename "$package")"
    has "make uninstall"
    does "$make uninstall"
    has "kept data and backups"
    does "apt-get install ./$(basename "$package")"
    is_active
    has_coffees 3
    fails "$make install"
    has "sudo apt remove coffee-tracker"
    does 'apt-get purge coffee-tracker'
    has_left_nothing
}

# -- The package --------------------------------------------------------------------------

first_install() {
    step "package: installed, running, sandboxed, ready"
    mark
    does "apt-get install ./$(basename "$package")"
    has_not "coffee-tracker cannot"
    has "coffee-tracker is running at http://kitchen:8000. Show the key: sudo cat /etc/coffee-tracker/api_key"
    # No retry: systemd reports the service ready only when it responds.
    is_alive
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
    is_sandboxed
    log_coffee
    # Clock and disk are those of this host.
    capture "coffee-tracker check --config $settings"
    for line in "API key .*strong [(]/etc/coffee-tracker/api_key[)]" "database .* is intact: " "backups .* can be restored" \
        "files .*private to their owner" "unit .*exposure 1.0"; do
        grep -qE "^OK: +$line" <<<"$output" || fail_test "check reports as OK: $line"
    done
    [ "$(grep -cE '^FAIL: +' <<<"$output")" = "$(grep -cE '^FAIL: +(clock|disk) ' <<<"$output")" ] || fail_test "check reports no problems except clock and disk"
    does "$(request /export/coffee)"
    is_clean
}

# Checks the sandbox settings of the unit on the process.
is_sandboxed() {
    local line
    does "cat /proc/$(pid)/status"
    for line in 'CapBnd: 0000000000000000' 'CapEff: 0000000000000000' 'NoNewPrivs: 1' 'Seccomp: 2'; do
        tr -s '\t ' ' ' <<<"$output" | grep -qx "$line" || fail_test "the process status contains: $line"
    done
    capture "nsenter --target $(pid) --mount sh -c 'touch /usr/x || touch /etc/x || touch /x || ls -A /root | grep .'"
    [ "$code" != 0 ] || fail_test "the process cannot write outside its folders or read home directories"
    capture "[ \$(readlink /proc/1/ns/user) != \$(readlink /proc/$(pid)/ns/user) ]"
    [ "$code" = 0 ] || fail_test "the process has its own user namespace"
    capture "tr '\\0' '\\n' </proc/$(pid)/environ | grep -F \$(cat /etc/coffee-tracker/api_key)"
    [ "$code" = 1 ] || fail_test "the key is not in the environment of the process"
    does 'systemd-analyze security --no-pager coffee-tracker'
    has 'Overall exposure level for coffee-tracker.service: 1.0 OK'
}

ready_only_when_it_responds() {
    step "ready only when it responds"
    for _ in 1 2 3 4 5; do
        does "systemctl restart coffee-tracker && $(request /health)"
    done
    # The port is in use.
    does 'systemctl stop coffee-tracker'
    does 'systemd-run --quiet --unit=port-user --collect systemd-socket-activate --listen=127.0.0.1:8000 /bin/sleep 1000'
    within 10 'systemctl is-active port-user'
    fails 'systemctl start coffee-tracker'
    does 'journalctl -u coffee-tracker -n 20 -p err -o cat'
    has "is already in use by another program"
    fails 'systemctl is-active coffee-tracker'
    does 'systemctl stop port-user'
    within 20 'systemctl is-active coffee-tracker'
    is_alive
    has_coffees 1
}

reloaded_without_restart() {
    local before
    step "systemctl reload applies the settings, and refuses invalid ones"
    before=$(pid)
    does "cp -p $settings /root/settings && printf 'BEDTIME=21:15\nSLOW_QUERY_MS=300\n' >>$settings"
    does 'systemctl reload coffee-tracker'
    within 10 'journalctl -u coffee-tracker -n 20 -o cat | grep -qF "settings reloaded: BEDTIME"'
    does 'journalctl -u coffee-tracker -n 20 -o cat'
    has 'restart the server to apply: SLOW_QUERY_MS'
    does "echo 'BEDTIME=late' >>$settings"
    fails 'systemctl reload coffee-tracker'
    does 'journalctl -u coffee-tracker -n 20 -o cat'
    has 'BEDTIME=late: '
    does "cp -p /root/settings $settings && systemctl reload coffee-tracker"
    within 10 'journalctl -u coffee-tracker -n 5 -o cat | grep -qF "settings reloaded: BEDTIME"'
    is 'systemctl show --property=ActiveState,SubState --value coffee-tracker | paste -sd " "' 'active running'
    is 'systemctl show --property=MainPID --value coffee-tracker' "$before"
    does "coffee-tracker healthcheck --config $settings"
    has 'is alive: Coffee Tracker'
}

killed_and_stuck() {
    local before
    step "SIGKILL: restarted"
    before=$(pid)
    log_coffee
    does "kill -KILL $before"
    within 20 "[ \$(systemctl show --property=MainPID --value coffee-tracker) != $before ] && systemctl is-active coffee-tracker"
    is_alive
    has_coffees 2
    [ "$(restarts)" -ge 1 ] || fail_test "systemd counts a restart"

    step "hung: the watchdog kills and restarts it"
    is 'systemctl show --property=WatchdogUSec --value coffee-tracker' 1min
    drop_in coffee-tracker.service '[Service]\nWatchdogSec=3\n'
    does 'systemctl restart coffee-tracker'
    before=$(pid)
    does "kill -STOP $before"
    within 40 "[ \$(systemctl show --property=MainPID --value coffee-tracker) != $before ] && systemctl is-active coffee-tracker"
    does 'journalctl -u coffee-tracker -n 30 -o cat'
    has 'Watchdog timeout'
    is_alive
    has_coffees 2
    drop_in coffee-tracker.service ''
    does 'systemctl restart coffee-tracker'
}

backups() {
    local stamp=/var/lib/systemd/timers/stamp-coffee-tracker-backup.timer
    step "the timer catches up after the machine was off"
    # After a boot it waits up to ten minutes.
    drop_in coffee-tracker-backup.timer '[Timer]\nRandomizedDelaySec=0\n'
    mark
    does "rm $state/backups/* && systemctl stop coffee-tracker-backup.timer && touch -d '3 days ago' $stamp && systemctl start coffee-tracker-backup.timer"
    within 20 "ls $state/backups/coffee_*.db && [ \$(systemctl show --property=ActiveState --value coffee-tracker-backup) = inactive ]"
    drop_in coffee-tracker-backup.timer ''
    does "coffee-tracker verify $state/backups/*.db && systemctl start coffee-tracker-verify"
    within 5 "$(request /health) | grep -F '\"backup\":{\"status\":\"ok\"'"
    is_clean

    step "the commands of a backup and of the check over HTTP run in the sandbox"
    does "$(request /backups) --request POST"
    has '"kind":"backup"'
    within 20 "$(request /jobs) | grep -F '\"state\":\"succeeded\"'"
    does "$(request /check) --max-time 30"
    has '"about":"database"'

    step "a failed backup is visible in systemctl --failed, /health and /metrics"
    does "chmod 500 $state/backups"
    fails 'systemctl start coffee-tracker-backup'
    does 'systemctl --failed --no-legend --plain'
    has coffee-tracker-backup.service
    within 10 "$(request /health) | grep -F '\"backup\":{\"status\":\"failed\"'"
    does "$(request /metrics)"
    has 'backup_last_result 0'
    journal '-p err'
    # The journal does not order lines of the same instant.
    [ "$(sort -r <<<"$output")" = "coffee-tracker: the folder $state/backups cannot be used: Permission denied (os error 13)
Failed to start coffee-tracker-backup.service - Coffee Tracker backup." ] || fail_test "the journal has only the errors of this backup"
    does "chmod 700 $state/backups && systemctl start coffee-tracker-backup"
    is 'systemctl --failed --no-legend --plain' ''
    within 10 "$(request /metrics) | grep -x 'backup_last_result 1'"
}

files_to_import() {
    local folder=/var/lib/coffee-tracker-import/owner unit=coffee-tracker-import@owner rows='timestamp,bpm\n2026-01-05T08:00:00Z,61\n'
    # imported FILE: the import of this file, and the run of the unit, have ended.
    imported() {
        within 30 "grep -q '^ok .* $1\$' $state/imported/owner && [ \$(systemctl show --property=ActiveState --value $unit) != activating ]"
    }
    step "files that appear in a folder are imported, also one that was there before"
    drop_in coffee-tracker-import@.service '[Service]\nEnvironment=SETTLE_SECONDS=1\n'
    does "systemctl disable --now $unit.path && mkdir -p $folder && printf '$rows' >$folder/before.csv"
    mark
    does "systemctl enable --now $unit.path && systemctl is-active $unit.timer"
    imported before.csv
    has_readings 1
    does "printf '${rows}2026-01-05T08:01:00Z,62\n' >$folder/.syncthing.next.csv.tmp && mv $folder/.syncthing.next.csv.tmp $folder/next.csv"
    imported next.csv
    has_readings 2
    does "stat -c '%a %U' $state/imported/owner"
    has '600 coffee-tracker'

    step "a file is imported again when it has changed, and once it is complete"
    does "touch $folder/before.csv"
    within 30 "journalctl --sync; journalctl --quiet -o cat --since='$since' -u $unit | grep -F 'before.csv: 0 coffees and 0 readings added, 1 duplicate skipped'"
    does "{ printf 'timestamp,bpm\n2026-01-06T08:00:00Z,1'; sleep 0.7; printf '20\n2026-01-06T08:01:00Z,7'; sleep 0.7; printf '1\n'; } >$folder/slow.csv"
    imported slow.csv
    has_readings 4
    is "coffee-tracker --config $settings sql --csv \"select group_concat(bpm) from (select bpm from heart_rates order by time desc limit 2)\" | tail -n 1" '"71,120"'
    is_clean

    step "a broken file is visible in systemctl --failed until it is removed, and does not stop others"
    mark
    does "echo hello >$folder/broken.csv"
    within 30 "systemctl is-failed $unit"
    does 'systemctl --failed --no-legend --plain'
    has "$unit.service"
    does "printf 'timestamp,bpm\n2026-01-07T08:00:00Z,63\n' >$folder/after.csv"
    imported after.csv
    has_readings 5
    journal ''
    [ "$(grep -c "importing $folder/broken.csv" <<<"$output")" = 1 ] || fail_test "a broken file is tried once"
    does "systemctl is-failed $unit && systemctl is-active $unit.path && rm $folder/broken.csv"
    within 30 "! systemctl is-failed $unit && systemctl is-active $unit.path"
    is 'systemctl --failed --no-legend --plain' ''
    # The folder is removed with the package only if it is empty.
    does "rm $folder/*.csv"
    within 30 "[ \$(systemctl show --property=ActiveState --value $unit) = inactive ]"
}

upgrades() {
    step "package upgrade: keeps settings and data, requires a backup"
    does 'echo "MAX_CAFFEINE_MG=900" >>/etc/coffee-tracker/coffee-tracker.env && sha256sum /etc/coffee-tracker/* >/root/before'
    does 'apt-get install ./2.0-1.deb'
    has_not "coffee-tracker:"
    does 'cmp /usr/bin/coffee-tracker /opt/programs/other && sha256sum --check --quiet /root/before'
    is_alive
    has_coffees 2
    does "ls $state/backups/coffee_*.db"
    does "mount -t tmpfs -o size=8k,uid=coffee-tracker,mode=700 full $state/backups"
    fails 'apt-get install ./2.0-2.deb'
    has "the backup before the upgrade failed (see above), so nothing was changed"
    does "cmp /usr/bin/coffee-tracker /opt/programs/other && umount $state/backups"
    is_active

    step "package upgrade: a program that does not start is rolled back"
    fails 'apt-get install ./2.0-2.deb'
    has "the new version did not start (see journalctl -u coffee-tracker), so 2.0-1"
    does 'cmp /usr/bin/coffee-tracker /opt/programs/other'
    is_active
    has_coffees 2
    log_coffee
    fails 'dpkg --configure coffee-tracker'
    is_active
    does 'cmp /usr/bin/coffee-tracker /opt/programs/other'

    step "package upgrade: a failed migration is rolled back with the backup"
    fails 'apt-get install ./2.0-3.deb'
    has "restored $state/backups/coffee_"
    does "cmp /usr/bin/coffee-tracker /opt/programs/other && ls $state/coffee.db.broken-*"
    is_active
    has_coffees 3

    step "package upgrade and downgrade"
    does 'apt-get install ./2.0-4.deb'
    does 'cmp /usr/bin/coffee-tracker /opt/programs/good'
    does 'apt-get install --allow-downgrades ./2.0-1.deb'
    does 'cmp /usr/bin/coffee-tracker /opt/programs/other && sha256sum --check --quiet /root/before'
    is "dpkg-query --show --showformat='\${db:Status-Status} \${Version}' coffee-tracker" 'installed 2.0-1'
    is_alive
    has_coffees 3
}

power_off() {
    step "reboot: started automatically"
    mark
    shut_down
    boot
    within 20 'systemctl is-active coffee-tracker'
    is_alive
    has_coffees 3
    journal ''
    has 'coffee-tracker.service: Deactivated successfully'
    is 'systemctl --failed --no-legend --plain' ''
    is_clean
}

removal() {
    step "apt remove keeps data; apt purge removes everything"
    does 'apt-get remove coffee-tracker'
    has "kept data and backups in $state"
    fails 'systemctl is-active coffee-tracker'
    does "ls $state/coffee.db $state/backups/*.db /etc/coffee-tracker/api_key && sha256sum --check --quiet /root/before"
    does 'apt-get install ./2.0-4.deb'
    has_coffees 3
    # The failed state is removed too.
    does "chmod 500 $state/backups"
    fails 'systemctl start coffee-tracker-backup'
    does 'apt-get purge coffee-tracker'
    has "removed the database, the backups in $state, the settings and the keys"
    has_left_nothing
}

[ -x "$program" ] || abort "$program does not exist; run \`make build\` first"
[ -n "${PACKAGE:-}" ] || scripts/deb.sh package
package=${PACKAGE:-$(ls -t target/debian/coffee-tracker_*_"$(dpkg --print-architecture)".deb | head -n 1)}
prepare_machine
create_programs
copy_checkout
cp "$package" "$machine/root/"
build_package 2.0-1 other
build_package 2.0-2 fails-as-service
build_package 2.0-3 breaks-schema
build_package 2.0-4 good
boot
step "booted: $(inside '. /etc/os-release; systemctl --version | sed -n "1s/ (.*//p"; echo "$PRETTY_NAME"' | paste -sd,)"
step "documented commands before the installation"
run_documented bare
with_make
first_install
ready_only_when_it_responds
reloaded_without_restart
killed_and_stuck
step "documented commands with the running service"
run_documented service
backups
files_to_import
upgrades
power_off
removal
step "all tests passed"
