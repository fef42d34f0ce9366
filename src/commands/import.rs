//! `import`: brings entries from a file. One thread reads, another stores; a bounded channel
//! between them, so that memory does not grow with the file and the database is never held
//! while the file is waited for.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use crate::commands::rejected::RejectedRows;
use crate::commands::{Failure, grouped, print, progress};
use crate::config::{RawPlace, RawRules};
use crate::db::store::Options;
use crate::domain::entry::Entry;
use crate::domain::limits::EntryLimits;
use crate::fs::privileges::Identity;
use crate::transfer::formats::delimited::Mapping;
use crate::transfer::formats::detect::Format;
use crate::transfer::formats::docker_stack::{DockerStack, Found as FoundRow};
use crate::transfer::formats::import_row::Column;
use crate::transfer::formats::input::{Input, Meter, Reading};
use crate::transfer::formats::rows::{ReadError, Rejection, Row, Sink, Stopped, one_line};
use crate::transfer::import::{ImportError, Imported, Importer};

/// Rows that go to the storing thread together, and how many such lots may wait.
const LOT: usize = 512;
const LOTS: usize = 16;
/// Rows that are stored in one go, at most.
const GO: usize = LOT * LOTS;
/// Text of rows that go together at most, and that are stored in one go, in bytes: a note or a
/// rejected row is a thousand times longer than usual rows.
const LOT_BYTES: usize = 64 * 1024;
const GO_BYTES: usize = LOT_BYTES * LOTS;
/// Rejected rows that are shown.
const SHOWN: u64 = 20;
/// How much of each, in characters.
const SHOWN_CONTENT: usize = 100;

/// What to import.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// The file: Apple Health's export.zip or export.xml, the Docker stack's database or its
    /// PostgreSQL dump, CSV, JSON Lines; also packed with gzip. `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What the file is, where its content does not tell
    #[arg(long, value_enum)]
    format: Option<FormatName>,

    /// A column of a CSV and what it means: id, timestamp, caffeine_mg, coffee_type, notes, bpm,
    /// context or source; can be repeated
    #[arg(long, value_name = "COLUMN=FIELD", value_parser = mapping)]
    map: Vec<Mapping>,

    /// Read and compare, but store nothing
    #[arg(long)]
    dry_run: bool,

    /// Write all rejected rows to this new file (CSV: line, reason, content)
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,

    /// Say nothing unless something goes wrong
    #[arg(long, short)]
    quiet: bool,

    /// Import doses and pulses outside the limits for new entries too
    ///
    /// Without it, rows above MAX_CAFFEINE_MG, below MIN_HEART_RATE_BPM or above MAX_HEART_RATE_BPM
    /// are rejected.
    #[arg(long)]
    accept_out_of_range: bool,

    #[command(flatten)]
    rules: RawRules,

    #[command(flatten)]
    place: RawPlace,
}

/// The formats, as the command line calls them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    AppleHealth,
    DockerSqlite,
    PostgresDump,
    Csv,
    Jsonl,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::AppleHealth => Self::AppleHealth,
            FormatName::DockerSqlite => Self::DockerSqlite,
            FormatName::PostgresDump => Self::PostgresDump,
            FormatName::Csv => Self::Csv,
            FormatName::Jsonl => Self::JsonLines,
        }
    }
}

fn mapping(text: &str) -> Result<Mapping, String> {
    let fields = || Column::ALL.map(Column::name).join(", ");
    let (column, field) = text.rsplit_once('=').ok_or("must be COLUMN=FIELD, such as Time=timestamp")?;
    let field = Column::named(field).ok_or_else(|| format!("{field:?} is none of {}", fields()))?;
    Ok((column.to_owned(), field))
}

/// Each column means one field, and each field is meant by one column.
fn check_mappings(mappings: &[Mapping]) -> Result<(), Failure> {
    for (place, (name, field)) in mappings.iter().enumerate() {
        let before = mappings.iter().take(place);
        for (other, other_field) in before {
            if other.trim().eq_ignore_ascii_case(name.trim()) {
                return Err(Failure::Usage(format!("--map names the column {name:?} twice")));
            }
            if other_field == field {
                let why = format!("--map says of two columns that they are {}", field.name());
                return Err(Failure::Usage(why));
            }
        }
    }
    Ok(())
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Open(e) => e.into(),
            ImportError::OtherVersion { .. } | ImportError::OldSchema { .. } => {
                Self::Configuration(vec![error.to_string()])
            }
            ImportError::Store(e) if e.is_transient() => {
                Self::Busy(format!("{e}: what was imported so far stays, import again to go on"))
            }
            ImportError::Store(e) => Self::Failed(e.to_string()),
        }
    }
}

/// Imports a file.
///
/// # Errors
/// Why it was not read, or not stored, to its end.
pub fn run(args: ImportArgs) -> Result<(), Failure> {
    let name =
        if args.file == Path::new("-") { "standard input".into() } else { args.file.display().to_string() };
    let unreadable = |e: ReadError| Failure::Failed(format!("{name}: {e}"));
    check_mappings(&args.map)?;
    let (place, rules) = args.rules.check_with(args.place)?;
    let limits = (!args.accept_out_of_range).then_some(rules);
    // What the caller named is opened as the caller, what is stored is stored as its owner.
    let source = open(&args.file, args.format.map(Format::from)).map_err(unreadable)?;
    let rejects = args.rejects.as_deref().map(|path| RejectedRows::create(path, &place.database));
    let rejects = rejects.transpose()?;
    let identity = Identity::of_owner(&place.database)
        .map_err(|e| Failure::Failed(format!("cannot act as the database's owner: {e}")))?;
    let rejects = rejects.map(|rejects| rejects.of_caller(identity));
    let how = Reading { format: args.format.map(Format::from), mappings: args.map, zone: place.zone };
    let options = Options {
        path: place.database,
        backups: place.backups,
        quick_readers: 1,
        slow_readers: 1,
        slow_query: Duration::from_secs(60),
    };
    let meter = source.meter();
    let mut taker = Taker {
        options,
        is_dry: args.dry_run,
        importer: None,
        rejects,
        is_database: matches!(source, Source::Database(..)),
        rejected: 0,
        out_of_range: 0,
        passed_over: 0,
        bar: source.bar(args.quiet),
        meter,
        began: Instant::now(),
    };
    let (lots, incoming) = sync_channel(LOTS);
    let reader = std::thread::Builder::new()
        .name("reader".into())
        .spawn(move || source.read(&how, limits.as_ref(), &lots))
        .map_err(|e| unreadable(e.into()))?;
    // When storing fails nobody waits for the reader: it may wait for a slow stream.
    taker.take_all(&incoming)?;
    let crashed = |_| Err(ReadError::Unusable("reading it failed: a fault of this program".to_owned()));
    let read = reader.join().unwrap_or_else(crashed);
    let outcome = taker.finish(&name, args.quiet)?;
    match read {
        Err(e) => Err(unreadable(e)),
        Ok(()) if outcome == Outcome::NothingFits => {
            Err(Failure::Failed(format!("{name}: none of its rows could be read")))
        }
        Ok(()) if outcome == Outcome::Empty && !args.quiet => {
            print(&format!("{name}: there are no rows in it"))
        }
        Ok(()) => Ok(()),
    }
}

/// Where rows come from.
enum Source {
    File(Input),
    Database(DockerStack, Meter),
}

fn open(path: &Path, format: Option<Format>) -> Result<Source, ReadError> {
    let input = match path == Path::new("-") {
        true => Input::stream(File::from(io::stdin().as_fd().try_clone_to_owned()?))?,
        false => Input::open(path)?,
    };
    let is_database = format.is_none_or(|format| format == Format::DockerSqlite) && input.is_sqlite()?;
    if !is_database {
        return Ok(Source::File(input));
    }
    let database = DockerStack::open(path).map_err(|e| ReadError::Unusable(e.to_string()))?;
    let meter = Meter::of_rows(database.rows());
    Ok(Source::Database(database, meter))
}

impl Source {
    fn meter(&self) -> Meter {
        match self {
            Self::File(input) => input.meter(),
            Self::Database(_, meter) => meter.clone(),
        }
    }

    fn bar(&self, is_quiet: bool) -> ProgressBar {
        let total = self.meter().total;
        match self {
            Self::Database(..) => {
                progress::bar(total, "{wide_bar} {pos} of {len} rows, {msg}, {eta} left", is_quiet)
            }
            Self::File(_) if total.is_none() => {
                progress::bar(None, "{spinner} {bytes} read, {msg}", is_quiet)
            }
            Self::File(_) => {
                progress::bar(total, "{wide_bar} {bytes} of {total_bytes}, {msg}, {eta} left", is_quiet)
            }
        }
    }

    /// Reads everything and sends it in lots.
    fn read(
        self,
        how: &Reading,
        limits: Option<&EntryLimits>,
        lots: &SyncSender<Lot>,
    ) -> Result<(), ReadError> {
        let mut lot = Lot::default();
        let mut send = |row| {
            lot.add(row);
            if lot.count < LOT && lot.bytes < LOT_BYTES {
                return Ok(());
            }
            lots.send(std::mem::take(&mut lot)).map_err(|_| Stopped)
        };
        let mut sink = Sink::new(limits, &mut send);
        let read = match self {
            Self::File(input) => input.read(how, &mut sink),
            Self::Database(database, meter) => {
                let each = &mut |found: FoundRow<'_>| {
                    meter.add(1);
                    let explain = |reason| format!("{}: {reason}", (found.place)());
                    match sink.entry_at(found.number, found.entry, explain, found.content) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(Stopped) => ControlFlow::Break(()),
                    }
                };
                database.read(each).map(drop).map_err(|e| ReadError::Unusable(e.to_string()))
            }
        };
        // Nobody may take it any more; then there was an error that says so.
        drop(lots.send(lot));
        read
    }
}

/// Rows on their way.
#[derive(Default)]
struct Lot {
    entries: Vec<Entry>,
    rejected: Vec<Rejection>,
    passed_over: u64,
    count: usize,
    /// Length of all text in it.
    bytes: usize,
}

impl Lot {
    fn add(&mut self, row: Row) {
        self.count += 1;
        self.bytes += text_bytes(&row);
        match row {
            Row::Entry(entry) => {
                if self.entries.is_empty() {
                    self.entries.reserve_exact(LOT);
                }
                self.entries.push(entry);
            }
            Row::Rejected(rejection) => self.rejected.push(rejection),
            Row::PassedOver => self.passed_over += 1,
        }
    }
}

/// Length of the text in a row.
fn text_bytes(row: &Row) -> usize {
    let length = |texts: [&Option<String>; 3]| texts.into_iter().flatten().map(String::len).sum::<usize>();
    match row {
        Row::Entry(Entry::Coffee(coffee)) => length([&coffee.coffee_type, &coffee.notes, &coffee.source]),
        Row::Entry(Entry::Reading(reading)) => length([&reading.context, &reading.notes, &reading.source]),
        Row::Rejected(rejection) => rejection.reason.len() + rejection.content.len(),
        Row::PassedOver => 0,
    }
}

/// What came of it.
#[derive(PartialEq, Eq)]
enum Outcome {
    Fine,
    /// There was not one row.
    Empty,
    /// There were rows of ours, and not one that could be stored.
    NothingFits,
}

/// Stores what is read.
struct Taker {
    options: Options,
    is_dry: bool,
    /// Opened with the first entry: a file without any makes no database.
    importer: Option<Importer>,
    rejects: Option<RejectedRows>,
    /// Its rows have no lines; why one does not fit says where it stands.
    is_database: bool,
    rejected: u64,
    /// Those among them whose values are outside the limits for new entries.
    out_of_range: u64,
    passed_over: u64,
    bar: ProgressBar,
    meter: Meter,
    began: Instant,
}

impl Taker {
    fn take_all(&mut self, incoming: &Receiver<Lot>) -> Result<(), Failure> {
        while let Ok(first) = incoming.recv() {
            let mut bytes = first.bytes;
            let mut entries = self.unpack(first)?;
            while entries.len() < GO
                && bytes < GO_BYTES
                && let Ok(lot) = incoming.try_recv()
            {
                bytes += lot.bytes;
                entries.append(&mut self.unpack(lot)?);
            }
            if !entries.is_empty() {
                self.store(entries)?;
            }
            self.bar.set_position(self.meter.done());
            self.bar.set_message(format!("{:.0} rows/s", self.rate()));
        }
        Ok(())
    }

    fn store(&mut self, entries: Vec<Entry>) -> Result<(), Failure> {
        if self.importer.is_none() {
            self.importer = Some(Importer::open(&self.options, self.is_dry)?);
        }
        match &mut self.importer {
            Some(importer) => importer.add(entries).map_err(|e| ImportError::from(e).into()),
            None => Ok(()),
        }
    }

    fn unpack(&mut self, lot: Lot) -> Result<Vec<Entry>, Failure> {
        self.passed_over += lot.passed_over;
        for rejection in &lot.rejected {
            self.rejected += 1;
            self.out_of_range += u64::from(rejection.is_out_of_range);
            if self.rejected <= SHOWN {
                self.bar.suspend(|| eprintln!("{}", shown(rejection, self.is_database)));
            }
            if let Some(rejects) = &mut self.rejects {
                rejects.add(rejection)?;
            }
        }
        Ok(lot.entries)
    }

    fn imported(&self) -> Imported {
        self.importer.as_ref().map(Importer::imported).unwrap_or_default()
    }

    fn rate(&self) -> f64 {
        let Imported { coffees, readings } = self.imported();
        let rows = coffees.added + coffees.duplicates + readings.added + readings.duplicates;
        (rows + self.rejected + self.passed_over) as f64 / self.began.elapsed().as_secs_f64().max(1e-3)
    }

    /// Makes everything durable and says what was done.
    fn finish(mut self, name: &str, is_quiet: bool) -> Result<Outcome, Failure> {
        let imported = match self.importer.take() {
            Some(importer) => importer.finish().map_err(ImportError::from)?,
            None => Imported::default(),
        };
        self.bar.finish_and_clear();
        if self.rejected > SHOWN {
            let hint = if self.rejects.is_none() { " (--rejects FILE writes them all)" } else { "" };
            eprintln!("and {} more{hint}", self.rejected - SHOWN);
        }
        if self.out_of_range > 0 {
            eprintln!(
                "{} outside the limits for new entries; --accept-out-of-range imports them",
                match self.out_of_range {
                    1 => "1 rejected row is".to_owned(),
                    n => format!("{} rejected rows are", grouped(n)),
                }
            );
        }
        if let Some(rejects) = self.rejects.take() {
            rejects.finish()?;
        }
        let Imported { coffees, readings } = imported;
        let fitting = coffees.added + coffees.duplicates + readings.added + readings.duplicates;
        let rows = fitting + self.rejected + self.passed_over;
        let seconds = self.began.elapsed().as_secs_f64();
        let outcome = match (rows, fitting, self.rejected) {
            (0, ..) => Outcome::Empty,
            (_, 0, 1..) => Outcome::NothingFits,
            _ => Outcome::Fine,
        };
        if !is_quiet && outcome != Outcome::Empty {
            let verb = if self.is_dry { "would be added" } else { "added" };
            print(&format!(
                "{name}: {} coffees and {} readings {verb}, {} and {} were there already, {} rejected, \
                 {} of other kinds passed over ({seconds:.1} s, {:.0} rows/s)",
                coffees.added,
                readings.added,
                coffees.duplicates,
                readings.duplicates,
                self.rejected,
                self.passed_over,
                rows as f64 / seconds.max(1e-3)
            ))?;
        }
        Ok(outcome)
    }
}

/// One line, whatever stood in the file.
fn shown(rejection: &Rejection, is_database: bool) -> String {
    let content = one_line(&rejection.content, SHOWN_CONTENT);
    let line = if is_database { String::new() } else { format!("line {}: ", rejection.line) };
    format!("{line}{}: {content}", rejection.reason)
}
