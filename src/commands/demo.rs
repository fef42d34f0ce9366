//! `demo`: fills an empty database with sample data, for a first look, screenshots and benchmarks. The same seed gives
//! the same data.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use clap::Args;

use crate::commands::{Failure, counted, print, progress};
use crate::config::CommonArgs;
use crate::db::store::Options;
use crate::domain::time::Timestamp;
use crate::fs::privileges::Identity;
use crate::simulator::{DEFAULT_BPM_PER_100_MG, Habits, SimulatedDay, SimulatedPerson};
use crate::transfer::bulk_load::{BulkLoadError, BulkLoader};

/// Arguments of `demo`.
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
    common: CommonArgs,
}

fn coffees(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| (0.0..=50.0).contains(n));
    number.ok_or_else(|| "must be a number from 0 to 50".to_owned())
}

fn effect(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|n: &f64| (0.0..=20.0).contains(n));
    number.ok_or_else(|| "must be a number from 0 to 20".to_owned())
}

impl From<BulkLoadError> for Failure {
    fn from(error: BulkLoadError) -> Self {
        match error {
            BulkLoadError::Open(e) => e.into(),
            BulkLoadError::NotEmpty { .. } | BulkLoadError::Store(_) => Self::Failed(error.to_string()),
        }
    }
}

/// Fills the database.
///
/// # Errors
/// The database is not empty, in use, or cannot be written.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let place = args.common.validate()?;
    Identity::of_owner(&place.database).context("the rights of the database's owner")?;
    let mut loader = BulkLoader::open(&Options {
        path: place.database.clone(),
        backups: place.backups,
        quick_readers: 1,
        slow_readers: 1,
        slow_query: Duration::from_secs(60),
    })?;
    let began = Instant::now();
    let bar = progress::bar(u64::from(args.days), "{wide_bar} day {pos} of {len}, {eta} left", false);
    let habits = Habits {
        coffees_per_day: args.coffees_per_day,
        readings_per_day: args.readings_per_day,
        bpm_per_100_mg: args.bpm_per_100_mg,
    };
    let now = Timestamp::from(SystemTime::now());
    let mut person = SimulatedPerson::new(args.seed, habits, place.zone.clone());
    let (mut day, mut coffees, mut readings) = (SimulatedDay::default(), 0_u64, 0_u64);
    let mut date = place.zone.date(now).minus_days(args.days - 1);
    for _ in 0..args.days {
        person.simulate_day(date, &mut day);
        for coffee in day.coffees.iter().filter(|coffee| coffee.timestamp <= now) {
            loader.add_coffee(coffee.timestamp, coffee.caffeine_mg, coffee.coffee_type, coffee.notes)?;
            coffees += 1;
        }
        for reading in day.readings.iter().filter(|reading| reading.timestamp <= now) {
            loader.add_reading(reading.timestamp, reading.bpm, Some(reading.context))?;
            readings += 1;
        }
        if bar.position() % 30 == 29 {
            loader.commit()?;
        }
        bar.inc(1);
        date = date.next();
    }
    loader.finish()?;
    bar.finish_and_clear();
    print(&format!(
        "added {} and {} over {} to {} ({:.1} s)",
        counted(coffees, "coffee"),
        counted(readings, "reading"),
        counted(args.days.into(), "day"),
        place.database.display(),
        began.elapsed().as_secs_f64()
    ))
}
