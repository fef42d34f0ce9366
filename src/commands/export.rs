//! `export`: entries as CSV or JSON Lines, to standard output or into a file that is
//! there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{fs, io};

use clap::{Args, ValueEnum};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::commands::{Failure, unwritten};
use crate::config::RawPlace;
use crate::domain::calendar::Zone;
use crate::domain::entry::EntryKind;
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;
use crate::fs::protected_paths::ensure_not_protected;
use crate::transfer::export::{ExportError, Exporter, Extract};
use crate::transfer::formats::writer::{EntryWriter, TextFormat};

/// What to export, and where to.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Which entries
    kind: KindArg,

    /// CSV with a header, or one JSON object a line
    #[arg(long, default_value = "csv")]
    format: FormatArg,

    /// Only entries from this day or time on, such as 2025-07-01 or 2025-07-01T08:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Only entries before this day or time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,

    /// Write into this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the file, if there is one
    #[arg(long, requires = "output")]
    force: bool,

    /// Say nothing unless it fails
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    place: RawPlace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    Coffee,
    Heartrate,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    Csv,
    Jsonl,
}

/// Exports.
///
/// # Errors
/// Why there is no file, or not all of the output.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let place = args.place.clone().check()?;
    let since = instant("--since", args.since.as_deref(), &place.zone)?;
    let until = instant("--until", args.until.as_deref(), &place.zone)?;
    if until.is_some() && until < since {
        return Err(Failure::Usage("--until must not lie before --since".into()));
    }
    let kind = match args.kind {
        KindArg::Coffee => EntryKind::Coffee,
        KindArg::Heartrate => EntryKind::HeartRate,
    };
    let format = match args.format {
        FormatArg::Csv => TextFormat::Csv,
        FormatArg::Jsonl => TextFormat::JsonLines,
    };
    let began = Instant::now();
    if let Some(path) = &args.output {
        ensure_not_protected(&place.database, path)?;
    }
    // The file is the caller's, the database its owner's.
    let mut target = args.output.as_deref().map(|path| Target::open(path, args.force)).transpose()?;
    let identity = Identity::of_owner(&place.database).map_err(|e| {
        Failure::Failed(format!("cannot act as the owner of {}: {e}", place.database.display()))
    })?;
    let extract = Extract { kind, since, until };
    let written = match &mut target {
        Some(target) => export(&place.database, &extract, format, &target.file),
        None => export(&place.database, &extract, format, io::stdout()),
    };
    let done = identity.as_caller(|| match target {
        Some(target) => written.and_then(|written| target.publish().map(|()| written)),
        None => written,
    });
    let written = done.map_err(|e| Failure::Failed(e.to_string()))??;
    if let Some(Written { rows, bytes }) = written.filter(|_| !args.quiet) {
        let what = match kind {
            EntryKind::Coffee => "coffees",
            EntryKind::HeartRate => "readings",
        };
        let path = args.output.as_deref().map_or("standard output".into(), Path::to_string_lossy);
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("{rows} {what}, {bytes} bytes, to {path} ({seconds:.1} s)");
    }
    Ok(())
}

/// A day or a time of the command line.
pub(super) fn instant(name: &str, text: Option<&str>, zone: &Zone) -> Result<Option<Timestamp>, Failure> {
    let parse = |text: &str| {
        zone.parse(text).map_err(|_| {
            let form = "must be a date or a time, such as 2025-07-23 or 2025-07-23T14:30:00Z";
            Failure::Usage(format!("{name} {form} (got {text:?})"))
        })
    };
    text.map(parse).transpose()
}

/// How much was written.
struct Written {
    rows: u64,
    bytes: u64,
}

/// `None`: whoever read it has gone, which is no failure.
fn export(
    database: &Path,
    extract: &Extract,
    format: TextFormat,
    to: impl Write,
) -> Result<Option<Written>, Failure> {
    let exporter = Exporter::open(database)?;
    let mut bytes = 0;
    let counted = Counted { to, bytes: &mut bytes };
    let done = write(&exporter, extract, format, BufWriter::with_capacity(64 << 10, counted));
    match done {
        Ok(rows) => Ok(Some(Written { rows, bytes })),
        Err(ExportError::Target(e)) if e.kind() == ErrorKind::BrokenPipe => Ok(None),
        Err(ExportError::Target(e)) => Err(unwritten("the export", &e)),
        Err(ExportError::Store(e)) if e.is_transient() => Err(Failure::Busy(e.to_string())),
        Err(ExportError::Store(e)) => Err(Failure::Failed(e.to_string())),
    }
}

fn write(
    exporter: &Exporter,
    extract: &Extract,
    format: TextFormat,
    to: impl Write,
) -> Result<u64, ExportError> {
    let mut writer = EntryWriter::new(to, format, extract.kind).map_err(ExportError::Target)?;
    let rows = exporter.run(extract, |entry| writer.write(entry))?;
    writer.finish().map_err(ExportError::Target)?;
    Ok(rows)
}

/// Counts what passes.
struct Counted<'a, W> {
    to: W,
    bytes: &'a mut u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let taken = self.to.write(buffer)?;
        *self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The end of an unfinished file's name.
const END: &str = ".part";

/// A file that gets its name when it is whole. Until then it lies beside it as
/// `.NAME.PID.part`; one that a killed export left is removed by the next.
struct Target {
    path: PathBuf,
    folder: PathBuf,
    draft: Draft,
    file: File,
    force: bool,
}

/// Removes an unfinished file, whatever ends the attempt.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when the file got its name.
        drop(fs::remove_file(&self.0));
    }
}

impl Target {
    fn open(path: &Path, force: bool) -> Result<Self, Failure> {
        let refuse = |why: &str| Failure::Failed(format!("{} {why}", path.display()));
        let name = path.file_name().filter(|_| !path.is_dir()).ok_or_else(|| refuse("is a folder"))?;
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() && force => {}
            Ok(found) if found.is_file() => return Err(refuse("exists already: --force replaces it")),
            Ok(_) => return Err(refuse("is no regular file: write to standard output instead")),
            Err(_) => {}
        }
        let cannot = |e: io::Error| unwritten(&path.display().to_string(), &e);
        let mut start = std::ffi::OsString::from(".");
        start.push(name);
        start.push(".");
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        sweep(folder, start.as_bytes());
        start.push(format!("{}{END}", std::process::id()));
        let draft = folder.join(start);
        let file = OpenOptions::new().create_new(true).write(true).open(&draft).map_err(cannot)?;
        let draft = Draft(draft);
        // Held while this lives: whoever sweeps leaves it alone.
        file.try_lock().map_err(|e| cannot(e.into()))?;
        Ok(Self { path: path.to_owned(), folder: folder.to_owned(), draft, file, force })
    }

    fn publish(self) -> Result<(), Failure> {
        let done = self.file.sync_all().and_then(|()| self.rename());
        let done = done.and_then(|()| File::open(&self.folder)?.sync_all());
        done.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                Failure::Failed(format!("{} exists already: --force replaces it", self.path.display()))
            }
            _ => unwritten(&self.path.display().to_string(), &e),
        })
    }

    fn rename(&self) -> io::Result<()> {
        if self.force {
            return fs::rename(&self.draft.0, &self.path);
        }
        match renameat_with(CWD, &self.draft.0, CWD, &self.path, RenameFlags::NOREPLACE) {
            // File systems such as FAT know no such rename.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !self.path.exists() => {
                fs::rename(&self.draft.0, &self.path)
            }
            renamed => Ok(renamed?),
        }
    }
}

/// Removes what killed exports of the same name left in `folder`.
fn sweep(folder: &Path, start: &[u8]) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_bytes();
        let is_draft = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(END.as_bytes()));
        if is_draft.is_some_and(|pid| pid.iter().all(u8::is_ascii_digit))
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok())
        {
            drop(fs::remove_file(entry.path()));
        }
    }
}
