//! Open database of a person.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use crate::db::error::StoreError;
use crate::db::health::Overview;
use crate::db::store::Store;
use crate::domain::advice::CaffeineProfile;
use crate::domain::time::Timestamp;

/// Open database of a person. It stays open as long as a request holds it.
#[derive(Debug)]
pub struct PersonDatabase {
    pub store: Store,
    pub is_owner: bool,
    /// Newest entries at the last refresh.
    overview: Mutex<Overview>,
    /// Time of the newest known entry, microseconds since 1970.
    newest_entry: AtomicI64,
    /// Place among the databases that may be open at once; the owner's needs none.
    _place: Option<OwnedSemaphorePermit>,
}

impl PersonDatabase {
    /// Reads the newest entry of a database that was just opened. Closes it after an error.
    pub(crate) async fn new(store: Store, place: Option<OwnedSemaphorePermit>) -> Result<Self, StoreError> {
        let database = Self {
            store,
            is_owner: place.is_none(),
            overview: Mutex::default(),
            newest_entry: AtomicI64::new(i64::MIN),
            _place: place,
        };
        match database.read_overview().await {
            Ok(()) => Ok(database),
            Err(e) => {
                if let Err(e) = spawn_blocking(move || database.store.close()).await {
                    tracing::error!("the database could not be closed: {e}");
                }
                Err(e)
            }
        }
    }

    /// Returns the profile in effect: the person's own values over the defaults of the settings.
    pub async fn profile(&self, defaults: &CaffeineProfile) -> Result<CaffeineProfile, StoreError> {
        Ok(self.store.own_profile().await?.over(defaults))
    }

    /// Returns the time of the newest known entry; [`Timestamp::MIN`] when there is none.
    pub fn newest_entry(&self) -> Timestamp {
        Timestamp::clamped(self.newest_entry.load(Ordering::Relaxed))
    }

    /// Raises the time of the newest entry to that of a stored entry, if this is later.
    pub(crate) fn raise_newest_entry(&self, at: Timestamp) {
        self.newest_entry.fetch_max(at.micros(), Ordering::Relaxed);
    }

    /// Returns the newest entries at the last refresh.
    pub fn overview(&self) -> Overview {
        self.overview.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Refreshes what is cached from the database, which a restore or an import may change.
    pub(crate) async fn refresh(&self) {
        // Errors are counted by the store.
        drop(self.read_overview().await);
    }

    async fn read_overview(&self) -> Result<(), StoreError> {
        let overview = self.store.overview().await?;
        self.newest_entry.store(overview.newest().map_or(i64::MIN, Timestamp::micros), Ordering::Relaxed);
        *self.overview.lock().unwrap_or_else(PoisonError::into_inner) = overview;
        Ok(())
    }
}
