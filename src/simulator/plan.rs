//! One simulated day's frame: when the person wakes and sleeps, what lifts the pulse meanwhile,
//! and how it wanders by itself.

use fastrand::Rng;

use crate::domain::time::{HOUR, MINUTE, Timestamp};
use crate::simulator::{between, local};

/// Something that lifts the pulse for a while. Local times of day in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Episode {
    pub(super) from: i64,
    pub(super) until: i64,
    /// When its last trace has gone.
    pub(super) fades: i64,
    pub(super) lift_bpm: f64,
    pub(super) context: &'static str,
}

/// One day's frame. Local times of day in microseconds.
pub(super) struct Plan {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) wakes: i64,
    pub(super) sleeps: i64,
    /// By beginning, none overlapping.
    pub(super) episodes: Vec<Episode>,
    /// The pulse's slow wandering at each full hour, in beats per minute.
    pub(super) drift: [f64; 26],
}

impl Plan {
    pub(super) fn fill(&mut self, rng: &mut Rng, weekend: bool) {
        if rng.f64() < if weekend { 0.55 } else { 0.4 } {
            let (from, until) = if weekend { (10.0, 16.0) } else { (17.0, 19.5) };
            let (from, minutes) = (between(rng, from, until), between(rng, 25.0, 70.0));
            self.place(from, minutes, 18.0, between(rng, 48.0, 88.0), "exercise");
        }
        if rng.f64() < if weekend { 0.1 } else { 0.35 } {
            let (from, minutes) = (between(rng, 9.0, 20.0), between(rng, 8.0, 35.0));
            self.place(from, minutes, 12.0, between(rng, 12.0, 32.0), "stressed");
        }
        for _ in 0..rng.u32(3..=7) {
            let (from, minutes) = (between(rng, 6.0, 22.0), between(rng, 8.0, 40.0));
            self.place(from, minutes, 5.0, between(rng, 12.0, 30.0), "active");
        }
        self.episodes.sort_by_key(|episode| episode.from);
    }

    /// Adds an episode if the person is awake and free: hours of the day, minutes, beats per minute.
    fn place(&mut self, from: f64, minutes: f64, recovery: f64, lift_bpm: f64, context: &'static str) {
        let from = local(from);
        let until = from + local(minutes / 60.0);
        let fades = until + local(recovery / 60.0);
        let free = self.episodes.iter().all(|other| fades <= other.from || from >= other.fades);
        if free && from > self.wakes && fades < self.sleeps {
            self.episodes.push(Episode { from, until, fades, lift_bpm, context });
        }
    }

    /// The instant of a local time of day. Clocks change in the first hours of a day, so the
    /// later ones are counted back from its end.
    pub(super) fn instant(&self, time: i64) -> Timestamp {
        let at = if time < 4 * HOUR { self.start.plus(time) } else { self.end.minus(24 * HOUR - time) };
        at.clamp(self.start, self.end.minus(1))
    }

    /// The local time of day of an instant, nearly so while clocks change.
    pub(super) fn local_time(&self, at: Timestamp) -> i64 {
        let since_start = at.micros() - self.start.micros();
        if since_start < 4 * HOUR { since_start } else { 24 * HOUR - (self.end.micros() - at.micros()) }
    }

    pub(super) fn drift_at(&self, time: i64) -> f64 {
        let hour = usize::try_from(time / HOUR).unwrap_or(0).min(24);
        let share = (time % HOUR) as f64 / HOUR as f64;
        self.drift[hour] + (self.drift[hour + 1] - self.drift[hour]) * share
    }
}

impl Episode {
    /// Beats per minute above the calm pulse: up within 4 minutes, down while it fades.
    pub(super) fn lift_at(&self, time: i64) -> f64 {
        let share = if time < self.until {
            (time - self.from) as f64 / (4 * MINUTE) as f64
        } else {
            (self.fades - time) as f64 / (self.fades - self.until) as f64
        };
        self.lift_bpm * share.clamp(0.0, 1.0)
    }

    pub(super) fn context_at(&self, time: i64) -> &'static str {
        if time >= self.until && self.context == "exercise" { "active" } else { self.context }
    }
}

/// The daily rhythm in beats per minute: −3.5 at 04:00, +2.5 at 16:00.
pub(super) fn circadian(hours: f64) -> f64 {
    let from_four = (hours - 4.0).rem_euclid(24.0);
    let share = 1.0 - (from_four - 12.0).abs() / 12.0;
    -3.5 + 6.0 * share * share * (3.0 - 2.0 * share)
}
