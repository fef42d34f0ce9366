//! Cuts the power at random moments of a trace, and looks at every disk that may be left.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Instant, SystemTime};

use fastrand::Rng;
use tempfile::TempDir;

use crate::disk::{Disk, Keep, write};
use crate::helpers::folder;
use crate::trace::Trace;

/// How many power cuts, in all the tests together, unless `POWER_CUTS` says otherwise.
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

/// This share of the cuts that were asked for, and the chance that chooses them.
pub fn share(percent: usize) -> (usize, Rng) {
    let cuts = setting("POWER_CUTS").map_or(CUTS, |n| usize::try_from(n).unwrap());
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed = setting("POWER_SEED").unwrap_or_else(now);
    println!("POWER_SEED={seed}");
    ((cuts * percent).div_ceil(100), Rng::with_seed(seed))
}

/// Moments of a trace, in order. Half of them are spread over the files, so that
/// those written seldom get their share.
fn moments(trace: &Trace, cuts: usize, random: &mut Rng) -> Vec<usize> {
    let mut by_inode: HashMap<u64, Vec<usize>> = HashMap::new();
    for (position, event) in trace.events.iter().enumerate() {
        by_inode.entry(event.inode).or_default().push(position);
    }
    let mut inodes: Vec<_> = by_inode.into_iter().collect();
    inodes.sort_unstable();
    let moment = |n: usize| match n % 2 {
        0 => random.usize(0..=trace.events.len()),
        _ => {
            let (_, positions) = random.choice(&inodes).expect("something happened");
            random.choice(positions).expect("it happened") + random.usize(0..=1)
        }
    };
    let mut moments: Vec<usize> = (0..cuts).map(moment).collect();
    moments.sort_unstable();
    moments
}

/// Cuts the power so often; `check` looks at what is left, told how many events came before.
///
/// # Errors
/// The first disk on which something is wrong.
pub fn cut_power(
    trace: &Trace,
    (cuts, mut random): (usize, Rng),
    check: impl Fn(&Path, usize) -> Result<(), String>,
) -> Result<(), Loss> {
    let began = Instant::now();
    let mut disk = Disk::new(trace.root);
    let (mut happened, mut disks) = (0, 0);
    for cut in moments(trace, cuts, &mut random) {
        trace.events[happened..cut].iter().for_each(|event| disk.happen(event));
        happened = cut;
        let keeps = [Keep::AnyPart, Keep::Nothing, Keep::Everything, Keep::OnlyOne];
        let different = if disk.is_settled() { 1 } else { keeps.len() };
        for keep in keeps.into_iter().take(different) {
            let left = folder();
            write(&disk.after_cut(keep, &mut random), left.path());
            disks += 1;
            check(left.path(), cut).map_err(|sentence| Loss { cut, keep, sentence, disk: left })?;
        }
    }
    println!(
        "{cuts} power cuts in {} events left {disks} disks, all looked over in {:.1} s",
        trace.events.len(),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
