//! Database of Android's Health Connect: heart rates, resting heart rates and caffeine. Its tables and columns vary with the
//! version of Android: what is there is read.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{CachedStatement, OptionalExtension};

use crate::domain::entry::{Amount, Entry};
use crate::transfer::formats::database_values::{EpochUnit, content, instant, number, source_name};
use crate::transfer::formats::foreign_database::{ForeignDatabase, ForeignTable};
use crate::transfer::formats::import_row::{RawValue, parse_bpm, parse_dose, to_milligrams};
use crate::transfer::formats::parts::PartErrors;
use crate::transfer::formats::sink::{ReadError, RowPosition, Sink};

/// Source of records whose app is unknown.
const HEALTH_CONNECT: &str = "Health Connect";
/// Doses up to this one, in grams, are not recorded: Android stores the smallest number above zero instead of null.
const MAX_ABSENT_GRAMS: f64 = 4e-7;
/// Maximum number of apps whose names are kept in memory.
const MAX_APPS: usize = 1000;

/// Tables of Health Connect that a database has.
#[derive(Debug, Default)]
pub struct HealthConnectTables {
    /// Heart rates; the app of each is in its parent record.
    series: Option<ForeignTable>,
    parents: Option<ForeignTable>,
    resting: Option<ForeignTable>,
    nutrition: Option<ForeignTable>,
    apps: Option<ForeignTable>,
}

/// Names of the apps by id.
type AppNames = HashMap<i64, String>;

/// Values of a record.
struct Record<'v> {
    time: RawValue<'v>,
    value: RawValue<'v>,
    source: &'v str,
}

impl HealthConnectTables {
    pub fn find(database: &ForeignDatabase) -> Result<Self, ReadError> {
        let mut tables = Self::default();
        for table in database.tables(|table| table.lower_name().ends_with("_table"))? {
            let place = match table.lower_name().as_str() {
                "heart_rate_record_series_table" => &mut tables.series,
                "heart_rate_record_table" => &mut tables.parents,
                "resting_heart_rate_record_table" => &mut tables.resting,
                "nutrition_record_table" => &mut tables.nutrition,
                "application_info_table" => &mut tables.apps,
                _ => continue,
            };
            *place = Some(table);
        }
        Ok(tables)
    }

    /// Returns whether the database is one of Health Connect.
    pub fn are_present(&self) -> bool {
        self.records().next().is_some()
    }

    /// Returns the tables with records to import.
    fn records(&self) -> impl Iterator<Item = &ForeignTable> {
        [&self.series, &self.resting, &self.nutrition].into_iter().flatten()
    }

    /// Counts the rows of all tables.
    pub fn count_rows(&self, database: &ForeignDatabase) -> Result<u64, ReadError> {
        self.records().map(|table| database.count_rows(table)).sum()
    }

    /// Passes every record to the sink, calling `on_row` for each row.
    ///
    /// # Errors
    /// A table lacks a column or cannot be read completely. Its rows before, and the other tables, have been passed on.
    pub fn read(
        &self,
        database: &ForeignDatabase,
        on_row: &dyn Fn(),
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        let mut errors = PartErrors::default();
        let mut apps = AppNames::new();
        if let Some(table) = &self.apps {
            errors.record(&table.label, read_apps(database, table, &mut apps))?;
        }
        if let Some(table) = &self.series {
            let mut parents = Parents::new(database, self.parents.as_ref())?;
            let columns = ["epoch_millis", "beats_per_minute", "parent_key"];
            let read = each_record(database, table, columns, on_row, |row, [time, value, parent]| {
                let source = parents.app_of(parent).and_then(|app| apps.get(&app));
                let source = source.map_or(HEALTH_CONNECT, String::as_str);
                pass_heart_rate(table, row, &Record { time, value, source }, None, sink)
            });
            errors.record(&table.label, read)?;
        }
        if let Some(table) = &self.resting {
            let columns = ["time", "beats_per_minute", "app_info_id"];
            let read = each_record(database, table, columns, on_row, |row, [time, value, app]| {
                let source = app_name(&apps, app);
                pass_heart_rate(table, row, &Record { time, value, source }, Some("resting"), sink)
            });
            errors.record(&table.label, read)?;
        }
        if let Some(table) = self.nutrition.as_ref().filter(|table| table.column("caffeine").is_some()) {
            let columns = ["start_time", "caffeine", "app_info_id"];
            let read = each_record(database, table, columns, on_row, |row, [time, value, app]| {
                let source = app_name(&apps, app);
                pass_dose(table, row, &Record { time, value, source }, sink)
            });
            errors.record(&table.label, read)?;
        }
        errors.finish()
    }
}

/// Reads the names of the apps by id.
fn read_apps(database: &ForeignDatabase, table: &ForeignTable, apps: &mut AppNames) -> Result<(), ReadError> {
    let columns = ["row_id", "app_name", "package_name"].map(|name| table.column(name));
    database.each_row(table, columns, |_, [id, name, package]| {
        if let RawValue::Integer(id) = id
            && let Some(name) = source_name(name).or_else(|| source_name(package))
            && apps.len() < MAX_APPS
        {
            apps.insert(id, name);
        }
        Ok(())
    })
}

fn app_name<'a>(apps: &'a AppNames, app: RawValue<'_>) -> &'a str {
    match app {
        RawValue::Integer(app) => apps.get(&app).map_or(HEALTH_CONNECT, String::as_str),
        _ => HEALTH_CONNECT,
    }
}

/// Passes time, value and reference of every row to `each`. Only the reference may be missing.
fn each_record(
    database: &ForeignDatabase,
    table: &ForeignTable,
    names: [&str; 3],
    on_row: &dyn Fn(),
    mut each: impl FnMut(u64, [RawValue<'_>; 3]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let columns = names.map(|name| table.column(name));
    for (name, column) in names.iter().zip(columns).take(2) {
        if column.is_none() {
            return Err(ReadError::Unusable(format!("cannot be read: there is no column {name}")));
        }
    }
    database.each_row(table, columns, |row, values| {
        on_row();
        each(row, values)
    })
}

fn pass_heart_rate(
    table: &ForeignTable,
    row: u64,
    record: &Record<'_>,
    context: Option<&str>,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let amount = number("beats_per_minute", record.value).and_then(parse_bpm).map(Amount::HeartRate);
    pass(table, row, record, amount, context, sink)
}

/// Passes a dose on, unless none was recorded: most meals contain no caffeine.
fn pass_dose(
    table: &ForeignTable,
    row: u64,
    record: &Record<'_>,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let grams = match record.value {
        RawValue::Null => return Ok(()),
        value => number("caffeine", value),
    };
    if grams.as_ref().is_ok_and(|grams| (0.0..=MAX_ABSENT_GRAMS).contains(grams)) {
        return Ok(());
    }
    let milligrams = grams.and_then(|grams| to_milligrams(grams, "g"));
    let amount = milligrams.and_then(parse_dose).map(Amount::Caffeine);
    pass(table, row, record, amount, None, sink)
}

fn pass(
    table: &ForeignTable,
    row: u64,
    record: &Record<'_>,
    amount: Result<Amount, String>,
    context: Option<&str>,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let entry = instant("time", record.time, EpochUnit::Milliseconds).and_then(|timestamp| {
        Ok(Entry {
            id: None,
            timestamp,
            amount: amount?,
            label: context.map(str::to_owned),
            notes: None,
            source: Some(record.source.to_owned()),
        })
    });
    let position = RowPosition::TableRow { table: Arc::clone(&table.label), id: None, number: row };
    Ok(sink.sample(position, entry, || content(&[record.time, record.value]))?)
}

/// Apps of the parent records, looked up one at a time: there may be millions of records.
struct Parents<'d> {
    database: &'d ForeignDatabase,
    /// `None`: there is no table of them, or a lookup would read all of it.
    lookup: Option<CachedStatement<'d>>,
    /// The newest result; the samples of a record are stored together.
    newest: Option<(i64, Option<i64>)>,
}

impl<'d> Parents<'d> {
    fn new(database: &'d ForeignDatabase, table: Option<&ForeignTable>) -> Result<Self, ReadError> {
        let lookup = match table {
            Some(table) => database.lookup(table, "row_id", "app_info_id")?,
            None => None,
        };
        Ok(Self { database, lookup, newest: None })
    }

    /// Returns the id of the app that made a record.
    fn app_of(&mut self, record: RawValue<'_>) -> Option<i64> {
        let (RawValue::Integer(record), Some(lookup)) = (record, &mut self.lookup) else { return None };
        if let Some((newest, app)) = self.newest
            && newest == record
        {
            return app;
        }
        self.database.begin_row();
        // Damage of a page of this table costs the name of the app, not the sample.
        let app = lookup.query_row([record], |row| row.get::<_, i64>(0)).optional().ok().flatten();
        self.newest = Some((record, app));
        app
    }
}
