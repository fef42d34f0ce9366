//! Archive of a person in one file, for moving them to another machine.
//!
//! It is a zip file with a verified backup of the database (`coffee.db`), and the id of the move, the digests of the keys,
//! the display name and a digest of the database (`archive.json`). It does not contain backups. An archive comes from
//! another machine and is not trusted: the database is verified like a backup before a restore.

use std::fs::File;
use std::io;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::auth::key::{NamedKey, Scope};
use crate::auth::key_file::KeyFile;
use crate::backup::origin::count_backup;
use crate::backup::restore::{RestoreError, RestorePlan};
use crate::backup::snapshot::{BackupTarget, ProgressCallback, snapshot_unrecorded};
use crate::backup::verify::Contents;
use crate::config::CommonSettings;
use crate::db::error::require_database;
use crate::domain::person::{DisplayName, PersonName};
use crate::domain::time::Timestamp;
use crate::fs::disk_space::{Disk, RESERVED_BYTES};
use crate::fs::failpoint::failpoint;
use crate::fs::freeze_marker::freeze_marker;
use crate::fs::paths::folder_of;
use crate::fs::privileges::Identity;
use crate::fs::temp_file::TempFile;
use crate::fs::zip_file::{BudgetReader, open_zip};
use crate::people::error::PersonError;
use crate::people::folder::{
    PeopleLock, UnfinishedFolder, display_name, list, set_display_name, sync_people, unused,
};
use crate::people::moving::{
    AdoptedPerson, FrozenMove, MoveDirection, MoveId, current_move, ensure_never_released, existing_or_owner,
    find_adopted, freeze_with, remove_marker,
};
use crate::people::relocate::ensure_unused_database;

/// Name of the database in the archive.
const DATABASE: &str = "coffee.db";
/// Name of the file that describes the archive.
const MANIFEST: &str = "archive.json";
/// Version of the format.
const VERSION: u32 = 1;
/// Error of an archive whose database does not have the digest in the description.
const DIFFERENT_DATABASE: &str = "it is damaged: the database differs from the one that was archived";
/// Maximum size of the description.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Archive that is being read.
type OpenArchive<'a> = ZipArchive<BudgetReader<BufReader<&'a File>>>;

/// Content of `archive.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ArchiveManifest {
    version: u32,
    /// Move that the archive belongs to.
    #[serde(rename = "move")]
    move_id: MoveId,
    person: PersonName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_name: Option<DisplayName>,
    keys: Vec<NamedKey>,
    /// SHA-256 of the database, in hexadecimal.
    database_sha256: String,
}

/// Part of `archive.json` that every version has.
#[derive(Debug, Deserialize)]
struct ArchiveVersion {
    version: u32,
}

/// Freezes a person, who may be the owner, and writes their archive. A file that an earlier call has written is verified
/// instead. Returns the number of entries.
pub fn archive(
    settings: &CommonSettings,
    name: &PersonName,
    file: &Path,
    identity: &Identity,
    now: Timestamp,
    progress: ProgressCallback<'_>,
) -> Result<Contents, PersonError> {
    require_database(&existing_or_owner(settings, name)?.database)?;
    ensure_outside(settings, name, file, identity)?;
    let lock = PeopleLock::acquire(settings)?;
    let person = existing_or_owner(settings, name)?;
    let before = current_move(&person.database)?;
    if before.as_ref().is_some_and(|found| found.direction == MoveDirection::Arriving) {
        return Err(PersonError::Unreleased(name.clone()));
    }
    if identity.as_caller(|| file.exists()).map_err(PersonError::at(file))? {
        verify_existing(file, before.as_ref(), identity)?;
        return count_backup(&person.database)
            .map_err(|e| PersonError::at(&person.database)(io::Error::other(e)));
    }
    // First, so that an unusable folder freezes nobody.
    let temp = TempFile::create(folder_of(file), identity).map_err(PersonError::at(file))?;
    let frozen = freeze_with(&lock, &person, now)?;
    let written = write(settings, &lock, &person, (file, temp), &frozen, identity, progress);
    let (temp, contents) = written.inspect_err(|_| {
        if before.is_none()
            && let Err(e) = remove_marker(&lock, &person)
        {
            tracing::error!("{name} stays frozen: {e}");
        }
    })?;
    failpoint("person.archived");
    // Recorded first: once there is an archive, another machine may have it.
    let marked = frozen.archived().write(&person.database);
    marked.map_err(PersonError::at(freeze_marker(&person.database)))?;
    failpoint("person.marked");
    temp.publish(std::iter::once(file.to_owned())).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => PersonError::ArchiveTaken(file.to_owned()),
        _ => PersonError::at(file)(e),
    })?;
    failpoint("person.published");
    Ok(contents)
}

/// Writes the archive of a frozen person into a temporary file, and verifies it.
fn write(
    settings: &CommonSettings,
    lock: &PeopleLock,
    person: &CommonSettings,
    (file, temp): (&Path, TempFile),
    frozen: &FrozenMove,
    identity: &Identity,
    progress: ProgressCallback<'_>,
) -> Result<(TempFile, Contents), PersonError> {
    let folder = UnfinishedFolder::create(settings, lock)?;
    let copy = folder.database();
    let made = snapshot_unrecorded(&person.database, &BackupTarget::File(copy.clone()), identity, progress)?;
    let manifest = ArchiveManifest {
        version: VERSION,
        move_id: frozen.id.clone(),
        person: person.person.clone(),
        display_name: display_name(&person.database).and_then(|name| name.parse().ok()),
        keys: KeyFile::of(&person.database).read()?.0,
        database_sha256: made.sha256,
    };
    write_zip(&temp, &manifest, &copy).map_err(PersonError::at(file))?;
    // The archive may be all that is left of the person, so the bytes that were written are read back.
    let checked = open_archive(temp.file()).and_then(|(mut zip, found)| {
        check_database(&mut zip, &found)?;
        if found == manifest { Ok(()) } else { Err(format!("{MANIFEST} differs")) }
    });
    match checked {
        Ok(()) => Ok((temp, made.contents)),
        Err(reason) => {
            let error = io::Error::other(format!("the archive is not as it was written: {reason}"));
            Err(PersonError::at(file)(error))
        }
    }
}

/// Fails when the file would lie in a folder with data, because removing or restoring that folder would affect it.
fn ensure_outside(
    settings: &CommonSettings,
    name: &PersonName,
    file: &Path,
    identity: &Identity,
) -> Result<(), PersonError> {
    let resolved = identity.as_caller(|| {
        let absolute = std::path::absolute(folder_of(file))?;
        // The folder of the file may be missing.
        let present = absolute.ancestors().find_map(|folder| folder.canonicalize().ok());
        Ok::<_, io::Error>(present.unwrap_or(absolute))
    });
    let resolved = resolved.and_then(|resolved| resolved).map_err(PersonError::at(file))?;
    let person = settings.of_person(name).database;
    for folder in [folder_of(&settings.owner_database), folder_of(&person)] {
        let folder = folder.canonicalize().map_err(PersonError::at(folder))?;
        if resolved.starts_with(&folder) {
            return Err(PersonError::InDataFolder { file: file.to_owned(), folder });
        }
    }
    Ok(())
}

/// Fails unless an existing file is the whole archive of this move.
fn verify_existing(file: &Path, frozen: Option<&FrozenMove>, identity: &Identity) -> Result<(), PersonError> {
    let taken = || PersonError::ArchiveTaken(file.to_owned());
    let opened = identity.as_caller(|| File::open(file)).and_then(|opened| opened);
    let opened = opened.map_err(PersonError::at(file))?;
    let (mut zip, found) = open_archive(&opened).map_err(|_| taken())?;
    if frozen.is_none_or(|frozen| frozen.id != found.move_id) {
        return Err(taken());
    }
    check_database(&mut zip, &found).map_err(|reason| PersonError::Archive { path: file.to_owned(), reason })
}

fn write_zip(temp: &TempFile, manifest: &ArchiveManifest, database: &Path) -> io::Result<()> {
    let mut zip = ZipWriter::new(temp.file());
    let options = SimpleFileOptions::default().unix_permissions(0o600);
    zip.start_file(MANIFEST, options)?;
    zip.write_all(&serde_json::to_vec_pretty(manifest)?)?;
    zip.start_file(DATABASE, options.large_file(true))?;
    io::copy(&mut File::open(database)?, &mut zip)?;
    zip.finish()?;
    Ok(())
}

/// Opens an archive and reads its description.
fn open_archive(file: &File) -> Result<(OpenArchive<'_>, ArchiveManifest), String> {
    let mut zip = open_zip(BufReader::new(file)).map_err(|e| e.to_string())?;
    let manifest = read_manifest(&mut zip)?;
    Ok((zip, manifest))
}

/// Fails when the database in an archive is not the one that its description names.
fn check_database(zip: &mut OpenArchive<'_>, manifest: &ArchiveManifest) -> Result<(), String> {
    let sha256 = copy_database(zip, &mut io::sink()).map_err(|e| e.to_string())?;
    if sha256 == manifest.database_sha256 { Ok(()) } else { Err(DIFFERENT_DATABASE.to_owned()) }
}

/// Copies the database out of an archive, and returns its SHA-256 in hexadecimal.
fn copy_database(zip: &mut OpenArchive<'_>, to: &mut impl Write) -> io::Result<String> {
    let entry = zip.by_name(DATABASE)?;
    let size = entry.size();
    let mut digest = Sha256::new();
    let mut source = entry.take(size);
    let mut chunk = vec![0; 1 << 18];
    loop {
        match source.read(&mut chunk)? {
            0 => break,
            n => {
                digest.update(&chunk[..n]);
                to.write_all(&chunk[..n])?;
            }
        }
    }
    Ok(hex::encode(digest.finalize()))
}

fn read_manifest(zip: &mut OpenArchive<'_>) -> Result<ArchiveManifest, String> {
    let entry = zip.by_name(MANIFEST).map_err(|e| match e {
        ZipError::FileNotFound => "it is not an archive of `coffee-tracker person archive`".to_owned(),
        e => e.to_string(),
    })?;
    let mut text = Vec::new();
    entry.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(|e| e.to_string())?;
    let damaged = |e: serde_json::Error| format!("{MANIFEST} is damaged: {e}");
    let found: ArchiveVersion = serde_json::from_slice(&text).map_err(damaged)?;
    match found.version {
        VERSION => serde_json::from_slice(&text).map_err(damaged),
        other => Err(format!("it has version {other} instead of {VERSION}: install a newer program")),
    }
}

/// Outcome of an adoption.
#[derive(Debug)]
pub enum Adoption {
    /// The person is here now, frozen.
    Added { name: PersonName, contents: Contents },
    /// An earlier call has adopted the person.
    Known(AdoptedPerson),
}

/// Creates a person from an archive, frozen, under its name unless another one is given.
pub fn adopt_archive(
    settings: &CommonSettings,
    file: &Path,
    name: Option<&PersonName>,
    identity: Identity,
    now: Timestamp,
    progress: ProgressCallback<'_>,
) -> Result<Adoption, PersonError> {
    let unfit = |reason: String| PersonError::Archive { path: file.to_owned(), reason };
    let opened = identity.as_caller(|| File::open(file)).and_then(|opened| opened);
    let opened = opened.map_err(PersonError::at(file))?;
    let (mut zip, manifest) = open_archive(&opened).map_err(unfit)?;
    let lock = PeopleLock::acquire(settings)?;
    if let Some(known) = find_adopted(settings, &manifest.move_id)? {
        // The earlier call has succeeded even if it could not do this.
        sync_people(settings)?;
        return Ok(Adoption::Known(known));
    }
    let name = match name {
        None if manifest.person.is_owner() => return Err(PersonError::Nameless),
        name => name.unwrap_or(&manifest.person).clone(),
    };
    ensure_never_released(settings, &manifest.move_id, &[&name, &manifest.person])?;
    let person = unused_here(settings, &name)?;
    ensure_unknown_keys(settings, &manifest.keys)?;
    let folder = UnfinishedFolder::create(settings, &lock)?;
    failpoint("person.begun");
    let unpacked = folder.join("archive.db");
    unpack(&mut zip, &manifest, &unpacked, unfit)?;
    ensure_unused_database(settings, &unpacked)?;
    failpoint("person.unpacked");
    // Migrates an older schema, and verifies the copy that will be used.
    let database = folder.database();
    let restored = RestorePlan::plan(&unpacked, &database, &person.backups, identity, false)
        .and_then(|plan| plan.execute(progress));
    let restored = restored.map_err(|e| match e {
        RestoreError::Unfit { reasons, .. } | RestoreError::CopyUnsound { reasons, .. } => {
            unfit(reasons.join("; "))
        }
        e => PersonError::Restore(e),
    })?;
    failpoint("person.database");
    std::fs::remove_file(&unpacked).map_err(PersonError::at(&unpacked))?;
    set_display_name(&database, manifest.display_name.as_ref()).map_err(PersonError::at(&database))?;
    KeyFile::of(&database).create(keys_of_person(manifest.keys), now)?;
    failpoint("person.key");
    FrozenMove::arriving(manifest.move_id, now).write(&database).map_err(PersonError::at(&database))?;
    failpoint("person.frozen");
    folder.publish(&person)?;
    Ok(Adoption::Added { name, contents: restored.contents })
}

/// Returns the settings of a new person.
fn unused_here(settings: &CommonSettings, name: &PersonName) -> Result<CommonSettings, PersonError> {
    unused(settings, name).map_err(|error| match error {
        PersonError::NameTaken(_) if is_archived(&settings.of_person(name)) => {
            PersonError::MoveUnfinished(name.clone())
        }
        error => error,
    })
}

/// Reports whether another machine may adopt a person.
fn is_archived(person: &CommonSettings) -> bool {
    matches!(current_move(&person.database), Ok(Some(found)) if found.is_leaving() && found.is_archived)
}

/// Unpacks the database of an archive.
fn unpack(
    zip: &mut OpenArchive<'_>,
    manifest: &ArchiveManifest,
    to: &Path,
    unfit: impl Fn(String) -> PersonError,
) -> Result<(), PersonError> {
    let size = zip.by_name(DATABASE).map_err(|e| unfit(e.to_string()))?.size();
    let free = Disk::of(folder_of(to)).map_err(PersonError::at(to))?.free_bytes;
    let needed = size.saturating_add(RESERVED_BYTES);
    if needed > free {
        let megabytes = |bytes: u64| format!("{} MB", bytes.div_ceil(1_000_000));
        let (needed, free) = (megabytes(needed), megabytes(free));
        return Err(PersonError::NoRoom { path: to.to_owned(), needed, free });
    }
    let mut copy = File::create_new(to).map_err(PersonError::at(to))?;
    let sha256 = copy_database(zip, &mut copy).map_err(|e| match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PersonError::at(to)(e),
        _ => unfit(e.to_string()),
    })?;
    if sha256 == manifest.database_sha256 { Ok(()) } else { Err(unfit(DIFFERENT_DATABASE.to_owned())) }
}

/// Fails when a person here has one of these keys: a key belongs to one person.
fn ensure_unknown_keys(settings: &CommonSettings, keys: &[NamedKey]) -> Result<(), PersonError> {
    let people = list(settings).map_err(PersonError::at(settings.people_folder()))?;
    for person in std::iter::once(PersonName::owner()).chain(people) {
        let (present, _) = KeyFile::of(&settings.of_person(&person).database).read()?;
        let taken = keys.iter().find(|key| present.iter().any(|other| other.digest == key.digest));
        if let Some(key) = taken {
            return Err(PersonError::KeyTaken { key: key.name.clone(), person });
        }
    }
    Ok(())
}

/// Returns the keys with the scopes that a person other than the owner can have.
fn keys_of_person(mut keys: Vec<NamedKey>) -> Vec<NamedKey> {
    for key in &mut keys {
        key.scopes = key.scopes.without(Scope::Metrics);
    }
    keys.retain(|key| !Vec::from(key.scopes).is_empty());
    keys
}
