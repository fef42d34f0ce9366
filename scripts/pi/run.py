#!/usr/bin/env python3
"""Runs the tests of service.py and load.py on an emulated Pi, and prints the figures of load.py.

    scripts/pi/run.py PACKAGE       PACKAGE: coffee-tracker_…_arm64.deb

Expects the machine of image.sh in target/pi. PI_SECONDS (1440): time for everything; steps that do not fit are skipped
with a message. CUTS (10): cuts of power. TEST_SEED: seed of the random moments, printed. PI_LYING_CARD=yes: the disk
ignores flushes during the cuts, so that the test must fail.
"""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import load
import service
from machine import Machine, TestFailure
from nbd import Disk

FOLDER = pathlib.Path("target/pi")
IDLE_BOOT_SECONDS = 25
FAILS_AS_SERVICE = """#!/bin/sh
[ -z "$NOTIFY_SOCKET" ] || { echo "cannot start" >&2; exit 1; }
exec /opt/programs/good "$@"
"""


class Plan:
    """Steps within a limited time."""

    def __init__(self, seconds):
        self.start = time.monotonic()
        self.seconds = seconds
        self.skipped = 0
        # Time of this machine in relation to an idle one, from the first boot.
        self.slowness = 1.0

    def say(self, text):
        print(f"pi: [{time.monotonic() - self.start:4.0f} s] {text}", flush=True)

    def has_time(self, seconds, name):
        """Reports whether a step that takes about this time on an idle machine still fits."""
        if time.monotonic() - self.start + seconds * self.slowness <= self.seconds:
            return True
        self.skipped += 1
        self.say(f"skipped: {name} (out of time)")
        return False

    def step(self, name, action, *arguments, seconds=40):
        """Runs the action if there is time, and returns its result."""
        if not self.has_time(seconds, name):
            return None
        self.say(name)
        return action(*arguments)


def write_package(folder, original, name, version, change):
    """Writes a package of another version whose program is changed by `change`."""
    root = folder / "root"
    subprocess.run(["dpkg-deb", "--raw-extract", original, root], check=True)
    control = root / "DEBIAN/control"
    lines = control.read_text().splitlines(keepends=True)
    control.write_text("".join(f"Version: {version}\n" if line.startswith("Version:") else line for line in lines))
    change(root / "usr/bin/coffee-tracker")
    built = folder / f"{name}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, built], check=True, stdout=subprocess.DEVNULL
    )
    shutil.rmtree(root)
    return built


def append_newline(program):
    with open(program, "ab") as file:
        file.write(b"\n")


def write_disk(folder, package):
    """Copies the disk of the image and lays the packages into it."""
    disk = folder / "disk.img"
    subprocess.run(["cp", "--sparse=always", FOLDER / "disk.img", disk], check=True)
    packages = {
        "new": package,
        "other": write_package(folder, package, "other", "9.0-1", append_newline),
        "fails": write_package(folder, package, "fails", "9.0-2", lambda program: program.write_text(FAILS_AS_SERVICE)),
    }
    commands = "".join(f"write {path} /root/{name}.deb\n" for name, path in packages.items())
    debugfs = ["debugfs", "-w", "-f", "-", disk]
    done = subprocess.run(debugfs, input=commands, text=True, capture_output=True, check=True)
    if "Allocated inode" not in done.stdout:
        raise TestFailure("the packages are written to the disk", done.stdout + done.stderr)
    return disk


def test_service(plan, pi, figures):
    start = time.monotonic()
    plan.step("boots", pi.boot)
    plan.slowness = max(1.0, (time.monotonic() - start) / IDLE_BOOT_SECONDS)
    plan.say("    " + pi.does(". /etc/os-release; echo $PRETTY_NAME, $(uname -rm)").strip())
    plan.step("the package installs; the service is running", service.package_installs, pi)
    plan.step("power cut: key, coffee and service are still there", service.survives_a_cut_after_the_installation, pi)
    plan.step("files are private, the unit is sandboxed, check finds no problem", service.unit_is_sandboxed, pi)
    plan.step("SIGKILL: restarted", service.killed_process_is_restarted, pi)
    plan.step("hung: the watchdog restarts it", service.hung_process_is_restarted, pi)
    plan.step("the timer makes a backup; a failed one is visible", service.backups_are_made, pi)
    plan.step("a file that appears in a folder is imported", service.files_are_imported, pi)
    plan.step("the package upgrades, rolls back and downgrades", service.package_upgrades, pi)
    seconds = plan.step("reboot: started automatically, nothing lost", service.reboot_keeps_everything, pi)
    if seconds:
        figures["power to first answer"] = f"{seconds:.0f} s"


def test_cuts(plan, pi, figures, seed):
    cuts = int(os.environ.get("CUTS") or 10)
    chance = random.Random(seed)
    plan.say(f"{cuts} cuts of power under writes (TEST_SEED={seed})")
    pi.disk.ignores_flushes = os.environ.get("PI_LYING_CARD") == "yes"
    writers = load.Writers(pi)
    made = 0
    while made < cuts and plan.has_time(50, f"{cuts - made} of {cuts} cuts"):
        plan.say(f"    {load.cut_power_under_writes(pi, writers, chance)}")
        made += 1
    load.wait_for_writes(pi, writers, 1)
    writers.stop()
    for kind in load.ROUTES:
        load.compare(pi, kind, writers.acknowledged(kind), has_others=False)
    pi.within(300, "systemctl is-system-running --wait")
    service.has_no_errors(pi)
    pi.does(f"systemctl start coffee-tracker-backup && coffee-tracker verify --newest --config {service.SETTINGS}")
    pi.prints("dmesg | grep -i 'ext4-fs error' || true", "")
    figures["cuts of power; acknowledged writes; lost or stored twice"] = f"{made}; {writers.count():,}; 0"
    attempts = f"{writers.retries():,} failed attempts"
    plan.say(f"    {writers.count():,} acknowledged writes, {attempts}; none lost or stored twice")


def test_all(plan, pi, seed):
    figures = {}
    test_service(plan, pi, figures)
    plan.step("figures", load.measure, pi, figures, seconds=150)
    plan.step("boots with cgroup_disable=memory", service.works_without_memory_cgroup, pi)
    plan.step("boots with a clock in the past", service.works_with_a_clock_in_the_past, pi)
    if plan.has_time(150, "the cuts of power"):
        pi.shut_down()
        pi.power_on()
        pi.seconds_to_first_answer()
        test_cuts(plan, pi, figures, seed)
    plan.step("the package is removed without a trace", service.package_is_removed, pi)
    return figures


def report(failure, pi, console):
    print(f"FAIL: expected: {failure}", file=sys.stderr)
    for line in failure.output.splitlines()[-40:]:
        print(f"    | {line}", file=sys.stderr)
    try:
        journal = pi.run(f"journalctl {service.JOURNAL_UNITS} -n 20 --no-pager", 60).output
    except (OSError, TestFailure):
        journal = console.read_text(errors="replace") if console.exists() else ""
    for line in journal.splitlines()[-20:]:
        print(f"    | {line}", file=sys.stderr)


def main():
    package = pathlib.Path(sys.argv[1])
    seed = os.environ.get("TEST_SEED") or str(int(time.time()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = Plan(float(os.environ.get("PI_SECONDS") or 1440))
    with tempfile.TemporaryDirectory(prefix="run.", dir=FOLDER) as name:
        folder = pathlib.Path(name)
        disk = Disk(write_disk(folder, package), folder / "disk.sock")
        pi = Machine(FOLDER, disk, FOLDER / "console.log")
        try:
            figures = test_all(plan, pi, seed)
        except TestFailure as failure:
            report(failure, pi, pi.console)
            sys.exit(1)
        finally:
            pi.stop()
            disk.close()
    print("\n| emulated Pi | figure |\n| --- | --- |")
    for name, figure in figures.items():
        print(f"| {name} | {figure} |")
    print()
    plan.say("all tests passed" + (f", {plan.skipped} skipped" if plan.skipped else ""))


if __name__ == "__main__":
    main()
