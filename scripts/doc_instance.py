"""Server instance in which scripts/doc-commands.py runs commands, and the check of names in the documentation.

`Instance` is a copy of the checkout in a temporary folder, with a server that runs on a month of sample data, and with
files to import. `check_text` checks the commands, files and links in sentences.
"""

import gzip
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import zipfile

SUBCOMMANDS = {
    "key": ("add", "list", "revoke", "rotate"),
    "person": ("add", "list", "rename", "remove", "freeze", "archive", "adopt", "release"),
}
EXCLUDED = {".git", "target", "dist", "corpus", "data", "backups", ".venv", ".env"}
APPLE = """<?xml version="1.0" encoding="UTF-8"?>
<HealthData locale="en_GB">
 <Record type="HKQuantityTypeIdentifierHeartRate" sourceName="Watch" unit="count/min"
  startDate="2025-07-01 08:00:00 +0200" endDate="2025-07-01 08:00:00 +0200" value="61"/>
 <Record type="HKQuantityTypeIdentifierDietaryCaffeine" sourceName="Phone" unit="mg"
  startDate="2025-07-01 08:05:00 +0200" endDate="2025-07-01 08:05:00 +0200" value="95"/>
</HealthData>
"""
DUMP = """COPY public.coffee_logs (id, "timestamp", caffeine_mg, coffee_type, notes) FROM stdin;
1\t2025-06-02 10:30:15.123456+00\t95\tespresso\t\\N
\\.
COPY public.heart_rate_logs (id, "timestamp", bpm, context, notes) FROM stdin;
1\t2025-06-02 10:35:00+00\t64\tresting\t\\N
\\.
"""
OLD_TABLES = """
create table coffee_logs (id integer primary key, timestamp datetime, caffeine_mg float not null,
    coffee_type varchar(100), notes text);
create table heart_rate_logs (id integer primary key, timestamp datetime, bpm integer not null,
    context varchar(50), notes text);
insert into coffee_logs values (1, '2025-05-02 10:30:15.123456', 95, 'espresso', null);
"""
FITBIT = '[{"dateTime": "02/06/24 14:30:05", "value": {"bpm": 62, "confidence": 2}}]'
HEALTH_CONNECT = """
create table heart_rate_record_series_table (parent_key integer, beats_per_minute integer, epoch_millis integer);
insert into heart_rate_record_series_table values (1, 63, 1751350000000);
"""
GADGETBRIDGE = """
create table DEVICE (_id integer primary key, NAME text not null, MANUFACTURER text not null);
create table MI_BAND_ACTIVITY_SAMPLE (TIMESTAMP integer, DEVICE_ID integer, HEART_RATE integer);
insert into DEVICE values (1, 'Band', 'Huami');
insert into MI_BAND_ACTIVITY_SAMPLE values (1751350000, 1, 61);
"""


def program_of(top):
    """Returns the binary under test."""
    built = top / os.environ.get("CARGO_TARGET_DIR", "target") / "release/coffee-tracker"
    return pathlib.Path(os.environ.get("COFFEE_TRACKER", built)).resolve()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Instance:
    def __init__(self, top):
        program = program_of(top)
        if not program.is_file():
            raise SystemExit(f"{program} does not exist; run `make build` first")
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="coffee-docs.", dir=os.environ.get("TMPDIR", "/var/tmp")))
        self.pristine, self.here, self.home = self.work / "pristine", self.work / "checkout", self.work / "home"
        self.home.mkdir()
        shutil.copytree(top, self.pristine, symlinks=True, ignore=self._ignored(top))
        (self.pristine / "target/release").mkdir(parents=True)
        shutil.copy(program, self.pristine / "target/release/coffee-tracker")
        self.environment = {
            "PATH": f"{self.here}/target/release:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
        }

    @staticmethod
    def _ignored(top):
        folders = (top, top / "fuzz")
        return lambda folder, names: EXCLUDED & set(names) if pathlib.Path(folder) in folders else set()

    def __enter__(self):
        try:
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._kill_all()
        shutil.rmtree(self.work, ignore_errors=True)

    def _prepare(self):
        os.rename(self.pristine, self.here)
        for command in (
            "coffee-tracker demo --days 30 --readings-per-day 24",
            "coffee-tracker backup",
            "coffee-tracker backup",
        ):
            code, output = self.shell(command, 60)
            if code != 0:
                raise SystemExit(f"{command}: {output}")
        with zipfile.ZipFile(self.here / "export.zip", "w") as packed:
            packed.writestr("apple_health_export/export.xml", APPLE)
        with zipfile.ZipFile(self.here / "takeout.zip", "w") as packed:
            packed.writestr("Takeout/Fitbit/Global Export Data/heart_rate-2024-02-06.json", FITBIT)
        with tempfile.TemporaryDirectory() as unpacked:
            export = pathlib.Path(unpacked) / "health_connect_export.db"
            with sqlite3.connect(export) as phone:
                phone.executescript(HEALTH_CONNECT)
            phone.close()
            with zipfile.ZipFile(self.here / "Health Connect.zip", "w") as packed:
                packed.write(export, export.name)
        (self.here / "log.csv").write_text("Time,mg\n2025-04-01T08:00:00Z,80\n")
        (self.here / "old/data").mkdir(parents=True)
        (self.here / "dump.sql.gz").write_bytes(gzip.compress(DUMP.encode()))
        with sqlite3.connect(self.here / "old/data/coffee.db") as old:
            old.executescript(OLD_TABLES)
        old.close()
        with sqlite3.connect(self.here / "Gadgetbridge.db") as phone:
            phone.executescript(GADGETBRIDGE)
        phone.close()
        os.rename(self.here, self.pristine)

    def renew(self):
        """Restores the initial files and a running server."""
        self._kill_all()
        shutil.rmtree(self.here, ignore_errors=True)
        shutil.copytree(self.pristine, self.here, symlinks=True)
        for _ in range(5):
            self.port = free_port()
            (self.here / ".env").write_text(f"PORT={self.port}\n")
            code, output = self.shell("make --no-print-directory up", 60)
            if code == 0:
                return
        raise SystemExit(f"make up: {output}")

    def shell(self, script, seconds):
        """Runs a script in the checkout; returns its exit code and output."""
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=self.here,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
                output.write(b"FAIL: timed out after %d seconds\n" % seconds)
            output.seek(0)
            return code, output.read().decode(errors="replace")

    def log(self):
        file = self.here / "data/coffee-tracker.log"
        return "".join(file.read_text().splitlines(keepends=True)[-5:]) if file.is_file() else ""

    def _kill_all(self):
        """Ends all processes started from the checkout."""
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                inside = (process / "exe").readlink().is_relative_to(self.here)
                if inside or b"keep-log" in (process / "cmdline").read_bytes() and self._is_here(process):
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue

    def _is_here(self, process):
        return str((process / "cwd").readlink()).startswith(str(self.here))


def check_text(top, files):
    """Checks that every command, flag, file and link in the text exists; returns their number."""
    program = program_of(top)
    verbs = set(re.findall(r"^([a-z-]+):", (top / "Makefile").read_text(), re.M))
    checked, wrong, help_texts = 0, [], {}
    for file in files:
        text = re.sub(r"^ *```.*?^ *```$", "", (top / file).read_text(), flags=re.M | re.S)
        for span in re.findall(r"`([^`\n]+)`", text):
            problem = problem_of(top, span, verbs, program, help_texts)
            checked += problem is not None
            if problem:
                wrong.append(f"{file}: `{span}`: {problem}")
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" not in link:
                checked += 1
                if not has_target(top, file, link):
                    wrong.append(f"{file}: ({link}) has no target")
    if wrong:
        raise SystemExit("FAIL: " + "\nFAIL: ".join(wrong))
    return checked


# Subcommands whose flags are checked with those of their command.
SUBCOMMANDS = {
    "key": ("add", "list", "revoke", "rotate"),
    "person": ("add", "list", "rename", "remove", "freeze", "archive", "adopt", "release"),
}


def problem_of(top, span, verbs, program, help_texts):
    """Returns the problem of a name, an empty text without a problem, or None when it cannot be checked."""
    words = span.removeprefix("sudo ").split()
    if words[0] == "make" and len(words) > 1:
        named = [word for word in words[1:] if "=" not in word and re.match(r"^[a-z-]+$", word)]
        return next((f"`make` has no target {verb}" for verb in named[:1] if verb not in verbs), "")
    if words[0] == "coffee-tracker" and len(words) > 1 and re.match(r"^(?!help$)[a-z]+$", words[1]):
        if words[1] not in help_texts:
            result = subprocess.run([program, words[1], "--help"], capture_output=True, text=True)
            extra = ""
            if words[1] in SUBCOMMANDS and result.returncode == 0:
                extra = "".join(
                    subprocess.run([program, words[1], sub, "--help"], capture_output=True, text=True).stdout
                    for sub in SUBCOMMANDS[words[1]]
                )
            help_texts[words[1]] = result.stdout + extra if result.returncode == 0 else None
        known = help_texts[words[1]]
        if known is None:
            return f"there is no command {words[1]}"
        flags = [word for word in words if re.match(r"^--[a-z]", word)]
        return next((f"there is no flag {flag}" for flag in flags if flag not in known), "")
    if re.match(r"^(scripts|deploy|docs|src|tests|benches|sql|static)/[\w./-]*$", span):
        return "" if (top / span).exists() else "there is no such file"
    return None


def has_target(top, file, link):
    path, _, anchor = link.partition("#")
    target = (top / file).parent / path if path else top / file
    if not target.exists():
        return False
    if not anchor:
        return True
    titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
    return anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
