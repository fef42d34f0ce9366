#!/usr/bin/env python3
"""Attacks a server with hostile connections and checks that it keeps serving regular clients.

Three attacks run together for SECONDS (default 120), first from one address, then from 200:
  silent   1,250 connections that send nothing
  headers  1,100 connections with 390 KB of a header that never ends
  batches  60 batches of 8 MB with a write-only key, half of them incomplete
Each opens all of its connections at once and replaces those that the server closes: at most
1,000, 200 and 20 a second.

Measured meanwhile, each with a limit: the slowest /health of a new client (1 s), the time
until a revoked key is rejected (2 s), the longest gap between notifications of the watchdog
(WATCHDOG, 10 s), peak resident memory (128 MB), and the connections held (MAX_CONNECTIONS).
The server runs in a cgroup of 256 MB if this script can create one.

COFFEE_TRACKER names the program. Exits with 1 when a limit is exceeded. TIMES=print does not check the times, for
machines with other load: only memory, connections and crashes are checked.
"""

import contextlib
import errno
import http.client
import json
import multiprocessing
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SECONDS = float(os.environ.get("SECONDS") or 120)
PROGRAM = os.path.abspath(os.environ.get("COFFEE_TRACKER") or "target/release/coffee-tracker")
OWNER = "a-key-for-the-siege-0123456789"
CGROUP_BYTES = 256 << 20
MAX_RESIDENT_MB = 128
MAX_HEALTH_S = 1.0
MAX_REVOKED_S = 2.0
WATCHDOG_S = 10
MAX_CONNECTIONS = 256
ONLY_PRINT_TIMES = os.environ.get("TIMES") == "print"
SILENT, HEADERS, BATCHES = 1250, 1100, 60
HEADER = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * (390 << 10)


def batch():
    """Returns a valid batch of 10,000 readings of almost 8 MB."""
    notes = "n" * 760
    start = 1_600_000_000
    readings = [
        {"bpm": 60 + n % 40, "timestamp": start_time(start + n), "notes": notes} for n in range(10_000)
    ]
    body = json.dumps({"readings": readings}).encode()
    assert 7 << 20 < len(body) <= 8 << 20, len(body)
    return body


def start_time(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def connect(port, address):
    """Returns a non-blocking socket that connects from this loopback address."""
    sock = socket.socket()
    sock.setblocking(False)
    # Let the kernel choose the port at connect time, so that ports can be shared by destination.
    sock.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
    sock.bind((address, 0))
    with contextlib.suppress(BlockingIOError):
        sock.connect(("127.0.0.1", port))
    return sock


def raise_descriptor_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def attack_with(port, addresses, count, rate, payloads, until):
    """Opens `count` connections that send their payload, and replaces closed ones at `rate` per second."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_descriptor_limit()
    poll = select.epoll()
    open_sockets, opened, allowed, before = {}, 0, float(count), time.monotonic()

    def drop(number):
        sock, _ = open_sockets.pop(number)
        with contextlib.suppress(OSError):
            poll.unregister(number)
        sock.close()

    while time.monotonic() < until:
        now = time.monotonic()
        allowed, before = min(allowed + rate * (now - before), count), now
        # Reconnect at most a quarter at a time, so that the others keep sending.
        for _ in range(min(count - len(open_sockets), max(count // 4, 1), int(allowed))):
            try:
                sock = connect(port, addresses[opened % len(addresses)])
            except OSError as e:
                if e.errno not in (errno.EMFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS):
                    raise
                break
            payload = memoryview(payloads[opened % len(payloads)])
            opened, allowed = opened + 1, allowed - 1
            open_sockets[sock.fileno()] = (sock, payload)
            poll.register(sock, select.EPOLLIN | select.EPOLLRDHUP | (select.EPOLLOUT if payload else 0))
        for number, events in poll.poll(0.05, 512):
            if number not in open_sockets:
                continue
            sock, payload = open_sockets[number]
            if events & (select.EPOLLERR | select.EPOLLHUP | select.EPOLLRDHUP):
                drop(number)
                continue
            try:
                if events & select.EPOLLIN and not sock.recv(65536):
                    drop(number)
                    continue
                if events & select.EPOLLOUT and payload:
                    payload = payload[sock.send(payload[: 1 << 18]) :]
                    open_sockets[number] = (sock, payload)
                    if not payload:
                        poll.modify(sock, select.EPOLLIN | select.EPOLLRDHUP)
            except BlockingIOError:
                pass
            except OSError:
                drop(number)
        time.sleep(0.02)


class Cgroup:
    """Memory cgroup of the server, or no limit when cgroups are unavailable."""

    def __init__(self):
        self.path, self.reason = None, None
        v1 = pathlib.Path("/sys/fs/cgroup/memory")
        root = v1 if v1.is_dir() else pathlib.Path("/sys/fs/cgroup")
        path = root / f"coffee-siege-{os.getpid()}"
        try:
            path.mkdir()
            self.path = path
            limit = "memory.limit_in_bytes" if v1.is_dir() else "memory.max"
            (path / limit).write_text(str(CGROUP_BYTES))
        except OSError as e:
            self.reason = str(e)
            self.remove()

    def enter(self):
        if self.path:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def peak_mb(self):
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            with contextlib.suppress(OSError, TypeError):
                return int((self.path / name).read_text()) / 2**20
        return None

    def remove(self):
        if self.path:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            self.path = None


class Watchdog(threading.Thread):
    """Receives the notifications that the server sends to systemd."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.fed = []

    def run(self):
        while True:
            if b"WATCHDOG=1" in self.socket.recv(4096):
                self.fed.append(time.monotonic())

    def longest_gap(self, since, until):
        times = [since, *(at for at in self.fed if since < at < until), until]
        return max(later - earlier for earlier, later in zip(times, times[1:]))


class Server:
    def __init__(self, folder, cgroup):
        self.folder = folder
        notify = os.path.join(folder, "notify")
        self.watchdog = Watchdog(notify)
        self.watchdog.start()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.settings = {"API_KEY": OWNER, "DATABASE_URL": os.path.join(folder, "coffee.db"), "TZ": "UTC"}
        settings = {
            **self.settings,
            **malloc_settings(),
            "PORT": str(self.port),
            "HOST": "127.0.0.1",
            "MAX_CONNECTIONS": str(MAX_CONNECTIONS),
            "NOTIFY_SOCKET": notify,
            "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000),
        }
        self.log = open(os.path.join(folder, "log"), "wb")

        def prepare():
            cgroup.enter()
            # The unit's LimitNOFILE.
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 8192))

        self.process = subprocess.Popen(
            [PROGRAM, "serve"],
            cwd=folder,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            preexec_fn=prepare,
        )
        start = time.monotonic()
        while True:
            with contextlib.suppress(OSError):
                if self.request("GET", "/health", source="127.0.2.1", timeout=5)[0] == 200:
                    return
            if self.process.poll() is not None or time.monotonic() - start > 60:
                raise SystemExit("the server did not start: " + self.tail())
            time.sleep(0.05)

    def tail(self):
        return pathlib.Path(self.folder, "log").read_bytes()[-2000:].decode(errors="replace")

    def request(self, method, path, source, timeout, key=None, body=None):
        """Returns the status of a request on a new connection."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout, source_address=(source, 0))
        with contextlib.closing(client):
            client.request(method, path, body, {"Authorization": f"Bearer {key}"} if key else {})
            response = client.getresponse()
            return response.status, response.read()

    def run(self, *arguments):
        done = subprocess.run(
            [PROGRAM, *arguments], cwd=self.folder, env=self.settings, capture_output=True, text=True, check=True
        )
        return done.stdout

    def add_key(self, name, scope):
        words = self.run("key", "add", "--scope", scope, name).split()
        return next(word for word in words if word.startswith("ct_"))

    def status(self, field):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        return 0.0

    def sockets(self):
        count, folder = 0, f"/proc/{self.process.pid}/fd"
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                count += os.readlink(f"{folder}/{name}").startswith("socket:")
        return count


def malloc_settings():
    """Returns the allocator settings of the unit."""
    unit = pathlib.Path(__file__).resolve().parent.parent / "coffee-tracker.service"
    lines = [line for line in unit.read_text().splitlines() if line.startswith("Environment=MALLOC_")]
    words = " ".join(lines).replace("Environment=", "").split()
    return dict(word.split("=", 1) for word in words)


class Figures:
    def __init__(self):
        self.health, self.revoked, self.errors = [], [], []
        self.sockets = 0


def visitors():
    """Addresses of regular clients. None is reused within two minutes."""
    n = 0
    while True:
        yield f"127.1.{n // 250 % 250}.{n % 250 + 1}"
        n += 1


def watch_health(server, figures, until):
    addresses = visitors()
    while time.monotonic() < until:
        start = time.monotonic()
        try:
            status, _ = server.request("GET", "/health", next(addresses), timeout=5)
            if status != 200:
                figures.errors.append(f"/health returned {status}")
        except (OSError, http.client.HTTPException) as e:
            figures.errors.append(f"/health: {e or type(e).__name__}")
        figures.health.append(time.monotonic() - start)
        time.sleep(0.1)


def watch_keys(server, figures, until):
    """Creates a key, waits until it is accepted, revokes it and waits until it is rejected."""
    addresses, number = (f"127.2.{n // 250 % 250}.{n % 250 + 1}" for n in range(1 << 20)), 0

    def wait_for(key, wanted, deadline):
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if server.request("GET", "/coffee/today", next(addresses), 5, key)[0] == wanted:
                    return True
            time.sleep(0.05)
        return False

    while time.monotonic() < until - 2:
        number += 1
        name = f"visitor-{number}"
        key = server.add_key(name, "read")
        if not wait_for(key, 200, time.monotonic() + 10):
            figures.errors.append("a new key did not work within 10 s")
            figures.revoked.append(10.0)
            continue
        server.run("key", "revoke", name)
        start = time.monotonic()
        if not wait_for(key, 401, start + 10):
            figures.errors.append("a revoked key worked for 10 s")
        figures.revoked.append(time.monotonic() - start)
        time.sleep(0.5)


def siege(server, addresses, writer, title):
    figures = Figures()
    since = time.monotonic()
    until = since + SECONDS
    body = batch()
    head = f"POST /heartrate/batch HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {writer}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    whole = head + body
    attacks = [
        (SILENT, 1000, [b""]),
        (HEADERS, 200, [HEADER]),
        (BATCHES, 20, [whole, whole[: 7 << 20]]),
    ]
    processes = [
        multiprocessing.Process(target=attack_with, args=(server.port, addresses, *attack, until), daemon=True)
        for attack in attacks
    ]
    watchers = [
        threading.Thread(target=watch, args=(server, figures, until), daemon=True)
        for watch in (watch_health, watch_keys)
    ]
    for one in [*processes, *watchers]:
        one.start()
    peak = 0.0
    while time.monotonic() < until and server.process.poll() is None:
        with contextlib.suppress(OSError):
            peak = max(peak, server.status("VmRSS"))
            figures.sockets = max(figures.sockets, server.sockets())
        time.sleep(0.05)
    for one in watchers:
        one.join(20)
    for one in processes:
        one.join(10)
        if one.is_alive():
            one.kill()
    gap = server.watchdog.longest_gap(since, until)
    alive = server.process.poll() is None
    slowest = max(figures.health, default=float("inf"))
    revoked = max(figures.revoked, default=float("inf"))
    # 32 may be closing, and the server uses a few for the listener, signals and systemd.
    bounds = [
        ("slowest /health of a new client", slowest, MAX_HEALTH_S, "s"),
        ("time until a revoked key is rejected", revoked, MAX_REVOKED_S, "s"),
        ("longest gap of the watchdog", gap, WATCHDOG_S, "s"),
        ("peak resident memory", peak, MAX_RESIDENT_MB, "MB"),
        ("sockets, including closing ones", figures.sockets, MAX_CONNECTIONS + 40, ""),
        ("failed requests of regular clients", len(figures.errors), 0, ""),
    ]
    print(f"{title}, {SECONDS:.0f} s, {len(figures.health)} new clients, {len(figures.revoked)} keys revoked")
    exceeded = []
    for name, value, bound, unit in bounds:
        is_time = unit == "s" or name == "failed requests of regular clients"
        if is_time and ONLY_PRINT_TIMES:
            print(f"  {name:<38} {value:9.2f} {unit}")
            continue
        verdict = "ok" if value <= bound else "EXCEEDED"
        print(f"  {name:<38} {value:9.2f} {unit:<3} (at most {bound:g})  {verdict}")
        if value > bound:
            exceeded.append(name)
    for reason in sorted(set(figures.errors))[:5]:
        print(f"    {figures.errors.count(reason)} times: {reason}")
    if not alive:
        print(f"  the server ended with {server.process.poll()}: {server.tail()[-600:]}")
        exceeded.append("the server ended")
    return exceeded


def main():
    raise_descriptor_limit()
    cgroup = Cgroup()
    print(f"cgroup of {CGROUP_BYTES >> 20} MB: " + (f"{cgroup.path}" if cgroup.path else f"skipped, {cgroup.reason}"))
    exceeded = []
    with tempfile.TemporaryDirectory(prefix="siege") as folder:
        server = Server(folder, cgroup)
        try:
            writer = server.add_key("watch", "write")
            print(f"resident before: {server.status('VmRSS'):.1f} MB")
            time.sleep(2)
            exceeded += siege(server, ["127.0.0.1"], writer, "from one address")
            if server.process.poll() is None:
                exceeded += siege(server, [f"127.0.0.{n}" for n in range(1, 201)], writer, "from 200 addresses")
            if server.process.poll() is None:
                time.sleep(3)
                print(f"resident afterwards: {server.status('VmRSS'):.1f} MB")
            if cgroup.path:
                print(f"peak of the cgroup, page cache included: {cgroup.peak_mb():.0f} MB")
        finally:
            server.process.terminate()
            try:
                server.process.wait(20)
            except subprocess.TimeoutExpired:
                server.process.kill()
                exceeded.append("the server did not stop")
            cgroup.remove()
    if exceeded:
        print("siege: exceeded: " + ", ".join(dict.fromkeys(exceeded)))
        return 1
    print("siege: no limit was exceeded")
    return 0


if __name__ == "__main__":
    sys.exit(main())
