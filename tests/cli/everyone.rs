//! Several people on one server: commands that cover everyone, and commands about people while the server runs.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::client::{Response, request};
use crate::fixtures::{add_entries, assert_fails_with, id_of, make_database, names, run_in, run_ok, state};
use crate::helpers::{KEY, Server, server_command, temporary_folder, wait_until};

/// Creates a folder with the owner's database (10 coffees), and `anna` (30) and `ben` (20).
fn folder_with_people() -> tempfile::TempDir {
    let folder = temporary_folder();
    make_database(folder.path(), "owner", 10);
    for (name, coffees) in [("anna", 30), ("ben", 20)] {
        run_ok(folder.path(), &["person", "add", name]);
        add_entries(&database_of(folder.path(), name), name, coffees);
    }
    folder
}

fn database_of(folder: &Path, person: &str) -> std::path::PathBuf {
    folder.join("people").join(person).join("coffee.db")
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn start(folder: &Path) -> Server {
    Server::spawn(server_command(folder).env("DATABASE_URL", "coffee.db"))
}

fn send(server: &Server, key: &str, method: &str, path: &str, body: &str) -> Response {
    let mut client = server.client();
    client.send(request(method, path, "", body).replace(KEY, key)).unwrap();
    client.read_response().unwrap()
}

/// Creates a key of a person.
fn add_key(folder: &Path, person: &str) -> String {
    run_ok(folder, &["key", "add", "test", "--person", person]).out.trim().to_owned()
}

#[test]
fn backup_verify_and_check_cover_everyone() {
    let folder = folder_with_people();
    let made = json_lines(&run_ok(folder.path(), &["backup", "--json"]).out);
    let found: Vec<_> =
        made.iter().map(|made| (made["person"].as_str().unwrap(), made["coffees"].as_u64())).collect();
    assert_eq!(found, [("owner", Some(10)), ("anna", Some(30)), ("ben", Some(20))]);
    assert_eq!(names(&folder.path().join("backups/anna")).len(), 1);
    let verified = json_lines(&run_ok(folder.path(), &["verify", "--newest", "--json"]).out);
    assert_eq!(verified.iter().map(|file| &file["coffees"]).collect::<Vec<_>>(), [10, 30, 20]);
    let newest = run_ok(folder.path(), &["backups", "newest", "--person", "anna"]).out;
    assert!(newest.starts_with("backups/anna/coffee_"), "{newest}");

    // Retention counts each person's own backups.
    run_ok(folder.path(), &["backup", "--keep", "1", "--person", "anna"]);
    assert_eq!(names(&folder.path().join("backups/anna")).len(), 1);
    assert_eq!(names(&folder.path().join("backups/ben")).len(), 1);

    fs::write(database_of(folder.path(), "anna"), "flat white ".repeat(1000)).unwrap();
    let failed = run_in(folder.path(), &["backup", "--to", "elsewhere", "--create-dir"]);
    assert_eq!(failed.code, Some(1));
    let errors: Vec<&str> = failed.err.lines().collect();
    assert_eq!(
        errors,
        [
            "coffee-tracker: error: anna: people/anna/coffee.db is not a SQLite database",
            "coffee-tracker: failed for 1 of 3 people"
        ]
    );
    assert_eq!(names(&folder.path().join("elsewhere/ben")).len(), 1);
    fs::remove_dir_all(folder.path().join("backups/ben")).unwrap();
    let failed = run_in(folder.path(), &["verify", "--newest"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.ends_with("coffee-tracker: 1 person without a backup\n"), "{}", failed.err);
    let checked = run_in(folder.path(), &["check"]).out;
    for (person, finding) in [("anna", "people/anna/coffee.db"), ("ben", "there is no folder backups/ben")] {
        let line =
            checked.lines().find(|line| line.starts_with("FAIL:") && line.contains(&format!(" {person}: ")));
        assert!(line.is_some_and(|line| line.contains(finding)), "{checked}");
    }
    let to_file = run_in(folder.path(), &["backup", "--to", "all.db"]);
    assert_fails_with(&to_file, 2, "--to names a file, but several people have databases");
    run_ok(folder.path(), &["backup", "--to", "ben.db", "--person", "ben"]);
    let unknown = run_in(folder.path(), &["backup", "--person", "eve"]);
    assert_fails_with(&unknown, 78, "1 invalid setting:");
    assert!(unknown.err.contains("--person=eve: there is no such person; see `coffee-tracker person list`"));
}

#[test]
fn a_backup_of_another_person_is_restored_only_with_force_and_ids_stay_apart() {
    let folder = folder_with_people();
    run_ok(folder.path(), &["backup"]);
    let newest = run_ok(folder.path(), &["backups", "newest", "--person", "anna"]).out;
    let newest = newest.trim();
    let (anna, ben) = (database_of(folder.path(), "anna"), database_of(folder.path(), "ben"));
    let before = state(&ben);
    let refused = run_in(folder.path(), &["restore", newest, "--yes", "--person", "ben"]);
    assert_fails_with(&refused, 1, "but of the person anna: add --force to restore it anyway");
    assert_eq!(state(&ben), before);
    // A database that has never held an entry would take over the id.
    run_ok(folder.path(), &["person", "add", "cleo"]);
    let refused = run_in(folder.path(), &["restore", newest, "--yes", "--person", "cleo"]);
    assert_fails_with(&refused, 1, "but of the person anna");
    for (name, database) in [("ben", &ben), ("cleo", &database_of(folder.path(), "cleo"))] {
        let id = id_of(database);
        run_ok(folder.path(), &["restore", newest, "--yes", "--force", "--person", name]);
        assert_eq!(state(database).unwrap().coffees, state(&anna).unwrap().coffees);
        assert_eq!(id_of(database), id);
    }
    run_ok(folder.path(), &["restore", newest, "--yes", "--person", "anna"]);
}

#[test]
fn people_are_added_renamed_restored_and_removed_while_the_server_runs() {
    let folder = folder_with_people();
    let server = start(folder.path());
    let status = |key: &str| send(&server, key, "GET", "/coffee/", "").status;
    let anna = add_key(folder.path(), "anna");
    wait_until("the server has loaded the new key", || status(&anna) == 200);

    run_ok(folder.path(), &["person", "add", "dora"]);
    let dora = add_key(folder.path(), "dora");
    wait_until("the server serves the new person", || status(&dora) == 200);
    assert_eq!(send(&server, &dora, "POST", "/coffee/", r#"{"caffeine_mg": 80}"#).status, 201);

    run_ok(folder.path(), &["backup", "--person", "anna"]);
    assert_eq!(send(&server, &anna, "DELETE", "/coffee/1", "").status, 200);
    let newest = run_ok(folder.path(), &["backups", "newest", "--person", "anna"]).out;
    run_ok(folder.path(), &["restore", newest.trim(), "--yes", "--person", "anna"]);
    assert_eq!(send(&server, &anna, "GET", "/coffee/1", "").status, 200);

    run_ok(folder.path(), &["person", "rename", "anna", "anne", "--display-name", "Anne"]);
    wait_until("the server follows the new name", || {
        let me = send(&server, &anna, "GET", "/me", "");
        me.status == 200 && me.json()["person"]["name"] == "anne"
    });
    assert_eq!(send(&server, &anna, "GET", "/coffee/1", "").status, 200);

    let removed = run_ok(folder.path(), &["person", "remove", "dora", "--yes"]);
    wait_until("the server has forgotten the person", || status(&dora) == 401);
    let folder_name = names(&folder.path().join("removed")).pop().unwrap();
    assert!(format!("{removed:?}").contains(&folder_name), "{removed:?}");
    run_ok(folder.path(), &["person", "adopt", &format!("removed/{folder_name}")]);
    wait_until("the server serves the person again", || status(&dora) == 200);
    assert_eq!(send(&server, &dora, "GET", "/coffee/", "").json().as_array().unwrap().len(), 1);
    let health = server.get("/health").json();
    assert_eq!((&health["status"], &health["people"]), (&"alive".into(), &4.into()));
    server.stop_cleanly();
    assert_eq!(state(&database_of(folder.path(), "dora")).unwrap().coffees.len(), 1);
}
