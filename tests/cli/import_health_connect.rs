//! `import` of Health Connect's database, alone and in the zip that the phone makes.

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use rustix::process::{Signal, kill_process};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::helpers::{CommandResult, Process, database, number, program, rows, temporary_folder, wait_until};
use crate::import::{import_file, summary};
use crate::import_gadgetbridge::{contents, readings_by_time};

/// Tables as Android creates them, with some of their columns.
const SCHEMA: &str = "
create table android_metadata (locale TEXT);
create table application_info_table (row_id INTEGER PRIMARY KEY AUTOINCREMENT, package_name TEXT NOT NULL UNIQUE, app_name TEXT,
    app_icon BLOB);
create table heart_rate_record_table (row_id INTEGER PRIMARY KEY AUTOINCREMENT, uuid BLOB UNIQUE, last_modified_time INTEGER,
    app_info_id INTEGER, device_info_id INTEGER, start_time INTEGER, start_zone_offset INTEGER, end_time INTEGER,
    FOREIGN KEY (app_info_id) REFERENCES application_info_table (row_id) ON DELETE CASCADE);
create table heart_rate_record_series_table (parent_key INTEGER, beats_per_minute INTEGER, epoch_millis INTEGER,
    FOREIGN KEY (parent_key) REFERENCES heart_rate_record_table (row_id) ON DELETE CASCADE);
create table resting_heart_rate_record_table (row_id INTEGER PRIMARY KEY AUTOINCREMENT, uuid BLOB UNIQUE, app_info_id INTEGER,
    time INTEGER, zone_offset INTEGER, beats_per_minute INTEGER);
create table nutrition_record_table (row_id INTEGER PRIMARY KEY AUTOINCREMENT, uuid BLOB UNIQUE, app_info_id INTEGER,
    start_time INTEGER, end_time INTEGER, caffeine REAL, meal_name TEXT);
create table steps_record_table (row_id INTEGER PRIMARY KEY, count INTEGER);
pragma user_version = 13;
";

const RECORDS: &str = "
insert into application_info_table values (1, 'com.sec.android.app.shealth', 'Samsung Health', zeroblob(200000)),
    (2, 'nodomain.freeyourgadget.gadgetbridge', null, null), (3, 'com.example.food', '  ', null);
insert into heart_rate_record_table (row_id, uuid, app_info_id) values (10, x'01', 1), (11, x'02', 2), (12, x'03', 99), (13, x'04', null);
insert into heart_rate_record_series_table values (10, 61, 1700000000000), (10, 62, 1700000001234), (11, 63, 1700000000000),
    (12, 64, 1700000002000), (13, 65, 1700000003000), (77, 66, 1700000004000), (null, 67, 1700000005000),
    (10, 0, 1700000006000), (10, null, 1700000007000), (10, 68, null), (10, 'fast', 1700000008000), ('x', 69, 1700000009000);
insert into resting_heart_rate_record_table (uuid, app_info_id, time, beats_per_minute) values (x'01', 1, 1700000000000, 55),
    (x'02', null, 1700086400000, 56);
insert into nutrition_record_table (uuid, app_info_id, start_time, end_time, caffeine) values (x'01', 3, 1700000100000, 1700000200000, 0.095),
    (x'02', 1, 1700000200000, 1700000200001, 0.0291), (x'03', 1, 1700000300000, 1700000300001, null),
    (x'04', 1, 1700000400000, 1700000400001, 0), (x'05', 1, 1700000500000, 1700000500001, 5e-324),
    (x'06', 1, 1700000600000, 1700000600001, -0.1), (x'07', 1, 1700000700000, 1700000700001, 'strong'),
    (x'08', 8, 1700000800000, null, 0.000001), (x'09', 8, null, 1700000900000, 0.1), (x'0a', 8, 1700001000000, null, 95);
";

const READINGS: [&str; 10] = [
    r#"Integer(1700000000000000)|Integer(55)|Text("resting")|Null|Text("Samsung Health")"#,
    r#"Integer(1700000000000000)|Integer(61)|Null|Null|Text("Samsung Health")"#,
    r#"Integer(1700000000000000)|Integer(63)|Null|Null|Text("nodomain.freeyourgadget.gadgetbridge")"#,
    r#"Integer(1700000001234000)|Integer(62)|Null|Null|Text("Samsung Health")"#,
    r#"Integer(1700000002000000)|Integer(64)|Null|Null|Text("Health Connect")"#,
    r#"Integer(1700000003000000)|Integer(65)|Null|Null|Text("Health Connect")"#,
    r#"Integer(1700000004000000)|Integer(66)|Null|Null|Text("Health Connect")"#,
    r#"Integer(1700000005000000)|Integer(67)|Null|Null|Text("Health Connect")"#,
    r#"Integer(1700000009000000)|Integer(69)|Null|Null|Text("Health Connect")"#,
    r#"Integer(1700086400000000)|Integer(56)|Text("resting")|Null|Text("Health Connect")"#,
];
const DOSES: [&str; 3] = [
    r#"Integer(1700000100000000)|Real(95.0)|Null|Null|Text("com.example.food")"#,
    r#"Integer(1700000200000000)|Real(29.1)|Null|Null|Text("Samsung Health")"#,
    r#"Integer(1700000800000000)|Real(0.001)|Null|Null|Text("Health Connect")"#,
];
const REJECTED: [&str; 9] = [
    "heart_rate_record_series_table, row 8: bpm: must be between 1 and 1000 (got \"0\"): 1700000006000|0",
    "heart_rate_record_series_table, row 9: beats_per_minute is missing: 1700000007000|",
    "heart_rate_record_series_table, row 10: time is missing: |68",
    "heart_rate_record_series_table, row 11: beats_per_minute: must be a number (got \"fast\"): 1700000008000|fast",
    "nutrition_record_table, row 6: caffeine_mg: must be between 0 and 1000000 (got \"-100\"): 1700000600000|-0.1",
    "nutrition_record_table, row 7: caffeine: must be a number (got \"strong\"): 1700000700000|strong",
    "nutrition_record_table, row 9: time is missing: |0.1",
    "nutrition_record_table, row 10: caffeine_mg: 95000 is above MAX_CAFFEINE_MG (1000): 1700001000000|95",
    "1 rejected row is outside the limits for new entries; use --accept-out-of-range to import them",
];

/// Creates a database with these statements.
fn create(path: &Path, statements: &str) {
    let connection = Connection::open(path).unwrap();
    // Some records belong to no app.
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection.execute_batch(statements).unwrap();
}

/// Packs a file as a member of a zip.
fn zip(path: &Path, member: &str, content: &Path) {
    let mut archive = ZipWriter::new(fs::File::create(path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    archive.start_file(member, stored).unwrap();
    std::io::copy(&mut fs::File::open(content).unwrap(), &mut archive).unwrap();
    archive.finish().unwrap();
}

fn doses_by_time(folder: &Path) -> Vec<String> {
    let query =
        "select timestamp, caffeine_mg, coffee_type, notes, source from coffee_logs order by timestamp, id";
    rows(&database(folder), query)
}

#[test]
fn heart_rates_and_caffeine_are_imported_once_from_the_zip_and_from_the_database() {
    let unpacked = temporary_folder();
    let export = unpacked.path().join("health_connect_export.db");
    create(&export, &format!("{SCHEMA}{RECORDS}"));
    for (file, args) in [
        ("Health Connect.zip", &[][..]),
        ("health_connect_export.db", &[]),
        ("Health Connect.zip", &["--format", "health-connect"]),
    ] {
        let folder = temporary_folder();
        match file {
            "Health Connect.zip" => zip(&folder.path().join(file), "health_connect_export.db", &export),
            _ => drop(fs::copy(&export, folder.path().join(file)).unwrap()),
        }
        let before = contents(folder.path());
        let dry = import_file(folder.path(), file, &["--dry-run"]);
        assert!(summary(&dry).contains("3 coffees and 10 readings would be added"), "{dry:?}");
        assert!(contents(folder.path()) == before, "a dry run has written something");
        for (coffees, readings, skipped) in [(3, 10, 0), (0, 0, 13)] {
            let result = import_file(folder.path(), file, args);
            assert_eq!(
                summary(&result),
                format!(
                    "{file}: {coffees} coffees and {readings} readings added, {skipped} duplicates skipped, 8 rows rejected"
                )
            );
            assert_eq!(result.err.lines().collect::<Vec<_>>(), REJECTED);
            assert_eq!(readings_by_time(folder.path()), READINGS);
            assert_eq!(doses_by_time(folder.path()), DOSES);
        }
        let after = contents(folder.path());
        assert!(before.iter().all(|file| after.contains(file)), "the export has changed");
        assert!(!after.iter().any(|(name, _)| name.starts_with(".coffee-")), "a temporary copy was left");
    }
}

#[test]
fn tables_and_columns_that_other_versions_lack_are_left_out_and_the_rest_is_imported() {
    for (statements, added, error) in [
        (
            "create table HEART_RATE_RECORD_SERIES_TABLE (Epoch_Millis, Beats_Per_Minute); \
             insert into HEART_RATE_RECORD_SERIES_TABLE values (1700000000000, 60)",
            1,
            "",
        ),
        ("create table heart_rate_record_series_table (epoch_millis, beats_per_minute, parent_key)", 0, ""),
        (
            "create table resting_heart_rate_record_table (time, bpm); insert into resting_heart_rate_record_table values (1, 2); \
             create table nutrition_record_table (start_time, end_time); insert into nutrition_record_table values (1, 2); \
             create table heart_rate_record_series_table (epoch_millis, beats_per_minute, parent_key); \
             insert into heart_rate_record_series_table values (1700000000000, 60, 1)",
            1,
            "coffee-tracker: file: resting_heart_rate_record_table: cannot be read: there is no column beats_per_minute\n",
        ),
        // Without an index, looking for each parent would read the whole table.
        (
            "create table heart_rate_record_table (row_id, app_info_id); insert into heart_rate_record_table values (1, 1); \
             create table application_info_table (row_id, package_name); insert into application_info_table values (1, 'x'); \
             create table heart_rate_record_series_table (epoch_millis, beats_per_minute, parent_key); \
             insert into heart_rate_record_series_table values (1700000000000, 60, 1)",
            1,
            "",
        ),
    ] {
        let folder = temporary_folder();
        create(&folder.path().join("file"), statements);
        let result = import_file(folder.path(), "file", &[]);
        assert_eq!(result.err, error, "{statements}");
        assert_eq!(result.code, Some(i32::from(!error.is_empty())), "{result:?}");
        if added == 0 {
            assert_eq!(result.out, "file: no rows found\n");
            continue;
        }
        assert_eq!(
            readings_by_time(folder.path()),
            [r#"Integer(1700000000000000)|Integer(60)|Null|Null|Text("Health Connect")"#]
        );
    }
}

#[test]
fn zips_without_a_database_or_with_a_damaged_one_are_rejected() {
    let folder = temporary_folder();
    fs::write(folder.path().join("text"), "SQLite format 3\0 but nothing else").unwrap();
    zip(&folder.path().join("damaged.zip"), "health_connect_export.db", &folder.path().join("text"));
    let result = import_file(folder.path(), "damaged.zip", &[]);
    assert_eq!(
        (result.code, result.err.as_str()),
        (
            Some(1),
            "coffee-tracker: damaged.zip: cannot be read: the database is damaged (file is not a database)\n"
        )
    );
    fs::write(folder.path().join("text"), "neither").unwrap();
    zip(&folder.path().join("other.zip"), "health_connect_export.db", &folder.path().join("text"));
    let result = import_file(folder.path(), "other.zip", &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.err.contains("the zip contains nothing that can be imported"), "{result:?}");
    let left: Vec<_> = contents(folder.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["damaged.zip", "other.zip", "text"]);
}

/// Statements that create a series of this many samples, one a second.
fn series(count: u32) -> String {
    format!(
        "{SCHEMA}
         insert into application_info_table values (1, 'com.example.watch', 'Watch', null);
         with recursive n(n) as (select 1 union all select n + 1 from n where n < {count})
         insert into heart_rate_record_table (row_id, app_info_id) select n, 1 from n where n % 60 = 0;
         with recursive n(n) as (select 1 union all select n + 1 from n where n < {count})
         insert into heart_rate_record_series_table select n / 60 * 60, 60 + n % 100, (1700000000 + n) * 1000 from n;"
    )
}

#[test]
fn repeating_a_killed_import_gives_the_result_of_an_uninterrupted_one() {
    let whole = temporary_folder();
    create(&whole.path().join("health_connect_export.db"), &series(20_000));
    zip(
        &whole.path().join("hc.zip"),
        "health_connect_export.db",
        &whole.path().join("health_connect_export.db"),
    );
    let uninterrupted = import_file(whole.path(), "hc.zip", &[]);
    assert!(summary(&uninterrupted).contains("20,000 readings added"), "{uninterrupted:?}");
    for step in ["import.batch", "import.batch:2"] {
        let folder = temporary_folder();
        fs::copy(whole.path().join("hc.zip"), folder.path().join("hc.zip")).unwrap();
        let mut command = program(folder.path());
        command.args(["import", "hc.zip", "--database-url", "coffee.db"]);
        let killed: CommandResult = Process::spawn(command.env("COFFEE_TRACKER_KILL_AT", step)).wait();
        assert_eq!(killed.signal, Some(9), "{killed:?}");
        let stored = number(&database(folder.path()), "select count(*) from heart_rate_logs");
        assert!((1..20_000).contains(&stored), "{stored}");
        let result = import_file(folder.path(), "hc.zip", &[]);
        assert_eq!(result.code, Some(0), "{result:?}");
        assert!(readings_by_time(folder.path()) == readings_by_time(whole.path()), "the results differ");
        let left: Vec<_> = contents(folder.path()).into_iter().map(|(name, _)| name).collect();
        assert!(!left.iter().any(|name| name.starts_with(".coffee-")), "{left:?}");
    }
}

#[test]
fn a_copy_that_was_killed_while_unpacking_is_removed_by_the_next_import() {
    let folder = temporary_folder();
    let export = folder.path().join("health_connect_export.db");
    create(&export, &format!("{} create table filler as select randomblob(60000000) as blob;", series(100)));
    zip(&folder.path().join("hc.zip"), "health_connect_export.db", &export);
    fs::remove_file(export).unwrap();
    let copies = || {
        let names = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".coffee-") && name.ends_with(".tmp")).count()
    };
    let mut command = program(folder.path());
    let running = Process::spawn(command.args(["import", "hc.zip", "--database-url", "coffee.db"]));
    wait_until("the export is being unpacked", || copies() == 1);
    kill_process(running.pid(), Signal::KILL).unwrap();
    assert_eq!(running.wait().signal, Some(9));
    assert_eq!(copies(), 1);
    let result = import_file(folder.path(), "hc.zip", &[]);
    assert!(summary(&result).contains("100 readings added"), "{result:?}");
    assert_eq!(copies(), 0);
}
