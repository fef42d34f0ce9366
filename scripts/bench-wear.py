#!/usr/bin/env python3
"""Measures the bytes that the release binary makes a disk write, and estimates the life of an SD card (root).

    scripts/bench-wear.py

A file is mounted as a disk with ext4 (loop device), which counts what reaches it: the database, its write-ahead log, the
journal of the file system and its other metadata. The database has a year of readings. After each write, the file
system is synchronized, because within a minute the kernel writes everything that is still in memory.

COFFEE_TRACKER names another binary. READINGS (1440) and COFFEES (200): number of writes that are measured.
MOUNT_OPTIONS (noatime): options of the mount, such as noatime,lazytime.
"""

import contextlib
import ctypes
import datetime
import http.client
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

PROGRAM = os.path.abspath(os.environ.get("COFFEE_TRACKER") or "target/release/coffee-tracker")
READINGS = int(os.environ.get("READINGS") or 1440)
COFFEES = int(os.environ.get("COFFEES") or 200)
OPTIONS = os.environ.get("MOUNT_OPTIONS") or "noatime"
HISTORY_DAYS = 365
SAMPLES = 5
# Assumptions of the estimate.
COFFEES_PER_DAY = 4
KEY_SAVES_PER_DAY = 96
CARD_BYTES = 32e9
MAX_YEARS = 50
# Erase cycles of a cell: a bad card, a cautious assumption, and a good card.
CYCLES = (300, 1000, 4600)
# Bytes that the card writes for each byte of small writes: whole flash pages of 16 KiB, a cautious assumption, and a
# whole erase block of 4 MiB for each flush.
AMPLIFICATIONS = (2, 20, 200)
# The same for backups, which are written in one go.
BACKUP_AMPLIFICATION = 2

KEY = "a-key-for-the-measurement-0123456789"


class Disk:
    """A file that is mounted as a disk."""

    def __init__(self, folder):
        image = folder / "image"
        self.path = folder / "disk"
        self.path.mkdir()
        with image.open("wb") as file:
            file.truncate(1 << 30)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        found = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
        self.device = found.stdout.strip()
        try:
            subprocess.run(["mount", "-o", OPTIONS, self.device, self.path], check=True)
        except subprocess.CalledProcessError:
            self.detach()
            raise
        self.descriptor = os.open(self.path, os.O_RDONLY)

    def detach(self):
        subprocess.run(["losetup", "--detach", self.device], check=True)

    def remove(self):
        os.close(self.descriptor)
        subprocess.run(["umount", self.path], check=True)
        self.detach()

    def sync(self):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(self.descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed")

    def counters(self):
        """Returns bytes, writes and flushes since the device was created."""
        self.sync()
        fields = pathlib.Path(f"/sys/block/{os.path.basename(self.device)}/stat").read_text().split()
        return int(fields[6]) * 512, int(fields[4]), int(fields[15])

    def measure(self, name, number, write):
        """Prints and returns the bytes that `number` writes cause, each."""
        before = self.counters()
        for n in range(number):
            write(n)
            self.sync()
        each = [(after - start) / number for after, start in zip(self.counters(), before)]
        print(f"{name:48} {each[0] / 1e3:12,.1f} kB {each[1]:8.1f} writes {each[2]:6.1f} flushes", flush=True)
        return each[0]


class Server:
    """A running server with its database on the disk."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            "DATABASE_URL": str(folder / "coffee.db"),
            "BACKUP_DIR": str(folder / "backups"),
            "API_KEY": KEY,
            "PORT": "0",
            "RATE_LIMIT_ENABLED": "false",
            "TZ": "UTC",
        }
        self.process = subprocess.Popen(
            [PROGRAM, "serve"], cwd=folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.connection = http.client.HTTPConnection(self.process.stdout.readline().split("//")[1].strip())

    def command(self, *arguments):
        result = subprocess.run(
            [PROGRAM, *arguments], cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True
        )
        return result.stdout

    def request(self, method, path, body=None, key=KEY):
        self.connection.request(method, path, body and json.dumps(body), {"Authorization": f"Bearer {key}"})
        response = self.connection.getresponse()
        response.read()
        return response.status

    def post(self, path, body):
        status = self.request("POST", path, body)
        if status != 201:
            sys.exit(f"POST {path} returned {status}")

    def stop(self):
        self.process.terminate()
        self.process.wait()


def midnight():
    return datetime.datetime.now(datetime.timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def write_history(file):
    """Writes a reading for each minute of the days before today."""
    start = midnight() - datetime.timedelta(days=HISTORY_DAYS)
    file.write("timestamp,bpm\n")
    for minute in range(HISTORY_DAYS * 1440):
        at = start + datetime.timedelta(minutes=minute)
        file.write(f"{at.isoformat()},{min(max(random.gauss(70, 9), 40), 200):.0f}\n")


def measure(disk, server, folder):
    """Returns the bytes of a reading, a coffee, a saved use of a key, a packed day and a backup."""
    history = folder / "history.csv"
    with history.open("w") as file:
        write_history(file)
    server.command("import", str(history))
    # The days of the import are packed while the server is idle.
    pending = "select count(*) from heart_rate_packed_days where readings is null"
    while server.command("sql", "--csv", pending).split()[-1] != "0":
        time.sleep(1)
    today = midnight()
    step = (datetime.datetime.now(datetime.timezone.utc) - today) / (READINGS + 300)

    def reading(n):
        at = today + n * step
        server.post("/heartrate/", {"bpm": random.randint(55, 110), "timestamp": at.isoformat()})

    def coffee(n):
        server.post("/coffee/", {"caffeine_mg": 95, "coffee_type": "espresso"})

    # Fills the write-ahead log up to the first checkpoint, after which it keeps its size.
    for n in range(300):
        reading(n)
    bytes_of = {
        "reading": disk.measure("reading", READINGS, lambda n: reading(n + 300)),
        "coffee": disk.measure("coffee", COFFEES, coffee),
    }
    keys = []
    for n in range(SAMPLES):
        output = server.command("key", "add", f"phone-{n}")
        keys.append(next(word for word in output.split() if word.startswith("ct_")))
    while server.request("GET", "/me", key=keys[-1]) != 200:
        time.sleep(0.1)
    time.sleep(3)

    def use_key(n):
        if server.request("GET", "/me", key=keys[n]) != 200:
            sys.exit("a new key is not valid")
        # The server saves uses once a second.
        time.sleep(2.5)

    bytes_of["key"] = disk.measure("last use of a key, saved", SAMPLES - 1, use_key)

    def change_yesterday(n):
        server.post("/heartrate/", {"bpm": 70, "timestamp": (today - datetime.timedelta(days=n + 1, hours=2)).isoformat()})
        # The server packs days once it is idle.
        time.sleep(2)

    bytes_of["pack"] = disk.measure("reading in a past day, which is packed again", SAMPLES, change_yesterday)
    bytes_of["backup"] = disk.measure("backup", 1, lambda _: server.command("backup", "--quiet"))
    size = (server.folder / "coffee.db").stat().st_size
    print(f"{'database':48} {size / 1e3:12,.1f} kB, {size / HISTORY_DAYS / 1e3:,.0f} kB a day")
    bytes_of["growth"] = size / HISTORY_DAYS
    return bytes_of


def years(bytes_of, cycles, amplification, has_backups):
    """Returns the years until the cells of a card have used up their cycles; None after MAX_YEARS."""
    rest = CARD_BYTES * cycles
    for day in range(MAX_YEARS * 365):
        rest -= daily(bytes_of) * amplification
        if has_backups:
            rest -= bytes_of["growth"] * day * BACKUP_AMPLIFICATION
        if rest <= 0:
            return day / 365
    return None


def daily(bytes_of):
    """Returns the bytes of a day with a reading a minute, without its backup."""
    return (
        1440 * bytes_of["reading"]
        + COFFEES_PER_DAY * bytes_of["coffee"]
        + KEY_SAVES_PER_DAY * bytes_of["key"]
        + bytes_of["pack"]
    )


def print_estimate(bytes_of):
    day = daily(bytes_of)
    print(f"\na day with 1,440 readings and {COFFEES_PER_DAY} coffees: {day / 1e6:.0f} MB; a year: {day * 365 / 1e9:.0f} GB")
    print(f"its backup: {bytes_of['growth'] * 365 / 1e6:.0f} MB after a year, and as much more after each further one")
    print("\nyears until the cells of a card of 32 GB are worn out, with backups on the same card / elsewhere:")
    print(f"{'amplification in the card':28}" + "".join(f"{cycles:>10,} cycles" for cycles in CYCLES))
    for amplification in AMPLIFICATIONS:
        row = f"{amplification:<28}"
        for cycles in CYCLES:
            both = [years(bytes_of, cycles, amplification, has_backups) for has_backups in (True, False)]
            row += f"{' / '.join(f'>{MAX_YEARS}' if n is None else f'{n:.0f}' for n in both):>17}"
        print(row)


def main():
    if os.geteuid() != 0:
        sys.exit("root is required, to mount a disk")
    if not os.access(PROGRAM, os.X_OK):
        sys.exit(f"{PROGRAM} does not exist; run `make build` first")
    random.seed(1)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp"))))
        disk = Disk(folder)
        stack.callback(disk.remove)
        data = disk.path / "data"
        data.mkdir()
        server = Server(data)
        stack.callback(server.stop)
        print_estimate(measure(disk, server, folder))


if __name__ == "__main__":
    main()
