"""The emulated Pi: QEMU with a Debian for arm64 (image.sh) on the disk of nbd.py.

Cores of the type Cortex-A53 (Pi 3, Pi Zero 2 W) and 512 MB. This machine reaches two ports of it on loopback, the
service and a shell; from inside, nothing is reachable.
"""

import base64
import contextlib
import dataclasses
import http.client
import json
import pathlib
import socket
import subprocess
import time
import urllib.request

GUEST_SHELL, GUEST_SERVICE = 2222, 8000
KERNEL_ARGUMENTS = "console=ttyAMA0 root=/dev/vda net.ifnames=0 quiet"
CPUS = 2
# Guards against a hang: the machine that runs this may be busy with other work.
BOOT_SECONDS = 300


class TestFailure(Exception):
    """An expectation that does not hold, with the output that shows it."""

    def __init__(self, expected, output=""):
        super().__init__(expected)
        self.output = output


@dataclasses.dataclass
class Result:
    code: int
    output: str


class Machine:
    """Boots one machine at a time from `folder` (vmlinuz, initrd.img) and a disk."""

    def __init__(self, folder, disk, console):
        self.folder = pathlib.Path(folder)
        self.disk = disk
        self.console = pathlib.Path(console)
        self.shell_port, self.service_port = free_ports(2)
        self.process = None
        self.key = None
        self._powered_on = 0.0

    # -- Power -----------------------------------------------------------------------------

    def power_on(self, kernel_arguments="", clock=None):
        """Starts the machine. `clock`: time of its hardware clock, instead of the present."""
        forwards = f"hostfwd=tcp:127.0.0.1:{self.shell_port}-:{GUEST_SHELL}"
        forwards += f",hostfwd=tcp:127.0.0.1:{self.service_port}-:{GUEST_SERVICE}"
        command = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-m", "512", "-smp", str(CPUS)]
        command += ["-accel", "tcg,thread=multi", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
        command += ["-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd.img")]
        command += ["-append", f"{KERNEL_ARGUMENTS} {kernel_arguments}".strip()]
        command += ["-serial", f"file:{self.console}"]
        command += ["-drive", f"if=none,id=card,format=raw,file=nbd:unix:{self.disk.socket_path}"]
        command += ["-device", "virtio-blk-device,drive=card", "-device", "virtio-rng-device"]
        command += ["-netdev", f"user,id=net,restrict=on,{forwards}", "-device", "virtio-net-device,netdev=net"]
        if clock:
            command += ["-rtc", f"base={clock}"]
        self._powered_on = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def boot(self, kernel_arguments="", clock=None):
        """Starts the machine and waits until systemd has started everything."""
        self.power_on(kernel_arguments, clock)
        state = ""
        while state not in ("running", "degraded"):
            self._check_boot()
            try:
                state = self.run("systemctl is-system-running --wait", BOOT_SECONDS).output.strip()
            except OSError:
                time.sleep(0.2)
        if state != "running":
            raise TestFailure("systemd has no failed unit after the boot", self.run("systemctl --failed").output)

    def seconds_to_first_answer(self):
        """Waits for the first answer of the service; returns the time since the machine was started."""
        while True:
            self._check_boot()
            try:
                if self.get("/health", seconds=2).status == 200:
                    return time.monotonic() - self._powered_on
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)

    def cut_power(self, chance=None):
        """Ends the machine at once; returns how many unflushed sectors the disk had and how many it kept."""
        self.process.kill()
        self.process.wait()
        self.process = None
        return self.disk.cut_power(chance)

    def shut_down(self):
        """Shuts down as with the power button."""
        # The shell may end before it has answered.
        with contextlib.suppress(ConnectionError):
            self.run("systemctl --no-block poweroff")
        try:
            self.process.wait(BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            raise TestFailure("the machine shuts down") from None
        self.process = None
        self.disk.switch_off()

    def stop(self):
        """Ends the machine, whatever it does."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _check_boot(self):
        ended = self.process.poll() is not None
        if ended or time.monotonic() - self._powered_on > BOOT_SECONDS:
            raise TestFailure("the machine boots", "QEMU has ended" if ended else "")

    # -- Shell -----------------------------------------------------------------------------

    def run(self, script, seconds=180):
        """Runs a script as root. Fails with OSError when the machine does not answer."""
        received = bytearray()
        until = time.monotonic() + seconds
        with socket.create_connection(("127.0.0.1", self.shell_port), timeout=30) as connection:
            connection.sendall(base64.b64encode(script.encode()) + b"\n")
            while True:
                connection.settimeout(max(0.1, until - time.monotonic()))
                try:
                    part = connection.recv(65536)
                except TimeoutError:
                    output = received.decode(errors="replace")
                    raise TestFailure(f"ends within {seconds} s: {script}", output) from None
                if not part:
                    break
                received += part
        output, _, code = received.decode(errors="replace").rpartition("\nexit code ")
        if not code.strip().isdigit():
            raise ConnectionError("the shell was interrupted")
        return Result(int(code), output)

    def does(self, script, *texts, seconds=180):
        """The script succeeds and prints these texts; returns its output."""
        result = self.run(script, seconds)
        if result.code != 0:
            raise TestFailure(f"succeeds: {script} (exit code {result.code})", result.output)
        return has(result.output, *texts)

    def fails(self, script, *texts, seconds=180):
        """The script fails and prints these texts."""
        result = self.run(script, seconds)
        if result.code == 0:
            raise TestFailure(f"fails: {script}", result.output)
        return has(result.output, *texts)

    def prints(self, script, text):
        """The script succeeds and prints exactly this."""
        output = self.does(script)
        if output.rstrip("\n") != text:
            raise TestFailure(f"{script} prints: {text}", output)

    def within(self, seconds, script):
        """The script succeeds in time when it is repeated. The limit only guards against a hang."""
        until = time.monotonic() + seconds
        while (result := self.run(script)).code != 0:
            if time.monotonic() > until:
                raise TestFailure(f"succeeds within {seconds} s: {script}", result.output)
            time.sleep(0.5)

    # -- Service ---------------------------------------------------------------------------

    def url(self, path):
        return f"http://127.0.0.1:{self.service_port}{path}"

    def get(self, path, seconds=60):
        """Returns the response; one without success is an OSError."""
        request = urllib.request.Request(self.url(path))
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        return urllib.request.urlopen(request, timeout=seconds)

    def json(self, path):
        with self.get(path) as response:
            return json.load(response)


def has(output, *texts):
    for text in texts:
        if text not in output:
            raise TestFailure(f"prints: {text}", output)
    return output


def free_ports(count):
    """Returns ports of loopback that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
