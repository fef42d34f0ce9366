#!/usr/bin/env python3
"""Counts the instructions that the server executes for a request, and compares them with kept values.

The counts depend neither on the speed of the machine nor on its load. The server runs under callgrind on one
processor, with clocks that stand still, so that nothing runs periodically, and with fixed data: 400 days of readings
and coffees in Europe/Berlin. One client sends warm-up requests and then a number of counted ones over one connection.
Each operation is measured on several new servers, because the seeds of hash maps and addresses differ; its value is
the median, and the spread is printed. Instructions of the kernel are not counted.

The kept values are in tests/data/instructions.json. A value that differs by more than 3% is an error in either
direction, so that an improvement is kept as well. UPDATE=yes writes the measured values to the file instead.

COFFEE_TRACKER names the program (default: target/release/coffee-tracker); only release builds are comparable.
Needs valgrind and faketime, which root gets from Debian's repository when they are missing.
"""

import csv
import datetime
import glob
import json
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = ROOT / "tests" / "data" / "instructions.json"
PROGRAM = os.path.abspath(os.environ.get("COFFEE_TRACKER") or "target/release/coffee-tracker")
TOLERANCE = 0.03
SERVERS = int(os.environ.get("SERVERS") or 3)
KEY = "instructions-key-0123456789"
ZONE = "Europe/Berlin"
# 12:00 in the zone.
NOW = datetime.datetime(2026, 6, 17, 10, 0, tzinfo=datetime.timezone.utc)
DAYS = 400
READING_INTERVAL = datetime.timedelta(minutes=5)
# Any number of requests; the limits themselves remain part of the count.
RATE_LIMIT = "1000000/second"
RATE_LIMITS = ("HEALTH", "READ", "COFFEE_WRITE", "HEARTRATE_BATCH", "INGEST")


def stamp(time_of_entry):
    return time_of_entry.strftime("%Y-%m-%dT%H:%M:%SZ")


def before(**time_ago):
    return NOW - datetime.timedelta(**time_ago)


# Operations


def get(path):
    return lambda _: request("GET", path)


def write(_):
    return request("POST", "/coffee/", {"caffeine_mg": 95, "coffee_type": "espresso"})


def batch(number):
    """Returns 1,000 new readings, of every minute of an earlier period for each number."""
    start = before(days=3000) + number * datetime.timedelta(minutes=1000)
    readings = [
        {"bpm": 50 + n * 7 % 70, "timestamp": stamp(start + datetime.timedelta(minutes=n)), "context": "resting"}
        for n in range(1000)
    ]
    return request("POST", "/heartrate/batch", {"readings": readings})


def push(_):
    """Returns a push of Health Auto Export with a sample of each minute of the last day."""
    samples = [
        {
            "Min": 52 + n * 7 % 70,
            "Avg": 55.4 + n * 7 % 70,
            "Max": 59 + n * 7 % 70,
            "date": before(minutes=n + 1).strftime("%Y-%m-%d %H:%M:%S +0000"),
            "source": "Apple Watch",
        }
        for n in range(1440)
    ]
    metric = {"name": "heart_rate", "units": "bpm", "data": samples}
    return request("POST", "/ingest/health-auto-export", {"data": {"metrics": [metric]}})


# Name, request with a number, warm-up requests, counted requests. Reads come before writes, which change the data.
OPERATIONS = [
    ("GET /health", get("/health"), 100, 300),
    ("GET /coffee/today", get("/coffee/today"), 50, 300),
    ("GET /coffee/?limit=50", get("/coffee/?limit=50"), 50, 150),
    ("GET /heartrate/stats?days=365", get("/heartrate/stats?days=365"), 3, 10),
    ("POST /coffee/", write, 50, 300),
    ("POST /heartrate/batch, 1,000 readings", batch, 2, 6),
    ("POST /ingest/health-auto-export, 1,440 samples seen before", push, 2, 6),
]


# Client


def request(method, path, body=None):
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nAuthorization: Bearer {KEY}\r\n"
    payload = b""
    if body is not None:
        payload = json.dumps(body).encode()
        head += f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n"
    return head.encode() + b"\r\n" + payload


class Connection:
    """Keep-alive connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message):
        """Sends a request and returns the body of its response, whose status must be 2xx."""
        self.socket.sendall(message)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.receive()
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        while len(body) < length:
            body += self.receive()
        if not lines[0].split()[1].startswith("2"):
            raise SystemExit(f"{message.split(b' HTTP', 1)[0].decode()}: {lines[0]}: {body.decode()}")
        return body

    def receive(self):
        received = self.socket.recv(1 << 16)
        if not received:
            raise SystemExit("the server closed the connection")
        return received


# Server


def environment(folder, library):
    return {
        "API_KEY": KEY,
        "DATABASE_URL": str(folder / "coffee.db"),
        "BACKUP_DIR": str(folder / "backups"),
        "TZ": ZONE,
        "HOST": "127.0.0.1",
        "PORT": "0",
        **{f"RATE_LIMIT_{name}": RATE_LIMIT for name in RATE_LIMITS},
        "LD_PRELOAD": library,
        # Both clocks stand still at this time. Files keep their own times.
        "FAKETIME": f"{NOW.timestamp():.0f}",
        "FAKETIME_FMT": "%s",
        "NO_FAKE_STAT": "1",
        "FAKETIME_DISABLE_SHM": "1",
        # Its settings are read once.
        "FAKETIME_NO_CACHE": "0",
        "FAKETIME_CACHE_DURATION": "1000000",
    }


def make_database(folder, library):
    """Imports readings and coffees into a database, and returns its path."""
    steps = DAYS * 24 * 60 * 60 // int(READING_INTERVAL.total_seconds())
    contexts = ["sleeping"] * 7 + ["resting"] * 10 + ["active"] * 3 + ["resting"] * 4
    day = int(datetime.timedelta(days=1) / READING_INTERVAL)
    with open(folder / "readings.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", "bpm", "context"])
        # None in the last day, which the push contains.
        for n in range(day, steps):
            at = NOW - n * READING_INTERVAL
            rows.writerow([stamp(at), 50 + (n * 7 + n // 40) % 70, contexts[at.hour]])
    with open(folder / "coffees.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", "caffeine_mg", "coffee_type"])
        for n in range(4 * DAYS):
            at = before(days=n // 4, hours=1 + n % 4)
            rows.writerow([stamp(at), 40 + n * 15 % 120, ["espresso", "filter", "latte"][n % 3]])
    for file in ("readings.csv", "coffees.csv"):
        done = subprocess.run(
            [PROGRAM, "import", "--quiet", folder / file],
            env=environment(folder, library),
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"importing {file} failed: {done.stderr}")
    return folder / "coffee.db"


class Server:
    """The server under callgrind, on one processor."""

    def __init__(self, folder, library):
        self.folder = folder
        self.dumps = 0
        self.log = open(folder / "log", "wb")
        # vgdb must have the same variables: the names of its pipes contain those for user and host.
        self.environment = {"PATH": os.environ["PATH"], **environment(folder, library)}
        self.process = subprocess.Popen(
            [
                *("valgrind", "--tool=callgrind", "--quiet"),
                *(f"--callgrind-out-file={folder}/callgrind", f"--vgdb-prefix={folder}/vgdb"),
                *(PROGRAM, "serve"),
            ],
            env=self.environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
        )
        deadline = time.monotonic() + 120
        while (port := self.port()) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start: {self.text()[-2000:]}")
            time.sleep(0.1)
        self.connection = Connection(port)

    def text(self):
        return (self.folder / "log").read_text(errors="replace")

    def port(self):
        line = next((line for line in self.text().splitlines() if line.startswith("Listening on http://")), None)
        return line and int(line.rstrip("/").rsplit(":", 1)[1])

    def instructions(self):
        """Returns the number of instructions since the last call, or since the start."""
        self.dumps += 1
        done = subprocess.run(
            ["vgdb", f"--vgdb-prefix={self.folder}/vgdb", f"--pid={self.process.pid}", "dump"],
            env={name: value for name, value in self.environment.items() if name != "LD_PRELOAD"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise SystemExit(f"vgdb failed: {done.stderr}{self.text()[-2000:]}")
        path = self.folder / f"callgrind.{self.dumps}"
        total = next(line for line in path.read_text().splitlines() if line.startswith("totals: "))
        path.unlink()
        return int(total.split()[1])

    def measure(self, make_request, warm_up, counted):
        """Returns the instructions of one request."""
        messages = [make_request(number) for number in range(warm_up + counted)]
        for message in messages[:warm_up]:
            self.connection.send(message)
        self.instructions()
        for message in messages[warm_up:]:
            self.connection.send(message)
        return self.instructions() / counted

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def measure_all(folder, database, library):
    """Returns the instructions of each operation on a new server with a copy of the database."""
    folder.mkdir()
    shutil.copy(database, folder)
    server = Server(folder, library)
    try:
        return {operation: server.measure(*details) for operation, *details in OPERATIONS}
    finally:
        server.stop()


# Tools


def find_faketime():
    """Returns the path of libfaketime, or None."""
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1") + glob.glob("/usr/lib*/faketime/libfaketime.so.1")
    return found[0] if found else None


def install_tools():
    """Installs valgrind and faketime when they are missing, and returns the path of libfaketime."""
    missing = [] if shutil.which("valgrind") and shutil.which("vgdb") else ["valgrind"]
    missing += [] if find_faketime() else ["faketime"]
    if missing and os.getuid() == 0 and shutil.which("apt-get"):
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
            subprocess.run(
                ["apt-get", *command],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdout=subprocess.DEVNULL,
                timeout=300,
            )
    if not (shutil.which("vgdb") and find_faketime()):
        raise SystemExit("install " + " and ".join(missing) + ", for example with apt-get")
    return find_faketime()


# Comparison


def compare(kept, measured):
    """Prints the table and returns the operations that differ too much."""
    different = []
    width = max(len(name) for name in measured)
    print(f"{'instructions per request':<{width}}  {'kept':>12}  {'measured':>12}  {'change':>8}  {'spread':>7}")
    for name, counts in measured.items():
        value, spread = statistics.median(counts), (max(counts) - min(counts)) / statistics.median(counts)
        before, change, verdict = kept.get(name), "", "new"
        if before is not None:
            difference = value / before - 1
            change, verdict = f"{difference:+.2%}", "ok"
            if abs(difference) > TOLERANCE:
                verdict = "DIFFERENT"
        if verdict != "ok":
            different.append(name)
        shown = f"{before:,}" if before is not None else "-"
        print(f"{name:<{width}}  {shown:>12}  {value:>12,.0f}  {change:>8}  {spread:>7.2%}  {verdict}")
    return different + sorted(set(kept) - set(measured))


def main():
    if platform.machine() != "x86_64":
        raise SystemExit("the kept values are those of x86-64")
    if not os.access(PROGRAM, os.X_OK):
        raise SystemExit(f"{PROGRAM} does not exist; run `make build` first")
    library = install_tools()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="coffee-instructions.") as name:
        folder = pathlib.Path(name)
        database = make_database(folder, library)
        runs = [measure_all(folder / str(number), database, library) for number in range(SERVERS)]
    measured = {name: [run[name] for run in runs] for name, *_ in OPERATIONS}
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    different = compare(kept, measured)
    print(f"{SERVERS} servers, {time.monotonic() - began:.0f} s", flush=True)
    if os.environ.get("UPDATE") == "yes":
        values = {name: round(statistics.median(counts)) for name, counts in measured.items()}
        KEPT.write_text(json.dumps(values, indent=2) + "\n")
        print(f"wrote {KEPT.relative_to(ROOT)}")
    elif different:
        names = ", ".join(different)
        raise SystemExit(
            f"more than {TOLERANCE:.0%} away from {KEPT.relative_to(ROOT)}: {names}; "
            "find the cause, or keep the new values with `make bench-instructions UPDATE=yes`"
        )


if __name__ == "__main__":
    main()
