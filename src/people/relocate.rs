//! Moves of a person's folder by one rename: to another name, to `removed/`, and back from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::backup::origin::BackupOrigin;
use crate::backup::snapshot::{BackupTarget, ProgressCallback, Snapshot, snapshot};
use crate::config::CommonSettings;
use crate::db::lock_file::{MaintenanceLock, ServerLock};
use crate::db::replace_file::undo_interrupted;
use crate::domain::person::PersonName;
use crate::domain::time::{Timestamp, file_name_time};
use crate::fs::failpoint::failpoint;
use crate::fs::paths::folder_of;
use crate::fs::privileges::Identity;
use crate::people::error::PersonError;
use crate::people::folder::{
    ClosingLock, PeopleLock, existing, list, make_private_folder, move_folder, sync_people, unused,
};
use crate::people::moving::{current_move, ensure_not_frozen};
use crate::people::removed::RemovedFolder;

/// Maximum wait until a server has closed a database.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Database that no server and no other command uses, as long as this is held.
#[derive(Debug)]
struct ClosedDatabase {
    _maintenance: MaintenanceLock,
    _closing: ClosingLock,
    _server: ServerLock,
}

impl ClosedDatabase {
    /// Requests a running server to close the database, and waits until it has.
    fn acquire(person: &CommonSettings) -> Result<Self, PersonError> {
        let database = &person.database;
        let closing = ClosingLock::acquire(database).map_err(PersonError::at(database))?;
        let closing = closing.ok_or(PersonError::Busy)?;
        let start = Instant::now();
        let server = loop {
            if let Some(server) = ServerLock::try_acquire(database)? {
                break server;
            }
            if start.elapsed() > CLOSE_TIMEOUT {
                return Err(PersonError::StillOpen(person.person.clone(), CLOSE_TIMEOUT.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // Other commands that change the database hold this lock.
        let maintenance = MaintenanceLock::acquire_even_if_frozen(database)?;
        undo_interrupted(database)?;
        Ok(Self { _maintenance: maintenance, _closing: closing, _server: server })
    }
}

/// Gives a person another name, and their backups with it.
pub fn rename(settings: &CommonSettings, old: &PersonName, new: &PersonName) -> Result<(), PersonError> {
    existing(settings, old)?;
    unused(settings, new)?;
    let lock = PeopleLock::acquire(settings)?;
    let (person, renamed) = (existing(settings, old)?, unused(settings, new)?);
    ensure_not_frozen(&person)?;
    if renamed.backups.exists() {
        return Err(PersonError::BackupsTaken(renamed.backups));
    }
    let _closed = ClosedDatabase::acquire(&person)?;
    failpoint("person.closed");
    lock.begin_rename(settings, old, new).map_err(PersonError::at(settings.people_folder()))?;
    let (from, to) = (folder_of(&person.database), folder_of(&renamed.database));
    move_folder(from, to, || PersonError::NameTaken(new.clone()))?;
    if let Err(e) = lock.finish_rename(settings) {
        tracing::warn!("the backups in {} could not be renamed: {e}", person.backups.display());
    }
    Ok(())
}

/// Result of a removal.
#[derive(Debug)]
pub struct Removal {
    /// New place of the folder.
    pub folder: PathBuf,
    /// `None` when it was not wanted.
    pub backup: Option<Snapshot>,
}

/// Moves a person's folder to `removed/`, after a last backup if one `is_backed_up`.
pub fn remove(
    settings: &CommonSettings,
    name: &PersonName,
    is_backed_up: bool,
    identity: &Identity,
    now: Timestamp,
    progress: ProgressCallback<'_>,
) -> Result<Removal, PersonError> {
    existing(settings, name)?;
    let _lock = PeopleLock::acquire(settings)?;
    let person = existing(settings, name)?;
    let _closed = ClosedDatabase::acquire(&person)?;
    failpoint("person.closed");
    let backup = if is_backed_up {
        let target = BackupTarget::Folder(person.backups.clone());
        Some(snapshot(&person.database, &target, identity, progress)?)
    } else {
        None
    };
    Ok(Removal { folder: move_to_removed(settings, &person, now)?, backup })
}

/// Moves the folder of a person who was adopted and not released yet to `removed/`. Returns `None` when there is no such
/// person.
///
/// # Errors
/// [`PersonError::NotArriving`] when the person is here in another state.
pub fn remove_unreleased(
    settings: &CommonSettings,
    name: &PersonName,
    now: Timestamp,
) -> Result<Option<Removal>, PersonError> {
    // First, so that an adoption that is running has ended.
    let _lock = PeopleLock::acquire(settings)?;
    let person = match existing(settings, name) {
        Err(PersonError::Unknown(_)) => {
            // An earlier call may have failed to do this.
            sync_people(settings)?;
            return Ok(None);
        }
        person => person?,
    };
    if current_move(&person.database)?.is_none_or(|found| found.is_leaving()) {
        return Err(PersonError::NotArriving(name.clone()));
    }
    let _closed = ClosedDatabase::acquire(&person)?;
    failpoint("person.closed");
    let folder = move_to_removed(settings, &person, now)?;
    sync_people(settings)?;
    Ok(Some(Removal { folder, backup: None }))
}

/// Moves a person's folder to an unused name in `removed/`.
fn move_to_removed(
    settings: &CommonSettings,
    person: &CommonSettings,
    now: Timestamp,
) -> Result<PathBuf, PersonError> {
    let removed = settings.removed_folder();
    make_private_folder(&removed).map_err(PersonError::at(&removed))?;
    let first = format!("{}-{}", person.person, file_name_time(now));
    let mut names = std::iter::once(first.clone()).chain((2_u32..).map(|n| format!("{first}_{n}")));
    let is_free = |folder: &PathBuf| fs::symlink_metadata(folder).is_err();
    let folder = names.find_map(|name| Some(removed.join(name)).filter(is_free));
    let folder = folder.unwrap_or_else(|| removed.join(first));
    move_folder(folder_of(&person.database), &folder, || PersonError::Busy)?;
    Ok(folder)
}

/// Moves a folder in `removed/` back to `people/`, under its former name unless another one is given.
pub fn adopt_folder(
    settings: &CommonSettings,
    folder: &Path,
    name: Option<&PersonName>,
) -> Result<PersonName, PersonError> {
    let (found, removed) = (fs::canonicalize(folder), fs::canonicalize(settings.removed_folder()));
    let found = found.map_err(PersonError::at(folder))?;
    if found.parent() != removed.ok().as_deref() {
        return Err(PersonError::NotRemoved(folder.to_owned(), settings.removed_folder()));
    }
    let former = RemovedFolder::from_path(&found).map(|former| former.name);
    let name = name.cloned().or(former).ok_or(PersonError::Nameless)?;
    unused(settings, &name)?;
    let _lock = PeopleLock::acquire(settings)?;
    let person = unused(settings, &name)?;
    let database = found.join("coffee.db");
    if !database.is_file() {
        return Err(PersonError::NoDatabase(folder.to_owned()));
    }
    ensure_unused_database(settings, &database)?;
    failpoint("person.begun");
    move_folder(&found, folder_of(&person.database), || PersonError::NameTaken(name.clone()))?;
    Ok(name)
}

/// Refuses a database that a person here already has: two people must not share its id.
pub fn ensure_unused_database(settings: &CommonSettings, database: &Path) -> Result<(), PersonError> {
    let BackupOrigin::Known(id) = BackupOrigin::of_database(database) else { return Ok(()) };
    let people = list(settings).map_err(PersonError::at(settings.people_folder()))?;
    for name in std::iter::once(PersonName::owner()).chain(people) {
        let other = BackupOrigin::of_database(&settings.of_person(&name).database);
        if other == BackupOrigin::Known(id.clone()) {
            return Err(PersonError::SameDatabase(name));
        }
    }
    Ok(())
}
