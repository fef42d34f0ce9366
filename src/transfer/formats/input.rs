//! File to import: opens it, detects its format, unpacks it and passes its rows to a sink.

use std::fs::File;
use std::io;
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::domain::calendar::Zone;
use crate::fs::privileges::Identity;
use crate::transfer::formats::archive::{ArchiveContent, ExportArchive};
use crate::transfer::formats::database_file::DatabaseFile;
use crate::transfer::formats::delimited::Mapping;
use crate::transfer::formats::detect::{Detected, HEAD, ImportFormat, detect_format};
use crate::transfer::formats::fitbit::FitbitFolder;
use crate::transfer::formats::foreign_database::ForeignDatabase;
use crate::transfer::formats::parts::PartErrors;
use crate::transfer::formats::progress::{ProgressReader, ReadProgress};
use crate::transfer::formats::sink::{ReadError, RowPosition, Sink};
use crate::transfer::formats::temp_copy::TempFolders;
use crate::transfer::formats::{apple_health, delimited, fitbit, json_lines, postgres_dump};

/// Size of read buffers, in bytes.
const BUFFER: usize = 128 * 1024;

const FITBIT: Detected = Detected::Text(ImportFormat::Fitbit);

/// Options of reading a file.
#[derive(Clone, Debug)]
pub struct ReadOptions {
    /// `None`: detected from the content.
    pub format: Option<ImportFormat>,
    /// Columns of a CSV that have another name.
    pub mappings: Vec<Mapping>,
    /// Zone of times without an offset.
    pub zone: Zone,
    /// Caller of the command, as whom the files of a folder are opened.
    pub caller: Identity,
}

/// Opened file.
#[derive(Debug)]
pub struct Input {
    content: Content,
    progress: ReadProgress,
}

#[derive(Debug)]
enum Content {
    Database(Box<DatabaseFile>),
    /// Member of a zip file.
    Member(ExportArchive, usize),
    /// Files of a Fitbit export in a zip file, with their names.
    FitbitMembers(ExportArchive, Vec<(usize, String)>),
    FitbitFolder(FitbitFolder),
    /// Beginning of the file, and its rest.
    Stream(Vec<u8>, File),
}

impl Input {
    /// Opens a file, or standard input for the path `-`. `temp_folders` is for databases that must be copied to be read.
    ///
    /// # Errors
    /// The file cannot be opened, or is a database or a zip in a stream. A folder is not one of a Fitbit export.
    pub fn open(
        path: &Path,
        format: Option<ImportFormat>,
        temp_folders: &TempFolders,
    ) -> Result<Self, ReadError> {
        let mut file = match path == Path::new("-") {
            true => File::from(io::stdin().as_fd().try_clone_to_owned()?),
            false => File::open(path).map_err(|e| match e.kind() {
                io::ErrorKind::NotFound => ReadError::unusable("there is no such file"),
                _ => e.into(),
            })?,
        };
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Self::of_folder(path, format);
        }
        let is_seekable = metadata.is_file() && path != Path::new("-");
        let mut head = Vec::new();
        (&mut file).take(HEAD as u64).read_to_end(&mut head)?;
        let progress = ReadProgress::of(is_seekable.then_some(metadata.len()));
        match detect_format(&head) {
            Detected::Sqlite if format.is_none_or(ImportFormat::is_database) => {
                require_seekable(is_seekable, "a database")?;
                let database = ForeignDatabase::open(path, temp_folders)?;
                Self::of_database(DatabaseFile::new(database, path, format)?)
            }
            Detected::Zip => {
                require_seekable(is_seekable, "a zip")?;
                file.rewind()?;
                let archive = ExportArchive::open(file, progress.clone())?;
                Self::of_archive(archive, progress, format, temp_folders)
            }
            _ => Ok(Self { content: Content::Stream(head, file), progress }),
        }
    }

    fn of_folder(path: &Path, format: Option<ImportFormat>) -> Result<Self, ReadError> {
        if format.is_some_and(|format| format != ImportFormat::Fitbit) {
            return Err(ReadError::unusable("is a folder"));
        }
        let folder = FitbitFolder::find(path)?;
        let progress = ReadProgress::of(Some(folder.bytes()));
        Ok(Self { content: Content::FitbitFolder(folder), progress })
    }

    fn of_database(database: DatabaseFile) -> Result<Self, ReadError> {
        let progress = ReadProgress::of(database.row_count());
        Ok(Self { content: Content::Database(Box::new(database)), progress })
    }

    fn of_archive(
        mut archive: ExportArchive,
        progress: ReadProgress,
        format: Option<ImportFormat>,
        temp_folders: &TempFolders,
    ) -> Result<Self, ReadError> {
        match archive.find(format)? {
            ArchiveContent::AppleHealth(index) => {
                Ok(Self { content: Content::Member(archive, index), progress })
            }
            ArchiveContent::Fitbit(members) => {
                Ok(Self { content: Content::FitbitMembers(archive, members), progress })
            }
            ArchiveContent::Database(index) => {
                let copy = archive.unpack(index, temp_folders)?;
                let path = copy.path().to_owned();
                let database = ForeignDatabase::open_copy(copy)?;
                Self::of_database(DatabaseFile::new(database, &path, format)?)
            }
        }
    }

    /// Returns the progress of reading, which can be watched from another thread.
    pub fn progress(&self) -> ReadProgress {
        self.progress.clone()
    }

    /// Returns whether all times lack a zone, as far as that can be detected from the beginning.
    pub fn lacks_zone(&self, format: Option<ImportFormat>) -> bool {
        match &self.content {
            Content::Database(_) | Content::Member(..) => false,
            Content::FitbitMembers(..) | Content::FitbitFolder(_) => true,
            Content::Stream(head, _) => match (format, detect_format(head)) {
                (None, Detected::Gzip) => detect_format(&unpack_head(head)) == FITBIT,
                (None, detected) => detected == FITBIT,
                (Some(format), _) => format == ImportFormat::Fitbit,
            },
        }
    }

    /// Returns whether progress counts rows instead of bytes.
    pub fn counts_rows(&self) -> bool {
        matches!(self.content, Content::Database(_))
    }

    pub fn read(self, options: &ReadOptions, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        let progress = self.progress;
        match self.content {
            Content::Database(database) => database.read(|| progress.add(1), sink),
            Content::Member(mut archive, index) => {
                let format = options.format.or(Some(ImportFormat::AppleHealth));
                let options = ReadOptions { format, ..options.clone() };
                read_stream(&mut archive.member(index)?, &options, false, sink)
            }
            Content::FitbitMembers(mut archive, members) => {
                read_members(&mut archive, &members, options, sink)
            }
            Content::FitbitFolder(folder) => folder.read(&options.zone, &options.caller, &progress, sink),
            Content::Stream(head, file) => {
                progress.add(head.len());
                let rest = BufReader::with_capacity(BUFFER, ProgressReader { inner: file, progress });
                read_stream(&mut Cursor::new(head).chain(rest), options, true, sink)
            }
        }
    }
}

/// Reads the files of a Fitbit export in a zip file.
///
/// # Errors
/// A file cannot be read completely. Its samples before, and the other files, have been passed on.
fn read_members(
    archive: &mut ExportArchive,
    members: &[(usize, String)],
    options: &ReadOptions,
    sink: &mut Sink<'_>,
) -> Result<(), ReadError> {
    let mut errors = PartErrors::default();
    for (index, name) in members {
        let member = archive.member(*index);
        let read = member.and_then(|mut member| fitbit::read_named(&mut member, name, &options.zone, sink));
        errors.record(name, read)?;
    }
    errors.finish()
}

/// Unpacks the beginning of a file from its compressed beginning.
fn unpack_head(head: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    // Fails at the end of the beginning; what was unpacked before is kept.
    drop(MultiGzDecoder::new(head).take(HEAD as u64).read_to_end(&mut unpacked));
    unpacked
}

fn require_seekable(is_seekable: bool, kind: &str) -> Result<(), ReadError> {
    match is_seekable {
        true => Ok(()),
        false => {
            let reason = format!("{kind} cannot be read from a stream: pass the name of its file");
            Err(ReadError::Unusable(reason))
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
        ImportFormat::Fitbit => fitbit::read(&mut input, &options.zone, &RowPosition::Line, sink),
        ImportFormat::DockerSqlite | ImportFormat::HealthConnect | ImportFormat::Gadgetbridge => {
            Err(ReadError::unusable("this is not a SQLite database"))
        }
    }
}
