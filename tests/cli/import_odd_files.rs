//! `import` of what other programs make of the formats: line ends, delimiters, quotes, dumps
//! of other forms, and what only looks like one of ours.

use std::io::Write;
use std::path::Path;

use crate::helpers::{database, folder, rows};
use crate::import::{coffees, import, readings, said};

const NOTHING_ELSE: &str = "0 and 0 were there already, 0 rejected, 0 of other kinds passed over";

fn notes(folder: &Path) -> Vec<String> {
    rows(&database(folder), "select id, notes from coffee_logs order by id")
}

#[test]
fn a_csv_may_end_its_lines_in_any_way() {
    let lines = [
        "timestamp,caffeine_mg,notes",
        "2025-01-01T00:00:00Z,60,\"two\nlines\"",
        "2025-01-01T00:01:00Z,61,",
        "",
        "never,62,",
        "2025-01-01T00:02:00Z,63,\"a\rb\"",
    ];
    let mixed =
        format!("{}\r{}\r\n{}\n{}\r{}\r\n{}", lines[0], lines[1], lines[2], lines[3], lines[4], lines[5]);
    for content in [lines.join("\n"), lines.join("\r\n"), lines.join("\r"), lines.join("\r") + "\r", mixed] {
        let folder = folder();
        let ended = import(folder.path(), &content, &[]);
        assert_eq!(
            said(&ended),
            "file: 3 coffees and 0 readings added, 0 and 0 were there already, 1 rejected, 0 of other kinds passed over",
            "{content:?}"
        );
        assert_eq!(
            ended.err,
            "line 6: timestamp: must be a date and time such as 2025-07-23T14:30:00Z (got \"never\"): never,62,\n"
        );
        let stored = notes(folder.path());
        assert_eq!(stored[..2], [r#"Integer(1)|Text("two\nlines")"#, "Integer(2)|Null"], "{content:?}");
        assert_eq!(stored.len(), 3);
    }
}

#[test]
fn lines_that_end_in_a_carriage_return_are_read_across_buffers_and_behind_one_that_is_too_long() {
    let folder = folder();
    let row = "2025-07-23T14:30:00Z,60\r";
    let long = "x".repeat(1 << 20);
    let content = format!("timestamp,bpm\r{}{long}\r{row}\"{long}\r\nnever,1\r", row.repeat(20_000));
    let ended = import(folder.path(), content, &[]);
    assert_eq!(
        said(&ended),
        "file: 0 coffees and 20001 readings added, 0 and 0 were there already, 3 rejected, 0 of other kinds passed over"
    );
    let lines: Vec<&str> = ended.err.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["line 20002", "line 20004", "line 20005"]);
}

#[test]
fn the_line_that_tells_a_spreadsheet_the_delimiter_is_no_header() {
    for content in [
        "sep=;\r\ntimestamp;caffeine_mg;coffee_type\r\n2025-07-23T14:30:00Z;62,5;a, b, c, d\r\n",
        "\u{feff}SEP=|\ntimestamp|caffeine_mg|coffee_type\n2025-07-23T14:30:00Z|62.5|a, b, c, d\n",
        "sep=\t\rtimestamp\tcaffeine_mg\tcoffee_type\r2025-07-23T14:30:00Z\t62.5\ta, b, c, d\r",
    ] {
        let folder = folder();
        let ended = import(folder.path(), content, &[]);
        assert_eq!(said(&ended), format!("file: 1 coffees and 0 readings added, {NOTHING_ELSE}"));
        assert_eq!(
            coffees(folder.path()),
            [r#"Integer(1)|Integer(1753281000000000)|Real(62.5)|Text("a, b, c, d")|Null|Null"#]
        );
    }
}

#[test]
fn a_number_that_may_have_thousands_is_refused_where_commas_delimit() {
    let folder = folder();
    let doses = ["1,200", "+1,200", "12,500", "62,5", "0,125", "1,2000"];
    let doses = doses.map(|dose| format!("2025-07-23T14:30:00Z,\"{dose}\"\n")).concat();
    let ended = import(folder.path(), format!("timestamp,caffeine_mg\n{doses}"), &[]);
    assert!(said(&ended).contains("3 coffees and 0 readings added, 0 and 0 were there already, 3 rejected"));
    let reason = "caffeine_mg: may be thousands or a fraction: write it without a comma";
    assert_eq!(
        ended.err,
        format!(
            "line 2: {reason}: 2025-07-23T14:30:00Z,\"1,200\"\n\
             line 3: {reason}: 2025-07-23T14:30:00Z,\"+1,200\"\n\
             line 4: {reason}: 2025-07-23T14:30:00Z,\"12,500\"\n"
        )
    );
    let other = "timestamp;caffeine_mg\n2025-07-23T14:31:00Z;1,200\n";
    assert!(said(&import(folder.path(), other, &[])).contains("1 coffees and 0 readings added"));
    let doses = rows(&database(folder.path()), "select caffeine_mg from coffee_logs order by id");
    assert_eq!(doses, ["Real(62.5)", "Real(0.125)", "Real(1.2)", "Real(1.2)"]);
}

#[test]
fn a_header_that_begins_like_a_statement_is_a_header() {
    for first in ["Begin", "Select device", "Set number", "Copy of", "Create table", "Drop", "Insert into"] {
        for delimiter in [",", ";"] {
            let folder = folder();
            let content = ["{first},timestamp,bpm", "a,2025-07-23T14:30:00Z,60", ""].join("\n");
            let content = content.replace(',', delimiter).replace("{first}", first);
            let ended = import(folder.path(), &content, &[]);
            assert_eq!(
                said(&ended),
                format!("file: 0 coffees and 1 readings added, {NOTHING_ELSE}"),
                "{content}"
            );
        }
    }
}

#[test]
fn a_column_that_is_mapped_twice_or_a_field_that_two_mean_is_a_wrong_command_line() {
    for (maps, sentence) in [
        (["--map", "When=timestamp", "--map", "when =notes"], "--map names the column \"when \" twice"),
        (
            ["--map", "a=timestamp", "--map", "b=Timestamp"],
            "--map says of two columns that they are timestamp",
        ),
    ] {
        let folder = folder();
        let ended = import(folder.path(), "when,a,b,bpm\n2025-07-23T14:30:00Z,,,60\n", &maps);
        assert_eq!((ended.code, &*ended.err), (Some(2), &*format!("coffee-tracker: {sentence}\n")));
        assert!(!folder.path().join("coffee.db").exists());
    }
}

#[test]
fn a_header_that_says_nothing_is_quoted_in_one_short_line() {
    let folder = folder();
    let header = format!("a\u{1b}[31m,\"two\nlines\",{}\n", "x".repeat(60_000));
    let ended = import(folder.path(), header, &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(
        ended.err,
        format!(
            "coffee-tracker: file: it has no column timestamp; its columns are: a\\u{{1b}}[31m, two\\nlines, {}…. \
             Say --map COLUMN=FIELD, such as --map Time=timestamp\n",
            "x".repeat(281)
        )
    );
}

#[test]
fn a_time_may_name_its_zone_instead_of_an_offset() {
    let folder = folder();
    let times = [
        "2025-07-01T10:00:00[UTC]",
        "2025-07-01 06:00[America/New_York]",
        "2025-07-01T12:00:00+02:00[Europe/Zurich]",
        "2025-07-01T12:00:00[Europe/Zurich]",
        "2025-07-01T10:00:00[Nowhere/Land]",
    ];
    let rows: String = times.iter().map(|time| format!("{time},60\n")).collect();
    let ended = import(folder.path(), format!("timestamp,bpm\n{rows}"), &[]);
    assert!(said(&ended).contains("4 readings added, 0 and 0 were there already, 1 rejected"), "{ended:?}");
    assert_eq!(
        ended.err,
        "line 6: timestamp: must name a time zone that is known, such as [Europe/Berlin] \
         (got \"2025-07-01T10:00:00[Nowhere/Land]\"): 2025-07-01T10:00:00[Nowhere/Land],60\n"
    );
    let expected =
        [1, 2, 3, 4].map(|n| format!("Integer({n})|Integer(1751364000000000)|Integer(60)|Null|Null|Null"));
    assert_eq!(readings(folder.path()), expected);
}
