//! `demo`: fills an empty database with sample data, for a first look, screenshots and benchmarks. The same seed gives
//! the same data.

use std::time::{Instant, SystemTime};

use clap::Args;

use crate::backup::open::open_store;
use crate::commands::{Failure, act_as_owner, counted, print, progress, store_options};
use crate::config::PersonArgs;
use crate::db::lock_file::ServerLock;
use crate::domain::entry::{Amount, Entry};
use crate::domain::time::Timestamp;
use crate::simulator::{DEFAULT_BPM_PER_100_MG, Habits, SimulatedDay, SimulatedPerson};
use crate::transfer::dedup::Provenance;
use crate::transfer::import::Importer;

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Number of days, up to today
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Average number of coffees per day
    #[arg(long, default_value_t = 4.0, value_parser = coffees)]
    coffees_per_day: f64,

    /// Number of heart-rate readings per day
    #[arg(long, default_value_t = 1440, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    readings_per_day: u32,

    /// Effect of 100 mg of caffeine on the heart rate, in beats per minute
    #[arg(long, default_value_t = DEFAULT_BPM_PER_100_MG, value_parser = effect)]
    bpm_per_100_mg: f64,

    /// Seed of the random numbers; the same seed gives the same data
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    common: PersonArgs,
}

fn coffees(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| (0.0..=50.0).contains(n));
    number.ok_or_else(|| "must be a number from 0 to 50".to_owned())
}

fn effect(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| (0.0..=20.0).contains(n));
    number.ok_or_else(|| "must be a number from 0 to 20".to_owned())
}

/// Number of entries that are stored at once.
const BATCH: usize = 10_000;

pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let place = args.common.validate()?;
    act_as_owner(&place.database)?;
    let options = store_options(&place);
    open_store(&options)?.close();
    // Keeps servers from starting.
    let _lock = ServerLock::acquire(&place.database)?;
    let mut importer = Importer::open(&options, false)?;
    let (coffees, readings) = importer.count_stored()?;
    if coffees > 0 || readings > 0 {
        return Err(Failure::Failed(format!(
            "the database is not empty (coffees: {coffees}, readings: {readings}): remove the file if it is a demo, \
             or use another one"
        )));
    }
    let began = Instant::now();
    let bar = progress::bar(u64::from(args.days), "{wide_bar} day {pos} of {len}, {eta} left", false);
    let habits = Habits {
        coffees_per_day: args.coffees_per_day,
        readings_per_day: args.readings_per_day,
        bpm_per_100_mg: args.bpm_per_100_mg,
    };
    let now = Timestamp::from(SystemTime::now());
    let mut person = SimulatedPerson::new(args.seed, habits, place.zone.clone());
    let (mut day, mut entries) = (SimulatedDay::default(), Vec::new());
    let mut date = place.zone.date(now).minus_days(args.days - 1);
    for _ in 0..args.days {
        person.simulate_day(date, &mut day);
        entries.extend(entries_of(&day).filter(|entry| entry.timestamp <= now));
        if entries.len() >= BATCH {
            importer.add(std::mem::take(&mut entries), Provenance::Rows)?;
        }
        bar.inc(1);
        date = date.next();
    }
    importer.add(entries, Provenance::Rows)?;
    let added = importer.finish()?;
    bar.finish_and_clear();
    print(&format!(
        "added {} and {} over {} to {} ({:.1} s)",
        counted(added.coffees_added, "coffee"),
        counted(added.readings_added, "reading"),
        counted(args.days.into(), "day"),
        place.database.display(),
        began.elapsed().as_secs_f64()
    ))
}

fn entries_of(day: &SimulatedDay) -> impl Iterator<Item = Entry> {
    let coffees = day.coffees.iter().map(|coffee| Entry {
        id: None,
        timestamp: coffee.timestamp,
        amount: Amount::Caffeine(coffee.caffeine_mg),
        label: coffee.coffee_type.map(str::to_owned),
        notes: coffee.notes.map(str::to_owned),
        source: None,
    });
    let readings = day.readings.iter().map(|reading| Entry {
        id: None,
        timestamp: reading.timestamp,
        amount: Amount::HeartRate(reading.bpm),
        label: Some(reading.context.to_owned()),
        notes: None,
        source: None,
    });
    coffees.chain(readings)
}
