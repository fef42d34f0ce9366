//! Temporary files that are published atomically, named `.coffee-PID-N.tmp`.
//!
//! The creator holds a lock on its file. A file whose lock is free was left behind by a process that was
//! killed; the next one to work in that folder removes it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

use crate::fs::paths::{SQLITE_COMPANIONS, file_id, folder_of, with_suffix};
use crate::fs::privileges::Identity;

/// Number in the name of the next temporary file. A process never uses a name again: a published file, which is dropped
/// after its name became free, would remove the new file of that name.
static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);

/// Temporary file. Removed on drop, unless it was published.
#[derive(Debug)]
pub struct TempFile {
    path: PathBuf,
    /// Holds the lock. Closing it would also drop SQLite's own locks on the file.
    file: File,
    /// User who may write in the folder.
    writer: Identity,
}

impl TempFile {
    /// Creates an empty file in `folder`, and the folder when it is missing; as the owner of the database where
    /// permissions allow it, otherwise as the caller.
    pub fn create(folder: &Path, identity: &Identity) -> io::Result<Self> {
        let create = |writer| make_folder(folder).and_then(|()| Self::create_in_existing(folder, writer));
        match create(Identity::CALLER) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                identity.as_caller(|| create(*identity))?
            }
            made => made,
        }
    }

    /// Creates an empty file in a folder that exists.
    pub fn create_in_existing(folder: &Path, writer: Identity) -> io::Result<Self> {
        remove_stale(folder);
        loop {
            let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".coffee-{}-{number}.tmp", std::process::id()));
            let options = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).clone();
            match options.open(&path) {
                // Another process may have removed it before it was locked.
                Ok(file) if file.try_lock().is_ok() && is_at(&file, &path) => {
                    return Ok(Self { path, file, writer });
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Runs `work` as the user who may write in the folder.
    pub fn as_writer<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        self.writer.as_caller(work)
    }

    /// Makes the file durable under the first unused name of `names`, in its own folder.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when every name is taken.
    pub fn publish(self, names: impl Iterator<Item = PathBuf>) -> io::Result<PathBuf> {
        self.file.sync_all()?;
        self.as_writer(|| {
            for name in names {
                if rename_no_replace(&self.path, &name)? {
                    sync_parent_folder(&name)?;
                    return Ok(name);
                }
            }
            Err(io::ErrorKind::AlreadyExists.into())
        })?
    }

    /// Makes the file durable under `name` in its own folder, replacing an existing file.
    pub fn publish_over(self, name: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        self.as_writer(|| {
            fs::rename(&self.path, name)?;
            sync_parent_folder(name)
        })?
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // Fails after a successful publication, when the file is gone.
        drop(self.as_writer(|| remove_all(&self.path)));
        // Not only by closing the file: a command that is being started has a copy of it for an instant, and a published
        // file may be locked next.
        drop(self.file.unlock());
    }
}

/// Replaces the content of the file at `path` atomically and durably, with permissions for its owner alone. Never
/// creates the folder: a person whose folder was just moved away must not appear again.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let temp = TempFile::create_in_existing(folder_of(path), Identity::CALLER)?;
    temp.file().write_all(content)?;
    temp.publish_over(path)
}

/// Reports whether `path` leads to this open file.
pub fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(one), Ok(other)) => file_id(&one) == file_id(&other),
        _ => false,
    }
}

/// Renames a file. Returns false when the new name is taken.
pub fn rename_no_replace(old: &Path, new: &Path) -> io::Result<bool> {
    use rustix::io::Errno;
    match renameat_with(CWD, old, CWD, new, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // File systems such as FAT lack this kind of rename.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if new.exists() => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(old, new).map(|()| true),
        Err(e) => Err(e.into()),
    }
}

/// Makes the directory entries of a file's folder durable.
pub fn sync_parent_folder(file: &Path) -> io::Result<()> {
    match File::open(folder_of(file))?.sync_all() {
        // Network file systems do not sync folders.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

/// Creates a folder and its missing parents durably.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(folder)?;
    missing.into_iter().rev().try_for_each(sync_parent_folder)
}

/// Removes temporary files of processes that were killed.
pub fn remove_stale(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if let Some(temp) = temp_file_of(&path) {
            remove_if_stale(&temp);
        }
    }
}

/// Removes a temporary file whose lock no process holds. A missing file left its companions behind. Anything but a
/// regular file is kept, and opening it does not block, as it would for a pipe.
fn remove_if_stale(temp: &Path) {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits()).unwrap_or(0);
    match OpenOptions::new().read(true).custom_flags(flags).open(temp) {
        // Removed under its lock, because its creator may be about to lock it; and only if it still has this name,
        // because it may have been published, and another one created.
        Ok(file)
            if file.metadata().is_ok_and(|m| m.is_file())
                && file.try_lock().is_ok()
                && is_at(&file, temp) =>
        {
            remove_all(temp);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => remove_companions(temp),
        _ => {}
    }
}

/// Returns the temporary file that a path names or belongs to.
fn temp_file_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let name = SQLITE_COMPANIONS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let inner = name.strip_prefix(".coffee-")?.strip_suffix(".tmp")?;
    inner.bytes().all(|b| b.is_ascii_digit() || b == b'-').then(|| path.with_file_name(name))
}

fn remove_all(temp: &Path) {
    remove_companions(temp);
    drop(fs::remove_file(temp));
}

fn remove_companions(temp: &Path) {
    for end in SQLITE_COMPANIONS {
        drop(fs::remove_file(with_suffix(temp, end)));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn removing_stale_files_never_removes_one_that_is_being_created() {
        let folder = tempfile::tempdir().unwrap();
        let stale = folder.path().join(".coffee-1-1.tmp");
        fs::write(&stale, "left behind").unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (0..200).try_for_each(|_| write_atomically(&folder.path().join("file"), b"content"))
            });
            while !writer.is_finished() {
                remove_stale(folder.path());
            }
            writer.join().unwrap().unwrap();
        });
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["file"]);
    }
    #[test]
    fn a_file_is_never_written_into_a_folder_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        let error = write_atomically(&gone.join("file"), b"content").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!gone.exists());
        drop(TempFile::create(&gone, &Identity::CALLER).unwrap());
        assert!(gone.exists());
    }

    #[test]
    fn threads_that_write_into_one_folder_do_not_disturb_each_other() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let threads = ["one", "two", "three"].map(|name| {
                let path = folder.path().join(name);
                scope.spawn(move || (0..1000).try_for_each(|_| write_atomically(&path, name.as_bytes())))
            });
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
