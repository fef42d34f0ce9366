//! Opening a database for a server; a migration backs it up first.

use crate::backup::snapshot::{BackupTarget, no_progress, snapshot};
use crate::db::error::{FailedBackup, OpenError};
use crate::db::schema::migrations;
use crate::db::store::{OnMissing, Options, Store};
use crate::fs::privileges::Identity;

/// Opens a database, creates it when there is none, and migrates its schema.
pub fn open_store(options: &Options) -> Result<Store, OpenError> {
    open_with(options, migrations(), OnMissing::Refuse)
}

/// Creates an empty database where a former one is gone, keeping its log under another name.
///
/// # Errors
/// [`OpenError::Present`] when there is a database.
pub fn open_new_store(options: &Options) -> Result<Store, OpenError> {
    open_with(options, migrations(), OnMissing::Create)
}

pub(crate) fn open_with(
    options: &Options,
    migrations: &[&str],
    beginning: OnMissing,
) -> Result<Store, OpenError> {
    Store::open(options, migrations, beginning, || {
        let target = BackupTarget::Folder(options.backups.clone());
        snapshot(&options.path, &target, &Identity::CALLER, &no_progress)
            .map(drop)
            .map_err(|e| FailedBackup { why: e.to_string(), is_transient: e.is_transient() })
    })
}
