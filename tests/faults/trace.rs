//! A trace, as `recorder.c` writes it: what happened, in order.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a record before its payload: six numbers.
const HEAD: usize = 48;

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub name: String,
    pub inode: u64,
    pub is_folder: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A new, empty file.
    Born,
    Truncated {
        length: usize,
    },
    Written {
        offset: usize,
        bytes: Vec<u8>,
    },
    SyncBegan,
    SyncEnded,
    /// A folder has these entries now.
    Listed(Vec<Name>),
    /// About to go to a socket.
    Answered(Vec<u8>),
    /// About to go to standard output.
    Printed(Vec<u8>),
    /// The test's own note.
    Marked(String),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub process: u64,
    pub thread: u64,
    /// Of the file or folder; 0 for a mark.
    pub inode: u64,
    pub what: What,
}

/// Everything that happened.
#[derive(Clone, Debug)]
pub struct Trace {
    pub events: Vec<Event>,
    /// Inode of the folder that was watched.
    pub root: u64,
}

/// From one event to another.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub began: usize,
    pub done: usize,
}

/// A record of the test's own.
pub fn mark(text: &str) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEAD + text.len());
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
    /// Reads the records of a trace that was made below `folder`.
    pub fn parse(mut records: &[u8], folder: &Path) -> Self {
        let mut events = Vec::new();
        while let Some((head, rest)) = records.split_at_checked(HEAD) {
            let number = |n: usize| u64::from_ne_bytes(head[n * 8..n * 8 + 8].try_into().unwrap());
            let as_size = |n: usize| usize::try_from(number(n)).unwrap();
            let (payload, rest) = rest.split_at(as_size(1));
            records = rest;
            let what = match u8::try_from(number(0)).unwrap() {
                b'B' => What::Born,
                b'T' => What::Truncated { length: as_size(5) },
                b'W' => What::Written { offset: as_size(5), bytes: payload.to_vec() },
                b'S' => What::SyncBegan,
                b'E' => What::SyncEnded,
                b'L' => What::Listed(names(payload)),
                b'A' => What::Answered(payload.to_vec()),
                b'O' => What::Printed(payload.to_vec()),
                b'M' => What::Marked(String::from_utf8(payload.to_vec()).unwrap()),
                other => panic!("the trace has a record of kind {other}"),
            };
            events.push(Event { process: number(2), thread: number(3), inode: number(4), what });
        }
        assert!(records.is_empty(), "the trace ends within a record");
        Self { events, root: std::fs::metadata(folder).unwrap().ino() }
    }

    /// When a command began that was run under this name, and when it said that it was done.
    pub fn command(&self, name: &str) -> Span {
        let is_mark = |event: &Event| matches!(&event.what, What::Marked(text) if text == name);
        let began = self.events.iter().position(is_mark).unwrap_or_else(|| panic!("no mark {name:?}"));
        let is_print = |event: &Event| matches!(event.what, What::Printed(_));
        let done = self.events[began..].iter().position(is_print).expect("it prints what it did");
        Span { began, done: began + done }
    }

    /// Every well-meant answer by the request id that it carries, and where it stands.
    pub fn answers(&self) -> HashMap<String, usize> {
        let mut answers = HashMap::new();
        for (position, event) in self.events.iter().enumerate() {
            let What::Answered(bytes) = &event.what else { continue };
            let text = String::from_utf8_lossy(bytes);
            if !text.starts_with("HTTP/1.1 2") {
                continue;
            }
            let id = text.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("X-Request-ID").then(|| value.to_owned())
            });
            answers.insert(id.expect("every answer has an id"), position);
        }
        answers
    }

    /// The same without the syncs of a file since the event `from`, as if the program had never
    /// asked for them.
    pub fn without_syncs_of(&self, name: &str, from: usize) -> Self {
        let mut here = Whereabouts::new(name);
        let is_sync = |event: &Event| matches!(event.what, What::SyncBegan | What::SyncEnded);
        let mut kept = self.events.clone();
        let mut position = 0;
        kept.retain(|event| {
            position += 1;
            !(here.is_it(event) && is_sync(event) && position > from)
        });
        Self { events: kept, root: self.root }
    }

    /// What happened to a file, with the places where it did.
    pub fn events_of<'t>(&'t self, name: &str) -> Vec<(usize, &'t Event)> {
        let mut here = Whereabouts::new(name);
        self.events.iter().enumerate().filter(|(_, event)| here.is_it(event)).collect()
    }
}

/// Follows a file's name from inode to inode.
struct Whereabouts<'n> {
    name: &'n str,
    inode: Option<u64>,
}

impl<'n> Whereabouts<'n> {
    fn new(name: &'n str) -> Self {
        Self { name, inode: None }
    }

    fn is_it(&mut self, event: &Event) -> bool {
        if let What::Listed(names) = &event.what
            && let Some(found) = names.iter().find(|entry| entry.name == self.name)
        {
            self.inode = Some(found.inode);
        }
        self.inode == Some(event.inode)
    }
}
