//! `import` of Fitbit's heart rates from a Google Takeout: a file, a folder or a zip, with times without a zone.

use std::fs;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::{Signal, kill_process};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::helpers::{CommandResult, Process, database, number, program, run, temporary_folder, wait_until};
use crate::import::{import_file, summary};
use crate::import_gadgetbridge::readings_by_time;
use crate::import_memory::{MEMORY_LIMIT_KIB, import_measured};

/// A day as Google writes it, and the forms and faults that are tolerated.
const FIRST_DAY: &str = r#"[{
  "dateTime" : "02/06/24 14:30:05",
  "value" : {
    "bpm" : 62,
    "confidence" : 2
  }
},{
  "dateTime" : "02/06/24 14:30:10",
  "value" : {
    "bpm" : 70,
    "confidence" : 0
  }
},{
  "dateTime" : "02/06/24 14:30:15",
  "value" : {
    "bpm" : 63
  }
}]"#;
const SECOND_DAY: &str = "\u{feff}[{\"dateTime\":\"02/07/24 23:59:55\",\"value\":{\"bpm\":64,\"confidence\":1}},\n\
    {\"dateTime\":\"02/07/2024 23:59:56\",\"value\":{\"bpm\":\"65\",\"confidence\":3,\"extra\":[{}]},\"more\":null},\n\
    {\"dateTime\":\"2024-02-08T00:00:01Z\",\"value\":{\"bpm\":66.4,\"confidence\":null}},\n\
    {\"dateTime\":\"yesterday\",\"value\":{\"bpm\":67,\"confidence\":1}},\n\
    {\"value\":{\"bpm\":68,\"confidence\":1}},\n\
    {\"dateTime\":\"02/07/24 23:59:57\",\"value\":{\"confidence\":1}},\n\
    {\"dateTime\":\"02/07/24 23:59:58\",\"value\":69},\n\
    {\"dateTime\":\"02/07/24 23:59:59\",\"value\":{\"bpm\":0}},\n\
    7, null, {\"dateTime\"\n},\n\
    {\"dateTime\":\"02/07/24 00:00:00\",\"value\":{\"bpm\":1e400}},\n]\n";

/// Readings of both days with times in UTC.
const READINGS: [&str; 5] = [
    r#"Integer(1707229805000000)|Integer(62)|Null|Null|Text("Fitbit")"#,
    r#"Integer(1707229815000000)|Integer(63)|Null|Null|Text("Fitbit")"#,
    r#"Integer(1707350395000000)|Integer(64)|Null|Null|Text("Fitbit")"#,
    r#"Integer(1707350396000000)|Integer(65)|Null|Null|Text("Fitbit")"#,
    r#"Integer(1707350401000000)|Integer(66)|Null|Null|Text("Fitbit")"#,
];
const REJECTED: [&str; 9] = [
    "heart_rate-2024-02-07.json, line 4: dateTime: must be a date and time such as 02/06/24 14:30:05 (got \"yesterday\")",
    "heart_rate-2024-02-07.json, line 5: dateTime is missing",
    "heart_rate-2024-02-07.json, line 6: bpm is missing",
    "heart_rate-2024-02-07.json, line 7: is not a sample",
    "heart_rate-2024-02-07.json, line 8: bpm",
    "heart_rate-2024-02-07.json, line 9: is not a JSON object",
    "heart_rate-2024-02-07.json, line 9: is not a JSON object",
    "heart_rate-2024-02-07.json, line 9: is not a sample",
    "heart_rate-2024-02-07.json, line 11: is not a sample",
];
const UTC: [&str; 2] = ["--source-zone", "UTC"];

/// Files of an export; those of other kinds are left out.
fn files() -> Vec<(String, String)> {
    let data = "Takeout/Fitbit/Global Export Data";
    [
        (format!("{data}/heart_rate-2024-02-07.json"), SECOND_DAY),
        (
            format!("{data}/resting_heart_rate-2024-02-06.json"),
            "[{\"dateTime\":\"02/06/24\",\"value\":{\"bpm\":50}}]",
        ),
        (format!("{data}/steps-2024-02-06.json"), "[]"),
        (format!("{data}/heart_rate-2024-02-06.json"), FIRST_DAY),
        ("Takeout/archive_browser.html".to_owned(), "<html></html>"),
        ("Takeout/Fitbit/Other/export.db".to_owned(), "text"),
    ]
    .map(|(name, content)| (name, content.to_owned()))
    .to_vec()
}

fn write_folder(folder: &Path, files: &[(String, String)]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn write_zip(path: &Path, files: &[(String, String)]) {
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path).unwrap()));
    for (name, content) in files {
        archive.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap().flush().unwrap();
}

/// Returns the part of each line of rejected rows before the parser's own words and the content.
fn shortened(result: &CommandResult) -> Vec<String> {
    let known =
        |line: &str| REJECTED.iter().find(|known| line.starts_with(*known)).map(|known| (*known).to_owned());
    result.err.lines().map(|line| known(line).unwrap_or_else(|| line.to_owned())).collect()
}

#[test]
fn the_zip_and_every_folder_of_an_export_are_imported_once_in_the_order_of_the_days() {
    for input in
        ["takeout.zip", "Takeout", ".", "Takeout/Fitbit/Global Export Data", "Takeout/Fitbit/", "--format"]
    {
        let folder = temporary_folder();
        write_folder(folder.path(), &files());
        write_zip(&folder.path().join("takeout.zip"), &files());
        let (input, args) = match input {
            "--format" => ("takeout.zip", &["--source-zone", "UTC", "--format", "fitbit"][..]),
            input => (input, &UTC[..]),
        };
        let dry = import_file(folder.path(), input, &[args, &["--dry-run"]].concat());
        assert!(summary(&dry).contains("5 readings would be added"), "{dry:?}");
        assert!(!folder.path().join("coffee.db").exists());
        for (added, skipped) in [(5, 0), (0, 5)] {
            let result = import_file(folder.path(), input, args);
            assert_eq!(
                summary(&result),
                format!(
                    "{input}: 0 coffees and {added} readings added, {skipped} duplicates skipped, 9 rows rejected, \
                     1 record of an unsupported type ignored"
                )
            );
            assert_eq!(shortened(&result), REJECTED);
            assert_eq!(readings_by_time(folder.path()), READINGS);
            let by_id =
                number(&database(folder.path()), "select bpm from heart_rate_logs order by id limit 1");
            assert_eq!(by_id, 62, "the first day is not imported first");
        }
    }
}

#[test]
fn a_single_file_is_imported_by_its_content_also_compressed_and_from_standard_input() {
    let mut compressed = GzEncoder::new(Vec::new(), Compression::fast());
    compressed.write_all(FIRST_DAY.as_bytes()).unwrap();
    for content in [FIRST_DAY.as_bytes(), &compressed.finish().unwrap()] {
        for input in ["file", "-"] {
            let folder = temporary_folder();
            fs::write(folder.path().join("file"), content).unwrap();
            let mut command = program(folder.path());
            command.args(["import", input, "--database-url", "coffee.db"]).args(UTC);
            let result = run(command.stdin(File::open(folder.path().join("file")).unwrap()));
            assert!(summary(&result).contains("2 readings added"), "{result:?}");
            assert_eq!(result.err, "");
            assert_eq!(readings_by_time(folder.path()), READINGS[..2]);
        }
    }
}

#[test]
fn times_are_in_the_given_zone_or_in_utc_which_is_then_printed() {
    let notice =
        "the times of this export have no time zone and are read as UTC; use --source-zone for another one\n";
    for (args, first, err) in [
        (&[][..], "1707229805000000", notice),
        (&["--quiet"], "1707229805000000", ""),
        (&["--source-zone", "America/New_York"], "1707247805000000", ""),
        (&["--source-zone", "Europe/Berlin"], "1707226205000000", ""),
    ] {
        for input in ["heart_rate-2024-02-06.json", "days"] {
            let folder = temporary_folder();
            let files = ["heart_rate-2024-02-06.json", "days/heart_rate-2024-02-06.json"];
            write_folder(folder.path(), &files.map(|name| (name.to_owned(), FIRST_DAY.to_owned())));
            let result = import_file(folder.path(), input, args);
            assert_eq!((result.code, result.err.as_str()), (Some(0), err), "{result:?}");
            let expected = [
                format!("Integer({first})"),
                format!("Integer({})", first.parse::<i64>().unwrap() + 10_000_000),
            ];
            let times: Vec<_> = readings_by_time(folder.path())
                .iter()
                .map(|reading| reading.split('|').next().unwrap().to_owned())
                .collect();
            assert_eq!(times, expected, "{args:?}");
        }
    }
    let folder = temporary_folder();
    let result = import_file(folder.path(), "file", &["--source-zone", "Mars/Olympus"]);
    assert_eq!(result.code, Some(2), "{result:?}");
    assert!(result.err.contains("must be a time zone such as Europe/Berlin"), "{result:?}");
    // Times of other formats without an offset, too.
    fs::write(folder.path().join("file"), "timestamp,bpm\n2024-02-06 14:30:05,62\n").unwrap();
    let result = import_file(folder.path(), "file", &UTC);
    assert_eq!((result.code, result.err.as_str()), (Some(0), ""));
    assert_eq!(
        number(&database(folder.path()), "select timestamp from heart_rate_logs"),
        1_707_229_805_000_000
    );
}

/// Runs the import in a terminal with these lines of input; returns its output.
fn import_in_terminal(folder: &Path, answers: &str) -> String {
    let binary = crate::helpers::program_path();
    let mut command = Command::new("script");
    let line = format!("'{}' import file --database-url coffee.db", binary.to_str().unwrap());
    command.args(["-qec", &line, "/dev/null"]).env_clear().env("TZ", "Europe/Berlin").current_dir(folder);
    fs::write(folder.join("answers"), answers).unwrap();
    command.stdin(File::open(folder.join("answers")).unwrap());
    run(&mut command).out
}

#[test]
fn on_a_terminal_the_command_prompts_for_the_zone() {
    if Command::new("script").arg("--version").output().is_err() {
        return crate::helpers::report_skipped("script is not installed");
    }
    for (answers, first) in [
        ("\n", 1_707_229_805_000_000),
        ("Mars\nEurope/Berlin\n", 1_707_226_205_000_000),
        ("America/New_York\n", 1_707_247_805_000_000_i64),
    ] {
        let folder = temporary_folder();
        fs::write(folder.path().join("file"), FIRST_DAY).unwrap();
        let output = import_in_terminal(folder.path(), answers);
        let question = "Time zone of the times in this export, such as Europe/Berlin [UTC]: ";
        assert_eq!(output.matches(question).count(), answers.lines().count(), "{output}");
        assert_eq!(output.contains("must be a time zone such as"), answers.contains("Mars"), "{output}");
        let time = number(&database(folder.path()), "select min(timestamp) from heart_rate_logs");
        assert_eq!(time, first, "{output}");
    }
}

#[test]
fn a_broken_file_costs_only_its_rest_and_is_named() {
    let sample = r#"{"dateTime":"02/06/24 14:30:05","value":{"bpm":62,"confidence":2}}"#;
    let files = [
        ("heart_rate-2024-02-01.json", format!("[\n{sample}")),
        ("heart_rate-2024-02-02.json", "{}".to_owned()),
        ("heart_rate-2024-02-03.json", format!("[{}]", sample.replace(":05", ":06"))),
        (
            "heart_rate-2024-02-04.json",
            format!("[\"{}\", {}]", "x".repeat(100_000), sample.replace(":05", ":07")),
        ),
        ("heart_rate-2024-02-05.json", String::new()),
    ]
    .map(|(name, content)| (name.to_owned(), content));
    for input in ["days", "days.zip"] {
        let folder = temporary_folder();
        fs::create_dir(folder.path().join("days")).unwrap();
        write_folder(&folder.path().join("days"), &files);
        write_zip(&folder.path().join("days.zip"), &files);
        let result = import_file(folder.path(), input, &UTC);
        assert_eq!(result.code, Some(1), "{result:?}");
        assert!(result.out.contains("2 readings added, 0 duplicates skipped, 1 row rejected"), "{result:?}");
        let mut lines = result.err.lines();
        let rejected = lines.next().unwrap();
        assert!(
            rejected.starts_with("heart_rate-2024-02-04.json, line 1: is longer than 65536 bytes: \"xxx"),
            "{rejected}"
        );
        assert_eq!(
            lines.next(),
            Some(&*format!(
                "coffee-tracker: {input}: heart_rate-2024-02-01.json: reading stopped at line 2: the end of the list is \
                     missing (and 2 others could not be read completely)"
            ))
        );
        assert_eq!(lines.next(), None);
    }
}

#[test]
fn folders_and_lists_of_other_programs_are_rejected_with_advice() {
    let folder = temporary_folder();
    fs::create_dir(folder.path().join("empty")).unwrap();
    for (input, args, message) in [
        (
            "empty",
            &[][..],
            "empty: is a folder without files of heart rates from a Fitbit export (heart_rate-YYYY-MM-DD.json)",
        ),
        ("empty", &["--format", "csv"], "empty: is a folder"),
    ] {
        let result = import_file(folder.path(), input, args);
        assert_eq!((result.code, result.err), (Some(1), format!("coffee-tracker: {message}\n")));
    }
    std::os::unix::fs::symlink(folder.path(), folder.path().join("empty/loop")).unwrap();
    assert_eq!(import_file(folder.path(), "empty", &[]).code, Some(1));
}

/// Writes files of heart rates, one a day with a sample every five seconds, to `write`.
fn generate_days(samples: u32, mut write: impl FnMut(&str, &str)) {
    const A_DAY: u32 = 17_280;
    let mut day = String::new();
    for n in 0..samples {
        let (date, within) = (n / A_DAY, n % A_DAY * 5);
        let (month, day_of_month, year) = (date / 28 % 12 + 1, date % 28 + 1, date / 336);
        day.push_str(if day.is_empty() { "[" } else { "," });
        day.push_str(&format!(
            "{{\n  \"dateTime\" : \"{month:02}/{day_of_month:02}/{year:02} {:02}:{:02}:{:02}\",\n  \"value\" : {{\n    \
             \"bpm\" : {},\n    \"confidence\" : 3\n  }}\n}}",
            within / 3600,
            within / 60 % 60,
            within % 60,
            50 + n % 100
        ));
        if n % A_DAY == A_DAY - 1 || n == samples - 1 {
            day.push(']');
            write(&format!("heart_rate-20{year:02}-{month:02}-{day_of_month:02}.json"), &day);
            day.clear();
        }
    }
}

/// Writes a zip with these samples and with `others` files of other kinds.
fn write_large_zip(path: &Path, samples: u32, others: u32) {
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path).unwrap()));
    let options = SimpleFileOptions::default().compression_level(Some(1));
    for n in 0..others {
        let name = format!("Takeout/Fitbit/Global Export Data/calories-of-another-kind-{n:06}.json");
        archive.start_file(name, options).unwrap();
    }
    generate_days(samples, |name, content| {
        archive.start_file(format!("Takeout/Fitbit/Global Export Data/{name}"), options).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    });
    archive.finish().unwrap().flush().unwrap();
}

#[test]
fn a_large_export_takes_little_memory() {
    let folder = temporary_folder();
    write_large_zip(&folder.path().join("file"), 600_000, 15_000);
    let (result, peak) = import_measured(folder.path());
    assert!(result.out.contains("600,000 readings added"), "{result:?}");
    assert!(peak > 1024 && peak < MEMORY_LIMIT_KIB, "{peak} KiB");
}

#[test]
fn a_single_huge_list_takes_little_memory() {
    let folder = temporary_folder();
    let mut file = BufWriter::new(File::create(folder.path().join("file")).unwrap());
    file.write_all(FIRST_DAY.trim_end_matches(']').as_bytes()).unwrap();
    file.write_all(b",").unwrap();
    let blanks = " ".repeat(1 << 20);
    for _ in 0..100 {
        file.write_all(blanks.as_bytes()).unwrap();
    }
    file.write_all(b"{\"x\": \"").unwrap();
    for _ in 0..100 {
        file.write_all(blanks.as_bytes()).unwrap();
    }
    file.write_all(b"\"}]").unwrap();
    file.into_inner().unwrap();
    let (result, peak) = import_measured(folder.path());
    assert!(result.out.contains("2 readings added, 0 duplicates skipped, 1 row rejected"), "{result:?}");
    assert!(peak > 1024 && peak < MEMORY_LIMIT_KIB, "{peak} KiB");
}

#[test]
fn repeating_a_killed_import_gives_the_result_of_an_uninterrupted_one() {
    let whole = temporary_folder();
    write_large_zip(&whole.path().join("takeout.zip"), 60_000, 0);
    assert!(summary(&import_file(whole.path(), "takeout.zip", &UTC)).contains("60,000 readings added"));
    for step in [Some("import.batch"), Some("import.batch:2"), Some("import.end"), None] {
        let folder = temporary_folder();
        fs::copy(whole.path().join("takeout.zip"), folder.path().join("takeout.zip")).unwrap();
        let mut command = program(folder.path());
        command.args(["import", "takeout.zip", "--database-url", "coffee.db"]).args(UTC);
        if let Some(step) = step {
            command.env("COFFEE_TRACKER_KILL_AT", step);
        }
        let running = Process::spawn(&mut command);
        if step.is_none() {
            wait_until("the database is created", || folder.path().join("coffee.db").exists());
            kill_process(running.pid(), Signal::KILL).unwrap();
        }
        let killed = running.wait();
        assert!(step.is_none() || killed.signal == Some(9), "{step:?}: {killed:?}");
        assert_eq!(import_file(folder.path(), "takeout.zip", &UTC).code, Some(0));
        assert!(
            readings_by_time(folder.path()) == readings_by_time(whole.path()),
            "{step:?}: the results differ"
        );
    }
}
