//! Writer of a Fitbit export as Google Takeout makes it: a file for each day, with a sample every five seconds.

use std::fmt::Write as _;
use std::fs;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const SAMPLES_PER_DAY: u64 = 17_280;
/// Files of other kinds for each day.
const OTHER_FILES: [&str; 3] = ["calories", "distance", "steps"];

/// Writes the export and returns its uncompressed and compressed size in bytes.
pub fn write(path: &Path, samples: u64) -> Result<(u64, u64)> {
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path)?));
    let fast = SimpleFileOptions::default().compression_level(Some(1));
    let mut size = 0;
    for day in 0..samples.div_ceil(SAMPLES_PER_DAY) {
        // Months of 28 days.
        let (year, month, date) = (day / 336, day / 28 % 12 + 1, day % 28 + 1);
        let name =
            |kind| format!("Takeout/Fitbit/Global Export Data/{kind}-20{year:02}-{month:02}-{date:02}.json");
        for kind in OTHER_FILES {
            archive.start_file(name(kind), fast)?;
            archive.write_all(b"[]")?;
        }
        let mut text = String::new();
        for n in day * SAMPLES_PER_DAY..samples.min((day + 1) * SAMPLES_PER_DAY) {
            let second = n % SAMPLES_PER_DAY * 5;
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            let separator = if text.is_empty() { '[' } else { ',' };
            let bpm = 50 + (n * 7 + n / 40) % 70;
            write!(
                text,
                "{separator}{{\n  \"dateTime\" : \"{month:02}/{date:02}/{year:02} {hour:02}:{minute:02}:{second:02}\",\n  \
                 \"value\" : {{\n    \"bpm\" : {bpm},\n    \"confidence\" : 3\n  }}\n}}"
            )?;
        }
        text.push(']');
        size += text.len() as u64;
        archive.start_file(name("heart_rate"), fast)?;
        archive.write_all(text.as_bytes())?;
    }
    archive.finish()?.flush()?;
    Ok((size, fs::metadata(path)?.len()))
}
