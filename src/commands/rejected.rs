//! File of rejected rows (`--rejects`). It is created before anything is imported, so that a path that cannot be written
//! fails early, and removed when no row was rejected.

use std::fs::File;
use std::io::{BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::commands::{Failure, unwritten};
use crate::fs::privileges::Identity;
use crate::fs::protected_paths::ensure_not_protected;
use crate::transfer::formats::sink::{Rejection, RowPosition};
use crate::transfer::formats::writer::io_error;

/// Open file of rejected rows: CSV with line, reason and content. It is removed on drop, unless a row was written.
pub struct RejectsFile {
    rows: csv::Writer<BufWriter<File>>,
    path: PathBuf,
    /// The file belongs to the caller of the command.
    identity: Identity,
    is_used: bool,
}

impl Drop for RejectsFile {
    fn drop(&mut self) {
        if !self.is_used {
            // A failure leaves an empty file.
            drop(self.identity.as_caller(|| fs::remove_file(&self.path)));
        }
    }
}

impl RejectsFile {
    /// Creates the file, as the caller of the command.
    pub fn create(path: &Path, database: &Path) -> Result<Self, Failure> {
        ensure_not_protected(database, path)?;
        let file = File::create_new(path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Failure::Failed(format!(
                "{} already exists: pass another name for the rejected rows",
                path.display()
            )),
            _ => unwritten(&path.display().to_string(), &e),
        })?;
        let rows = csv::Writer::from_writer(BufWriter::new(file));
        let mut created = Self { rows, path: path.to_owned(), identity: Identity::CALLER, is_used: false };
        created.rows.write_record(["line", "reason", "content"]).map_err(|e| failure(&io_error(e)))?;
        Ok(created)
    }

    /// Sets how the process, which acts as another user from now on, becomes the caller again.
    pub fn owned_by_caller(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    pub fn add(&mut self, rejection: &Rejection) -> Result<(), Failure> {
        self.is_used = true;
        let Rejection { position, reason, content, .. } = rejection;
        let reason = match position {
            RowPosition::Line(_) => reason.clone(),
            RowPosition::FileLine { .. } | RowPosition::TableRow { .. } => format!("{position}: {reason}"),
        };
        let record = [&position.number().to_string(), &reason, content];
        self.rows.write_record(record).map_err(|e| failure(&io_error(e)))
    }

    pub fn finish(mut self) -> Result<(), Failure> {
        self.rows.flush().map_err(|e| failure(&e))
    }
}

fn failure(error: &io::Error) -> Failure {
    unwritten("the file of rejected rows", error)
}
