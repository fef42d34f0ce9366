//! Everyone whose data a running server stores, and their open databases.
//!
//! The owner's database is always open. Those of the others are opened by their first request, and closed when
//! they were idle for a while, when another one needs their place, or when a command requests it. A database
//! that a request holds is never closed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

use crate::auth::key::{KeyDigest, KeyId, Scope, Scopes};
use crate::auth::key_store::KeyDetails;
use crate::auth::pairing::Pairings;
use crate::clock::Clock;
use crate::config::CommonSettings;
use crate::db::idempotency::ResponseClock;
use crate::db::store::{Options, Store, StoreResources};
use crate::domain::person::PersonName;
use crate::people::database::PersonDatabase;
use crate::people::folder;
use crate::people::person::{Person, Unavailable};
use crate::people::removed::DailyDeletion;

/// Idle time after which a database is closed.
const MAX_IDLE: Duration = Duration::from_secs(300);
/// Interval at which the details of people whose databases are closed are refreshed, seconds.
const DETAILS_INTERVAL: u64 = 30;
/// Maximum wait for a place among the open databases.
const MAX_WAIT_FOR_PLACE: Duration = Duration::from_secs(10);
/// Maximum number of databases that are opened at once. Slow ones must leave blocking threads to the probe of the
/// watchdog.
const MAX_OPENING: usize = 2;
/// Maximum number of databases that are closed at once when the server stops.
const MAX_CLOSING: usize = 4;
/// Interval of attempts to open a database that was damaged or missing.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
/// Interval of attempts to find a place.
const PLACE_INTERVAL: Duration = Duration::from_millis(20);

/// Options of the registry.
#[derive(Debug)]
pub struct PeopleOptions {
    /// Settings of the owner.
    pub settings: CommonSettings,
    /// The owner's key.
    pub owner_key: String,
    /// Maximum number of open databases besides the owner's.
    pub max_open: usize,
    /// Days after which a removed person is deleted; `None` keeps removed people forever.
    pub removed_person_days: Option<u32>,
    /// Duration from which a query is logged as slow.
    pub slow_query: Duration,
    pub resources: Arc<StoreResources>,
}

/// Everyone whose data this server stores.
#[derive(Debug)]
pub struct People {
    options: PeopleOptions,
    pub(super) clock: Clock,
    owner: Arc<Person>,
    owner_key: RwLock<KeyDigest>,
    others: RwLock<Others>,
    pub(super) pairings: Pairings,
    /// Places of open databases besides the owner's.
    places: Arc<Semaphore>,
    /// Slots of databases that are being opened.
    opening: Arc<Semaphore>,
    deletion: Mutex<DailyDeletion>,
}

/// Everyone except the owner.
#[derive(Debug, Default)]
struct Others {
    by_name: BTreeMap<PersonName, Arc<Person>>,
    by_key: HashMap<KeyDigest, Arc<Person>>,
}

/// Valid key that came with a request, and the person to whom it belongs.
#[derive(Clone, Debug)]
pub struct ValidKey {
    pub id: KeyId,
    pub scopes: Scopes,
    pub person: Arc<Person>,
    sign_in: SignIn,
}

/// Way in which a request showed that it may act for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SignIn {
    OwnerKey,
    NamedKey,
    /// A trusted proxy named the person.
    Proxy,
}

/// Scopes of a person whom a trusted proxy names.
const PROXY_SCOPES: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Manage];

impl ValidKey {
    /// Returns the name of the key and its times; `None` when it was revoked meanwhile.
    pub fn details(&self) -> Option<KeyDetails> {
        let unnamed = |name: &str| Some(KeyDetails { name: name.to_owned(), created: None, last_used: None });
        match self.sign_in {
            SignIn::OwnerKey => unnamed("owner"),
            SignIn::Proxy => unnamed("proxy"),
            SignIn::NamedKey => self.person.keys.details(self.id),
        }
    }

    /// Reports whether a proxy named the person. Browsers then send no key of their own, so that another web page
    /// could make them send a request.
    pub fn is_from_proxy(&self) -> bool {
        self.sign_in == SignIn::Proxy
    }
}

impl People {
    /// Loads everyone and publishes the owner's open database. Blocks on files.
    pub async fn new(options: PeopleOptions, owner: Store, clock: Clock) -> Result<Self, Unavailable> {
        let name = PersonName::owner();
        let person = Person::new(name.clone(), options.of(&name, clock.elapsed()));
        person.set_database(PersonDatabase::new(owner, None).await.map_err(Into::into), clock.elapsed())?;
        let people = Self {
            owner_key: RwLock::new(KeyDigest::of(&options.owner_key)),
            places: Arc::new(Semaphore::new(options.max_open)),
            opening: Arc::new(Semaphore::new(MAX_OPENING)),
            options,
            pairings: Pairings::new(clock.clone()),
            clock,
            owner: Arc::new(person),
            others: RwLock::default(),
            deletion: Mutex::default(),
        };
        if let Err(e) = folder::recover(&people.options.settings) {
            tracing::warn!("what killed commands left unfinished could not be removed: {e}");
        }
        people.rescan();
        Ok(people)
    }

    pub fn owner(&self) -> &Arc<Person> {
        &self.owner
    }

    /// Returns everyone except the owner, by name.
    pub fn others(&self) -> Vec<Arc<Person>> {
        self.read_others().by_name.values().cloned().collect()
    }

    /// Returns the open databases with their people, the owner first. Does not count as their use.
    pub fn open_databases(&self) -> Vec<(Arc<Person>, Arc<PersonDatabase>)> {
        let everyone = std::iter::once(Arc::clone(&self.owner)).chain(self.others());
        everyone.filter_map(|person| person.peek_database().map(|database| (person, database))).collect()
    }

    /// Reports whether the owner's database responds; see [`Store::answers`].
    pub async fn answers(&self, silence: Duration) -> bool {
        match self.owner.peek_database() {
            Some(database) => database.store.answers(silence).await,
            None => false,
        }
    }

    pub fn resources(&self) -> &StoreResources {
        &self.options.resources
    }

    /// Looks a key up by its digest; `None` when it is not valid. Does no I/O.
    pub fn find_key(&self, presented: &str) -> Option<ValidKey> {
        let digest = KeyDigest::of(presented);
        let is_owner_key = digest == *self.owner_key.read().unwrap_or_else(PoisonError::into_inner);
        let found = |scopes, person: &Arc<Person>| {
            let sign_in = if is_owner_key { SignIn::OwnerKey } else { SignIn::NamedKey };
            ValidKey { id: digest.id(), scopes, person: Arc::clone(person), sign_in }
        };
        if is_owner_key {
            return Some(found(Scopes::ALL, &self.owner));
        }
        let now = self.clock.now();
        if let Some(scopes) = self.owner.keys.record_use(&digest, now) {
            return Some(found(scopes, &self.owner));
        }
        let others = self.read_others();
        let person = others.by_key.get(&digest)?;
        Some(found(person.keys.record_use(&digest, now)?, person))
    }

    /// Replaces the owner's key. Returns whether it is another one. The previous key is invalid from then on.
    pub fn replace_owner_key(&self, key: &str) -> bool {
        let mut current = self.owner_key.write().unwrap_or_else(PoisonError::into_inner);
        let digest = KeyDigest::of(key);
        std::mem::replace(&mut *current, digest) != digest
    }

    /// Returns the person of this name.
    pub fn find(&self, name: &PersonName) -> Option<Arc<Person>> {
        if name.is_owner() {
            Some(Arc::clone(&self.owner))
        } else {
            self.read_others().by_name.get(name).cloned()
        }
    }

    /// Returns what a person may do whom a trusted proxy names; `None` when there is no such person.
    pub fn find_proxy_user(&self, name: &str) -> Option<ValidKey> {
        let name: PersonName = name.parse().ok()?;
        let person = self.find(&name)?;
        // A key cannot contain a space.
        let id = KeyDigest::of(&format!("proxy {name}")).id();
        Some(ValidKey { id, scopes: Scopes::from(PROXY_SCOPES.to_vec()), person, sign_in: SignIn::Proxy })
    }

    /// Returns the database of a person, and opens it if it is closed.
    pub async fn open(&self, person: &Arc<Person>) -> Result<Arc<PersonDatabase>, Unavailable> {
        if let Some(found) = person.open_database(self.clock.elapsed()) {
            return found;
        }
        // Boxed, so that the usual request does not carry the state of opening.
        let opened = Box::pin(self.open_closed(person)).await?;
        person.record_use(self.clock.elapsed());
        Ok(opened)
    }

    async fn open_closed(&self, person: &Arc<Person>) -> Result<Arc<PersonDatabase>, Unavailable> {
        let deadline = Instant::now() + MAX_WAIT_FOR_PLACE;
        // Locked first: of several requests to a person, only one looks for a place.
        let changing = timeout_at(deadline, person.changing.lock()).await;
        let _changing = changing.map_err(|_| Unavailable::Busy)?;
        let elapsed = self.clock.elapsed();
        if let Some(found) = person.open_database(elapsed) {
            return found;
        }
        if let Some(reason) = person.recent_failure(elapsed) {
            return Err(reason);
        }
        let place = self.place(deadline).await.ok_or(Unavailable::Busy)?;
        let slot = timeout_at(deadline, Arc::clone(&self.opening).acquire_owned()).await;
        let slot = slot.ok().and_then(Result::ok).ok_or(Unavailable::Busy)?;
        let opening = Arc::clone(person);
        let open = move || {
            // In the closure, which goes on when the request is aborted.
            let _slot = slot;
            opening.open_store()
        };
        let store = spawn_blocking(open).await;
        let opened = match store.unwrap_or_else(|e| Err(Unavailable::Broken(e.to_string()))) {
            Ok(store) => PersonDatabase::new(store, Some(place)).await.map_err(Into::into),
            Err(reason) => Err(reason),
        };
        // Opening may have taken long.
        person.set_database(opened, self.clock.elapsed())
    }

    /// Waits for a place, and closes the database that was unused for the longest time if none is free. Returns
    /// `None` after the deadline.
    async fn place(&self, deadline: Instant) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return Some(place);
            }
            // Not a timeout around the loop, which could abandon a database that is half closed.
            if Instant::now() >= deadline {
                return None;
            }
            let mut open = self.others();
            open.retain(|person| person.peek_database().is_some());
            // Cached, as requests change the times meanwhile.
            open.sort_by_cached_key(|person| person.last_used());
            let mut has_closed = false;
            for person in open {
                has_closed = self.close_unused(&person).await;
                if has_closed {
                    break;
                }
            }
            if !has_closed {
                sleep(PLACE_INTERVAL).await;
            }
        }
    }

    /// Refreshes what is cached from the databases, and closes those that are idle, requested by a command, or
    /// of a person who was removed.
    pub async fn refresh_databases(&self) {
        let elapsed = self.clock.elapsed();
        if let Some(database) = self.owner.peek_database() {
            database.refresh().await;
        }
        for person in self.others() {
            let Some(database) = person.peek_database() else { continue };
            person.forget_failure_of_sound(&database);
            let is_idle = elapsed.saturating_sub(person.last_used()) >= MAX_IDLE;
            if is_idle && !database.store.is_being_checked() || person.is_requested() {
                drop(database);
                self.close_unused(&person).await;
            } else {
                database.refresh().await;
            }
        }
        self.retry_failed().await;
    }

    /// Opens the database that has failed for the longest time, so that `/health` recovers after a repair.
    async fn retry_failed(&self) {
        let elapsed = self.clock.elapsed();
        let others = self.others();
        let closed = others.iter().filter(|person| person.peek_database().is_none());
        let failed = closed.filter_map(|person| Some((person.failed_at()?, person)));
        let due = failed.filter(|(at, _)| elapsed >= *at + RETRY_INTERVAL).min_by_key(|(at, _)| *at);
        if let Some((_, person)) = due {
            // A failure is recorded. Not a use: the database is closed again soon.
            drop(Box::pin(self.open_closed(person)).await);
        }
    }

    /// Closes the database of a person unless it is in use or being opened. Returns whether it was closed.
    async fn close_unused(&self, person: &Arc<Person>) -> bool {
        let Ok(_changing) = person.changing.try_lock() else { return false };
        let Some(database) = person.take_unused() else { return false };
        // Its place is free and its lock released once it is dropped.
        let closed = spawn_blocking(move || {
            database.store.close();
            database.store.fault()
        });
        match closed.await {
            Ok(None) => {}
            // Nobody would see it in `/health` any more.
            Ok(Some((_, fault))) => {
                person.record_failure(Unavailable::Broken(fault.to_owned()), self.clock.elapsed());
            }
            Err(e) => {
                tracing::error!(person = person.name().as_str(), "the database could not be closed: {e}");
            }
        }
        true
    }

    /// Looks for people who were added, renamed or removed, reloads changed keys, saves when keys were last used, and
    /// once a day deletes people who were removed long ago. Blocks on files.
    pub fn refresh_people(&self) {
        // First, so that the keys of somebody who was renamed are not taken for revoked ones.
        let mut has_changed = self.rescan();
        let elapsed = self.clock.elapsed();
        self.owner.refresh_keys(elapsed);
        self.owner.refresh_details();
        for (n, person) in self.others().iter().enumerate() {
            has_changed |= person.refresh_keys(elapsed);
            // The files of people who are not here can wait for their turn.
            if person.peek_database().is_some()
                || (n as u64 + elapsed.as_secs()).is_multiple_of(DETAILS_INTERVAL)
            {
                person.refresh_details();
            }
        }
        if has_changed {
            self.index_keys();
        }
        self.delete_removed(elapsed);
    }

    /// Deletes people who were removed long ago, once a day. Does not wait for a deletion that is running.
    fn delete_removed(&self, elapsed: Duration) {
        let Some(days) = self.options.removed_person_days else { return };
        let mut deletion = match self.deletion.try_lock() {
            Ok(deletion) => deletion,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        deletion.run_if_due(&self.options.settings, days, elapsed, self.clock.now());
    }

    /// Adds people whose folders appeared, and drops those whose folders are gone. Returns whether there were any.
    fn rescan(&self) -> bool {
        let names: BTreeSet<PersonName> = match folder::list(&self.options.settings) {
            Ok(names) => names.into_iter().collect(),
            Err(e) => {
                tracing::warn!("the folder of the people cannot be read: {e}");
                return false;
            }
        };
        let known: BTreeSet<PersonName> = self.read_others().by_name.keys().cloned().collect();
        if names == known {
            return false;
        }
        let added: Vec<_> = names
            .difference(&known)
            .map(|name| {
                let options = self.options.of(name, self.clock.elapsed());
                (name.clone(), Arc::new(Person::new(name.clone(), options)))
            })
            .collect();
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        let removed: Vec<_> =
            known.difference(&names).filter_map(|name| others.by_name.remove(name)).collect();
        others.by_name.extend(added);
        drop(others);
        self.index_keys();
        // Their databases are closed already, unless somebody moved the folders by hand. The uses of their keys are not
        // saved: another person may have the folder's name by now.
        for person in &removed {
            self.pairings.remove_all(person.name());
            person.close();
        }
        true
    }

    /// Renews the index of the keys of others from their key stores.
    pub(super) fn index_keys(&self) {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        let by_key = others.by_name.values().flat_map(|person| {
            person.keys.digests().into_iter().map(|digest| (digest, Arc::clone(person))).collect::<Vec<_>>()
        });
        others.by_key = by_key.collect();
    }

    /// Closes every database and saves when keys were last used, at the end of the server: first the owner's, then
    /// those of the others, several at once. Blocks on files.
    pub fn close(&self) {
        let close = |person: &Person| {
            person.close();
            person.save_key_uses();
        };
        close(&self.owner);
        let (others, next) = (self.others(), AtomicUsize::new(0));
        let close_others = || {
            while let Some(person) = others.get(next.fetch_add(1, Ordering::Relaxed)) {
                close(person);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..MAX_CLOSING.min(others.len()) {
                // Without another thread, this one closes them all.
                drop(std::thread::Builder::new().spawn_scoped(scope, close_others));
            }
            close_others();
        });
    }

    fn read_others(&self) -> RwLockReadGuard<'_, Others> {
        self.others.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeopleOptions {
    /// Returns the options of the owner's database.
    pub fn of_owner(&self, quick_readers: u32, slow_readers: u32) -> Options {
        Options {
            make_folder: true,
            quick_readers,
            slow_readers,
            min_slow_readers: slow_readers,
            ..self.of(&PersonName::owner(), Duration::ZERO)
        }
    }

    /// Returns the options of a person who is known from the running time `elapsed` on.
    fn of(&self, person: &PersonName, elapsed: Duration) -> Options {
        let settings = self.settings.of_person(person);
        Options {
            path: settings.database,
            backups: settings.backups,
            // A person who was just removed must not appear again.
            make_folder: false,
            quick_readers: 1,
            slow_readers: 1,
            min_slow_readers: 0,
            slow_query: self.slow_query,
            resources: Arc::clone(&self.resources),
            response_clock: Arc::new(ResponseClock::starting_at(elapsed)),
        }
    }
}
