#!/usr/bin/env bash
# Tests docs/SCALING.md on three machines behind HAProxy, with 60 people who write all the time: moves ten of them back and
# forth, undoes a move, kills a machine, and restores its people on another one from the object store. Prints figures.
#
#   scripts/test-cluster.sh                          test the release binary (as root; about 8 minutes)
#   COFFEE_TRACKER=path scripts/test-cluster.sh      test this binary
#   PEOPLE=60 MOVED=10 INTERVAL=3                    people, how many of them are moved (0: none), seconds between writes
#
# The machines are network, mount and process namespaces on a bridge of their own, with sshd, Litestream and the real
# program. Nothing outside of them is changed, except that missing Debian packages are installed. moto stands in for the
# object store. Skipped, with a message, when a program is unavailable. See scripts/cluster.py.
cd "$(dirname "$0")/.."
COFFEE_TRACKER=$(realpath "${COFFEE_TRACKER:-${CARGO_TARGET_DIR:-target}/release/coffee-tracker}")
[ -x "$COFFEE_TRACKER" ] || { echo "$COFFEE_TRACKER does not exist; run \`make build\` first" >&2; exit 1; }
[ "$(id -u)" = 0 ] || { echo "test-cluster: this requires root" >&2; exit 1; }
export COFFEE_TRACKER
. scripts/tools.sh

for program in haproxy:haproxy sshd:openssh-server ssh:openssh-client ip:iproute2 socat:socat rclone:rclone; do
    if ! installed_unstarted "${program%:*}" "${program#*:}"; then
        echo "test-cluster: skipped: ${program%:*} is unavailable"
        exit 0
    fi
done
if ! litestream=$(scripts/litestream.sh) || ! moto=$(scripts/moto.sh); then
    echo "test-cluster: skipped: Litestream or moto is unavailable"
    exit 0
fi
# The proxy, the object store and the clients use this namespace; it ends with the script.
PATH=$PATH:/usr/sbin LITESTREAM=$litestream/bin/litestream MOTO=$moto/bin/moto_server \
    unshare --net --mount --propagation private python3 scripts/cluster.py "$work" &
started+=($!)
wait $!
