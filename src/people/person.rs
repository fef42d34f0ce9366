//! A person of a running server: name, keys, and the database while it is open.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::auth::key_store::KeyStore;
use crate::auth::revoked_keys::RevokedKeys;
use crate::backup::open::open_store;
use crate::db::error::{OpenError, StoreError};
use crate::db::health::{BackupRecord, Overview};
use crate::db::store::{Options, Store};
use crate::domain::person::PersonName;
use crate::fs::paths::folder_of;
use crate::people::database::PersonDatabase;
use crate::people::folder::{display_name, is_closing};

/// Time after a failed attempt to open a database in which there is no further one.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Reason why the database of a person cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// A command is using it, it is being closed, or too many others are open.
    #[error("busy")]
    Busy,
    /// It is damaged or missing, or the disk fails. The log has the reason.
    #[error("{0}")]
    Broken(String),
}

impl From<OpenError> for Unavailable {
    fn from(error: OpenError) -> Self {
        if error.is_transient() { Self::Busy } else { Self::Broken(error.cause()) }
    }
}

/// A person whose data this server stores.
#[derive(Debug)]
pub struct Person {
    name: PersonName,
    pub(super) keys: KeyStore,
    pub(super) revoked_keys: RevokedKeys,
    options: Options,
    display_name: Mutex<Option<String>>,
    database: RwLock<Option<Arc<PersonDatabase>>>,
    /// Held while the database is opened or closed.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Time of the last request, milliseconds since the server's clock was created.
    last_used: AtomicU64,
    /// A command waits for the database to be closed.
    is_requested: AtomicBool,
    failure: Mutex<Option<OpenFailure>>,
    /// Newest entries when the database was closed; `None` until then.
    last_overview: Mutex<Option<Overview>>,
    backup: Mutex<BackupRecord>,
}

/// Failed attempt to open a database.
#[derive(Clone, Debug)]
struct OpenFailure {
    reason: Unavailable,
    at: Duration,
}

impl Person {
    /// Loads the keys of a person.
    pub(super) fn new(name: PersonName, options: Options) -> Self {
        Self {
            name,
            keys: KeyStore::open(&options.path),
            revoked_keys: RevokedKeys::default(),
            display_name: Mutex::new(display_name(&options.path)),
            database: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            last_used: AtomicU64::new(0),
            is_requested: AtomicBool::new(false),
            failure: Mutex::default(),
            last_overview: Mutex::default(),
            backup: Mutex::new(BackupRecord::read(&options.path)),
            options,
        }
    }

    pub fn name(&self) -> &PersonName {
        &self.name
    }

    /// Returns the name for people to read, if one was set.
    pub fn display_name(&self) -> Option<String> {
        lock(&self.display_name).clone()
    }

    /// Returns the reason why the database cannot be used, if it was found to be damaged or missing.
    pub fn failure(&self) -> Option<String> {
        match lock(&self.failure).as_ref()?.reason.clone() {
            Unavailable::Broken(reason) => Some(reason),
            Unavailable::Busy => None,
        }
    }

    /// Returns the database if it is open, and records its use.
    pub(super) fn open_database(&self, elapsed: Duration) -> Option<Arc<PersonDatabase>> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        self.last_used.store(millis(elapsed), Ordering::Relaxed);
        Some(database)
    }

    /// Returns the database if it is open. Does not count as its use.
    pub(super) fn peek_database(&self) -> Option<Arc<PersonDatabase>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the reason of a recent failure to open the database.
    pub(super) fn recent_failure(&self, elapsed: Duration) -> Option<Unavailable> {
        let failure = lock(&self.failure);
        failure.as_ref().filter(|f| elapsed < f.at + RETRY_DELAY).map(|f| f.reason.clone())
    }

    /// Opens the store. Blocks on files.
    pub(super) fn open_store(&self) -> Result<Store, Unavailable> {
        if self.is_leaving() { Err(Unavailable::Busy) } else { Ok(open_store(&self.options)?) }
    }

    /// Reports whether a command is moving or removing the files, or has done so. Blocks on files.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(folder_of(self.path()).try_exists(), Ok(false)) || is_closing(self.path())
    }

    /// Publishes a database that was opened, or records why it could not be.
    pub(super) fn set_database(
        &self,
        opened: Result<PersonDatabase, Unavailable>,
        elapsed: Duration,
    ) -> Result<Arc<PersonDatabase>, Unavailable> {
        match opened {
            Ok(database) => {
                let database = Arc::new(database);
                *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&database));
                self.last_used.store(millis(elapsed), Ordering::Relaxed);
                *lock(&self.failure) = None;
                Ok(database)
            }
            Err(reason) => {
                let mut failure = lock(&self.failure);
                if failure.as_ref().is_none_or(|known| known.reason != reason) {
                    tracing::error!(person = self.name.as_str(), "the database cannot be opened: {reason}");
                }
                *failure = Some(OpenFailure { reason: reason.clone(), at: elapsed });
                Err(reason)
            }
        }
    }

    /// Takes the database out of use if nothing else holds it. The caller then closes it.
    pub(super) fn take_unused(&self) -> Option<PersonDatabase> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        match Arc::try_unwrap(database.take()?) {
            Ok(unused) => {
                *lock(&self.last_overview) = Some(unused.overview());
                Some(unused)
            }
            Err(used) => {
                *database = Some(used);
                None
            }
        }
    }

    /// Returns the time of the last request.
    pub(super) fn last_used(&self) -> Duration {
        Duration::from_millis(self.last_used.load(Ordering::Relaxed))
    }

    /// Reports whether a command waited for the database to be closed at the last refresh.
    pub(super) fn is_requested(&self) -> bool {
        self.is_requested.load(Ordering::Relaxed)
    }

    /// Reloads the keys if their file has changed. Returns whether it has. Blocks on files.
    pub(super) fn refresh_keys(&self, elapsed: Duration) -> bool {
        self.is_requested.store(is_closing(self.path()), Ordering::Relaxed);
        self.keys.refresh(elapsed)
    }

    /// Refreshes what else is cached from the files. Blocks on files.
    pub fn refresh_details(&self) {
        let (name, backup) = (display_name(self.path()), BackupRecord::read(self.path()));
        *lock(&self.display_name) = name;
        *lock(&self.backup) = backup;
    }

    /// Returns the outcome of the last backup.
    pub fn backup(&self) -> BackupRecord {
        lock(&self.backup).clone()
    }

    /// Returns the newest entries; `None` when the database was never open.
    pub fn overview(&self) -> Option<Overview> {
        self.peek_database().map(|database| database.overview()).or_else(|| lock(&self.last_overview).clone())
    }

    /// Saves when keys were last used, and closes the database. Blocks on files.
    pub(super) fn close(&self) {
        self.keys.save_all_uses();
        if let Some(database) = self.peek_database() {
            database.store.close();
        }
    }

    fn path(&self) -> &Path {
        &self.options.path
    }
}

impl From<StoreError> for Unavailable {
    fn from(error: StoreError) -> Self {
        if error.is_transient() { Self::Busy } else { Self::Broken(error.to_string()) }
    }
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
