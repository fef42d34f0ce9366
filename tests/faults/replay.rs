//! Cuts the power at random moments of a trace, and looks at every disk that may be left.
//!
//! `POWER_CUTS` sets how many cuts in all tests together (150), `POWER_SEED` repeats the choices
//! (the traces differ a little from run to run all the same).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Instant, SystemTime};

use fastrand::Rng;
use tempfile::TempDir;

use crate::disk::{Disk, Keep, write};
use crate::helpers::folder;
use crate::trace::Trace;

/// How many power cuts in all, unless `POWER_CUTS` says otherwise.
const CUTS: usize = 150;

/// A disk on which something is wrong.
#[derive(Debug)]
pub struct Loss {
    /// How many events came before the cut.
    pub cut: usize,
    pub keep: Keep,
    pub sentence: String,
    disk: TempDir,
}

impl Loss {
    /// Fails the test, and keeps the disk for somebody to look at.
    pub fn panic(self) -> ! {
        let Self { cut, keep, sentence, disk } = self;
        let disk = disk.keep();
        panic!("power cut after {cut} events, kept {keep:?}: {sentence}\nthe disk: {}", disk.display())
    }
}

/// A number from the environment.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// How often the power fails, and when.
#[derive(Debug)]
pub struct Cuts {
    number: usize,
    random: Rng,
    /// Not before so many events.
    from: usize,
}

impl Cuts {
    /// This share of the cuts that were asked for, at any moment.
    pub fn share(percent: usize) -> Self {
        let cuts = setting("POWER_CUTS").map_or(CUTS, |n| usize::try_from(n).unwrap());
        let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
        let seed = setting("POWER_SEED").unwrap_or_else(now);
        println!("POWER_SEED={seed}");
        Self { number: (cuts * percent).div_ceil(100), random: Rng::with_seed(seed), from: 0 }
    }

    /// So many, always chosen alike.
    pub fn fixed(number: usize) -> Self {
        Self { number, random: Rng::with_seed(7), from: 0 }
    }

    /// The same, but not before so many events.
    pub fn from(self, from: usize) -> Self {
        Self { from, ..self }
    }
}

/// The moments of a trace, in order. Half of them are spread over the files, so that those
/// written seldom get their share.
fn moments(trace: &Trace, Cuts { number, random, from }: &mut Cuts) -> Vec<usize> {
    let mut by_inode: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (position, event) in trace.events.iter().enumerate().skip(*from) {
        by_inode.entry(event.inode).or_default().push(position);
    }
    let files: Vec<Vec<usize>> = by_inode.into_values().collect();
    let moment = |n: usize| match n % 2 {
        0 => random.usize(*from..=trace.events.len()),
        _ => {
            let of_one = random.choice(&files).expect("something happened");
            random.choice(of_one).expect("it happened") + random.usize(0..=1)
        }
    };
    let mut moments: Vec<usize> = (0..*number).map(moment).collect();
    moments.sort_unstable();
    moments
}

/// Cuts the power so often; `check` looks at what is left, told how many events came before.
///
/// # Errors
/// The first disk on which something is wrong.
pub fn cut_power(
    trace: &Trace,
    mut cuts: Cuts,
    check: impl Fn(&Path, usize) -> Result<(), String>,
) -> Result<(), Loss> {
    let began = Instant::now();
    let mut disk = Disk::new(trace.root);
    let (mut happened, mut disks) = (0, 0);
    for cut in moments(trace, &mut cuts) {
        trace.events[happened..cut].iter().for_each(|event| disk.happen(event));
        happened = cut;
        let keeps = [Keep::AnyPart, Keep::Nothing, Keep::Everything, Keep::OnlyOne];
        let different = if disk.is_settled() { 1 } else { keeps.len() };
        for keep in keeps.into_iter().take(different) {
            let left = folder();
            write(&disk.after_cut(keep, &mut cuts.random), left.path());
            disks += 1;
            check(left.path(), cut).map_err(|sentence| Loss { cut, keep, sentence, disk: left })?;
        }
    }
    println!(
        "{} power cuts in {} events left {disks} disks, all looked over in {:.1} s",
        cuts.number,
        trace.events.len(),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
