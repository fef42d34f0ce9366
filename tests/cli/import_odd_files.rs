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
