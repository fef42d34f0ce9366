#!/usr/bin/env bash
# Builds the disk and the kernel of the emulated Pi: a Debian 12 for arm64 with systemd, in target/pi.
#
#   scripts/pi/image.sh      as root; about 5 minutes, at once when this file has not changed since the last build
#
#   target/pi/disk.img       ext4 without partitions, 2 GB, sparse
#   target/pi/vmlinuz        Debian's kernel, with its modules on the disk
#   target/pi/initrd.img     mounts the disk
#
# The configuration of the packages runs arm64 programs under qemu-aarch64-static, in a user namespace with a
# binfmt_misc of its own: nothing is registered on this machine. Exits with 75 when that is impossible here.
set -euo pipefail
cd "$(dirname "$0")/../.."

SUITE=bookworm
PACKAGES=systemd,systemd-sysv,dbus,curl,kmod,udev,iproute2,procps,sqlite3,busybox-static,linux-image-arm64
# Read from the disk by udev and systemd, or loaded by the initrd.
MODULES="virtio_mmio virtio_blk crc32c_generic ext4 virtio_net virtio-rng rtc-pl031 autofs4 af_packet"
pi=target/pi
root=$PWD/$pi/root
recipe=$(sha256sum scripts/pi/image.sh | cut -d ' ' -f 1)

say() { printf 'image: %s\n' "$*"; }

# give_up CODE MESSAGE
give_up() {
    printf 'image: %s\n' "$2" >&2
    exit "$1"
}

# Downloads and unpacks the packages; configures none.
unpack_packages() {
    # Without a network, the test is skipped.
    timeout 600 debootstrap --arch=arm64 --foreign --variant=minbase --include="$PACKAGES" "$SUITE" "$root" \
        >"$pi/debootstrap.log" 2>&1 || give_up 75 "debootstrap: $(tail -n 3 "$pi/debootstrap.log")"
}

# Leaves the kernel unconfigured, because its scripts would build an initrd for minutes.
take_kernel() {
    local kernel=$PWD/$pi/kernel
    tr ' ' '\n' <"$root/debootstrap/base" | grep -vE '^(linux-.*|initramfs-tools.*|klibc-utils|libklibc)?$' |
        paste -sd ' ' >"$pi/base"
    mv "$pi/base" "$root/debootstrap/base"
    rm -rf "$kernel"
    dpkg-deb -x "$root"/var/cache/apt/archives/linux-image-[0-9]*.deb "$kernel"
    cp "$kernel"/boot/vmlinuz-* "$pi/vmlinuz"
}

# Configures the packages.
configure_packages() {
    # mknod and sysfs are refused in a user namespace.
    sed -i 's/^check_sane_mount *() *{/&\n\treturn 0/' "$root/debootstrap/functions"
    make_device null 1 3
    make_device zero 1 5
    make_device full 1 7
    make_device random 1 8
    make_device urandom 1 9
    make_device tty 5 0
    make_device console 5 1
    # A link to the host's, where debootstrap finds itself in a container.
    rm -rf "$root/proc"
    mkdir "$root/proc"
    in_namespace "$root" "$(command -v qemu-aarch64-static)" >"$pi/configure.log" 2>&1 || {
        [ $? != 75 ] || give_up 75 "this machine has no user namespaces with binfmt_misc (Linux 6.7 or newer)"
        give_up 1 "configuring the packages failed: see $pi/configure.log"
    }
}

# in_namespace ROOT EMULATOR: runs the second stage of debootstrap. The users of the namespace are those of this
# machine, which `unshare` could only map with the package uidmap.
in_namespace() {
    local process
    rm -f "$pi/gate"
    mkfifo "$pi/gate"
    # shellcheck disable=SC2016 # variables of the inner shell
    unshare --user --mount --pid --fork --kill-child bash -c 'read -r _ <"$1" && shift && exec bash -euo pipefail -c "$@"' \
        wait "$pi/gate" '
            mount -t proc proc /proc
            mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc || exit 75
            magic="\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
            mask="\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
            printf %s ":qemu-aarch64:M::$magic:$mask:$2:FP" >/proc/sys/fs/binfmt_misc/register || exit 75
            exec timeout 900 chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
                DEBIAN_FRONTEND=noninteractive /debootstrap/debootstrap --second-stage
        ' configure "$1" "$2" &
    process=$!
    while [ "$(readlink "/proc/$process/ns/user")" = "$(readlink /proc/self/ns/user)" ]; do
        sleep 0.1
    done
    # Without user namespaces, nobody would read from the gate.
    kill -0 "$process" 2>/dev/null || return 75
    echo '0 0 65536' >"/proc/$process/uid_map"
    echo '0 0 65536' >"/proc/$process/gid_map"
    echo >"$pi/gate"
    rm "$pi/gate"
    wait "$process"
}

# make_device NAME MAJOR MINOR
make_device() { [ -e "$root/dev/$1" ] || mknod -m 666 "$root/dev/$1" c "$2" "$3"; }

# Files of the modules, each after those that it needs.
module_files() {
    local name
    for name in $MODULES; do
        modprobe --dirname "$PWD/$pi/kernel" --set-version "$(ls "$pi/kernel/lib/modules")" --show-depends "$name"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++'
}

copy_modules() {
    local version file
    version=$(ls "$pi/kernel/lib/modules")
    depmod --basedir "$pi/kernel" "$version"
    module_files >"$pi/modules"
    while read -r file; do
        install -D -m 644 "$file" "$root/usr/lib/${file#*/kernel/lib/}"
    done <"$pi/modules"
    cp "$pi/kernel/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$root/usr/lib/modules/$version/"
    depmod --basedir "$root" "$version"
}

make_initrd() {
    local initrd=$PWD/$pi/initrd file
    rm -rf "$initrd"
    mkdir -p "$initrd"/{bin,dev,proc,root,modules}
    cp "$root/bin/busybox" "$initrd/bin/"
    {
        printf '#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\n/bin/busybox mount -t proc proc /proc\n'
        while read -r file; do
            cp "$file" "$initrd/modules/"
            printf '/bin/busybox insmod /modules/%s\n' "${file##*/}"
        done <"$pi/modules"
        cat <<'INIT'
until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 -o ro /dev/vda /root || exec /bin/busybox sh
/bin/busybox umount /proc
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
INIT
    } >"$initrd/init"
    chmod 755 "$initrd/init"
    (cd "$initrd" && find . -print0 | cpio --quiet --null --create --format=newc) | gzip -1 >"$pi/initrd.img"
}

write_settings() {
    echo kitchen >"$root/etc/hostname"
    printf '127.0.0.1 localhost kitchen\n::1 localhost kitchen\n' >"$root/etc/hosts"
    echo 'c0ffee00c0ffee00c0ffee00c0ffee00' >"$root/etc/machine-id"
    # As Raspberry Pi OS mounts it.
    echo '/dev/vda / ext4 defaults,noatime 0 1' >"$root/etc/fstab"
    printf '[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n' \
        >"$root/etc/systemd/network/eth0.network"
    printf 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n' >"$root/etc/apt/apt.conf.d/90unattended"
    mkdir -p "$root/var/log/journal"
    rm -f "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*_* "$root/etc/resolv.conf"
    shorten_boot
    ln -sf /lib/systemd/system/systemd-networkd.service "$root/etc/systemd/system/multi-user.target.wants/"
}

# Leaves out what takes half of the emulated boot and concerns neither the service nor its files.
shorten_boot() {
    local unit coldplug=$root/etc/systemd/system/systemd-udev-trigger.service.d
    for unit in systemd-networkd-wait-online systemd-logind e2scrub_reap serial-getty@ttyAMA0 getty@tty1; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
    done
    mkdir -p "$coldplug"
    printf '[Service]\nExecStart=\nExecStart=-udevadm trigger --action=add %s\n' \
        "--subsystem-match=block --subsystem-match=net --subsystem-match=rtc" >"$coldplug/few.conf"
}

# A shell on port 2222 that runs one script for each connection: a line of base64, answered with the output of the
# script and a last line with its exit code.
write_shell() {
    cat >"$root/usr/local/sbin/run-script" <<'SCRIPT'
#!/bin/bash
read -r encoded
(
    eval "$(base64 --decode <<<"$encoded")"
) </dev/null 2>&1
printf '\nexit code %s\n' $?
SCRIPT
    chmod 755 "$root/usr/local/sbin/run-script"
    cat >"$root/etc/systemd/system/test-shell.socket" <<'UNIT'
[Unit]
Description=Shell of the test

[Socket]
ListenStream=2222
Accept=yes
UNIT
    cat >"$root/etc/systemd/system/test-shell@.service" <<'UNIT'
[Unit]
Description=Shell of the test
CollectMode=inactive-or-failed

[Service]
ExecStart=/usr/local/sbin/run-script
StandardInput=socket
StandardOutput=socket
StandardError=journal
KillMode=process
WorkingDirectory=/root
Environment=HOME=/root LC_ALL=C.UTF-8 TERM=dumb DEBIAN_FRONTEND=noninteractive
UNIT
    mkdir -p "$root/etc/systemd/system/sockets.target.wants"
    ln -sf /etc/systemd/system/test-shell.socket "$root/etc/systemd/system/sockets.target.wants/test-shell.socket"
}

make_disk() {
    rm -f "$pi/disk.img"
    truncate -s 2G "$pi/disk.img"
    mkfs.ext4 -q -L pi -E lazy_itable_init=0,lazy_journal_init=0 -d "$root" "$pi/disk.img"
}

[ "$(cat "$pi/recipe" 2>/dev/null)" != "$recipe" ] || exit 0
[ "$(id -u)" = 0 ] || give_up 75 "this requires root"
rm -rf "$root" "$pi/recipe"
mkdir -p "$pi"
say "downloading Debian $SUITE for arm64"
unpack_packages
take_kernel
say "configuring its packages"
configure_packages
copy_modules
make_initrd
write_settings
write_shell
make_disk
rm -rf "$root" "$pi/kernel" "$pi/initrd"
echo "$recipe" >"$pi/recipe"
say "built $pi/disk.img ($(du -h "$pi/disk.img" | cut -f 1)) and $pi/vmlinuz in $SECONDS s"
