//! Cost of the rollups for writes: single writes are compared with the same program on a database without
//! the triggers, and imports, which build the rollups themselves, with plain inserts without rollups.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use coffee_tracker::domain::time::{MINUTE, Timestamp};
use rusqlite::{Connection, params};

use crate::goals::Measure;
use crate::http::{Client, post};
use crate::numbers::{median, thousands};
use crate::report::Report;
use crate::scale::now;
use crate::server::{KEY, Limits, Server, Setup};

/// Alternating rounds with and without rollups.
const ROUNDS: usize = 11;
/// Writes per round.
const WRITES: usize = 200;
/// Readings per import: about two years of a watch.
const IMPORTED: i64 = 1_000_000;
/// Alternating imports and insert loops.
const IMPORTS: usize = 3;

/// Measures single writes and imports.
pub fn rollups(setup: &Setup, report: &mut Report) -> Result<()> {
    if setup.length.is_quick() {
        for measure in [Measure::SingleWrite, Measure::BulkImport] {
            report.skip(measure, "skipped by --quick");
        }
        return Ok(());
    }
    eprintln!("  single writes, with and without rollups");
    let with = setup.copy_of_ten_years("with_rollups.db")?;
    let without = setup.copy(&with, "without_rollups.db")?;
    drop_triggers(&without)?;
    single_writes(setup, report, &with, &without)?;
    setup.remove(&with)?;
    setup.remove(&without)?;
    eprintln!("  imports of {} readings, and insert loops", thousands(IMPORTED as f64));
    imports(setup, report)
}

fn drop_triggers(database: &Path) -> Result<()> {
    let connection = Connection::open(database)?;
    let mut query = connection.prepare("select name from sqlite_schema where type = 'trigger'")?;
    let names: Vec<String> = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    ensure!(names.len() == 6, "unexpected triggers: {names:?}");
    drop(query);
    for name in names {
        connection.execute_batch(&format!("drop trigger {name}"))?;
    }
    Ok(())
}

fn single_writes(setup: &Setup, report: &mut Report, with: &Path, without: &Path) -> Result<()> {
    let servers = [Server::start(setup, with, Limits::Off)?, Server::start(setup, without, Limits::Off)?];
    let request = post("/heartrate/", KEY, r#"{"bpm":72,"context":"resting"}"#);
    let mut clients =
        servers.iter().map(|server| Client::connect(server.address)).collect::<Result<Vec<_>>>()?;
    let mut medians = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (client, medians) in clients.iter_mut().zip(&mut medians) {
            let mut times = Vec::new();
            for _ in 0..WRITES {
                times.extend(client.send(&request)?.process_time.map(|time| time.as_secs_f64() * 1e3));
            }
            medians.push(median(times));
        }
    }
    let [with, without] = &medians;
    let ratios: Vec<f64> = with.iter().zip(without).map(|(with, without)| with / without).collect();
    let detail = format!(
        "{:.2} to {:.2}; {:.3} ms against {:.3} ms",
        ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratios.iter().copied().fold(0.0, f64::max),
        median(with.clone()),
        median(without.clone())
    );
    report.record(Measure::SingleWrite, median(ratios), detail);
    drop(clients);
    servers.into_iter().try_for_each(Server::stop)
}

fn imports(setup: &Setup, report: &mut Report) -> Result<()> {
    let file = setup.path("readings.csv");
    let first = now()?.minus(IMPORTED * MINUTE);
    write_csv(&file, first)?;
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..IMPORTS {
        let plain = setup.path("plain.db");
        let plain_seconds = insert_plainly(&plain, first)?;
        setup.remove(&plain)?;
        let imported = setup.path("imported.db");
        let began = Instant::now();
        let output = setup.command("import", &imported).arg(&file).output()?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(output.status.success(), "the import failed: {}", String::from_utf8_lossy(&output.stderr));
        setup.remove(&imported)?;
        ratios.push(seconds / plain_seconds);
        rates.push((IMPORTED as f64 / seconds, IMPORTED as f64 / plain_seconds));
    }
    let detail = format!(
        "{}/s, with parsing and deduplication, against {}/s",
        thousands(median(rates.iter().map(|(imported, _)| *imported).collect())),
        thousands(median(rates.iter().map(|(_, plain)| *plain).collect()))
    );
    report.record(Measure::BulkImport, median(ratios), detail);
    Ok(())
}

/// Readings of both, one per minute: time, bpm and context.
fn readings(first: Timestamp) -> impl Iterator<Item = (Timestamp, i64, &'static str)> {
    (0..IMPORTED).map(move |n| {
        let context = if n % 1440 < 420 { "sleeping" } else { "resting" };
        (first.plus(n * MINUTE), 50 + (n * 7 + n / 40) % 70, context)
    })
}

fn write_csv(path: &Path, first: Timestamp) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "timestamp,bpm,context")?;
    for (at, bpm, context) in readings(first) {
        writeln!(file, "{at},{bpm},{context}")?;
    }
    Ok(file.flush()?)
}

/// Inserts the readings into the same table and indexes without rollups, and returns the seconds.
fn insert_plainly(path: &Path, first: Timestamp) -> Result<f64> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = normal; pragma cache_size = -16384",
    )?;
    connection.execute_batch(include_str!("../../sql/0001_initial.sql"))?;
    let began = Instant::now();
    let mut insert = connection.prepare(
        "insert into heart_rate_logs (timestamp, bpm, context, notes, source) values (?, ?, ?, null, null)",
    )?;
    connection.execute_batch("begin")?;
    for (number, (at, bpm, context)) in readings(first).enumerate() {
        insert.execute(params![at.micros(), bpm, context])?;
        if number % 50_000 == 49_999 {
            connection.execute_batch("commit; begin")?;
        }
    }
    connection.execute_batch("commit; pragma wal_checkpoint(truncate)")?;
    Ok(began.elapsed().as_secs_f64())
}
