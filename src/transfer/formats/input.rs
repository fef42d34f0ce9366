//! File to import: opens it, detects its format, unpacks it and passes its rows to a sink.

use std::fs::File;
use std::io;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::domain::calendar::Zone;
use crate::transfer::formats::delimited::Mapping;
use crate::transfer::formats::detect::{Detected, ImportFormat, detect_format};
use crate::transfer::formats::docker_stack::DockerStackDatabase;
use crate::transfer::formats::sink::{ReadError, Sink};
use crate::transfer::formats::{apple_health, delimited, json_lines, postgres_dump};

/// Size of the beginning from which the format is detected; Apple's document type takes about 8 KiB.
const HEAD: usize = 64 * 1024;
/// Size of read buffers, in bytes.
const BUFFER: usize = 128 * 1024;
/// Maximum number of bytes that are read to open a zip, because they are kept in memory. An export with ten thousand
/// routes has a directory of 1 MiB.
const MAX_ZIP_DIRECTORY: u64 = 2 << 20;

/// Options of reading a file.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// `None`: detected from the content.
    pub format: Option<ImportFormat>,
    /// Columns of a CSV that have another name.
    pub mappings: Vec<Mapping>,
    /// Zone of times without an offset.
    pub zone: Zone,
}

/// Shared count of the bytes or rows that were read.
#[derive(Clone, Debug, Default)]
pub struct ReadProgress {
    done: Arc<AtomicU64>,
    /// `None` for a stream.
    pub total: Option<u64>,
}

impl ReadProgress {
    /// Returns the bytes or rows that were read so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn add(&self, count: usize) {
        self.done.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Reader that counts its bytes.
struct ProgressReader<R> {
    inner: R,
    progress: ReadProgress,
}

impl<R: Read> Read for ProgressReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.add(count);
        Ok(count)
    }
}

impl<R: Seek> Seek for ProgressReader<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

/// Reader that fails once a shared budget of bytes is used up.
struct BudgetReader<R> {
    inner: R,
    budget_bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for BudgetReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let budget = self.budget_bytes.load(Ordering::Relaxed);
        if budget == 0 && !buffer.is_empty() {
            return Err(io::Error::other("the directory of the zip is larger than 2 MiB, or has no end"));
        }
        let max = buffer.len().min(usize::try_from(budget).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..max])?;
        self.budget_bytes.store(budget - count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl<R: Seek> Seek for BudgetReader<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}

/// Opened file.
#[derive(Debug)]
pub struct Input {
    content: Content,
    progress: ReadProgress,
}

#[derive(Debug)]
enum Content {
    Database(DockerStackDatabase),
    Zip(File),
    /// Beginning of the file, and its rest.
    Stream(Vec<u8>, File),
}

impl Input {
    /// Opens a file, or standard input for the path `-`.
    ///
    /// # Errors
    /// The file cannot be opened, is a folder, or is a database or a zip in a stream.
    pub fn open(path: &Path, format: Option<ImportFormat>) -> Result<Self, ReadError> {
        let mut file = match path == Path::new("-") {
            true => File::from(io::stdin().as_fd().try_clone_to_owned()?),
            false => File::open(path).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => ReadError::unusable("there is no such file"),
                _ => e.into(),
            })?,
        };
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ReadError::unusable("is a folder"));
        }
        let is_seekable = metadata.is_file() && path != Path::new("-");
        let mut head = Vec::new();
        (&mut file).take(HEAD as u64).read_to_end(&mut head)?;
        let mut total = is_seekable.then_some(metadata.len());
        let content = match detect_format(&head) {
            Detected::Sqlite if format.is_none_or(|format| format == ImportFormat::DockerSqlite) => {
                if !is_seekable {
                    let reason = "a database cannot be read from a stream: pass the name of its file";
                    return Err(ReadError::unusable(reason));
                }
                let database = DockerStackDatabase::open(path)?;
                total = Some(database.row_count());
                Content::Database(database)
            }
            Detected::Zip if !is_seekable => {
                let reason = "a zip cannot be read from a stream: pass the name of its file";
                return Err(ReadError::unusable(reason));
            }
            Detected::Zip => {
                file.rewind()?;
                Content::Zip(file)
            }
            _ => Content::Stream(head, file),
        };
        Ok(Self { content, progress: ReadProgress { total, ..ReadProgress::default() } })
    }

    /// Returns the progress of reading, which can be watched from another thread.
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }

    /// Returns whether progress counts rows instead of bytes.
    pub fn counts_rows(&self) -> bool {
        matches!(self.content, Content::Database(_))
    }

    pub fn read(self, options: &ReadOptions, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let progress = self.progress;
        match self.content {
            Content::Database(database) => database.read(|| progress.add(1), sink),
            Content::Zip(file) => read_zip(ProgressReader { inner: file, progress }, options, sink),
            Content::Stream(head, file) => {
                progress.add(head.len());
                let rest = BufReader::with_capacity(BUFFER, ProgressReader { inner: file, progress });
                read_stream(&mut Cursor::new(head).chain(rest), options, true, sink)
            }
        }
    }
}

fn read_stream(
    input: &mut dyn BufRead,
    options: &ReadOptions,
    may_be_packed: bool,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let mut head = Vec::new();
    (&mut *input).take(HEAD as u64).read_to_end(&mut head)?;
    // An export of no entries as JSON Lines is empty.
    if head.is_empty() && options.format.is_none_or(|format| format == ImportFormat::JsonLines) {
        return Ok(());
    }
    let detected = detect_format(&head);
    let mut input = Cursor::new(head).chain(input);
    let format = match (detected, options.format) {
        (Detected::Gzip, _) if may_be_packed => {
            let mut unpacked = BufReader::with_capacity(BUFFER, MultiGzDecoder::new(input));
            return read_stream(&mut unpacked, options, false, sink);
        }
        (Detected::Sqlite, Some(_)) => {
            return Err(ReadError::unusable("this is a SQLite database: omit --format"));
        }
        (Detected::Gzip | Detected::Zip | Detected::Sqlite, _) => {
            return Err(ReadError::unusable(
                "the packed file is packed itself, or a database: unpack it first",
            ));
        }
        (_, Some(format)) => format,
        (Detected::Text(format), None) => format,
        (Detected::Unusable(reason), None) => return Err(ReadError::unusable(reason)),
    };
    if format != ImportFormat::Csv && !options.mappings.is_empty() {
        return Err(ReadError::unusable("--map is only supported for CSV, and this is not CSV"));
    }
    match format {
        ImportFormat::AppleHealth => apple_health::read(&mut input, &options.zone, sink),
        ImportFormat::PostgresDump => postgres_dump::read(&mut input, sink),
        ImportFormat::Csv => delimited::read(&mut input, &options.mappings, &options.zone, sink),
        ImportFormat::JsonLines => json_lines::read(&mut input, &options.zone, sink),
        ImportFormat::DockerSqlite => Err(ReadError::unusable("this is not a SQLite database")),
    }
}

/// Reads the Apple Health export in a zip.
fn read_zip(file: ProgressReader<File>, options: &ReadOptions, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    let budget_bytes = Arc::new(AtomicU64::new(MAX_ZIP_DIRECTORY));
    let inner = BufReader::with_capacity(BUFFER, file);
    let reader = BudgetReader { inner, budget_bytes: Arc::clone(&budget_bytes) };
    let mut archive = ZipArchive::new(reader).map_err(zip_error)?;
    budget_bytes.store(u64::MAX, Ordering::Relaxed);
    let Some(index) = find_health_export(&mut archive)? else {
        return Err(ReadError::unusable(
            "the zip contains no Apple Health export (an XML file with an element HealthData)",
        ));
    };
    let mut member = BufReader::with_capacity(BUFFER, archive.by_index(index).map_err(zip_error)?);
    let format = options.format.or(Some(ImportFormat::AppleHealth));
    read_stream(&mut member, &ReadOptions { format, ..options.clone() }, false, sink)
}

/// Finds the export in the zip by its name, or by its root element because iOS translates the name.
fn find_health_export<R: Read + Seek>(archive: &mut ZipArchive<R>) -> Result<Option<usize>, ReadError> {
    let mut documents = Vec::new();
    for index in 0..archive.len() {
        let Some(Ok(name)) = archive.name_for_index(index) else { continue };
        let name = name.to_lowercase();
        if name.rsplit('/').next() == Some("export.xml") {
            return Ok(Some(index));
        }
        if name.ends_with(".xml") {
            documents.push(index);
        }
    }
    for index in documents {
        let mut head = Vec::new();
        archive.by_index(index).map_err(zip_error)?.take(HEAD as u64).read_to_end(&mut head)?;
        if detect_format(&head) == Detected::Text(ImportFormat::AppleHealth) {
            return Ok(Some(index));
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
