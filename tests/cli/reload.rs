//! Reload of the settings on SIGHUP: what takes effect, what is refused, and what needs a restart.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Signal, kill_process};

use crate::client::{Client, Response};
use crate::fixtures::run_ok;
use crate::hanging_disk::HangingDisk;
use crate::helpers::{KEY, Process, Server, program, temporary_folder, wait_until};

const OTHER_KEY: &str = "another-key-for-the-tests-98765";

/// Returns a command that starts a server on a free port, whose key is in the file `.env`.
fn command(folder: &Path) -> Command {
    let mut command = program(folder);
    command.args(["serve", "--port", "0", "--database-url", "coffee.db"]);
    command.envs([("RATE_LIMIT_ENABLED", "false"), ("TZ", "UTC")]);
    command
}

/// Replaces the file `.env` at once.
fn write(folder: &Path, key: &str, settings: &str) {
    fs::write(folder.join("new.env"), format!("API_KEY={key}\n{settings}")).unwrap();
    fs::rename(folder.join("new.env"), folder.join(".env")).unwrap();
}

/// Sends SIGHUP and returns what the server logs until the end of the reload.
#[track_caller]
fn reload(server: &Server) -> String {
    let before = server.process.err.text().len();
    server.signal(Signal::HUP);
    let mut log = String::new();
    wait_until("the reload is logged", || {
        log = server.process.err.text().split_off(before);
        log.contains("settings reloaded: ") || log.contains("settings not reloaded")
    });
    log.lines().filter(|line| !line.contains(" route=")).map(|line| format!("{line}\n")).collect()
}

/// Sends a request with this key and `Host`.
fn get(server: &Server, path: &str, key: &str, host: &str) -> Response {
    let mut client = server.client();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n");
    client.send(request).unwrap();
    client.read_response().unwrap()
}

fn status(server: &Server, key: &str, host: &str) -> u16 {
    get(server, "/coffee/today", key, host).status
}

/// Returns the default of the daily limit.
fn daily_limit(server: &Server) -> f64 {
    server.get("/info").json()["validation"]["recommended_daily_caffeine_mg"].as_f64().unwrap()
}

/// Ends the requests when dropped, also by a panic.
struct EndOfRequests<'a>(&'a AtomicBool);

impl Drop for EndOfRequests<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes and reads until `is_done`, and panics at the first response that is not a success.
fn request_until(is_done: &AtomicBool, mut client: Client, key: &str, requests: &AtomicU64) {
    let head = |line: &str, length: usize| {
        format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let coffee = r#"{"caffeine_mg": 1}"#;
    let add = head("POST /coffee/", coffee.len()) + coffee;
    let read = head("GET /coffee/summary", 0);
    while !is_done.load(Ordering::Relaxed) {
        for (request, expected) in [(&add, 201), (&read, 200)] {
            client.send(request).unwrap();
            assert_eq!(client.read_response().unwrap().status, expected);
            requests.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn changed_settings_take_effect_while_every_request_succeeds() {
    let folder = temporary_folder();
    let path = folder.path();
    let states = [
        (
            KEY,
            "one.example",
            300.0,
            "ALLOWED_HOSTS=one.example\nLOG_LEVEL=warning\nRECOMMENDED_DAILY_CAFFEINE_MG=300\n",
        ),
        (
            OTHER_KEY,
            "two.example",
            200.0,
            "ALLOWED_HOSTS=two.example\nLOG_LEVEL=info\nRECOMMENDED_DAILY_CAFFEINE_MG=200\n",
        ),
    ];
    write(path, states[0].0, states[0].3);
    let server = Server::spawn(&mut command(path));
    let named = run_ok(path, &["key", "add", "loop"]).out;
    let named = named.split_whitespace().find(|word| word.starts_with("ct_")).unwrap();
    wait_until("the named key is valid", || status(&server, named, "localhost") == 200);
    let (is_done, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _end = EndOfRequests(&is_done);
        for _ in 0..3 {
            scope.spawn(|| request_until(&is_done, server.client(), named, &requests));
        }
        for round in 1..=6 {
            let ((key, host, limit, settings), (old_key, old_host, ..)) =
                (states[round % 2], states[(round + 1) % 2]);
            write(path, key, settings);
            let log = reload(&server);
            let changed =
                "settings reloaded: ALLOWED_HOSTS, LOG_LEVEL, RECOMMENDED_DAILY_CAFFEINE_MG, the owner's key";
            assert!(log.ends_with(&format!("{changed}\n")), "{log}");
            assert_eq!(log.lines().count(), 1, "{log}");
            let seen = requests.load(Ordering::Relaxed);
            wait_until("requests go on", || {
                requests.load(Ordering::Relaxed) > seen + 20 || is_done.load(Ordering::Relaxed)
            });
            assert_eq!(status(&server, key, host), 200, "round {round}");
            // 429 after more wrong keys than a client may send in a minute.
            assert!(matches!(status(&server, old_key, host), 401 | 429), "round {round}");
            assert_eq!(status(&server, key, old_host), 400, "round {round}");
            assert_eq!(daily_limit(&server), limit, "round {round}");
        }
    });
    write(path, OTHER_KEY, states[1].3);
    reload(&server);
    assert_eq!(server.get("/health").status, 200);
    wait_until("requests are logged", || server.process.err.text().contains("route=/health"));
    let log = server.stop_cleanly().err;
    assert!(!log.contains(OTHER_KEY) && !log.contains(KEY), "a key is in the log");
}

#[test]
fn an_invalid_file_is_refused_whole_and_names_every_reason_but_no_key() {
    let folder = temporary_folder();
    let valid = "ALLOWED_HOSTS=one.example\n";
    write(folder.path(), KEY, valid);
    let server = Server::spawn(&mut command(folder.path()));
    let other = "ALLOWED_HOSTS=two.example\nBEDTIME=22:00\n";
    for (key, settings, reasons) in [
        (
            OTHER_KEY,
            &format!("{other}SLEEP_THRESHOLD_MG=some\nMAX_CAFFEINE_MG=many\n"),
            &["SLEEP_THRESHOLD_MG=some: ", "MAX_CAFFEINE_MG=many: "][..],
        ),
        ("hush hush hush", &other.to_owned(), &["cannot read .env: line 1 is not of the form NAME=VALUE"]),
        ("hush", &other.to_owned(), &["the API key has 4 characters"]),
    ] {
        write(folder.path(), key, settings);
        let log = reload(&server);
        assert!(log.contains("ERROR   settings not reloaded, those in force are kept: "), "{log}");
        assert!(reasons.iter().all(|reason| log.contains(reason)), "{log}");
        assert!(!log.contains("hush"), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
        assert_eq!(status(&server, KEY, "one.example"), 200);
        assert_eq!(status(&server, KEY, "two.example"), 400);
    }
    write(folder.path(), KEY, other);
    let log = reload(&server);
    assert!(log.ends_with("settings reloaded: ALLOWED_HOSTS, BEDTIME\n"), "{log}");
    assert_eq!(status(&server, KEY, "two.example"), 200);
    // A missing `.env` is valid at a start, too: the key is then the one in the file beside the database.
    fs::write(folder.path().join("coffee.key"), OTHER_KEY).unwrap();
    fs::remove_file(folder.path().join(".env")).unwrap();
    assert!(reload(&server).ends_with("settings reloaded: ALLOWED_HOSTS, BEDTIME, the owner's key\n"));
    fs::remove_file(folder.path().join("coffee.key")).unwrap();
    let log = reload(&server);
    assert!(log.contains("the API key in coffee.key cannot be read"), "{log}");
    assert_eq!(status(&server, OTHER_KEY, "localhost"), 200);
    assert!(!folder.path().join("coffee.key").exists(), "a reload creates no key");
}

#[test]
fn settings_that_need_a_restart_and_those_without_effect_are_named() {
    let folder = temporary_folder();
    write(folder.path(), KEY, "");
    let mut command = command(folder.path());
    let server = Server::spawn(command.arg("--bedtime=22:30").env("SLEEP_THRESHOLD_MG", "40"));
    let more = "MAX_CAFFEINE_MG=500\nSLOW_QUERY_MS=100\nUSUAL_DOSE_MG=80\nUNKNOWN=1\n";
    write(folder.path(), KEY, &format!("{more}BEDTIME=21:00\nSLEEP_THRESHOLD_MG=30\nPORT=9000\n"));
    let expected = [
        " without effect, because flags or the environment take precedence: BEDTIME, PORT, SLEEP_THRESHOLD_MG\n",
        "WARNING restart the server to apply: MAX_CAFFEINE_MG, SLOW_QUERY_MS\n",
    ];
    for end in [" settings reloaded: USUAL_DOSE_MG\n", " settings reloaded: nothing has changed\n"] {
        let log = reload(&server);
        assert!(log.ends_with(end) && expected.iter().all(|line| log.contains(line)), "{log}");
        assert_eq!(log.lines().count(), 3, "{log}");
    }
    let info = server.get("/info").json();
    assert_eq!(info["validation"]["max_caffeine_mg"], 1000.0);
    let profile = server.get("/profile").json();
    assert_eq!(profile["bedtime"]["value"], "22:30", "{profile}");
    assert_eq!(profile["sleep_threshold_mg"]["value"], 40.0, "{profile}");
    assert_eq!(profile["usual_dose_mg"]["value"], 80.0, "{profile}");
    write(folder.path(), KEY, "");
    let log = reload(&server);
    assert!(log.ends_with("settings reloaded: USUAL_DOSE_MG\n") && log.lines().count() == 1, "{log}");
}

#[test]
fn the_last_of_many_signals_applies_the_last_file() {
    let folder = temporary_folder();
    write(folder.path(), KEY, "");
    let server = Server::spawn(&mut command(folder.path()));
    for limit in 100..200 {
        write(folder.path(), KEY, &format!("RECOMMENDED_DAILY_CAFFEINE_MG={limit}\n"));
        server.signal(Signal::HUP);
    }
    server.signal(Signal::HUP);
    wait_until("the last file is in force", || daily_limit(&server) == 199.0);
    let log = server.stop_cleanly().err;
    assert!(!log.contains("not reloaded"), "{log}");
}

#[test]
fn a_signal_during_the_start_is_handled_after_it() {
    let folder = temporary_folder();
    write(folder.path(), KEY, "");
    let mut command = command(folder.path());
    let disk = HangingDisk::preload(&mut command);
    disk.hang();
    let process = Process::spawn(&mut command);
    wait_until("the server opens its database", || fs::read_dir(folder.path()).unwrap().count() > 1);
    write(folder.path(), KEY, "RECOMMENDED_DAILY_CAFFEINE_MG=250\n");
    kill_process(process.pid(), Signal::HUP).unwrap();
    assert_eq!(process.out.text(), "", "the server does not listen yet");
    disk.resume();
    let log = || process.err.text();
    wait_until("the reload is logged", || log().contains("settings reloaded: RECOMMENDED_DAILY_CAFFEINE_MG"));
    assert!(log().find("listening on") < log().find("settings reloaded"), "{}", log());
}

#[test]
fn a_file_that_systemd_has_loaded_is_read_as_systemd_reads_it() {
    let folder = temporary_folder();
    let file = folder.path().join("service.env");
    fs::write(&file, format!("API_KEY={KEY}\nBEDTIME=21:00\nBEDTIME=22:00\nSLEEP_THRESHOLD_MG=40\n"))
        .unwrap();
    let mut command = command(folder.path());
    command.env("COFFEE_TRACKER_SETTINGS_FILE", &file);
    command.envs([
        ("API_KEY", KEY),
        ("BEDTIME", "22:00"),
        ("SLEEP_THRESHOLD_MG", "40"),
        ("HOST", "127.0.0.1"),
    ]);
    let server = Server::spawn(&mut command);
    let bedtime = || server.get("/profile").json()["bedtime"]["value"].clone();
    assert!(reload(&server).ends_with("settings reloaded: nothing has changed\n"));
    assert_eq!(bedtime(), "22:00");

    fs::write(&file, format!("API_KEY={KEY}\nBEDTIME=20:00\nHOST=127.0.0.2\nBEDTIME=21:30\n")).unwrap();
    let log = reload(&server);
    assert!(log.contains("restart the server to apply: HOST\n"), "{log}");
    assert!(log.ends_with("settings reloaded: BEDTIME, SLEEP_THRESHOLD_MG\n"), "{log}");
    assert_eq!(bedtime(), "21:30");
    assert_eq!(server.get("/profile").json()["sleep_threshold_mg"]["value"], 50.0, "the default");
}

#[test]
fn the_file_of_the_owners_key_is_read_again() {
    let folder = temporary_folder();
    let key_file = folder.path().join("coffee.key");
    fs::write(&key_file, KEY).unwrap();
    let server = Server::spawn(&mut command(folder.path()));
    assert_eq!((status(&server, KEY, "localhost"), status(&server, OTHER_KEY, "localhost")), (200, 401));
    fs::write(&key_file, OTHER_KEY).unwrap();
    assert!(reload(&server).ends_with("settings reloaded: the owner's key\n"));
    assert_eq!((status(&server, KEY, "localhost"), status(&server, OTHER_KEY, "localhost")), (401, 200));
}

#[test]
fn the_check_over_http_reports_the_settings_in_force() {
    let folder = temporary_folder();
    write(folder.path(), KEY, "");
    let server = Server::spawn(command(folder.path()).args(["--cors-origins", "https://home.example"]));
    let finding = |about: &str| {
        let report = server.get("/check").json();
        let found = report["findings"].as_array().unwrap().iter().find(|finding| finding["about"] == about);
        found.unwrap_or_else(|| panic!("{report}"))["finding"].as_str().unwrap().to_owned()
    };
    assert_eq!(finding("hosts"), "local names and private addresses");
    assert_eq!(finding("CORS"), "pages of https://home.example are allowed", "a flag of the server");
    write(folder.path(), KEY, "ALLOWED_HOSTS=one.example\n");
    reload(&server);
    assert_eq!(finding("hosts"), "local names, private addresses, one.example");
}
