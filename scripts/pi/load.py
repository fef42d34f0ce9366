"""Load on the emulated Pi: figures, and cuts of power under writes. The clients run on the host."""

import http.client
import json
import threading
import time
import uuid

import service
from machine import TestFailure

DURABLE_WRITES = 1000
CLIENTS = 16
ROUTES = {"coffees": "/coffee/", "readings": "/heartrate/"}
EXPORTS = {"coffees": "/export/coffee?format=jsonl", "readings": "/export/heartrate?format=jsonl"}


# -- Figures ------------------------------------------------------------------------------


def resident_megabytes(pi):
    text = pi.does(f"grep VmRSS /proc/{service.process_id(pi)}/status")
    return int(text.split()[1]) / 1024


def raw_writes_per_second(pi):
    """Rows per second of the sqlite3 shell on a copy of the database, one row per commit, each synced."""
    seconds = pi.does(
        f"""set -e
        rm -f raw.db*
        cp "$(ls {service.STATE}/backups/coffee_*.db | tail -n 1)" raw.db
        {{
            echo 'pragma journal_mode = wal; pragma synchronous = full;'
            now=$(date +%s%6N)
            for ((n = 0; n < {DURABLE_WRITES}; n++)); do
                echo "insert into coffee_logs (timestamp, caffeine_mg, coffee_type)
                    values ($((now + n)), 95.0, 'espresso');"
            done
        }} >inserts.sql
        sync
        start=$(date +%s%3N)
        sqlite3 raw.db <inserts.sql >/dev/null
        echo $(($(date +%s%3N) - start))
        rm -f raw.db* inserts.sql""",
        seconds=600,
    )
    return DURABLE_WRITES / (int(seconds.split()[-1]) / 1000)


def server_writes_per_second(pi, clients, writes):
    """Coffees per second of clients that each wait for the acknowledgement before they send the next one."""
    failures = []

    def send():
        connection = http.client.HTTPConnection("127.0.0.1", pi.service_port, timeout=120)
        for _ in range(writes // clients):
            body = json.dumps({"caffeine_mg": 95, "coffee_type": "espresso"})
            connection.request("POST", "/coffee/", body, {"Authorization": f"Bearer {pi.key}"})
            response = connection.getresponse()
            text = response.read()
            if response.status != 201:
                failures.append(text.decode())
                return

    threads = [threading.Thread(target=send) for _ in range(clients)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise TestFailure("every coffee is logged", failures[0])
    return writes / (time.monotonic() - start)


def measure(pi, figures):
    """Memory and durable writes; `figures` receives a line for each."""
    idle = resident_megabytes(pi)
    service.has_no_errors(pi)
    raw = raw_writes_per_second(pi)
    figures["raw SQLite, one row per commit"] = f"{raw:.0f} writes/s"
    for clients in (1, CLIENTS):
        before = pi.disk.copy_counters()
        writes = DURABLE_WRITES // clients * clients
        rate = server_writes_per_second(pi, clients, writes)
        disk = pi.disk.counters.since(before)
        figures[f"{writes:,} coffees, {clients} {'client' if clients == 1 else 'clients'}"] = (
            f"{rate:.0f} writes/s, {rate / raw:.2f} times raw SQLite; "
            f"{disk.bytes_written / writes / 1024:.1f} KiB and {disk.flushes / writes:.2f} flushes each"
        )
    figures["memory when idle; after the load"] = f"{idle:.1f} MB; {resident_megabytes(pi):.1f} MB"
    free = pi.does("free -m").splitlines()[1].split()
    figures["memory of the whole machine"] = f"{free[2]} MB used of {free[1]} MB"


# -- Cuts of power ------------------------------------------------------------------------


class Writer(threading.Thread):
    """Client that repeats a request with its Idempotency-Key until it is acknowledged, whatever happens meanwhile.

    `acknowledged` maps the note of each entry to its id. The note is the key of the request.
    """

    def __init__(self, pi, kind, is_stopped):
        super().__init__(daemon=True)
        self.pi, self.kind, self.is_stopped = pi, kind, is_stopped
        self.acknowledged = {}
        self.pending = None
        self.problem = None
        self.retries = 0
        self._connection = None

    def run(self):
        while not (self.is_stopped.is_set() and self.pending is None) and not self.problem:
            self.pending = self.pending or str(uuid.uuid4())
            try:
                self._send()
            except (OSError, http.client.HTTPException):
                self.retries += 1
                self._connection = None
                time.sleep(0.3)

    def _send(self):
        value = {"caffeine_mg": 95} if self.kind == "coffees" else {"bpm": 72}
        headers = {"Authorization": f"Bearer {self.pi.key}", "Idempotency-Key": self.pending}
        self._connection = self._connection or http.client.HTTPConnection("127.0.0.1", self.pi.service_port, timeout=20)
        self._connection.request("POST", ROUTES[self.kind], json.dumps({**value, "notes": self.pending}), headers)
        response = self._connection.getresponse()
        text = response.read().decode()
        if response.status == 201:
            self.acknowledged[self.pending] = json.loads(text)["id"]
            self.pending = None
        elif response.status == 503:
            raise ConnectionError(text)
        else:
            self.problem = f"status {response.status}: {text}"


class Writers:
    """Four clients, two for each kind of entry."""

    def __init__(self, pi):
        self._is_stopped = threading.Event()
        self._writers = [Writer(pi, kind, self._is_stopped) for kind in ROUTES for _ in range(2)]
        for writer in self._writers:
            writer.start()

    def acknowledged(self, kind):
        entries = {}
        for writer in self._writers:
            if writer.kind == kind:
                entries.update(writer.acknowledged.copy())
        return entries

    def count(self):
        for writer in self._writers:
            if writer.problem:
                raise TestFailure("every write is acknowledged or can be repeated", writer.problem)
        return sum(len(writer.acknowledged) for writer in self._writers)

    def retries(self):
        return sum(writer.retries for writer in self._writers)

    def stop(self):
        """Lets every client finish its last request."""
        self._is_stopped.set()
        for writer in self._writers:
            writer.join(120)
        if any(writer.pending for writer in self._writers):
            self.count()
            raise TestFailure("every client finishes its last request")


def wait_for_writes(pi, writers, count):
    """Waits until this many more writes are acknowledged."""
    target = writers.count() + count
    until = time.monotonic() + 300
    while writers.count() < target:
        if pi.process.poll() is not None or time.monotonic() > until:
            raise TestFailure(f"{count} writes are acknowledged after the start")
        time.sleep(0.05)


def cut_power_under_writes(pi, writers, random):
    """Cuts the power at a random write, boots, and compares what is stored with what was acknowledged.

    Returns a description.
    """
    wait_for_writes(pi, writers, 20)
    time.sleep(random.uniform(0, 4))
    pi.disk.fail_after(random.randint(1, 60))
    if not pi.disk.has_failed.wait(300):
        raise TestFailure("the machine writes to its disk")
    keeps_some = random.random() < 0.5
    unflushed, kept = pi.cut_power(random if keeps_some else None)
    acknowledged = {kind: writers.acknowledged(kind) for kind in ROUTES}
    pi.power_on()
    seconds = pi.seconds_to_first_answer()
    for kind, entries in acknowledged.items():
        compare(pi, kind, entries)
    total = sum(len(entries) for entries in acknowledged.values())
    return (
        f"{total:,} acknowledged writes are stored; {kept} of {unflushed} unflushed sectors kept; "
        f"answered after {seconds:.0f} s"
    )


def compare(pi, kind, acknowledged, has_others=True):
    """Every acknowledged entry is stored once, with its id, and no other one twice."""
    stored = {}
    with pi.get(EXPORTS[kind], seconds=120) as response:
        for line in response:
            entry = json.loads(line)
            if note := entry.get("notes"):
                if note in stored:
                    raise TestFailure(f"no {kind} are stored twice", line.decode())
                stored[note] = entry["id"]
    lost = [note for note in acknowledged if note not in stored]
    if lost:
        raise TestFailure(f"no acknowledged {kind} are lost ({len(lost)} of {len(acknowledged)} are missing)")
    changed = [note for note, number in acknowledged.items() if stored[note] != number]
    if changed:
        raise TestFailure(f"acknowledged {kind} keep their ids ({len(changed)} have another one)")
    if not has_others and len(stored) != len(acknowledged):
        raise TestFailure(f"nothing else is stored ({len(stored)} {kind}, {len(acknowledged)} acknowledged)")
