//! `import` of Gadgetbridge's database, and of SQLite databases that are damaged, hostile or of unknown programs.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::helpers::{CommandResult, database, program, rows, run, temporary_folder};
use crate::import::{import_file, summary};

/// Tables as Gadgetbridge's library creates them.
const SCHEMA: &str = "
create table android_metadata (locale TEXT);
create table DEVICE (_id INTEGER PRIMARY KEY, NAME TEXT NOT NULL, MANUFACTURER TEXT NOT NULL, IDENTIFIER TEXT NOT NULL UNIQUE,
    TYPE INTEGER NOT NULL, MODEL TEXT, ALIAS TEXT);
create table MI_BAND_ACTIVITY_SAMPLE (TIMESTAMP INTEGER NOT NULL, DEVICE_ID INTEGER NOT NULL, USER_ID INTEGER NOT NULL,
    RAW_INTENSITY INTEGER NOT NULL, STEPS INTEGER NOT NULL, RAW_KIND INTEGER NOT NULL, HEART_RATE INTEGER NOT NULL,
    PRIMARY KEY (TIMESTAMP, DEVICE_ID) ON CONFLICT REPLACE) WITHOUT ROWID;
create table GENERIC_HEART_RATE_SAMPLE (TIMESTAMP INTEGER NOT NULL, DEVICE_ID INTEGER NOT NULL, USER_ID INTEGER NOT NULL,
    HEART_RATE INTEGER NOT NULL, PRIMARY KEY (TIMESTAMP, DEVICE_ID) ON CONFLICT REPLACE) WITHOUT ROWID;
create table PEBBLE_HEALTH_ACTIVITY_SAMPLE (TIMESTAMP INTEGER, DEVICE_ID INTEGER, STEPS INTEGER);
pragma user_version = 98;
";

/// Samples of three devices: two tables, seconds and milliseconds, and values that stand for no heart rate.
const SAMPLES: &str = "
insert into DEVICE values (1, 'Amazfit Bip', 'Huami', 'C8:0F:10:00:00:01', 10, null, 'mine');
insert into DEVICE values (2, '  ', 'Xiaomi', 'C8:0F:10:00:00:02', 11, null, null);
insert into MI_BAND_ACTIVITY_SAMPLE values (1700000060, 1, 1, 20, 5, 1, 61), (1700000000, 1, 1, 20, 5, 1, 60),
    (1700000120, 1, 1, 20, 5, 1, 255), (1700000180, 1, 1, 20, 5, 1, 0), (1700000240, 1, 1, 20, 5, 1, -1),
    (1700000300, 1, 1, 20, 5, 1, 29), (1700000360, 1, 1, 20, 5, 1, 30), (1700000420, 1, 1, 20, 5, 1, 250),
    (1700000480, 1, 1, 20, 5, 1, 251), (1700000000, 2, 1, 20, 5, 1, 90), (1700000000, 3, 1, 20, 5, 1, 91);
insert into GENERIC_HEART_RATE_SAMPLE values (1700000001500, 2, 1, 72), (1700000002000, 9, 1, 73);
";

const SAMPLE_READINGS: [&str; 8] = [
    r#"Integer(1700000000000000)|Integer(60)|Null|Null|Text("Amazfit Bip")"#,
    r#"Integer(1700000000000000)|Integer(90)|Null|Null|Text("Xiaomi")"#,
    r#"Integer(1700000000000000)|Integer(91)|Null|Null|Text("Gadgetbridge")"#,
    r#"Integer(1700000001500000)|Integer(72)|Null|Null|Text("Xiaomi")"#,
    r#"Integer(1700000002000000)|Integer(73)|Null|Null|Text("Gadgetbridge")"#,
    r#"Integer(1700000060000000)|Integer(61)|Null|Null|Text("Amazfit Bip")"#,
    r#"Integer(1700000360000000)|Integer(30)|Null|Null|Text("Amazfit Bip")"#,
    r#"Integer(1700000420000000)|Integer(250)|Null|Null|Text("Amazfit Bip")"#,
];

/// Creates a database with Gadgetbridge's tables, and executes the statements in it.
fn create(path: &Path, statements: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    connection.execute_batch(statements).unwrap();
    connection
}

/// Returns all readings without their ids, by time and heart rate.
pub fn readings_by_time(folder: &Path) -> Vec<String> {
    let query =
        "select timestamp, bpm, context, notes, source from heart_rate_logs order by timestamp, bpm, id";
    rows(&database(folder), query)
}

/// Returns the names and contents of the files in a folder.
pub fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Asserts that the program printed one line to standard error, and returns it.
#[track_caller]
fn error_line(result: &CommandResult) -> &str {
    assert_eq!(result.code, Some(1), "{result:?}");
    assert_eq!(result.err.lines().count(), 1, "{result:?}");
    result.err.trim_end()
}

#[test]
fn resting_heart_rates_have_their_context_and_daily_maxima_are_left_out() {
    let folder = temporary_folder();
    let columns = "(TIMESTAMP INTEGER NOT NULL, DEVICE_ID INTEGER NOT NULL, USER_ID INTEGER NOT NULL,
        UTC_OFFSET INTEGER NOT NULL, HEART_RATE INTEGER NOT NULL, PRIMARY KEY (TIMESTAMP, DEVICE_ID)) WITHOUT ROWID";
    let tables = format!(
        "create table HUAMI_HEART_RATE_RESTING_SAMPLE {columns}; create table HUAMI_HEART_RATE_MAX_SAMPLE {columns};
         insert into HUAMI_HEART_RATE_RESTING_SAMPLE values (1700000000000, 9, 1, 0, 55);
         insert into HUAMI_HEART_RATE_MAX_SAMPLE values (1700000000000, 9, 1, 0, 170);"
    );
    drop(create(&folder.path().join("Gadgetbridge"), &tables));
    let result = import_file(folder.path(), "Gadgetbridge", &[]);
    assert!(summary(&result).starts_with("Gadgetbridge: 0 coffees and 1 reading added"), "{result:?}");
    let resting = r#"Integer(1700000000000000)|Integer(55)|Text("resting")|Null|Text("Gadgetbridge")"#;
    assert_eq!(readings_by_time(folder.path()), [resting]);
}

#[test]
fn samples_of_every_device_are_imported_once() {
    let folder = temporary_folder();
    drop(create(&folder.path().join("Gadgetbridge"), SAMPLES));
    let counts = "5 records of an unsupported type ignored";
    let dry = import_file(folder.path(), "Gadgetbridge", &["--dry-run"]);
    assert_eq!(
        summary(&dry),
        format!(
            "Gadgetbridge: 0 coffees and 8 readings would be added, 0 duplicates skipped, 0 rows rejected, {counts}"
        )
    );
    assert!(!folder.path().join("coffee.db").exists());
    for (args, added, skipped) in [(&[][..], 8, 0), (&[], 0, 8), (&["--format", "gadgetbridge"], 0, 8)] {
        let result = import_file(folder.path(), "Gadgetbridge", args);
        assert_eq!(
            summary(&result),
            format!(
                "Gadgetbridge: 0 coffees and {added} readings added, {skipped} duplicates skipped, 0 rows rejected, \
                 {counts}"
            )
        );
        assert_eq!(result.err, "");
        assert_eq!(readings_by_time(folder.path()), SAMPLE_READINGS);
    }
}

#[test]
fn the_zip_of_a_gadgetbridge_backup_is_imported_and_its_temporary_copy_removed() {
    let folder = temporary_folder();
    let unpacked = temporary_folder();
    drop(create(&unpacked.path().join("Gadgetbridge"), SAMPLES));
    let mut archive = ZipWriter::new(fs::File::create(folder.path().join("backup.zip")).unwrap());
    for (name, content) in [
        ("gadgetbridge.json", b"{}".to_vec()),
        ("preferences/other.db", b"not a database".to_vec()),
        ("database/Gadgetbridge", fs::read(unpacked.path().join("Gadgetbridge")).unwrap()),
    ] {
        archive.start_file(name, SimpleFileOptions::default()).unwrap();
        archive.write_all(&content).unwrap();
    }
    archive.finish().unwrap();
    let before = contents(folder.path());
    let dry = import_file(folder.path(), "backup.zip", &["--dry-run"]);
    assert!(summary(&dry).contains("8 readings would be added"), "{dry:?}");
    assert!(contents(folder.path()) == before);
    let result = import_file(folder.path(), "backup.zip", &[]);
    assert!(summary(&result).contains("8 readings added"), "{result:?}");
    assert_eq!(readings_by_time(folder.path()), SAMPLE_READINGS);
    let names: Vec<_> = contents(folder.path()).into_iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name.starts_with(".coffee-")), "{names:?}");
}

#[test]
fn tables_of_any_name_and_columns_in_any_case_are_read_and_bad_values_are_rejected_alone() {
    let folder = temporary_folder();
    drop(create(
        &folder.path().join("Gadgetbridge.db"),
        "create table \"odd \"\"name\"\"; drop table DEVICE --\" (Heart_Rate, \"timestamp\", filler default (zeroblob(100000)));
         insert into \"odd \"\"name\"\"; drop table DEVICE --\" (\"timestamp\", Heart_Rate) values
             (1700000000, '72'), (1700000001.5, 73.4), ('1700000002', 74), ('soon', 75), (null, 76), (1700000003, 'lots'),
             (1700000004, x'00'), (1700000005, null), (9e300, 77), (1e999, 78), (9223372036854775807, 79),
             (-9223372036854775808, 80), (1700000006, zeroblob(90000000)), (zeroblob(70000), 81),
             (printf('%.*c', 70000, '1'), 82), (99999999999, 83), (100000000001, 84);
         create table generated (TIMESTAMP integer, HEART_RATE integer as (TIMESTAMP * 2));
         insert into generated values (30);
         create table wide (TIMESTAMP, HEART_RATE, DEVICE_ID);
         insert into wide values (1700000007, 85, 'one');",
    ));
    let result = import_file(folder.path(), "Gadgetbridge.db", &[]);
    assert_eq!(
        summary(&result),
        "Gadgetbridge.db: 0 coffees and 6 readings added, 0 duplicates skipped, 11 rows rejected, \
         1 record of an unsupported type ignored"
    );
    assert_eq!(
        readings_by_time(folder.path()),
        [
            r#"Integer(100000000001000)|Integer(84)|Null|Null|Text("Gadgetbridge")"#,
            r#"Integer(1700000000000000)|Integer(72)|Null|Null|Text("Gadgetbridge")"#,
            r#"Integer(1700000001500000)|Integer(73)|Null|Null|Text("Gadgetbridge")"#,
            r#"Integer(1700000002000000)|Integer(74)|Null|Null|Text("Gadgetbridge")"#,
            r#"Integer(1700000007000000)|Integer(85)|Null|Null|Text("Gadgetbridge")"#,
            r#"Integer(99999999999000000)|Integer(83)|Null|Null|Text("Gadgetbridge")"#,
        ]
    );
    let table = "odd \"name\"; drop table DEVICE --";
    let years = "TIMESTAMP: must lie in the years 1 to 9999";
    assert_eq!(
        result.err.lines().map(|line| line.split(" (got").next().unwrap().to_owned()).collect::<Vec<_>>(),
        [
            format!("{table}, row 4: TIMESTAMP: must be a number"),
            format!("{table}, row 5: TIMESTAMP is missing: |76|"),
            format!("{table}, row 6: HEART_RATE: must be a number"),
            format!("{table}, row 7: HEART_RATE: must be a number: 1700000004|(blob)|"),
            format!("{table}, row 9: {years}"),
            format!("{table}, row 10: {years}"),
            format!("{table}, row 11: {years}"),
            format!("{table}, row 12: {years}"),
            format!("{table}, row 13: HEART_RATE: must be a number: 1700000006|(blob)|"),
            format!("{table}, row 14: TIMESTAMP: must be a number: (blob)|81|"),
            format!("{table}, row 15: TIMESTAMP: must be a number: (blob)|82|"),
        ]
    );
}

#[test]
fn a_database_in_use_and_one_with_a_log_are_read_with_the_log_and_not_changed() {
    for (journal_mode, is_in_use) in [("delete", false), ("wal", false), ("wal", true)] {
        let folder = temporary_folder();
        let phone = folder.path().join("phone");
        fs::create_dir(&phone).unwrap();
        let file = phone.join("Gadgetbridge");
        let connection = Connection::open(&file).unwrap();
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        connection.pragma_update(None, "journal_mode", journal_mode).unwrap();
        drop(create(&file, ""));
        connection.execute_batch(SAMPLES).unwrap();
        let connection = is_in_use.then_some(connection);
        if journal_mode == "wal" && !is_in_use {
            // As in a copy of the database and its log.
            fs::remove_file(phone.join("Gadgetbridge-shm")).unwrap();
        }
        let has_log = fs::metadata(phone.join("Gadgetbridge-wal")).is_ok_and(|wal| wal.len() > 0);
        assert_eq!(has_log, journal_mode == "wal");
        let before = contents(&phone);
        let result = import_file(folder.path(), "phone/Gadgetbridge", &[]);
        assert!(summary(&result).contains("8 readings added"), "{journal_mode} {is_in_use}: {result:?}");
        assert_eq!(readings_by_time(folder.path()), SAMPLE_READINGS);
        let after = contents(&phone);
        let names = |files: &[(String, Vec<u8>)]| files.iter().map(|file| file.0.clone()).collect::<Vec<_>>();
        assert_eq!(names(&after), names(&before));
        assert!(after == before, "{journal_mode} {is_in_use}: a file has changed");
        let left = contents_names(folder.path());
        assert!(!left.iter().any(|name| name.starts_with(".coffee-")), "{left:?}");
        drop(connection);
    }
}

fn contents_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_damaged_page_ends_its_table_and_the_rows_before_and_other_tables_are_imported() {
    let folder = temporary_folder();
    let path = folder.path().join("Gadgetbridge");
    let connection = create(
        &path,
        "create table LONG_SAMPLE (TIMESTAMP INTEGER, HEART_RATE INTEGER, FILLER TEXT);
         with recursive n(n) as (select 0 union all select n + 1 from n where n < 4999)
         insert into LONG_SAMPLE select 1600000000 + n, 60 + n % 100, printf('%.*c', 100, 'x') from n;",
    );
    connection.execute_batch(SAMPLES).unwrap();
    // The page of the row in the middle.
    let page: i64 = connection
        .query_row("select rootpage from sqlite_schema where name = 'LONG_SAMPLE'", [], |row| row.get(0))
        .unwrap();
    let (size, count): (i64, i64) = (
        connection.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap(),
        connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap(),
    );
    drop(connection);
    let damaged = page + (count - page) / 2;
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(u64::try_from((damaged - 1) * size).unwrap())).unwrap();
    file.write_all(&[0xff; 512]).unwrap();
    drop(file);
    let result = import_file(folder.path(), "Gadgetbridge", &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    let stored = readings_by_time(folder.path());
    let of_long = stored.iter().filter(|row| row.contains("Text(\"Gadgetbridge\")")).count() - 2;
    assert!((1000..4000).contains(&of_long), "{of_long}");
    assert_eq!(
        result.err.trim_end(),
        format!(
            "coffee-tracker: Gadgetbridge: LONG_SAMPLE: reading stopped after row {of_long}: database disk image is \
             malformed"
        )
    );
    assert!(stored.iter().any(|row| row == SAMPLE_READINGS[3]), "the other tables are missing");
}

#[test]
fn hostile_schemas_are_rejected_or_ignored_within_the_memory_limit() {
    let recursive = "with recursive n(n) as (select 1 union all select n + 1 from n) select n as TIMESTAMP, 60 as HEART_RATE from n";
    let many_columns = (0..1990).map(|n| format!(", c{n}")).collect::<String>();
    let many_tables =
        (0..3000).map(|n| format!("create table t{n} (TIMESTAMP, HEART_RATE);")).collect::<String>();
    for (name, statements) in [
        ("views", format!("create view ENDLESS_SAMPLE as {recursive}; create view v as select * from v2; create view v2 as select * from v;")),
        ("virtual", "create virtual table VIRTUAL_SAMPLE using fts5(TIMESTAMP, HEART_RATE); insert into VIRTUAL_SAMPLE values ('1', '60');".to_owned()),
        ("shadowed", "create table pragma_table_xinfo (name, hidden); create table \"sqlite\" (a); create table \"\" (a); create table ' ' (\"\", ' ');".to_owned()),
        ("columns", format!("create table WIDE_SAMPLE (TIMESTAMP, HEART_RATE{many_columns});")),
        ("tables", format!("begin; {many_tables} commit")),
        ("checks", "create table CHECKED_SAMPLE (TIMESTAMP, HEART_RATE check (length(zeroblob(abs(HEART_RATE))) > 0));
             create index i on CHECKED_SAMPLE (abs(HEART_RATE)) where abs(TIMESTAMP) > 1;".to_owned()),
                ("trigger", "create table T_SAMPLE (TIMESTAMP, HEART_RATE); create trigger t after insert on T_SAMPLE begin delete from DEVICE; end;".to_owned()),
    ] {
        let folder = temporary_folder();
        drop(create(&folder.path().join("file"), &format!("{SAMPLES}{statements}")));
        let (result, peak) = crate::import_memory::import_measured(folder.path());
        assert!(peak < 64 * 1024, "{name}: {peak} KiB");
        assert!(summary(&result).contains("8 readings added"), "{name}: {result:?}");
        assert_eq!(readings_by_time(folder.path()), SAMPLE_READINGS, "{name}");
    }
}

#[test]
fn a_schema_that_was_tampered_with_is_rejected_or_its_table_left_out() {
    for (name, tamper) in [
        (
            "a view that is called a table",
            "insert into sqlite_schema values ('table', 'V_SAMPLE', 'V_SAMPLE', 2, 'create view V_SAMPLE as with recursive n(n) as (select 1 union all select n + 1 from n) select n as TIMESTAMP, 60 as HEART_RATE from n')",
        ),
        (
            "a table on the page of another",
            "update sqlite_schema set rootpage = (select rootpage from sqlite_schema where name = 'DEVICE') where name = 'GENERIC_HEART_RATE_SAMPLE'",
        ),
        (
            "a table without a page",
            "update sqlite_schema set rootpage = 100000 where name = 'GENERIC_HEART_RATE_SAMPLE'",
        ),
        (
            "a definition that is not SQL",
            "update sqlite_schema set sql = 'create table ((' where name = 'GENERIC_HEART_RATE_SAMPLE'",
        ),
        (
            "a definition that is too long",
            "update sqlite_schema set sql = sql || printf('%.*c', 90000000, ' ') where name = 'GENERIC_HEART_RATE_SAMPLE'",
        ),
    ] {
        let folder = temporary_folder();
        let connection = create(&folder.path().join("file"), SAMPLES);
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
        connection.pragma_update(None, "writable_schema", true).unwrap();
        connection.execute_batch(tamper).unwrap();
        drop(connection);
        let (result, peak) = crate::import_memory::import_measured(folder.path());
        assert!(peak < 64 * 1024, "{name}: {peak} KiB");
        assert_eq!(result.signal, None, "{name}: {result:?}");
        println!("{name}: {:?} {} {}", result.code, result.out.trim_end(), result.err.trim_end());
        assert!(!result.err.contains("panicked"), "{name}: {result:?}");
    }
}

#[test]
fn a_database_with_an_unfinished_transaction_and_unknown_databases_are_rejected_with_advice() {
    let folder = temporary_folder();
    let unknown = Connection::open(folder.path().join("unknown.db")).unwrap();
    unknown.execute_batch("create table t (TIMESTAMP, HEART_RATE); insert into t values (1, 60)").unwrap();
    assert_eq!(
        error_line(&import_file(folder.path(), "unknown.db", &[])),
        "coffee-tracker: unknown.db: this is a SQLite database of an unknown program: those of Health Connect, Gadgetbridge \
         and the Docker stack can be imported"
    );
    let forced = import_file(folder.path(), "unknown.db", &["--format", "gadgetbridge"]);
    assert!(summary(&forced).contains("1 reading added"), "{forced:?}");
    drop(create(&folder.path().join("Gadgetbridge"), ""));
    assert_eq!(import_file(folder.path(), "Gadgetbridge", &[]).out, "Gadgetbridge: no rows found\n");
    assert_eq!(
        error_line(&import_file(folder.path(), "Gadgetbridge", &["--format", "docker-sqlite"])),
        "coffee-tracker: Gadgetbridge: this is a database of Gadgetbridge, not of the Docker stack: omit --format"
    );
    let mut piped = program(folder.path());
    piped.args(["import", "-"]).stdin(fs::File::open(folder.path().join("Gadgetbridge")).unwrap());
    assert_eq!(
        error_line(&run(&mut piped)),
        "coffee-tracker: standard input: a database cannot be read from a stream: pass the name of its file"
    );
    // A journal with the pages of a transaction that did not end.
    let path = folder.path().join("Gadgetbridge");
    let writer = Connection::open(&path).unwrap();
    writer.pragma_update(None, "cache_size", 1).unwrap();
    writer.pragma_update(None, "cache_spill", 1).unwrap();
    writer
        .execute_batch(
            "begin; with recursive n(n) as (select 0 union all select n + 1 from n where n < 20000)
             insert into PEBBLE_HEALTH_ACTIVITY_SAMPLE select n, 1, 1 from n",
        )
        .unwrap();
    for name in ["Gadgetbridge", "Gadgetbridge-journal"] {
        fs::copy(folder.path().join(name), folder.path().join(format!("copy-{name}"))).unwrap();
    }
    drop(writer);
    fs::create_dir(folder.path().join("copy")).unwrap();
    for name in ["Gadgetbridge", "Gadgetbridge-journal"] {
        fs::rename(folder.path().join(format!("copy-{name}")), folder.path().join("copy").join(name))
            .unwrap();
    }
    let before = contents(&folder.path().join("copy"));
    assert_eq!(
        error_line(&import_file(folder.path(), "copy/Gadgetbridge", &[])),
        "coffee-tracker: copy/Gadgetbridge: the database has an unfinished transaction (a file that ends in -journal): \
         open it once with its own program, and close it"
    );
    assert!(contents(&folder.path().join("copy")) == before);
}
