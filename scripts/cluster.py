"""Three machines behind HAProxy for scripts/test-cluster.sh, which starts this in namespaces of its own.

    cluster.py FOLDER     files of this run
"""

import collections
import csv
import fcntl
import http.client
import io
import json
import os
import pathlib
import re
import secrets
import shlex
import signal
import ssl
import subprocess
import sys
import threading
import time
import uuid

sys.dont_write_bytecode = True
TOP = pathlib.Path(__file__).resolve().parent.parent
WORK = pathlib.Path(sys.argv[1])
PEOPLE = int(os.environ.get("PEOPLE", "60"))
MOVED = int(os.environ.get("MOVED", "10"))
# Seconds between the writes of a person, and of one who is being moved, to measure the pause. moto searches all of its
# objects for each list, so it cannot keep up with 60 people who write every second.
INTERVAL, MOVING_INTERVAL = float(os.environ.get("INTERVAL", "3")), 0.1
MACHINES = {"machine1": "10.0.0.11", "machine2": "10.0.0.12", "machine3": "10.0.0.13"}
PROXY = "10.0.0.10"
STORE = f"http://{PROXY}:9000"
# Goal for the pause of a person's writes, and the limit of this test, which may run on a busy machine. Seconds.
PAUSE_GOAL, PAUSE_LIMIT = 5, 30
# Replication lag: the interval of one second, the upload, and a margin for busy machines. Seconds.
LAG = 6
# A retry comes sooner than Retry-After suggests, to measure the pause.
RETRY_SECONDS = 0.1
CONFIG = "--config /etc/coffee-tracker/coffee-tracker.env"
BINARIES = {"coffee-tracker": os.environ["COFFEE_TRACKER"], "litestream": os.environ["LITESTREAM"]}
# Stands in for systemd, with the two commands that the scripts in deploy/ use.
SYSTEMCTL = r"""#!/bin/bash
pid=$(cat /run/litestream.pid 2>/dev/null)
case "$*" in
"is-active --quiet litestream") [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null ;;
"restart litestream" | "restart --no-block litestream")
    [ -z "$pid" ] || kill "$pid" 2>/dev/null
    while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    set -a
    . /etc/coffee-tracker/replica.env
    setsid litestream replicate </dev/null >>/var/log/litestream.log 2>&1 &
    echo $! >/run/litestream.pid ;;
*) echo "systemctl $*: not supported here" >&2; exit 1 ;;
esac
"""


def step(text):
    print(f"\n== {text}", flush=True)


def fail(text):
    raise SystemExit(f"test-cluster: FAIL: {text}")


def run(command, **options):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, **options)
    if result.returncode != 0:
        fail(f"{command if isinstance(command, str) else shlex.join(command)}: {result.stdout}{result.stderr}")
    return result.stdout


def wait_for(seconds, what, condition):
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            fail(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def overlay(folder):
    """Makes changes of a folder private to this mount namespace, and forgets them at its end."""
    return (
        f"mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work && "
        f"mount -t overlay -o lowerdir={folder},upperdir=/mnt/upper,workdir=/mnt/work overlay {folder} && umount -l /mnt"
    )


class Machine:
    """A machine: namespaces of its own, in which sshd, Litestream and a server run."""

    def __init__(self, name):
        self.name, self.address = name, MACHINES[name]
        self.folder = WORK / name
        (self.folder / "data").mkdir(parents=True)
        mounts = [overlay(folder) for folder in ("/etc", "/usr/local", "/var", "/root")]
        mounts += ["mount -t tmpfs tmpfs /run", "mkdir -p /run/sshd /var/lib/coffee-tracker /etc/coffee-tracker"]
        mounts += [f"mount --bind {self.folder}/data /var/lib/coffee-tracker"]
        # Ends processes that nobody waits for, as an init does.
        reap = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nprint('up', flush=True)\nwhile True: signal.pause()"
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--propagation=private", "--mount-proc", "--fork"]
            + ["--kill-child=KILL", "bash", "-ec", "\n".join([*mounts, f"exec python3 -c {shlex.quote(reap)}"])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=open(self.folder / "log", "w"),
            text=True,
        )
        if self.process.stdout.readline() != "up\n":
            fail(f"{name} did not start")
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.init = int(children.read_text().split()[0])
        run(f"ip link add {name} type veth peer name eth0 netns {self.init} && ip link set {name} master bridge up", shell=True)
        self.inside(f"ip link set lo up; ip address add {self.address}/24 dev eth0; ip link set eth0 up; hostname {name}")

    def command(self, text):
        return ["nsenter", f"--target={self.init}", "--mount", "--net", "--pid", "--uts", "--ipc", "bash", "-c", text]

    def inside(self, text):
        return run(self.command(text))

    def write(self, path, text, mode=0o600):
        file = self.folder / "file"
        file.write_text(text)
        self.inside(f"install -D -m {mode:o} {file} {path}")

    def start(self):
        """Installs and starts everything, as docs/SCALING.md describes it."""
        for name, binary in BINARIES.items():
            self.inside(f"ln -s {binary} /usr/local/bin/{name}")
        self.write("/usr/local/bin/systemctl", SYSTEMCTL, 0o755)
        self.inside(f"install -m 755 {TOP}/deploy/restore-people /usr/local/sbin/")
        settings = {
            "HOST": "0.0.0.0",
            "TRUSTED_PROXIES": PROXY,
            "ALLOWED_HOSTS": "*.coffee.example",
            "DATABASE_URL": "sqlite:////var/lib/coffee-tracker/coffee.db",
            "BACKUP_DIR": "/var/lib/coffee-tracker/backups",
            "API_KEY": secrets.token_hex(24),
            # The people here write all the time.
            "RATE_LIMIT_ENABLED": "false",
            "MAX_OPEN_PEOPLE": "100",
        }
        self.write("/etc/coffee-tracker/coffee-tracker.env", "".join(f"{k}={v}\n" for k, v in settings.items()))
        text = (TOP / "deploy/replica.env").read_text().replace("https://s3.example.net", STORE)
        self.write("/etc/coffee-tracker/replica.env", text.replace("MACHINE=machine1", f"MACHINE={self.name}"))
        self.inside(f"cp {TOP}/deploy/litestream-s3.yml /etc/litestream.yml")
        self.inside(f"coffee-tracker serve {CONFIG} >/run/out 2>/var/log/server.log & disown")
        wait_for(30, f"server on {self.name}", lambda: "Listening" in self.inside("cat /run/out; true"))
        key = (WORK / "ssh.pub").read_text()
        self.write("/root/.ssh/authorized_keys", key)
        self.inside(
            f"install -m 600 {WORK}/host_key /etc/ssh/host_key && /usr/sbin/sshd -h /etc/ssh/host_key"
            " -o PermitRootLogin=prohibit-password -o StrictModes=no -o UsePAM=no -o UseDNS=no -o MaxStartups=100"
        )

    def copy_keys(self):
        """Runs the command of replica-keys.service."""
        unit = (TOP / "deploy/replica-keys.service").read_text()
        command = re.search(r"^ExecStart=(.*?[^\\])$", unit, re.M | re.S)[1]
        # systemd expands variables, but no patterns.
        self.inside(f"set -f -a; . /etc/coffee-tracker/replica.env; {command}")

    def kill(self):
        """Ends all processes and the network at once, as a power failure does."""
        os.kill(self.init, signal.SIGKILL)
        self.process.wait()


class Person(threading.Thread):
    """A person whose device writes a coffee every few seconds, and repeats a failed write with the same Idempotency-Key."""

    def __init__(self, name, machine, key):
        super().__init__(daemon=True)
        self.name_, self.machine, self.key = name, machine, key
        self.host = f"{name}.coffee.example"
        self.context = ssl._create_unverified_context()
        self.connection = None
        self.interval = INTERVAL
        self.stopped = threading.Event()
        self.acknowledged = {}
        self.sent = 0
        # (start of the first attempt, acknowledgement) of writes that were refused at first.
        self.pauses = []
        # (time, status) of all failed attempts; 0 without a response.
        self.failures = []

    def request(self, method, path, body=None, headers=None):
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(PROXY, timeout=20, context=self.context)
        all_headers = {"Host": self.host, "Authorization": f"Bearer {self.key}", **(headers or {})}
        try:
            self.connection.request(method, path, body, all_headers)
            response = self.connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            return 0, b""

    def run(self):
        while not self.stopped.wait(self.interval):
            self.write()

    def write(self):
        self.sent += 1
        note, once, start = f"{self.name_} {self.sent}", str(uuid.uuid4()), time.time()
        attempts = 0
        while not self.stopped.is_set():
            body = json.dumps({"caffeine_mg": 40, "notes": note})
            status, _ = self.request("POST", "/coffee/", body, {"Idempotency-Key": once})
            attempts += 1
            if status == 201:
                self.acknowledged[note] = time.time()
                if attempts > 1:
                    self.pauses.append((start, time.time()))
                return
            self.failures.append((time.time(), status))
            time.sleep(RETRY_SECONDS)

    def stored(self):
        status, text = self.request("GET", "/export/coffee")
        if status != 200:
            fail(f"export of {self.name_}: status {status}")
        notes = [row["notes"] for row in csv.DictReader(io.StringIO(text.decode()))]
        return collections.Counter(note for note in notes if note.startswith(f"{self.name_} "))

    def longest_pause(self, since):
        return max((end - start for start, end in self.pauses if end >= since), default=0.0)


class Cluster:
    def __init__(self):
        self.people, self.services = [], []

    def start(self):
        step(f"three machines, HAProxy, an object store, {PEOPLE} people")
        self.prepare_network()
        self.machines = {name: Machine(name) for name in MACHINES}
        self.start_proxy()
        for machine in self.machines.values():
            machine.start()
        self.add_people()
        for machine in self.machines.values():
            machine.inside("systemctl restart litestream")
            machine.copy_keys()

    def prepare_network(self):
        run(
            "ip link set lo up; ip link add bridge type bridge; ip link set bridge up;"
            f"ip address add {PROXY}/24 dev bridge",
            shell=True,
        )
        for folder in ("/etc", "/root"):
            run(overlay(folder), shell=True)
        run("mount -t tmpfs tmpfs /run && mkdir -p /run/haproxy /run/lock /etc/haproxy", shell=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(WORK / "ssh")])
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(WORK / "host_key")])
        hosts = "".join(f"{address} {name}\n" for name, address in MACHINES.items())
        with open("/etc/hosts", "a") as file:
            file.write(hosts)
        settings = f"Host machine*\n IdentityFile {WORK}/ssh\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n"
        pathlib.Path("/etc/ssh/ssh_config").write_text(settings)

    def spawn(self, name, command):
        with open(WORK / f"{name}.log", "w") as log:
            process = subprocess.Popen(["setpriv", "--pdeathsig=TERM", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.services.append(process)

    def start_proxy(self):
        names = ["anna"] + [f"person-{n}" for n in range(2, PEOPLE + 1)]
        self.names = {name: list(MACHINES)[n % 3] for n, name in enumerate(names)}
        lines = [f"{name}.coffee.example   {machine}\n" for name, machine in self.names.items()]
        pathlib.Path("/etc/haproxy/people.map").write_text("# people\n" + "".join(lines))
        settings = (TOP / "deploy/haproxy.cfg").read_text().replace("/dev/log local0", "stderr format raw local0")
        pathlib.Path("/etc/haproxy/haproxy.cfg").write_text(settings)
        certificate = "/etc/haproxy/coffee.example.pem"
        run(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj '/CN=*.coffee.example' -keyout /run/key -out /run/crt"
            f" && cat /run/crt /run/key >{certificate}",
            shell=True,
        )
        run(["haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"])
        self.spawn("haproxy", ["haproxy", "-W", "-f", "/etc/haproxy/haproxy.cfg"])
        self.spawn("moto", [os.environ["MOTO"], "-H", PROXY, "-p", "9000"])
        create = ["curl", "-sf", "-m", "5", "-X", "PUT", f"{STORE}/coffee-replica"]
        wait_for(60, "object store", lambda: subprocess.run(create, stdout=subprocess.DEVNULL).returncode == 0)

    def add_people(self):
        def add(machine):
            for name in [name for name, at in self.names.items() if at == machine]:
                command = f"coffee-tracker person add {name} {CONFIG} 2>/dev/null"
                self.people.append(Person(name, machine, self.machines[machine].inside(command).strip()))

        threads = [threading.Thread(target=add, args=(machine,)) for machine in MACHINES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(self.people) != PEOPLE:
            fail("people could not be added")
        self.people.sort(key=lambda person: list(self.names).index(person.name_))

    def begin_writes(self):
        for person in self.people:
            wait_for(30, f"key of {person.name_}", lambda: person.request("GET", "/coffee/today")[0] == 200)
        for person in self.people:
            person.start()
        wait_for(60, "first writes", lambda: all(person.acknowledged for person in self.people))

    def document(self, *substitutions):
        """Runs commands of docs/SCALING.md, on the proxy."""
        return run(["bash", "-ec", 'sudo() { "$@"; }\n' + "\n".join(substitutions)], cwd=WORK, env=self.environment())

    @staticmethod
    def environment():
        return {**os.environ, "PATH": f"{TOP}/deploy:{os.environ['PATH']}"}

    def move_all(self):
        step(f"move {MOVED} people to another machine and back")
        moved = self.people[:MOVED]
        began = time.time()
        pauses, durations = [], []
        for turn in ("there", "back"):
            for person in moved:
                pause, duration = self.move(person, turn)
                pauses.append(pause)
                durations.append(duration)
        time.sleep(2)
        print(f"{len(pauses)} moves: pause of a person's writes {spread(pauses)} (goal: {PAUSE_GOAL} s); whole move {spread(durations)}")
        self.expect_no_failures(began, [person for person in self.people if person not in moved], "people who were not moved")
        statuses = collections.Counter(status for person in moved for at, status in person.failures if at >= began)
        print(f"statuses of refused attempts of people who were moved: {dict(statuses)}")
        if set(statuses) - {503}:
            fail("a moved person got another status than 503")
        if max(pauses) > PAUSE_LIMIT:
            fail(f"a pause was longer than {PAUSE_LIMIT} s")

    def move(self, person, turn):
        machines = list(MACHINES)
        home = self.names[person.name_]
        away = machines[(machines.index(home) + 1) % 3]
        old, new = (home, away) if turn == "there" else (away, home)
        person.interval = MOVING_INTERVAL
        time.sleep(INTERVAL)
        began = time.time()
        self.document(replaced(commands("move-person anna"), {"anna": person.name_, "machine1": old, "machine2": new}))
        person.machine = new
        duration = time.time() - began
        wait_for(30, "an acknowledged write after the move", lambda: max(person.acknowledged.values()) > began + duration)
        person.interval = INTERVAL
        return person.longest_pause(began), duration

    def start_second_move(self, name):
        """While somebody is moved, neither another move nor an undo of theirs begins."""
        with open(f"/run/lock/move-person-{name}", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            for options in ([], ["--undo"]):
                self.expect_refusal("is running", *options, name, "machine1", "machine3")

    def expect_refusal(self, reason, *arguments):
        """Runs move-person, which must fail with this reason."""
        result = subprocess.run(["move-person", *arguments], capture_output=True, text=True, env=self.environment())
        if result.returncode == 0 or reason not in result.stderr:
            fail(f"move-person {' '.join(arguments)}: expected {reason!r}, got {result.stdout}{result.stderr}")

    def refuse_old_copy(self):
        step("refuse to move a person of whom the new machine has an old copy")
        machine = self.machines["machine2"]
        machine.inside(f"coffee-tracker person add anna {CONFIG}")
        self.expect_refusal("not part of a move", "anna", "machine1", "machine2")
        self.expect_refusal("no move to undo", "--undo", "anna", "machine1", "machine2")
        machine.inside(f"coffee-tracker person remove anna --yes {CONFIG}")

    def interrupt_move(self, name):
        """Moves somebody from machine1 to machine2 with a proxy whose route cannot be changed."""
        scripts = WORK / "failing"
        scripts.mkdir(exist_ok=True)
        (scripts / "move-person").write_text((TOP / "deploy/move-person").read_text())
        (scripts / "route-people").write_text("#!/bin/sh\nexit 1\n")
        for script in scripts.iterdir():
            script.chmod(0o755)
        result = subprocess.run([scripts / "move-person", name, "machine1", "machine2"], capture_output=True, text=True)
        if result.returncode == 0 or "adopted" not in result.stdout:
            fail(f"move-person was not interrupted after `adopt`: {result.stdout}{result.stderr}")

    def undo_move(self):
        step("undo a move that was interrupted after the copy was adopted")
        anna = self.people[0]
        self.start_second_move("anna")
        self.interrupt_move("anna")
        self.expect_refusal("finish or undo", "anna", "machine1", "machine3")
        self.document(commands("move-person --undo"))
        now = time.time()
        wait_for(30, "writes of anna after undoing the move", lambda: max(anna.acknowledged.values()) > now)

    def continue_move(self):
        step("continue a move that was interrupted after the copy was adopted")
        person = next(person for person in self.people[1:] if person.machine == "machine1")
        self.interrupt_move(person.name_)
        # As if the connection had been lost after `release`: undoing would lose what is written from then on.
        self.machines["machine2"].inside(f"coffee-tracker person release {person.name_} {CONFIG}")
        self.expect_refusal("accepts changes", "--undo", person.name_, "machine1", "machine2")
        self.move(person, "there")

    def expect_no_failures(self, since, people, who):
        failures = [(person.name_, status) for person in people for at, status in person.failures if at >= since]
        requests = sum(1 for person in people for at in list(person.acknowledged.values()) if at >= since)
        print(f"{who}: {requests} writes, {len(failures)} failed attempts")
        if failures:
            fail(f"failed attempts of {who}: {failures[:10]}")

    def kill_machine(self):
        step("kill machine1")
        for machine in self.machines.values():
            machine.copy_keys()
        # Litestream needs this long to copy what was written during the last move.
        time.sleep(LAG)
        self.died = time.time()
        self.machines["machine1"].kill()
        time.sleep(15)
        self.lost = [person for person in self.people if person.machine == "machine1"]
        others = [person for person in self.people if person.machine != "machine1"]
        self.expect_no_failures(self.died, others, "people of the other machines, 15 s after the failure")
        step("fence machine1, and restore its people on machine2, by the commands of docs/SCALING.md")
        self.document(commands("state maint"))
        began = time.time()
        print(self.document(commands("restore-people machine1")).splitlines()[-1])
        restored = time.time() - began
        print(self.document(commands("route-people machine2 $(cat")).strip())
        wait_for(
            60,
            "writes of everyone on machine2",
            lambda: all(max(person.acknowledged.values()) > self.died + 15 for person in self.lost),
        )
        print(f"{len(self.lost)} people restored in {restored:.1f} s ({restored / len(self.lost):.2f} s each)")
        print(f"all of them write again {time.time() - self.died:.0f} s after the failure, of which 15 s are a wait of this test")
        self.expect_no_failures(self.died, others, "people of the other machines, until the end of the failover")

    def verify(self):
        step("compare what was acknowledged with what is stored")
        time.sleep(3)
        for person in self.people:
            person.stopped.set()
        for person in self.people:
            person.join(60)
        total, missing, ages = 0, 0, []
        for person in self.people:
            stored = person.stored()
            total += len(person.acknowledged)
            doubled = [note for note, count in stored.items() if count > 1]
            if doubled:
                fail(f"stored twice: {doubled[:5]}")
            lost = {note: at for note, at in person.acknowledged.items() if note not in stored}
            if person in self.lost:
                ages += [self.died - at for at in lost.values()]
                missing += len(lost)
            elif lost:
                fail(f"acknowledged and lost: {list(lost)[:5]}")
            unknown = set(stored) - {f"{person.name_} {n}" for n in range(1, person.sent + 1)}
            if unknown:
                fail(f"stored, but never sent: {list(unknown)[:5]}")
        if any(age < 0 or age > LAG for age in ages):
            fail(f"lost, and older than {LAG} s before the failure or newer than it: {sorted(ages)}")
        oldest = f", the oldest {max(ages):.2f} s before the failure" if ages else ""
        print(f"{total} acknowledged writes, 0 stored twice; lost with the machine: {missing}{oldest}")

    def check_logs(self):
        for name in ("machine2", "machine3"):
            log = self.machines[name].inside("cat /var/log/litestream.log")
            errors = [line for line in log.splitlines() if "level=ERROR" in line]
            print(f"{name}: {len(errors)} errors in the log of Litestream{': ' + errors[0][:300] if errors else ''}")
            print(f"{name}: server log: {len(self.machines[name].inside('cat /var/log/server.log').splitlines())} lines")

    def stop(self):
        for person in self.people:
            person.stopped.set()
        for process in [machine.process for machine in getattr(self, "machines", {}).values()] + self.services:
            process.terminate()
        for machine in getattr(self, "machines", {}).values():
            machine.process.kill()


def spread(values):
    values = sorted(values)
    return f"{values[0]:.1f} to {values[-1]:.1f} s, median {values[len(values) // 2]:.1f} s"


def commands(words):
    """Returns the block of commands in docs/SCALING.md that contains these words."""
    text = (TOP / "docs/SCALING.md").read_text()
    blocks = [re.sub(r"^ +", "", block, flags=re.M) for block in re.findall(r"```sh\n(.*?)```", text, re.S)]
    found = [block for block in blocks if words in block and "install" not in block]
    if len(found) != 1:
        fail(f"docs/SCALING.md has {len(found)} blocks with `{words}`")
    return found[0]


def replaced(text, words):
    return re.sub("|".join(map(re.escape, words)), lambda match: words[match[0]], text)


def main():
    # Litestream does not start with it.
    os.environ.pop("AWS_CA_BUNDLE", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("test-cluster: terminated"))
    cluster = Cluster()
    try:
        cluster.start()
        cluster.begin_writes()
        if MOVED:
            cluster.move_all()
            cluster.refuse_old_copy()
            cluster.undo_move()
            cluster.continue_move()
        cluster.kill_machine()
        cluster.verify()
        cluster.check_logs()
    finally:
        cluster.stop()
    step("all tests passed")


main()
