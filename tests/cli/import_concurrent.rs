//! `import` while a server runs and clients write, and interrupted imports.

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Signal, kill_process};

use crate::apple_export::AppleExport;
use crate::helpers::{Process, Server, database, number, program, rows, run, temporary_folder, wait_until};
use crate::import::summary;

/// Writes an export with `count` heart rates into `folder`.
fn export(folder: &Path, count: u64) {
    let file = BufWriter::new(File::create(folder.join("export.xml")).unwrap());
    let mut export = AppleExport::new(file, "en_US").unwrap();
    export.heart_rates(count).unwrap();
    export.finish().unwrap();
}

fn import(folder: &Path) -> std::process::Command {
    let mut command = program(folder);
    command.args(["import", "export.xml", "--database-url", "coffee.db"]);
    command
}

fn stored(folder: &Path) -> i64 {
    number(&database(folder), "select count(*) from heart_rate_logs where source is not null")
}

#[test]
fn clients_can_write_during_an_import_and_nothing_is_lost() {
    const COUNT: u64 = 60_000;
    let folder = temporary_folder();
    export(folder.path(), COUNT);
    let server = Server::start(folder.path());
    let has_ended = AtomicBool::new(false);
    let (first, written) = std::thread::scope(|scope| {
        let write = || {
            let mut client = server.client();
            let mut count = 0;
            while !has_ended.load(Ordering::Relaxed) {
                assert_eq!(client.post("/heartrate/", r#"{"bpm": 99}"#).status, 201);
                assert_eq!(client.get("/heartrate/current").json()["bpm"], 99);
                count += 1;
            }
            count
        };
        let writers: Vec<_> = (0..4).map(|_| scope.spawn(write)).collect();
        let first = run(&mut import(folder.path()));
        has_ended.store(true, Ordering::Relaxed);
        (first, writers.into_iter().map(|writer| writer.join().unwrap()).sum::<i64>())
    });
    assert!(summary(&first).contains("60,000 readings added, 0 duplicates skipped"), "{first:?}");
    assert!(written > 0);
    assert!(
        summary(&run(&mut import(folder.path()))).contains("0 readings added, 60,000 duplicates skipped")
    );
    let newest = server.get("/heartrate/?limit=1");
    assert_eq!(newest.status, 200);
    server.stop_cleanly();
    let database = database(folder.path());
    assert_eq!(
        number(&database, "select count(*) from heart_rate_logs where source is null and bpm = 99"),
        written
    );
    assert_eq!(number(&database, "select count(*) from heart_rate_logs"), written + COUNT.cast_signed());
    assert_eq!(rows(&database, "pragma integrity_check"), ["Text(\"ok\")"]);
}

#[test]
fn repeating_killed_imports_gives_the_result_of_an_uninterrupted_one() {
    const COUNT: u64 = 40_000;
    let (folder, uninterrupted) = (temporary_folder(), temporary_folder());
    export(folder.path(), COUNT);
    std::fs::copy(folder.path().join("export.xml"), uninterrupted.path().join("export.xml")).unwrap();
    run(&mut import(uninterrupted.path()));
    let mut killed = 0;
    for _ in 0..5 {
        let before = if folder.path().join("coffee.db").exists() { stored(folder.path()) } else { 0 };
        let mut running = Process::spawn(&mut import(folder.path()));
        wait_until("some readings are stored", || {
            running.has_ended()
                || folder.path().join("coffee.db-wal").exists() && has_grown(folder.path(), before)
        });
        if !running.has_ended() {
            kill_process(running.pid(), Signal::KILL).unwrap();
            killed += i32::from(running.wait().signal == Some(9));
        }
    }
    assert!(killed > 0, "no import was killed");
    assert_eq!(run(&mut import(folder.path())).code, Some(0));
    let all = "select id, timestamp, bpm, context, notes, source from heart_rate_logs order by id";
    assert!(rows(&database(folder.path()), all) == rows(&database(uninterrupted.path()), all));
    assert_eq!(rows(&database(folder.path()), "pragma integrity_check"), ["Text(\"ok\")"]);
    Server::start(folder.path()).stop_cleanly();
}

/// Reports whether more readings are stored than before. Not, while the database has no schema.
fn has_grown(folder: &Path, before: i64) -> bool {
    let Ok(connection) = rusqlite::Connection::open(folder.join("coffee.db")) else { return false };
    let count = "select count(*) from heart_rate_logs where source is not null";
    connection.query_row(count, [], |row| row.get(0)).is_ok_and(|now: i64| now > before)
}

#[test]
fn an_import_waits_for_a_locked_database() {
    let folder = temporary_folder();
    export(folder.path(), 100);
    run(&mut import(folder.path()));
    let holder = rusqlite::Connection::open(folder.path().join("coffee.db")).unwrap();
    holder.execute_batch("begin immediate").unwrap();
    export(folder.path(), 200);
    let running = Process::spawn(&mut import(folder.path()));
    wait_until("the import has opened the database", || {
        let path = format!("/proc/{}/fd", running.pid().as_raw_nonzero());
        std::fs::read_dir(path).is_ok_and(|open| {
            open.flatten()
                .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.ends_with("coffee.db")))
        })
    });
    holder.execute_batch("rollback").unwrap();
    let result = running.wait();
    assert!(summary(&result).contains("100 readings added, 100 duplicates skipped"), "{result:?}");
}

#[test]
#[ignore = "requires root"]
fn an_import_by_root_reads_private_files_and_creates_files_of_the_owner() {
    const NOBODY: u32 = 65_534;
    let (data, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::chown(data.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    export(own.path(), 100);
    let stack = rusqlite::Connection::open(own.path().join("stack.db")).unwrap();
    stack.execute_batch("create table coffee_logs (id, timestamp, caffeine_mg, coffee_type, notes)").unwrap();
    stack
        .execute_batch(
            "insert into coffee_logs values (1, '2025-10-02 14:05:00', 62.5, null, null),
             (2, 'soon', 62.5, null, null)",
        )
        .unwrap();
    let rejects = own.path().join("rejects.csv");
    for (file, rejected) in [("export.xml", " 0 rows rejected"), ("stack.db", " 1 row rejected")] {
        let mut command = program(own.path());
        command.args(["import", file, "--rejects", "rejects.csv", "--database-url"]);
        let result = run(command.arg(data.path().join("sub/coffee.db")));
        assert!(summary(&result).contains(rejected), "{result:?}");
        assert_eq!(
            rejects.exists(),
            file == "stack.db",
            "{file}: the rejects file was not created or not removed"
        );
    }
    let mut seen = 0;
    for entry in std::fs::read_dir(data.path().join("sub")).unwrap() {
        let metadata = entry.as_ref().unwrap().metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "{entry:?}");
        seen += 1;
    }
    assert!(seen >= 2, "the database and its lock file");
    assert_eq!(std::fs::metadata(rejects).unwrap().uid(), 0);
}
