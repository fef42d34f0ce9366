#!/usr/bin/env bash
# Installs the built program as a systemd service, and upgrades or removes it.
#
#   scripts/install.sh install|upgrade|rollback|uninstall
#
# PREFIX (/usr/local): the program is installed in PREFIX/bin.
# DESTDIR: install into this folder for packaging; no key is created and nothing is started.
# BINARY: install another program than the one that `make build` builds.
# FILE: the backup that `rollback` restores when the previous program cannot read the database.
# FORCE=yes: `rollback` returns to a program that serves one person only, although others were added.
# PURGE=yes: `uninstall` also removes data, backups, settings, key and user.
# Manual pages and completions are installed when `make manual` has built them.
#
# An upgrade is tested on a copy of the data first. When it fails later, the previous program and units are
# restored, and so is the initial backup of each person whose schema has changed. The database of the failed version is
# kept as coffee.db.broken-TIME.
new=$(realpath -m "${BINARY:-${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/release/coffee-tracker}")
unset BINARY
cd "$(dirname "$0")/.."
. scripts/where.sh

root=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}
installed=$root$prefix/bin/coffee-tracker
previous=$installed.previous
saved=$root$prefix/lib/coffee-tracker
units=$root/etc/systemd/system
share=$root$prefix/share
manual=target/manual
settings=$root$settings_file
key=$root$credential
state=$root/var/lib/coffee-tracker
import_folders=$root/var/lib/coffee-tracker-import

# -- Parts --------------------------------------------------------------------------------

needs_root() {
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail 1 "this requires root: sudo make $verb"
}

# The Debian package uses the same unit, data and settings.
needs_no_package() {
    [ -z "$root" ] && [ "$(dpkg-query --show --showformat='${db:Status-Status}' coffee-tracker 2>/dev/null)" = installed ] || return 0
    fail 1 "the Debian package coffee-tracker is installed; upgrade it with apt, or first run \`sudo apt remove coffee-tracker\`, which keeps data, backups, settings and key"
}

# Succeeds when units can be started: systemd runs and DESTDIR is not set.
is_live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# Prints source and target of every file except the program.
placements() {
    local file
    [ -f coffee-tracker.service ] || fail 1 "coffee-tracker.service is missing; run this in a complete checkout"
    for file in coffee-tracker.service deploy/coffee-tracker-*.service deploy/coffee-tracker-*.timer deploy/coffee-tracker-*.path; do
        [ ! -f "$file" ] || printf '%s %s\n' "$file" "$units/${file##*/}"
    done
    [ ! -f deploy/import-folder ] || printf '%s %s\n' deploy/import-folder "$saved/import-folder"
    for file in deploy/sysusers.d/*.conf deploy/tmpfiles.d/*.conf; do
        [ ! -f "$file" ] || printf '%s %s\n' "$file" "$root/etc/${file#deploy/}"
    done
    for file in "$manual"/man/*.1; do
        [ ! -f "$file" ] || printf '%s %s\n' "$file" "$share/man/man1/${file##*/}"
    done
    [ ! -f "$manual/bash" ] || cat <<END
$manual/bash $share/bash-completion/completions/coffee-tracker
$manual/fish $share/fish/vendor_completions.d/coffee-tracker.fish
$manual/zsh $share/zsh/site-functions/_coffee-tracker
END
}

timers() { placements | sed -n 's#.*/\(coffee-tracker-[a-z]*\.timer\)$#\1#p'; }

# place MODE SOURCE TARGET: installs a file atomically.
place() {
    mkdir -p "${3%/*}"
    install -m "$1" "$2" "$3.new"
    mv -f "$3.new" "$3"
}

place_files() {
    local source target temporary mode
    temporary=$(mktemp)
    placements | while read -r source target; do
        sed -e "s#/usr/bin/coffee-tracker#$prefix/bin/coffee-tracker#g" -e "s#/usr/lib/coffee-tracker#$prefix/lib/coffee-tracker#g" \
            "$source" >"$temporary"
        mode=0644
        [ ! -x "$source" ] || mode=0755
        place "$mode" "$temporary" "$target"
    done
    rm -f "$temporary"
}

make_user() {
    if command -v systemd-sysusers >/dev/null && [ -f /etc/sysusers.d/coffee-tracker.conf ]; then
        systemd-sysusers /etc/sysusers.d/coffee-tracker.conf
    elif ! id coffee-tracker >/dev/null 2>&1; then
        useradd --system --home-dir /var/lib/coffee-tracker --shell /usr/sbin/nologin coffee-tracker
    fi
}

# make_once MODE FILE: creates a file from standard input unless it exists.
make_once() {
    local temporary
    temporary=$(mktemp "$2.XXXXXX")
    cat >"$temporary"
    chmod "$1" "$temporary"
    ln "$temporary" "$2" 2>/dev/null || true
    rm -f "$temporary"
}

make_settings() {
    mkdir -p "${settings%/*}" "$state/backups"
    chmod 0700 "$state" "$state/backups"
    service_settings | make_once 0640 "$settings"
    chmod 0640 "$settings"
    # A staged tree may be copied to many machines. Each creates its own key at the first start.
    [ -z "$root" ] || return 0
    od -An -N24 -tx1 /dev/urandom | tr -d ' ' | tr -d '\n' | make_once 0600 "$key"
    chmod 0600 "$key"
    chown root:coffee-tracker "${settings%/*}" "$settings"
    chmod 0750 "${settings%/*}"
    chown coffee-tracker:coffee-tracker "$state" "$state/backups"
}

check_new() {
    [ -x "$new" ] || fail 1 "$new does not exist; build it with \`make build\` (without root)"
    "$new" --version >/dev/null || fail 1 "$new does not run on this machine; nothing was changed"
}

# installed_tracker PROGRAM ARGUMENT…: runs a program with the database and settings of the installation.
installed_tracker() {
    local program=$1
    shift
    if [ -z "$root" ] && [ "$mode" = service ]; then
        binary=$program tracker "$@"
    else
        DATABASE_URL=$state/coffee.db BACKUP_DIR=$state/backups "$program" "$@"
    fi
}

live_database() {
    if [ -z "$root" ] && [ "$mode" = service ]; then database; else printf '%s' "$state/coffee.db"; fi
}

# other NAME: prints the name unless it is the owner's.
other() { [ "$1" = owner ] || printf '%s' "$1"; }

# of_person NAME: prints the options that select a person other than the owner; older programs have no --person.
of_person() { [ "$1" = owner ] || printf '%s %s' --person "$1"; }

# readable_by PROGRAM [PERSON]: succeeds when the program can read the database; otherwise prints the reason.
readable_by() {
    # shellcheck disable=SC2046 # names have no spaces
    { installed_tracker "$1" sql 'select 1' $(of_person "${2:-owner}") >/dev/null; } 2>&1
}

# Prints the people other than the owner, separated by spaces.
others() {
    local folder names=()
    for folder in "$(dirname "$(live_database)")"/people/*/; do
        [ ! -d "$folder" ] || names+=("$(basename "$folder")")
    done
    printf '%s' "${names[*]}"
}

serves_several() { "$1" person --help >/dev/null 2>&1; }

# restore_unreadable: restores the backups before the upgrade of those whose databases the installed program cannot read.
restore_unreadable() {
    local person backup
    [ -f "$saved/backups" ] || return 0
    while read -r person backup; do
        [ "$person" = owner ] || serves_several "$installed" || continue
        # shellcheck disable=SC2046 # names have no spaces
        readable_by "$installed" "$person" >/dev/null </dev/null ||
            installed_tracker "$installed" restore "$backup" --replace --yes $(of_person "$person") </dev/null
    done <"$saved/backups"
}

starts_and_responds() {
    is_live || return 0
    systemctl daemon-reload && systemctl restart "$unit" || return 1
    for ((n = 0; n < 20; n++)); do
        if scripts/service.sh health >/dev/null 2>&1; then
            scripts/service.sh validate
            return
        fi
        sleep 0.5
    done
    scripts/service.sh health
}

# -- Commands --------------------------------------------------------------------------------

install_all() {
    check_new
    [ ! -e "$installed" ] || [ -n "$root" ] || fail 1 "$installed already exists; run sudo make upgrade"
    place_files
    place 0755 "$new" "$installed"
    [ -n "$root" ] || make_user
    make_settings
    if [ -n "$root" ]; then
        say "installed in $root: $prefix/bin/coffee-tracker, its units, $settings_file; nothing was started. The service creates an API key at its first start, in /var/lib/coffee-tracker/coffee.key."
        return
    elif ! is_live; then
        say "installed: $prefix/bin/coffee-tracker, its units, $settings_file, $credential; nothing was started."
        return
    fi
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    # shellcheck disable=SC2046 # names of units have no spaces
    systemctl enable --quiet --now $(timers)
    scripts/service.sh up || { journalctl --unit="$unit" --lines=10 --no-pager >&2; exit 1; }
    scripts/service.sh health >/dev/null
    systemctl start coffee-tracker-backup.service || fail 1 "the service runs, but the backup failed; see journalctl -u coffee-tracker-backup"
    say "installed, enabled, started and backed up; show the key with: sudo cat $credential"
}

# Saves the installed program and units for a rollback.
remember_installed() {
    local target existing=()
    mkdir -p "$saved"
    place 0755 "$installed" "$previous"
    while read -r _ target; do
        [ ! -f "$target" ] || existing+=("${target#"$root"/}")
    done < <(placements)
    tar -C "${root:-/}" -cf "$saved/units.tar.new" "${existing[@]}"
    mv -f "$saved/units.tar.new" "$saved/units.tar"
}

# Swaps the installed program and units with the saved ones.
swap_versions() {
    local copy
    copy=$(mktemp -d)
    cp -p "$previous" "$copy/previous"
    cp -p "$saved/units.tar" "$copy/units.tar"
    remember_installed
    place 0755 "$copy/previous" "$installed"
    tar -C "${root:-/}" -xf "$copy/units.tar"
    rm -rf "$copy"
}

upgrade() {
    local reason backups='' person backup
    check_new
    [ -x "$installed" ] || fail 1 "$installed does not exist; run \`sudo make install\` first"
    if [ -f "$(live_database)" ]; then
        reason=$(readable_by "$installed") || fail 1 "$reason"$'\n'"nothing was changed"
        # Older programs print no person.
        backups=$(installed_tracker "$installed" backup --json | sed -n -e 's/^{"path":/{"person":"owner","path":/' \
            -e 's/^{"person":"\([^"]*\)","path":"\([^"]*\)".*/\1 \2/p') || fail 1 "the backup failed; nothing was changed"
        [ -n "$backups" ] || fail 1 "the backup failed; nothing was changed"
        while read -r person backup; do
            say "backup: $backup"
            BINARY=$new FILE=$backup PERSON=$(other "$person") scripts/drill.sh </dev/null ||
                fail 1 "the new program failed with a copy of the data; nothing was changed"
        done <<<"$backups"
    fi
    remember_installed
    printf '%s' "${backups:+$backups$'\n'}" >"$saved/backups"
    place_files
    place 0755 "$new" "$installed"
    if starts_and_responds; then
        say "upgraded to $("$installed" --version); to return to the previous version: sudo make rollback"
        return
    fi
    say "the new program failed; restoring the previous one" >&2
    undo_upgrade
    exit 1
}

undo_upgrade() {
    ! is_live || systemctl stop "$unit" || true
    swap_versions
    restore_unreadable
    # The failed version must not be a rollback target.
    rm -f "$previous" "$saved/units.tar"
    if starts_and_responds; then
        say "restored $("$installed" --version)" >&2
    else
        say "restored $("$installed" --version), which does not respond either; see \`make logs\`" >&2
    fi
}

rollback() {
    local reason person people left=''
    [ -x "$previous" ] || fail 1 "there is no previous program ($previous)"
    people=$(others)
    if [ -n "$people" ] && ! serves_several "$previous"; then
        left="left behind: ${people// /, } (data in $(dirname "$(live_database)")/people, backups in their folders): $("$previous" --version) serves the owner only"
        [ "${FORCE:-}" = yes ] || fail 1 "$left. Their keys would stop working; nothing would be deleted, and an upgrade would bring them back."$'\n'"to go back anyway: sudo make rollback FORCE=yes${FILE:+ FILE=$FILE}"
        people=''
    fi
    for person in owner $people; do
        [ -f "$(live_database)" ] && [ -z "${FILE:-}" ] || break
        # A damaged database of one person does not prevent a rollback.
        reason=$(readable_by "$previous" "$person") || { [ "$person" != owner ] && ! readable_by "$installed" "$person" >/dev/null; } ||
            fail 1 "$("$previous" --version) cannot read the database$([ "$person" = owner ] || echo " of $person"): $reason"$'\n'"to restore with it the backups before the upgrade: sudo make rollback${left:+ FORCE=yes} FILE=$(sed -n 's/^owner //p' "$saved/backups")"
    done
    ! is_live || systemctl stop "$unit"
    swap_versions
    if [ -n "${FILE:-}" ]; then
        installed_tracker "$installed" restore "$(realpath "$FILE")" --replace --yes
        restore_unreadable
    fi
    [ -z "$left" ] || say "$left"
    starts_and_responds || fail 1 "restored $("$installed" --version), which does not respond; see \`make logs\`"
    if [ -n "${FILE:-}" ]; then
        say "restored $("$installed" --version) and $FILE"
    else
        say "restored $("$installed" --version); to undo this, run \`sudo make rollback\` again"
    fi
}

uninstall() {
    local target
    if is_live && [ -f "$units/$unit" ]; then
        # shellcheck disable=SC2046 # names of units have no spaces
        systemctl disable --quiet --now "$unit" $(timers) || true
        systemctl stop --quiet 'coffee-tracker-import@*' || true
        rm -f "$units"/*.wants/coffee-tracker-import@*
    fi
    while read -r _ target; do
        rm -f "$target"
    done < <(placements)
    # `make manual` or `make clean` may have run since the installation.
    rm -f "$share/man/man1/coffee-tracker.1" "$share"/man/man1/coffee-tracker-*.1 \
        "$share/bash-completion/completions/coffee-tracker" "$share/fish/vendor_completions.d/coffee-tracker.fish" \
        "$share/zsh/site-functions/_coffee-tracker"
    rm -rf "$installed" "$previous" "$saved"
    if is_live; then
        systemctl daemon-reload
        # systemd keeps the state of failed units otherwise.
        systemctl reset-failed 'coffee-tracker*' 2>/dev/null || true
    fi
    if [ "${PURGE:-}" != yes ]; then
        say "removed; kept data and backups in $state, settings and key in ${settings%/*} (PURGE=yes removes them too)"
        return
    fi
    rm -rf "$state" "${settings%/*}"
    rm -f "$root"/var/lib/systemd/timers/stamp-coffee-tracker-*.timer
    # Folders of files to import are kept: a program that synchronizes them would delete the files on the phone, too.
    rmdir "$import_folders"/* "$import_folders" 2>/dev/null || true
    if [ -z "$root" ] && id coffee-tracker >/dev/null 2>&1; then
        userdel coffee-tracker
    fi
    say "removed, including data, backups, settings, key and user"
}

verb=${1:-}
case $verb in
    install | upgrade | rollback | uninstall) ;;
    *) fail 2 "usage: $(sed -n 's/^#   //p' "$0")" ;;
esac
needs_root
needs_no_package
case $verb in
    install) install_all ;;
    *) "$verb" ;;
esac
