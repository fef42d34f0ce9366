//! Parser of the traces that `recorder.c` writes.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Size of a record header: six 64-bit numbers.
const HEADER: usize = 48;

/// A folder entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub name: String,
    pub inode: u64,
    pub is_folder: bool,
}

/// Kind of an event, with its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A new, empty file was created.
    Created,
    Truncated {
        length: usize,
    },
    Written {
        offset: usize,
        bytes: Vec<u8>,
    },
    SyncStarted,
    SyncCompleted,
    /// Current entries of a folder.
    FolderListed(Vec<Name>),
    /// Data about to be sent to a socket.
    ResponseSent(Vec<u8>),
    /// Data about to be written to standard output.
    Printed(Vec<u8>),
    /// Marker written by the test.
    Marker(String),
}

/// A recorded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub process: u64,
    pub thread: u64,
    /// Inode of the file or folder; 0 for a marker.
    pub inode: u64,
    pub kind: EventKind,
}

/// All recorded events, in order.
#[derive(Clone, Debug)]
pub struct Trace {
    pub events: Vec<Event>,
    /// Inode of the recorded folder.
    pub root: u64,
}

/// Positions of the first and the last event of a command.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub started: usize,
    pub finished: usize,
}

/// Encodes a marker as a record.
pub fn mark(text: &str) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER + text.len());
    for number in [u64::from(b'M'), text.len() as u64, u64::from(std::process::id()), 0, 0, 0] {
        record.extend(number.to_ne_bytes());
    }
    record.extend(text.as_bytes());
    record
}

fn names(listing: &[u8]) -> Vec<Name> {
    let listing = std::str::from_utf8(listing).unwrap();
    let name = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let inode = parts.next().unwrap().parse().unwrap();
        let is_folder = parts.next() == Some("d");
        Name { name: parts.next().unwrap().to_owned(), inode, is_folder }
    };
    listing.lines().map(name).collect()
}

impl Trace {
    /// Parses the records of a trace of `folder`.
    pub fn parse(mut records: &[u8], folder: &Path) -> Self {
        let mut events = Vec::new();
        while let Some((header, rest)) = records.split_at_checked(HEADER) {
            let number = |n: usize| u64::from_ne_bytes(header[n * 8..n * 8 + 8].try_into().unwrap());
            let as_size = |n: usize| usize::try_from(number(n)).unwrap();
            let (payload, rest) = rest.split_at(as_size(1));
            records = rest;
            let kind = match u8::try_from(number(0)).unwrap() {
                b'B' => EventKind::Created,
                b'T' => EventKind::Truncated { length: as_size(5) },
                b'W' => EventKind::Written { offset: as_size(5), bytes: payload.to_vec() },
                b'S' => EventKind::SyncStarted,
                b'E' => EventKind::SyncCompleted,
                b'L' => EventKind::FolderListed(names(payload)),
                b'A' => EventKind::ResponseSent(payload.to_vec()),
                b'O' => EventKind::Printed(payload.to_vec()),
                b'M' => EventKind::Marker(String::from_utf8(payload.to_vec()).unwrap()),
                other => panic!("the trace has a record of kind {other}"),
            };
            events.push(Event { process: number(2), thread: number(3), inode: number(4), kind });
        }
        assert!(records.is_empty(), "the trace ends in the middle of a record");
        Self { events, root: std::fs::metadata(folder).unwrap().ino() }
    }

    /// Returns the span from the marker `name` to the first output of the command that follows it.
    pub fn command(&self, name: &str) -> Span {
        let is_marker = |event: &Event| matches!(&event.kind, EventKind::Marker(text) if text == name);
        let started = self.events.iter().position(is_marker).unwrap_or_else(|| panic!("no marker {name:?}"));
        let is_print = |event: &Event| matches!(event.kind, EventKind::Printed(_));
        let output = self.events[started..].iter().position(is_print).expect("the command prints a result");
        Span { started, finished: started + output }
    }

    /// Returns the position of every successful response, by request id.
    pub fn responses(&self) -> HashMap<String, usize> {
        let mut responses = HashMap::new();
        for (position, event) in self.events.iter().enumerate() {
            let EventKind::ResponseSent(bytes) = &event.kind else { continue };
            let text = String::from_utf8_lossy(bytes);
            if !text.starts_with("HTTP/1.1 2") {
                continue;
            }
            let id = text.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("X-Request-ID").then(|| value.to_owned())
            });
            responses.insert(id.expect("every response has an id"), position);
        }
        responses
    }

    /// Returns the trace without the syncs of a file since the event `from`, as if the program had not requested them.
    pub fn without_syncs_of(&self, name: &str, from: usize) -> Self {
        let mut tracker = NameTracker::new(name);
        let is_sync = |event: &Event| matches!(event.kind, EventKind::SyncStarted | EventKind::SyncCompleted);
        let mut kept = self.events.clone();
        let mut position = 0;
        kept.retain(|event| {
            position += 1;
            !(tracker.matches(event) && is_sync(event) && position > from)
        });
        Self { events: kept, root: self.root }
    }

    /// Returns the events of a file with their positions.
    pub fn events_of<'t>(&'t self, name: &str) -> Vec<(usize, &'t Event)> {
        let mut tracker = NameTracker::new(name);
        self.events.iter().enumerate().filter(|(_, event)| tracker.matches(event)).collect()
    }
}

/// Tracks the inode that a file name refers to.
struct NameTracker<'n> {
    name: &'n str,
    inode: Option<u64>,
}

impl<'n> NameTracker<'n> {
    fn new(name: &'n str) -> Self {
        Self { name, inode: None }
    }

    fn matches(&mut self, event: &Event) -> bool {
        if let EventKind::FolderListed(names) = &event.kind
            && let Some(found) = names.iter().find(|entry| entry.name == self.name)
        {
            self.inode = Some(found.inode);
        }
        self.inode == Some(event.inode)
    }
}
