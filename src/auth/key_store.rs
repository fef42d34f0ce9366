//! The named keys as a running server holds them: it follows their file without a restart,
//! and notes when each was last used.
//!
//! Files are looked at and written once a second by whoever calls [`KeyRing::tend`]; a
//! request touches memory alone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::auth::key::{KeyDigest, NamedKey, Scopes};
use crate::auth::key_file::{KeyFile, Mark};
use crate::auth::last_used::Uses;
use crate::domain::time::{MINUTE, Timestamp};

/// A key that no one has used yet.
const NEVER: i64 = i64::MIN;
/// After a note that could not be written.
const PAUSE: Duration = Duration::from_secs(60);

/// A key, and when it was last used.
#[derive(Debug)]
struct Held {
    key: NamedKey,
    /// Microseconds since 1970.
    used: AtomicI64,
}

/// What the files were at the last look.
#[derive(Debug, Default)]
struct Seen {
    /// `None`: the file of keys was not read yet.
    mark: Option<Option<Mark>>,
    /// Why it could not be read, as the log says already.
    complaint: Option<String>,
    noted: Uses,
    /// No note is tried before; a note that failed set it.
    pause_until: Option<Duration>,
}

/// The named keys.
#[derive(Debug, Default)]
pub struct KeyRing {
    database: PathBuf,
    file: KeyFile,
    held: RwLock<HashMap<KeyDigest, Held>>,
    seen: Mutex<Seen>,
}

impl KeyRing {
    /// The keys beside `database`, as far as they can be read.
    pub fn of(database: &Path) -> Self {
        let seen = Seen { noted: Uses::read(database), ..Seen::default() };
        let ring = Self {
            database: database.to_owned(),
            file: KeyFile::of(database),
            held: RwLock::default(),
            seen: Mutex::new(seen),
        };
        ring.follow();
        ring
    }

    /// The scopes of the key with this digest, and records its use; `None` when no such key is valid now.
    pub fn scopes_of(&self, digest: &KeyDigest, now: Timestamp) -> Option<Scopes> {
        let keys = self.held();
        let held = keys.get(digest).filter(|held| held.key.holds_at(now))?;
        held.used.store(now.micros(), Ordering::Relaxed);
        Some(held.key.scopes)
    }

    /// Follows the file of keys, and notes uses that are a minute later than what was noted.
    /// `elapsed` never goes back.
    pub fn tend(&self, elapsed: Duration) {
        self.follow();
        let pause = self.seen().pause_until;
        if pause.is_none_or(|until| elapsed >= until) {
            self.note(MINUTE, elapsed);
        }
    }

    /// Notes every use: at the end.
    pub fn note_all(&self) {
        self.note(1, Duration::ZERO);
    }

    /// Reads the file if it is another than before. One that cannot be read changes nothing.
    fn follow(&self) {
        let mut seen = self.seen();
        // What cannot be looked at cannot be read either: that says why.
        if let Ok(mark) = self.file.mark()
            && seen.mark == Some(mark)
        {
            seen.complaint = None;
            return;
        }
        match self.file.read() {
            Ok((keys, mark)) => {
                let is_start = seen.mark.is_none();
                match (keys.len(), mark) {
                    (0, None) if is_start => {}
                    (_, None) => tracing::warn!("{} is gone: no named key holds", self.file.path().display()),
                    (n, _) if is_start => tracing::info!("named keys: {n}"),
                    (n, _) => tracing::info!("the named keys have changed: {n} now"),
                }
                self.hold(keys, &seen.noted);
                (seen.mark, seen.complaint) = (Some(mark), None);
            }
            Err(e) => {
                let complaint = e.to_string();
                if seen.complaint.as_ref() != Some(&complaint) {
                    tracing::error!("{complaint}; the keys that were read before go on holding");
                    seen.complaint = Some(complaint);
                }
            }
        }
    }

    fn hold(&self, keys: Vec<NamedKey>, noted: &Uses) {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let now = keys.into_iter().map(|key| {
            let used = match held.get(&key.digest) {
                Some(held) => held.used.load(Ordering::Relaxed),
                None => noted.of(&key.digest).map_or(NEVER, Timestamp::micros),
            };
            (key.digest, Held { key, used: AtomicI64::new(used) })
        });
        let now = now.collect();
        *held = now;
    }

    /// Notes the uses, if one lies `later` microseconds from what was noted of it.
    fn note(&self, later: i64, elapsed: Duration) {
        let uses: Vec<_> = {
            let held = self.held();
            let uses = held.iter().map(|(digest, held)| (*digest, held.used.load(Ordering::Relaxed)));
            uses.filter(|(_, used)| *used != NEVER).collect()
        };
        let mut seen = self.seen();
        // A clock that was put back is to be noted too.
        let is_news = |(digest, used): &(KeyDigest, i64)| {
            seen.noted.of(digest).is_none_or(|noted| (used - noted.micros()).abs() >= later)
        };
        if !uses.iter().any(is_news) {
            return;
        }
        let uses: Uses = uses.into_iter().map(|(digest, used)| (digest, Timestamp::clamped(used))).collect();
        let is_first_failure = seen.pause_until.is_none();
        match uses.write(&self.database) {
            Ok(()) => (seen.noted, seen.pause_until) = (uses, None),
            Err(e) => {
                if is_first_failure {
                    tracing::warn!("when keys were last used cannot be noted: {e}");
                }
                seen.pause_until = Some(elapsed + PAUSE);
            }
        }
    }

    fn held(&self) -> RwLockReadGuard<'_, HashMap<KeyDigest, Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
