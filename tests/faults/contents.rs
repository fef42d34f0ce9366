//! Database contents after a power cut, and their comparison with the acknowledged writes.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use coffee_tracker::backup::open::open_store;
use coffee_tracker::db::store::Options;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row};

use crate::traffic::{Coffee, History};

/// Contents of a database.
#[derive(Debug, Default)]
pub struct DatabaseContents {
    /// Notes and dose, by the coffee's name.
    coffees: HashMap<String, Vec<(String, f64)>>,
    /// Number of entries per Idempotency-Key.
    keys: HashMap<String, usize>,
    /// Number of readings, by their notes.
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

impl DatabaseContents {
    /// Opens a database as after a crash, checks its integrity and reads it. A missing file, or one without tables, is empty.
    ///
    /// # Errors
    /// Fails when the database cannot be opened or is damaged.
    pub fn read(path: &Path) -> Result<Self, String> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|e| e.to_string())?;
        // The files are discarded afterwards: nothing has to be durable.
        let configured = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        configured
            .and_then(|_| connection.pragma_update(None, "synchronous", "OFF"))
            .map_err(|e| e.to_string())?;
        let verdict = all(&connection, "pragma integrity_check(3)", |row| row.get::<_, String>(0))?;
        if verdict != ["ok"] {
            return Err(format!("the database is damaged: {}", verdict.join("; ")));
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

    /// Compares the contents with the requests.
    ///
    /// Each coffee must have every change acknowledged before `from`, and at most one more than those acknowledged before
    /// `until`. Nothing else may exist.
    ///
    /// # Errors
    /// Returns the first difference.
    pub fn check_against(&self, history: &History, from: usize, until: usize) -> Result<(), String> {
        for coffee in &history.coffees {
            self.check_coffee(coffee, from, until)?;
        }
        for batch in &history.batches {
            let found = self.readings.get(&batch.name).copied().unwrap_or(0);
            if found != batch.readings && (found != 0 || batch.response_at < from) {
                return Err(format!("{batch:?}: found {found} readings"));
            }
        }
        let coffees: HashSet<&str> = history.coffees.iter().map(|coffee| coffee.name.as_str()).collect();
        let batches: HashSet<&str> = history.batches.iter().map(|batch| batch.name.as_str()).collect();
        let mut names = self.coffees.keys().chain(self.keys.keys());
        let unexpected = names.find(|name| !coffees.contains(name.as_str()));
        let unexpected =
            unexpected.or_else(|| self.readings.keys().find(|name| !batches.contains(name.as_str())));
        unexpected.map_or(Ok(()), |name| Err(format!("{name} must not exist")))
    }

    fn check_coffee(&self, coffee: &Coffee, from: usize, until: usize) -> Result<(), String> {
        let found = self.coffees.get(&coffee.name).map_or(&[][..], Vec::as_slice);
        let acknowledged =
            |before: usize| coffee.steps.iter().take_while(|step| step.response_at < before).count();
        let after = |steps: usize| match steps.checked_sub(1).and_then(|n| coffee.steps[n].result.as_ref()) {
            Some(left) => std::slice::from_ref(left),
            None => &[],
        };
        let (least, most) = (acknowledged(from), (acknowledged(until) + 1).min(coffee.steps.len()));
        if !(least..=most).any(|steps| found == after(steps)) {
            return Err(format!("{coffee:?}: expected at least {least} steps, found {found:?}"));
        }
        let keys = self.keys.get(&coffee.name).copied().unwrap_or(0);
        let is_logged = least > 0 || !found.is_empty();
        // The key of a deleted coffee remains. Without a coffee, the insert may be missing altogether: both are allowed.
        let keys_match = if coffee.keyed { keys == 1 || !is_logged && keys == 0 } else { keys == 0 };
        if !keys_match {
            return Err(format!("{coffee:?}: expected at least {least} steps, found {keys} keys"));
        }
        Ok(())
    }
}

/// Opens the database with the program's own store and closes it.
pub fn check_reopen(folder: &Path) -> Result<(), String> {
    let options = Options::of_command(folder.join("coffee.db"), folder.join("backups"));
    let store = open_store(&options).map_err(|e| format!("the program does not start: {e}"))?;
    store.close();
    Ok(())
}
