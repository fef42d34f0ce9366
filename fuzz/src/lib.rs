//! Checks of the parsers of foreign data for arbitrary input. The fuzz targets run them with new inputs, and
//! `tests/corpus/` with those that were found.

use std::io;
use std::io::Read;
use std::path::Path;

use coffee_tracker::domain::calendar::Zone;
use coffee_tracker::domain::entry::Entry;
use coffee_tracker::domain::limits::{EntryLimits, ValidationContext};
use coffee_tracker::domain::time::Timestamp;
use coffee_tracker::fs::privileges::Identity;
use coffee_tracker::transfer::formats::input::{Input, ReadOptions};
use coffee_tracker::transfer::formats::sink::{ReadRow, Sink};
use coffee_tracker::transfer::formats::temp_copy::TempFolders;
use coffee_tracker::transfer::push::parsed_push::{ParsedPush, PushError};

/// Maximum number of metrics that are counted separately, and the one for all others.
const MAX_METRICS: usize = 101;
/// Maximum number of rejected samples that are described.
const MAX_REJECTIONS: usize = 20;
/// Time of the check, microseconds since 1970: 2025-07-23T12:00:00Z.
const NOW: i64 = 1_753_272_000_000_000;

/// Parser of a push.
pub type PushParser = fn(&mut dyn Read, &ValidationContext<'_>) -> Result<ParsedPush, PushError>;

/// Reader of at most `step` bytes at once.
struct Steps<'b> {
    rest: &'b [u8],
    step: usize,
}

impl Read for Steps<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.step);
        self.rest.read(&mut buffer[..length])
    }
}

/// Parses a body. What is accepted must be within the limits, whatever the pieces in which the body arrives.
pub fn check_push(body: &[u8], parse: PushParser) {
    let (limits, zone) = (EntryLimits::default(), Zone::utc());
    let now = Timestamp::clamped(NOW);
    let context = ValidationContext { limits: &limits, zone: &zone, now, latest: now };
    let in_steps = |step: usize| parse(&mut Steps { rest: body, step }, &context);
    let whole = in_steps(usize::MAX);
    let pieces = in_steps(7);
    match (&whole, &pieces) {
        (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces),
        (Err(whole), Err(pieces)) => assert_eq!(whole.to_string(), pieces.to_string()),
        _ => panic!("{whole:?} is not {pieces:?}"),
    }
    let Ok(push) = whole else { return };
    assert!(push.received() <= body.len() as u64);
    assert!(push.ignored.len() <= MAX_METRICS);
    assert!(push.rejected.len() <= MAX_REJECTIONS && push.rejected.len() as u64 <= push.rejected_count);
    for reading in &push.samples.readings {
        assert!((limits.min_bpm..=limits.max_bpm).contains(&reading.bpm.get()));
        assert!(reading.timestamp <= now);
        check_source(&reading.source);
    }
    for coffee in &push.samples.coffees {
        assert!((0.0..=limits.max_caffeine_mg).contains(&coffee.caffeine_mg.mg()));
        assert!(coffee.timestamp <= now);
        check_source(&coffee.source);
    }
}

fn check_source(source: &str) {
    assert!((1..=200).contains(&source.chars().count()) && source.trim() == source, "{source:?}");
}

/// Reads a file of any format. Entries must be within the limits, the file must stay as it was, and no other file may
/// appear beside it.
pub fn check_file(content: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("file");
    std::fs::write(&path, content).expect("room for the file");
    let limits = EntryLimits::default();
    let mut check = |row| {
        match row {
            ReadRow::Entry(entry) | ReadRow::Sample(entry) => check_entry(&entry, &limits),
            ReadRow::Rejected(rejection) => assert!(!rejection.reason.is_empty()),
            ReadRow::Unsupported => {}
        }
        Ok(())
    };
    if let Ok(input) = Input::open(&path, None, &TempFolders::beside(&path)) {
        let options =
            ReadOptions { format: None, mappings: Vec::new(), zone: Zone::utc(), caller: Identity::CALLER };
        drop(input.read(&options, &mut Sink::new(Some(&limits), &mut check)));
    }
    assert_eq!(std::fs::read(&path).ok().as_deref(), Some(content));
    assert_eq!(names(folder.path()), ["file"]);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder exists");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn check_entry(entry: &Entry, limits: &EntryLimits) {
    assert_eq!(limits.check(entry.amount), Ok(()));
    assert!((Timestamp::MIN..=Timestamp::MAX).contains(&entry.timestamp));
    let texts = [(&entry.label, 100), (&entry.notes, 1000), (&entry.source, 200)];
    for (text, max) in texts {
        let length = text.as_ref().map(|text| text.chars().count());
        assert!(length.is_none_or(|length| (1..=max).contains(&length)), "{text:?}");
    }
}
