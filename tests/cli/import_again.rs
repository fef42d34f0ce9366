//! `import` of entries that are already stored: the time is proportional to the number of rows, not to its square, and the memory
//! does not depend on the ids.

use std::fmt::Write;

use crate::helpers::{database, number, temporary_folder};
use crate::import::{import, summary};
use crate::import_memory::import_measured;

#[test]
fn equal_rows_are_deduplicated_one_for_one() {
    let folder = temporary_folder();
    let coffees =
        |count: usize| format!("timestamp,caffeine_mg\n{}", "2025-07-23T14:30:00Z,95\n".repeat(count));
    let readings = |count: usize| format!("timestamp,bpm\n{}", "2025-07-23T14:30:00Z,60\n".repeat(count));
    for (file, expected) in [
        (coffees(20_000), "20,000 coffees and 0 readings added, 0 duplicates"),
        (coffees(20_000), "0 coffees and 0 readings added, 20,000 duplicates"),
        // Rows without a stored counterpart are not slower.
        (coffees(40_000), "20,000 coffees and 0 readings added, 20,000 duplicates"),
        (readings(20_000), "0 coffees and 20,000 readings added, 0 duplicates"),
        (readings(20_001), "0 coffees and 1 reading added, 20,000 duplicates"),
    ] {
        let result = import(folder.path(), file, &[]);
        assert!(summary(&result).contains(expected), "{result:?}");
    }
}

#[test]
fn different_rows_with_equal_timestamps_are_deduplicated() {
    let folder = temporary_folder();
    let rows = (0..30_000).map(|n| format!("2025-07-23T14:30:00Z,95,number {n}\n"));
    let file = format!("timestamp,caffeine_mg,notes\n{}", rows.collect::<String>());
    import(folder.path(), &file, &[]);
    let again = import(folder.path(), &file, &[]);
    assert!(summary(&again).contains("0 coffees and 0 readings added, 30,000 duplicates"), "{again:?}");
}

#[test]
fn interleaved_groups_of_equal_rows_are_deduplicated_separately() {
    let folder = temporary_folder();
    let row = |kind: usize| format!("2025-07-23T14:30:00Z,{},{}\n", kind % 3, ["a", "b"][kind % 2]);
    let file = |kinds: &mut dyn Iterator<Item = usize>| {
        let rows: String = kinds.map(row).collect();
        format!("timestamp,caffeine_mg,coffee_type\n{rows}")
    };
    import(folder.path(), file(&mut (0..60)), &[]);
    // Ten rows of each of the six kinds are stored. First five of each, then ten of each and one more.
    let half = import(folder.path(), file(&mut (0..30).rev()), &[]);
    assert!(summary(&half).contains("0 coffees and 0 readings added, 30 duplicates"), "{half:?}");
    let more = import(folder.path(), file(&mut (0..60).rev().chain([4])), &[]);
    assert!(summary(&more).contains("1 coffee and 0 readings added, 60 duplicates"), "{more:?}");
    let counted = "select count(*) from coffee_logs where caffeine_mg = 1 and coffee_type = 'a'";
    assert_eq!(number(&database(folder.path()), counted), 11);
}

#[test]
fn sparse_ids_use_little_memory() {
    let folder = temporary_folder();
    let mut file = "id,timestamp,bpm\n".to_owned();
    for n in 1..=100_000_u64 {
        let (hour, minute, second) = (n / 3600 % 24, n / 60 % 60, n % 60);
        let day = 1 + n / 86_400;
        writeln!(file, "{},2025-07-{day:02}T{hour:02}:{minute:02}:{second:02}Z,60", n * 5000).unwrap();
    }
    std::fs::write(folder.path().join("file"), file).unwrap();
    let import_peak = || {
        let (result, peak) = import_measured(folder.path());
        assert_eq!(result.code, Some(0), "{result:?}");
        peak
    };
    let (first, second) = (import_peak(), import_peak());
    assert_eq!(number(&database(folder.path()), "select max(id) from heart_rate_logs"), 500_000_000);
    println!("{first} KiB for new rows, {second} KiB for duplicates");
    assert!(second < first + (16 << 10), "{second} KiB for duplicates, {first} KiB for new rows");
}
