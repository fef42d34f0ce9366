//! Moves of a person to another machine: freezing and releasing.
//!
//! A person is frozen while a marker file lies beside their database: every change is rejected then, by the server and by
//! commands. It is on the old machine from `freeze` on, and on the new one from `adopt` to `release`. Both have the same
//! random id of the move, by which a repeated command finds out what it has already done.

use std::fmt;
use std::io;
use std::path::Path;
use std::{fs, iter};

use serde::{Deserialize, Serialize};

use crate::auth::key_file::{KeyFile, KeyFileError};
use crate::auth::random::random_hex;
use crate::config::CommonSettings;
use crate::db::lock_file::{MaintenanceLock, ServerLock};
use crate::db::open::while_unchanged;
use crate::domain::person::PersonName;
use crate::domain::time::Timestamp;
use crate::fs::failpoint::failpoint;
use crate::fs::freeze_marker::{freeze_marker, is_frozen};
use crate::fs::paths::with_suffix;
use crate::fs::temp_file::{sync_parent_folder, write_atomically};
use crate::jobs::queue::recorded_job;
use crate::people::error::PersonError;
use crate::people::folder::{PeopleLock, existing, list, sync_people};
use crate::people::removed::RemovedFolder;

/// Version of the marker's format.
const VERSION: u32 = 1;
/// Suffix of the file that a released person keeps: the marker under another name.
const MOVED: &str = ".moved.json";

/// Random id of a move: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MoveId(String);

impl MoveId {
    fn random() -> Result<Self, PersonError> {
        random_hex::<16>().map(Self).map_err(|e| PersonError::Keys(KeyFileError::Random(e)))
    }
}

impl TryFrom<String> for MoveId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_id { Ok(Self(text)) } else { Err("the id of a move has 32 hexadecimal digits") }
    }
}

impl From<MoveId> for String {
    fn from(id: MoveId) -> Self {
        id.0
    }
}

impl fmt::Display for MoveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Direction of a move: whether this is the old machine or the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MoveDirection {
    /// This is the old machine.
    Leaving,
    /// This is the new machine.
    Arriving,
}

impl MoveDirection {
    pub fn name(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Arriving => "arriving",
        }
    }
}

/// Move of a frozen person: content of the marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenMove {
    version: u32,
    #[serde(rename = "move")]
    pub id: MoveId,
    pub direction: MoveDirection,
    pub frozen_since: Timestamp,
    /// An archive may exist, from which another machine can adopt the person.
    #[serde(default)]
    pub is_archived: bool,
}

impl FrozenMove {
    /// Returns the move of a person who was just adopted.
    pub fn arriving(id: MoveId, now: Timestamp) -> Self {
        Self {
            version: VERSION,
            id,
            direction: MoveDirection::Arriving,
            frozen_since: now,
            is_archived: true,
        }
    }

    /// Reports whether this is the old machine.
    pub fn is_leaving(&self) -> bool {
        self.direction == MoveDirection::Leaving
    }

    /// Returns the move with an archive.
    pub fn archived(self) -> Self {
        Self { is_archived: true, ..self }
    }

    /// Writes the marker of a database, durably.
    pub fn write(&self, database: &Path) -> io::Result<()> {
        write_atomically(&freeze_marker(database), &serde_json::to_vec(self)?)
    }
}

/// Returns the move of the person whose database this is; `None` when they are not frozen.
pub fn current_move(database: &Path) -> Result<Option<FrozenMove>, PersonError> {
    read(&freeze_marker(database))
}

/// Returns the last move after which the person was released here.
fn last_move(database: &Path) -> Result<Option<FrozenMove>, PersonError> {
    read(&with_suffix(database, MOVED))
}

fn read(path: &Path) -> Result<Option<FrozenMove>, PersonError> {
    let text = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(PersonError::at(path))?,
    };
    let damaged = |reason: String| PersonError::DamagedMove { path: path.to_owned(), reason };
    let found: FrozenMove = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
    match found.version {
        VERSION => Ok(Some(found)),
        other => Err(damaged(format!("it has version {other} instead of {VERSION}"))),
    }
}

/// Returns the settings of a person who exists; the owner does.
pub fn existing_or_owner(
    settings: &CommonSettings,
    name: &PersonName,
) -> Result<CommonSettings, PersonError> {
    if name.is_owner() { Ok(settings.of_person(name)) } else { existing(settings, name) }
}

/// Fails when a person is being moved to another machine.
pub fn ensure_not_frozen(person: &CommonSettings) -> Result<(), PersonError> {
    if is_frozen(&person.database) { Err(PersonError::Frozen(person.person.clone())) } else { Ok(()) }
}

/// Freezes a person before a move to another machine. Does nothing if they are frozen for one already.
pub fn freeze(
    settings: &CommonSettings,
    name: &PersonName,
    now: Timestamp,
) -> Result<FrozenMove, PersonError> {
    existing_or_owner(settings, name)?;
    let lock = PeopleLock::acquire(settings)?;
    freeze_with(&lock, &existing_or_owner(settings, name)?, now)
}

/// Freezes a person like [`freeze`]. After it has returned, no change is committed: all that were acknowledged are in
/// the database.
pub fn freeze_with(
    lock: &PeopleLock,
    person: &CommonSettings,
    now: Timestamp,
) -> Result<FrozenMove, PersonError> {
    let database = &person.database;
    match current_move(database)? {
        Some(found) if found.is_leaving() => return Ok(found),
        Some(_) => return Err(PersonError::Unreleased(person.person.clone())),
        None => {}
    }
    let begun = FrozenMove {
        version: VERSION,
        id: MoveId::random()?,
        direction: MoveDirection::Leaving,
        frozen_since: now,
        is_archived: false,
    };
    let _maintenance = MaintenanceLock::acquire(database)?;
    failpoint("person.unfrozen");
    let write = || while_unchanged(database, || begun.write(database));
    KeyFile::of(database).while_unchanged(write)??.map_err(PersonError::at(freeze_marker(database)))?;
    // Checked after the freeze, because no request starts a job from then on. The move would lose the file of an import.
    if has_active_job(person) {
        remove_marker(lock, person)?;
        return Err(PersonError::JobActive(person.person.clone()));
    }
    failpoint("person.frozen");
    Ok(begun)
}

/// Reports whether a job of a person is queued or running in a server.
fn has_active_job(person: &CommonSettings) -> bool {
    let Some(job) = recorded_job(&person.database).filter(|job| job.state.is_active()) else { return false };
    let server = ServerLock::held_since(&person.owner_database);
    server.is_some_and(|started_at| job.created_at >= Timestamp::from(started_at))
}

/// Removes the marker of a person who stays on this machine.
pub fn remove_marker(_lock: &PeopleLock, person: &CommonSettings) -> Result<(), PersonError> {
    let marker = freeze_marker(&person.database);
    fs::remove_file(&marker).and_then(|()| sync_parent_folder(&marker)).map_err(PersonError::at(marker))
}

/// Kind of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Ends a move on the new machine, or a freeze without an archive.
    Finish,
    /// The old machine keeps the person. Also ends a freeze whose marker is damaged.
    Undo,
}

/// Accepts changes of a person again. Returns false when they were not frozen.
pub fn release(settings: &CommonSettings, name: &PersonName, kind: Release) -> Result<bool, PersonError> {
    existing_or_owner(settings, name)?;
    let lock = PeopleLock::acquire(settings)?;
    let person = existing_or_owner(settings, name)?;
    let found = match current_move(&person.database) {
        Err(PersonError::DamagedMove { .. }) if kind == Release::Undo => {
            return remove_marker(&lock, &person).map(|()| true);
        }
        found => found?,
    };
    let Some(found) = found else { return Ok(false) };
    failpoint("person.unreleased");
    if !name.is_owner() {
        // The folder of an adopted person must not disappear after they were released.
        sync_people(settings)?;
    }
    match (found.direction, kind) {
        (MoveDirection::Arriving, Release::Finish) => {
            let (marker, kept) = (freeze_marker(&person.database), with_suffix(&person.database, MOVED));
            fs::rename(&marker, &kept)
                .and_then(|()| sync_parent_folder(&kept))
                .map_err(PersonError::at(marker))?;
        }
        (MoveDirection::Leaving, Release::Finish) if found.is_archived => {
            return Err(PersonError::Archived(name.clone()));
        }
        (MoveDirection::Leaving, _) => remove_marker(&lock, &person)?,
        (MoveDirection::Arriving, Release::Undo) => return Err(PersonError::Unreleased(name.clone())),
    }
    failpoint("person.released");
    Ok(true)
}

/// Person whom an earlier command has adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedPerson {
    pub name: PersonName,
    pub is_frozen: bool,
}

/// Returns the person who came to this machine by this move; `None` when it is new here. A damaged file is skipped, so that
/// it blocks nobody else: the person of the move is then recognized by their keys and the id of their database, which
/// [`crate::people::archive::adopt_archive`] refuses to add twice.
///
/// # Errors
/// [`PersonError::OwnArchive`] when the person is leaving this machine by this move.
pub fn find_adopted(settings: &CommonSettings, id: &MoveId) -> Result<Option<AdoptedPerson>, PersonError> {
    let others = list(settings).map_err(PersonError::at(settings.people_folder()))?;
    for name in iter::once(PersonName::owner()).chain(others) {
        let database = settings.of_person(&name).database;
        let of_this_move = |found: Result<Option<FrozenMove>, PersonError>| match found {
            Err(damaged @ PersonError::DamagedMove { .. }) => {
                tracing::warn!("{damaged}");
                Ok(None)
            }
            found => Ok::<_, PersonError>(found?.filter(|found| found.id == *id)),
        };
        let current = of_this_move(current_move(&database))?;
        match current.as_ref().map(|found| found.direction) {
            Some(MoveDirection::Leaving) => return Err(PersonError::OwnArchive(name)),
            Some(MoveDirection::Arriving) => return Ok(Some(AdoptedPerson { name, is_frozen: true })),
            None if of_this_move(last_move(&database))?.is_some() => {
                return Ok(Some(AdoptedPerson { name, is_frozen: false }));
            }
            None => {}
        }
    }
    Ok(None)
}

/// Fails when a person was released here after this move, and has left since: their folder in `removed/` has its id. After
/// an adoption that was undone, it does not. A damaged file is taken for one of this move if the person had one of the
/// `names`.
pub fn ensure_never_released(
    settings: &CommonSettings,
    id: &MoveId,
    names: &[&PersonName],
) -> Result<(), PersonError> {
    let removed = settings.removed_folder();
    let entries = match fs::read_dir(&removed) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(PersonError::at(&removed))?,
    };
    for entry in entries {
        let folder = entry.map_err(PersonError::at(&removed))?.path();
        let is_same = match last_move(&folder.join("coffee.db")) {
            Ok(found) => found.is_some_and(|found| found.id == *id),
            Err(e) => {
                tracing::warn!("{e}");
                RemovedFolder::from_path(&folder).is_some_and(|removed| names.contains(&&removed.name))
            }
        };
        if is_same {
            return Err(PersonError::ReleasedBefore(folder));
        }
    }
    Ok(())
}
