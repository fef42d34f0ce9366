//! Archive of a person in one file, for moving them to another machine.
//!
//! It is a zip file with a verified backup of the database (`coffee.db`), the digests of the keys, the display name
//! and a digest of the database (`archive.json`). It does not contain backups.

use std::fs::File;
use std::io;
use std::io::{BufReader, Read, Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::auth::key::{NamedKey, Scope};
use crate::auth::key_file::KeyFile;
use crate::backup::restore::{RestoreError, RestorePlan};
use crate::backup::snapshot::{BackupTarget, ProgressCallback, Snapshot, snapshot_unrecorded};
use crate::backup::verify::Contents;
use crate::config::CommonSettings;
use crate::db::error::require_database;
use crate::domain::person::{DisplayName, PersonName};
use crate::domain::time::Timestamp;
use crate::fs::failpoint::failpoint;
use crate::fs::paths::folder_of;
use crate::fs::privileges::Identity;
use crate::fs::temp_file::TempFile;
use crate::people::error::PersonError;
use crate::people::folder::{PeopleLock, UnfinishedFolder, display_name, existing, set_display_name, unused};
use crate::people::relocate::ensure_unused_database;

/// Name of the database in the archive.
const DATABASE: &str = "coffee.db";
/// Name of the file that describes the archive.
const MANIFEST: &str = "archive.json";
/// Version of the format.
const VERSION: u32 = 1;
/// Maximum size of the description.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Content of `archive.json`.
#[derive(Debug, Serialize, Deserialize)]
struct ArchiveManifest {
    version: u32,
    person: PersonName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_name: Option<DisplayName>,
    keys: Vec<NamedKey>,
    /// SHA-256 of the database, in hexadecimal.
    database_sha256: String,
}

/// Writes the archive of a person, who may be the owner and whose database may be in use.
pub fn archive(
    settings: &CommonSettings,
    name: &PersonName,
    file: &Path,
    identity: &Identity,
    progress: ProgressCallback<'_>,
) -> Result<Snapshot, PersonError> {
    let person = if name.is_owner() { settings.of_person(name) } else { existing(settings, name)? };
    require_database(&person.database)?;
    if identity.as_caller(|| file.exists()).map_err(PersonError::at(file))? {
        return Err(PersonError::ArchiveTaken(file.to_owned()));
    }
    let lock = PeopleLock::acquire(settings)?;
    let folder = UnfinishedFolder::create(settings, &lock)?;
    let copy = folder.database();
    let made = snapshot_unrecorded(&person.database, &BackupTarget::File(copy.clone()), identity, progress)?;
    let manifest = ArchiveManifest {
        version: VERSION,
        person: name.clone(),
        display_name: display_name(&person.database).and_then(|name| name.parse().ok()),
        keys: KeyFile::of(&person.database).read()?.0,
        database_sha256: made.sha256.clone(),
    };
    let mut temp = TempFile::create(folder_of(file), identity).map_err(PersonError::at(file))?;
    write_zip(&temp, &manifest, &copy).map_err(PersonError::at(file))?;
    // The archive may be all that is left of the person, so the bytes that were written are read back.
    temp = check_zip(temp, &manifest).map_err(|reason| {
        PersonError::at(file)(io::Error::other(format!("the archive is not as it was written: {reason}")))
    })?;
    failpoint("person.archived");
    temp.publish(std::iter::once(file.to_owned())).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => PersonError::ArchiveTaken(file.to_owned()),
        _ => PersonError::at(file)(e),
    })?;
    Ok(made)
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

fn check_zip(temp: TempFile, manifest: &ArchiveManifest) -> Result<TempFile, String> {
    let mut zip = ZipArchive::new(BufReader::new(temp.file())).map_err(|e| e.to_string())?;
    let sha256 = copy_database(&mut zip, &mut io::sink()).map_err(|e| e.to_string())?;
    drop(zip);
    if sha256 == manifest.database_sha256 { Ok(temp) } else { Err("its digest differs".to_owned()) }
}

/// Copies the database out of an archive, and returns its SHA-256 in hexadecimal.
fn copy_database(zip: &mut ZipArchive<impl Read + Seek>, to: &mut impl Write) -> io::Result<String> {
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

fn read_manifest(zip: &mut ZipArchive<impl Read + Seek>) -> Result<ArchiveManifest, String> {
    let entry = zip.by_name(MANIFEST).map_err(|e| match e {
        ZipError::FileNotFound => "it is not an archive of `coffee-tracker person archive`".to_owned(),
        e => e.to_string(),
    })?;
    let mut text = Vec::new();
    entry.take(MAX_MANIFEST_BYTES).read_to_end(&mut text).map_err(|e| e.to_string())?;
    let manifest: ArchiveManifest =
        serde_json::from_slice(&text).map_err(|e| format!("{MANIFEST} is damaged: {e}"))?;
    match manifest.version {
        VERSION => Ok(manifest),
        other => Err(format!("it has version {other} instead of {VERSION}: install a newer program")),
    }
}

/// Creates a person from an archive, under its name unless another one is given.
pub fn adopt_archive(
    settings: &CommonSettings,
    file: &Path,
    name: Option<&PersonName>,
    identity: Identity,
    now: Timestamp,
    progress: ProgressCallback<'_>,
) -> Result<(PersonName, Contents), PersonError> {
    let unfit = |reason: String| PersonError::Archive { path: file.to_owned(), reason };
    let opened = identity.as_caller(|| File::open(file)).and_then(|opened| opened);
    let opened = BufReader::new(opened.map_err(PersonError::at(file))?);
    let mut zip = ZipArchive::new(opened).map_err(|e| unfit(e.to_string()))?;
    let manifest = read_manifest(&mut zip).map_err(unfit)?;
    let name = match name {
        None if manifest.person.is_owner() => return Err(PersonError::Nameless),
        name => name.unwrap_or(&manifest.person).clone(),
    };
    unused(settings, &name)?;
    let lock = PeopleLock::acquire(settings)?;
    let person = unused(settings, &name)?;
    let folder = UnfinishedFolder::create(settings, &lock)?;
    failpoint("person.begun");
    let unpacked = folder.join("archive.db");
    let mut copy = File::create_new(&unpacked).map_err(PersonError::at(&unpacked))?;
    let sha256 = copy_database(&mut zip, &mut copy).map_err(|e| match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PersonError::at(&unpacked)(e),
        _ => unfit(e.to_string()),
    })?;
    drop(copy);
    if sha256 != manifest.database_sha256 {
        return Err(unfit("it is damaged: the database differs from the one that was archived".to_owned()));
    }
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
    folder.publish(&person)?;
    Ok((name, restored.contents))
}

/// Returns the keys with the scopes that a person other than the owner can have.
fn keys_of_person(mut keys: Vec<NamedKey>) -> Vec<NamedKey> {
    for key in &mut keys {
        key.scopes = key.scopes.without(Scope::Metrics);
    }
    keys.retain(|key| !Vec::from(key.scopes).is_empty());
    keys
}
