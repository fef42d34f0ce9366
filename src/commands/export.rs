//! `export`: writes entries as CSV or JSON Lines to standard output, or to a file that appears only when it is complete.

use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{fs, io};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use rustix::fs::Mode;
use rustix::process::umask;

use crate::commands::{Failure, act_as_owner, counted, unwritten};
use crate::config::PersonArgs;
use crate::domain::calendar::Zone;
use crate::domain::entry::EntryKind;
use crate::domain::time::Timestamp;
use crate::fs::paths::folder_of;
use crate::fs::privileges::Identity;
use crate::fs::protected_paths::ensure_not_protected;
use crate::fs::temp_file::TempFile;
use crate::transfer::export::{ExportError, ExportFilter, Exporter};
use crate::transfer::formats::writer::{EntryWriter, TextFormat};

#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Entries to export
    kind: KindArg,

    /// CSV with a header, or one JSON object per line
    #[arg(long, default_value = "csv")]
    format: TextFormat,

    /// Export entries from this day or time on, such as 2025-07-01 or 2025-07-01T08:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Export entries before this day or time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    force: bool,

    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    common: PersonArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    Coffee,
    Heartrate,
}

pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let place = args.common.validate()?;
    let since = instant("--since", args.since.as_deref(), &place.zone)?;
    let until = instant("--until", args.until.as_deref(), &place.zone)?;
    if until.is_some() && until < since {
        return Err(Failure::Usage("--until must not be before --since".into()));
    }
    let (kind, noun) = match args.kind {
        KindArg::Coffee => (EntryKind::Coffee, "coffee"),
        KindArg::Heartrate => (EntryKind::HeartRate, "reading"),
    };
    let began = Instant::now();
    if let Some(path) = &args.output {
        ensure_not_protected(&place.database, path)?;
    }
    // The output is written as the caller, the database is read as its owner.
    let output = args.output.as_deref().map(|path| OutputFile::create(path, args.force)).transpose()?;
    let identity = act_as_owner(&place.database)?;
    let filter = ExportFilter { kind, since, until };
    let written = match &output {
        Some(output) => export(&place.database, &filter, args.format, output.file.file()),
        None => export(&place.database, &filter, args.format, io::stdout()),
    };
    let published = identity.as_caller(|| match output {
        Some(output) => written.and_then(|written| output.publish().map(|()| written)),
        None => written,
    });
    let written = published.map_err(|e| Failure::Failed(e.to_string()))??;
    if let Some(Written { rows, bytes }) = written.filter(|_| !args.quiet) {
        let path = args.output.as_deref().map_or("standard output".into(), Path::to_string_lossy);
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("{}, {}, to {path} ({seconds:.1} s)", counted(rows, noun), counted(bytes, "byte"));
    }
    Ok(())
}

/// Parses a day or a time of the command line.
pub(super) fn instant(name: &str, text: Option<&str>, zone: &Zone) -> Result<Option<Timestamp>, Failure> {
    let parse = |text: &str| {
        zone.parse(text).map_err(|_| {
            let form = "must be a date or a time, such as 2025-07-23 or 2025-07-23T14:30:00Z";
            Failure::Usage(format!("{name} {form} (got {text:?})"))
        })
    };
    text.map(parse).transpose()
}

/// Size of a complete export.
struct Written {
    rows: u64,
    bytes: u64,
}

/// Exports to `to`. Returns `None` when its reader has closed the pipe, which is not a failure.
fn export(
    database: &Path,
    filter: &ExportFilter,
    format: TextFormat,
    to: impl Write,
) -> Result<Option<Written>, Failure> {
    let exporter = Exporter::open(database)?;
    let counter = ProgressBar::hidden();
    let output = BufWriter::with_capacity(64 << 10, counter.wrap_write(to));
    let write = || {
        let mut writer = EntryWriter::new(output, format, filter.kind).map_err(ExportError::Output)?;
        let rows = exporter.export(filter, |entry| writer.write(entry))?;
        writer.finish().map_err(ExportError::Output)?;
        Ok(Written { rows, bytes: counter.position() })
    };
    match write() {
        Ok(written) => Ok(Some(written)),
        Err(ExportError::Output(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(None),
        Err(ExportError::Output(e)) => Err(unwritten("the export", &e)),
        Err(ExportError::Store(e)) => Err(e.into()),
    }
}

/// File that gets its name when it is complete.
struct OutputFile {
    path: PathBuf,
    file: TempFile,
    force: bool,
}

impl OutputFile {
    fn create(path: &Path, force: bool) -> Result<Self, Failure> {
        let refuse = |reason: &str| Failure::Failed(format!("{} {reason}", path.display()));
        match fs::symlink_metadata(path) {
            Ok(found) if path.is_dir() || found.is_dir() => return Err(refuse("is a folder")),
            Ok(found) if found.is_file() && force => {}
            Ok(found) if found.is_file() => return Err(refuse(EXISTS)),
            Ok(_) => return Err(refuse("is not a regular file: write to standard output instead")),
            Err(_) => {}
        }
        let folder = folder_of(path);
        // A temporary file would create a missing folder.
        let file = fs::metadata(folder).and_then(|_| {
            let file = TempFile::create(folder, &Identity::CALLER)?;
            // Temporary files are private, an export is a file like any other.
            let mask = umask(Mode::empty());
            umask(mask);
            file.file().set_permissions(fs::Permissions::from_mode(0o666 & !mask.bits()))?;
            Ok(file)
        });
        match file {
            Ok(file) => Ok(Self { path: path.to_owned(), file, force }),
            Err(e) => Err(unwritten(&path.display().to_string(), &e)),
        }
    }

    fn publish(self) -> Result<(), Failure> {
        let path = &self.path;
        let published = match self.force {
            true => self.file.publish_over(path),
            false => self.file.publish(std::iter::once(path.clone())).map(drop),
        };
        published.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Failure::Failed(format!("{} {EXISTS}", path.display())),
            _ => unwritten(&path.display().to_string(), &e),
        })
    }
}

const EXISTS: &str = "already exists: use --force to replace it";
