//! `person freeze`, `archive`, `adopt` and `release`: a move to another machine, as a user does it.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::client::{Response, request};
use crate::fixtures::{
    add_entries, assert_fails_with, command_in, files, id_of, make_database, names, open_copy, run_in,
    run_ok, set_id, state,
};
use crate::helpers::{
    CommandResult, IGNORE_FILE_SIZE_SIGNAL, KEY, Server, from_bash, mode, rows, run, temporary_folder,
    wait_until,
};

/// Anna on her old machine, an empty new machine, and a folder for the archive outside of both.
struct Machines {
    old: TempDir,
    new: TempDir,
    elsewhere: TempDir,
    /// Anna's first key.
    key: String,
}

impl Machines {
    /// Anna has 30 coffees and 300 readings.
    fn create() -> Self {
        let (old, new, elsewhere) = (temporary_folder(), temporary_folder(), temporary_folder());
        make_database(old.path(), "owner", 10);
        make_database(new.path(), "other", 5);
        // Each machine has an owner of its own.
        set_id(&new.path().join("coffee.db"), "fedcba9876543210fedcba9876543210");
        let key =
            run_ok(old.path(), &["person", "add", "anna", "--display-name", "Anna"]).out.trim().to_owned();
        add_entries(&anna(old.path(), "coffee.db"), "anna", 30);
        Self { old, new, elsewhere, key }
    }

    fn archive(&self) -> PathBuf {
        self.elsewhere.path().join("anna.zip")
    }

    fn run_archive(&self) -> CommandResult {
        run_in(self.old.path(), &["person", "archive", "anna", self.archive().to_str().unwrap()])
    }

    fn adopt(&self, more: &[&str]) -> CommandResult {
        run_in(self.new.path(), &[&["person", "adopt", self.archive().to_str().unwrap()], more].concat())
    }

    /// Sends a request with Anna's key.
    fn send(&self, server: &Server, method: &str, path: &str, body: &str) -> Response {
        self.send_once(server, method, path, "", body)
    }

    /// Sends a request with Anna's key and an idempotency key.
    fn send_once(&self, server: &Server, method: &str, path: &str, more: &str, body: &str) -> Response {
        let mut client = server.client();
        client.send(request(method, path, more, body).replace(KEY, &self.key)).unwrap();
        client.read_response().unwrap()
    }
}

/// Returns the path of a file of Anna's.
fn anna(folder: &Path, file: &str) -> PathBuf {
    folder.join("people/anna").join(file)
}

/// Returns a person of the list.
fn listed(folder: &Path, name: &str) -> Value {
    let list: Value = serde_json::from_str(&run_ok(folder, &["person", "list", "--json"]).out).unwrap();
    list["people"]
        .as_array()
        .unwrap()
        .iter()
        .find(|person| person["name"] == name)
        .cloned()
        .unwrap_or_default()
}

/// Asserts that a response rejects a change of a frozen person.
#[track_caller]
fn assert_frozen(response: &Response) {
    response.assert_problem(503);
    assert_eq!(response.header("Retry-After"), Some("2"));
    assert_eq!(response.json()["detail"], "This person is being moved to another machine: try again");
}

/// Every row of every table of a database, except what packing and SQLite maintain.
fn contents(database: &Path) -> Vec<String> {
    let (_folder, copy) = open_copy(database);
    let tables = rows(&copy, "select name from sqlite_schema where type = 'table' order by name");
    let names = tables.iter().map(|name| name.trim_start_matches("Text(\"").trim_end_matches("\")"));
    let kept = names.filter(|name| !name.contains("packed") && !name.starts_with("sqlite_"));
    kept.flat_map(|name| rows(&copy, &format!("select '{name}', * from {name}"))).collect()
}

#[test]
fn a_frozen_person_is_read_and_never_changed_while_others_are() {
    let machines = Machines::create();
    let (folder, server) = (machines.old.path(), Server::start(machines.old.path()));
    assert_eq!(machines.send(&server, "POST", "/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
    let frozen = run_ok(folder, &["person", "freeze", "anna"]);
    let since = listed(folder, "anna")["frozen_since"].as_str().unwrap().to_owned();
    let end = "changes are rejected until `coffee-tracker person release anna`";
    assert_eq!(frozen.out, format!("anna is frozen since {since}: {end}\n"));
    assert_eq!(run_ok(folder, &["person", "freeze", "anna"]).out, frozen.out);
    assert_eq!(mode(&anna(folder, "coffee.db.frozen.json")), 0o600);
    let before = contents(&anna(folder, "coffee.db"));
    // At once, by the writer thread and the file of the keys.
    assert_frozen(&machines.send(&server, "POST", "/coffee/", r#"{"caffeine_mg": 80}"#));
    assert_frozen(&machines.send(&server, "POST", "/keys", r#"{"name": "phone"}"#));
    assert_frozen(&machines.send(&server, "PATCH", "/profile", r#"{"bedtime": "22:00"}"#));
    wait_until("the server has found out", || {
        let metrics = server.get("/metrics");
        String::from_utf8(metrics.body).unwrap().lines().any(|line| line == "people_frozen 1")
    });
    // Also changes that commands of the server make.
    for (method, path) in
        [("POST", "/prune"), ("POST", "/backups/coffee_20260101_000000.db/restore"), ("POST", "/imports")]
    {
        assert_frozen(&machines.send(&server, method, path, "{}"));
    }
    for path in ["/coffee/", "/heartrate/stats", "/profile", "/keys", "/me", "/backups", "/sources"] {
        assert_eq!(machines.send(&server, "GET", path, "").status, 200, "{path}");
    }
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
    assert_eq!(server.get("/health").status, 200);
    let person = server.get("/people/anna").json();
    assert_eq!((&person["frozen_since"], &person["move"]["direction"]), (&json!(since), &json!("leaving")));
    server.stop_cleanly();

    // The freeze outlasts a restart, and its end takes effect without one.
    let server = Server::start(folder);
    assert_frozen(&machines.send(&server, "DELETE", "/coffee/1", ""));
    assert_eq!(contents(&anna(folder, "coffee.db")), before);
    assert_eq!(run_ok(folder, &["person", "release", "anna"]).out, "released anna\n");
    assert_eq!(run_ok(folder, &["person", "release", "anna"]).out, "anna is not frozen: nothing to do\n");
    wait_until("the server has found out", || {
        machines.send(&server, "POST", "/coffee/", r#"{"caffeine_mg": 80}"#).status == 201
    });
    assert_eq!(listed(folder, "anna")["move"], Value::Null);
    server.stop_cleanly();
}

#[test]
fn commands_change_nothing_of_a_frozen_person() {
    let machines = Machines::create();
    let folder = machines.old.path();
    run_ok(folder, &["backup", "--person", "anna"]);
    let backup = run_ok(folder, &["backups", "newest", "--person", "anna"]).out.trim().to_owned();
    fs::write(folder.join("more.csv"), "timestamp,caffeine_mg\n2026-01-01T08:00:00Z,80\n").unwrap();
    run_ok(folder, &["person", "freeze", "anna"]);
    let keys = || fs::read(anna(folder, "coffee.db.keys")).unwrap();
    let before = (contents(&anna(folder, "coffee.db")), keys());
    let changes: [&[&str]; 12] = [
        &["import", "more.csv", "--person", "anna"],
        &["restore", &backup, "--yes", "--person", "anna"],
        &["restore", &backup, "--yes", "--replace", "--person", "anna"],
        &["prune", "--before", "2026-01-01", "--yes", "--person", "anna"],
        &["recount", "--person", "anna"],
        &["demo", "--days", "2", "--person", "anna"],
        &["profile", "--set", "bedtime=22:00", "--person", "anna"],
        &["key", "add", "watch", "--person", "anna"],
        &["key", "revoke", "first", "--person", "anna"],
        &["key", "rotate", "first", "--person", "anna"],
        &["person", "rename", "anna", "lisa"],
        &["person", "rename", "anna", "--display-name", "Lisa"],
    ];
    for args in changes {
        let refused = run_in(folder, args);
        assert_fails_with(&refused, 75, "is being moved to another machine");
        assert_eq!((contents(&anna(folder, "coffee.db")), keys()), before, "{args:?}");
    }
    assert_eq!(listed(folder, "anna")["display_name"], "Anna");
    let reads: [&[&str]; 6] = [
        &["export", "coffee", "--person", "anna"],
        &["backup", "--person", "anna"],
        &["verify", "--newest", "--person", "anna"],
        &["profile", "--person", "anna"],
        &["key", "list", "--person", "anna"],
        &["import", "more.csv", "--dry-run", "--person", "anna"],
    ];
    for args in reads {
        run_ok(folder, args);
    }
    let check = run_in(folder, &["check", "--json"]);
    let found: Value = serde_json::from_str(&check.out).unwrap();
    let moves: Vec<_> =
        found.as_array().unwrap().iter().filter(|finding| finding["about"] == "move").collect();
    assert_eq!((moves.len(), &moves[0]["person"], &moves[0]["state"]), (1, &json!("anna"), &json!("advice")));
    let list = run_ok(folder, &["person", "list"]).out;
    assert!(
        list.lines().any(|line| line.starts_with("anna") && line.contains("leaving, frozen since 20")),
        "{list}"
    );

    run_ok(folder, &["person", "release", "anna"]);
    run_ok(folder, &["import", "more.csv", "--person", "anna"]);
    assert_eq!(state(&anna(folder, "coffee.db")).unwrap().coffees.len(), 31);
}

/// Asserts that both machines have the same of Anna.
#[track_caller]
fn assert_same_data(old: &Path, new: &Path) {
    assert_eq!(contents(&anna(old, "coffee.db")), contents(&anna(new, "coffee.db")));
    assert_eq!(id_of(&anna(old, "coffee.db")), id_of(&anna(new, "coffee.db")));
    for file in ["coffee.db.keys", "coffee.db.person.json"] {
        assert_eq!(fs::read(anna(old, file)).unwrap(), fs::read(anna(new, file)).unwrap(), "{file}");
        assert_eq!(mode(&anna(new, file)), 0o600);
    }
}

#[test]
fn a_move_takes_everything_of_a_person_along_and_a_retry_is_answered_on_the_new_machine() {
    let machines = Machines::create();
    let (old, new) = (machines.old.path(), machines.new.path());
    let server = Server::start(old);
    let once = "Idempotency-Key: coffee-1\r\n";
    let body = r#"{"caffeine_mg": 80, "notes": "with milk"}"#;
    let first = machines.send_once(&server, "POST", "/coffee/", once, body);
    assert_eq!(first.status, 201);
    assert_eq!(machines.send(&server, "PATCH", "/profile", r#"{"bedtime": "22:00"}"#).status, 200);
    let push = r#"{"timestamp": "2026-06-01T08:00:00Z", "app_version": "1", "heart_rate": [{"bpm": 61, "time": "2026-06-01T07:00:00Z"}]}"#;
    assert_eq!(machines.send(&server, "POST", "/ingest/hc-webhook", push).status, 200);
    let made = machines.run_archive();
    let file = machines.archive();
    let next = "anna is frozen here; next, adopt the file on the new machine";
    let text = format!("archived anna as {}: 31 coffees, 301 readings\n{next}\n", file.display());
    assert_eq!((made.code, made.out.as_str()), (Some(0), text.as_str()), "{made:?}");
    assert_eq!(mode(&file), 0o600);
    let archived = fs::read(&file).unwrap();
    assert!(!archived.windows(machines.key.len()).any(|window| window == machines.key.as_bytes()));
    // Again: verified if it is there, written again if it is not.
    assert_eq!(machines.run_archive().out, text);
    assert!(fs::read(&file).unwrap() == archived);
    fs::remove_file(&file).unwrap();
    assert_eq!(machines.run_archive().out, text);
    assert!(fs::read(&file).unwrap() == archived, "the archive of the same move differs");

    let other = Server::start(new);
    let adopted = machines.adopt(&[]);
    let next = "the keys of the archive can read here; next, send requests here and run `coffee-tracker person release anna`";
    let first_line = format!("adopted {} as anna, frozen: 31 coffees, 301 readings", file.display());
    assert_eq!(adopted.out, format!("{first_line}\n{next}\n"), "{adopted:?}");
    wait_until("the key is known", || machines.send(&other, "GET", "/me", "").status == 200);
    assert_eq!(machines.send(&other, "GET", "/profile", "").json()["bedtime"]["value"], "22:00");
    assert_frozen(&machines.send_once(&other, "POST", "/coffee/", once, body));
    let again = machines.adopt(&[]);
    let known = format!("{} was adopted as anna before, frozen: nothing to do\n{next}\n", file.display());
    assert_eq!((again.code, again.out), (Some(0), known));
    let moves = [old, new].map(|folder| listed(folder, "anna")["move"].clone());
    assert_eq!((&moves[0]["id"], &moves[1]["direction"]), (&moves[1]["id"], &json!("arriving")));

    assert_eq!(run_ok(new, &["person", "release", "anna"]).out, "released anna\n");
    wait_until("she is released", || {
        let repeated = machines.send_once(&other, "POST", "/coffee/", once, body);
        repeated.status == 201 && repeated.body == first.body
    });
    // The old machine stays frozen, until she is removed there.
    assert_frozen(&machines.send_once(&server, "POST", "/coffee/", once, body));
    assert_same_data(old, new);
    run_ok(old, &["person", "remove", "anna", "--yes"]);
    wait_until("the old machine has forgotten her", || {
        machines.send(&server, "GET", "/me", "").status == 401
    });
    let done = machines.adopt(&[]);
    let known = format!("{} was adopted as anna before, and released: nothing to do\n", file.display());
    assert_eq!((done.code, done.out), (Some(0), known));
    server.stop_cleanly();
    other.stop_cleanly();
    let hidden = names(&new.join("people")).into_iter().filter(|name| name.starts_with('.'));
    assert_eq!(hidden.collect::<Vec<_>>(), [".lock"]);
}

#[test]
fn a_person_moves_back_after_the_frozen_folder_was_removed() {
    let machines = Machines::create();
    let (old, new) = (machines.old.path(), machines.new.path());
    assert_eq!((machines.run_archive().code, machines.adopt(&[]).code), (Some(0), Some(0)));
    run_ok(new, &["person", "release", "anna"]);
    add_entries(&anna(new, "coffee.db"), "later", 3);
    let back = machines.elsewhere.path().join("back.zip");
    let back = back.to_str().unwrap();
    run_ok(new, &["person", "archive", "anna", back]);
    let refused = run_in(old, &["person", "adopt", back]);
    let reason = "anna is being moved away from this machine: finish or undo that move first";
    assert_fails_with(&refused, 1, reason);
    run_ok(old, &["person", "remove", "anna", "--yes"]);
    run_ok(old, &["person", "adopt", back]);
    run_ok(old, &["person", "release", "anna"]);
    assert_eq!(state(&anna(old, "coffee.db")).unwrap().coffees.len(), 33);
    // The first archive is not of this move.
    let stale = run_in(old, &["person", "adopt", machines.archive().to_str().unwrap()]);
    assert_fails_with(&stale, 1, "there is a person named anna already: choose another name");
    let stale = run_in(old, &["person", "archive", "anna", machines.archive().to_str().unwrap()]);
    assert_fails_with(&stale, 1, "anna.zip exists already and is not the archive of this move");
    assert_eq!(listed(old, "anna")["move"], Value::Null);
}

#[test]
fn each_machine_refuses_the_step_of_the_other() {
    let machines = Machines::create();
    let (old, new) = (machines.old.path(), machines.new.path());
    assert_eq!(machines.run_archive().code, Some(0));
    let here = run_in(old, &["person", "adopt", machines.archive().to_str().unwrap(), "--name", "lisa"]);
    assert_fails_with(&here, 1, "this is the archive of anna, who is here");
    let early = run_in(old, &["person", "release", "anna"]);
    assert_fails_with(&early, 1, "keep anna here with `coffee-tracker person release anna --undo`");
    assert_eq!(machines.adopt(&[]).code, Some(0));
    let undone = run_in(new, &["person", "release", "anna", "--undo", "--yes"]);
    assert_fails_with(&undone, 1, "anna came from another machine and is not released here");
    let further = machines.elsewhere.path().join("further.zip");
    let (present, missing) = (machines.archive(), further.to_str().unwrap());
    for args in [
        &["freeze", "anna"][..],
        &["archive", "anna", missing],
        &["archive", "anna", present.to_str().unwrap()],
    ] {
        let refused = run_in(new, &[&["person"], args].concat());
        assert_fails_with(&refused, 1, "anna came from another machine and is not released here");
    }
    assert!(!further.exists());
    let unconfirmed = run_in(old, &["person", "release", "anna", "--undo"]);
    assert_fails_with(
        &unconfirmed,
        2,
        "undoing a move needs confirmation, and standard input is not a terminal: add --yes",
    );
    assert_eq!(run_in(old, &["person", "release", "anna", "--yes"]).code, Some(2));
    for folder in [old, new] {
        assert!(anna(folder, "coffee.db.frozen.json").exists());
    }
    for args in
        [&["freeze", "dora"][..], &["release", "dora"], &["archive", "dora", further.to_str().unwrap()]]
    {
        assert_fails_with(&run_in(old, &[&["person"], args].concat()), 1, "there is no person named dora");
    }

    // The move is undone: first there, then here.
    run_ok(new, &["person", "remove", "anna", "--yes"]);
    let undone = run_ok(old, &["person", "release", "anna", "--undo", "--yes"]);
    assert_eq!(undone.out, "released anna, who stays here\n");
    run_ok(old, &["key", "add", "watch", "--person", "anna"]);
    // A later move has another archive.
    let taken = machines.run_archive();
    assert_fails_with(
        &taken,
        1,
        "anna.zip exists already and is not the archive of this move: archives never replace a file",
    );
    assert_eq!(listed(old, "anna")["move"], Value::Null);
}

#[test]
fn a_failed_archive_leaves_the_person_as_they_were() {
    let machines = Machines::create();
    let folder = machines.old.path();
    for inside in ["anna.zip", "people/anna/anna.zip", "people/anna/new/anna.zip", "backups/anna.zip"] {
        let refused = run_in(folder, &["person", "archive", "anna", inside]);
        assert_fails_with(&refused, 1, &format!("{inside} lies in the data folder /"));
    }
    let database = run_in(folder, &["person", "archive", "anna", "people/anna/coffee.db.keys"]);
    assert_fails_with(&database, 1, "belongs to the database: name another file");
    fs::write(machines.archive(), "mine").unwrap();
    assert_fails_with(&machines.run_archive(), 1, "exists already and is not the archive of this move");
    assert_eq!(fs::read(machines.archive()).unwrap(), b"mine");
    fs::remove_file(machines.archive()).unwrap();

    let command = command_in(folder, &["person", "archive", "anna", machines.archive().to_str().unwrap()]);
    let mut limited = from_bash(&format!("{IGNORE_FILE_SIZE_SIGNAL}; ulimit -f 40"), &command);
    let full = run(&mut limited);
    assert!(full.code.is_some_and(|code| code != 0), "{full:?}");
    assert_eq!(names(machines.elsewhere.path()), [""; 0]);
    assert_eq!(listed(folder, "anna")["move"], Value::Null);
    // Frozen before, frozen after.
    let frozen = run_ok(folder, &["person", "freeze", "anna"]);
    let end = "`coffee-tracker person release anna`\n";
    assert!(frozen.out.ends_with(end), "{frozen:?}");
    let full = run(&mut limited);
    assert!(full.code.is_some_and(|code| code != 0) && full.err.contains(end), "{full:?}");
    assert_eq!(listed(folder, "anna")["move"]["direction"], "leaving");
    assert_eq!(machines.run_archive().code, Some(0));
    // Another machine may have the archive.
    let end = "`coffee-tracker person release anna --undo`\n";
    let again = run_ok(folder, &["person", "freeze", "anna"]);
    assert!(again.out.ends_with(end), "{again:?}");
    fs::remove_file(machines.archive()).unwrap();
    let full = run(&mut limited);
    assert!(full.code.is_some_and(|code| code != 0) && full.err.contains(end), "{full:?}");
}

/// Writes an archive again with another description or database.
fn rewrite(archive: &Path, change: impl FnOnce(&mut Value, &mut Vec<u8>)) {
    let mut zip = ZipArchive::new(fs::File::open(archive).unwrap()).unwrap();
    let mut read = |name: &str| {
        let mut bytes = Vec::new();
        zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let mut manifest: Value = serde_json::from_slice(&read("archive.json")).unwrap();
    let mut database = read("coffee.db");
    change(&mut manifest, &mut database);
    let mut zip = ZipWriter::new(fs::File::create(archive).unwrap());
    for (name, bytes) in [("archive.json", serde_json::to_vec(&manifest).unwrap()), ("coffee.db", database)] {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// Changes the database of an archive with SQL, and its digest with it.
fn change_database(manifest: &mut Value, database: &mut Vec<u8>, sql: &str) {
    let folder = temporary_folder();
    let path = folder.path().join("changed.db");
    fs::write(&path, &database).unwrap();
    let changed = Connection::open(&path).unwrap();
    changed.execute_batch(sql).unwrap();
    drop(changed);
    *database = fs::read(&path).unwrap();
    manifest["database_sha256"] = json!(sha256(database));
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn an_archive_from_elsewhere_is_not_trusted() {
    let machines = Machines::create();
    assert_eq!(machines.run_archive().code, Some(0));
    let (new, file) = (machines.new.path(), machines.archive());
    let whole = fs::read(&file).unwrap();
    let before = files(new);
    let refuse = |reason: &str, change: &dyn Fn(&mut Value, &mut Vec<u8>)| {
        fs::write(&file, &whole).unwrap();
        rewrite(&file, change);
        let refused = machines.adopt(&[]);
        assert_fails_with(&refused, 1, reason);
        let people = names(&new.join("people"));
        assert!(people.iter().all(|name| name == ".lock"), "{reason}: {people:?}");
    };
    refuse("archive.json is damaged", &|manifest, _| manifest["move"] = json!("../../x"));
    refuse("archive.json is damaged", &|manifest, _| manifest["person"] = json!("../anna"));
    refuse("it has version 2 instead of 1: install a newer program", &|manifest, _| {
        manifest["version"] = json!(2);
    });
    refuse("unknown variant `admin`", &|manifest, _| {
        manifest["keys"][0]["scopes"] = json!(["admin"]);
    });
    refuse("the database differs from the one that was archived", &|_, database| database[5000] ^= 1);
    refuse("install a newer one", &|manifest, database| {
        change_database(manifest, database, "pragma user_version = 1000");
    });
    refuse("anna.zip cannot be adopted: ", &|manifest, database| {
        change_database(manifest, database, "drop table profile");
    });
    refuse("anna.zip cannot be adopted: ", &|manifest, database| {
        change_database(manifest, database, "update coffee_logs set caffeine_mg = 999 where id = 1");
    });
    refuse("anna.zip cannot be adopted: ", &|manifest, database| {
        *database = b"flat white ".repeat(1000);
        manifest["database_sha256"] = json!(sha256(database));
    });
    assert_eq!(files(new), before);

    // A key belongs to one person.
    run_ok(new, &["person", "add", "bert"]);
    fs::copy(anna(machines.old.path(), "coffee.db.keys"), new.join("people/bert/coffee.db.keys")).unwrap();
    fs::write(&file, &whole).unwrap();
    let reason = "the key first of the archive belongs to bert here: revoke it there or on the old machine";
    assert_fails_with(&machines.adopt(&[]), 1, reason);
    run_ok(new, &["key", "revoke", "first", "--person", "bert"]);
    assert_eq!(machines.adopt(&["--name", "lisa"]).code, Some(0));
    assert_eq!(listed(new, "lisa")["move"]["direction"], "arriving");
    let again = machines.adopt(&[]);
    assert!(again.out.contains("was adopted as lisa before, frozen: nothing to do"), "{again:?}");
}

#[test]
fn an_archive_is_refused_where_the_person_was_released_and_has_left() {
    let machines = Machines::create();
    let new = machines.new.path();
    assert_eq!((machines.run_archive().code, machines.adopt(&[]).code), (Some(0), Some(0)));
    run_ok(new, &["person", "release", "anna"]);
    let back = machines.elsewhere.path().join("back.zip");
    run_ok(new, &["person", "archive", "anna", back.to_str().unwrap()]);
    run_ok(new, &["person", "remove", "anna", "--yes"]);
    let removed = new.join("removed").join(&names(&new.join("removed"))[0]);
    let reason = "this archive was adopted and released here before, and the person has left since (see ";
    for more in [&[][..], &["--name", "lisa"]] {
        assert_fails_with(&machines.adopt(more), 1, reason);
    }
    fs::write(removed.join("coffee.db.moved.json"), "{").unwrap();
    for more in [&[][..], &["--name", "lisa"]] {
        let refused = machines.adopt(more);
        assert!(refused.code == Some(1) && refused.err.contains(reason), "{refused:?}");
    }
    assert_eq!(names(&new.join("people")), [".lock"]);
}

#[test]
fn an_adoption_is_undone_only_before_its_release() {
    let machines = Machines::create();
    let (old, new) = (machines.old.path(), machines.new.path());
    let undo = |folder: &Path, name: &str| run_in(folder, &["person", "remove", name, "--unreleased"]);
    let nobody = "there is no person named anna: nothing to do\n";
    assert_eq!(undo(new, "anna").out, nobody);
    // With a wrong DATABASE_URL, nobody would be there.
    assert_fails_with(&undo(machines.elsewhere.path(), "anna"), 78, "there is no database at coffee.db");
    assert_eq!((machines.run_archive().code, machines.adopt(&[]).code), (Some(0), Some(0)));
    let undone = undo(new, "anna");
    assert!(undone.out.starts_with("removed anna; to undo this: "), "{undone:?}");
    assert_eq!((undone.code, undo(new, "anna").out.as_str()), (Some(0), nobody));
    assert!(names(&new.join("removed"))[0].starts_with("anna-") && !new.join("backups/anna").exists());
    // The same archive can be adopted again.
    assert_eq!(machines.adopt(&[]).code, Some(0));
    let undone = run_ok(new, &["person", "remove", "anna", "--unreleased", "--yes", "--json"]);
    let undone: Value = serde_json::from_str(&undone.out).unwrap();
    assert_eq!((&undone["name"], &undone["backup"]), (&json!("anna"), &Value::Null));

    assert_eq!(machines.adopt(&[]).code, Some(0));
    run_ok(new, &["person", "release", "anna"]);
    run_ok(new, &["person", "add", "bert"]);
    for (folder, name) in [(old, "anna"), (new, "anna"), (new, "bert")] {
        let end =
            "was not adopted here, or was released since: the move cannot be undone, move them back instead";
        assert_fails_with(&undo(folder, name), 1, &format!("{name} {end}"));
        assert!(listed(folder, name).is_object());
    }
    assert_eq!(undo(new, "owner").code, Some(2));
}

#[test]
fn an_archive_does_not_replace_a_person_in_any_state() {
    let machines = Machines::create();
    let new = machines.new.path();
    assert_eq!(machines.run_archive().code, Some(0));
    run_ok(new, &["person", "add", "anna"]);
    let taken = "there is a person named anna already: choose another name";
    assert_fails_with(&machines.adopt(&[]), 1, taken);
    // Without an archive, nobody is being moved.
    run_ok(new, &["person", "freeze", "anna"]);
    assert_fails_with(&machines.adopt(&[]), 1, taken);
    run_ok(
        new,
        &["person", "archive", "anna", machines.elsewhere.path().join("other.zip").to_str().unwrap()],
    );
    let leaving = "anna is being moved away from this machine: finish or undo that move first";
    assert_fails_with(&machines.adopt(&[]), 1, leaving);
}

#[test]
fn a_person_with_a_job_in_the_server_is_not_frozen() {
    let machines = Machines::create();
    let folder = machines.old.path();
    let server = Server::start(folder);
    let record = |created_at: &str| {
        let job = json!({"id": "0123456789abcdef", "kind": "import", "state": "queued", "stage": null, "progress": 0.0,
            "created_at": created_at, "finished_at": null, "result": null, "problem": null});
        fs::write(anna(folder, "coffee.db.job.json"), job.to_string()).unwrap();
    };
    record("2099-01-01T00:00:00Z");
    let reason = "anna has a job that is queued or running in the server: try again when it has finished";
    assert_fails_with(&run_in(folder, &["person", "freeze", "anna"]), 75, reason);
    assert_fails_with(&machines.run_archive(), 75, reason);
    assert!(!anna(folder, "coffee.db.frozen.json").exists() && !machines.archive().exists());
    // A former server has left it unfinished.
    record("2020-01-01T00:00:00Z");
    run_ok(folder, &["person", "freeze", "anna"]);
    run_ok(folder, &["person", "release", "anna"]);
    record("2099-01-01T00:00:00Z");
    server.stop_cleanly();
    assert_eq!(machines.run_archive().code, Some(0));
}

#[test]
fn a_damaged_marker_freezes_one_person_until_it_is_removed() {
    let machines = Machines::create();
    let (old, new) = (machines.old.path(), machines.new.path());
    let server = Server::start(old);
    run_ok(old, &["person", "freeze", "anna"]);
    fs::write(anna(old, "coffee.db.frozen.json"), "{").unwrap();
    assert_frozen(&machines.send(&server, "POST", "/coffee/", r#"{"caffeine_mg": 80}"#));
    let list = run_ok(old, &["person", "list"]).out;
    let text = "frozen, but the file people/anna/coffee.db.frozen.json is damaged";
    assert!(list.lines().any(|line| line.starts_with("anna") && line.ends_with(text)), "{list}");
    let person = server.get("/people/anna").json();
    let problem = person["problem"].as_str().unwrap();
    assert!(problem.starts_with("changes are rejected, because the person is frozen: "), "{problem}");
    assert_eq!((&person["state"], &person["frozen_since"]), (&json!("ok"), &Value::Null));
    // Others are adopted meanwhile.
    run_ok(new, &["person", "add", "bert"]);
    let other = machines.elsewhere.path().join("bert.zip");
    run_ok(new, &["person", "archive", "bert", other.to_str().unwrap()]);
    run_ok(old, &["person", "adopt", other.to_str().unwrap()]);

    let hint = "end the freeze with `coffee-tracker person release NAME --undo`";
    assert_fails_with(&run_in(old, &["person", "release", "anna"]), 1, hint);
    let unconfirmed = run_in(old, &["person", "release", "anna", "--undo"]);
    assert_fails_with(&unconfirmed, 2, "undoing a move needs confirmation");
    run_ok(old, &["person", "release", "anna", "--undo", "--yes"]);
    assert_eq!(machines.send(&server, "POST", "/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
    server.stop_cleanly();

    // The person of the same move is not added twice.
    assert_eq!((machines.run_archive().code, machines.adopt(&[]).code), (Some(0), Some(0)));
    fs::write(anna(new, "coffee.db.frozen.json"), "{").unwrap();
    let refused = machines.adopt(&["--name", "lisa"]);
    let reason = "the key first of the archive belongs to anna here";
    assert!(refused.code == Some(1) && refused.err.contains(reason), "{refused:?}");
}

#[test]
fn a_display_name_is_not_changed_while_another_command_moves_people() {
    let machines = Machines::create();
    let folder = machines.old.path();
    let lock = fs::File::options().write(true).open(folder.join("people/.lock")).unwrap();
    lock.lock().unwrap();
    let args = ["person", "rename", "anna", "--display-name", "Lisa"];
    assert_fails_with(&run_in(folder, &args), 75, "another `person` command is at work: try again");
    drop(lock);
    assert_eq!(listed(folder, "anna")["display_name"], "Anna");
}

#[test]
fn an_archive_with_a_huge_directory_is_refused() {
    let machines = Machines::create();
    let mut zip = ZipWriter::new(fs::File::create(machines.archive()).unwrap());
    for number in 0..60_000 {
        zip.start_file(number.to_string(), SimpleFileOptions::default()).unwrap();
    }
    zip.finish().unwrap();
    assert_fails_with(&machines.adopt(&[]), 1, "the zip has too many members, or its directory has no end");
}

#[test]
fn the_owner_of_one_machine_becomes_a_person_of_another() {
    let machines = Machines::create();
    let (old, new) = (machines.old.path(), machines.new.path());
    let server = Server::start(old);
    run_ok(old, &["person", "archive", "owner", machines.archive().to_str().unwrap()]);
    assert_frozen(&server.client().post("/coffee/", r#"{"caffeine_mg": 80}"#));
    assert_eq!(machines.send(&server, "POST", "/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
    server.stop_cleanly();
    // It starts again, and the others are served.
    let server = Server::start(old);
    assert_eq!(machines.send(&server, "POST", "/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);
    assert_eq!(server.get("/coffee/today").status, 200);
    run_ok(new, &["person", "adopt", machines.archive().to_str().unwrap(), "--name", "ben"]);
    run_ok(new, &["person", "release", "ben"]);
    assert_eq!(state(&new.join("people/ben/coffee.db")), state(&old.join("coffee.db")));
    run_ok(new, &["key", "add", "phone", "--person", "ben"]);
    run_ok(new, &["person", "remove", "ben", "--yes"]);
    run_ok(old, &["person", "release", "owner", "--undo", "--yes"]);
    wait_until("the owner is released", || {
        server.client().post("/coffee/", r#"{"caffeine_mg": 80}"#).status == 201
    });
    server.stop_cleanly();
}
