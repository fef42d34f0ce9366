//! A file to import: opened, its kind told from its beginning, unpacked and read.
//!
//! Databases are only recognised here: they are read where SQLite is known.

use std::fs::File;
use std::io;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::domain::calendar::Zone;
use crate::transfer::formats::delimited::Mapping;
use crate::transfer::formats::detect::{Format, Looks, looks_of};
use crate::transfer::formats::rows::{ReadError, Sink};
use crate::transfer::formats::{apple_health, delimited, json_lines, postgres_dump};

/// How much of a file's beginning is looked at; Apple's document type has some 8 KiB.
const HEAD: usize = 64 * 1024;
/// Read at once.
const BUFFER: usize = 128 * 1024;

/// How to read a file.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Whatever it looks like.
    pub format: Option<Format>,
    /// Columns of a CSV and what they mean.
    pub mappings: Vec<Mapping>,
    /// Where times without an offset are local.
    pub zone: Zone,
}

/// How much of a file has been read, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    done: Arc<AtomicU64>,
    /// The file's size; `None` when it is a stream.
    pub total: Option<u64>,
}

impl Meter {
    /// Bytes read so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// One that counts the rows of a database instead.
    pub fn of_rows(total: u64) -> Self {
        Self { total: Some(total), ..Self::default() }
    }

    /// Counts so many more.
    pub fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }
}

/// Counts what is read through it.
struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.meter.add(count as u64);
        Ok(count)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Most bytes that are read to open a zip: what is read there is kept in memory. An export with
/// ten thousand routes has a directory of 1 MiB.
const MAX_ZIP_DIRECTORY: u64 = 2 << 20;

/// Reader that fails once a shared budget of bytes is used up.
struct Budgeted<R> {
    inner: R,
    /// Bytes that may still be read.
    budget: Arc<AtomicU64>,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let budget = self.budget.load(Ordering::Relaxed);
        if budget == 0 && !into.is_empty() {
            return Err(io::Error::other("the directory of the zip is larger than 2 MiB, or has no end"));
        }
        let most = into.len().min(usize::try_from(budget).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut into[..most])?;
        self.budget.store(budget - count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: Seek> Seek for Budgeted<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// An opened file.
#[derive(Debug)]
pub struct Input {
    file: File,
    head: Vec<u8>,
    is_stream: bool,
    meter: Meter,
}

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    /// The system's, or that it is a folder.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path)?;
        if file.metadata()?.is_dir() {
            return Err(ReadError::Unusable("it is a folder".to_owned()));
        }
        Self::of(file, false)
    }

    /// Takes a stream, such as standard input.
    ///
    /// # Errors
    /// The system's.
    pub fn stream(file: File) -> Result<Self, ReadError> {
        Self::of(file, true)
    }

    fn of(mut file: File, is_stream: bool) -> Result<Self, ReadError> {
        let facts = file.metadata()?;
        let is_stream = is_stream || !facts.is_file();
        let mut head = Vec::new();
        (&mut file).take(HEAD as u64).read_to_end(&mut head)?;
        let meter = Meter { total: (!is_stream).then_some(facts.len()), ..Meter::default() };
        Ok(Self { file, head, is_stream, meter })
    }

    /// How much of it has been read.
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// Whether it is a SQLite database, in a file: those are read elsewhere.
    ///
    /// # Errors
    /// That it is one in a stream.
    pub fn is_sqlite(&self) -> Result<bool, ReadError> {
        let is_sqlite = matches!(looks_of(&self.head), Looks::Sqlite);
        match self.is_stream && is_sqlite {
            true => Err(ReadError::Unusable(
                "a database cannot be read from a stream: give the name of its file".to_owned(),
            )),
            false => Ok(is_sqlite),
        }
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// What it is, when it cannot be imported; why it was not read to its end.
    pub fn read(mut self, how: &Reading, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        if matches!(looks_of(&self.head), Looks::Zip) {
            if self.is_stream {
                let why = "a zip cannot be read from a stream: give the name of its file";
                return Err(ReadError::Unusable(why.to_owned()));
            }
            self.file.rewind()?;
            return read_zip(Metered { inner: self.file, meter: self.meter }, how, sink);
        }
        self.meter.add(self.head.len() as u64);
        let rest = BufReader::with_capacity(BUFFER, Metered { inner: self.file, meter: self.meter });
        let mut whole = Cursor::new(self.head).chain(rest);
        read_stream(&mut whole, how, true, sink)
    }
}

/// Reads what may still be packed.
fn read_stream(
    input: &mut dyn BufRead,
    how: &Reading,
    may_be_packed: bool,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let mut head = Vec::new();
    (&mut *input).take(HEAD as u64).read_to_end(&mut head)?;
    // So is our own export of nothing, in JSON Lines.
    if head.is_empty() && how.format.is_none_or(|format| format == Format::JsonLines) {
        return Ok(());
    }
    let looks = looks_of(&head);
    let mut whole = Cursor::new(head).chain(input);
    let format = match (looks, how.format) {
        (Looks::Gzip, _) if may_be_packed => {
            let mut unpacked = BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole));
            return read_stream(&mut unpacked, how, false, sink);
        }
        (Looks::Sqlite, Some(_)) => {
            return Err(ReadError::Unusable("it is a SQLite database: leave --format out".to_owned()));
        }
        (Looks::Gzip | Looks::Zip | Looks::Sqlite, _) => {
            let why = "what is packed in it is packed again, or a database: unpack it first";
            return Err(ReadError::Unusable(why.to_owned()));
        }
        (_, Some(format)) => format,
        (Looks::Like(format), None) => format,
        (Looks::Unusable(why), None) => return Err(ReadError::Unusable(why.to_owned())),
    };
    if format != Format::Csv && !how.mappings.is_empty() {
        return Err(ReadError::Unusable("it is no CSV, and --map is for those alone".to_owned()));
    }
    match format {
        Format::AppleHealth => apple_health::read(&mut whole, &how.zone, sink),
        Format::PostgresDump => postgres_dump::read(&mut whole, sink),
        Format::Csv => delimited::read(&mut whole, &how.mappings, &how.zone, sink),
        Format::JsonLines => json_lines::read(&mut whole, &how.zone, sink),
        Format::DockerSqlite => Err(ReadError::Unusable("it is no SQLite database".to_owned())),
    }
}

/// Reads the health export in a zip.
fn read_zip(file: Metered<File>, how: &Reading, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    let budget = Arc::new(AtomicU64::new(MAX_ZIP_DIRECTORY));
    let inner = BufReader::with_capacity(BUFFER, file);
    let mut archive = ZipArchive::new(Budgeted { inner, budget: Arc::clone(&budget) }).map_err(zip_error)?;
    budget.store(u64::MAX, Ordering::Relaxed);
    let Some(place) = health_export(&mut archive)? else {
        let why = "the zip holds no Apple Health export (an XML file with an element HealthData)";
        return Err(ReadError::Unusable(why.to_owned()));
    };
    let member = archive.by_index(place).map_err(zip_error)?;
    let mut member = BufReader::with_capacity(BUFFER, member);
    let how = Reading { format: how.format.or(Some(Format::AppleHealth)), ..how.clone() };
    read_stream(&mut member, &how, false, sink)
}

/// Which member of the zip is the export: by its name, else, for the name is translated in
/// some languages, by its root.
fn health_export<R: Read + Seek>(archive: &mut ZipArchive<R>) -> Result<Option<usize>, ReadError> {
    let mut documents = Vec::new();
    for place in 0..archive.len() {
        let Some(Ok(name)) = archive.name_for_index(place) else { continue };
        let name = name.to_lowercase();
        if name.rsplit('/').next() == Some("export.xml") {
            return Ok(Some(place));
        }
        if name.ends_with(".xml") {
            documents.push(place);
        }
    }
    for place in documents {
        let mut head = Vec::new();
        archive.by_index(place).map_err(zip_error)?.take(HEAD as u64).read_to_end(&mut head)?;
        if matches!(looks_of(&head), Looks::Like(Format::AppleHealth)) {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn zip_error(error: ZipError) -> ReadError {
    match error {
        ZipError::Io(e) => e.into(),
        other => ReadError::Unusable(format!("the zip cannot be read: {other}")),
    }
}
