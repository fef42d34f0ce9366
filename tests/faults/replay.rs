//! Simulated power cuts at random moments of a trace, and a check of every disk state that each may leave.
//!
//! `POWER_CUTS` sets the number of cuts in all tests together (150). `TEST_SEED` repeats the choices;
//! the traces still differ a little from run to run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use fastrand::Rng;
use tempfile::TempDir;

use crate::disk::{Disk, Keep, write};
use crate::helpers::{number_from_env, temporary_folder, test_seed};
use crate::trace::Trace;

/// Default of `POWER_CUTS`.
const CUTS: usize = 150;

/// A disk state that fails a check.
#[derive(Debug)]
pub struct Failure {
    /// Number of events before the cut.
    pub cut: usize,
    pub keep: Keep,
    pub reason: String,
    disk: TempDir,
}

impl Failure {
    /// Fails the test and keeps the files of the disk for inspection.
    pub fn panic(self) -> ! {
        let Self { cut, keep, reason, disk } = self;
        let disk = disk.keep();
        panic!("power cut after {cut} events, kept {keep:?}: {reason}\nthe disk: {}", disk.display())
    }
}

/// Number and moments of power cuts.
#[derive(Debug)]
pub struct Cuts {
    number: usize,
    random: Rng,
    /// Number of events before the first possible cut.
    from: usize,
}

impl Cuts {
    /// Returns a percentage of the configured cuts, at any moment.
    pub fn share(percent: usize) -> Self {
        let cuts = number_from_env("POWER_CUTS").map_or(CUTS, |n| usize::try_from(n).unwrap());
        let seed = test_seed();
        Self { number: (cuts * percent).div_ceil(100), random: Rng::with_seed(seed), from: 0 }
    }

    /// Returns a fixed number of cuts at the same moments in every run.
    pub fn fixed(number: usize) -> Self {
        Self { number, random: Rng::with_seed(7), from: 0 }
    }

    /// Moves the first possible cut to after `from` events.
    pub fn from(self, from: usize) -> Self {
        Self { from, ..self }
    }
}

/// Chooses moments of a trace, in order. Half of them are spread evenly over the files, so that files
/// that are rarely written are covered too.
fn moments(trace: &Trace, Cuts { number, random, from }: &mut Cuts) -> Vec<usize> {
    let mut by_inode: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (position, event) in trace.events.iter().enumerate().skip(*from) {
        by_inode.entry(event.inode).or_default().push(position);
    }
    let files: Vec<Vec<usize>> = by_inode.into_values().collect();
    let moment = |n: usize| match n % 2 {
        0 => random.usize(*from..=trace.events.len()),
        _ => {
            let positions = random.choice(&files).expect("the trace has events");
            random.choice(positions).expect("the file has events") + random.usize(0..=1)
        }
    };
    let mut moments: Vec<usize> = (0..*number).map(moment).collect();
    moments.sort_unstable();
    moments
}

/// Simulates the power cuts and runs `check` on every resulting disk state, with the number of events before the cut.
///
/// Returns the first state that fails the check.
pub fn cut_power(
    trace: &Trace,
    mut cuts: Cuts,
    check: impl Fn(&Path, usize) -> Result<(), String>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let mut disk = Disk::new(trace.root);
    let (mut applied, mut disks) = (0, 0);
    for cut in moments(trace, &mut cuts) {
        trace.events[applied..cut].iter().for_each(|event| disk.apply(event));
        applied = cut;
        let keeps = [Keep::AnyPart, Keep::Nothing, Keep::Everything, Keep::OnlyOne];
        let distinct = if disk.is_fully_synced() { 1 } else { keeps.len() };
        for keep in keeps.into_iter().take(distinct) {
            let image = temporary_folder();
            write(&disk.after_cut(keep, &mut cuts.random), image.path());
            disks += 1;
            check(image.path(), cut).map_err(|reason| Failure { cut, keep, reason, disk: image })?;
        }
    }
    println!(
        "{} power cuts in {} events left {disks} disks, checked in {:.1} s",
        cuts.number,
        trace.events.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}
