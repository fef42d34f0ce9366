//! `import` of CSV and JSON Lines: accepted and rejected rows, rejected files, and the output. The tests compare whole tables and
//! whole outputs.

use std::path::Path;
use std::process::Stdio;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::helpers::{CommandResult, database, number, program, rows, run, temporary_folder};

const COFFEES: &str =
    "select id, timestamp, caffeine_mg, coffee_type, notes, source from coffee_logs order by id";
const READINGS: &str = "select id, timestamp, bpm, context, notes, source from heart_rate_logs order by id";

/// Writes `content` to a file and imports it into `coffee.db`.
pub fn import(folder: &Path, content: impl AsRef<[u8]>, args: &[&str]) -> CommandResult {
    std::fs::write(folder.join("file"), content).unwrap();
    import_file(folder, "file", args)
}

/// Imports an existing file into `coffee.db`.
pub fn import_file(folder: &Path, file: &str, args: &[&str]) -> CommandResult {
    let mut command = program(folder);
    command.args(["import", file, "--database-url", "coffee.db"]).args(args).env("TZ", "Europe/Berlin");
    run(&mut command)
}

pub fn coffees(folder: &Path) -> Vec<String> {
    rows(&database(folder), COFFEES)
}

pub fn readings(folder: &Path) -> Vec<String> {
    rows(&database(folder), READINGS)
}

/// Asserts that an import succeeded, and returns its summary without the duration.
#[track_caller]
pub fn summary(result: &CommandResult) -> &str {
    assert_eq!(result.code, Some(0), "{result:?}");
    assert_eq!(result.out.lines().count(), 1, "{result:?}");
    result.out.split(" (").next().unwrap()
}

const OWN_CSV: &str = "id,timestamp,caffeine_mg,coffee_type,notes,source\n\
    3,2025-07-23T14:30:00.123456Z,95.0,espresso,\"a \"\"b\"\"\nc\",\n\
    4,2025-07-23T14:30:00.123456Z,0.30000000000000004,,,Watch\n\
    9,2025-07-23T14:30:00.123456Z,0.30000000000000004,,,Watch\n";
const OWN_JSON: &str = concat!(
    r#"{"id":3,"timestamp":"2025-07-23T14:30:00.123456Z","caffeine_mg":95.0,"coffee_type":"espresso","notes":"a \"b\"\nc","source":null}"#,
    "\n",
    r#"{"id":4,"timestamp":"2025-07-23T14:30:00.123456Z","caffeine_mg":0.30000000000000004,"coffee_type":null,"notes":null,"source":"Watch"}"#,
    "\n",
    r#"{"id":9,"timestamp":"2025-07-23T14:30:00.123456Z","caffeine_mg":0.30000000000000004,"coffee_type":null,"notes":null,"source":"Watch"}"#,
    "\n",
);

#[test]
fn an_export_is_imported_exactly_and_a_second_import_adds_nothing() {
    let expected = [
        r#"Integer(3)|Integer(1753281000123456)|Real(95.0)|Text("espresso")|Text("a \"b\"\nc")|Null"#,
        r#"Integer(4)|Integer(1753281000123456)|Real(0.30000000000000004)|Null|Null|Text("Watch")"#,
        r#"Integer(9)|Integer(1753281000123456)|Real(0.30000000000000004)|Null|Null|Text("Watch")"#,
    ];
    for (content, other) in [(OWN_CSV, OWN_JSON), (OWN_JSON, OWN_CSV)] {
        let folder = temporary_folder();
        let first = import(folder.path(), content, &[]);
        assert_eq!(
            summary(&first),
            "file: 3 coffees and 0 readings added, 0 duplicates skipped, 0 rows rejected"
        );
        assert_eq!(first.err, "", "a progress bar without a terminal");
        assert_eq!(coffees(folder.path()), expected);
        for content in [content, other] {
            let again = import(folder.path(), content, &[]);
            assert_eq!(
                summary(&again),
                "file: 0 coffees and 0 readings added, 3 duplicates skipped, 0 rows rejected"
            );
        }
        assert_eq!(coffees(folder.path()), expected);
    }
}

#[test]
fn equal_rows_of_a_file_are_kept_and_only_missing_ones_are_added() {
    let folder = temporary_folder();
    let row = "2025-07-23T14:30:00Z,95,espresso\n";
    let head = "timestamp,caffeine_mg,coffee_type\n";
    let file = |times: usize| format!("{head}{}", row.repeat(times));
    import(folder.path(), file(2), &[]);
    assert_eq!(coffees(folder.path()).len(), 2);
    import(folder.path(), file(5), &[]);
    assert_eq!(coffees(folder.path()).len(), 5);
    import(folder.path(), file(3), &[]);
    assert_eq!(coffees(folder.path()).len(), 5);
    // Rows that differ in any value are not duplicates.
    let others = format!(
        "{head}2025-07-23T14:30:00.000001Z,95,espresso\n2025-07-23T14:30:00Z,95.5,espresso\n2025-07-23T14:30:00Z,95,\n"
    );
    import(folder.path(), &others, &[]);
    import(folder.path(), &others, &[]);
    assert_eq!(coffees(folder.path()).len(), 8);
}

#[test]
fn an_id_is_kept_unless_it_was_ever_assigned() {
    let folder = temporary_folder();
    import(
        folder.path(),
        "id,timestamp,bpm\n5,2025-07-23T14:30:00Z,60\n5,2025-07-23T14:31:00Z,61\n7,2025-07-23T14:32:00Z,62\n",
        &[],
    );
    let ids = |expected: &str| {
        let found = rows(&database(folder.path()), "select id, bpm from heart_rate_logs order by bpm");
        assert_eq!(found.join(" ").replace("Integer", ""), expected);
    };
    ids("(5)|(60) (6)|(61) (7)|(62)");
    Connection::open(folder.path().join("coffee.db"))
        .unwrap()
        .execute("delete from heart_rate_logs where id = 7", [])
        .unwrap();
    // 7 was assigned before, and 9223372036854775807 would be the last possible id.
    import(
        folder.path(),
        "id,timestamp,bpm\n7,2025-07-23T14:33:00Z,63\n12,2025-07-23T14:34:00Z,64\n9223372036854775807,2025-07-23T14:35:00Z,65\n",
        &[],
    );
    ids("(5)|(60) (6)|(61) (8)|(63) (12)|(64) (13)|(65)");
}

#[test]
fn csv_files_of_other_programs_are_imported() {
    let expected = [
        r#"Integer(1)|Integer(1753273800000000)|Real(62.5)|Text("flat; white")|Null|Null"#,
        r#"Integer(2)|Integer(1737642600000000)|Real(80.0)|Null|Null|Null"#,
    ];
    for (content, args) in [
        (
            "\u{feff}Coffee Type;CAFFEINE-MG;Timestamp;weight\r\n\"flat; white\";62,5;2025-07-23 14:30;9\r\n;80;2025-01-23 15:30:00;\r\n;;;\r\n",
            &[][..],
        ),
        (
            "When\tWhat\tmg\tid\nX\tY\tZ\t\n2025-07-23 14:30:00 +0200\tflat; white\t62.5\t\n2025-01-23T14:30:00Z\t\t80\t",
            &["--map", "when=timestamp", "--map", "What=coffee_type", "--map", "MG=caffeine-mg"],
        ),
        (
            "timestamp,time,caffeine_mg,coffee_type\n-,2025-07-23 2:30:00\u{202f}PM +0200,\"62,5\",flat; white\n-,2025-01-23 15:30,80,\n",
            &["--map", "time=timestamp", "--format", "csv"],
        ),
    ] {
        let folder = temporary_folder();
        let result = import(folder.path(), content, args);
        assert_eq!(result.code, Some(0), "{result:?}");
        assert_eq!(coffees(folder.path()), expected, "{content}");
    }
}

#[test]
fn a_file_may_contain_both_types_and_unusual_values_and_may_be_compressed() {
    let folder = temporary_folder();
    let content = concat!(
        "\n",
        r#"{"timestamp": "2025-07-23T14:30:00Z", "bpm": "72.4", "context": "  resting\u0007 ", "unknown": [1, {}]}"#,
        "\r\n",
        r#"  {"caffeine_mg": "95", "timestamp": "2025-07-23 16:30:00+02", "notes": "\ud83d\ude00"}"#,
    );
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, content.as_bytes()).unwrap();
    for content in [content.as_bytes(), &packed.finish().unwrap()] {
        let result = import(folder.path(), content, &[]);
        assert_eq!(result.code, Some(0), "{result:?}");
        assert_eq!(
            coffees(folder.path()),
            [r#"Integer(1)|Integer(1753281000000000)|Real(95.0)|Null|Text("😀")|Null"#]
        );
        assert_eq!(
            readings(folder.path()),
            [r#"Integer(1)|Integer(1753281000000000)|Integer(72)|Text("resting")|Null|Null"#]
        );
    }
}

#[test]
fn an_invalid_row_is_reported_with_line_and_reason_and_the_others_are_imported() {
    let folder = temporary_folder();
    let long = "x".repeat(1001);
    let content = format!(
        "timestamp,caffeine_mg,coffee_type,notes\n\
         2025-07-23T14:30:00Z,1,good,\n\
         yesterday,1,bad,\n\
         2025-07-23T14:30:00Z,-1,bad,\n\
         2025-07-23T14:30:00Z,lots,bad,\n\
         2025-07-23T14:30:00Z,,bad,\n\
         2025-07-23T14:30:00Z,1,bad\n\
         2025-07-23T14:30:00Z,1,bad,a,b\n\
         2025-07-23T14:30:00Z,1,bad,{long}\n\
         2025-07-23T14:30:00Z,2,good,\"two\nlines\"\n\
         2025-07-23T14:30:00Z,1,bad,\"never closed\n\
         2025-07-23T14:30:00Z,3,good,\n"
    );
    let mut content = content.into_bytes();
    content.extend_from_slice(b"2025-07-23T14:30:00Z,1,b\xe4d,\n2025-07-23T14:30:00Z,4,good,\n");
    let result = import(folder.path(), &content, &["--rejects", "rejects.csv"]);
    assert_eq!(
        summary(&result),
        "file: 4 coffees and 0 readings added, 0 duplicates skipped, 9 rows rejected"
    );
    assert_eq!(
        number(
            &database(folder.path()),
            "select cast(sum(caffeine_mg) as integer) from coffee_logs where coffee_type = 'good'"
        ),
        10
    );
    let reasons = [
        r#"line 3: timestamp: must be a date and time such as 2025-07-23T14:30:00Z (got "yesterday"): yesterday,1,bad,"#,
        r#"line 4: caffeine_mg: must be between 0 and 1000000 (got "-1"): 2025-07-23T14:30:00Z,-1,bad,"#,
        r#"line 5: caffeine_mg: must be a number (got "lots"): 2025-07-23T14:30:00Z,lots,bad,"#,
        "line 6: has neither caffeine_mg nor bpm: 2025-07-23T14:30:00Z,,bad,",
        "line 7: has 3 columns where the header has 4: 2025-07-23T14:30:00Z,1,bad",
        "line 8: has 5 columns where the header has 4: 2025-07-23T14:30:00Z,1,bad,a,b",
        &format!(
            "line 9: notes: must have at most 1000 characters (it has 1001): 2025-07-23T14:30:00Z,1,bad,{}…",
            "x".repeat(73)
        ),
        "line 12: opens a quote that is not closed, or is longer than 64 KiB: 2025-07-23T14:30:00Z,1,bad,\"never closed",
        "line 14: coffee_type: is not UTF-8: 2025-07-23T14:30:00Z,1,b\u{fffd}d,",
    ];
    assert_eq!(result.err.lines().collect::<Vec<_>>(), reasons);
    let rejects = std::fs::read_to_string(folder.path().join("rejects.csv")).unwrap();
    assert!(rejects.starts_with("line,reason,content\n3,\"timestamp: must be"), "{rejects}");
    assert!(rejects.contains(&format!("bad,{long}\"\n")) && rejects.lines().count() == 10, "{rejects}");
}

#[test]
fn an_endless_line_is_rejected_once_and_the_next_line_is_imported() {
    for (long, shown) in [("x".repeat(1 << 20), "x"), (format!("\"{}", "x".repeat(1 << 20)), "\"x")] {
        let folder = temporary_folder();
        let row = "2025-07-23T14:30:00Z,60\n";
        let result = import(folder.path(), format!("timestamp,bpm\n{row}{long}\n{row}yesterday,1\n"), &[]);
        assert!(
            summary(&result).contains("2 readings added, 0 duplicates skipped, 2 rows rejected"),
            "{result:?}"
        );
        let reasons: Vec<&str> = result.err.lines().collect();
        let reason = format!("line 3: opens a quote that is not closed, or is longer than 64 KiB: {shown}");
        assert!(reasons[0].starts_with(&reason), "{result:?}");
        assert!(reasons[1].starts_with("line 5: timestamp: "), "{result:?}");
    }
}

#[test]
fn the_first_20_invalid_rows_are_shown_and_the_rest_are_counted() {
    let folder = temporary_folder();
    let content =
        format!("{{\"bpm\":60,\"timestamp\":\"2025-07-23T14:30:00Z\"}}\n{}", "{\"bpm\":0}\n".repeat(30));
    let result = import(folder.path(), content, &[]);
    assert!(
        summary(&result).contains("1 reading added, 0 duplicates skipped, 30 rows rejected"),
        "{result:?}"
    );
    let shown: Vec<&str> = result.err.lines().collect();
    assert_eq!(shown.len(), 21, "{result:?}");
    assert_eq!(shown[19], r#"line 21: timestamp is missing: {"bpm":0}"#);
    assert_eq!(shown[20], "and 10 more rejected rows (--rejects FILE writes all of them)");
}

#[test]
fn an_import_dry_run_prints_the_result_and_writes_nothing() {
    let folder = temporary_folder();
    let result = import(folder.path(), OWN_CSV, &["--dry-run"]);
    assert!(
        summary(&result).starts_with("file: 3 coffees and 0 readings would be added, 0 duplicates"),
        "{result:?}"
    );
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["file"]);
    import(folder.path(), OWN_CSV, &[]);
    let before = (names(), std::fs::read(folder.path().join("coffee.db")).unwrap());
    let more = format!("{OWN_CSV}1,2024-07-23T14:30:00Z,1,,,\n");
    let result = import(folder.path(), &more, &["--dry-run"]);
    assert!(
        summary(&result).starts_with("file: 1 coffee and 0 readings would be added, 3 duplicates"),
        "{result:?}"
    );
    assert!(before == (names(), std::fs::read(folder.path().join("coffee.db")).unwrap()));
}

#[test]
fn the_json_result_has_counts_period_and_sources_and_reasons_without_the_rows() {
    let folder = temporary_folder();
    let content = format!(
        "{OWN_CSV}5,2024-01-02T03:04:05Z,50,,\"secret, note\",Phone\n\
         6,2024-01-03T03:04:05Z,5000,,,\n,soon,secret note,,,\n"
    );
    let result = import(folder.path(), &content, &["--dry-run", "--json"]);
    assert_eq!((result.code, result.err.as_str()), (Some(0), ""), "{result:?}");
    let expected = json!({
        "is_dry_run": true,
        "coffees_added": 4, "readings_added": 0, "updated": 0, "duplicates": 0,
        "rejected": 2, "out_of_range": 1, "unsupported": 0,
        "oldest": "2024-01-02T03:04:05.000000Z", "newest": "2025-07-23T14:30:00.123456Z",
        "sources": [{"name": "Watch", "entries": 2}, {"name": "Phone", "entries": 1}],
        "rejections": [
            {"position": "line 7", "reason": "caffeine_mg: 5000 is above MAX_CAFFEINE_MG (1000)"},
            {"position": "line 8", "reason": "timestamp: must be a date and time such as 2025-07-23T14:30:00Z"},
        ],
    });
    assert_eq!(serde_json::from_str::<Value>(&result.out).unwrap(), expected);
    assert!(!folder.path().join("coffee.db").exists());

    let result = import(folder.path(), OWN_CSV, &["--json"]);
    let imported: Value = serde_json::from_str(&result.out).unwrap();
    assert_eq!((&imported["is_dry_run"], &imported["coffees_added"]), (&json!(false), &json!(3)));
    assert_eq!(coffees(folder.path()).len(), 3);
    let again = import(folder.path(), OWN_CSV, &["--json"]);
    let again: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((&again["coffees_added"], &again["duplicates"]), (&json!(0), &json!(3)));

    let rejected = import(folder.path(), "{\"bpm\":0}\n".repeat(30), &["--json"]);
    assert_eq!((rejected.code, rejected.err.lines().count()), (Some(1), 1), "{rejected:?}");
    let rejected: Value = serde_json::from_str(&rejected.out).unwrap();
    let shown = rejected["rejections"].as_array().unwrap().len();
    assert_eq!((&rejected["rejected"], shown, &rejected["oldest"]), (&json!(30), 20, &Value::Null));
    let broken = import(folder.path(), "timestamp,note\n", &["--json"]);
    assert_eq!((broken.code, broken.out.as_str()), (Some(1), ""), "{broken:?}");
}

/// Contents of a file, arguments, exit code, and part of the message.
type Case = (&'static [u8], &'static [&'static str], i32, &'static str);

/// Files that cannot be imported.
const INVALID_FILES: [Case; 13] = [
    (b" \n\n", &[], 1, "file: the file contains only blanks"),
    (
        b"PGDMP\x01\x0e",
        &[],
        1,
        "file: PostgreSQL dumps in the custom format cannot be imported: make a plain one with `pg_restore -f plain.sql FILE`, and import that",
    ),
    (b"%PDF-1.7", &[], 1, "file: PDF files cannot be imported: import the file that it was made from"),
    (b"\x7fELF\x02\x01\x01\x00\x00", &[], 1, "file: the format is unknown, and it is not text"),
    (b"<html></html>", &[], 1, "file: XML other than an Apple Health export cannot be imported"),
    (
        b"[{}]",
        &[],
        1,
        "file: JSON lists other than Fitbit's heart rates cannot be imported: write one object per line with `jq -c '.[]' FILE`",
    ),
    (
        b"SQLite format 3\0 but nothing else of it",
        &[],
        1,
        "file: cannot be read: the database is damaged (file is not a database)",
    ),
    (b"timestamp,bpm\nnever,60\n", &[], 1, "file: every row was rejected"),
    (
        b"when,mg\n",
        &[],
        1,
        "file: there is no column timestamp; the columns are: when, mg; use --map COLUMN=FIELD, such as --map Time=timestamp",
    ),
    (
        b"timestamp,mg\n",
        &[],
        1,
        "file: there is neither a column caffeine_mg nor bpm; the columns are: timestamp, mg; use --map COLUMN=FIELD, such as --map Time=timestamp",
    ),
    (
        b"timestamp,mg\n",
        &["--map", "milligrams=caffeine_mg"],
        1,
        "file: there is no column \"milligrams\"; the columns are: timestamp, mg; use --map COLUMN=FIELD, such as --map Time=timestamp",
    ),
    (
        b"timestamp,bpm\n",
        &["--map", "bpm=pulse"],
        2,
        "\"pulse\" is none of id, timestamp, caffeine_mg, coffee_type, notes, bpm, context, source",
    ),
    (
        b"timestamp,bpm\n",
        &["--format", "xls"],
        2,
        "[possible values: apple-health, health-connect, gadgetbridge, fitbit, docker-sqlite, postgres-dump, csv, jsonl]",
    ),
];

#[test]
fn a_failed_import_names_the_reason_and_creates_no_database() {
    for (content, args, code, message) in INVALID_FILES {
        let folder = temporary_folder();
        let result = import(folder.path(), content, args);
        assert_eq!(result.code, Some(code), "{result:?}");
        let last = if code == 1 { result.err.lines().last().unwrap() } else { &result.err };
        assert!(last.contains(message), "{result:?}");
        assert!(!folder.path().join("coffee.db").exists(), "{message}");
    }
}

#[test]
fn a_file_that_cannot_be_opened_or_would_be_overwritten_is_rejected() {
    let folder = temporary_folder();
    let result = import_file(folder.path(), "nowhere.csv", &[]);
    assert_eq!(
        (result.code, result.err.as_str()),
        (Some(1), "coffee-tracker: nowhere.csv: there is no such file\n")
    );
    assert_eq!(
        import_file(folder.path(), ".", &[]).err,
        "coffee-tracker: .: is a folder without files of heart rates from a Fitbit export (heart_rate-YYYY-MM-DD.json)\n"
    );
    std::fs::write(folder.path().join("file"), OWN_CSV).unwrap();
    let result = import_file(folder.path(), "file", &["--rejects", "./file"]);
    assert_eq!(
        (result.code, result.err.as_str()),
        (Some(1), "coffee-tracker: ./file already exists: pass another name for the rejected rows\n")
    );
    assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), OWN_CSV);
}

#[test]
fn coffee_tracker_databases_are_not_imported_and_databases_of_other_programs_not_changed() {
    let folder = temporary_folder();
    import(folder.path(), OWN_CSV, &[]);
    let result = import_file(folder.path(), "coffee.db", &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(
        result.err.contains(
            "this is a Coffee Tracker database: to replace the current one, use `coffee-tracker restore`"
        ),
        "{result:?}"
    );
    let foreign = Connection::open(folder.path().join("foreign.db")).unwrap();
    foreign.execute_batch("create table t (a)").unwrap();
    let result = import_file(folder.path(), "foreign.db", &[]);
    assert_eq!(
        result.err,
        "coffee-tracker: foreign.db: this is a SQLite database of an unknown program: those of Health Connect, Gadgetbridge \
         and the Docker stack can be imported\n"
    );
    let result = import_file(folder.path(), "file", &["--database-url", "foreign.db"]);
    assert_eq!(result.code, Some(2), "a repeated flag is a usage error: {result:?}");
    let mut command = program(folder.path());
    let result = run(command.args(["import", "file", "--database-url", "foreign.db"]));
    assert_eq!(
        (result.code, result.err.as_str()),
        (Some(78), "coffee-tracker: foreign.db is a SQLite database of another program\n")
    );
}

#[test]
fn standard_input_can_be_imported_and_quiet_prints_nothing() {
    let folder = temporary_folder();
    std::fs::write(folder.path().join("own.csv"), OWN_CSV).unwrap();
    let mut command = program(folder.path());
    command.args(["import", "-", "--quiet", "--database-url", "coffee.db"]);
    command.stdin(Stdio::from(std::fs::File::open(folder.path().join("own.csv")).unwrap()));
    let result = run(&mut command);
    assert_eq!((result.code, result.out.as_str(), result.err.as_str()), (Some(0), "", ""));
    assert_eq!(coffees(folder.path()).len(), 3);
    command.stdin(Stdio::from(std::fs::File::open(folder.path().join("coffee.db")).unwrap()));
    let result = run(&mut command);
    assert_eq!(
        (result.code, result.err.as_str()),
        (
            Some(1),
            "coffee-tracker: standard input: a database cannot be read from a stream: pass the name of its file\n"
        )
    );
}
