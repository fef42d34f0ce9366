"""Compares Coffee Tracker with other programs: scripts/bench-peers.sh runs this file.

Every operation is a number of rounds in which wrk (one thread) loads one program after the other, in an order that is
reversed from round to round, and SQLite alone repeats it without HTTP. A rate is the median of the rounds; a ratio is the median of the ratios of each round, so
that a machine that becomes slower for a while distorts it less. All programs hold the same 36,500 coffees.
"""

import contextlib
import csv
import datetime
import http.client
import json
import os
import pathlib
import socket
import sqlite3
import statistics
import subprocess
import tempfile
import time

COFFEE_TRACKER = os.environ["COFFEE_TRACKER"]
POCKETBASE = os.path.abspath(os.environ["POCKETBASE"])
BENCH = os.environ["BENCH"]
ROUNDS = int(os.environ.get("ROUNDS") or 9)
ROUND_SECONDS = int(os.environ.get("ROUND_SECONDS") or 1)
OUTPUT = pathlib.Path("target/bench-peers.json")
KEY = "benchmark-key-0123456789"
COFFEES = 36_500
COFFEE = {"caffeine_mg": 95, "coffee_type": "espresso"}
# Time after which an idle server has finished its work.
SETTLE = 3

US, POCKET, BARE = "Coffee Tracker", "PocketBase", "bare handler"
FULL, NORMAL = "SQLite", "SQLite, not synced"


def coffees():
    """Returns time, dose and type of ten coffees a day for ten years."""
    now = datetime.datetime.now(datetime.timezone.utc)
    for n in range(COFFEES):
        at = now - n * datetime.timedelta(hours=2, minutes=24)
        yield at, 40 + n * 15 % 120, ("espresso", "filter", "latte")[n % 3]


# Servers


class Server:
    """A program that listens on a port of loopback, with its memory."""

    def __init__(self, command, environment, folder, port=None):
        began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if port is None else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.port = port or self.printed_port()
        while True:
            with contextlib.suppress(OSError):
                self.request("GET", "/api/health" if port else "/health", expected=200)
                break
            if self.process.poll() is not None or time.monotonic() - began > 30:
                raise SystemExit(f"{command[0]} did not start")
            time.sleep(0.002)
        self.started_ms = (time.monotonic() - began) * 1000

    def printed_port(self):
        for line in self.process.stdout:
            if line.startswith("Listening on http://"):
                return int(line.strip().rstrip("/").rsplit(":", 1)[1])
        raise SystemExit("a server ended before it listened")

    def request(self, method, path, body=None, headers=None, expected=None):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(client):
            text = None if body is None else json.dumps(body)
            client.request(method, path, text, {"Content-Type": "application/json", **(headers or {})})
            response = client.getresponse()
            content = response.read()
        if not 200 <= response.status < 300 or expected not in (None, response.status):
            raise SystemExit(f"{method} {path} returned {response.status}: {content.decode(errors='replace')}")
        return content

    def memory_mb(self, field):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
        raise SystemExit("the server ended")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_coffee_tracker(folder):
    environment = {
        **{"API_KEY": KEY, "DATABASE_URL": str(folder / "coffee.db"), "BACKUP_DIR": str(folder / "backups")},
        **{"HOST": "127.0.0.1", "PORT": "0", "TZ": "Europe/Berlin", "RATE_LIMIT_ENABLED": "false"},
        # As behind a reverse proxy: one client may not open 64 connections at once.
        "TRUSTED_PROXIES": "127.0.0.0/8",
    }
    if not (folder / "coffee.db").exists():
        with open(folder / "coffees.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["timestamp", "caffeine_mg", "coffee_type"])
            rows.writerows([at.isoformat(), mg, kind] for at, mg, kind in coffees())
        subprocess.run([COFFEE_TRACKER, "import", "--quiet", "coffees.csv"], cwd=folder, env=environment, check=True)
    return Server([COFFEE_TRACKER, "serve"], environment, folder)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_pocketbase(folder):
    """Starts PocketBase. On an empty folder, creates a collection that anybody may read and write, and its records."""

    def start():
        port = free_port()
        return Server(
            [POCKETBASE, "serve", f"--http=127.0.0.1:{port}", f"--dir={folder}/data"], {"HOME": str(folder)}, folder, port
        )

    if (folder / "data").exists():
        return start()
    account = {"identity": "bench@example.org", "password": KEY}
    subprocess.run(
        [POCKETBASE, "superuser", "upsert", account["identity"], KEY, f"--dir={folder}/data"],
        env={"HOME": str(folder)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    server = start()
    try:
        answer = server.request("POST", "/api/collections/_superusers/auth-with-password", account)
        collection = {
            "name": "coffees",
            "type": "base",
            **{"listRule": "", "viewRule": "", "createRule": ""},
            "fields": [
                {"name": "timestamp", "type": "date", "required": True},
                {"name": "caffeine_mg", "type": "number"},
                {"name": "coffee_type", "type": "text"},
                {"name": "notes", "type": "text"},
            ],
            "indexes": ["create index coffees_by_time on coffees (timestamp)"],
        }
        server.request("POST", "/api/collections", collection, {"Authorization": json.loads(answer)["token"]})
    finally:
        server.stop()
    with contextlib.closing(sqlite3.connect(folder / "data" / "data.db")) as database, database:
        database.executemany(
            "insert into coffees (id, timestamp, caffeine_mg, coffee_type) values (?, ?, ?, ?)",
            (
                (f"coffee{n:09}", at.strftime("%Y-%m-%d %H:%M:%S.000Z"), mg, kind)
                for n, (at, mg, kind) in enumerate(coffees())
            ),
        )
    return start()


def start_bare(size, folder):
    return Server([BENCH, "--bare", str(size)], {}, folder)


# Load


def load(server, message, connections, folder):
    """Returns requests per second and the median and 99th percentile of their times in ms."""
    method, path, body, headers = message
    script = folder / "load.lua"
    lines = [f"wrk.method = {json.dumps(method)}"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    if body is not None:
        lines += [f"wrk.body = {json.dumps(json.dumps(body))}", 'wrk.headers["Content-Type"] = "application/json"']
    lines.append(
        """done = function(summary, latency)
            local e = summary.errors
            io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration,
                latency:percentile(50), latency:percentile(99), e.status + e.connect + e.read + e.write + e.timeout))
        end"""
    )
    script.write_text("\n".join(lines))
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{ROUND_SECONDS}s", "-s", script, f"http://127.0.0.1:{server.port}{path}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=ROUND_SECONDS + 30,
    )
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    requests, micros, median, tail, errors = map(int, result.split()[1:])
    if errors or not requests:
        raise SystemExit(f"{method} {path}: {errors} of {requests} requests failed")
    return requests / (micros / 1e6), median / 1000, tail / 1000


def messages():
    """Returns the message of each operation to each program, and the number of connections."""
    ours = {"Authorization": f"Bearer {KEY}"}
    records = "/api/collections/coffees/records"
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S.000Z")
    return {
        "health": (16, ("GET", "/health", None, ours), ("GET", "/api/health", None, {})),
        "list of 50": (
            16,
            ("GET", "/coffee/?limit=50", None, ours),
            # Without the total number, which ours does not count either.
            ("GET", f"{records}?perPage=50&sort=-timestamp&skipTotal=1", None, {}),
        ),
        "one write": (64, ("POST", "/coffee/", COFFEE, ours), ("POST", records, {**COFFEE, "timestamp": now}, {})),
    }


# SQLite


class RawSqlite:
    """One connection of Python's sqlite3 to a database with the same coffees."""

    def __init__(self, path, synchronous):
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("pragma journal_mode = wal")
        self.connection.execute(f"pragma synchronous = {synchronous}")
        self.connection.execute(
            "create table coffee (id integer primary key, timestamp integer, caffeine_mg real, coffee_type text, notes text)"
        )
        self.connection.execute("create index coffee_by_time on coffee (timestamp)")
        self.connection.execute("begin")
        for at, mg, kind in coffees():
            self.write(int(at.timestamp() * 1e6), mg, kind)
        self.connection.execute("commit")

    def write(self, at, mg, kind):
        self.connection.execute(
            "insert into coffee (timestamp, caffeine_mg, coffee_type) values (?, ?, ?)", (at, mg, kind)
        )

    def rate(self, operation):
        """Returns the operations per second of one thread, each a commit of its own."""
        began, count = time.monotonic(), 0
        while (elapsed := time.monotonic() - began) < ROUND_SECONDS:
            if operation == "one write":
                self.write(time.time_ns() // 1000, 95, "espresso")
            else:
                self.connection.execute("select * from coffee order by timestamp desc, id desc limit 50").fetchall()
            count += 1
        return count / elapsed


# Comparison


def measure_operation(name, connections, requests, servers, databases, folder):
    """Returns a list of (rate, median, 99th percentile) for each program: one of each round."""
    ours, theirs = requests
    method, path, body, headers = ours
    size = len(servers[US].request(method, path, body, headers))
    bare = start_bare(size, folder)
    programs = {
        US: lambda: load(servers[US], ours, connections, folder),
        POCKET: lambda: load(servers[POCKET], theirs, connections, folder),
        BARE: lambda: load(bare, ours, connections, folder),
    }
    if name != "health":
        programs[FULL] = lambda: (databases[FULL].rate(name), None, None)
    if name == "one write":
        programs[NORMAL] = lambda: (databases[NORMAL].rate(name), None, None)
    rounds = {program: [] for program in programs}
    try:
        for number in range(ROUNDS + 1):
            for program in programs if number % 2 else reversed(programs):
                measured = programs[program]()
                # The first round warms up.
                if number:
                    rounds[program].append(measured)
    finally:
        bare.stop()
    return rounds


def median_ratio(ours, theirs):
    ratios = [one[0] / other[0] for one, other in zip(ours, theirs)]
    return statistics.median(ratios), min(ratios), max(ratios)


def summary(rounds):
    """Returns the figures of each program in an operation."""
    result = {}
    for program, measured in rounds.items():
        ratio, low, high = median_ratio(rounds[US], measured)
        figures = {"per_second": statistics.median(one[0] for one in measured)}
        if measured[0][1] is not None:
            figures["p50_ms"] = statistics.median(one[1] for one in measured)
            figures["p99_ms"] = statistics.median(one[2] for one in measured)
        if program != US:
            figures["ratio"] = {"median": ratio, "lowest": low, "highest": high}
        result[program] = figures
    return result


def print_operations(operations):
    print(f"{'operation':<12}{'program':<20}{'per second':>12}{'p50':>10}{'p99':>10}   Coffee Tracker has")
    for operation, programs in operations.items():
        for program, figures in programs.items():
            ratio = figures.get("ratio")
            share = "" if ratio is None else f"{ratio['median']:.2f} times ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"
            times = [f"{figures[key]:.2f} ms" if key in figures else "-" for key in ("p50_ms", "p99_ms")]
            print(f"{operation:<12}{program:<20}{figures['per_second']:>12,.0f}{times[0]:>10}{times[1]:>10}   {share}".rstrip())


def print_memory(memory):
    print(f"\n{'memory':<32}{'idle':>10}{'after load':>12}{'peak':>10}{'start':>10}")
    for program, m in memory.items():
        print(
            f"{program:<32}{m['idle_mb']:>7.1f} MB{m['after_load_mb']:>9.1f} MB{m['peak_mb']:>7.1f} MB{m['start_ms']:>7.0f} ms"
        )


def compare(folder):
    folders = {name: folder / name for name in (US, POCKET)}
    for one in folders.values():
        one.mkdir()
    starts = {US: start_coffee_tracker, POCKET: start_pocketbase}
    # The second start is one on existing data.
    for name, start in starts.items():
        start(folders[name]).stop()
    servers = {name: start(folders[name]) for name, start in starts.items()}
    try:
        time.sleep(SETTLE)
        idle = {name: server.memory_mb("VmRSS") for name, server in servers.items()}
        databases = {FULL: RawSqlite(folder / "full.db", "full"), NORMAL: RawSqlite(folder / "normal.db", "normal")}
        operations = {}
        for name, (connections, *requests) in messages().items():
            rounds = measure_operation(name, connections, requests, servers, databases, folder)
            operations[name] = summary(rounds)
        time.sleep(SETTLE)
        memory = {
            name: {
                "idle_mb": idle[name],
                "after_load_mb": server.memory_mb("VmRSS"),
                "peak_mb": server.memory_mb("VmHWM"),
                "start_ms": server.started_ms,
            }
            for name, server in servers.items()
        }
    finally:
        for server in servers.values():
            server.stop()
    return {"rounds": ROUNDS, "round_seconds": ROUND_SECONDS, "operations": operations, "memory": memory}


def main():
    began = time.monotonic()
    # On the disk of the checkout: /tmp may be in memory.
    with tempfile.TemporaryDirectory(prefix="bench-peers.", dir="target") as name:
        result = compare(pathlib.Path(name).resolve())
    result["seconds"] = time.monotonic() - began
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n")
    print_operations(result["operations"])
    print_memory(result["memory"])
    print(
        f"\n{ROUNDS} rounds of {ROUND_SECONDS} s each, {result['seconds']:.0f} s in all; written to {OUTPUT}\n"
        "PocketBase does not sync each write to the disk (synchronous=NORMAL), Coffee Tracker does. PocketBase's collection\n"
        "is open to everybody, Coffee Tracker checks a key. SQLite is one thread of Python without HTTP and JSON."
    )


if __name__ == "__main__":
    main()
