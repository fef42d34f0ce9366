//! The write-ahead log of a trace: contents of each commit, and when it was synced.

use std::collections::HashMap;

use crate::trace::{Event, EventKind, Trace};

/// Size of a frame header, and of a frame with its page of 4096 bytes.
const FRAME_HEADER: usize = 24;
const FRAME: usize = FRAME_HEADER + 4096;
/// Size of the WAL header.
const WAL_HEADER: usize = 32;

/// A transaction in the WAL.
#[derive(Debug)]
pub struct Commit {
    /// Process id of the writer.
    pub process: u64,
    /// Positions of its first and last frame in the trace.
    pub first: usize,
    pub last: usize,
    /// Position where the first sync that started after the last frame completed.
    pub synced: Option<usize>,
}

/// All commits of a trace, in order.
#[derive(Debug)]
pub struct Wal {
    pub commits: Vec<Commit>,
    /// Index of the first commit that contains a coffee's notes.
    by_notes: HashMap<String, usize>,
}

/// Parses a frame header: the database size in pages in the last frame of a commit, otherwise 0.
fn frame_header(event: &Event) -> Option<u32> {
    let EventKind::Written { offset, bytes } = &event.kind else { return None };
    let is_header =
        bytes.len() == FRAME_HEADER && *offset >= WAL_HEADER && (offset - WAL_HEADER).is_multiple_of(FRAME);
    is_header.then(|| u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]))
}

/// Finds every `c3-00017. first` and `c3-00017. again` in a page.
fn notes_in(page: &[u8]) -> impl Iterator<Item = String> + '_ {
    const NAME: usize = "c3-00017.".len();
    let ends = page.windows(6).enumerate().filter(|(_, end)| *end == b" first" || *end == b" again");
    ends.filter_map(|(at, _)| String::from_utf8(page.get(at.checked_sub(NAME)?..at + 6)?.to_vec()).ok())
}

impl Wal {
    /// Parses the WAL of `coffee.db`.
    pub fn parse(trace: &Trace) -> Self {
        let mut wal = Self { commits: Vec::new(), by_notes: HashMap::new() };
        let (mut first, mut is_last) = (None, false);
        let mut syncs: HashMap<u64, usize> = HashMap::new();
        for (position, event) in trace.events_of("coffee.db-wal") {
            match &event.kind {
                EventKind::SyncStarted => drop(syncs.insert(event.thread, wal.commits.len())),
                EventKind::SyncCompleted => {
                    let covered = syncs.remove(&event.thread).expect("the sync started");
                    let unsynced = wal.commits[..covered].iter_mut().rev();
                    let unsynced = unsynced.take_while(|commit| commit.synced.is_none());
                    unsynced.for_each(|commit| commit.synced = Some(position));
                }
                EventKind::Written { bytes, .. } => match frame_header(event) {
                    Some(pages) => {
                        first.get_or_insert(position);
                        is_last = pages != 0;
                    }
                    None => {
                        for notes in notes_in(bytes) {
                            wal.by_notes.entry(notes).or_insert(wal.commits.len());
                        }
                        if let (true, Some(first)) = (is_last, first) {
                            let process = event.process;
                            wal.commits.push(Commit { process, first, last: position, synced: None });
                        }
                        if is_last {
                            (first, is_last) = (None, false);
                        }
                    }
                },
                _ => {}
            }
        }
        wal
    }

    /// Returns the first commit that contains these notes.
    pub fn commit_of(&self, notes: &str) -> Option<&Commit> {
        self.by_notes.get(notes).and_then(|n| self.commits.get(*n))
    }
}
