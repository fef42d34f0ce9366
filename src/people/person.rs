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
use crate::fs::freeze_marker::is_frozen;
use crate::fs::paths::folder_of;
use crate::fs::temp_file::remove_stale;
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
    /// The person was being moved to another machine at the last refresh.
    is_frozen: AtomicBool,
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
    /// Loads the keys of a person, and removes what a server that was killed had received.
    pub(super) fn new(name: PersonName, options: Options) -> Self {
        remove_stale(folder_of(&options.path));
        Self {
            name,
            keys: KeyStore::open(&options.path),
            revoked_keys: RevokedKeys::default(),
            display_name: Mutex::new(display_name(&options.path)),
            database: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            last_used: AtomicU64::new(0),
            is_requested: AtomicBool::new(false),
            is_frozen: AtomicBool::new(is_frozen(&options.path)),
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

    /// Returns the reason why the database cannot be used, if it was found to be damaged or missing. It may contain paths,
    /// which are only for the owner.
    pub fn failure(&self) -> Option<String> {
        match lock(&self.failure).as_ref()?.reason.clone() {
            Unavailable::Broken(reason) => Some(reason),
            Unavailable::Busy => None,
        }
    }

    /// Returns the time of the last attempt to use a database that was found to be damaged or missing.
    pub(super) fn failed_at(&self) -> Option<Duration> {
        let failure = lock(&self.failure);
        failure.as_ref().filter(|f| matches!(f.reason, Unavailable::Broken(_))).map(|f| f.at)
    }

    /// Returns the database if it is open, and records its use. It is busy while a command requests it to be closed;
    /// otherwise, traffic could keep it open forever.
    pub(super) fn open_database(
        &self,
        elapsed: Duration,
    ) -> Option<Result<Arc<PersonDatabase>, Unavailable>> {
        let database = self.peek_database()?;
        if self.is_requested() {
            return Some(Err(Unavailable::Busy));
        }
        self.record_use(elapsed);
        Some(Ok(database))
    }

    /// Returns the database if it is open. Does not count as its use.
    pub(super) fn peek_database(&self) -> Option<Arc<PersonDatabase>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn record_use(&self, elapsed: Duration) {
        self.last_used.store(millis(elapsed), Ordering::Relaxed);
    }

    /// Returns the reason of a recent failure to open the database.
    pub(super) fn recent_failure(&self, elapsed: Duration) -> Option<Unavailable> {
        let failure = lock(&self.failure);
        failure.as_ref().filter(|f| elapsed < f.at + RETRY_DELAY).map(|f| f.reason.clone())
    }

    /// Opens the store. Blocks on files.
    pub(super) fn open_store(&self) -> Result<Store, Unavailable> {
        if self.is_leaving() {
            return Err(Unavailable::Busy);
        }
        self.is_requested.store(false, Ordering::Relaxed);
        open_store(&self.options).map_err(|e| if self.is_gone() { Unavailable::Busy } else { e.into() })
    }

    /// Reports whether a command is moving or removing the files, or has done so. Blocks on files.
    pub(super) fn is_leaving(&self) -> bool {
        self.is_gone() || is_closing(self.path())
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
                self.forget_failure_of_sound(&database);
                Ok(database)
            }
            Err(reason) => {
                self.record_failure(reason.clone(), elapsed);
                Err(reason)
            }
        }
    }

    /// Records why the database cannot be used. Damage stays recorded while the database is busy.
    pub(super) fn record_failure(&self, reason: Unavailable, elapsed: Duration) {
        let mut failure = lock(&self.failure);
        let known = failure.take().map(|failure| failure.reason);
        let reason = match (known, reason) {
            (Some(broken @ Unavailable::Broken(_)), Unavailable::Busy) => broken,
            (known, reason @ Unavailable::Broken(_)) if known.as_ref() != Some(&reason) => {
                tracing::error!(person = self.name.as_str(), "the database is unavailable: {reason}");
                reason
            }
            (_, reason) => reason,
        };
        *failure = Some(OpenFailure { reason, at: elapsed });
    }

    /// Forgets a failure once the open database is known to be sound. After damage, that takes a check of the file.
    pub(super) fn forget_failure_of_sound(&self, database: &PersonDatabase) {
        if database.store.is_sound() {
            *lock(&self.failure) = None;
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

    /// Reports whether the person was being moved to another machine at the last refresh. Cached; writers check the
    /// marker under their lock.
    pub fn is_frozen(&self) -> bool {
        self.is_frozen.load(Ordering::Relaxed)
    }

    /// Looks whether the person is being moved to another machine. Blocks on files.
    pub fn refresh_freeze(&self) -> bool {
        let is_frozen = is_frozen(self.path());
        self.is_frozen.store(is_frozen, Ordering::Relaxed);
        is_frozen
    }

    /// Reloads the keys if their file has changed. Returns whether it has. Those of a person whose folder is gone stay
    /// valid until the next search for people. Blocks on files.
    pub(super) fn refresh_keys(&self, elapsed: Duration) -> bool {
        if self.is_gone() {
            return false;
        }
        self.is_requested.store(is_closing(self.path()), Ordering::Relaxed);
        self.refresh_freeze();
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

    /// Reports whether the folder is gone, because the person was renamed or removed.
    fn is_gone(&self) -> bool {
        matches!(folder_of(self.path()).try_exists(), Ok(false))
    }

    /// Saves when keys were last used. Blocks on files.
    pub(super) fn save_key_uses(&self) {
        self.keys.save_all_uses();
    }

    /// Closes the database. Blocks on files.
    pub(super) fn close(&self) {
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
