"""Sends what the apps of docs/APPS.md send, as they send it, and compares the stored entries.

    play_apps.py PROGRAM

The formats and the headers are those of the apps' documentation (Health Auto Export 9) and source code (HC Webhook 1.9.15 with
OkHttp). scripts/test-apps.sh runs this.
"""

import contextlib
import datetime
import http.client
import json
import os
import pathlib
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zoneinfo

sys.dont_write_bytecode = True
from app_server import Server  # noqa: E402

TOP = pathlib.Path(__file__).resolve().parent.parent
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOW = datetime.datetime.now(BERLIN).replace(second=0, microsecond=0)
MINUTE, HOUR, DAY = (datetime.timedelta(**{unit: 1}) for unit in ("minutes", "hours", "days"))


def step(text):
    print(f"apps: {text}", flush=True)


def equal(actual, expected, about):
    assert actual == expected, f"{about}: expected {expected}, got {actual}"


def utc(moment):
    """Returns the time as the API writes it."""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def counts(response):
    return tuple(response[name] for name in ("inserted", "updated", "duplicates"))


# -- Health Auto Export -------------------------------------------------------------------


class HealthAutoExport:
    """An automation of the type REST API, on an iPhone: one connection, `URLSession`."""

    def __init__(self, server, key):
        self.server, self.key = server, key
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def headers(self):
        return {
            "Host": f"127.0.0.1:{self.server.port}",
            "Content-Type": "application/json",
            "Accept": "*/*",
            "Authorization": f"Bearer {self.key}",
            "automation-name": "Coffee Tracker",
            "automation-id": "6F0C5C1B-7F6B-4B0E-9C55-3D2F0F1D3A11",
            "automation-aggregation": "seconds",
            "automation-period": "Default",
            "session-id": "0E9A4E55-1B0B-4BD5-8F0C-0E3A1B8B7C11",
            "Accept-Language": "de-DE,de;q=0.9",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": "HealthExport/9.0.15 CFNetwork/3826.500.131 Darwin/25.0.0",
            "Connection": "keep-alive",
        }

    def send(self, metrics, chunked=False):
        """Sends one push; returns status and response."""
        body = json.dumps({"data": {"metrics": metrics, "workouts": [], "stateOfMind": [], "ecg": []}}).encode()
        self.connection.putrequest("POST", "/ingest/health-auto-export", skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers().items():
            self.connection.putheader(name, value)
        if chunked:
            self.connection.putheader("Transfer-Encoding", "chunked")
            pieces = (body[at : at + 16384] for at in range(0, len(body), 16384))
            self.connection.endheaders(pieces, encode_chunked=True)
        else:
            self.connection.putheader("Content-Length", str(len(body)))
            self.connection.endheaders(body)
        response = self.connection.getresponse()
        return response.status, json.loads(response.read())

    def push(self, metrics, **options):
        status, response = self.send(metrics, **options)
        equal(status, 200, response)
        equal(response["rejected"], [], "rejected samples")
        return response

    def lose_connection(self, metrics):
        """Starts a push, and loses the connection in the middle of the body."""
        body = json.dumps({"data": {"metrics": metrics}}).encode()
        with socket.create_connection(("127.0.0.1", self.server.port)) as phone:
            headers = {**self.headers(), "Content-Length": len(body)}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            phone.sendall(f"POST /ingest/health-auto-export HTTP/1.1\r\n{head}\r\n".encode() + body[: len(body) // 2])


def phone_date(moment):
    return moment.strftime("%Y-%m-%d %H:%M:%S %z")


def samples(start, end, every=5 * MINUTE):
    """Returns (time, bpm) of a watch between two times; bpm has fractions, as those of Apple Health."""
    found, at = [], start
    while at < end:
        minute = int(at.timestamp()) // 60
        found.append((at, 60 + minute * 7 % 50 + minute % 10 / 10))
        at += every
    return found


def day_start(moment):
    return moment.replace(hour=0, minute=0)


def previous_day_and_today(end):
    """Returns the metrics of the date range "Default" of an automation that runs at this time, without summarizing."""
    start = day_start(day_start(end) - HOUR)
    watch = [
        {"date": phone_date(at), "Min": bpm, "Avg": bpm, "Max": bpm, "source": "Apple Watch", "context": "Not Set"}
        for at, bpm in samples(start, end)
    ]
    return [
        {"name": "heart_rate", "units": "bpm", "data": watch},
        {"name": "resting_heart_rate", "units": "bpm", "data": [{"qty": 57, "date": phone_date(start), "source": "Apple Watch"}]},
        {
            "name": "dietary_caffeine",
            "units": "mg",
            "data": [{"qty": 95.4, "date": phone_date(start + 8 * HOUR), "source": "HiCoffee"}],
        },
        {"name": "step_count", "units": "count", "data": [{"qty": 12.5, "date": phone_date(start), "source": "iPhone"}] * 40},
    ]


def stored(end):
    """Returns what the API shows after `previous_day_and_today` was stored."""
    start = day_start(day_start(end) - HOUR)
    expected = [(utc(at), int(bpm + 0.5), None) for at, bpm in samples(start, end)]
    return sorted([*expected, (utc(start), 57, "resting")], key=lambda one: (one[0], one[1]))


def in_order(readings):
    return sorted(readings, key=lambda one: (one[0], one[1]))


def health_auto_export(server):
    app = HealthAutoExport(server, server.add_key("iphone", "write"))
    step("Health Auto Export: the previous day and today, three times, on one connection")
    times = [NOW - 40 * MINUTE, NOW - 20 * MINUTE, NOW]
    # Around midnight, the day before the previous one leaves the range: what was stored stays.
    times = [max(one, day_start(NOW) + MINUTE) for one in times] if NOW - day_start(NOW) > 41 * MINUTE else [NOW] * 3
    before = 0
    for run, end in enumerate(times):
        metrics = previous_day_and_today(end)
        response = app.push(metrics, chunked=run == 1)
        new = len(stored(end)) + 1 - before
        equal(counts(response), (new, 0, before), f"push {run + 1}")
        equal(response["ignored"], {"step_count": 40}, "ignored metrics")
        before += new
    equal(in_order(server.readings()), stored(NOW), "stored readings")
    equal([one["caffeine_mg"] for one in server.get("/coffee/")], [95.4], "stored doses")
    sources = {one["name"]: one["kind"] for one in server.get("/sources")["sources"]}
    equal(sources, {"Apple Watch": "heartrate", "HiCoffee": "coffee"}, "sources")

    step("Health Auto Export: a lost connection stores nothing, and the retry everything")
    strap = [{"date": phone_date(NOW - n * MINUTE), "Min": 90, "Avg": 90 + n % 3, "Max": 99, "source": "Strap"} for n in range(1, 600)]
    metrics = [{"name": "heart_rate", "units": "bpm", "data": strap}]
    count = len(server.readings())
    app.lose_connection(metrics)
    response = app.push(metrics)
    # The watch may have had the same heart rate in the same second.
    equal((response["received"], response["inserted"] + response["duplicates"]), (599, 599), "samples of the retry")
    equal(len(server.readings()), count + response["inserted"], "readings after the retry")
    equal(counts(app.push(metrics)), (0, 0, 599), "the same again")

    step("Health Auto Export: a changed mean replaces the stored one; what was deleted stays deleted")
    hour = day_start(NOW) - 3 * HOUR
    for mean, expected in [(71.2, (1, 0, 0)), (74.9, (0, 1, 0)), (74.9, (0, 0, 1))]:
        summary = [{"date": phone_date(hour), "Min": 58, "Avg": mean, "Max": 131, "source": "Ring"}]
        equal(counts(app.push([{"name": "heart_rate", "units": "bpm", "data": summary}])), expected, f"mean {mean}")
    listed = server.get("/heartrate/?limit=1000&offset=0") + server.get("/heartrate/?limit=1000&offset=1000")
    changed = [one for one in listed if (one["timestamp"], one["bpm"]) == (utc(hour), 75)]
    equal(len(changed), 1, "readings with the changed mean")
    equal(server.api("DELETE", f"/heartrate/{changed[0]['id']}")[0], 200, "deletion")
    equal(counts(app.push([{"name": "heart_rate", "units": "bpm", "data": summary}])), (0, 0, 1), "push after the deletion")


# -- HC Webhook ---------------------------------------------------------------------------


class HcWebhook:
    """The app on an Android phone: OkHttp, three attempts at an I/O error or a status of 500 and above."""

    ATTEMPTS = 3

    def __init__(self, server, key):
        self.server, self.key = server, key

    def send(self, payload):
        """Returns status and response, or None when all attempts failed."""
        for attempt in range(self.ATTEMPTS):
            if attempt:
                time.sleep(0.05)
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, response = self.attempt(payload)
                if status < 500:
                    return status, response
        return None

    def attempt(self, payload):
        body = json.dumps(payload, separators=(",", ":")).encode()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)) as connection:
            connection.putrequest("POST", "/ingest/hc-webhook", skip_host=True, skip_accept_encoding=True)
            for name, value in {
                "Authorization": f"Bearer {self.key}",
                "Content-Type": "application/json; charset=utf-8",
                "Content-Length": str(len(body)),
                "Host": f"127.0.0.1:{self.server.port}",
                "Connection": "Keep-Alive",
                "Accept-Encoding": "gzip",
                "User-Agent": "okhttp/4.12.0",
            }.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, json.loads(response.read())


def band_samples(end):
    """Returns (time, bpm) of a band in the 48 hours before this time; it measures every 10 minutes."""
    first = (end - 2 * DAY).timestamp()
    first += -first % 600
    found = []
    while first < end.timestamp():
        found.append((datetime.datetime.fromtimestamp(first, datetime.timezone.utc), 55 + int(first) // 600 % 60))
        first += 600
    return found


def instant(moment):
    """Returns the time as `Instant.toString()` of Java writes it."""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def health_connect(end):
    origin = {"metadata": {"data_origin": "com.sec.android.app.shealth", "recording_method": "automatically_recorded"}}
    night = instant(end - DAY)
    return {
        "timestamp": instant(end),
        "app_version": "1.9.15",
        "steps": [{"count": 8432, "start_time": night, "end_time": instant(end), **origin}],
        "sleep": [{"session_end_time": night, "duration_seconds": 27000, "stages": [{"stage": "deep"}]}],
        "heart_rate": [{"bpm": bpm, "time": instant(at), **origin} for at, bpm in band_samples(end)],
        "resting_heart_rate": [{"bpm": 58, "time": night, **origin}],
    }


def hc_webhook(server):
    app = HcWebhook(server, server.add_key("android", "write"))
    step("HC Webhook: the test stores nothing")
    status, response = app.send({**health_connect(NOW), "test": True})
    equal((status, response["received"], server.readings()), (200, 0, []), "test")

    step("HC Webhook: every 15 minutes with the last 48 hours, through an outage of the server")
    night = instant(NOW - DAY - 2 * HOUR)
    known = set()
    for run in range(9):
        payload = health_connect(NOW + (run - 8) * 15 * MINUTE)
        payload["resting_heart_rate"][0]["time"] = night
        if run == 4:
            server.stop()
            equal(app.send(payload), None, "push without a server")
            server.start()
            continue
        status, response = app.send(payload)
        equal(status, 200, response)
        sent = {(one["time"], one["bpm"], None) for one in payload["heart_rate"]} | {(night, 58, "resting")}
        equal(counts(response), (len(sent - known), 0, len(sent & known)), f"push {run + 1}")
        equal(response["ignored"], {"sleep": 1, "steps": 1}, "ignored data")
        known |= sent
    equal({(at.replace(".000000Z", "Z"), bpm, context) for at, bpm, context in server.readings()}, known, "stored readings")
    equal(len(server.readings()), len(known), "number of stored readings")


# -- Status codes of docs/APPS.md ---------------------------------------------------------


def status_codes(server):
    step("the status codes of the troubleshooting table")
    key = server.add_key("statuses", "write")
    webhook = "/ingest/hc-webhook"

    def status(path=webhook, body='{"test": true}', authorization=f"Bearer {key}", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        with contextlib.closing(connection):
            sent = {"Authorization": authorization, "Content-Type": "application/json", **headers}
            connection.request("POST", path, body=body, headers={name: value for name, value in sent.items() if value})
            return connection.getresponse().status

    equal(status(), 200, "status of a valid push")
    equal(status(Host="tracker.example.org"), 400, "status with another host name")
    equal([status(authorization=wrong) for wrong in (None, key, "Bearer ct_wrong")], [401] * 3, "statuses without a valid key")
    equal(status(authorization=f"Bearer {server.add_key('display', 'read')}"), 403, "status with the scope read")
    equal(status(path="/ingest/hcwebhook"), 404, "status of a wrong path")
    equal(status(path=webhook + "/"), 200, "status with a slash at the end")
    equal(status(**{"Content-Length": str(33554433)}, body=b""), 413, "status of a large push")
    csv, other = "Date,Heart Rate\n", '{"data": {"metrics": []}}'
    equal([status(body=csv), status(body=other)], [422, 422], "statuses of other formats")
    equal(status(path="/ingest/health-auto-export"), 422, "status of the push of the other app")
    limited = [status() for _ in range(125)]
    equal((limited[0], limited[-1]), (200, 429), "statuses of many pushes")
    read = server.api("GET", "/heartrate/", key)[0]
    equal(read, 403, "status of a read request with the key of a phone")


# -- Gadgetbridge, Syncthing, and the folder of the service -------------------------------


class Folder:
    """Folder that coffee-tracker-import@.path watches; `run` is a run of its service."""

    def __init__(self, server):
        self.server = server
        self.path = server.folder / "import"
        self.state = server.folder / "imported/owner"
        self.path.mkdir()

    def run(self):
        """Returns exit code and output of a run."""
        result = subprocess.run(
            [TOP / "deploy/import-folder", self.path, self.state, "owner"],
            cwd=self.server.folder,
            env={**self.server.environment, "COFFEE_TRACKER": self.server.program, "SETTLE_SECONDS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return result.returncode, result.stdout


def gadgetbridge_database(path, minutes):
    """Writes the database of a band with a reading a minute, as Gadgetbridge exports it."""
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.executescript("""
            create table android_metadata (locale text);
            create table USER (_id integer primary key, NAME text not null, BIRTHDAY integer not null, GENDER integer not null);
            create table DEVICE (_id integer primary key, NAME text not null, MANUFACTURER text not null, IDENTIFIER text not null,
                TYPE integer not null, MODEL text, ALIAS text, PARENT_FOLDER text, TYPE_NAME text not null);
            create table HUAMI_EXTENDED_ACTIVITY_SAMPLE (TIMESTAMP integer not null, DEVICE_ID integer not null,
                USER_ID integer not null, RAW_INTENSITY integer not null, STEPS integer not null, RAW_KIND integer not null,
                HEART_RATE integer not null, primary key (TIMESTAMP, DEVICE_ID) on conflict replace) without rowid;
            insert into USER values (1, 'gadgetbridge-user', 0, 2);
            insert into DEVICE values (1, 'Amazfit Bip S', 'Huami', 'AA:BB:CC:DD:EE:FF', 14, null, null, null, 'AMAZFITBIPS');
        """)
        start = int((NOW - DAY).timestamp())
        rows = [(start + 60 * n, 1, 1, 10, 0, 1, 255 if n % 10 == 0 else 60 + n % 40) for n in range(minutes)]
        database.executemany("insert into HUAMI_EXTENDED_ACTIVITY_SAMPLE values (?, ?, ?, ?, ?, ?, ?)", rows)
    return sum(1 for row in rows if row[-1] != 255)


def gadgetbridge(server):
    folder = Folder(server)
    step("Gadgetbridge: the export of Syncthing is imported, and again when it has changed")
    equal(folder.run(), (0, ""), "a run without files")
    arriving = folder.path / ".syncthing.Gadgetbridge.db.tmp"
    count = gadgetbridge_database(arriving, 100)
    (folder.path / ".stfolder").mkdir()
    equal(folder.run(), (0, ""), "a run during the transfer")
    os.rename(arriving, folder.path / "Gadgetbridge.db")
    code, output = folder.run()
    equal((code, len(server.readings())), (0, count), output)
    equal(folder.run(), (0, ""), "a run without changes")
    count = gadgetbridge_database(arriving, 200)
    os.rename(arriving, folder.path / "Gadgetbridge.db")
    code, output = folder.run()
    equal((code, len(server.readings())), (0, count), output)
    assert "Gadgetbridge.db: 0 coffees and 90 readings added" in output, output

    step("Gadgetbridge: a broken file is reported until it is replaced, and does not stop others")
    broken = folder.path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 not an archive")
    rows = "timestamp,bpm\n" + "".join(f"{utc(NOW - (3 * DAY + n * MINUTE))},{70 + n % 9}\n" for n in range(50))
    (folder.path / "two words.csv").write_text(rows)
    code, output = folder.run()
    count += 50
    equal((code, len(server.readings())), (1, count), output)
    code, again = folder.run()
    assert code == 1 and "broken.zip: cannot be imported" in again and "importing" not in again, again
    broken.write_text(rows)
    equal(folder.run()[0], 0, "exit code after the replacement")
    equal(len(server.readings()), count, "readings after the replacement")

    step("Gadgetbridge: a file that is still being copied is imported once it is complete")
    slow = folder.path / "slow.csv"
    # The last row so far would be a valid reading of 7 bpm less than a hundred.
    parts = ["timestamp,bpm\n", f"{utc(NOW - 4 * DAY)},1", "20\n", f"{utc(NOW - 4 * DAY - HOUR)},7", "1\n"]

    def copy():
        with open(slow, "w") as file:
            for part in parts:
                file.write(part)
                file.flush()
                time.sleep(0.5)

    copying = threading.Thread(target=copy)
    copying.start()
    code, output = folder.run()
    copying.join()
    equal(code, 0, output)
    old = [one for one in server.readings() if one[0] <= utc(NOW - 4 * DAY)]
    equal(old, [(utc(NOW - 4 * DAY - HOUR), 71, None), (utc(NOW - 4 * DAY), 120, None)], "readings of the copied file")
    link = folder.path / "link.db"
    link.symlink_to(server.folder / "coffee.db")
    equal(folder.run(), (0, ""), "a run with a symbolic link")
    names = sorted(path.name for path in folder.path.iterdir())
    equal(names, [".stfolder", "Gadgetbridge.db", "broken.zip", "link.db", "slow.csv", "two words.csv"], "files that stay")


def main(program):
    for play in (health_auto_export, hc_webhook, status_codes, gadgetbridge):
        with Server(program) as server:
            play(server)
    step("all pushes and files were stored as documented")


if __name__ == "__main__":
    main(sys.argv[1])
