//! `key` while a server runs: new, revoked and rotated keys take effect without a restart. Also the files with keys.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::Response;
use crate::fixtures::{assert_fails_with, assert_no_leftovers, backups, command_in, names, run_in, run_ok};
use crate::helpers::{KEY, Process, Server, mode, run, temporary_folder, wait_until};

/// Adds a key and returns it.
#[track_caller]
fn add(folder: &Path, name: &str, scopes: &str) -> String {
    let made = run_ok(folder, &["key", "add", name, "--scope", scopes]);
    assert_eq!(made.err, format!("created key {name} ({scopes}); save it now, it is not shown again\n"));
    printed_key(&made.out)
}

/// Asserts that the output is one line with a key, and returns the key.
#[track_caller]
fn printed_key(out: &str) -> String {
    let key = out.strip_suffix('\n').unwrap();
    let random = key.strip_prefix("ct_").unwrap();
    assert!(random.len() == 64 && random.bytes().all(|b| b.is_ascii_hexdigit()), "{out:?}");
    key.to_owned()
}

fn request(server: &Server, key: &str, method: &str, path: &str, body: &str) -> Response {
    let mut client = server.client();
    let length = body.len();
    client
        .send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .unwrap();
    client.read_response().unwrap()
}

/// Returns the status of a read with a key: 200, 403 or 401. An invalid key gets 429 after ten failures within a minute.
fn status_of(server: &Server, key: &str) -> u16 {
    match request(server, key, "GET", "/coffee/", "").status {
        429 => 401,
        status => status,
    }
}

#[track_caller]
fn wait_for(server: &Server, key: &str, status: u16) {
    wait_until(&format!("the key gets {status}"), || status_of(server, key) == status);
}

fn listed(folder: &Path) -> Vec<Value> {
    serde_json::from_str(&run_ok(folder, &["key", "list", "--json"]).out).unwrap()
}

/// Returns when the only key with this name was last used.
fn last_used(folder: &Path, name: &str) -> Value {
    listed(folder).iter().find(|key| key["name"] == name).unwrap()["last_used"].clone()
}

#[test]
fn a_new_key_grants_its_scopes_without_a_restart() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let phone = printed_key(&run_ok(folder.path(), &["key", "add", "phone"]).out);
    let watch = add(folder.path(), "watch", "write");
    let prometheus = add(folder.path(), "prometheus", "metrics");
    wait_for(&server, &prometheus, 403);
    for (key, read, write, metrics) in
        [(&phone, 200, 201, 403), (&watch, 403, 201, 403), (&prometheus, 403, 403, 200)]
    {
        let coffee = r#"{"caffeine_mg": 95}"#;
        assert_eq!(request(&server, key, "GET", "/export/coffee", "").status, read);
        assert_eq!(request(&server, key, "POST", "/coffee/", coffee).status, write);
        assert_eq!(request(&server, key, "GET", "/metrics", "").status, metrics);
    }
    let refused = request(&server, &watch, "GET", "/coffee/today", "");
    refused.assert_problem(403);
    assert_eq!(refused.json()["title"], "Forbidden");
    assert_eq!(refused.json()["detail"], "This API key lacks the scope read");
    assert_eq!(status_of(&server, "ct_0123456789"), 401);
    for path in ["/coffee/", "/metrics"] {
        assert_eq!(server.get(path).status, 200, "the owner's key has every scope");
    }
    server.stop_cleanly();
}

#[test]
fn revoking_a_key_takes_effect_without_a_restart() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let (phone, watch) = (add(folder.path(), "phone", "read"), add(folder.path(), "watch", "read"));
    wait_for(&server, &watch, 200);
    assert_eq!(status_of(&server, &phone), 200);
    assert_eq!(run_ok(folder.path(), &["key", "revoke", "phone"]).out, "revoked key phone\n");
    wait_for(&server, &phone, 401);
    assert_eq!(status_of(&server, &watch), 200);
    let log = server.stop_cleanly().err;
    assert!(log.contains("named keys reloaded: 1"), "{log}");
    assert!(![&phone, &watch].iter().any(|key| log.contains(*key)), "a key is in the log: {log}");
}

#[test]
fn the_old_key_is_valid_until_the_grace_period_of_its_rotation_ends() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let old = add(folder.path(), "phone", "read");
    wait_for(&server, &old, 200);
    let new = printed_key(&run_ok(folder.path(), &["key", "rotate", "phone"]).out);
    wait_for(&server, &new, 200);
    assert_eq!(status_of(&server, &old), 200);
    let both = listed(folder.path());
    assert_eq!((&both[0]["expires"], both.len()), (&Value::Null, 2), "the new key is not the first");
    assert!(both[1]["expires"].as_str() > both[0]["created"].as_str());
    let newest = printed_key(&run_ok(folder.path(), &["key", "rotate", "phone", "--grace", "3s"]).out);
    wait_for(&server, &newest, 200);
    wait_for(&server, &new, 401);
    assert_eq!(status_of(&server, &old), 401);
    let last = printed_key(&run_ok(folder.path(), &["key", "rotate", "phone", "--grace", "0"]).out);
    wait_for(&server, &last, 200);
    assert_eq!(status_of(&server, &newest), 401);
    assert_eq!(listed(folder.path()).len(), 1);
}

#[test]
fn a_key_expires_at_the_given_time_and_a_rotation_does_not_extend_it() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    let made =
        run_ok(folder.path(), &["key", "add", "guest", "--expires", "2099-12-31", "--scope", "manage"]);
    let end = "2100-01-01T00:00:00Z";
    let message =
        format!("created key guest (manage, valid until {end}); save it now, it is not shown again\n");
    assert_eq!(made.err, message);
    run_ok(folder.path(), &["key", "rotate", "guest", "--grace", "0"]);
    let expires = |name: &str| {
        let keys = listed(folder.path());
        keys.iter().find(|key| key["name"] == name).unwrap()["expires"].as_str().map(|at| at[..19].to_owned())
    };
    assert_eq!(expires("guest").as_deref(), Some(&end[..19]));
    run_ok(folder.path(), &["key", "add", "month", "--expires", "30d"]);
    assert!(expires("month").is_some());
    for when in ["2020-01-01", "tomorrow", "0", "2027-13-01"] {
        let refused = run_in(folder.path(), &["key", "add", "late", "--expires", when]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
    }
}

#[test]
fn a_key_file_that_grants_admin_is_damaged() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    add(folder.path(), "phone", "read,manage");
    let file = folder.path().join("coffee.db.keys");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace("manage", "admin")).unwrap();
    assert_fails_with(&run_in(folder.path(), &["key", "list"]), 78, "unknown variant `admin`");
}

#[test]
fn the_list_shows_every_key_without_its_secret() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    let none = run_ok(folder.path(), &["key", "list"]).out;
    assert_eq!(none, "no named keys\n");
    assert_eq!(run_ok(folder.path(), &["key", "list", "--json"]).out, "[]\n");
    assert!(!names(folder.path()).iter().any(|name| name.contains("keys")), "listing created a file");

    let (watch, phone) = (add(folder.path(), "watch", "write,metrics"), add(folder.path(), "phone", "read"));
    let mut keys = listed(folder.path());
    for key in &mut keys {
        assert!(key["created"].take().as_str().unwrap().ends_with('Z'));
    }
    let key = |name: &str, scopes: &[&str]| json!({"name": name, "scopes": scopes, "created": null, "last_used": null, "expires": null});
    assert_eq!(keys, [key("phone", &["read"]), key("watch", &["write", "metrics"])]);
    let text = run_ok(folder.path(), &["key", "list"]).out;
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NAME", "SCOPES", "CREATED", "LAST", "USED", "EXPIRES"]);
    assert_eq!((words[2][0], words[2][1], words[2][3], words[2][4]), ("phone", "read", "never", "never"));
    assert_eq!((words[3][0], words[3][1], words.len()), ("watch", "write,metrics", 4));

    let file = folder.path().join("coffee.db.keys");
    let kept = fs::read_to_string(&file).unwrap();
    for key in [&watch, &phone] {
        assert!(!kept.contains(&key[3..]) && !text.contains(&key[3..]));
    }
    assert_eq!((mode(&file), mode(&folder.path().join("coffee.db.keys.lock"))), (0o600, 0o600));
    assert_no_leftovers(folder.path());
}

#[test]
fn the_last_use_of_a_key_survives_a_restart_and_sigkill() {
    let folder = temporary_folder();
    let first = Server::start(folder.path());
    let (watch, key) = (add(folder.path(), "watch", "read"), add(folder.path(), "phone", "read"));
    assert_eq!(last_used(folder.path(), "phone"), Value::Null);
    for key in [&watch, &key] {
        wait_for(&first, key, 200);
    }
    for name in ["watch", "phone"] {
        wait_until("the use of the key is listed", || last_used(folder.path(), name).is_string());
    }
    first.signal(Signal::KILL);
    drop(first.process.wait());
    let (others, shown) = (last_used(folder.path(), "watch"), last_used(folder.path(), "phone"));
    assert!(others.is_string() && shown.is_string());

    let second = Server::start(folder.path());
    assert_eq!(second.get("/coffee/").status, 200);
    assert_eq!(
        last_used(folder.path(), "phone"),
        shown,
        "a use of the owner's key was recorded for another key"
    );
    wait_for(&second, &key, 200);
    second.stop_cleanly();
    let later = last_used(folder.path(), "phone");
    assert!(later.as_str() > shown.as_str(), "{later}: a use is saved at the latest when the server stops");
    assert_eq!(last_used(folder.path(), "watch"), others, "the use that another server recorded was lost");
    assert_eq!(mode(&folder.path().join("coffee.db.keys.used")), 0o600);
    assert_no_leftovers(folder.path());
}

#[test]
fn requests_succeed_when_the_last_use_cannot_be_saved() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let key = add(folder.path(), "phone", "read,write");
    // A folder cannot be replaced by a file.
    fs::create_dir(folder.path().join("coffee.db.keys.used")).unwrap();
    wait_for(&server, &key, 200);
    let warning = "the last uses of keys could not be saved";
    wait_until("the warning is logged", || server.process.err.text().contains(warning));
    for _ in 0..50 {
        assert_eq!(request(&server, &key, "POST", "/coffee/", r#"{"caffeine_mg": 1}"#).status, 201);
    }
    assert_eq!(last_used(folder.path(), "phone"), Value::Null);
    let log = server.stop_cleanly().err;
    assert_eq!(log.matches(warning).count(), 1, "{log}");
    assert_no_leftovers(folder.path());
}

#[test]
fn a_damaged_key_file_keeps_the_last_valid_keys_and_is_logged_once() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let [kept, other, lost] = ["kept", "other", "lost"].map(|name| add(folder.path(), name, "read"));
    wait_for(&server, &lost, 200);
    let file = folder.path().join("coffee.db.keys");
    let good = fs::read(&file).unwrap();
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    let message = "coffee.db.keys is damaged: ";
    wait_until("the warning is logged", || server.process.err.text().contains(message));
    // The server checks the key file before it records a use: two recorded uses mean two checks.
    for (key, recorded) in [(&kept, 2), (&other, 3)] {
        assert_eq!(status_of(&server, key), 200);
        wait_until("the use is recorded", || {
            let uses = fs::read(folder.path().join("coffee.db.keys.used"));
            let uses = uses.ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            uses.is_some_and(|uses| uses.as_object().unwrap().len() == recorded)
        });
    }
    assert_eq!(status_of(&server, &lost), 200);
    let refused = run_in(folder.path(), &["key", "revoke", "lost"]);
    assert_fails_with(&refused, 78, "repair it, or remove it to revoke all named keys");
    fs::write(&file, good).unwrap();
    run_ok(folder.path(), &["key", "revoke", "lost"]);
    wait_for(&server, &lost, 401);
    assert_eq!(status_of(&server, &kept), 200);
    let log = server.stop_cleanly().err;
    assert_eq!(log.matches(message).count(), 1, "{log}");

    // A server also starts with a damaged key file: the owner's key is not in it.
    fs::write(&file, "{").unwrap();
    let server = Server::start(folder.path());
    assert_eq!((server.get("/coffee/").status, status_of(&server, &kept)), (200, 401));
    assert_eq!(server.stop_cleanly().err.matches(message).count(), 1);
}

#[test]
fn concurrent_commands_lose_no_key() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    add(folder.path(), "old", "read");
    let commands = (0..12).map(|n| {
        let name = format!("key-{n}");
        Process::spawn(&mut command_in(folder.path(), &["key", "add", &name]))
    });
    let commands: Vec<Process> = commands.collect();
    let revoked = Process::spawn(&mut command_in(folder.path(), &["key", "revoke", "old"]));
    let made: Vec<_> = commands.into_iter().map(Process::wait).collect();
    assert!(made.iter().all(|result| result.code == Some(0)), "{made:?}");
    assert_eq!(revoked.wait().code, Some(0));
    let mut expected: Vec<String> = (0..12).map(|n| format!("key-{n}")).collect();
    expected.sort();
    let found: Vec<String> =
        listed(folder.path()).iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found, expected);
    assert_no_leftovers(folder.path());
}

#[test]
fn backups_contain_no_keys_and_a_restore_restores_none() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let lost = add(folder.path(), "lost", "read");
    wait_for(&server, &lost, 200);
    let file: Value =
        serde_json::from_slice(&fs::read(folder.path().join("coffee.db.keys")).unwrap()).unwrap();
    let digest = file["keys"][0]["sha256"].as_str().unwrap().to_owned();
    run_ok(folder.path(), &["backup"]);
    run_ok(folder.path(), &["key", "revoke", "lost"]);
    let kept = add(folder.path(), "kept", "read");
    let backup = backups(folder.path()).remove(0);
    assert_eq!(backups(folder.path()).len(), 1, "the folder of backups has other files");
    let backed_up = String::from_utf8_lossy(&fs::read(&backup).unwrap()).into_owned();
    assert!(!backed_up.contains(&digest) && !backed_up.contains(&lost));
    run_ok(folder.path(), &["restore", backup.to_str().unwrap(), "--yes"]);
    wait_for(&server, &kept, 200);
    assert_eq!(status_of(&server, &lost), 401);
    server.stop_cleanly();
    let replaced = run_in(folder.path(), &["restore", backup.to_str().unwrap(), "--yes", "--replace"]);
    assert_eq!(replaced.code, Some(0), "{replaced:?}");
    let server = Server::start(folder.path());
    assert_eq!((status_of(&server, &kept), status_of(&server, &lost)), (200, 401));
}

#[test]
fn failing_key_commands_report_a_code_and_change_nothing() {
    let folder = temporary_folder();
    for args in [&["key", "add", "phone"][..], &["key", "list"], &["key", "revoke", "phone"]] {
        assert_fails_with(
            &run_in(folder.path(), args),
            78,
            "there is no database at coffee.db: start the server once",
        );
    }
    assert_eq!(names(folder.path()), [""; 0], "a file was created without a database");
    Server::start(folder.path()).stop_cleanly();
    let long = "n".repeat(51);
    for args in [
        &["key"][..],
        &["key", "add"],
        &["key", "add", ""],
        &["key", "add", "my phone"],
        &["key", "add", "../phone"],
        &["key", "add", "."],
        &["key", "add", ".."],
        &["key", "add", &long],
        &["key", "add", "phone", "--scope", "admin"],
        &["key", "add", "phone", "--scope", "read,,write"],
        &["key", "add", "phone", "--scope", ""],
        &["key", "rotate", "phone", "--grace", "soon"],
        &["key", "rotate", "phone", "--grace", "9999d"],
        &["key", "revoke"],
        &["key", "lend", "phone"],
    ] {
        let refused = run_in(folder.path(), args);
        assert_eq!((refused.code, refused.out.as_str()), (Some(2), ""), "{args:?}: {refused:?}");
    }
    assert!(!names(folder.path()).contains(&"coffee.db.keys".to_owned()));
    add(folder.path(), "phone", "read");
    let before = fs::read(folder.path().join("coffee.db.keys")).unwrap();
    for (args, reason) in [
        (
            ["key", "add", "phone"],
            "a key named phone already exists; revoke it, rotate it, or choose another name",
        ),
        (["key", "revoke", "Phone"], "there is no key named Phone"),
        (["key", "rotate", "watch"], "there is no key named watch"),
    ] {
        assert_fails_with(&run_in(folder.path(), &args), 1, reason);
    }
    let lock = fs::File::options().write(true).open(folder.path().join("coffee.db.keys.lock")).unwrap();
    lock.lock().unwrap();
    let busy = run_in(folder.path(), &["key", "revoke", "phone"]);
    assert_fails_with(&busy, 75, "another command is changing the keys in coffee.db.keys; try again");
    assert_eq!(listed(folder.path()).len(), 1, "listing waited for the lock");
    drop(lock);
    assert_eq!(fs::read(folder.path().join("coffee.db.keys")).unwrap(), before);
    assert_no_leftovers(folder.path());
}

#[test]
fn a_key_that_could_not_be_printed_is_reported_as_lost() {
    let folder = temporary_folder();
    Server::start(folder.path()).stop_cleanly();
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let mut command = command_in(folder.path(), &["key", "add", "phone"]);
    let output = command.stdout(full()).stderr(Stdio::piped()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("replace it with `coffee-tracker key rotate phone --grace 0`"), "{err}");
    let key = printed_key(&run_ok(folder.path(), &["key", "rotate", "phone", "--grace", "0"]).out);
    let server = Server::start(folder.path());
    assert_eq!(status_of(&server, &key), 200);
}

#[test]
fn keys_belong_to_the_target_of_a_symlinked_database() {
    let (folder, elsewhere) = (temporary_folder(), temporary_folder());
    let real = elsewhere.path().join("real.db");
    let mut command = command_in(elsewhere.path(), &["serve", "--port", "0"]);
    let server = Server::spawn(command.env("DATABASE_URL", &real).env("API_KEY", KEY));
    std::os::unix::fs::symlink(&real, folder.path().join("coffee.db")).unwrap();
    let key = printed_key(&run_ok(folder.path(), &["key", "add", "phone"]).out);
    wait_for(&server, &key, 200);
    assert!(fs::metadata(elsewhere.path().join("real.db.keys")).unwrap().size() > 0);
    let result = run(command_in(elsewhere.path(), &["key", "list", "--json"]).env("DATABASE_URL", &real));
    assert!(result.out.contains("phone"), "{result:?}");
}
