//! The write-ahead log in a trace: which commit carries what, and when it was synced.

use std::collections::HashMap;

use crate::trace::{Event, Trace, What};

/// Bytes of a frame's header, and of a frame with its page of 4096.
const FRAME_HEAD: usize = 24;
const FRAME: usize = FRAME_HEAD + 4096;
/// Bytes before the first frame.
const LOG_HEAD: usize = 32;

/// A transaction in the log.
#[derive(Debug)]
pub struct Commit {
    /// Who wrote it.
    pub process: u64,
    /// Where its first frame stands in the trace, and where its last.
    pub first: usize,
    pub last: usize,
    /// Where the first sync ended that had begun after its last frame.
    pub synced: Option<usize>,
}

/// All commits of a trace, in order.
#[derive(Debug)]
pub struct Log {
    pub commits: Vec<Commit>,
    /// The commit that first carried a coffee's notes.
    by_notes: HashMap<String, usize>,
}

/// The number of pages after a commit, in the header of its last frame; 0 in any other header.
fn frame_head(event: &Event) -> Option<u32> {
    let What::Written { offset, bytes } = &event.what else { return None };
    let is_head =
        bytes.len() == FRAME_HEAD && *offset >= LOG_HEAD && (offset - LOG_HEAD).is_multiple_of(FRAME);
    is_head.then(|| u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]))
}

/// Every `c3-00017. first` and `c3-00017. again` in a page.
fn notes_in(page: &[u8]) -> impl Iterator<Item = String> + '_ {
    const NAME: usize = "c3-00017.".len();
    let ends = page.windows(6).enumerate().filter(|(_, end)| *end == b" first" || *end == b" again");
    ends.filter_map(|(at, _)| String::from_utf8(page.get(at.checked_sub(NAME)?..at + 6)?.to_vec()).ok())
}

impl Log {
    /// Reads the log of the database `coffee.db`.
    pub fn of(trace: &Trace) -> Self {
        let mut log = Self { commits: Vec::new(), by_notes: HashMap::new() };
        let (mut first, mut is_last) = (None, false);
        let mut syncs: HashMap<u64, usize> = HashMap::new();
        for (position, event) in trace.events_of("coffee.db-wal") {
            match &event.what {
                What::SyncBegan => drop(syncs.insert(event.thread, log.commits.len())),
                What::SyncEnded => {
                    let covered = syncs.remove(&event.thread).expect("it began");
                    let unsynced = log.commits[..covered].iter_mut().rev();
                    let unsynced = unsynced.take_while(|commit| commit.synced.is_none());
                    unsynced.for_each(|commit| commit.synced = Some(position));
                }
                What::Written { bytes, .. } => match frame_head(event) {
                    Some(pages) => {
                        first.get_or_insert(position);
                        is_last = pages != 0;
                    }
                    None => {
                        for notes in notes_in(bytes) {
                            log.by_notes.entry(notes).or_insert(log.commits.len());
                        }
                        if let (true, Some(first)) = (is_last, first) {
                            let process = event.process;
                            log.commits.push(Commit { process, first, last: position, synced: None });
                        }
                        if is_last {
                            (first, is_last) = (None, false);
                        }
                    }
                },
                _ => {}
            }
        }
        log
    }

    /// The commit that first carried these notes of a coffee.
    pub fn commit_of(&self, notes: &str) -> Option<&Commit> {
        self.by_notes.get(notes).and_then(|n| self.commits.get(*n))
    }
}
