//! Limits for imported doses and heart rates: those of new entries, in every format.

use std::fs;

use crate::helpers::{database, number, temporary_folder};
use crate::import::{import, import_file, summary};
use crate::import_memory::{AT, assert_counts, create_docker_stack_database};

#[test]
fn values_outside_the_limits_of_requests_are_rejected_unless_allowed() {
    let rows: String = [1000.0, 1000.5, 99_999.0]
        .iter()
        .map(|mg| format!("{AT},{mg},\n"))
        .chain([29, 30, 250, 251].iter().map(|bpm| format!("{AT},,{bpm}\n")))
        .collect();
    let content = format!("timestamp,caffeine_mg,bpm\n{rows}");
    let refused = temporary_folder();
    let result = import(refused.path(), &content, &["--rejects", "rejects.csv"]);
    assert_counts(&result, 1, 2, 4, 0);
    assert_eq!(
        result.err,
        format!(
            "line 3: caffeine_mg: 1000.5 is above MAX_CAFFEINE_MG (1000): {AT},1000.5,\n\
             line 4: caffeine_mg: 99999 is above MAX_CAFFEINE_MG (1000): {AT},99999,\n\
             line 5: bpm: 29 is below MIN_HEART_RATE_BPM (30): {AT},,29\n\
             line 8: bpm: 251 is above MAX_HEART_RATE_BPM (250): {AT},,251\n\
             4 rejected rows are outside the limits for new entries; use --accept-out-of-range to import them\n"
        )
    );
    let rejects = fs::read_to_string(refused.path().join("rejects.csv")).unwrap();
    assert_eq!(rejects.lines().count(), 5, "{rejects}");
    assert!(rejects.contains("3,caffeine_mg: 1000.5 is above MAX_CAFFEINE_MG (1000),"), "{rejects}");

    let again = import(refused.path(), &content, &["--accept-out-of-range"]);
    assert_eq!(
        summary(&again),
        "file: 2 coffees and 2 readings added, 3 duplicates skipped, 0 rows rejected"
    );
    assert_eq!(again.err, "");
    let stored = database(refused.path());
    assert_eq!(number(&stored, "select sum(caffeine_mg) = 101999.5 from coffee_logs"), 1);
}

#[test]
fn import_uses_the_configured_limits() {
    let content = format!("timestamp,caffeine_mg,bpm\n{AT},90,\n{AT},210,\n{AT},,45\n{AT},,300\n");
    let folder = temporary_folder();
    let limits = ["--max-caffeine-mg", "100", "--min-heart-rate-bpm", "50", "--max-heart-rate-bpm", "400"];
    let result = import(folder.path(), &content, &limits);
    assert_counts(&result, 1, 1, 2, 0);
    let wrong = import(folder.path(), &content, &["--max-caffeine-mg", "much", "--min-heart-rate-bpm", "0"]);
    assert_eq!(wrong.code, Some(78), "{wrong:?}");
    assert!(wrong.err.contains("2 invalid settings"), "{}", wrong.err);
}

#[test]
fn the_limits_apply_to_every_format() {
    let apple = "<HealthData>\n<Record type=\"HKQuantityTypeIdentifierDietaryCaffeine\" unit=\"g\" \
                 startDate=\"2025-07-23 14:30:00 +0000\" value=\"99\"/>\n</HealthData>\n";
    let jsonl = format!("{{\"timestamp\": \"{AT}\", \"bpm\": 999}}\n");
    let copied = "COPY public.coffee_logs (id, \"timestamp\", caffeine_mg) FROM stdin;\n1\t2025-07-23 14:30:00+00\t99000\n\\.\n";
    for (content, reason) in [
        (apple, "line 2: caffeine_mg: 99000 is above MAX_CAFFEINE_MG (1000)"),
        (&jsonl, "line 1: bpm: 999 is above MAX_HEART_RATE_BPM (250)"),
        (copied, "line 2: caffeine_mg: 99000 is above MAX_CAFFEINE_MG (1000)"),
    ] {
        let folder = temporary_folder();
        let result = import(folder.path(), content, &[]);
        assert_eq!(result.code, Some(1), "{content}: {result:?}");
        assert!(result.err.starts_with(reason), "{}", result.err);
        assert!(result.err.contains("1 rejected row is outside the limits"), "{}", result.err);
        assert!(!folder.path().join("coffee.db").exists());
        assert_eq!(import(folder.path(), content, &["--accept-out-of-range"]).code, Some(0));
    }
    let folder = temporary_folder();
    create_docker_stack_database(&folder.path().join("file"))
        .execute_batch("insert into coffee_logs values (7, '2025-10-02 10:30:15', 5000, null, null)")
        .unwrap();
    let result = import_file(folder.path(), "file", &[]);
    assert!(
        result.err.starts_with("coffee_logs, id 7: caffeine_mg: 5000 is above MAX_CAFFEINE_MG (1000): 7|"),
        "{}",
        result.err
    );
    let accepted = import_file(folder.path(), "file", &["--accept-out-of-range"]);
    assert_counts(&accepted, 1, 0, 0, 0);
}

#[test]
fn hidden_rows_are_reported_without_any_of_their_values() {
    let folder = temporary_folder();
    let content = format!("timestamp,caffeine_mg,notes\n{AT},felt dizzy,secret\n{AT},-1,secret\n");
    let result = import(folder.path(), content, &["--hide-rows"]);
    assert_eq!(result.code, Some(1), "{result:?}");
    let reasons =
        "line 2: caffeine_mg: must be a number\nline 3: caffeine_mg: must be between 0 and 1000000\n";
    assert!(result.err.starts_with(reasons), "{result:?}");
    assert!(!result.err.contains("dizzy") && !result.err.contains("secret"), "{result:?}");
}
