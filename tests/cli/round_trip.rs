//! Round trips: an export can be imported, and the next export is equal byte for byte.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use crate::fixtures::{State, run_ok, state};
use crate::helpers::{Server, temporary_folder};

/// Adds entries with unusual texts, unordered timestamps, and gaps between the ids.
fn fill(folder: &Path) {
    Server::start(folder).stop_cleanly();
    let database = Connection::open(folder.join("coffee.db")).unwrap();
    let texts = [
        None,
        Some("plain"),
        Some("with, comma and \"quotes\""),
        Some("two\nlines\r\nand a tab\there"),
        Some("=SUM(A1:A9)"),
        Some("Überstunden ☕ 上海 \u{202f} \u{feff}x"),
        Some("\\N and \\n and '"),
    ];
    let mut random = fastrand::Rng::with_seed(5);
    for (n, id) in (0..2000_usize).zip(0_i64..) {
        let at = random.i64(-62_135_596_800_000_000..253_402_207_200_000_000);
        let at = if n % 7 == 0 { 1_700_000_000_000_000 } else { at };
        let text = |k: usize| texts[(n + k) % texts.len()];
        let mg = [0.0, 95.0, 62.5, 0.1 + 0.2, 1e6, f64::from(random.u32(..)) / 1e7][n % 6];
        database
            .execute(
                "insert into coffee_logs (id, timestamp, caffeine_mg, coffee_type, notes, source) values (?, ?, ?, ?, ?, ?)",
                (2 * id + 3, at, mg, text(0), text(1), text(3)),
            )
            .unwrap();
        database
            .execute(
                "insert into heart_rate_logs (id, timestamp, bpm, context, notes, source) values (?, ?, ?, ?, ?, ?)",
                (5000 - id, at, 1 + random.i64(0..1000), text(2), text(1), text(0)),
            )
            .unwrap();
    }
}

fn exported(folder: &Path, kind: &str, format: &str) -> Vec<u8> {
    let name = format!("{kind}.{format}");
    run_ok(folder, &["export", kind, "--format", format, "-o", &name, "--force"]);
    fs::read(folder.join(name)).unwrap()
}

#[test]
fn an_imported_export_is_exported_byte_for_byte_the_same() {
    let original = temporary_folder();
    fill(original.path());
    let wanted: State = state(&original.path().join("coffee.db")).unwrap();
    for format in ["csv", "jsonl"] {
        let copy = temporary_folder();
        let kinds = ["coffee", "heartrate"];
        let first = kinds.map(|kind| exported(original.path(), kind, format));
        for (kind, bytes) in kinds.iter().zip(&first) {
            let file = format!("in.{kind}");
            fs::write(copy.path().join(&file), bytes).unwrap();
            run_ok(copy.path(), &["import", &file, "--accept-out-of-range"]);
        }
        let again = kinds.map(|kind| exported(copy.path(), kind, format));
        assert!(first == again, "{format}");
        assert!(state(&copy.path().join("coffee.db")).unwrap() == wanted, "{format}: a row differs");
        // A second import adds nothing.
        run_ok(copy.path(), &["import", "in.coffee", "--accept-out-of-range"]);
        run_ok(copy.path(), &["import", "in.heartrate", "--accept-out-of-range"]);
        assert!(
            state(&copy.path().join("coffee.db")).unwrap() == wanted,
            "{format}: a second import added rows"
        );
    }
}
