//! Bit rot in backups: detected by the digests that a backup contains.

use std::fs;
use std::path::Path;

use fastrand::Rng;
use rusqlite::Connection;
use serde_json::Value;

use crate::fixtures::{assert_fails_with, backups, make_database, open_copy, run_in, run_ok};
use crate::helpers::{Server, number_from_env, rows, temporary_folder, test_seed};

/// Creates a folder with the backup `then.db` of 60 coffees, 600 readings and an idempotency key.
fn with_backup() -> tempfile::TempDir {
    let (folder, past) = (temporary_folder(), temporary_folder());
    make_database(past.path(), "then", 60);
    Connection::open(past.path().join("coffee.db"))
        .unwrap()
        .execute_batch(
            "insert into idempotency_keys values ('POST /coffee/', 'a-key', zeroblob(32), 1, '{\"id\":1}', 5)",
        )
        .unwrap();
    run_ok(past.path(), &["backup", "--to", folder.path().join("then.db").to_str().unwrap()]);
    folder
}

/// Returns every row that a restore would restore.
fn entries(database: &Path) -> Vec<String> {
    let connection = Connection::open(database).unwrap();
    ["coffee_logs", "heart_rate_logs", "idempotency_keys"]
        .iter()
        .flat_map(|table| rows(&connection, &format!("select * from {table} not indexed order by 1, 2")))
        .collect()
}

#[test]
fn a_backup_with_flipped_bytes_is_rejected_or_has_equal_entries() {
    const BATCH: u64 = 50;
    let flips = number_from_env("FLIPS").unwrap_or(400);
    println!("FLIPS={flips}");
    let mut random = Rng::with_seed(test_seed());
    let folder = with_backup();
    let good = fs::read(folder.path().join("then.db")).unwrap();
    let expected = entries(&folder.path().join("then.db"));
    let (mut accepted, mut by_digest_alone) = (0, 0);
    for _ in 0..flips.div_ceil(BATCH) {
        let names: Vec<String> = (0..BATCH).map(|n| format!("flipped-{n}.db")).collect();
        for (n, name) in names.iter().enumerate() {
            let mut bytes = good.clone();
            // One file of each batch differs in a text alone, which SQLite's check does not see.
            if n == 0 {
                let at = good.windows(5).position(|window| window == b"then-").unwrap();
                bytes[at + random.usize(0..5)] ^= 1;
            }
            for _ in 0..random.usize(if n == 0 { 0..1 } else { 1..17 }) {
                bytes[random.usize(0..good.len())] ^= random.u8(1..);
            }
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let args: Vec<&str> =
            ["verify", "--json"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let verified = run_in(folder.path(), &args);
        assert_eq!(verified.out.lines().count(), names.len(), "{verified:?}");
        for (line, name) in verified.out.lines().zip(&names) {
            let verdict: Value = serde_json::from_str(line).unwrap();
            if verdict["restorable"] == true {
                accepted += 1;
                assert!(entries(&folder.path().join(name)) == expected, "{name} was accepted");
            }
            let reasons = verdict["reasons"].as_array().unwrap();
            let is_digest =
                |reason: &Value| reason.as_str().unwrap().contains(" differ from those that were backed up");
            by_digest_alone += u32::from(!reasons.is_empty() && reasons.iter().all(is_digest));
        }
    }
    println!(
        "{accepted} accepted with equal entries, {by_digest_alone} rejected only because of their digests"
    );
    assert!(by_digest_alone > 0, "no change was detected only by its digest");
}

/// Flips a bit of a coffee's notes, as a failing memory card may.
fn flip_bit(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(7).position(|window| window == b"then-17").unwrap();
    bytes[at + 2] ^= 1;
    fs::write(file, bytes).unwrap();
}

#[test]
fn verify_restore_and_check_name_the_table_whose_rows_changed() {
    let folder = with_backup();
    flip_bit(&folder.path().join("then.db"));
    let message = "it is damaged: the rows of coffee_logs differ from those that were backed up";
    let verified = run_in(folder.path(), &["verify", "then.db"]);
    assert_fails_with(&verified, 1, "1 file cannot be restored");
    assert_eq!(verified.out, format!("then.db: cannot be restored\n  {message}\n"));
    let refused = run_in(folder.path(), &["restore", "then.db", "--yes"]);
    assert_fails_with(&refused, 1, &format!("then.db cannot be restored: {message}"));

    make_database(folder.path(), "then", 60);
    run_ok(folder.path(), &["backup"]);
    let backup = backups(folder.path()).remove(0);
    flip_bit(&backup);
    let checked = run_in(folder.path(), &["check"]).out;
    let name = backup.file_name().unwrap().to_str().unwrap();
    let line = format!("backups/{name} cannot be restored: {message}: make another backup");
    assert!(checked.lines().any(|l| l.starts_with("FAIL: ") && l.ends_with(&line)), "{checked}");
}

#[test]
fn a_backup_without_digests_is_accepted_and_reported() {
    let folder = with_backup();
    let file = folder.path().join("then.db");
    Connection::open(&file).unwrap().execute_batch("drop table backup_digests; vacuum").unwrap();
    let text = run_ok(folder.path(), &["verify", "then.db"]).out;
    let last = text.lines().last().unwrap();
    assert_eq!(last, "  no digests of its rows: it is a backup of an older version, or a database in use");
    let verdict: Value =
        serde_json::from_str(&run_in(folder.path(), &["verify", "--json", "then.db"]).out).unwrap();
    assert_eq!(verdict["has_digests"], false);
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    fs::create_dir_all(folder.path().join("backups")).unwrap();
    fs::copy(&file, folder.path().join("backups/coffee_20250101_020000.db")).unwrap();
    let checked = run_in(folder.path(), &["check"]).out;
    assert!(
        checked.contains("check the timer of the backups") || checked.contains("without digests"),
        "{checked}"
    );
}

#[test]
fn restored_and_served_databases_contain_no_digests() {
    let has_digests = |folder: &Path| {
        let (_folder, copy) = open_copy(&folder.join("coffee.db"));
        copy.table_exists(None, "backup_digests").unwrap()
    };
    let folder = with_backup();
    run_ok(folder.path(), &["restore", "then.db", "--yes"]);
    assert!(!has_digests(folder.path()));
    fs::copy(folder.path().join("then.db"), folder.path().join("coffee.db")).unwrap();
    assert!(has_digests(folder.path()));
    let server = Server::start(folder.path());
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 1}"#).status, 201);
    server.stop_cleanly();
    assert!(!has_digests(folder.path()));
    run_ok(folder.path(), &["verify", "coffee.db"]);
}
