# shellcheck shell=bash
# Debian container with systemd in a folder, without network access. Sourced by test-service.sh,
# test-standby.sh and test-apt.sh, which run commands in it with `inside`.
#
#   SUITE (trixie)        Debian release; the base system is created once in target/service/SUITE (as root, 300 MB)
#
#   prepare_machine       create a container; $machine is its root folder
#   boot, shut_down       one container at a time: they share a cgroup
#   inside COMMAND        run a command as root, at most INSIDE_SECONDS (120)
#   remove_machine        stop and remove the container
#
#   repack PACKAGE VERSION FILE [PROGRAM]     write a Debian package with another version, and another program, to FILE
set -euo pipefail

SUITE=${SUITE:-trixie}
PACKAGES=systemd,systemd-sysv,dbus,curl,make,man-db
machine='' pid1='' host_process='' new_groups=()
boot_log=target/service/boot.log

abort() {
    printf 'test-service: %s\n' "$*" >&2
    exit 1
}

# needs COMMAND PACKAGE
needs() {
    command -v "$1" >/dev/null && return
    timeout 300 apt-get update -qq
    DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends "$2" >/dev/null
}

make_base_system() {
    local base=target/service/$SUITE
    [ "$(cat "$base.complete" 2>/dev/null)" = "$PACKAGES" ] && return
    rm -rf "$base" "$base.complete"
    mkdir -p "$base"
    timeout 900 debootstrap --variant=minbase --include="$PACKAGES" "$SUITE" "$base" >"$base.log" 2>&1 ||
        abort "debootstrap: $(tail -n 3 "$base.log")"
    rm -f "$base"/var/cache/apt/archives/*.deb
    echo "$PACKAGES" >"$base.complete"
}

prepare_machine() {
    [ "$(id -u)" = 0 ] || abort "this requires root"
    needs debootstrap debootstrap
    needs systemd-nspawn systemd-container
    mkdir -p target/service
    # Another container may be running.
    exec 8>/run/lock/coffee-tracker-machine
    flock --wait 900 8 || abort "another test is using a container"
    make_base_system
    mapfile -t new_groups < <(groups_of_nspawn | while read -r group; do [ -d "$group" ] || echo "$group"; done)
    machine=$(mktemp -d "$PWD/target/service/machine.XXXXXX")
    cp -a --reflink=auto "target/service/$SUITE/." "$machine"
    echo kitchen >"$machine/etc/hostname"
    # No interactive questions.
    echo 'APT::Get::Assume-Yes "true";' >"$machine/etc/apt/apt.conf.d/90unattended"
}

inside() {
    timeout --kill-after=5 "${INSIDE_SECONDS:-120}" nsenter --target "$pid1" --mount --uts --ipc --net --pid --root --wd \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C.UTF-8 TERM=dumb \
        DEBIAN_FRONTEND=noninteractive bash -c "cd /root && $1" </dev/null 8>&-
}

# Prints the first child of a process; fails when there is none.
child_of() {
    local children
    read -ra children <"/proc/$1/task/$1/children" 2>/dev/null || true
    [ -n "${children[0]:-}" ] && printf '%s' "${children[0]}"
}

is_up() {
    pid1=$(child_of "$host_process") && INSIDE_SECONDS=20 inside 'systemctl is-system-running --wait' 2>/dev/null |
        grep -qxE 'running|degraded'
}

boot() {
    systemd-nspawn --directory="$machine" --boot --register=no --keep-unit --private-network --resolv-conf=off \
        --timezone=off --console=pipe >"$boot_log" 2>&1 8>&- </dev/null &
    host_process=$!
    for ((n = 0; n < 120; n++)); do
        kill -0 "$host_process" 2>/dev/null || abort "the container did not boot: $(tail -n 5 "$boot_log")"
        ! is_up || return 0
        sleep 0.5
    done
    abort "the container did not boot within a minute: $(tail -n 5 "$boot_log")"
}

# Shuts down as with the power button.
shut_down() {
    [ -n "$host_process" ] || return 0
    kill "$host_process" 2>/dev/null || true
    for ((n = 0; n < 300; n++)); do
        kill -0 "$host_process" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$host_process" 2>/dev/null || true
    wait "$host_process" 2>/dev/null || true
    host_process=
}

# Prints the cgroups that systemd-nspawn creates next to its own.
groups_of_nspawn() {
    local tree own
    for tree in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
        for own in payload supervisor; do
            printf '%s\n' "$tree/$own"
        done
    done
}

repack() {
    local folder
    folder=$(mktemp -d)
    dpkg-deb --raw-extract "$1" "$folder/package"
    sed -i "s/^Version: .*/Version: $2/" "$folder/package/DEBIAN/control"
    [ -z "${4:-}" ] || cp "$4" "$folder/package/usr/bin/coffee-tracker"
    dpkg-deb --root-owner-group -Znone --build "$folder/package" "$3" >/dev/null
    rm -rf "$folder"
}

remove_machine() {
    local group
    shut_down
    [ -z "$machine" ] || rm -rf "$machine"
    # systemd-nspawn leaves empty cgroups.
    for group in "${new_groups[@]}"; do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}
