//! A disk as a trace tells it: what is certain to be on it, what is not yet, and what a power
//! cut may make of that.
//!
//! Of a file, what was written before its last sync is there; of later writes any sector, and
//! any truncation, may be there or not. A folder lists what it listed at its last sync, or at any
//! moment since. A file without a synced name may be gone with all its contents.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use crate::trace::{Event, What};

/// What a disk writes whole or not at all, bytes.
const SECTOR: usize = 512;

/// What becomes of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Everything,
    /// Everything in one file or folder, nothing in the others.
    OnlyOne,
    /// Here and there a sector, a truncation, a name.
    AnyPart,
}

/// Everything that lies on a disk, by its path below the root.
pub type Image<'a> = HashMap<PathBuf, Cow<'a, [u8]>>;

#[derive(Clone, Copy, Debug)]
enum Change<'t> {
    Truncated { length: usize },
    Written { offset: usize, bytes: &'t [u8] },
}

/// Changes that are durable, and those that wait for a sync.
#[derive(Debug)]
struct Synced<D, C> {
    durable: D,
    waiting: VecDeque<C>,
    /// How many changes became durable so far.
    done: usize,
}

impl<D: Default, C> Default for Synced<D, C> {
    fn default() -> Self {
        Self { durable: D::default(), waiting: VecDeque::new(), done: 0 }
    }
}

impl<D, C> Synced<D, C> {
    /// How many changes there were so far: a sync that begins now covers them.
    fn seen(&self) -> usize {
        self.done + self.waiting.len()
    }

    fn sync(&mut self, seen: usize, mut apply: impl FnMut(&mut D, C)) {
        while self.done < seen {
            let change = self.waiting.pop_front().expect("it waits");
            apply(&mut self.durable, change);
            self.done += 1;
        }
    }
}

type Contents<'t> = Synced<Vec<u8>, Change<'t>>;
type Names = Vec<(String, Node)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    /// Its place among the files.
    File(usize),
    /// Its inode.
    Folder(u64),
}

/// The disk at one moment of a trace.
#[derive(Debug)]
pub struct Disk<'t> {
    root: u64,
    /// Every file that ever was: a removal may be lost as well.
    files: Vec<Contents<'t>>,
    folders: HashMap<u64, Synced<Names, Names>>,
    /// Which file an inode's number means now.
    by_inode: HashMap<u64, usize>,
    /// Syncs that have begun, by thread and inode: how much they cover.
    syncs: HashMap<(u64, u64), usize>,
}

fn put(contents: &mut Vec<u8>, change: Change<'_>) {
    match change {
        Change::Truncated { length } => contents.resize(length, 0),
        Change::Written { offset, bytes } => {
            let end = offset + bytes.len();
            if contents.len() < end {
                contents.resize(end, 0);
            }
            contents[offset..end].copy_from_slice(bytes);
        }
    }
}

/// Puts those sectors of a write that `keep` chooses.
fn put_sectors(contents: &mut Vec<u8>, offset: usize, bytes: &[u8], mut keep: impl FnMut() -> bool) {
    let mut at = 0;
    while at < bytes.len() {
        let until = (SECTOR - (offset + at) % SECTOR + at).min(bytes.len());
        if keep() {
            put(contents, Change::Written { offset: offset + at, bytes: &bytes[at..until] });
        }
        at = until;
    }
}

impl<'t> Disk<'t> {
    /// An empty one.
    pub fn new(root: u64) -> Self {
        let folders = HashMap::from([(root, Synced::default())]);
        Self { root, files: Vec::new(), folders, by_inode: HashMap::new(), syncs: HashMap::new() }
    }

    /// Lets something happen to it.
    pub fn happen(&mut self, event: &'t Event) {
        let inode = event.inode;
        match &event.what {
            What::Born => {
                self.by_inode.insert(inode, self.files.len());
                self.files.push(Contents::default());
            }
            What::Truncated { length } => self.change(inode, Change::Truncated { length: *length }),
            What::Written { offset, bytes } => self.change(inode, Change::Written { offset: *offset, bytes }),
            What::SyncBegan => {
                let seen = match self.folders.get(&inode) {
                    Some(folder) => folder.seen(),
                    None => self.file(inode).seen(),
                };
                self.syncs.insert((event.thread, inode), seen);
            }
            What::SyncEnded => {
                // Unless its beginning was taken out of the trace.
                let Some(seen) = self.syncs.remove(&(event.thread, inode)) else { return };
                match self.folders.get_mut(&inode) {
                    Some(folder) => folder.sync(seen, |durable, names| *durable = names),
                    None => self.file(inode).sync(seen, put),
                }
            }
            What::Listed(names) => {
                let node = |inode: u64, is_folder: bool| match is_folder {
                    true => Node::Folder(inode),
                    false => Node::File(self.by_inode[&inode]),
                };
                let names = names.iter().map(|n| (n.name.clone(), node(n.inode, n.is_folder))).collect();
                let folder = self.folders.entry(inode).or_default();
                if folder.waiting.back().unwrap_or(&folder.durable) != &names {
                    folder.waiting.push_back(names);
                }
            }
            What::Answered(_) | What::Printed(_) | What::Marked(_) => {}
        }
    }

    fn file(&mut self, inode: u64) -> &mut Contents<'t> {
        let place = self.by_inode.get(&inode).expect("the recorder saw the file being made");
        &mut self.files[*place]
    }

    fn change(&mut self, inode: u64, change: Change<'t>) {
        self.file(inode).waiting.push_back(change);
    }

    /// Is everything durable? Then a power cut leaves one disk only.
    pub fn is_settled(&self) -> bool {
        self.files.iter().all(|file| file.waiting.is_empty())
            && self.folders.values().all(|folder| folder.waiting.is_empty())
    }

    /// The disk after a power cut at this moment.
    pub fn after_cut(&self, keep: Keep, random: &mut Rng) -> Image<'_> {
        let unsettled_files = (0..self.files.len()).filter(|n| !self.files[*n].waiting.is_empty());
        let unsettled_folders = self.folders.iter().filter(|(_, folder)| !folder.waiting.is_empty());
        let mut unsettled: Vec<Node> = unsettled_files.map(Node::File).collect();
        unsettled.extend(unsettled_folders.map(|(inode, _)| Node::Folder(*inode)));
        let lucky = if unsettled.is_empty() { None } else { random.choice(&unsettled).copied() };
        let of = |node: Node| match keep {
            Keep::OnlyOne if Some(node) == lucky => Keep::Everything,
            Keep::OnlyOne => Keep::Nothing,
            other => other,
        };
        let mut image = Image::new();
        let mut folders = vec![(PathBuf::new(), self.root)];
        while let Some((path, inode)) = folders.pop() {
            let Some(folder) = self.folders.get(&inode) else { continue };
            let later = match of(Node::Folder(inode)) {
                Keep::Everything => folder.waiting.len(),
                Keep::AnyPart => random.usize(0..=folder.waiting.len()),
                _ => 0,
            };
            let names = later.checked_sub(1).map_or(&folder.durable, |n| &folder.waiting[n]);
            for (name, node) in names {
                match node {
                    Node::Folder(inode) => folders.push((path.join(name), *inode)),
                    Node::File(n) => {
                        image.insert(path.join(name), self.contents(*n, of(*node), random));
                    }
                }
            }
        }
        image
    }

    fn contents(&self, place: usize, keep: Keep, random: &mut Rng) -> Cow<'_, [u8]> {
        let file = &self.files[place];
        if file.waiting.is_empty() || keep == Keep::Nothing {
            return Cow::Borrowed(&file.durable);
        }
        let mut contents = file.durable.clone();
        if keep == Keep::Everything {
            file.waiting.iter().for_each(|change| put(&mut contents, *change));
            return Cow::Owned(contents);
        }
        // Many are lost, or few, sector by sector or write by write.
        let likely = *random.choice(&[0.05, 0.5, 0.95]).unwrap_or(&0.5);
        let in_sectors = random.bool();
        for change in &file.waiting {
            match *change {
                Change::Written { offset, bytes } if in_sectors => {
                    put_sectors(&mut contents, offset, bytes, || random.f64() < likely);
                }
                change if random.f64() < likely => put(&mut contents, change),
                _ => {}
            }
        }
        Cow::Owned(contents)
    }
}

/// Writes an image into an empty folder.
pub fn write(image: &Image<'_>, folder: &Path) {
    for (path, contents) in image {
        let target = folder.join(path);
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        // The log's index is shared memory, and what of it came to the disk is anybody's guess.
        let is_index = path.to_string_lossy().ends_with("-shm");
        let contents =
            if is_index { Cow::Owned(vec![0xa5; contents.len()]) } else { Cow::Borrowed(&**contents) };
        std::fs::write(target, contents).unwrap();
    }
}
