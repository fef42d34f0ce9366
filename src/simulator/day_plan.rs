//! Plan of a simulated day: times of waking and sleeping, episodes of a higher heart rate, slow drift.

use fastrand::Rng;

use crate::domain::time::{HOUR, MINUTE, Timestamp};

/// Episode of a higher heart rate. Times are local times of day in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Episode {
    pub(super) from: i64,
    pub(super) until: i64,
    /// End of the recovery after `until`.
    pub(super) recovered: i64,
    pub(super) rise_bpm: f64,
    pub(super) context: &'static str,
}

/// Plan of one day. Times are local times of day in microseconds.
pub(super) struct DayPlan {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) wake_time: i64,
    pub(super) sleep_time: i64,
    /// Episodes in time order, without overlaps.
    pub(super) episodes: Vec<Episode>,
    /// Slow drift of the resting heart rate at each full hour, in beats per minute.
    pub(super) drift: [f64; 26],
}

impl DayPlan {
    pub(super) fn add_episodes(&mut self, rng: &mut Rng, weekend: bool) {
        if rng.f64() < if weekend { 0.55 } else { 0.4 } {
            let (from, until) = if weekend { (10.0, 16.0) } else { (17.0, 19.5) };
            let (from, minutes) = (uniform(rng, from, until), uniform(rng, 25.0, 70.0));
            self.add_episode(from, minutes, 18.0, uniform(rng, 48.0, 88.0), "exercise");
        }
        if rng.f64() < if weekend { 0.1 } else { 0.35 } {
            let (from, minutes) = (uniform(rng, 9.0, 20.0), uniform(rng, 8.0, 35.0));
            self.add_episode(from, minutes, 12.0, uniform(rng, 12.0, 32.0), "stressed");
        }
        for _ in 0..rng.u32(3..=7) {
            let (from, minutes) = (uniform(rng, 6.0, 22.0), uniform(rng, 8.0, 40.0));
            self.add_episode(from, minutes, 5.0, uniform(rng, 12.0, 30.0), "active");
        }
        self.episodes.sort_by_key(|episode| episode.from);
    }

    /// Adds an episode unless it overlaps another one or the night. `from` is in hours of the day.
    fn add_episode(
        &mut self,
        from: f64,
        minutes: f64,
        recovery_minutes: f64,
        rise_bpm: f64,
        context: &'static str,
    ) {
        let from = hours_to_micros(from);
        let until = from + hours_to_micros(minutes / 60.0);
        let recovered = until + hours_to_micros(recovery_minutes / 60.0);
        let is_free = self.episodes.iter().all(|other| recovered <= other.from || from >= other.recovered);
        if is_free && from > self.wake_time && recovered < self.sleep_time {
            self.episodes.push(Episode { from, until, recovered, rise_bpm, context });
        }
    }

    /// Converts a local time of day to an instant. Clocks change in the first hours of a day, so
    /// times from 04:00 on are counted back from its end.
    pub(super) fn instant(&self, time: i64) -> Timestamp {
        let at = if time < 4 * HOUR { self.start.plus(time) } else { self.end.minus(24 * HOUR - time) };
        at.clamp(self.start, self.end.minus(1))
    }

    /// Converts an instant to a local time of day, approximately in the hours of a clock change.
    pub(super) fn local_time(&self, at: Timestamp) -> i64 {
        let since_start = at.micros() - self.start.micros();
        if since_start < 4 * HOUR { since_start } else { 24 * HOUR - (self.end.micros() - at.micros()) }
    }

    /// Returns the drift at a time of day, interpolated between full hours.
    pub(super) fn drift_at(&self, time: i64) -> f64 {
        let hour = usize::try_from(time / HOUR).unwrap_or(0).min(24);
        let fraction = (time % HOUR) as f64 / HOUR as f64;
        self.drift[hour] + (self.drift[hour + 1] - self.drift[hour]) * fraction
    }
}

impl Episode {
    /// Returns the rise above the resting heart rate in beats per minute: up within 4 minutes, down
    /// during the recovery.
    pub(super) fn rise_at(&self, time: i64) -> f64 {
        let fraction = if time < self.until {
            (time - self.from) as f64 / (4 * MINUTE) as f64
        } else {
            (self.recovered - time) as f64 / (self.recovered - self.until) as f64
        };
        self.rise_bpm * fraction.clamp(0.0, 1.0)
    }

    /// Returns the context of a reading at `time`.
    pub(super) fn context_at(&self, time: i64) -> &'static str {
        if time >= self.until && self.context == "exercise" { "active" } else { self.context }
    }
}

/// Returns the circadian component in beats per minute: −3.5 at 04:00, +2.5 at 16:00.
pub(super) fn circadian(hours: f64) -> f64 {
    let since_four = (hours - 4.0).rem_euclid(24.0);
    let fraction = 1.0 - (since_four - 12.0).abs() / 12.0;
    -3.5 + 6.0 * fraction * fraction * (3.0 - 2.0 * fraction)
}

pub(super) fn uniform(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + rng.f64() * (high - low)
}

pub(super) fn hours_to_micros(hours: f64) -> i64 {
    (hours * HOUR as f64) as i64
}
