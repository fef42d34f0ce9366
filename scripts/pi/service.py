"""Tests the package and its units on the emulated Pi: what scripts/test-service.sh tests in a container on the host.

Left out, as they do not depend on the architecture: `make install` and `make upgrade`, the documented commands, the
port in use, a full disk, failed migrations. Each function is one step; they run in the order of run.py.
"""

import json
import time
import urllib.error
import urllib.request

from machine import TestFailure, has

SETTINGS = "/etc/coffee-tracker/coffee-tracker.env"
STATE = "/var/lib/coffee-tracker"
SANDBOX = ["CapBnd: 0000000000000000", "CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2"]
ENABLED = "enabled\nenabled\nenabled"
UNITS = "coffee-tracker coffee-tracker-backup.timer coffee-tracker-verify.timer"
# The clock of a Pi that was off for years, or whose last time was lost.
PAST = "2020-02-29T12:00:00"


# -- Helpers ------------------------------------------------------------------------------


def log_coffee(pi, mg=95, **fields):
    """Logs a coffee from the host and returns it."""
    body = json.dumps({"caffeine_mg": mg, **fields}).encode()
    request = urllib.request.Request(pi.url("/coffee/"), body, {"Authorization": f"Bearer {pi.key}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise TestFailure(f"a coffee is logged (status {error.code})", error.read().decode()) from None


def stored(pi, view="coffees"):
    return int(pi.does(f"coffee-tracker --config {SETTINGS} sql --csv 'select count(*) from {view}'").split()[-1])


def has_coffees(pi, count):
    found = stored(pi)
    if found != count:
        raise TestFailure(f"{count} coffees are stored (found {found})")


def process_id(pi):
    return pi.does("systemctl show --property=MainPID --value coffee-tracker").strip()


def is_replaced(before):
    pid = "$(systemctl show --property=MainPID --value coffee-tracker)"
    return f"[ {pid} != {before} ] && [ {pid} != 0 ] && systemctl is-active coffee-tracker"


def is_alive(pi):
    pi.prints("systemctl is-active coffee-tracker", "active")
    has(json.dumps(pi.json("/health")["status"]), "alive")


def drop_in(pi, unit, text):
    """Overrides settings of a unit, for shorter delays; an empty text removes the override."""
    folder = f"/run/systemd/system/{unit}.d"
    create = f"mkdir -p {folder} && printf '{text}' >{folder}/test.conf" if text else "true"
    pi.does(f"rm -rf {folder} && {create} && systemctl daemon-reload")


# Names instead of a pattern: journalctl resolves a pattern with every file of the journal, and fails if a power cut has
# damaged one.
JOURNAL_UNITS = " ".join(f"-u coffee-tracker{suffix}" for suffix in ("", "-backup", "-verify", "-import@owner"))


def has_no_errors(pi, priority="err"):
    """The journal of this boot has no errors of the service and its helpers, and systemd has no failed unit."""
    pi.prints("systemctl --failed --no-legend --plain", "")
    pi.prints(f"journalctl --sync; journalctl --quiet --no-pager --output=cat --boot {JOURNAL_UNITS} -p {priority}", "")


def read_key(pi):
    pi.key = pi.does("cat /etc/coffee-tracker/api_key").strip()


# -- Steps --------------------------------------------------------------------------------


def package_installs(pi):
    output = pi.does("apt-get install /root/new.deb", "Show the key: sudo cat /etc/coffee-tracker/api_key", seconds=900)
    if "coffee-tracker cannot" in output:
        raise TestFailure("the installation reports no problem", output)
    read_key(pi)
    # No retry: systemd reports the service ready only when it responds.
    log_coffee(pi)


def survives_a_cut_after_the_installation(pi):
    """The key that the installation has shown still works, and the service still starts by itself."""
    shown = pi.key
    pi.cut_power()
    pi.boot()
    read_key(pi)
    if pi.key != shown:
        raise TestFailure("the key is the one from before the power cut", f"before: {shown!r}, now: {pi.key!r}")
    is_alive(pi)
    pi.prints(f"systemctl is-enabled {UNITS}", ENABLED)
    has_coffees(pi, 1)
    has_no_errors(pi)


def files_are_private(pi):
    pi.prints(
        f"stat -c '%a %U %n' /etc/coffee-tracker /etc/coffee-tracker/* {STATE} {STATE}/backups {STATE}/coffee.db",
        f"750 root /etc/coffee-tracker\n600 root /etc/coffee-tracker/api_key\n640 root {SETTINGS}\n"
        f"700 coffee-tracker {STATE}\n700 coffee-tracker {STATE}/backups\n600 coffee-tracker {STATE}/coffee.db",
    )
    pi.does("dpkg --verify coffee-tracker && [ $(dpkg --print-architecture) = arm64 ]")


def unit_is_sandboxed(pi):
    files_are_private(pi)
    pid = process_id(pi)
    status = " ".join(pi.does(f"cat /proc/{pid}/status").replace("\t", " ").split(" "))
    for line in SANDBOX:
        if line not in status.split("\n"):
            raise TestFailure(f"the process status contains: {line}", status)
    inside = f"nsenter --target {pid} --mount sh -c 'touch /usr/x || touch /etc/x || touch /x || ls -A /root | grep .'"
    pi.fails(inside)
    pi.does(f"[ $(readlink /proc/1/ns/user) != $(readlink /proc/{pid}/ns/user) ]")
    pi.fails(f"tr '\\0' '\\n' </proc/{pid}/environ | grep -F $(cat /etc/coffee-tracker/api_key)")
    pi.does(
        "systemd-analyze security --no-pager coffee-tracker",
        "Overall exposure level for coffee-tracker.service: 1.0 OK",
        seconds=300,
    )
    # Without a network, the clock is not synchronized.
    report = pi.run(f"coffee-tracker check --config {SETTINGS}", seconds=300).output
    failed = [line for line in report.splitlines() if line.startswith("FAIL:") and line.split()[1] != "clock"]
    if failed:
        raise TestFailure("check reports no problem except the clock", report)
    has(report, "exposure 1.0", "is intact: ", "private to their owner", "can be restored")


def killed_process_is_restarted(pi):
    before = process_id(pi)
    log_coffee(pi)
    pi.does(f"kill -KILL {before}")
    pi.within(120, is_replaced(before))
    is_alive(pi)
    has_coffees(pi, 2)


def hung_process_is_restarted(pi):
    pi.prints("systemctl show --property=WatchdogUSec --value coffee-tracker", "1min")
    drop_in(pi, "coffee-tracker.service", "[Service]\\nWatchdogSec=15\\n")
    pi.does("systemctl restart coffee-tracker")
    before = process_id(pi)
    pi.does(f"kill -STOP {before}")
    pi.within(180, is_replaced(before))
    pi.does("journalctl -u coffee-tracker -n 30 -o cat", "Watchdog timeout")
    is_alive(pi)
    has_coffees(pi, 2)
    drop_in(pi, "coffee-tracker.service", "")
    pi.does("systemctl restart coffee-tracker")


def backups_are_made(pi):
    stamp = "/var/lib/systemd/timers/stamp-coffee-tracker-backup.timer"
    ended = "[ $(systemctl show --property=ActiveState --value coffee-tracker-backup) = inactive ]"
    # The timer catches up after the machine was off; after a boot it waits up to ten minutes.
    drop_in(pi, "coffee-tracker-backup.timer", "[Timer]\\nRandomizedDelaySec=0\\n")
    pi.does(
        f"rm {STATE}/backups/* && systemctl stop coffee-tracker-backup.timer && touch -d '3 days ago' {stamp} "
        "&& systemctl start coffee-tracker-backup.timer"
    )
    pi.within(120, f"ls {STATE}/backups/coffee_*.db && {ended}")
    drop_in(pi, "coffee-tracker-backup.timer", "")
    pi.does(f"coffee-tracker verify {STATE}/backups/*.db && systemctl start coffee-tracker-verify")
    if pi.json("/health")["backup"]["status"] != "ok":
        raise TestFailure("/health reports the backup", json.dumps(pi.json("/health")))
    # A failed backup is visible until the next one succeeds.
    pi.does(f"chmod 500 {STATE}/backups")
    pi.fails("systemctl start coffee-tracker-backup")
    pi.does("systemctl --failed --no-legend --plain", "coffee-tracker-backup.service")
    pi.does(f"chmod 700 {STATE}/backups && systemctl start coffee-tracker-backup")
    pi.prints("systemctl --failed --no-legend --plain", "")


def files_are_imported(pi):
    folder, unit = "/var/lib/coffee-tracker-import/owner", "coffee-tracker-import@owner"
    drop_in(pi, "coffee-tracker-import@.service", "[Service]\\nEnvironment=SETTLE_SECONDS=1\\n")
    pi.does(f"mkdir -p {folder} && systemctl enable --now {unit}.path && systemctl is-active {unit}.timer")
    rows = "timestamp,bpm\\n2026-01-05T08:00:00Z,61\\n"
    pi.does(f"printf '{rows}' >{folder}/.part && mv {folder}/.part {folder}/next.csv")
    ended = f"[ $(systemctl show --property=ActiveState --value {unit}) != activating ]"
    pi.within(180, f"grep -q '^ok .* next.csv$' {STATE}/imported/owner && {ended}")
    if stored(pi, "heart_rates") != 1:
        raise TestFailure("the heart rate of the file is stored")
    pi.does(f"rm {folder}/next.csv && systemctl disable --now {unit}.path")


def package_upgrades(pi):
    settings = "sha256sum --check --quiet /root/before"
    pi.does("mkdir -p /opt/programs && cp /usr/bin/coffee-tracker /opt/programs/good")
    pi.does(f"echo RATE_LIMIT_ENABLED=false >>{SETTINGS} && sha256sum /etc/coffee-tracker/* >/root/before")
    pi.does("apt-get install /root/other.deb", seconds=900)
    pi.does(f"! cmp -s /usr/bin/coffee-tracker /opt/programs/good && {settings}")
    is_alive(pi)
    has_coffees(pi, 2)
    # A program that does not start is rolled back.
    pi.fails("apt-get install /root/fails.deb", "the new version did not start", seconds=900)
    pi.does(f"! grep -q /opt/programs/good /usr/bin/coffee-tracker && {settings}")
    is_alive(pi)
    has_coffees(pi, 2)
    pi.does("apt-get install --allow-downgrades /root/new.deb", seconds=900)
    pi.does(f"cmp /usr/bin/coffee-tracker /opt/programs/good && {settings}")
    is_alive(pi)
    has_coffees(pi, 2)


def reboot_keeps_everything(pi):
    """Returns the time from power to the first answer."""
    pi.shut_down()
    pi.power_on()
    seconds = pi.seconds_to_first_answer()
    pi.within(300, "systemctl is-system-running --wait")
    is_alive(pi)
    has_coffees(pi, 2)
    pi.does("journalctl -u coffee-tracker --boot=-1 -o cat", "coffee-tracker.service: Deactivated successfully")
    has_no_errors(pi)
    return seconds


def works_without_memory_cgroup(pi):
    """Raspberry Pi OS starts its kernel with this argument, so that MemoryMax= has no effect."""
    pi.shut_down()
    pi.boot(kernel_arguments="cgroup_disable=memory")
    pi.prints("systemctl show --property=MemoryCurrent --value coffee-tracker", "[not set]")
    before = stored(pi)
    log_coffee(pi)
    has_coffees(pi, before + 1)
    pi.does("systemctl start coffee-tracker-backup && systemctl start coffee-tracker-verify")
    is_alive(pi)
    has_no_errors(pi)


def works_with_a_clock_in_the_past(pi):
    """A Pi has no battery-backed clock: it starts in the past, and the network sets the time later."""
    pi.shut_down()
    pi.boot(clock=PAST)
    health = pi.json("/health")
    if health["clock"]["status"] != "suspect" or health["status"] != "alive":
        raise TestFailure("/health reports the clock as suspect and the service as alive", json.dumps(health))
    before = stored(pi)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    coffee = log_coffee(pi, timestamp=now)
    if coffee["timestamp"][:19] != now[:19]:
        raise TestFailure(f"the coffee has the time of the phone, {now}", json.dumps(coffee))
    pid = process_id(pi)
    pi.does(f"date -s @{int(time.time())}")
    health = pi.json("/health")
    if health["clock"]["status"] != "ok":
        raise TestFailure("/health reports the clock as ok when it is set", json.dumps(health))
    log_coffee(pi)
    has_coffees(pi, before + 2)
    pi.does("systemctl start coffee-tracker-backup")
    pi.prints("systemctl show --property=MainPID --value coffee-tracker", pid)
    has_no_errors(pi)


def package_is_removed(pi):
    pi.does("apt-get remove coffee-tracker", f"kept data and backups in {STATE}", seconds=900)
    pi.fails("systemctl is-active coffee-tracker")
    pi.does(f"ls {STATE}/coffee.db {STATE}/backups/*.db /etc/coffee-tracker/api_key")
    pi.does("apt-get purge coffee-tracker", "removed the database, the backups", seconds=900)
    pi.prints(
        "find /etc /usr /var -xdev -iname '*coffee*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' "
        "-not -path '/var/lib/apt/*'",
        "",
    )
