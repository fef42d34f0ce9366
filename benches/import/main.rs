//! Benchmark of the import: an Apple Health export with three million heart rates is imported into the
//! database of a running server, and a Fitbit export without one. Both are compared with plain inserts into the same tables.
//!
//! The exit code is 1 when a target is missed.

#[path = "../../tests/cli/apple_export.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod apple_export;
mod fitbit_export;
#[path = "../server/histogram.rs"]
#[allow(dead_code, reason = "shared with the server's benchmark")]
mod histogram;
#[path = "../server/http.rs"]
#[allow(dead_code, reason = "shared with the server's benchmark")]
mod http;
#[path = "../server/process.rs"]
#[allow(dead_code, reason = "shared with the server's benchmark")]
mod process;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use apple_export::AppleExport;
use clap::Parser;
use histogram::Histogram;
use process::Process;
use rusqlite::{Connection, params};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const KEY: &str = "benchmark-key-0123456789";
/// Minimum rows per second, unless [`MIN_SHARE_OF_PLAIN_INSERTS`] is reached.
const MIN_ROWS_PER_SECOND: f64 = 150_000.0;
/// Minimum share of the rate of plain inserts.
const MIN_SHARE_OF_PLAIN_INSERTS: f64 = 0.5;
/// Maximum memory of the import.
const MAX_PEAK_BYTES: u64 = 64 * 1024 * 1024;
/// Maximum 99th percentile of requests during the import.
const MAX_P99: Duration = Duration::from_millis(100);

/// Measure the imports of an Apple Health export and of a Fitbit export
#[derive(Parser)]
#[command(name = "cargo bench --bench import --", disable_version_flag = true)]
struct Options {
    /// Number of heart rates of the Apple Health export; 0 leaves it out
    #[arg(long, default_value_t = 3_000_000)]
    records: u64,
    /// Number of heart rates of the Fitbit export; without a number 20 million, 0 leaves it out
    #[arg(long, value_name = "SAMPLES", num_args = 0..=1, default_value_t = 1_000_000, default_missing_value = "20000000")]
    fitbit: u64,
    /// Measure another build
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_coffee-tracker"), hide_default_value = true)]
    binary: PathBuf,
    /// Set by `cargo bench`; without it, as under `cargo test`, nothing runs
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        println!("Nothing was measured: run `cargo bench --bench import`.");
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the benchmarks and returns whether all targets were met.
fn measure(options: &Options) -> Result<bool> {
    let is_met = options.records == 0 || measure_apple_health(options)?;
    Ok((options.fitbit == 0 || measure_fitbit(options)?) && is_met)
}

fn temporary_folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

/// Imports a Fitbit export twice without a server.
fn measure_fitbit(options: &Options) -> Result<bool> {
    let folder = temporary_folder()?;
    let folder = folder.path();
    let samples = options.fitbit;
    let (json, packed) = fitbit_export::write(&folder.join("takeout.zip"), samples)?;
    println!("Fitbit export: {samples} samples, {:.0} MB of JSON, {:.0} MB zipped", mb(json), mb(packed));
    let plain = plain_inserts(&folder.join("plain.db"), samples)?;
    println!("plain inserts into the same tables: {plain:.0} rows/s");
    let first = import(&options.binary, folder, "takeout.zip", "fitbit.db")?;
    let rate = first.rate(samples);
    println!("import: {rate:.0} rows/s, peak memory {:.1} MB, {}", mb(first.peak), first.output);
    let second = import(&options.binary, folder, "takeout.zip", "fitbit.db")?;
    println!("second import: peak memory {:.1} MB, {}", mb(second.peak), second.output);
    println!("share of plain inserts: {:.2}", rate / plain);
    let is_deduplicated = second.output.contains(": 0 coffees and 0 readings added");
    let is_fast = rate >= MIN_ROWS_PER_SECOND || rate >= MIN_SHARE_OF_PLAIN_INSERTS * plain;
    let is_small = first.peak.max(second.peak) < MAX_PEAK_BYTES;
    println!("targets met: speed {is_fast}, memory {is_small}, no duplicates {is_deduplicated}");
    Ok(is_fast && is_small && is_deduplicated)
}

/// Imports an Apple Health export without a server, and twice while a server handles requests.
fn measure_apple_health(options: &Options) -> Result<bool> {
    let folder = temporary_folder()?;
    let folder = folder.path();
    let (xml, packed) = make_export(&folder.join("export.zip"), options.records)?;
    println!("export: {} records, {:.0} MB of XML, {:.0} MB zipped", options.records, mb(xml), mb(packed));
    let plain = plain_inserts(&folder.join("plain.db"), options.records)?;
    println!("plain inserts into the same tables: {plain:.0} rows/s");

    let alone = import(&options.binary, folder, "export.zip", "alone.db")?;
    println!("import without a server: {:.0} rows/s, {}", alone.rate(options.records), alone.output);

    let mut command = program(&options.binary, folder);
    command.args(["serve", "--port", "0", "--database-url", "served.db"]);
    command.envs([("API_KEY", KEY), ("RATE_LIMIT_ENABLED", "false")]).stderr(Stdio::null());
    let (server, address) = Process::listening(&mut command)?;
    let before = request_while(address, || {
        thread::sleep(Duration::from_secs(5));
        Ok(())
    })?;
    println!("requests before the import: {}", describe(&before.1));
    let (first, during_first) =
        request_while(address, || import(&options.binary, folder, "export.zip", "served.db"))?;
    let (second, during_second) =
        request_while(address, || import(&options.binary, folder, "export.zip", "served.db"))?;
    ensure!(server.terminate()?.success(), "the server did not exit with code 0");
    let rate = first.rate(options.records);
    println!("import while a server handles requests: {rate:.0} rows/s, {}", first.output);
    println!("  requests meanwhile: {}", describe(&during_first));
    println!("  peak memory: {:.1} MB", mb(first.peak));
    println!("second import: {:.0} rows/s, {}", second.rate(options.records), second.output);
    println!("  requests meanwhile: {}", describe(&during_second));
    println!("share of plain inserts: {:.2}", rate / plain);
    let is_deduplicated = second.output.contains(": 0 coffees and 0 readings added");
    let is_fast = rate >= MIN_ROWS_PER_SECOND || rate >= MIN_SHARE_OF_PLAIN_INSERTS * plain;
    let is_small = first.peak.max(second.peak) < MAX_PEAK_BYTES;
    let is_responsive = during_first.percentile(99).max(during_second.percentile(99)) < MAX_P99;
    println!(
        "targets met: speed {is_fast}, memory {is_small}, p99 {is_responsive}, no duplicates {is_deduplicated}"
    );
    Ok(is_fast && is_small && is_responsive && is_deduplicated)
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn describe(times: &Histogram) -> String {
    format!(
        "{} requests, p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        times.total(),
        times.percentile(50),
        times.percentile(99),
        times.longest()
    )
}

/// Writes the export and returns its uncompressed and compressed size in bytes.
fn make_export(path: &Path, records: u64) -> Result<(u64, u64)> {
    struct Counter<W> {
        inner: W,
        count: u64,
    }
    impl<W: Write> Write for Counter<W> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let count = self.inner.write(bytes)?;
            self.count += count as u64;
            Ok(count)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            self.inner.flush()
        }
    }
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path)?));
    let fast = SimpleFileOptions::default().compression_level(Some(1)).large_file(true);
    archive.start_file("apple_health_export/export.xml", fast)?;
    let counter = Counter { inner: &mut archive, count: 0 };
    let mut export = AppleExport::new(BufWriter::new(counter), "en_US")?;
    export.heart_rates(records)?;
    let counter = export.finish()?.into_inner().map_err(|e| e.into_error())?;
    let size = counter.count;
    archive.finish()?.flush()?;
    Ok((size, fs::metadata(path)?.len()))
}

/// Inserts the same number of rows without an import and returns the rows per second.
fn plain_inserts(path: &Path, records: u64) -> Result<f64> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = normal; pragma cache_size = -16384",
    )?;
    connection.execute_batch(include_str!("../../sql/0001_initial.sql"))?;
    let began = Instant::now();
    let mut insert = connection.prepare(
        "insert into heart_rate_logs (timestamp, bpm, context, notes, source) values (?, ?, ?, null, ?)",
    )?;
    connection.execute_batch("begin")?;
    for n in 0..i64::try_from(records)? {
        let context = match n % 10 {
            0..7 => Some("resting"),
            7 | 8 => Some("active"),
            _ => None,
        };
        let at = (apple_export::BEGIN + 5 * n) * 1_000_000;
        insert.execute(params![at, 50 + (n * 7 + n / 40) % 70, context, "Ada’s Apple\u{a0}Watch"])?;
        if n % 50_000 == 49_999 {
            connection.execute_batch("commit; begin")?;
        }
    }
    connection.execute_batch("commit; pragma wal_checkpoint(truncate)")?;
    Ok(records as f64 / began.elapsed().as_secs_f64())
}

/// Result of an import.
struct Import {
    duration: Duration,
    /// Peak resident memory in bytes.
    peak: u64,
    /// Standard output.
    output: String,
}

impl Import {
    /// Returns the records per second.
    fn rate(&self, records: u64) -> f64 {
        records as f64 / self.duration.as_secs_f64()
    }
}

fn program(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().env("TZ", "Europe/Berlin").current_dir(folder).stdin(Stdio::null());
    command
}

/// Imports the export and samples the peak memory of the process.
fn import(binary: &Path, folder: &Path, file: &str, database: &str) -> Result<Import> {
    let mut command = program(binary, folder);
    command.args(["import", file, "--source-zone", "UTC", "--database-url", database]).stdout(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait()?.is_none() {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak = peak.max(kib.unwrap_or(0_u64) * 1024);
        thread::sleep(Duration::from_millis(20));
    }
    let duration = began.elapsed();
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the import failed: {}", output.status);
    Ok(Import { duration, peak, output: String::from_utf8_lossy(&output.stdout).trim().to_owned() })
}

/// Sends requests to the server while `work` runs, and returns their times.
fn request_while<T>(address: SocketAddr, work: impl FnOnce() -> Result<T>) -> Result<(T, Histogram)> {
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| send_requests(address, &has_ended));
        let result = work();
        has_ended.store(true, Ordering::Relaxed);
        let times = client.join().ok().context("the client panicked")??;
        Ok((result?, times))
    })
}

/// Sends two writes and two reads in turn, with pauses, until the flag is set.
fn send_requests(address: SocketAddr, has_ended: &AtomicBool) -> Result<Histogram> {
    let requests = [
        http::post("/coffee/", KEY, r#"{"caffeine_mg": 95, "coffee_type": "espresso"}"#),
        http::get("/coffee/today", KEY),
        http::post("/heartrate/", KEY, r#"{"bpm": 72, "context": "resting"}"#),
        http::get("/heartrate/current", KEY),
    ];
    let mut times = Histogram::new();
    for request in requests.iter().cycle() {
        if has_ended.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        http::send_ok(address, request)?;
        times.record(began.elapsed());
        thread::sleep(Duration::from_millis(5));
    }
    Ok(times)
}
