#!/usr/bin/env bash
# Puts the built program on this machine as a service under systemd, and takes it away again.
#
#   scripts/install.sh install|upgrade|rollback|uninstall
#
# PREFIX (/usr/local): the program goes to PREFIX/bin. DESTDIR: everything but a key goes below this folder
# and nothing is started, for packages. BINARY: another program than the one `make build` makes.
# FILE: the backup that `rollback` restores when the older program cannot read the database.
# PURGE=yes: `uninstall` takes data, backups, settings, key and user with it. Manual pages and completions
# go along when `make manual` has made them.
#
# An upgrade is tried on a copy first. When it fails afterwards, the program before it comes back, with
# its units, and, if the schema has moved, the backup made at the beginning; the database that the
# failed one left is kept beside it as coffee.db.broken-TIME.
new=$(realpath -m "${BINARY:-${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/release/coffee-tracker}")
unset BINARY
cd "$(dirname "$0")/.."
. scripts/where.sh

root=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}
installed=$root$prefix/bin/coffee-tracker
previous=$installed.previous
memory=$root$prefix/lib/coffee-tracker
units=$root/etc/systemd/system
share=$root$prefix/share
manual=target/manual
settings=$root$settings_file
key=$root$credential
state=$root/var/lib/coffee-tracker

# -- Parts --------------------------------------------------------------------------------

needs_root() {
    [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail 1 "This changes the machine: sudo make $verb"
}

# Its unit, data and settings are the same ones.
needs_no_package() {
    [ -z "$root" ] && [ "$(dpkg-query --show --showformat='${db:Status-Status}' coffee-tracker 2>/dev/null)" = installed ] || return 0
    fail 1 "The package coffee-tracker is installed, which apt upgrades and removes. \`sudo apt remove coffee-tracker\` comes first: data, backups, settings and key stay."
}

# Is systemd there to be spoken to?
is_live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# Every file but the program: where from, where to.
placements() {
    local file
    [ -f coffee-tracker.service ] || fail 1 "coffee-tracker.service is not here: this is no whole checkout."
    for file in coffee-tracker.service deploy/coffee-tracker-*.service deploy/coffee-tracker-*.timer; do
        [ ! -f "$file" ] || printf '%s %s\n' "$file" "$units/${file##*/}"
    done
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

# place MODE SOURCE TARGET: whole or not at all.
place() {
    mkdir -p "${3%/*}"
    install -m "$1" "$2" "$3.new"
    mv -f "$3.new" "$3"
}

place_files() {
    local source target draft
    draft=$(mktemp)
    placements | while read -r source target; do
        sed "s#/usr/bin/coffee-tracker#$prefix/bin/coffee-tracker#g" "$source" >"$draft"
        place 0644 "$draft" "$target"
    done
    rm -f "$draft"
}

make_user() {
    if command -v systemd-sysusers >/dev/null && [ -f /etc/sysusers.d/coffee-tracker.conf ]; then
        systemd-sysusers /etc/sysusers.d/coffee-tracker.conf
    elif ! id coffee-tracker >/dev/null 2>&1; then
        useradd --system --home-dir /var/lib/coffee-tracker --shell /usr/sbin/nologin coffee-tracker
    fi
}

# make_once MODE FILE: from standard input, unless it is there.
make_once() {
    local draft
    draft=$(mktemp "$2.XXXXXX")
    cat >"$draft"
    chmod "$1" "$draft"
    ln "$draft" "$2" 2>/dev/null || true
    rm -f "$draft"
}

make_settings() {
    mkdir -p "${settings%/*}" "$state/backups"
    chmod 0700 "$state" "$state/backups"
    service_settings | make_once 0640 "$settings"
    chmod 0640 "$settings"
    # A staged tree may be copied to many machines: each makes a key of its own at its first start.
    [ -z "$root" ] || return 0
    od -An -N24 -tx1 /dev/urandom | tr -d ' ' | tr -d '\n' | make_once 0600 "$key"
    chmod 0600 "$key"
    chown root:coffee-tracker "${settings%/*}" "$settings"
    chmod 0750 "${settings%/*}"
    chown coffee-tracker:coffee-tracker "$state" "$state/backups"
}

check_new() {
    [ -x "$new" ] || fail 1 "$new is not there: build it first, with \`make build\` (it needs no root)."
    "$new" --version >/dev/null || fail 1 "$new does not run on this machine: nothing was changed."
}

# installed_tracker PROGRAM ARGUMENT…: on the files of what is installed.
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

# readable_by PROGRAM: can it read the database, or is that newer (or damaged)? Says why not.
readable_by() { { installed_tracker "$1" sql 'select 1' >/dev/null; } 2>&1; }

has_come_up() {
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

# -- Verbs --------------------------------------------------------------------------------

install_all() {
    check_new
    [ ! -e "$installed" ] || [ -n "$root" ] || fail 1 "$installed is there already: sudo make upgrade"
    place_files
    place 0755 "$new" "$installed"
    [ -n "$root" ] || make_user
    make_settings
    if [ -n "$root" ]; then
        say "installed below $root: $prefix/bin/coffee-tracker, its units, $settings_file; nothing was started. There is no API key in it: the first start of the service makes one, in /var/lib/coffee-tracker/coffee.key."
        return
    elif ! is_live; then
        say "installed below /: $prefix/bin/coffee-tracker, its units, $settings_file, $credential; nothing was started."
        return
    fi
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    # shellcheck disable=SC2046 # names of units have no spaces
    systemctl enable --quiet --now $(timers)
    scripts/service.sh up || { journalctl --unit="$unit" --lines=10 --no-pager >&2; exit 1; }
    scripts/service.sh health >/dev/null
    systemctl start coffee-tracker-backup.service || fail 1 "It runs, but cannot back up: journalctl -u coffee-tracker-backup"
    say "installed, enabled, started and backed up; the key: sudo cat $credential"
}

# Keeps what is installed, so that it can come back.
remember_installed() {
    local target held=()
    mkdir -p "$memory"
    place 0755 "$installed" "$previous"
    while read -r _ target; do
        [ ! -f "$target" ] || held+=("${target#"$root"/}")
    done < <(placements)
    tar -C "${root:-/}" -cf "$memory/units.tar.new" "${held[@]}"
    mv -f "$memory/units.tar.new" "$memory/units.tar"
}

# The program before and its units, in the place of what is there, which becomes the one before.
exchange() {
    local ours
    ours=$(mktemp -d)
    cp -p "$previous" "$ours/previous"
    cp -p "$memory/units.tar" "$ours/units.tar"
    remember_installed
    place 0755 "$ours/previous" "$installed"
    tar -C "${root:-/}" -xf "$ours/units.tar"
    rm -rf "$ours"
}

upgrade() {
    local why backup=''
    check_new
    [ -x "$installed" ] || fail 1 "$installed is not there: \`sudo make install\` comes first."
    if [ -f "$(live_database)" ]; then
        why=$(readable_by "$installed") || fail 1 "$why"$'\n'"Nothing was changed."
        backup=$(installed_tracker "$installed" backup --json | sed -n 's/^{"path":"\([^"]*\)".*/\1/p')
        [ -n "$backup" ] || fail 1 "There is no backup, so nothing was changed."
        say "backup: $backup"
        BINARY=$new FILE=$backup scripts/drill.sh || fail 1 "The new program does not do well with a copy of the data: nothing was changed."
    fi
    remember_installed
    printf '%s\n' "$backup" >"$memory/backup"
    place_files
    place 0755 "$new" "$installed"
    if has_come_up; then
        say "upgraded to $("$installed" --version); the one before is kept: sudo make rollback"
        return
    fi
    say "The new program does not do well: the one before comes back." >&2
    take_back "$backup"
    exit 1
}

# take_back BACKUP: as it was before the upgrade.
take_back() {
    ! is_live || systemctl stop "$unit" || true
    exchange
    if [ -n "$1" ] && ! readable_by "$installed" >/dev/null; then
        installed_tracker "$installed" restore "$1" --replace --yes
    fi
    # Nobody wants to go back to the one that failed.
    rm -f "$previous" "$memory/units.tar"
    if has_come_up; then
        say "$("$installed" --version) is back." >&2
    else
        say "$("$installed" --version) is back, but does not answer either: \`make logs\` says why." >&2
    fi
}

rollback() {
    local why
    [ -x "$previous" ] || fail 1 "There is no program to go back to ($previous)."
    if [ -f "$(live_database)" ] && ! why=$(readable_by "$previous") && [ -z "${FILE:-}" ]; then
        fail 1 "$("$previous" --version) cannot read the database: $why"$'\n'"To go back to a backup with it: sudo make rollback FILE=$(cat "$memory/backup")"
    fi
    ! is_live || systemctl stop "$unit"
    exchange
    [ -z "${FILE:-}" ] || installed_tracker "$installed" restore "$(realpath "$FILE")" --replace --yes
    has_come_up || fail 1 "$("$installed" --version) is back, but does not answer: \`make logs\` says why."
    if [ -n "${FILE:-}" ]; then
        say "$("$installed" --version) is back, with $FILE."
    else
        say "$("$installed" --version) is back; \`sudo make rollback\` again undoes that."
    fi
}

uninstall() {
    local target
    if is_live && [ -f "$units/$unit" ]; then
        # shellcheck disable=SC2046 # names of units have no spaces
        systemctl disable --quiet --now "$unit" $(timers) || true
    fi
    while read -r _ target; do
        rm -f "$target"
    done < <(placements)
    # The manual may have been made since, or cleaned away.
    rm -f "$share/man/man1/coffee-tracker.1" "$share"/man/man1/coffee-tracker-*.1 \
        "$share/bash-completion/completions/coffee-tracker" "$share/fish/vendor_completions.d/coffee-tracker.fish" \
        "$share/zsh/site-functions/_coffee-tracker"
    rm -rf "$installed" "$previous" "$memory"
    if is_live; then
        systemctl daemon-reload
        # A unit that had failed would be remembered.
        systemctl reset-failed 'coffee-tracker*' 2>/dev/null || true
    fi
    if [ "${PURGE:-}" != yes ]; then
        say "removed; data and backups stay in $state, settings and key in ${settings%/*} (PURGE=yes removes them too)."
        return
    fi
    rm -rf "$state" "${settings%/*}"
    rm -f "$root"/var/lib/systemd/timers/stamp-coffee-tracker-*.timer
    if [ -z "$root" ] && id coffee-tracker >/dev/null 2>&1; then
        userdel coffee-tracker
    fi
    say "removed, with data, backups, settings, key and user."
}

verb=${1:-}
case $verb in
    install | upgrade | rollback | uninstall) ;;
    *) fail 2 "What? $(sed -n 's/^#   //p' "$0")" ;;
esac
needs_root
needs_no_package
case $verb in
    install) install_all ;;
    *) "$verb" ;;
esac
