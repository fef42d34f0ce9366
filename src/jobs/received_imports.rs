//! Files that were received for an import and wait until their person imports or discards them: one for each person,
//! for an hour. They are gone after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::person::PersonName;
use crate::jobs::received_file::ReceivedFile;

/// Time without use after which a file is removed.
const MAX_IDLE: Duration = Duration::from_secs(3600);

/// Files that wait for their import.
#[derive(Debug, Default)]
pub struct ReceivedImports(Mutex<HashMap<PersonName, WaitingFile>>);

#[derive(Debug)]
struct WaitingFile {
    /// Random number, 16 hexadecimal digits.
    id: String,
    file: Arc<ReceivedFile>,
    /// Time of the last use, of the clock that starts with the server.
    used_at: Duration,
}

impl ReceivedImports {
    /// Keeps a file instead of an earlier one of the person. Returns its id.
    pub fn keep(&self, person: &PersonName, file: Arc<ReceivedFile>, now: Duration) -> String {
        let id = format!("{:016x}", fastrand::u64(..));
        let waiting = WaitingFile { id: id.clone(), file, used_at: now };
        self.lock().insert(person.clone(), waiting);
        id
    }

    /// Returns the file with this id, and records its use.
    pub fn find(&self, person: &PersonName, id: &str, now: Duration) -> Option<Arc<ReceivedFile>> {
        let mut files = self.lock();
        let waiting = files.get_mut(person).filter(|waiting| waiting.id == id)?;
        waiting.used_at = now;
        Some(Arc::clone(&waiting.file))
    }

    /// Removes the file with this id. Reports whether there was one. A job that reads the file completes.
    pub fn remove(&self, person: &PersonName, id: &str) -> bool {
        let mut files = self.lock();
        let is_found = files.get(person).is_some_and(|waiting| waiting.id == id);
        is_found && files.remove(person).is_some()
    }

    /// Removes the file of a person who sends another one.
    pub fn remove_of(&self, person: &PersonName) {
        self.lock().remove(person);
    }

    /// Removes the files that nobody used for an hour. One that a job reads is in use.
    pub fn remove_idle(&self, now: Duration) {
        self.lock().retain(|_, waiting| {
            if Arc::strong_count(&waiting.file) > 1 {
                waiting.used_at = now;
            }
            now < waiting.used_at + MAX_IDLE
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PersonName, WaitingFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
