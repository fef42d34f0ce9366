//! `import`: adds the entries of a file. One thread reads and another stores, with a bounded channel in between, so that
//! memory does not grow with the file and the database is not locked while the file is read.

use std::io;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;

use crate::commands::import_report::{ImportReport, SkippedRows, without_value};
use crate::commands::rejected::RejectsFile;
use crate::commands::{Failure, act_as_owner, ask, counted, print, progress, store_options};
use crate::config::{EntryLimitArgs, PersonArgs};
use crate::db::store::Options;
use crate::domain::calendar::Zone;
use crate::domain::entry::Entry;
use crate::domain::limits::EntryLimits;
use crate::transfer::dedup::Provenance;
use crate::transfer::formats::columns::Column;
use crate::transfer::formats::delimited::Mapping;
use crate::transfer::formats::detect::ImportFormat;
use crate::transfer::formats::input::{Input, ReadOptions};
use crate::transfer::formats::progress::ReadProgress;
use crate::transfer::formats::sink::{ReadError, ReadRow, Rejection, Sink, SinkClosed, one_line};
use crate::transfer::formats::temp_copy::TempFolders;
use crate::transfer::import::{ImportCounts, ImportError, Importer};

/// Maximum number of rows in a batch, and of batches in the channel.
const BATCH_ROWS: usize = 512;
const QUEUED_BATCHES: usize = 16;
/// Maximum size of the text in a batch, in bytes: a note or a rejected row may be a thousand times longer than a usual
/// row.
const BATCH_BYTES: usize = 64 * 1024;
/// Number of rejected rows that are printed, and the maximum length of each, in characters.
const MAX_PRINTED: u64 = 20;
const MAX_PRINTED_CONTENT: usize = 100;
/// Interval of the progress that is reported to a server.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

const EXAMPLES: &str = "\
Examples:
  coffee-tracker import export.zip --dry-run
      Show what an Apple Health export would add
  coffee-tracker import \"Health Connect.zip\"
  coffee-tracker import Gadgetbridge.db
  coffee-tracker import Takeout --source-zone Europe/Berlin
      Import Fitbit's heart rates from an unpacked Google Takeout
  coffee-tracker import log.csv --map Time=timestamp --map mg=caffeine_mg --rejects rejected.csv";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct ImportArgs {
    /// File to import, or the folder of a Fitbit export; `-` reads standard input
    ///
    /// Apple Health (export.zip, export.xml), Health Connect (Health Connect.zip, health_connect_export.db),
    /// Gadgetbridge (Gadgetbridge.db, the zip of a backup), Fitbit (the zip of a Google Takeout, its folder, or a
    /// heart_rate-YYYY-MM-DD.json file), CSV, JSON Lines, or the SQLite database or a PostgreSQL dump of the former
    /// version (the Docker stack). Text may be compressed with gzip.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Format of the file [default: detected from its content]
    #[arg(long, value_enum)]
    format: Option<ImportFormat>,

    /// Import a CSV column as a field: id, timestamp, caffeine_mg, coffee_type, notes, bpm, context or
    /// source; can be repeated
    #[arg(long, value_name = "COLUMN=FIELD", value_parser = parse_mapping)]
    map: Vec<Mapping>,

    /// Time zone of times without one, such as Europe/Berlin [default: TZ, or UTC for Fitbit]
    ///
    /// The times of a Fitbit export have no zone: on a terminal, the command prompts for it.
    #[arg(long, value_name = "ZONE", value_parser = Zone::named)]
    source_zone: Option<Zone>,

    /// Show what would be imported
    #[arg(long)]
    dry_run: bool,

    /// Write all rejected rows to this new file (CSV: line, reason, content)
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,

    /// Print the result as a JSON object, with the first rejections instead of their rows
    #[arg(long)]
    json: bool,

    /// Print why rows are rejected without their content, as for a log: it may contain notes
    #[arg(long)]
    hide_rows: bool,

    /// Print nothing but errors
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,

    /// Import doses and heart rates outside the limits for new entries, too
    ///
    /// Without it, rows above MAX_CAFFEINE_MG, below MIN_HEART_RATE_BPM or above MAX_HEART_RATE_BPM
    /// are rejected.
    #[arg(long)]
    accept_out_of_range: bool,

    #[command(flatten)]
    rules: EntryLimitArgs,

    #[command(flatten)]
    common: PersonArgs,
}

fn parse_mapping(text: &str) -> Result<Mapping, String> {
    let names = || Column::ALL.map(Column::name).join(", ");
    let (column, field) = text.rsplit_once('=').ok_or("must be COLUMN=FIELD, such as Time=timestamp")?;
    let field = Column::from_name(field).ok_or_else(|| format!("{field:?} is none of {}", names()))?;
    Ok((column.to_owned(), field))
}

/// Rejects mappings that use a column or a field twice.
fn check_mappings(mappings: &[Mapping]) -> Result<(), Failure> {
    for (index, (name, field)) in mappings.iter().enumerate() {
        for (other_name, other_field) in mappings.iter().take(index) {
            if other_name.trim().eq_ignore_ascii_case(name.trim()) {
                return Err(Failure::Usage(format!("--map uses the column {name:?} twice")));
            }
            if other_field == field {
                return Err(Failure::Usage(format!("--map uses the field {} twice", field.name())));
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
                Self::Busy(format!("{e}; the rows before are imported: import the file again to continue"))
            }
            ImportError::Store(e) => Self::Failed(e.to_string()),
        }
    }
}

pub fn run(args: ImportArgs) -> Result<(), Failure> {
    let name = match args.file == Path::new("-") {
        true => "standard input".to_owned(),
        false => args.file.display().to_string(),
    };
    let read_failure = |e: ReadError| match e {
        ReadError::Temporary(_) => Failure::Busy(format!("{name}: {e}")),
        _ => Failure::Failed(format!("{name}: {e}")),
    };
    check_mappings(&args.map)?;
    let (place, limits) = args.rules.validate_with(&args.common)?;
    let limits = (!args.accept_out_of_range).then_some(limits);
    // Files are opened as the caller, the database as its owner.
    let temp_folders = TempFolders::beside(&place.database);
    let input = Input::open(&args.file, args.format, &temp_folders).map_err(read_failure)?;
    let zone = source_zone(&args, &input, &place.zone)?;
    let rejects = args.rejects.as_deref().map(|path| RejectsFile::create(path, &place.database));
    let rejects = rejects.transpose()?;
    let identity = act_as_owner(&place.database)?;
    if progress::is_run_by_server() {
        // Requests to the server take precedence.
        let _ = rustix::process::nice(10);
    }
    let read_options = ReadOptions { format: args.format, mappings: args.map, zone, caller: identity };
    let mut batch_sink = BatchSink {
        options: store_options(&place),
        is_dry_run: args.dry_run,
        importer: None,
        rejects: rejects.map(|rejects| rejects.owned_by_caller(identity)),
        rejected: 0,
        out_of_range: 0,
        unsupported: 0,
        report: args.json.then(ImportReport::default),
        hides_rows: args.hide_rows,
        bar: progress_bar(&input, args.quiet || args.json),
        progress: input.progress(),
        began: Instant::now(),
        progress_reported: None,
    };
    let (batches, receiver) = sync_channel(QUEUED_BATCHES);
    let reader = std::thread::Builder::new()
        .name("reader".into())
        .spawn(move || read_batches(input, &read_options, limits.as_ref(), &batches))
        .map_err(|e| read_failure(e.into()))?;
    // A failure returns without joining the reader, which may be waiting for a slow stream.
    batch_sink.store_all(&receiver)?;
    let panicked = |_| Err(ReadError::unusable("the reader failed, please report a bug"));
    let read = reader.join().unwrap_or_else(panicked);
    batch_sink.finish(&name, args.quiet, read.map_err(read_failure))
}

/// Returns the zone of times without one: the given one, or the server's. If all times of the file lack a zone, the command
/// prompts for it on a terminal, and assumes UTC elsewhere, as most exports have it.
fn source_zone(args: &ImportArgs, input: &Input, server: &Zone) -> Result<Zone, Failure> {
    if let Some(zone) = &args.source_zone {
        return Ok(zone.clone());
    }
    if !input.lacks_zone(args.format) {
        return Ok(server.clone());
    }
    let utc = Zone::utc();
    if io::stdin().is_terminal() && io::stderr().is_terminal() && args.file != Path::new("-") {
        loop {
            let answer = ask("Time zone of the times in this export, such as Europe/Berlin [UTC]: ")?;
            match answer.trim() {
                "" => return Ok(utc),
                answer => match Zone::named(answer) {
                    Ok(zone) => return Ok(zone),
                    Err(reason) => eprintln!("{reason}"),
                },
            }
        }
    }
    if !args.quiet && !progress::is_run_by_server() {
        eprintln!(
            "the times of this export have no time zone and are read as UTC; use --source-zone for another one"
        );
    }
    Ok(utc)
}

fn progress_bar(input: &Input, is_quiet: bool) -> ProgressBar {
    let total = input.progress().total;
    let template = match (input.counts_rows(), total) {
        (true, None) => "{spinner} {pos} rows read, {msg}",
        (true, Some(_)) => "{wide_bar} {pos} of {len} rows, {msg}, {eta} left",
        (false, None) => "{spinner} {bytes} read, {msg}",
        (false, Some(_)) => "{wide_bar} {bytes} of {total_bytes}, {msg}, {eta} left",
    };
    progress::bar(total, template, is_quiet)
}

/// Reads the input and sends its rows in batches.
fn read_batches(
    input: Input,
    options: &ReadOptions,
    limits: Option<&EntryLimits>,
    batches: &SyncSender<Batch>,
) -> Result<(), ReadError> {
    let mut batch = Batch::default();
    let mut send = |row| {
        batch.add(row);
        if batch.rows < BATCH_ROWS && batch.bytes < BATCH_BYTES {
            return Ok(());
        }
        batches.send(std::mem::take(&mut batch)).map_err(|_| SinkClosed)
    };
    let read = input.read(options, &mut Sink::new(limits, &mut send));
    // When the receiver is gone, it has reported why.
    drop(batches.send(batch));
    read
}

/// Rows that are sent to the storing thread together.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    /// The same for all entries of a file.
    provenance: Provenance,
    rejections: Vec<Rejection>,
    unsupported: u64,
    rows: usize,
    /// Length of all text.
    bytes: usize,
}

impl Batch {
    fn add(&mut self, row: ReadRow) {
        self.rows += 1;
        match row {
            ReadRow::Entry(entry) => self.add_entry(entry),
            ReadRow::Sample(entry) => {
                self.provenance = Provenance::Samples;
                self.add_entry(entry);
            }
            ReadRow::Rejected(rejection) => {
                self.bytes += rejection.reason.len() + rejection.content.len();
                self.rejections.push(rejection);
            }
            ReadRow::Unsupported => self.unsupported += 1,
        }
    }

    fn add_entry(&mut self, entry: Entry) {
        let texts = [&entry.label, &entry.notes, &entry.source];
        self.bytes += texts.into_iter().flatten().map(String::len).sum::<usize>();
        if self.entries.is_empty() {
            self.entries.reserve_exact(BATCH_ROWS);
        }
        self.entries.push(entry);
    }
}

/// Receiver of batches: stores entries and reports rejections.
struct BatchSink {
    options: Options,
    is_dry_run: bool,
    /// Opened with the first entry: a file without entries creates no database.
    importer: Option<Importer>,
    rejects: Option<RejectsFile>,
    rejected: u64,
    /// The rejected rows that could be stored, but are outside the limits for new entries.
    out_of_range: u64,
    unsupported: u64,
    /// Result for `--json`.
    report: Option<ImportReport>,
    /// The content of rejected rows is not printed.
    hides_rows: bool,
    bar: ProgressBar,
    progress: ReadProgress,
    began: Instant,
    progress_reported: Option<Instant>,
}

impl BatchSink {
    fn store_all(&mut self, receiver: &Receiver<Batch>) -> Result<(), Failure> {
        while let Ok(first) = receiver.recv() {
            let mut bytes = first.bytes;
            let mut provenance = first.provenance;
            let mut entries = self.report(first)?;
            while entries.len() < BATCH_ROWS * QUEUED_BATCHES
                && bytes < BATCH_BYTES * QUEUED_BATCHES
                && let Ok(batch) = receiver.try_recv()
            {
                bytes += batch.bytes;
                // The batch before may have no entries.
                if !batch.entries.is_empty() {
                    provenance = batch.provenance;
                }
                entries.append(&mut self.report(batch)?);
            }
            if !entries.is_empty() {
                self.store(entries, provenance)?;
            }
            self.show_progress();
        }
        Ok(())
    }

    fn show_progress(&mut self) {
        self.bar.set_position(self.progress.done());
        self.bar.set_message(format!("{:.0} rows/s", self.rows_per_second()));
        let is_due = self.progress_reported.is_none_or(|reported| reported.elapsed() >= PROGRESS_INTERVAL);
        if is_due && progress::is_run_by_server() {
            self.progress_reported = Some(Instant::now());
            progress::report_import(self.progress.done(), self.progress.total.unwrap_or(0));
        }
    }

    fn store(&mut self, entries: Vec<Entry>, provenance: Provenance) -> Result<(), Failure> {
        let importer = match &mut self.importer {
            Some(importer) => importer,
            none => none.insert(Importer::open(&self.options, self.is_dry_run)?),
        };
        Ok(importer.add(entries, provenance).map_err(ImportError::from)?)
    }

    /// Counts the rows of a batch and prints its rejections. Returns its entries.
    fn report(&mut self, batch: Batch) -> Result<Vec<Entry>, Failure> {
        self.unsupported += batch.unsupported;
        if let Some(report) = &mut self.report {
            batch.entries.iter().for_each(|entry| report.add_entry(entry));
            batch.rejections.iter().for_each(|rejection| report.add_rejection(rejection));
        }
        for rejection in &batch.rejections {
            self.rejected += 1;
            self.out_of_range += u64::from(rejection.is_out_of_range);
            if self.rejected <= MAX_PRINTED && self.report.is_none() {
                let Rejection { position, reason, content, .. } = rejection;
                let content = one_line(content, MAX_PRINTED_CONTENT);
                self.bar.suspend(|| match self.hides_rows {
                    true => eprintln!("{position}: {}", without_value(reason)),
                    false => eprintln!("{position}: {reason}: {content}"),
                });
            }
            if let Some(rejects) = &mut self.rejects {
                rejects.add(rejection)?;
            }
        }
        Ok(batch.entries)
    }

    fn counts(&self) -> ImportCounts {
        self.importer.as_ref().map(Importer::counts).unwrap_or_default()
    }

    fn rows_per_second(&self) -> f64 {
        let rows = self.counts().entries() + self.rejected + self.unsupported;
        rows as f64 / self.began.elapsed().as_secs_f64().max(1e-3)
    }

    /// Syncs the database and prints the result. `read` is the result of reading the file.
    fn finish(mut self, name: &str, is_quiet: bool, read: Result<(), Failure>) -> Result<(), Failure> {
        let counts = match self.importer.take() {
            Some(importer) => importer.finish().map_err(ImportError::from)?,
            None => ImportCounts::default(),
        };
        self.bar.finish_and_clear();
        if self.report.is_none() {
            self.print_hints();
        }
        if let Some(rejects) = self.rejects.take() {
            rejects.finish()?;
        }
        if let Some(report) = &self.report {
            // An object is a complete result.
            read?;
            let Self { rejected, out_of_range, unsupported, .. } = self;
            let skipped = SkippedRows { rejected, out_of_range, unsupported };
            print(&report.to_json(&counts, skipped, self.is_dry_run).to_string())?;
        } else {
            if !is_quiet {
                self.print_summary(name, &counts, read.is_ok())?;
            }
            read?;
        }
        if counts.entries() == 0 && self.rejected > 0 {
            return Err(Failure::Failed(format!("{name}: every row was rejected")));
        }
        Ok(())
    }

    /// Prints how to see and to import the rejected rows.
    fn print_hints(&self) {
        if self.rejected > MAX_PRINTED {
            let hint = if self.rejects.is_none() { " (--rejects FILE writes all of them)" } else { "" };
            eprintln!("and {}{hint}", counted(self.rejected - MAX_PRINTED, "more rejected row"));
        }
        if self.out_of_range > 0 {
            let verb = if self.out_of_range == 1 { "is" } else { "are" };
            eprintln!(
                "{} {verb} outside the limits for new entries; use --accept-out-of-range to import them",
                counted(self.out_of_range, "rejected row")
            );
        }
    }

    fn print_summary(&self, name: &str, counts: &ImportCounts, is_complete: bool) -> Result<(), Failure> {
        let rows = counts.entries() + self.rejected + self.unsupported;
        if rows == 0 {
            return if is_complete { print(&format!("{name}: no rows found")) } else { Ok(()) };
        }
        let seconds = self.began.elapsed().as_secs_f64();
        let ignored = match self.unsupported {
            0 => String::new(),
            n => format!(", {} of an unsupported type ignored", counted(n, "record")),
        };
        let updated = match counts.updated {
            0 => String::new(),
            n if self.is_dry_run => format!(", {} would be updated", counted(n, "reading")),
            n => format!(", {} updated", counted(n, "reading")),
        };
        print(&format!(
            "{name}: {} and {} {}{updated}, {} skipped, {} rejected{ignored} ({seconds:.1} s, {:.0} rows/s)",
            counted(counts.coffees_added, "coffee"),
            counted(counts.readings_added, "reading"),
            if self.is_dry_run { "would be added" } else { "added" },
            counted(counts.duplicates, "duplicate"),
            counted(self.rejected, "row"),
            rows as f64 / seconds.max(1e-3)
        ))
    }
}
