"""Disk of the emulated Pi: an NBD server that is as slow as an SD card and loses what was not flushed.

Writes are kept in memory until the machine flushes or asks for FUA. `cut_power` discards them, or keeps a random
part of them, page by page, as a card may do. QEMU's own throttling delays writes, but no flushes, and QEMU cannot
lose a write. One connection at a time; a new one may follow. TRIM and structured replies are left out.
"""

import contextlib
import dataclasses
import mmap
import pathlib
import socket
import struct
import threading
import time

SECTOR = 512
# A card writes whole pages of at least 4 KiB. With smaller ones, half of a commit block could be kept, and ext4 does not
# mount a file system whose journal has one.
PAGE_SECTORS = 8
GREETING_FLAGS = 1 | 2  # fixed newstyle, no zeroes
EXPORT_FLAGS = 1 | 4 | 8  # has flags, flush, FUA
OPTION_MAGIC = b"IHAVEOPT"
OPTION_EXPORT_NAME, OPTION_ABORT, OPTION_INFO, OPTION_GO = 1, 2, 6, 7
REPLY_ACK, REPLY_INFO, REPLY_UNSUPPORTED = 1, 3, (1 << 31) + 1
INFO_EXPORT = 0
READ, WRITE, DISCONNECT, FLUSH = range(4)
FUA = 1
EINVAL = 22


@dataclasses.dataclass(frozen=True)
class CardSpeed:
    """Duration of each request: a fixed part and one for each byte."""

    read_seconds: float
    write_seconds: float
    flush_seconds: float
    read_bytes_per_second: float
    write_bytes_per_second: float


# What the class A1 promises (1,500 reads and 500 writes of 4 KiB a second, 10 MB/s), with a flush as on common cards.
A1_CARD = CardSpeed(
    read_seconds=0.0006,
    write_seconds=0.0016,
    flush_seconds=0.004,
    read_bytes_per_second=40e6,
    write_bytes_per_second=10e6,
)


@dataclasses.dataclass
class Counters:
    """Requests and bytes since the server started."""

    reads: int = 0
    writes: int = 0
    flushes: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def since(self, earlier):
        """Returns the difference."""
        now, before = dataclasses.asdict(self), dataclasses.asdict(earlier)
        return Counters(**{name: now[name] - before[name] for name in now})


class Disk:
    """Serves an image, which it changes, on a Unix socket."""

    def __init__(self, image, socket_path, speed=A1_CARD):
        self.speed = speed
        self.counters = Counters()
        # A card that reports a flush as done and does not do it. Only to see that a test fails.
        self.ignores_flushes = False
        self._file = open(image, "r+b")
        self._durable = mmap.mmap(self._file.fileno(), 0)
        # Sectors that were written and not flushed, by their number.
        self._cache = {}
        self.socket_path = pathlib.Path(socket_path)
        self.socket_path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket_path))
        self._listener.listen(1)
        self._idle = threading.Event()
        self._idle.set()
        # Writes until the card stops responding, if it is going to.
        self._writes_left = None
        self.has_failed = threading.Event()
        self._is_cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def copy_counters(self):
        return dataclasses.replace(self.counters)

    def fail_after(self, writes):
        """Stops responding when this many writes have been received, the last one not flushed: see `has_failed`.

        `cut_power` ends this state.
        """
        self._is_cut.clear()
        self.has_failed.clear()
        self._writes_left = writes

    def cut_power(self, chance=None):
        """Forgets the sectors that were not flushed; returns how many there were and how many were kept.

        With `chance` (random.Random), the sectors of random pages are kept. The machine must have ended.
        """
        self._is_cut.set()
        self.wait_until_idle()
        self._writes_left = None
        unflushed = len(self._cache)
        kept = 0
        if chance:
            share = chance.random()
            pages = sorted({sector // PAGE_SECTORS for sector in self._cache})
            kept_pages = {page for page in pages if chance.random() < share}
            survivors = {sector: data for sector, data in self._cache.items() if sector // PAGE_SECTORS in kept_pages}
            kept = len(survivors)
            self._store(survivors)
        self._cache = {}
        return unflushed, kept

    def switch_off(self):
        """Stores everything, as the machine did when it shut down."""
        self.wait_until_idle()
        self._flush()

    def wait_until_idle(self):
        """Waits until the connection of a machine that has ended is closed."""
        if not self._idle.wait(60):
            raise TimeoutError("the machine is still connected to its disk")

    def close(self):
        self._listener.close()
        self.socket_path.unlink(missing_ok=True)
        self._idle.wait(5)

    # -- Connection ------------------------------------------------------------------------

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._idle.clear()
            try:
                with connection, contextlib.suppress(ConnectionError, BrokenPipeError):
                    if self._negotiate(connection):
                        self._serve(connection)
            finally:
                self._idle.set()

    def _negotiate(self, connection):
        """Returns whether the client wants to read and write now."""
        connection.sendall(b"NBDMAGIC" + OPTION_MAGIC + struct.pack(">H", GREETING_FLAGS))
        receive(connection, 4)
        while True:
            magic, option, length = struct.unpack(">8sII", receive(connection, 16))
            receive(connection, length)
            if magic != OPTION_MAGIC:
                return False
            if option == OPTION_EXPORT_NAME:
                connection.sendall(struct.pack(">QH", len(self._durable), EXPORT_FLAGS))
                return True
            if option in (OPTION_INFO, OPTION_GO):
                export = struct.pack(">HQH", INFO_EXPORT, len(self._durable), EXPORT_FLAGS)
                connection.sendall(option_reply(option, REPLY_INFO, export) + option_reply(option, REPLY_ACK))
                if option == OPTION_GO:
                    return True
            elif option == OPTION_ABORT:
                connection.sendall(option_reply(option, REPLY_ACK))
                return False
            else:
                connection.sendall(option_reply(option, REPLY_UNSUPPORTED))

    def _serve(self, connection):
        while True:
            _, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", receive(connection, 28))
            if kind == DISCONNECT:
                return
            data, error = b"", 0
            if kind == WRITE:
                data = receive(connection, length)
            if kind in (READ, WRITE) and offset % SECTOR + length % SECTOR:
                data, error = b"", EINVAL
            elif kind == READ:
                data = self._read(offset, length)
            elif kind == WRITE:
                self._write(offset, data, flags & FUA)
                data = b""
                self._fail_if_due()
            elif kind == FLUSH:
                self._flush()
            else:
                error = EINVAL
            connection.sendall(struct.pack(">IIQ", 0x67446698, error, handle) + data)

    def _fail_if_due(self):
        if self._writes_left is None:
            return
        self._writes_left -= 1
        if self._writes_left <= 0 and self._cache:
            self.has_failed.set()
            self._is_cut.wait()
            raise ConnectionError("the power is cut")

    # -- Card ------------------------------------------------------------------------------

    def _read(self, offset, length):
        self.counters.reads += 1
        self.counters.bytes_read += length
        time.sleep(self.speed.read_seconds + length / self.speed.read_bytes_per_second)
        data = bytearray(self._durable[offset : offset + length])
        if self._cache:
            first = offset // SECTOR
            for n in range(length // SECTOR):
                sector = self._cache.get(first + n)
                if sector is not None:
                    data[n * SECTOR : (n + 1) * SECTOR] = sector
        return bytes(data)

    def _write(self, offset, data, is_forced):
        self.counters.writes += 1
        self.counters.bytes_written += len(data)
        time.sleep(self.speed.write_seconds + len(data) / self.speed.write_bytes_per_second)
        first = offset // SECTOR
        sectors = {first + n: data[n * SECTOR : (n + 1) * SECTOR] for n in range(len(data) // SECTOR)}
        if is_forced:
            for sector in sectors:
                self._cache.pop(sector, None)
            self._store(sectors)
        else:
            self._cache.update(sectors)

    def _flush(self):
        self.counters.flushes += 1
        time.sleep(self.speed.flush_seconds)
        if not self.ignores_flushes:
            self._store(self._cache)
            self._cache = {}

    def _store(self, sectors):
        for sector, data in sectors.items():
            self._durable[sector * SECTOR : (sector + 1) * SECTOR] = data


def option_reply(option, kind, data=b""):
    return struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data


def receive(connection, length):
    data = bytearray()
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionError("the client has disconnected")
        data += part
    return bytes(data)
