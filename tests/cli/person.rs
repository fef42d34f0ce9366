//! `person`: people are added, listed, renamed, removed, archived and adopted as a user does it.

use std::fs;
use std::path::Path;

use coffee_tracker::domain::time::{DAY, Timestamp};
use coffee_tracker::people::removed::RemovedFolder;
use serde_json::{Value, json};

use crate::fixtures::{
    add_entries, assert_fails_with, command_in, files, id_of, make_database, names, run_in, run_ok, state,
};
use crate::helpers::{
    IGNORE_FILE_SIZE_SIGNAL, Process, Server, from_bash, mode, run, temporary_folder, wait_until,
};

/// Creates a folder with the owner's database, and `anna` with 30 coffees and 300 readings.
fn folder_with_anna() -> tempfile::TempDir {
    let folder = temporary_folder();
    make_database(folder.path(), "owner", 10);
    run_ok(folder.path(), &["person", "add", "anna", "--display-name", "Anna"]);
    add_entries(&folder.path().join("people/anna/coffee.db"), "anna", 30);
    folder
}

fn people(folder: &Path) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&run_ok(folder, &["person", "list", "--json"]).out).unwrap();
    listed["people"].as_array().unwrap().clone()
}

fn names_of_people(folder: &Path) -> Vec<String> {
    people(folder).iter().map(|person| person["name"].as_str().unwrap().to_owned()).collect()
}

/// Asserts that no file of an unfinished command is left.
#[track_caller]
fn assert_nothing_unfinished(folder: &Path) {
    let hidden: Vec<String> =
        names(&folder.join("people")).into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(hidden, [".lock"]);
}

#[test]
fn a_person_gets_a_private_folder_a_database_and_a_key_that_is_printed_once() {
    let folder = temporary_folder();
    let early = run_in(folder.path(), &["person", "add", "anna"]);
    assert_fails_with(&early, 78, "there is no database at coffee.db: start the server once");
    assert_eq!(names(folder.path()), [""; 0]);
    make_database(folder.path(), "owner", 10);
    let added = run_ok(folder.path(), &["person", "add", "anna", "--display-name", " Anna\tM. "]);
    let key = added.out.strip_suffix('\n').unwrap();
    assert!(key.starts_with("ct_") && key.len() == 67, "{added:?}");
    for line in [
        "added anna with the key first (read,write,manage); save it now, it is not shown again",
        &format!("dashboard: http://HOST:PORT/#key={key}"),
        r#"from a shell: curl -H "Authorization: Bearer $KEY" http://HOST:PORT/me"#,
    ] {
        assert!(added.err.lines().any(|found| found == line), "{line:?} is not in {}", added.err);
    }
    let at = |name: &str| folder.path().join("people/anna").join(name);
    assert_eq!((mode(&folder.path().join("people")), mode(&at(""))), (0o700, 0o700));
    for file in ["coffee.db", "coffee.db.keys", "coffee.db.lock", "coffee.db.person.json"] {
        assert_eq!(mode(&at(file)), 0o600, "{file}");
    }
    let stored = fs::read_to_string(at("coffee.db.keys")).unwrap();
    assert!(!stored.contains(key) && stored.matches("sha256").count() == 1);
    assert_eq!(state(&at("coffee.db")).unwrap().coffees, [""; 0]);
    assert_ne!(id_of(&at("coffee.db")), id_of(&folder.path().join("coffee.db")));
    assert_nothing_unfinished(folder.path());

    let again = run_in(folder.path(), &["person", "add", "anna"]);
    assert_fails_with(&again, 1, "there is a person named anna already: choose another name");
    assert_eq!(again.out, "");
    assert_eq!(fs::read_to_string(at("coffee.db.keys")).unwrap(), stored);
    let owner = run_in(folder.path(), &["person", "add", "owner"]);
    assert_fails_with(&owner, 2, "owner is the person whose database DATABASE_URL names");
    for args in [&["add", "Anna"][..], &["add", ""], &["add", "bert", "--display-name", ""], &["add"], &[]] {
        assert_eq!(run_in(folder.path(), &[&["person"], args].concat()).code, Some(2), "{args:?}");
    }
    assert_eq!(names_of_people(folder.path()), ["owner", "anna"]);
}

#[test]
fn the_list_shows_the_entries_and_keys_of_everyone() {
    let folder = folder_with_anna();
    run_ok(folder.path(), &["key", "add", "phone", "--person", "anna"]);
    run_ok(folder.path(), &["person", "rename", "owner", "--display-name", "Ben"]);
    let listed = people(folder.path());
    let expected = |name: &str, shown: &str, database: &str, coffees: u32, keys: u32| {
        json!({
            "name": name, "display_name": shown, "database": database, "size_bytes": null,
            "coffees": coffees, "readings": coffees * 10, "newest_entry_at": null, "keys": keys,
            "frozen_since": null, "move": null,
        })
    };
    let without_sizes = listed.into_iter().map(|mut person| {
        assert!(person["size_bytes"].take().as_u64() > Some(0));
        assert!(person["newest_entry_at"].take().as_str().unwrap().starts_with("2025-10-09T"));
        person
    });
    assert_eq!(
        without_sizes.collect::<Vec<_>>(),
        [
            expected("owner", "Ben", "coffee.db", 10, 0),
            expected("anna", "Anna", "people/anna/coffee.db", 30, 2)
        ]
    );
    fs::write(folder.path().join("people/anna/coffee.db"), "flat white ".repeat(1000)).unwrap();
    let text = run_ok(folder.path(), &["person", "list"]).out;
    let anna = text.lines().find(|line| line.starts_with("anna")).unwrap();
    assert!(anna.contains("unreadable"), "{text}");
}

#[test]
fn keys_of_a_person_cannot_have_the_scope_metrics() {
    let folder = folder_with_anna();
    let key = |name: &str, scope: &str, person: &str| {
        run_in(folder.path(), &["key", "add", name, "--scope", scope, "--person", person])
    };
    let message = "/metrics is about everyone: only a key of the owner can have the scope metrics";
    assert_fails_with(&key("one", "read,metrics", "anna"), 2, message);
    assert_eq!(key("two", "read,manage", "anna").code, Some(0));
    assert_eq!(key("three", "metrics", "owner").code, Some(0));
    assert_eq!(key("four", "admin", "anna").code, Some(2));
}

#[test]
fn a_rename_keeps_data_keys_and_backups() {
    let folder = folder_with_anna();
    run_ok(folder.path(), &["backup", "--person", "anna"]);
    let (before, saved) =
        (files(&folder.path().join("people/anna")), files(&folder.path().join("backups/anna")));
    let renamed = run_ok(folder.path(), &["person", "rename", "anna", "lisa"]);
    assert_eq!(renamed.out, "renamed anna to lisa\n");
    let mut after = files(&folder.path().join("people/lisa"));
    after.retain(|name, _| !name.ends_with(".maintenance.lock") && !name.ends_with(".closing.lock"));
    assert!(after.iter().all(|(name, bytes)| before[name] == *bytes) && after.len() >= 5);
    assert_eq!(files(&folder.path().join("backups/lisa")), saved);
    assert_eq!(names(&folder.path().join("backups")), ["lisa"]);
    assert_eq!(names_of_people(folder.path()), ["owner", "lisa"]);
    assert_nothing_unfinished(folder.path());

    let both = run_ok(folder.path(), &["person", "rename", "lisa", "anna", "--display-name", "Anna-Lisa"]);
    assert_eq!(both.out, "renamed lisa to anna\nanna is shown as Anna-Lisa\n");
    assert_eq!(people(folder.path())[1]["display_name"], "Anna-Lisa");
    let removed = run_ok(folder.path(), &["person", "rename", "anna", "--display-name", ""]);
    assert_eq!(removed.out, "anna has no display name\n");
    assert_eq!(people(folder.path())[1]["display_name"], Value::Null);

    run_ok(folder.path(), &["person", "add", "bert"]);
    fs::create_dir(folder.path().join("backups/carl")).unwrap();
    for (args, code, reason) in [
        (&["anna", "bert"][..], 1, "there is a person named bert already"),
        (&["anna", "carl"], 1, "backups/carl exists already, with the backups of a former person"),
        (&["dora", "emil"], 1, "there is no person named dora; see `coffee-tracker person list`"),
        (&["dora", "--display-name", "Dora"], 1, "there is no person named dora"),
        (&["owner", "emil"], 2, "owner is the person whose database DATABASE_URL names"),
        (&["anna", "owner"], 2, "owner is the person whose database DATABASE_URL names"),
    ] {
        assert_fails_with(&run_in(folder.path(), &[&["person", "rename"], args].concat()), code, reason);
    }
    assert_eq!(run_in(folder.path(), &["person", "rename", "anna"]).code, Some(2));
    assert_eq!(names_of_people(folder.path()), ["owner", "anna", "bert"]);
}

#[test]
fn a_removed_person_has_a_last_backup_and_can_be_brought_back() {
    let folder = folder_with_anna();
    let anna = folder.path().join("people/anna");
    let before = (state(&anna.join("coffee.db")).unwrap(), fs::read(anna.join("coffee.db.keys")).unwrap());
    let unconfirmed = run_in(folder.path(), &["person", "remove", "anna"]);
    assert_fails_with(&unconfirmed, 2, "a removal needs confirmation, and standard input is not a terminal");
    assert_eq!(names(&folder.path().join("people")), [".lock", "anna"]);

    let removed = run_ok(folder.path(), &["person", "remove", "anna", "--yes"]);
    let lines: Vec<&str> = removed.out.lines().collect();
    let backup = lines[0].strip_prefix("made the last backup ").unwrap().split(" (").next().unwrap();
    assert!(lines[0].ends_with(" kB)") && lines[0].contains("(30 coffees, 300 readings, "), "{}", lines[0]);
    assert_eq!(state(&folder.path().join(backup)).as_ref(), Some(&before.0));
    assert!(backup.starts_with("backups/anna/coffee_"), "{backup}");
    let undo = lines[1].strip_prefix("removed anna; to undo this: coffee-tracker ").unwrap();
    assert!(lines[2].starts_with("a running server deletes this folder for good on 20"), "{}", lines[2]);
    assert_eq!(names_of_people(folder.path()), ["owner"]);
    assert_eq!(mode(&folder.path().join("removed")), 0o700);
    let missing = run_in(folder.path(), &["key", "list", "--person", "anna"]);
    assert_fails_with(&missing, 78, "invalid setting");

    let words: Vec<&str> = undo.split(' ').collect();
    let adopted = run_ok(folder.path(), &words);
    assert_eq!(adopted.out, format!("adopted {} as anna, whose keys work again\n", words[2]));
    let after = (state(&anna.join("coffee.db")).unwrap(), fs::read(anna.join("coffee.db.keys")).unwrap());
    assert!(before == after);
    assert_eq!(names(&folder.path().join("removed")), [""; 0]);

    // Under another name, because the former one is taken.
    let removed = run_ok(folder.path(), &["person", "remove", "anna", "-y"]);
    let place = removed.out.lines().nth(1).unwrap().rsplit(' ').next().unwrap();
    run_ok(folder.path(), &["person", "add", "anna"]);
    let taken = run_in(folder.path(), &["person", "adopt", place]);
    assert_fails_with(&taken, 1, "there is a person named anna already: choose another name");
    run_ok(folder.path(), &["person", "adopt", place, "--name", "lisa"]);
    assert_eq!(names_of_people(folder.path()), ["owner", "anna", "lisa"]);
    assert_nothing_unfinished(folder.path());

    let outside = run_in(folder.path(), &["person", "adopt", "people/anna", "--name", "max"]);
    assert_fails_with(
        &outside,
        1,
        "people/anna is not in the folder removed, to which removed people are moved",
    );
    let owner = run_in(folder.path(), &["person", "remove", "owner", "--yes"]);
    assert_fails_with(&owner, 2, "owner is the person whose database DATABASE_URL names");
    let unknown = run_in(folder.path(), &["person", "remove", "max", "--yes"]);
    assert_fails_with(&unknown, 1, "there is no person named max");
}

#[test]
fn a_removal_prints_when_the_folder_is_deleted_for_good() {
    let folder = folder_with_anna();
    run_ok(folder.path(), &["person", "add", "bert"]);
    run_ok(folder.path(), &["person", "add", "carl"]);
    let removed = run_ok(folder.path(), &["person", "remove", "anna", "--yes", "--json"]);
    let removed: Value = serde_json::from_str(&removed.out).unwrap();
    let found = RemovedFolder::from_path(Path::new(removed["folder"].as_str().unwrap())).unwrap();
    let at: Timestamp = serde_json::from_value(removed["deletion_at"].clone()).unwrap();
    assert!((found.removed_at.plus(30 * DAY)..found.removed_at.plus(31 * DAY)).contains(&at), "{at}");
    let mut kept = command_in(folder.path(), &["person", "remove", "bert", "--yes"]);
    let kept = run(kept.env("REMOVED_PERSON_DAYS", "0"));
    assert_eq!((kept.code, kept.out.lines().count()), (Some(0), 2), "{kept:?}");
    assert!(kept.out.lines().nth(1).is_some_and(|line| line.starts_with("removed bert; ")), "{kept:?}");
    let mut kept = command_in(folder.path(), &["person", "remove", "carl", "--yes", "--json"]);
    let kept: Value = serde_json::from_str(&run(kept.env("REMOVED_PERSON_DAYS", "0")).out).unwrap();
    assert_eq!(kept["deletion_at"], Value::Null);
    // There is no backup of dora.
    run_ok(folder.path(), &["person", "add", "dora"]);
    let kept = run_ok(folder.path(), &["person", "remove", "dora", "--yes", "--without-backup", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&kept.out).unwrap()["deletion_at"], Value::Null);
    let args = ["person", "remove", "carl", "--yes", "--removed-person-days", "soon"];
    let refused = run_in(folder.path(), &args);
    assert_fails_with(&refused, 78, "1 invalid setting");
    assert!(refused.err.contains("REMOVED_PERSON_DAYS=soon: must be a number"), "{refused:?}");
}

#[test]
fn a_person_with_a_damaged_database_is_removed_only_without_a_backup() {
    let folder = folder_with_anna();
    let database = folder.path().join("people/anna/coffee.db");
    fs::write(&database, "flat white ".repeat(1000)).unwrap();
    let refused = run_in(folder.path(), &["person", "remove", "anna", "--yes"]);
    assert_fails_with(&refused, 1, "nobody was removed, because the last backup failed");
    assert!(refused.err.contains("add --without-backup to remove anna without one"), "{refused:?}");
    assert!(database.exists());
    run_ok(folder.path(), &["person", "remove", "anna", "--yes", "--without-backup"]);
    assert_eq!(names_of_people(folder.path()), ["owner"]);
    assert_eq!(names(&folder.path().join("removed")).len(), 1);
}

#[test]
fn the_owner_is_archived_and_becomes_a_person_elsewhere_without_the_scope_metrics() {
    let (folder, elsewhere) = (temporary_folder(), temporary_folder());
    make_database(folder.path(), "owner", 10);
    Server::start(elsewhere.path()).stop_cleanly();
    for (name, scopes) in [("phone", "read,metrics"), ("prometheus", "metrics")] {
        run_ok(folder.path(), &["key", "add", name, "--scope", scopes]);
    }
    let file = elsewhere.path().join("owner.zip");
    run_ok(folder.path(), &["person", "archive", "owner", file.to_str().unwrap()]);
    let nameless = run_in(elsewhere.path(), &["person", "adopt", "owner.zip"]);
    assert_fails_with(&nameless, 2, "the archive is of the owner");
    run_ok(elsewhere.path(), &["person", "adopt", "owner.zip", "--name", "ben"]);
    let keys = run_ok(elsewhere.path(), &["key", "list", "--json", "--person", "ben"]).out;
    let keys: Value = serde_json::from_str(&keys).unwrap();
    assert_eq!((keys.as_array().unwrap().len(), &keys[0]["scopes"]), (1, &json!(["read"])));
    assert_eq!(
        state(&elsewhere.path().join("people/ben/coffee.db")),
        state(&folder.path().join("coffee.db"))
    );
}

#[test]
fn a_damaged_archive_is_refused_and_leaves_nothing() {
    let (folder, elsewhere) = (folder_with_anna(), temporary_folder());
    make_database(elsewhere.path(), "other", 5);
    let file = elsewhere.path().join("anna.zip");
    run_ok(folder.path(), &["person", "archive", "anna", file.to_str().unwrap()]);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    for bytes in [&flipped[..], &whole[..whole.len() / 2], b"flat white", b""] {
        fs::write(&file, bytes).unwrap();
        let refused = run_in(elsewhere.path(), &["person", "adopt", "anna.zip"]);
        assert_fails_with(&refused, 1, "anna.zip cannot be adopted: ");
        assert_eq!(names_of_people(elsewhere.path()), ["owner"]);
    }
    let missing = run_in(elsewhere.path(), &["person", "adopt", "missing.zip"]);
    assert_fails_with(&missing, 1, "missing.zip: No such file or directory");

    // A disk that runs full while the archive is unpacked.
    fs::write(&file, &whole).unwrap();
    let mut command = command_in(elsewhere.path(), &["person", "adopt", "anna.zip"]);
    let mut limited = from_bash(&format!("{IGNORE_FILE_SIZE_SIGNAL}; ulimit -f 40"), &command);
    let full = run(&mut limited);
    assert!(full.code.is_some_and(|code| code != 0), "{full:?}");
    assert_eq!(names_of_people(elsewhere.path()), ["owner"]);
    assert_nothing_unfinished(elsewhere.path());
    assert_eq!(run(&mut command).code, Some(0));
    assert_eq!(names_of_people(elsewhere.path()), ["owner", "anna"]);
}

#[test]
fn a_command_waits_until_the_server_has_closed_the_database_and_others_are_busy() {
    let folder = folder_with_anna();
    let at = |name: &str| folder.path().join("people/anna").join(name);
    let lock = |name: &str| {
        let file = fs::File::options().create(true).append(true).open(at(name)).unwrap();
        file.lock().unwrap();
        file
    };
    let (server, before) = (lock("coffee.db.lock"), files(&at("")));
    let rename = Process::spawn(&mut command_in(folder.path(), &["person", "rename", "anna", "lisa"]));
    let is_closing = || coffee_tracker::people::folder::is_closing(&at("coffee.db"));
    wait_until("the command requests that the database is closed", is_closing);
    assert_eq!(fs::read(at("coffee.db")).unwrap(), before["coffee.db"]);
    // Another command does not wait for as long.
    let other = run_in(folder.path(), &["person", "add", "bert"]);
    assert_fails_with(&other, 75, "another `person` command is at work: try again");
    drop(server);
    let renamed = rename.wait();
    assert_eq!(renamed.code, Some(0), "{renamed:?}");
    assert_eq!(names_of_people(folder.path()), ["owner", "lisa"]);
}
