//! What a disk holds after a power cut, and whether that agrees with what was sent and answered.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use coffee_tracker::backup::open::open_store;
use coffee_tracker::db::store::Options;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row};

use crate::traffic::{Coffee, History};

/// What a database holds.
#[derive(Debug, Default)]
pub struct Stored {
    /// Notes and dose by the coffee's name.
    coffees: HashMap<String, Vec<(String, f64)>>,
    /// How often there is each Idempotency-Key.
    keys: HashMap<String, usize>,
    /// How many readings have these notes.
    readings: HashMap<String, usize>,
}

fn all<T>(
    connection: &Connection,
    query: &str,
    of: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, String> {
    let mut statement = connection.prepare(query).map_err(|e| e.to_string())?;
    let rows = statement.query_map([], of).and_then(Iterator::collect);
    rows.map_err(|e| format!("{query}: {e}"))
}

impl Stored {
    /// Opens a database as the program does after a crash, looks it over and reads it. A file
    /// that is not there, or without tables, holds nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|e| e.to_string())?;
        // The files are looked into and thrown away: nothing need be made durable.
        let quickly = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        quickly
            .and_then(|_| connection.pragma_update(None, "synchronous", "OFF"))
            .map_err(|e| e.to_string())?;
        let verdict = all(&connection, "pragma integrity_check(3)", |row| row.get::<_, String>(0))?;
        if verdict != ["ok"] {
            return Err(format!("it is damaged: {}", verdict.join("; ")));
        }
        let tables = all(&connection, "select name from sqlite_schema", |row| row.get::<_, String>(0))?;
        if tables.is_empty() {
            return Ok(Self::default());
        }
        let mut coffees: HashMap<String, Vec<(String, f64)>> = HashMap::new();
        for (notes, mg) in all(&connection, "select notes, caffeine_mg from coffee_logs", |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?))
        })? {
            let name = notes.split(' ').next().unwrap_or_default().to_owned();
            coffees.entry(name).or_default().push((notes, mg));
        }
        let counted = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, u32>(1)? as usize));
        let keys = all(&connection, "select key, count(*) from idempotency_keys group by 1", counted)?;
        let readings = all(&connection, "select notes, count(*) from heart_rate_logs group by 1", counted)?;
        Ok(Self { coffees, keys: keys.into_iter().collect(), readings: readings.into_iter().collect() })
    }

    /// Compares it with what was sent. Of each coffee, the steps that were answered before `from`
    /// must be done; at most one more may be than were answered before `until`; and there is
    /// nothing else.
    ///
    /// # Errors
    /// The first difference.
    pub fn agrees_with(&self, history: &History, from: usize, until: usize) -> Result<(), String> {
        for coffee in &history.coffees {
            self.agrees_with_coffee(coffee, from, until)?;
        }
        for batch in &history.batches {
            let there = self.readings.get(&batch.name).copied().unwrap_or(0);
            if there != batch.readings && (there != 0 || batch.answered < from) {
                return Err(format!("of {batch:?} {there} readings are there"));
            }
        }
        let coffees: HashSet<&str> = history.coffees.iter().map(|coffee| coffee.name.as_str()).collect();
        let batches: HashSet<&str> = history.batches.iter().map(|batch| batch.name.as_str()).collect();
        let mut names = self.coffees.keys().chain(self.keys.keys());
        let stranger = names.find(|name| !coffees.contains(name.as_str()));
        let stranger =
            stranger.or_else(|| self.readings.keys().find(|name| !batches.contains(name.as_str())));
        stranger.map_or(Ok(()), |name| Err(format!("{name} should not be there")))
    }

    fn agrees_with_coffee(&self, coffee: &Coffee, from: usize, until: usize) -> Result<(), String> {
        let there = self.coffees.get(&coffee.name).map_or(&[][..], Vec::as_slice);
        let answered = |before: usize| coffee.steps.iter().take_while(|step| step.answered < before).count();
        let after = |steps: usize| match steps.checked_sub(1).and_then(|n| coffee.steps[n].leaves.as_ref()) {
            Some(left) => std::slice::from_ref(left),
            None => &[],
        };
        let (least, most) = (answered(from), (answered(until) + 1).min(coffee.steps.len()));
        if !(least..=most).any(|steps| there == after(steps)) {
            return Err(format!("{coffee:?}: {least} steps must be done, and {there:?} is there"));
        }
        let keys = self.keys.get(&coffee.name).copied().unwrap_or(0);
        let is_logged = least > 0 || !there.is_empty();
        // A deleted coffee leaves its key; that its deletion is all there is to see leaves both open.
        let fits = if coffee.keyed { keys == 1 || !is_logged && keys == 0 } else { keys == 0 };
        if !fits {
            return Err(format!("{coffee:?}: {least} steps must be done, and there are {keys} keys"));
        }
        Ok(())
    }
}

/// Lets the program's own store open what is left and close it again.
///
/// # Errors
/// Why it does not open.
pub fn reopens(folder: &Path) -> Result<(), String> {
    let options = Options {
        path: folder.join("coffee.db"),
        backups: folder.join("backups"),
        quick_readers: 1,
        slow_readers: 1,
        slow_query: Duration::from_secs(9),
    };
    let store = open_store(&options).map_err(|e| format!("the program does not start: {e}"))?;
    store.close();
    Ok(())
}
