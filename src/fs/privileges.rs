//! Root may run the commands, but no file of root's may appear beside the database: the
//! service could not write it any more. So a command of root's acts as the owner of the
//! database, and as root only where the caller named a file of their own.
//!
//! Linux gives credentials to threads: call this before a second one starts, and those
//! that follow inherit them.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Whom a command acts for.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The database's owner; `None` when it is the caller, or the caller is not root.
    owner: Option<(Uid, Gid)>,
}

impl Identity {
    /// Becomes the owner of `database`, or, while there is none, of the folder it will lie in.
    ///
    /// # Errors
    /// The system's.
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

    /// Whoever called: for programs that are not commands.
    pub const CALLER: Self = Self { owner: None };

    /// Does something as whoever called the command: with a file that they named.
    ///
    /// # Errors
    /// The system's, when it does not let go of or give back an identity.
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
