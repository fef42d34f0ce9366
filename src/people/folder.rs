//! Folders of people: list, display names, and the locks of commands that create, move or remove them.
//!
//! A person other than the owner is a folder of `people/`, which holds their database. It appears and disappears by
//! one rename, so that a person exists wholly or not at all. Hidden folders of `people/` are unfinished ones.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::config::CommonSettings;
use crate::domain::person::{DisplayName, PersonName};
use crate::fs::failpoint::failpoint;
use crate::fs::lock::lock_within;
use crate::fs::paths::{folder_of, with_suffix};
use crate::fs::temp_file::{
    make_folder, remove_stale, rename_no_replace, sync_parent_folder, write_atomically,
};
use crate::people::error::PersonError;

/// Suffix of the lock file that a command holds while it needs the database closed.
const CLOSING: &str = ".closing.lock";
/// Suffix of the file with the display name.
const PERSON_FILE: &str = ".person.json";
/// Prefix of unfinished folders.
const UNFINISHED: &str = ".new-";
/// Maximum wait for another command.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the names of everyone except the owner, sorted. A missing folder has none.
pub fn list(settings: &CommonSettings) -> io::Result<Vec<PersonName>> {
    let entries = match fs::read_dir(settings.people_folder()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_str().and_then(|name| name.parse::<PersonName>().ok());
        // A symbolic link to a folder on another disk counts.
        names.extend(name.filter(|name| !name.is_owner() && entry.path().is_dir()));
    }
    names.sort_unstable();
    Ok(names)
}

/// Content of the file with the display name.
#[derive(Serialize, Deserialize)]
struct PersonFile {
    display_name: DisplayName,
}

/// Returns the display name of the person whose database this is; `None` when there is none, or it is unreadable.
pub fn display_name(database: &Path) -> Option<String> {
    let text = fs::read(with_suffix(database, PERSON_FILE)).ok()?;
    serde_json::from_slice::<PersonFile>(&text).ok().map(|file| file.display_name.into())
}

/// Sets or removes the display name.
pub fn set_display_name(database: &Path, name: Option<&DisplayName>) -> io::Result<()> {
    let path = with_suffix(database, PERSON_FILE);
    let Some(name) = name else {
        return match fs::remove_file(&path) {
            Ok(()) => sync_parent_folder(&path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        };
    };
    write_atomically(&path, &serde_json::to_vec(&PersonFile { display_name: name.clone() })?)
}

/// Request to a running server to close a database, for as long as it is held.
#[derive(Debug)]
pub struct ClosingLock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl ClosingLock {
    /// Acquires the lock. Returns `None` when another command holds it.
    pub fn acquire(database: &Path) -> io::Result<Option<Self>> {
        // A server that looks holds it for an instant.
        Ok(lock_within(&with_suffix(database, CLOSING), Duration::from_secs(1))?.map(Self))
    }
}

/// Reports whether a command needs the database closed. Creates no file.
pub fn is_closing(database: &Path) -> bool {
    let file = File::open(with_suffix(database, CLOSING));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Rename of a person whose backups are not renamed yet.
#[derive(Debug, Serialize, Deserialize)]
struct UnfinishedRename {
    old: PersonName,
    new: PersonName,
}

/// Lock of the commands that create, move or remove people: one at a time.
#[derive(Debug)]
pub struct PeopleLock(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl PeopleLock {
    /// Acquires the lock, and removes or finishes what killed commands left unfinished.
    ///
    /// # Errors
    /// [`PersonError::Busy`] when another command holds the lock.
    pub fn acquire(settings: &CommonSettings) -> Result<Self, PersonError> {
        Self::within(settings, LOCK_TIMEOUT)
    }

    /// Takes the lock like [`Self::acquire`], but without waiting for another command.
    pub fn try_acquire(settings: &CommonSettings) -> Result<Self, PersonError> {
        Self::within(settings, Duration::ZERO)
    }

    fn within(settings: &CommonSettings, timeout: Duration) -> Result<Self, PersonError> {
        let people = settings.people_folder();
        let lock = || -> io::Result<Option<File>> {
            make_private_folder(&people)?;
            let Some(lock) = lock_within(&people.join(".lock"), timeout)? else { return Ok(None) };
            remove_stale(&people);
            for entry in fs::read_dir(&people)?.flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                    fs::remove_dir_all(entry.path())?;
                }
            }
            Ok(Some(lock))
        };
        let lock = lock().map_err(PersonError::at(&people))?.map(Self).ok_or(PersonError::Busy)?;
        if let Err(e) = lock.finish_rename(settings) {
            tracing::warn!("the backups of a renamed person could not be moved: {e}");
        }
        Ok(lock)
    }

    /// Records that a person gets another name, before their folder is renamed.
    pub fn begin_rename(
        &self,
        settings: &CommonSettings,
        old: &PersonName,
        new: &PersonName,
    ) -> io::Result<()> {
        let record = UnfinishedRename { old: old.clone(), new: new.clone() };
        write_atomically(&rename_record(settings), &serde_json::to_vec(&record)?)
    }

    /// Renames the backups of a person whose folder was renamed, and removes the record of it.
    pub fn finish_rename(&self, settings: &CommonSettings) -> io::Result<()> {
        let record = rename_record(settings);
        let text = match fs::read(&record) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            text => text?,
        };
        if let Ok(UnfinishedRename { old, new }) = serde_json::from_slice(&text) {
            let (old, new) = (settings.of_person(&old), settings.of_person(&new));
            let is_renamed = !folder_of(&old.database).exists() && folder_of(&new.database).exists();
            if is_renamed && old.backups.exists() {
                rename_no_replace(&old.backups, &new.backups)?;
                sync_parent_folder(&new.backups)?;
            }
        }
        failpoint("person.backups-renamed");
        fs::remove_file(&record)?;
        sync_parent_folder(&record)
    }
}

fn rename_record(settings: &CommonSettings) -> PathBuf {
    settings.people_folder().join(".rename.json")
}

/// Removes or finishes what killed commands left unfinished, unless a command is at work or there are no people.
pub fn recover(settings: &CommonSettings) -> Result<(), PersonError> {
    if !settings.people_folder().is_dir() {
        return Ok(());
    }
    match PeopleLock::try_acquire(settings) {
        Ok(_) | Err(PersonError::Busy) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Creates a folder that only its owner can enter, durably, unless it exists.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    make_folder(folder_of(folder))?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        made => made.and_then(|()| sync_parent_folder(folder)),
    }
}

/// Returns the settings of a person who exists and is not the owner.
pub fn existing(settings: &CommonSettings, name: &PersonName) -> Result<CommonSettings, PersonError> {
    let person = settings.of_person(name);
    match fs::metadata(folder_of(&person.database)) {
        _ if name.is_owner() => Err(PersonError::Owner),
        Ok(folder) if folder.is_dir() => Ok(person),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(PersonError::at(folder_of(&person.database))(e)),
        _ => Err(PersonError::Unknown(name.clone())),
    }
}

/// Returns the settings of a person who does not exist yet.
pub fn unused(settings: &CommonSettings, name: &PersonName) -> Result<CommonSettings, PersonError> {
    let person = settings.of_person(name);
    match fs::symlink_metadata(folder_of(&person.database)) {
        _ if name.is_owner() => Err(PersonError::Owner),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(person),
        Err(e) => Err(PersonError::at(folder_of(&person.database))(e)),
        Ok(_) => Err(PersonError::NameTaken(name.clone())),
    }
}

/// Unfinished folder of a person, or files of an unfinished command. Removed on drop, unless it was published.
#[derive(Debug)]
pub struct UnfinishedFolder {
    path: PathBuf,
}

impl UnfinishedFolder {
    /// Creates an empty folder in `people/`. The lock keeps other commands from removing it.
    pub fn create(settings: &CommonSettings, _lock: &PeopleLock) -> Result<Self, PersonError> {
        let path = settings.people_folder().join(format!("{UNFINISHED}{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(PersonError::at(&path))?;
        Ok(Self { path })
    }

    /// Returns the path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns the path of the person's database.
    pub fn database(&self) -> PathBuf {
        self.join("coffee.db")
    }

    /// Makes the folder durable under the name of the person.
    pub fn publish(self, person: &CommonSettings) -> Result<(), PersonError> {
        sync_folder(&self.path).map_err(PersonError::at(&self.path))?;
        failpoint("person.synced");
        move_folder(&self.path, folder_of(&person.database), || PersonError::NameTaken(person.person.clone()))
    }
}

impl Drop for UnfinishedFolder {
    fn drop(&mut self) {
        // Fails after a successful publication, when the folder is gone.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Moves a folder by one rename, durably where the disk allows it. Fails with `taken` when the new name is in use.
pub fn move_folder(old: &Path, new: &Path, taken: impl FnOnce() -> PersonError) -> Result<(), PersonError> {
    failpoint("person.unmoved");
    if !rename_no_replace(old, new).map_err(PersonError::at(new))? {
        return Err(taken());
    }
    failpoint("person.moved");
    // The folder has moved, so that the command has succeeded.
    if let Err(e) = sync_parent_folder(new).and_then(|()| sync_parent_folder(old)) {
        tracing::warn!("a power failure may undo the move to {}: {e}", new.display());
    }
    Ok(())
}

/// Makes the names of the folders in `people/` durable, which a command that has moved one may have failed to do.
pub fn sync_people(settings: &CommonSettings) -> Result<(), PersonError> {
    let people = settings.people_folder();
    sync_parent_folder(&people.join(".lock")).map_err(PersonError::at(people))
}

/// Makes the files of a folder and their names durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        match File::open(entry?.path()) {
            // SQLite removes its log with the last connection, which a pool may close a moment later.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            opened => opened?.sync_all()?,
        }
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::calendar::Zone;

    fn settings(folder: &Path) -> CommonSettings {
        CommonSettings::of_owner(folder.join("coffee.db"), folder.join("backups"), Zone::utc())
    }

    #[test]
    fn people_are_the_folders_with_a_valid_name_except_the_owners() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        assert_eq!(list(&settings).unwrap(), []);
        let people = settings.people_folder();
        for name in ["carla", "anna", "owner", ".new-1", "Bert", "lost+found"] {
            fs::create_dir_all(people.join(name)).unwrap();
        }
        fs::write(people.join("file"), "").unwrap();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), people.join("bert")).unwrap();
        let names: Vec<String> = list(&settings).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["anna", "bert", "carla"]);
    }

    #[test]
    fn a_display_name_is_returned_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("coffee.db");
        assert_eq!(display_name(&database), None);
        set_display_name(&database, Some(&"Anna Müller".parse().unwrap())).unwrap();
        assert_eq!(display_name(&database).as_deref(), Some("Anna Müller"));
        for unusable in ["", "{", r#"{"display_name": ""}"#] {
            fs::write(folder.path().join("coffee.db.person.json"), unusable).unwrap();
            assert_eq!(display_name(&database), None, "{unusable}");
        }
        set_display_name(&database, None).unwrap();
        set_display_name(&database, None).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_database_is_closing_while_one_command_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("coffee.db");
        assert!(!is_closing(&database));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let lock = ClosingLock::acquire(&database).unwrap();
        assert!(lock.is_some() && is_closing(&database));
        assert!(ClosingLock::acquire(&database).unwrap().is_none());
        drop(lock);
        assert!(!is_closing(&database));
        assert!(ClosingLock::acquire(&database).unwrap().is_some());
    }

    #[test]
    fn unfinished_folders_are_removed_unless_a_command_is_at_work() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        recover(&settings).unwrap();
        assert!(!settings.people_folder().exists());
        let lock = PeopleLock::acquire(&settings).unwrap();
        let unfinished = settings.people_folder().join(".new-1");
        fs::create_dir_all(unfinished.join("inside")).unwrap();
        recover(&settings).unwrap();
        assert!(unfinished.exists());
        drop(lock);
        recover(&settings).unwrap();
        assert!(!unfinished.exists());
    }
}
