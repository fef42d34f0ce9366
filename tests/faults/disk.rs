//! Model of a disk, built from a trace: durable data, changes that are not synced yet, and the disks that a power cut could leave.
//!
//! Writes before a file's last sync are durable; of later writes, any sector may survive, and any truncation. A folder
//! has the entries of its last sync, or of any moment since. A file without a synced name may be lost with its contents.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use crate::trace::{Event, EventKind};

/// Unit that a disk writes atomically, in bytes.
const SECTOR: usize = 512;

/// Unsynced changes that survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Everything,
    /// Everything in one file or folder, nothing in the others.
    OnlyOne,
    /// Random sectors, truncations and names.
    AnyPart,
}

/// Contents of every file on a disk, by path below the root.
pub type Image<'a> = HashMap<PathBuf, Cow<'a, [u8]>>;

#[derive(Clone, Copy, Debug)]
enum Change<'t> {
    Truncated { length: usize },
    Written { offset: usize, bytes: &'t [u8] },
}

/// Durable state of a file or folder, and the changes that wait for a sync.
#[derive(Debug)]
struct SyncedState<D, C> {
    durable: D,
    pending: VecDeque<C>,
    /// Number of changes that are durable.
    synced: usize,
}

impl<D: Default, C> Default for SyncedState<D, C> {
    fn default() -> Self {
        Self { durable: D::default(), pending: VecDeque::new(), synced: 0 }
    }
}

impl<D, C> SyncedState<D, C> {
    /// Returns the number of changes so far: a sync that begins now covers them.
    fn change_count(&self) -> usize {
        self.synced + self.pending.len()
    }

    /// Makes the first `count` changes durable.
    fn sync(&mut self, count: usize, mut apply: impl FnMut(&mut D, C)) {
        while self.synced < count {
            let change = self.pending.pop_front().expect("an unsynced change is pending");
            apply(&mut self.durable, change);
            self.synced += 1;
        }
    }
}

type FileContents<'t> = SyncedState<Vec<u8>, Change<'t>>;
type Names = Vec<(String, Node)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    /// Index in [`Disk::files`].
    File(usize),
    /// Inode.
    Folder(u64),
}

/// The disk at one moment of a trace.
#[derive(Debug)]
pub struct Disk<'t> {
    root: u64,
    /// Every file that was ever created: a removal may be lost, too.
    files: Vec<FileContents<'t>>,
    folders: HashMap<u64, SyncedState<Names, Names>>,
    /// Index of the file that an inode number currently refers to.
    by_inode: HashMap<u64, usize>,
    /// Number of changes covered by each running sync, by thread and inode.
    syncs: HashMap<(u64, u64), usize>,
}

fn apply_change(contents: &mut Vec<u8>, change: Change<'_>) {
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

/// Applies the sectors of a write that `keep` selects.
fn apply_sectors(contents: &mut Vec<u8>, offset: usize, bytes: &[u8], mut keep: impl FnMut() -> bool) {
    let mut at = 0;
    while at < bytes.len() {
        let until = (SECTOR - (offset + at) % SECTOR + at).min(bytes.len());
        if keep() {
            apply_change(contents, Change::Written { offset: offset + at, bytes: &bytes[at..until] });
        }
        at = until;
    }
}

impl<'t> Disk<'t> {
    /// Creates an empty disk.
    pub fn new(root: u64) -> Self {
        let folders = HashMap::from([(root, SyncedState::default())]);
        Self { root, files: Vec::new(), folders, by_inode: HashMap::new(), syncs: HashMap::new() }
    }

    /// Applies an event of the trace.
    pub fn apply(&mut self, event: &'t Event) {
        let inode = event.inode;
        match &event.kind {
            EventKind::Created => {
                self.by_inode.insert(inode, self.files.len());
                self.files.push(FileContents::default());
            }
            EventKind::Truncated { length } => self.change(inode, Change::Truncated { length: *length }),
            EventKind::Written { offset, bytes } => {
                self.change(inode, Change::Written { offset: *offset, bytes });
            }
            EventKind::SyncStarted => {
                let count = match self.folders.get(&inode) {
                    Some(folder) => folder.change_count(),
                    None => self.file(inode).change_count(),
                };
                self.syncs.insert((event.thread, inode), count);
            }
            EventKind::SyncCompleted => {
                // `Trace::without_syncs_of` may have removed the start alone.
                let Some(count) = self.syncs.remove(&(event.thread, inode)) else { return };
                match self.folders.get_mut(&inode) {
                    Some(folder) => folder.sync(count, |durable, names| *durable = names),
                    None => self.file(inode).sync(count, apply_change),
                }
            }
            EventKind::FolderListed(names) => {
                let node = |inode: u64, is_folder: bool| match is_folder {
                    true => Node::Folder(inode),
                    false => Node::File(self.by_inode[&inode]),
                };
                let names = names.iter().map(|n| (n.name.clone(), node(n.inode, n.is_folder))).collect();
                let folder = self.folders.entry(inode).or_default();
                if folder.pending.back().unwrap_or(&folder.durable) != &names {
                    folder.pending.push_back(names);
                }
            }
            EventKind::ResponseSent(_) | EventKind::Printed(_) | EventKind::Marker(_) => {}
        }
    }

    fn file(&mut self, inode: u64) -> &mut FileContents<'t> {
        let index = self.by_inode.get(&inode).expect("the trace contains the creation of the file");
        &mut self.files[*index]
    }

    fn change(&mut self, inode: u64, change: Change<'t>) {
        self.file(inode).pending.push_back(change);
    }

    /// Reports whether every change is durable: then a power cut leaves only one possible disk.
    pub fn is_fully_synced(&self) -> bool {
        self.files.iter().all(|file| file.pending.is_empty())
            && self.folders.values().all(|folder| folder.pending.is_empty())
    }

    /// Returns a disk that a power cut at this moment could leave.
    pub fn after_cut(&self, keep: Keep, random: &mut Rng) -> Image<'_> {
        let unsynced_files = (0..self.files.len()).filter(|n| !self.files[*n].pending.is_empty());
        let unsynced_folders = self.folders.iter().filter(|(_, folder)| !folder.pending.is_empty());
        let mut unsynced: Vec<Node> = unsynced_files.map(Node::File).collect();
        unsynced.extend(unsynced_folders.map(|(inode, _)| Node::Folder(*inode)));
        let survivor = if unsynced.is_empty() { None } else { random.choice(&unsynced).copied() };
        let keep_of = |node: Node| match keep {
            Keep::OnlyOne if Some(node) == survivor => Keep::Everything,
            Keep::OnlyOne => Keep::Nothing,
            other => other,
        };
        let mut image = Image::new();
        let mut folders = vec![(PathBuf::new(), self.root)];
        while let Some((path, inode)) = folders.pop() {
            let Some(folder) = self.folders.get(&inode) else { continue };
            let later = match keep_of(Node::Folder(inode)) {
                Keep::Everything => folder.pending.len(),
                Keep::AnyPart => random.usize(0..=folder.pending.len()),
                _ => 0,
            };
            let names = later.checked_sub(1).map_or(&folder.durable, |n| &folder.pending[n]);
            for (name, node) in names {
                match node {
                    Node::Folder(inode) => folders.push((path.join(name), *inode)),
                    Node::File(n) => {
                        image.insert(path.join(name), self.contents_after_cut(*n, keep_of(*node), random));
                    }
                }
            }
        }
        image
    }

    fn contents_after_cut(&self, index: usize, keep: Keep, random: &mut Rng) -> Cow<'_, [u8]> {
        let file = &self.files[index];
        if file.pending.is_empty() || keep == Keep::Nothing {
            return Cow::Borrowed(&file.durable);
        }
        let mut contents = file.durable.clone();
        if keep == Keep::Everything {
            file.pending.iter().for_each(|change| apply_change(&mut contents, *change));
            return Cow::Owned(contents);
        }
        // Most, half or few of the changes survive, chosen by sector or by write.
        let probability = *random.choice(&[0.05, 0.5, 0.95]).unwrap_or(&0.5);
        let in_sectors = random.bool();
        for change in &file.pending {
            match *change {
                Change::Written { offset, bytes } if in_sectors => {
                    apply_sectors(&mut contents, offset, bytes, || random.f64() < probability);
                }
                change if random.f64() < probability => apply_change(&mut contents, change),
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
        // The WAL index is shared memory: what reaches the disk is unspecified.
        let is_index = path.to_string_lossy().ends_with("-shm");
        let contents =
            if is_index { Cow::Owned(vec![0xa5; contents.len()]) } else { Cow::Borrowed(&**contents) };
        std::fs::write(target, contents).unwrap();
    }
}
