//! Heart rates of a Fitbit export from Google Takeout: one JSON list a day, `heart_rate-2024-02-06.json`. The times have no
//! zone. Other files of the export are left out.

use std::fs;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::domain::calendar::Zone;
use crate::domain::entry::{Amount, Entry};
use crate::domain::json_scalar::JsonScalar;
use crate::domain::text;
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;
use crate::transfer::formats::import_row::parse_bpm;
use crate::transfer::formats::json_list::{JsonListReader, ListElement, MAX_ELEMENT};
use crate::transfer::formats::parts::PartErrors;
use crate::transfer::formats::progress::{ProgressReader, ReadProgress};
use crate::transfer::formats::sink::{ReadError, RowPosition, Sink};

/// Source of all samples.
const FITBIT: &str = "Fitbit";
/// Maximum nesting of folders below the one to import.
const MAX_DEPTH: usize = 8;
/// Maximum number of files of heart rates, whose paths are kept in memory.
const MAX_FILES: usize = 50_000;
/// Size of read buffers, in bytes.
const BUFFER: usize = 128 * 1024;

/// Returns the date in the name of a file of heart rates.
pub fn date_in_name(name: &str) -> Option<&str> {
    let date = name.strip_prefix("heart_rate-")?.strip_suffix(".json")?.get(..10)?;
    let is_date = date.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    is_date.then_some(date)
}

/// Folder of an export, or one above it.
#[derive(Debug)]
pub struct FitbitFolder {
    /// Files of heart rates in the order of their dates.
    files: Vec<PathBuf>,
    bytes: u64,
}

impl FitbitFolder {
    /// Finds the files of heart rates in a folder and those below it. Links to folders are not followed.
    ///
    /// # Errors
    /// The folder cannot be read, or has no such file, or too many.
    pub fn find(folder: &Path) -> Result<Self, ReadError> {
        let mut folders = vec![(folder.to_owned(), 0)];
        let (mut dated, mut bytes) = (Vec::new(), 0);
        while let Some((folder, depth)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                // A folder above the export may contain private ones.
                Err(_) if depth > 0 => continue,
                entries => entries?,
            };
            for entry in entries.flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() && depth < MAX_DEPTH {
                    folders.push((entry.path(), depth + 1));
                } else if metadata.is_file()
                    && let Some(date) = entry.file_name().to_str().and_then(date_in_name)
                {
                    dated.push((date.to_owned(), entry.path()));
                    bytes += metadata.len();
                }
            }
            if dated.len() > MAX_FILES {
                return Err(ReadError::Unusable(format!(
                    "contains more than {MAX_FILES} files of heart rates"
                )));
            }
        }
        if dated.is_empty() {
            return Err(ReadError::unusable(
                "is a folder without files of heart rates from a Fitbit export (heart_rate-YYYY-MM-DD.json)",
            ));
        }
        dated.sort_unstable();
        Ok(Self { files: dated.into_iter().map(|(_, path)| path).collect(), bytes })
    }

    /// Returns the size of all files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Passes the samples of all files to the sink. The files are opened as the caller of the command.
    ///
    /// # Errors
    /// A file cannot be read completely. Its samples before, and the other files, have been passed on.
    pub fn read(
        &self,
        zone: &Zone,
        caller: &Identity,
        progress: &ReadProgress,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        let mut errors = PartErrors::default();
        for path in &self.files {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let read =
                caller.as_caller(|| File::open(path)).and_then(|opened| opened).map_err(ReadError::from);
            let read = read.and_then(|inner| {
                let reader = ProgressReader { inner, progress: progress.clone() };
                read_named(&mut BufReader::with_capacity(BUFFER, reader), &name, zone, sink)
            });
            errors.record(&name, read)?;
        }
        errors.finish()
    }
}

/// Reads one file of several, whose name is part of the position of each sample.
pub fn read_named(
    input: &mut dyn BufRead,
    name: &str,
    zone: &Zone,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let file: Arc<str> = text::escape_control(&text::shorten(name, 100)).into();
    read(input, zone, &|line| RowPosition::FileLine { file: Arc::clone(&file), line }, sink)
}

/// Passes the samples of one file to the sink. `position_of` returns the position of a line.
///
/// # Errors
/// The file is not a list, or its end is missing. The samples before have been passed on.
pub fn read(
    input: &mut dyn BufRead,
    zone: &Zone,
    position_of: &dyn Fn(u64) -> RowPosition,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let mut list = JsonListReader::new(input);
    loop {
        let (line, sample, text) = match list.read_next()? {
            ListElement::Complete { line, text } => (line, parse_sample(text, zone), text),
            ListElement::TooLong { line, text } => {
                (line, Err(format!("is longer than {MAX_ELEMENT} bytes")), text)
            }
            ListElement::End => return Ok(()),
            ListElement::Broken { line, reason } => {
                return Err(ReadError::Broken { line, reason: reason.to_owned() });
            }
        };
        match sample.transpose() {
            None => sink.skip_unsupported()?,
            Some(sample) => {
                sink.sample(position_of(line), sample, || String::from_utf8_lossy(text).into_owned())?;
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FitbitSample {
    #[serde(rename = "dateTime")]
    date_time: JsonScalar,
    value: FitbitValue,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FitbitValue {
    bpm: JsonScalar,
    confidence: JsonScalar,
}

/// Parses an element of the list; `None` when the device had no contact with the skin.
fn parse_sample(text: &[u8], zone: &Zone) -> Result<Option<Entry>, String> {
    // A struct could be deserialized from a list, too.
    if text.first() != Some(&b'{') {
        return Err("is not a JSON object".to_owned());
    }
    let sample: FitbitSample = serde_json::from_slice(text).map_err(|e| format!("is not a sample: {e}"))?;
    let FitbitValue { bpm, confidence } = &sample.value;
    if confidence.as_number() == Some(0.0) {
        return Ok(None);
    }
    let timestamp = match &sample.date_time {
        JsonScalar::Text(text) => Timestamp::parse_month_first(text, zone).ok_or_else(|| {
            let got = text::shorten(text, 60);
            format!("dateTime: must be a date and time such as 02/06/24 14:30:05 (got {got:?})")
        })?,
        JsonScalar::Absent | JsonScalar::Null => return Err("dateTime is missing".to_owned()),
        _ => return Err("dateTime: must be a date and time such as 02/06/24 14:30:05".to_owned()),
    };
    let bpm = match bpm {
        JsonScalar::Absent | JsonScalar::Null => return Err("bpm is missing".to_owned()),
        bpm => bpm.as_number().ok_or("bpm: must be a number")?,
    };
    Ok(Some(Entry {
        id: None,
        timestamp,
        amount: Amount::HeartRate(parse_bpm(bpm)?),
        label: None,
        notes: None,
        source: Some(FITBIT.to_owned()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_heart_rates_are_recognized_by_their_names() {
        for (name, date) in [
            ("heart_rate-2024-02-06.json", Some("2024-02-06")),
            ("heart_rate-2024-02-06(1).json", Some("2024-02-06")),
            ("resting_heart_rate-2024-02-06.json", None),
            ("time_in_heart_rate_zones-2024-02-06.json", None),
            ("heart_rate-2024-02-06.csv", None),
            ("heart_rate-20240206xx.json", None),
            ("heart_rate-2024-02.json", None),
            ("heart_rate-é024-02-06.json", None),
        ] {
            assert_eq!(date_in_name(name), date, "{name}");
        }
    }
}
