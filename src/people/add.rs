//! Creation of a person: folder, database and first key.

use crate::auth::key::{KeyName, Scope, Scopes};
use crate::auth::key_file::KeyFile;
use crate::backup::open::open_store;
use crate::config::CommonSettings;
use crate::db::store::Options;
use crate::domain::person::{DisplayName, PersonName};
use crate::domain::time::Timestamp;
use crate::fs::failpoint::failpoint;
use crate::people::error::PersonError;
use crate::people::folder::{PeopleLock, UnfinishedFolder, set_display_name, unused};

/// Scopes of the first key of a person.
pub const FIRST_KEY_SCOPES: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Manage];

/// Creates a person, and returns their first key. It cannot be looked up later.
pub fn add(
    settings: &CommonSettings,
    name: &PersonName,
    display_name: Option<&DisplayName>,
    key_name: &KeyName,
    now: Timestamp,
) -> Result<String, PersonError> {
    unused(settings, name)?;
    let lock = PeopleLock::acquire(settings)?;
    let person = unused(settings, name)?;
    let folder = UnfinishedFolder::create(settings, &lock)?;
    failpoint("person.begun");
    let database = folder.database();
    let options = Options::of_command(database.clone(), person.backups.clone());
    open_store(&options)?.close();
    failpoint("person.database");
    if display_name.is_some() {
        set_display_name(&database, display_name).map_err(PersonError::at(&database))?;
    }
    let scopes = Scopes::from(FIRST_KEY_SCOPES.to_vec());
    let key = KeyFile::of(&database).add(key_name, scopes, None, now)?;
    failpoint("person.key");
    folder.publish(&person)?;
    Ok(key)
}
