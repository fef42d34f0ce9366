//! The file for rejected rows: a new one, there from the beginning, so that a place that takes
//! none is known before anything is stored; gone again when every row was fine.

use std::fs::File;
use std::io::{BufWriter, ErrorKind};
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::commands::{Failure, unwritten};
use crate::fs::privileges::Identity;
use crate::fs::protected_paths::ensure_not_protected;
use crate::transfer::formats::rejects::Rejects;
use crate::transfer::formats::rows::Rejection;

/// The open file.
pub struct RejectedRows {
    rows: Rejects<BufWriter<File>>,
    name: Name,
}

/// Takes the file away when nothing came into it, whatever ends the import.
struct Name {
    path: PathBuf,
    /// Whoever may remove it is whoever made it.
    identity: Identity,
    is_used: bool,
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.is_used {
            // An empty file is all that is left when this fails.
            drop(self.identity.as_caller(|| fs::remove_file(&self.path)));
        }
    }
}

impl RejectedRows {
    /// Makes it, as the caller.
    ///
    /// # Errors
    /// That there is one of that name, that it is the database's own, or cannot be made.
    pub fn create(path: &Path, database: &Path) -> Result<Self, Failure> {
        ensure_not_protected(database, path)?;
        let file = File::create_new(path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                Failure::Failed(format!("{} exists already: name another for rejected rows", path.display()))
            }
            _ => unwritten(&path.display().to_string(), &e),
        })?;
        let name = Name { path: path.to_owned(), identity: Identity::CALLER, is_used: false };
        let rows = Rejects::new(BufWriter::new(file)).map_err(|e| failed(&e))?;
        Ok(Self { rows, name })
    }

    /// From now on this process acts for somebody else, and only with this file as the caller.
    pub fn of_caller(mut self, identity: Identity) -> Self {
        self.name.identity = identity;
        self
    }

    /// Adds a row.
    ///
    /// # Errors
    /// That it cannot be written.
    pub fn add(&mut self, rejection: &Rejection) -> Result<(), Failure> {
        self.name.is_used = true;
        self.rows.add(rejection).map_err(|e| failed(&e))
    }

    /// Hands all rows to the system.
    ///
    /// # Errors
    /// That they cannot be written.
    pub fn finish(self) -> Result<(), Failure> {
        self.rows.finish().map_err(|e| failed(&e))
    }
}

fn failed(error: &io::Error) -> Failure {
    unwritten("the rejected rows", error)
}
