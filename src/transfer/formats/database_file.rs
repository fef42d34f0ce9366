//! SQLite database file to import: detects the program that made it, and reads its rows.

use std::path::Path;

use crate::db::error::OpenError;
use crate::db::schema;
use crate::transfer::formats::detect::ImportFormat;
use crate::transfer::formats::docker_stack::DockerStackTables;
use crate::transfer::formats::foreign_database::ForeignDatabase;
use crate::transfer::formats::gadgetbridge::GadgetbridgeTables;
use crate::transfer::formats::health_connect::HealthConnectTables;
use crate::transfer::formats::sink::{ReadError, Sink};

/// Open database of a known program.
#[derive(Debug)]
pub struct DatabaseFile {
    database: ForeignDatabase,
    tables: SourceTables,
    row_count: Option<u64>,
}

/// Tables to read, by program.
#[derive(Debug)]
enum SourceTables {
    DockerStack(DockerStackTables),
    HealthConnect(Box<HealthConnectTables>),
    Gadgetbridge(GadgetbridgeTables),
}

impl DatabaseFile {
    /// Finds the tables of an open database. `path` is for messages.
    ///
    /// # Errors
    /// The database is of another format than expected, or of an unknown one.
    pub fn new(
        database: ForeignDatabase,
        path: &Path,
        format: Option<ImportFormat>,
    ) -> Result<Self, ReadError> {
        let tables = SourceTables::find(&database, path, format)?;
        if let Some(format) = format.filter(|format| *format != tables.format()) {
            return Err(ReadError::Unusable(format!(
                "this is a database of {}, not of {}: omit --format",
                tables.format().program(),
                format.program()
            )));
        }
        // The tables of a damaged file may be unreadable; the rows before the damage are still imported.
        let row_count = match &tables {
            SourceTables::DockerStack(tables) => tables.count_rows(&database),
            SourceTables::HealthConnect(tables) => tables.count_rows(&database),
            SourceTables::Gadgetbridge(tables) => tables.count_rows(&database),
        };
        Ok(Self { database, tables, row_count: row_count.ok() })
    }

    /// Returns the number of rows, if it is known.
    pub fn row_count(&self) -> Option<u64> {
        self.row_count
    }

    /// Passes every row to the sink, calling `on_row` for each.
    pub fn read(&self, on_row: impl Fn(), sink: &mut Sink<'_>) -> Result<(), ReadError> {
        match &self.tables {
            SourceTables::DockerStack(tables) => tables.read(&self.database, &on_row, sink),
            SourceTables::HealthConnect(tables) => tables.read(&self.database, &on_row, sink),
            SourceTables::Gadgetbridge(tables) => tables.read(&self.database, &on_row, sink),
        }
    }
}

impl SourceTables {
    fn find(
        database: &ForeignDatabase,
        path: &Path,
        format: Option<ImportFormat>,
    ) -> Result<Self, ReadError> {
        match schema::identify(database.connection(), path) {
            Err(OpenError::DockerStack { .. }) => DockerStackTables::find(database).map(Self::DockerStack),
            Ok(Some(_)) | Err(OpenError::NewerSchema { .. }) => Err(ReadError::unusable(
                "this is a Coffee Tracker database: to replace the current one, use `coffee-tracker restore`; to \
                 add its entries, `coffee-tracker export` them and import the files",
            )),
            Ok(None) | Err(OpenError::Foreign { .. }) => Self::find_health_tables(database, format),
            // The error's own advice is about our database.
            Err(OpenError::Damaged { why, .. }) => {
                Err(ReadError::Unusable(format!("cannot be read: the database is damaged ({why})")))
            }
            Err(e) => Err(ReadError::Unusable(format!("cannot be read: {e}"))),
        }
    }

    fn find_health_tables(
        database: &ForeignDatabase,
        format: Option<ImportFormat>,
    ) -> Result<Self, ReadError> {
        let health_connect = HealthConnectTables::find(database)?;
        if health_connect.are_present() {
            return Ok(Self::HealthConnect(Box::new(health_connect)));
        }
        let gadgetbridge = GadgetbridgeTables::find(database)?;
        let is_expected = format == Some(ImportFormat::Gadgetbridge) && gadgetbridge.have_samples();
        if is_expected || gadgetbridge.are_present() {
            return Ok(Self::Gadgetbridge(gadgetbridge));
        }
        Err(ReadError::unusable(
            "this is a SQLite database of an unknown program: those of Health Connect, Gadgetbridge and the Docker \
             stack can be imported",
        ))
    }

    fn format(&self) -> ImportFormat {
        match self {
            Self::DockerStack(_) => ImportFormat::DockerSqlite,
            Self::HealthConnect(_) => ImportFormat::HealthConnect,
            Self::Gadgetbridge(_) => ImportFormat::Gadgetbridge,
        }
    }
}
