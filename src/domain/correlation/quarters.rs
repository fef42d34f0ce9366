//! Readings and caffeine, quarter of an hour by quarter of an hour.
//!
//! However many readings a quarter has, it counts once: a watch that measures oftener while
//! something happens does not make it more. The caffeine is that of the minutes of its readings, by
//! the model, to the minute.

use crate::domain::caffeine::{CaffeineState, Dose, Kinetics};
use crate::domain::calendar::{Date, LocalClock, Zone};
use crate::domain::correlation::response::{LAGS, PulseResponse, QUARTERS, WithinDayRegression};
use crate::domain::heart_rate::Bpm;
use crate::domain::time::{HOUR, MINUTE, Timestamp};

/// A quarter of an hour, in microseconds.
const QUARTER: i64 = 15 * MINUTE;
/// The longest of the [`LAGS`], in microseconds.
const LONGEST_LAG: i64 = 6 * HOUR;

/// Gathers readings, given in time order, into the days of a [`PulseResponse`].
pub struct QuarterHours<'a> {
    clock: LocalClock<'a>,
    levels: LevelsByMinute<'a>,
    days: WithinDayRegression,
    date: Option<Date>,
    /// Minutes since 1970 of the present quarter's beginning.
    quarter: i64,
    open: QuarterSums,
    /// The mean level of each of the last quarters, twice, so that they are contiguous from `newest` on,
    /// the newest first.
    past: [f64; 2 * LAGS],
    newest: usize,
}

/// QuarterSums over a quarter: of its readings, and of its minutes so far.
#[derive(Clone, Copy, Debug, Default)]
struct QuarterSums {
    readings: u32,
    bpm: u32,
    mg: f64,
    minutes_mg: f64,
}

/// The level of active caffeine, minute by minute.
struct LevelsByMinute<'a> {
    kinetics: Kinetics,
    /// Those still to come.
    doses: &'a [Dose],
    /// The minute of the next of them.
    next_dose: i64,
    body: CaffeineState,
    /// The minute since 1970 in whose middle the body is.
    minute: i64,
    /// What a minute makes of the gut's content, of the active caffeine, and of the one for the other.
    stays: f64,
    lasts: f64,
    enters: f64,
}

impl<'a> QuarterHours<'a> {
    /// For readings from `since` on, in a zone's days. `doses` are in time order and reach as far back
    /// as [`Self::reach`].
    pub fn new(since: Timestamp, zone: &'a Zone, kinetics: Kinetics, doses: &'a [Dose]) -> Self {
        let start = since.minus(LONGEST_LAG).micros().div_euclid(QUARTER) * QUARTER / MINUTE;
        Self {
            clock: zone.local_clock(),
            levels: LevelsByMinute::new(kinetics, doses, start),
            days: WithinDayRegression::default(),
            date: None,
            quarter: start,
            open: QuarterSums::default(),
            past: [0.0; 2 * LAGS],
            newest: 0,
        }
    }

    /// How far before `since` a dose may still count, in microseconds.
    pub fn reach(kinetics: &Kinetics) -> i64 {
        LONGEST_LAG + QUARTER + kinetics.lookback_micros()
    }

    /// Takes the next reading.
    pub fn push(&mut self, at: Timestamp, bpm: Bpm) {
        let minute = at.micros().div_euclid(MINUTE);
        while self.levels.minute < minute {
            let end = self.quarter + QUARTER / MINUTE;
            self.levels.advance(minute.min(end), &mut self.open.minutes_mg);
            if self.levels.minute == end {
                self.close();
                self.quarter = end;
            }
        }
        self.open.readings += 1;
        self.open.bpm += u32::from(bpm.get());
        self.open.mg += self.levels.body.active_mg;
    }

    /// What the pulse does when caffeine is there.
    pub fn response(mut self) -> Option<PulseResponse> {
        self.close();
        self.days.response()
    }

    fn close(&mut self) {
        let ended = std::mem::take(&mut self.open);
        let mean_mg = ended.minutes_mg / (QUARTER / MINUTE) as f64;
        self.newest = self.newest.checked_sub(1).unwrap_or(LAGS - 1);
        self.past[self.newest] = mean_mg;
        self.past[self.newest + LAGS] = mean_mg;
        if ended.readings == 0 {
            return;
        }
        let start = Timestamp::clamped(self.quarter * MINUTE);
        let date = self.clock.date(start);
        if self.date.replace(date).is_some_and(|before| before != date) {
            self.days.end_day();
        }
        let readings = f64::from(ended.readings);
        let mut lagged = [0.0; LAGS];
        lagged.copy_from_slice(&self.past[self.newest..self.newest + LAGS]);
        lagged[0] = ended.mg / readings;
        let of_day = usize::try_from(self.clock.time_of_day(start) / QUARTER).unwrap_or(0);
        self.days.push(of_day.min(QUARTERS - 1), f64::from(ended.bpm) / readings, lagged[0], &lagged);
    }
}

impl<'a> LevelsByMinute<'a> {
    fn new(kinetics: Kinetics, doses: &'a [Dose], minute: i64) -> Self {
        let hours = MINUTE as f64 / HOUR as f64;
        let gut = kinetics.advance(CaffeineState { gut_mg: 1.0, active_mg: 0.0 }, hours);
        let active = kinetics.advance(CaffeineState { gut_mg: 0.0, active_mg: 1.0 }, hours);
        let mut levels = Self {
            kinetics,
            doses,
            next_dose: i64::MAX,
            body: CaffeineState::default(),
            minute,
            stays: gut.gut_mg,
            lasts: active.active_mg,
            enters: gut.active_mg,
        };
        levels.drink();
        levels
    }

    /// Moves on to a minute that is not over, and adds the level of each minute left behind to `sum_mg`.
    fn advance(&mut self, until: i64, sum_mg: &mut f64) {
        while self.minute < until {
            // A loop of its own without doses: most minutes have none, and a year has half a million.
            let end = until.min(self.next_dose);
            let (CaffeineState { mut gut_mg, mut active_mg }, mut sum) = (self.body, *sum_mg);
            for _ in self.minute..end {
                sum += active_mg;
                active_mg = active_mg * self.lasts + gut_mg * self.enters;
                gut_mg *= self.stays;
            }
            (self.body, *sum_mg) = (CaffeineState { gut_mg, active_mg }, sum);
            self.minute = end;
            if end == self.next_dose {
                self.drink();
            }
        }
    }

    /// Adds what was drunk up to the middle of the minute.
    fn drink(&mut self) {
        let at = Timestamp::clamped(self.minute * MINUTE + MINUTE / 2);
        while let [(time, dose), rest @ ..] = self.doses
            && *time <= at
        {
            let drunk = CaffeineState { gut_mg: dose.mg(), active_mg: 0.0 };
            let part = self.kinetics.advance(drunk, at.hours_since(*time));
            self.body.gut_mg += part.gut_mg;
            self.body.active_mg += part.active_mg;
            self.doses = rest;
        }
        // The first minute whose middle is not before the dose.
        self.next_dose =
            self.doses.first().map_or(i64::MAX, |(time, _)| -(MINUTE / 2 - time.micros()).div_euclid(MINUTE));
    }
}
