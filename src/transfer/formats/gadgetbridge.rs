//! Database of Gadgetbridge: every table with a time and a heart rate is read, because there is one for each kind of device.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::entry::{Amount, Entry};
use crate::domain::sample::SampleContext;
use crate::transfer::formats::database_values::{EpochUnit, content, instant, number, source_name};
use crate::transfer::formats::foreign_database::{ForeignDatabase, ForeignTable};
use crate::transfer::formats::import_row::{RawValue, parse_bpm};
use crate::transfer::formats::parts::PartErrors;
use crate::transfer::formats::sink::{ReadError, RowPosition, Sink};

/// Source of samples whose device is unknown or has no name.
const GADGETBRIDGE: &str = "Gadgetbridge";
/// Heart rates of samples. Others, such as 0, -1 and 255, stand for none.
const SAMPLE_BPM: std::ops::RangeInclusive<f64> = 30.0..=250.0;
/// Number above which a time is in milliseconds. In seconds, it is in the year 5138.
const MAX_SECONDS: f64 = 1e11;
/// Maximum number of devices whose names are kept in memory.
const MAX_DEVICES: usize = 1000;
/// Part of the names of tables with resting heart rates, such as `HUAMI_HEART_RATE_RESTING_SAMPLE`.
const RESTING: &str = "heart_rate_resting";
/// Part of the names of tables with the highest heart rate of each day, which is no further sample.
const DAILY_MAXIMUM: &str = "heart_rate_max";

/// Tables of Gadgetbridge that a database has.
#[derive(Debug)]
pub struct GadgetbridgeTables {
    samples: Vec<ForeignTable>,
    devices: Option<ForeignTable>,
}

impl GadgetbridgeTables {
    pub fn find(database: &ForeignDatabase) -> Result<Self, ReadError> {
        let has_samples = |table: &ForeignTable| {
            let has_columns = table.column("TIMESTAMP").is_some() && table.column("HEART_RATE").is_some();
            has_columns && !table.lower_name().contains(DAILY_MAXIMUM)
        };
        let samples = database.tables(has_samples)?;
        let devices =
            database.tables(|table| table.lower_name() == "device" && table.column("_id").is_some())?;
        Ok(Self { samples, devices: devices.into_iter().next() })
    }

    /// Returns whether the database is one of Gadgetbridge.
    pub fn are_present(&self) -> bool {
        self.devices.as_ref().is_some_and(|devices| devices.column("MANUFACTURER").is_some())
    }

    pub fn have_samples(&self) -> bool {
        !self.samples.is_empty()
    }

    /// Counts the rows of all tables.
    pub fn count_rows(&self, database: &ForeignDatabase) -> Result<u64, ReadError> {
        self.samples.iter().map(|table| database.count_rows(table)).sum()
    }

    /// Passes every sample to the sink, calling `on_row` for each row.
    ///
    /// # Errors
    /// A table cannot be read completely. Its rows before, and the other tables, have been passed on.
    pub fn read(
        &self,
        database: &ForeignDatabase,
        on_row: &dyn Fn(),
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        let mut errors = PartErrors::default();
        let mut names = HashMap::new();
        if let Some(devices) = &self.devices {
            errors.record(&devices.label, read_names(database, devices, &mut names))?;
        }
        for table in &self.samples {
            errors.record(&table.label, read_samples(database, table, &names, on_row, sink))?;
        }
        errors.finish()
    }
}

/// Reads the names of the devices by id.
fn read_names(
    database: &ForeignDatabase,
    table: &ForeignTable,
    names: &mut HashMap<i64, String>,
) -> Result<(), ReadError> {
    let columns = ["_id", "NAME", "MANUFACTURER"].map(|name| table.column(name));
    database.each_row(table, columns, |_, [id, name, manufacturer]| {
        if let RawValue::Integer(id) = id
            && let Some(name) = source_name(name).or_else(|| source_name(manufacturer))
            && names.len() < MAX_DEVICES
        {
            names.insert(id, name);
        }
        Ok(())
    })
}

fn read_samples(
    database: &ForeignDatabase,
    table: &ForeignTable,
    names: &HashMap<i64, String>,
    on_row: &dyn Fn(),
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let columns = ["TIMESTAMP", "HEART_RATE", "DEVICE_ID"].map(|name| table.column(name));
    let context = table.lower_name().contains(RESTING).then(|| SampleContext::Resting.name());
    database.each_row(table, columns, |row, values| {
        on_row();
        let [time, bpm, device] = values;
        let bpm = match bpm {
            RawValue::Null => return Ok(sink.skip_unsupported()?),
            bpm => number("HEART_RATE", bpm),
        };
        if bpm.as_ref().is_ok_and(|bpm| !SAMPLE_BPM.contains(bpm)) {
            return Ok(sink.skip_unsupported()?);
        }
        let source = match device {
            RawValue::Integer(id) => names.get(&id).map_or(GADGETBRIDGE, String::as_str),
            _ => GADGETBRIDGE,
        };
        let position = RowPosition::TableRow { table: Arc::clone(&table.label), id: None, number: row };
        Ok(sink.sample(position, parse_sample(time, bpm, context, source), || content(&values))?)
    })
}

fn parse_sample(
    time: RawValue<'_>,
    bpm: Result<f64, String>,
    context: Option<&str>,
    source: &str,
) -> Result<Entry, String> {
    let unit = match number("TIMESTAMP", time)? {
        time if time > MAX_SECONDS => EpochUnit::Milliseconds,
        _ => EpochUnit::Seconds,
    };
    Ok(Entry {
        id: None,
        timestamp: instant("TIMESTAMP", time, unit)?,
        amount: Amount::HeartRate(parse_bpm(bpm?)?),
        label: context.map(str::to_owned),
        notes: None,
        source: Some(source.to_owned()),
    })
}
