//! Running commands as the owner of the database when root starts them.
//!
//! A file that root created beside the database could not be written by the service. A command that root runs therefore
//! acts as the owner of the database, and as root only for files that the caller named.
//!
//! Linux keeps credentials per thread: call this before a second thread starts.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// User on whose behalf a command acts.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Owner of the database; `None` when the caller is the owner or is not root.
    owner: Option<(Uid, Gid)>,
}

impl Identity {
    /// Switches to the owner of `database`, or of its folder when the database does not exist.
    pub fn of_owner(database: &Path) -> io::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { owner: None });
        }
        let existing = database.ancestors().map(|path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        });
        let Some(file) = existing.into_iter().find_map(|path| std::fs::metadata(path).ok()) else {
            return Ok(Self { owner: None });
        };
        if file.uid() == 0 {
            return Ok(Self { owner: None });
        }
        let identity = Self { owner: Some((Uid::from_raw(file.uid()), Gid::from_raw(file.gid()))) };
        set_thread_groups(&[])?;
        identity.become_owner()?;
        Ok(identity)
    }

    /// Identity of the caller, for programs that are not commands.
    pub const CALLER: Self = Self { owner: None };

    /// Runs `work` as the user who called the command, for files that they named.
    pub fn as_caller<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        if self.owner.is_none() {
            return Ok(work());
        }
        set_thread_res_uid(None, Uid::ROOT, None)?;
        set_thread_res_gid(None, Gid::ROOT, None)?;
        let done = work();
        self.become_owner()?;
        Ok(done)
    }

    fn become_owner(&self) -> io::Result<()> {
        let Some((user, group)) = self.owner else { return Ok(()) };
        set_thread_res_gid(None, group, None)?;
        Ok(set_thread_res_uid(None, user, None)?)
    }
}
