//! A thousand people on one server: requests by Zipf's law over all of them, the cost of open and closed databases,
//! SIGKILL under load, and backups and restores while others write.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coffee_tracker::auth::key::{KeyDigest, KeyName, NamedKey, Scope, Scopes};
use coffee_tracker::auth::key_file::KeyFile;
use rusqlite::{Connection, OpenFlags};

use crate::goals::Measure;
use crate::histogram::Histogram;
use crate::http::{self, Client};
use crate::numbers::{median, thousands};
use crate::rates::millis;
use crate::report::Report;
use crate::server::{Demo, KEY, Limits, Server, Setup};
use crate::zipf::{self, DatabaseState, READS, SentCoffee, Traffic, TrafficResult};

const PEOPLE: usize = 1000;
/// Maximum number of open databases besides the owner's.
const MAX_OPEN: usize = 64;
/// Person with 36,500 coffees at the beginning, as many as the owner has.
const LARGE: usize = 0;
/// Person whose database is restored while the others write.
const RESTORED: usize = 30;
/// About 36,500 coffees.
const DECADES: Demo = Demo { days: 9125, coffees_per_day: 4.0, readings_per_day: 24 };
/// Interval at which descriptors are counted.
const SAMPLE: Duration = Duration::from_millis(20);
/// Time after which an idle server has finished its work.
const SETTLE: Duration = Duration::from_secs(3);
/// Pause of each client beside backups and restores: about 400 requests per second in all.
const PACE: Duration = Duration::from_millis(20);

/// Measures a server with a thousand people.
pub fn people(setup: &Setup, report: &mut Report) -> Result<()> {
    let world = World::create(setup)?;
    let mut traffic = Traffic::new(PEOPLE, MAX_OPEN);
    let mut coffees = world.load(&traffic, report)?;
    world.memory_of_open(report)?;
    world.compare_with_alone(report)?;
    world.compare_with_baseline(report)?;
    coffees.extend(world.kills(&traffic, report)?);
    world.check_coffees(&coffees, report)?;
    traffic.pause = PACE;
    world.backups(&traffic, report)?;
    traffic.excluded = Some(RESTORED);
    world.restores(&traffic, report)?;
    fs::remove_dir_all(&world.folder)?;
    Ok(())
}

/// Folder with the databases of the owner and of a thousand people.
struct World<'a> {
    setup: &'a Setup,
    folder: PathBuf,
}

impl<'a> World<'a> {
    /// Creates the folders of the people with their key files. Most databases are created by the first request.
    fn create(setup: &'a Setup) -> Result<Self> {
        eprintln!("  {} folders", thousands(PEOPLE as f64));
        let world = Self { setup, folder: setup.path("people-stage") };
        let now = zipf::now()?;
        for person in 0..PEOPLE {
            let database = world.database(person);
            let folder = database.parent().context("a folder")?;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let name = KeyName::parse("first").map_err(anyhow::Error::msg)?;
            let scopes = Scopes::from(vec![Scope::Read, Scope::Write, Scope::Manage]);
            let digest = KeyDigest::of(&zipf::key(person));
            KeyFile::of(&database)
                .create(vec![NamedKey { name, scopes, created: now, expires: None, digest }], now)?;
        }
        let coffees = setup.copy_of_coffees("coffees-of-people.db")?;
        fs::copy(&coffees, world.owner())?;
        fs::copy(&coffees, world.database(LARGE))?;
        Ok(world)
    }

    fn owner(&self) -> PathBuf {
        self.folder.join("coffee.db")
    }

    fn database(&self, person: usize) -> PathBuf {
        self.folder.join("people").join(zipf::name(person)).join("coffee.db")
    }

    fn start(&self) -> Result<Server> {
        let mut command = self.setup.serve(&self.setup.binary, &self.owner(), Limits::Off)?;
        Server::spawn(command.env("MAX_OPEN_PEOPLE", MAX_OPEN.to_string()))
    }

    /// Measures the load over all people, and the first requests to closed databases on an otherwise idle server.
    fn load(&self, traffic: &Traffic, report: &mut Report) -> Result<Vec<SentCoffee>> {
        let time = Duration::from_secs(self.setup.length.pick(10, 30, 60));
        eprintln!("  {} s of requests to {} people", time.as_secs(), thousands(PEOPLE as f64));
        let server = self.start()?;
        let began = Instant::now();
        let (descriptors, result) = traffic.run(server.address, &AtomicBool::new(false), || {
            let mut most = 0;
            while began.elapsed() < time {
                most = most.max(server.descriptors()?);
                thread::sleep(SAMPLE);
            }
            Ok(most)
        })?;
        let rate = result.succeeded as f64 / began.elapsed().as_secs_f64();
        let detail = format!(
            "{} served, {}/s; start {}; {}",
            thousands(result.succeeded as f64),
            thousands(rate),
            millis(server.started_in),
            result.first_failure.as_deref().unwrap_or_default()
        );
        report.record(Measure::PeopleFailures, result.failed as f64, detail);
        report.record(Measure::PeopleMemory, server.peak_bytes()? as f64, "VmHWM".to_owned());
        report.record(Measure::PeopleDescriptors, descriptors as f64, format!("at most {MAX_OPEN} open"));
        report.note(states_note(&result));

        let mut times = Histogram::new();
        let mut client = Client::connect(server.address)?;
        // Each of them was closed by the requests to the others.
        for n in 0..self.setup.length.pick(200, 600, 600) {
            let person = PEOPLE / 2 + n % (PEOPLE / 4);
            let state = traffic.record_request(person);
            let path = READS.get(n % READS.len()).context("a path")?;
            let took = client.send(&http::get(path, &zipf::key(person)))?.round_trip;
            if state == DatabaseState::Closed {
                times.record(took);
            }
        }
        let loaded = result.times(DatabaseState::Closed);
        let detail = format!(
            "p99 {}, of {} with no other load; under load: median {}, p99 {}",
            millis(times.percentile(99)),
            thousands(times.total() as f64),
            millis(loaded.percentile(50)),
            millis(loaded.percentile(99))
        );
        report.record(Measure::PeopleClosed, times.percentile(50).as_secs_f64() * 1e3, detail);
        server.stop()?;
        Ok(result.coffees)
    }

    /// Measures the memory of each open database, idle after requests of every kind.
    fn memory_of_open(&self, report: &mut Report) -> Result<()> {
        eprintln!("  memory of open databases");
        let server = self.start()?;
        send_every_kind(&server, KEY)?;
        thread::sleep(SETTLE);
        let (alone, descriptors) = (server.resident_bytes()?, server.descriptors()?);
        for person in 1..=MAX_OPEN {
            send_every_kind(&server, &zipf::key(person))?;
        }
        thread::sleep(SETTLE);
        let with_others = server.resident_bytes()?;
        let each = (with_others as f64 - alone as f64) / MAX_OPEN as f64;
        let detail = format!(
            "VmRSS {:.1} MB with the owner alone, {:.1} MB with {MAX_OPEN} others; {} further descriptors each",
            alone as f64 / 1e6,
            with_others as f64 / 1e6,
            (server.descriptors()? - descriptors) / MAX_OPEN
        );
        report.record(Measure::OpenPersonMemory, each, detail);
        server.stop()
    }

    /// Compares requests to an open database, beside 63 others, with the same server and the same database alone.
    fn compare_with_alone(&self, report: &mut Report) -> Result<()> {
        eprintln!("  requests to an open database");
        let copy = self.setup.copy(&self.database(LARGE), "alone.db")?;
        let alone = Server::start(self.setup, &copy, Limits::Off)?;
        let server = self.start()?;
        for person in 1..MAX_OPEN {
            send_every_kind(&server, &zipf::key(person))?;
        }
        let comparison = self.compare((&server, &zipf::key(LARGE)), (&alone, KEY))?;
        report.record(Measure::OpenPersonTime, comparison.worst(), comparison.detail("owner alone"));
        server.stop()?;
        alone.stop()
    }

    /// Compares an owner alone with an earlier build.
    fn compare_with_baseline(&self, report: &mut Report) -> Result<()> {
        let Some(baseline) = &self.setup.baseline else {
            for measure in [Measure::OnePersonTime, Measure::OnePersonMemory] {
                report.skip(measure, "needs --baseline");
            }
            return Ok(());
        };
        eprintln!("  the owner alone, compared with {}", baseline.display());
        // By the earlier build, which cannot open a newer schema.
        let other = self.setup.make_demo_by(baseline, "other.db", DECADES)?;
        let one = self.setup.copy(&other, "one.db")?;
        // Migrates the copy, whose backup takes memory once.
        Server::start(self.setup, &one, Limits::Off)?.stop()?;
        let server = Server::start(self.setup, &one, Limits::Off)?;
        let earlier = Server::spawn(&mut self.setup.serve(baseline, &other, Limits::Off)?)?;
        let comparison = self.compare((&server, KEY), (&earlier, KEY))?;
        report.record(Measure::OnePersonTime, comparison.worst(), comparison.detail("baseline"));
        thread::sleep(SETTLE);
        let (memory, before) = (server.resident_bytes()? as f64, earlier.resident_bytes()? as f64);
        let detail = format!("VmRSS {:.1} MB, baseline {:.1} MB", memory / 1e6, before / 1e6);
        report.record(Measure::OnePersonMemory, memory / before, detail);
        server.stop()?;
        earlier.stop()
    }

    /// Sends the same requests to two servers in turn.
    fn compare(&self, one: (&Server, &str), other: (&Server, &str)) -> Result<Comparison> {
        let mut sides = [(one, Client::connect(one.0.address)?), (other, Client::connect(other.0.address)?)];
        let mut random = fastrand::Rng::with_seed(1);
        let mut comparison = Comparison::default();
        let now = zipf::now()?;
        for (name, times) in KINDS.iter().zip(&mut comparison.times) {
            for n in 0..self.setup.length.pick(1000, 2000, 4000) {
                let at = now.minus(random.i64(0..365 * coffee_tracker::domain::time::DAY));
                for side in 0..2 {
                    // Each is first in half of the rounds.
                    let side = (side + n) % 2;
                    let Some(((_, key), client)) = sides.get_mut(side) else { continue };
                    let request = request_of(name, key, &at.to_string());
                    let took = client.send(&request)?.round_trip;
                    if let Some(times) = times.get_mut(side) {
                        times.push(took.as_secs_f64() * 1e6);
                    }
                }
            }
        }
        Ok(comparison)
    }

    /// Kills the server under load several times, and returns the coffees that were sent.
    fn kills(&self, traffic: &Traffic, report: &mut Report) -> Result<Vec<SentCoffee>> {
        let rounds = self.setup.length.pick(2, 3, 5);
        let mut coffees = Vec::new();
        let mut failed = 0;
        for round in 0..rounds {
            eprintln!("  SIGKILL {} of {rounds}", round + 1);
            let server = self.start()?;
            let is_killed = AtomicBool::new(false);
            let ((), result) = traffic.run(server.address, &is_killed, || {
                thread::sleep(Duration::from_millis(2500 + 300 * round));
                is_killed.store(true, Ordering::Relaxed);
                server.kill();
                Ok(())
            })?;
            failed += result.failed;
            coffees.extend(result.coffees);
        }
        report.record(Measure::KillFailures, failed as f64, format!("{rounds} kills"));
        Ok(coffees)
    }

    /// Opens every database with a request, and compares it with the coffees that were sent.
    fn check_coffees(&self, coffees: &[SentCoffee], report: &mut Report) -> Result<()> {
        eprintln!("  comparison with all acknowledged coffees");
        let server = self.start()?;
        for person in 0..PEOPLE {
            http::send_ok(server.address, &http::get("/coffee/?limit=1", &zipf::key(person)))?;
        }
        server.stop()?;
        let mut stored = HashMap::new();
        for person in 0..PEOPLE {
            let database =
                Connection::open_with_flags(self.database(person), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let mut rows = database
                .prepare("select notes, count(*) from coffee_logs where notes like 'run %' group by notes")?;
            let rows =
                rows.query_map([], |row| Ok(((person, row.get::<_, String>(0)?), row.get::<_, u32>(1)?)))?;
            for row in rows {
                let (coffee, times) = row?;
                stored.insert(coffee, times);
            }
        }
        let (mut acknowledged, mut wrong) = (0_u64, 0_u64);
        for coffee in coffees {
            let times = stored.remove(&(coffee.person, coffee.notes.clone())).unwrap_or(0);
            acknowledged += u64::from(coffee.acknowledged);
            wrong += u64::from(times > 1 || (coffee.acknowledged && times == 0));
        }
        let unexpected = stored.len() as u64;
        let detail = format!(
            "{} acknowledged coffees, {unexpected} stored that nobody sent",
            thousands(acknowledged as f64)
        );
        report.record(Measure::KillLosses, (wrong + unexpected) as f64, detail);
        Ok(())
    }

    /// Measures requests while everyone is backed up, in turn with the same load alone.
    fn backups(&self, traffic: &Traffic, report: &mut Report) -> Result<()> {
        eprintln!("  backups of everyone");
        let folder = self.folder.join("backups-of-everyone");
        fs::create_dir(&folder)?;
        let rounds = self.setup.length.pick(1, 1, 3);
        let beside = self.beside(traffic, rounds, || {
            let output = self
                .setup
                .command("backup", &self.owner())
                .arg("--to")
                .arg(&folder)
                .args(["--keep", "2", "--quiet"])
                .output()?;
            ensure!(output.status.success(), "a backup failed: {}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        })?;
        report.record(Measure::EveryoneBackupFailures, beside.failed as f64, beside.first_failure.clone());
        report.record(Measure::EveryoneBackupTail, beside.ratio(), beside.detail("backup of everyone"));
        Ok(())
    }

    /// Measures requests to the others while one person is restored, in turn with the same load alone.
    fn restores(&self, traffic: &Traffic, report: &mut Report) -> Result<()> {
        eprintln!("  restores of one person");
        let name = zipf::name(RESTORED);
        let folder = self.folder.join("backups-of-everyone").join(&name);
        let backup = fs::read_dir(&folder)?.next().context("there is no backup")??.path();
        let rounds = self.setup.length.pick(1, 2, 5);
        let beside = self.beside(traffic, rounds, || {
            for _ in 0..10 {
                let output = self
                    .setup
                    .command("restore", &self.owner())
                    .arg(&backup)
                    .args(["--yes", "--person", &name])
                    .output()?;
                ensure!(
                    output.status.success(),
                    "a restore failed: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            Ok(())
        })?;
        report.record(Measure::OneRestoreFailures, beside.failed as f64, beside.first_failure.clone());
        report.record(Measure::OneRestoreTail, beside.ratio(), beside.detail("ten restores"));
        Ok(())
    }

    /// Measures the load beside `work`, and for as long without it.
    fn beside(
        &self,
        traffic: &Traffic,
        rounds: usize,
        mut work: impl FnMut() -> Result<()>,
    ) -> Result<Beside> {
        let server = self.start()?;
        let mut beside = Beside::default();
        let never = AtomicBool::new(false);
        // Opens the databases of those who send the most requests.
        traffic.run(server.address, &never, || {
            thread::sleep(SETTLE);
            Ok(())
        })?;
        for _ in 0..rounds {
            let (took, with) = traffic.run(server.address, &never, || {
                let began = Instant::now();
                work()?;
                Ok(began.elapsed())
            })?;
            let ((), without) = traffic.run(server.address, &never, || {
                thread::sleep(took);
                Ok(())
            })?;
            beside.failed += with.failed + without.failed;
            beside.first_failure.push_str(with.first_failure.as_deref().unwrap_or_default());
            beside.seconds.push(took.as_secs_f64());
            beside.with.add(&with.all_times());
            beside.without.add(&without.all_times());
            beside.with_open.add(&with.times(DatabaseState::Open));
            beside.without_open.add(&without.times(DatabaseState::Open));
        }
        server.stop()?;
        Ok(beside)
    }
}

/// Times of requests with and without work beside them.
struct Beside {
    with: Histogram,
    without: Histogram,
    with_open: Histogram,
    without_open: Histogram,
    seconds: Vec<f64>,
    failed: u64,
    first_failure: String,
}

impl Default for Beside {
    fn default() -> Self {
        let [with, without, with_open, without_open] = [(); 4].map(|()| Histogram::new());
        Self {
            with,
            without,
            with_open,
            without_open,
            seconds: Vec::new(),
            failed: 0,
            first_failure: String::new(),
        }
    }
}

impl Beside {
    fn ratio(&self) -> f64 {
        self.with.percentile(99).as_secs_f64() / self.without.percentile(99).as_secs_f64()
    }

    fn detail(&self, work: &str) -> String {
        let p99 = |times: &Histogram| millis(times.percentile(99));
        format!(
            "{} requests: p99 {} beside, {} without; open databases only: {} and {}; {work}: median {:.1} s",
            thousands(self.with.total() as f64),
            p99(&self.with),
            p99(&self.without),
            p99(&self.with_open),
            p99(&self.without_open),
            median(self.seconds.clone())
        )
    }
}

/// Kinds of requests: the reads and a write.
const KINDS: [&str; 3] = [READS[0], READS[1], "POST"];

fn request_of(kind: &str, key: &str, at: &str) -> Vec<u8> {
    match kind {
        "POST" => http::post("/coffee/", key, &format!(r#"{{"timestamp":"{at}","caffeine_mg":95}}"#)),
        path => http::get(path, key),
    }
}

fn send_every_kind(server: &Server, key: &str) -> Result<()> {
    for kind in KINDS {
        http::send_ok(server.address, &request_of(kind, key, "2026-01-01T08:00:00Z"))?;
    }
    Ok(())
}

/// Times of the same requests to two servers, in microseconds, by [`KINDS`].
#[derive(Default)]
struct Comparison {
    times: [[Vec<f64>; 2]; KINDS.len()],
}

impl Comparison {
    fn medians(&self) -> impl Iterator<Item = (&'static str, f64, f64)> {
        KINDS
            .into_iter()
            .zip(&self.times)
            .map(|(kind, [one, other])| (kind, median(one.clone()), median(other.clone())))
    }

    /// Returns the ratio of the kind that took the most time in comparison.
    fn worst(&self) -> f64 {
        self.medians().map(|(_, one, other)| one / other).fold(0.0, f64::max)
    }

    fn detail(&self, other_name: &str) -> String {
        let of_kind = |(kind, one, other): (&str, f64, f64)| format!("{kind} {one:.0} and {other:.0} µs");
        let all: Vec<_> = self.medians().map(of_kind).collect();
        format!("medians, {other_name} second: {}", all.join(", "))
    }
}

/// Returns a table of the times by the state of the database.
fn states_note(result: &TrafficResult) -> String {
    let mut note =
        format!("{:<28}{:>12}{:>12}{:>12}{:>12}", "1,000 people", "served", "p50", "p99", "longest");
    for (name, state) in [
        ("database created", DatabaseState::Missing),
        ("closed", DatabaseState::Closed),
        ("open", DatabaseState::Open),
        ("open or closed", DatabaseState::Unknown),
    ] {
        let times = result.times(state);
        note.push_str(&format!(
            "\n{name:<28}{:>12}{:>12}{:>12}{:>12}",
            thousands(times.total() as f64),
            millis(times.percentile(50)),
            millis(times.percentile(99)),
            millis(times.longest())
        ));
    }
    note
}
