"""Server in a temporary folder on a free port, for scripts/play_apps.py and scripts/play_home_assistant.py."""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

OWNER_KEY = "the-owners-key-of-these-tests"
START_SECONDS = 60


class Server:
    """Context manager; `port` stays the same over `stop` and `start`."""

    def __init__(self, program):
        self.program = program
        self.work = tempfile.TemporaryDirectory(prefix="coffee-apps.")
        self.folder = pathlib.Path(self.work.name)
        self.port = 0
        self.environment = {
            "PATH": os.environ["PATH"],
            "TZ": "Europe/Berlin",
            "API_KEY": OWNER_KEY,
            "HOST": "127.0.0.1",
            "DATABASE_URL": str(self.folder / "coffee.db"),
            "BACKUP_DIR": str(self.folder / "backups"),
            "LOG_LEVEL": "warning",
        }

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self.work.cleanup()

    def start(self):
        output = self.folder / "out"
        with open(output, "wb") as out, open(self.folder / "log", "ab") as log:
            environment = {**self.environment, "PORT": str(self.port)}
            self.process = subprocess.Popen(
                [self.program, "serve"], cwd=self.folder, env=environment, stdout=out, stderr=log
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.process.poll() is None:
            for line in output.read_text().splitlines():
                if line.startswith("Listening on http://"):
                    self.port = int(line.rpartition(":")[2])
                    return
            time.sleep(0.05)
        raise SystemExit(f"the server did not start: {(self.folder / 'log').read_text()}")

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def command(self, *arguments):
        """Runs a command of the program on the same database; returns its output."""
        result = subprocess.run(
            [self.program, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def add_key(self, name, scopes):
        """Returns a new key, which the server accepts."""
        output = self.command("key", "add", name, "--scope", scopes)
        key = next(word for word in output.split() if word.startswith("ct_"))
        until = time.monotonic() + START_SECONDS
        while self.api("GET", "/me", key)[0] == 401:
            assert time.monotonic() < until, f"the server does not accept the key {name}"
            time.sleep(0.5)
        return key

    def api(self, method, path, key=OWNER_KEY, body=None):
        """Returns status and JSON of a request."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def get(self, path):
        status, body = self.api("GET", path)
        assert status == 200, (path, status, body)
        return body

    def readings(self):
        """Returns all heart rates, oldest first, as (time, bpm, context)."""
        pages = []
        while not pages or len(pages[-1]) == 1000:
            pages.append(self.get(f"/heartrate/?limit=1000&offset={1000 * len(pages)}"))
        listed = [(one["timestamp"], one["bpm"], one["context"]) for page in pages for one in page]
        return sorted(listed)
