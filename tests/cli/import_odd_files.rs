//! `import` of unusual variants of the formats: line ends, delimiters, quotes, dumps, and files that only look like a supported
//! format.

use std::io::Write;
use std::path::Path;

use crate::helpers::{database, rows, temporary_folder};
use crate::import::{coffees, import, readings, summary};

const NOTHING_ELSE: &str = "0 duplicates skipped, 0 rows rejected";

fn notes(folder: &Path) -> Vec<String> {
    rows(&database(folder), "select id, notes from coffee_logs order by id")
}

#[test]
fn csv_lines_may_end_in_cr_lf_or_both() {
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
        let folder = temporary_folder();
        let result = import(folder.path(), &content, &[]);
        assert_eq!(
            summary(&result),
            "file: 3 coffees and 0 readings added, 0 duplicates skipped, 1 row rejected",
            "{content:?}"
        );
        assert_eq!(
            result.err,
            "line 6: timestamp: must be a date and time such as 2025-07-23T14:30:00Z (got \"never\"): never,62,\n"
        );
        let stored = notes(folder.path());
        assert_eq!(stored[..2], [r#"Integer(1)|Text("two\nlines")"#, "Integer(2)|Null"], "{content:?}");
        assert_eq!(stored.len(), 3);
    }
}

#[test]
fn lines_that_end_in_cr_are_read_across_buffers_and_after_a_too_long_line() {
    let folder = temporary_folder();
    let row = "2025-07-23T14:30:00Z,60\r";
    let long = "x".repeat(1 << 20);
    let content = format!("timestamp,bpm\r{}{long}\r{row}\"{long}\r\nnever,1\r", row.repeat(20_000));
    let result = import(folder.path(), content, &[]);
    assert_eq!(
        summary(&result),
        "file: 0 coffees and 20,001 readings added, 0 duplicates skipped, 3 rows rejected"
    );
    let lines: Vec<&str> = result.err.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["line 20002", "line 20004", "line 20005"]);
}

#[test]
fn a_sep_line_for_spreadsheets_is_not_the_header() {
    for content in [
        "sep=;\r\ntimestamp;caffeine_mg;coffee_type\r\n2025-07-23T14:30:00Z;62,5;a, b, c, d\r\n",
        "\u{feff}SEP=|\ntimestamp|caffeine_mg|coffee_type\n2025-07-23T14:30:00Z|62.5|a, b, c, d\n",
        "sep=\t\rtimestamp\tcaffeine_mg\tcoffee_type\r2025-07-23T14:30:00Z\t62.5\ta, b, c, d\r",
    ] {
        let folder = temporary_folder();
        let result = import(folder.path(), content, &[]);
        assert_eq!(summary(&result), format!("file: 1 coffee and 0 readings added, {NOTHING_ELSE}"));
        assert_eq!(
            coffees(folder.path()),
            [r#"Integer(1)|Integer(1753281000000000)|Real(62.5)|Text("a, b, c, d")|Null|Null"#]
        );
    }
}

#[test]
fn a_possible_thousands_separator_is_rejected_in_comma_separated_files() {
    let folder = temporary_folder();
    let doses = ["1,200", "+1,200", "12,500", "62,5", "0,125", "1,2000"];
    let doses = doses.map(|dose| format!("2025-07-23T14:30:00Z,\"{dose}\"\n")).concat();
    let result = import(folder.path(), format!("timestamp,caffeine_mg\n{doses}"), &[]);
    assert!(
        summary(&result).contains("3 coffees and 0 readings added, 0 duplicates skipped, 3 rows rejected")
    );
    let reason = "caffeine_mg: may be thousands or a fraction: write it without a comma";
    assert_eq!(
        result.err,
        format!(
            "line 2: {reason}: 2025-07-23T14:30:00Z,\"1,200\"\n\
             line 3: {reason}: 2025-07-23T14:30:00Z,\"+1,200\"\n\
             line 4: {reason}: 2025-07-23T14:30:00Z,\"12,500\"\n"
        )
    );
    let other = "timestamp;caffeine_mg\n2025-07-23T14:31:00Z;1,200\n";
    assert!(summary(&import(folder.path(), other, &[])).contains("1 coffee and 0 readings added"));
    let doses = rows(&database(folder.path()), "select caffeine_mg from coffee_logs order by id");
    assert_eq!(doses, ["Real(62.5)", "Real(0.125)", "Real(1.2)", "Real(1.2)"]);
}

#[test]
fn a_header_that_starts_with_an_sql_keyword_is_a_header() {
    for first in ["Begin", "Select device", "Set number", "Copy of", "Create table", "Drop", "Insert into"] {
        for delimiter in [",", ";"] {
            let folder = temporary_folder();
            let content = ["{first},timestamp,bpm", "a,2025-07-23T14:30:00Z,60", ""].join("\n");
            let content = content.replace(',', delimiter).replace("{first}", first);
            let result = import(folder.path(), &content, &[]);
            assert_eq!(
                summary(&result),
                format!("file: 0 coffees and 1 reading added, {NOTHING_ELSE}"),
                "{content}"
            );
        }
    }
}

#[test]
fn a_file_that_is_not_a_dump_is_rejected_and_an_empty_dump_has_no_rows() {
    let not_one = "coffee-tracker: file: not a dump: no statement creates or fills a table\n";
    let none = "file: no rows found\n";
    let create = "CREATE TABLE public.coffee_logs (id integer);\n";
    let copy = "COPY public.coffee_logs (id) FROM stdin;\n\\.\n";
    for (content, args, code, out, err) in [
        ("timestamp,bpm\n2025-07-23T14:30:00Z,60\n", &["--format", "postgres-dump"][..], 1, "", not_one),
        ("-- nothing\nSET a = 1;\n", &[], 1, "", not_one),
        (create, &[], 0, none, ""),
        (copy, &[], 0, none, ""),
    ] {
        let folder = temporary_folder();
        let result = import(folder.path(), content, args);
        assert_eq!((result.code, &*result.out, &*result.err), (Some(code), out, err), "{content}");
    }
}

#[test]
fn an_empty_file_has_no_rows_except_as_an_apple_health_export() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"").unwrap();
    let packed = packed.finish().unwrap();
    for (content, args) in [(&b""[..], &[][..]), (b"", &["--format", "jsonl"]), (&packed, &[])] {
        let folder = temporary_folder();
        let result = import(folder.path(), content, args);
        assert_eq!((result.code, &*result.out, &*result.err), (Some(0), "file: no rows found\n", ""));
        assert!(!folder.path().join("coffee.db").exists());
    }
    let result = import(temporary_folder().path(), "", &["--format", "apple-health"]);
    assert_eq!(result.code, Some(1), "{result:?}");
}

#[test]
fn statements_that_only_look_like_rows_of_a_dump_are_skipped() {
    let good = "COPY heart_rate_logs (bpm, id, \"timestamp\") FROM stdin;\n60\t2\t2025-07-23\n\\.\n";
    for odd in [
        "COMMENT ON TABLE coffee_logs IS 'a\nINSERT INTO coffee_logs VALUES (1);';\n",
        "INSERT INTO other VALUES (1, 'x');\n",
        "COPY coffee_logs (id;\n",
        "COPY coffee_logs TO stdout;\n",
        "CREATE;\nSET;\nINSERT;\n",
    ] {
        let folder = temporary_folder();
        let result = import(folder.path(), format!("{good}{odd}{good}"), &["--format", "postgres-dump"]);
        let expected = format!("file: 0 coffees and 2 readings added, {NOTHING_ELSE}");
        assert_eq!(summary(&result), expected, "{odd}");
    }
}

#[test]
fn a_dump_in_another_encoding_is_rejected_before_its_rows() {
    let rows = "COPY heart_rate_logs FROM stdin;\n2\t2025-07-23\t60\tx\t\\N\n\\.\n";
    for set in ["SET client_encoding = 'LATIN1';", "set client_encoding to latin1;"] {
        let folder = temporary_folder();
        let result = import(folder.path(), format!("{set}\n{rows}"), &[]);
        assert_eq!(result.code, Some(1), "{result:?}");
        assert_eq!(
            result.err.to_lowercase(),
            "coffee-tracker: file: the encoding of the dump is latin1: make it again with `pg_dump --encoding=utf8`\n"
        );
        assert!(!folder.path().join("coffee.db").exists());
    }
    for name in ["'UTF8'", "'utf-8'", "'SQL_ASCII'", "DEFAULT"] {
        let folder = temporary_folder();
        let result = import(folder.path(), format!("SET client_encoding = {name};\n{rows}"), &[]);
        assert!(summary(&result).contains("0 coffees and 1 reading added"), "{result:?}");
    }
}

#[test]
fn mapping_a_column_or_a_field_twice_is_a_usage_error() {
    for (maps, message) in [
        (["--map", "When=timestamp", "--map", "when =notes"], "--map uses the column \"when \" twice"),
        (["--map", "a=timestamp", "--map", "b=Timestamp"], "--map uses the field timestamp twice"),
    ] {
        let folder = temporary_folder();
        let result = import(folder.path(), "when,a,b,bpm\n2025-07-23T14:30:00Z,,,60\n", &maps);
        assert_eq!((result.code, &*result.err), (Some(2), &*format!("coffee-tracker: {message}\n")));
        assert!(!folder.path().join("coffee.db").exists());
    }
}

#[test]
fn an_unknown_header_is_quoted_in_one_short_line() {
    let folder = temporary_folder();
    let header = format!("a\u{1b}[31m,\"two\nlines\",{}\n", "x".repeat(60_000));
    let result = import(folder.path(), header, &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert_eq!(
        result.err,
        format!(
            "coffee-tracker: file: there is no column timestamp; the columns are: a\\u{{1b}}[31m, two\\nlines, {}…; \
             use --map COLUMN=FIELD, such as --map Time=timestamp\n",
            "x".repeat(281)
        )
    );
}

#[test]
fn a_time_may_name_its_zone_instead_of_an_offset() {
    let folder = temporary_folder();
    let times = [
        "2025-07-01T10:00:00[UTC]",
        "2025-07-01 06:00[America/New_York]",
        "2025-07-01T12:00:00+02:00[Europe/Zurich]",
        "2025-07-01T12:00:00[Europe/Zurich]",
        "2025-07-01T10:00:00[Nowhere/Land]",
    ];
    let rows: String = times.iter().map(|time| format!("{time},60\n")).collect();
    let result = import(folder.path(), format!("timestamp,bpm\n{rows}"), &[]);
    assert!(
        summary(&result).contains("4 readings added, 0 duplicates skipped, 1 row rejected"),
        "{result:?}"
    );
    assert_eq!(
        result.err,
        "line 6: timestamp: must name a known time zone such as [Europe/Berlin] \
         (got \"2025-07-01T10:00:00[Nowhere/Land]\"): 2025-07-01T10:00:00[Nowhere/Land],60\n"
    );
    let expected =
        [1, 2, 3, 4].map(|n| format!("Integer({n})|Integer(1751364000000000)|Integer(60)|Null|Null|Null"));
    assert_eq!(readings(folder.path()), expected);
}
