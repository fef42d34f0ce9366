//! Means of heart rate and modelled caffeine over quarters of an hour, the input of the regression.
//!
//! Each quarter counts once, whatever its number of readings: a watch that measures more often during
//! an event does not give the event more weight. The caffeine of a quarter is the mean of the modelled level
//! in the minutes of its readings. The caffeine of an earlier quarter, for a lag, is the mean over all of its
//! 15 minutes.

use crate::domain::caffeine::{CaffeineState, Dose, Kinetics};
use crate::domain::calendar::{Date, Zone};
use crate::domain::correlation::regression::{CaffeineEffect, LAGS, WithinDayRegression};
use crate::domain::heart_rate::Bpm;
use crate::domain::time::{HOUR, MINUTE, Timestamp};

/// A quarter of an hour in microseconds.
const QUARTER: i64 = 15 * MINUTE;
/// The longest of the [`LAGS`] in microseconds.
const LONGEST_LAG: i64 = (LAGS - 1).cast_signed() as i64 * QUARTER;

/// Accumulator of readings into quarters of an hour and days.
pub struct QuarterHours<'a> {
    zone: &'a Zone,
    levels: LevelCursor<'a>,
    regression: WithinDayRegression,
    date: Option<Date>,
    /// Start of the current quarter in minutes since 1970.
    quarter_start_minute: i64,
    current: QuarterSums,
    /// Mean levels of the last quarters, by lag: the newest first.
    recent_levels: [f64; LAGS],
}

/// Sums over the current quarter.
#[derive(Clone, Copy, Debug, Default)]
struct QuarterSums {
    /// Number of readings.
    readings: u32,
    /// Sum of the heart rates.
    bpm: u32,
    /// Sum of the levels in the minutes of the readings.
    mg: f64,
    /// Sum of the levels of the minutes of the quarter that have ended, with readings or without.
    sum_of_minute_levels: f64,
}

/// Cursor over the minutes in time order, with the level of active caffeine in the middle of the current one.
struct LevelCursor<'a> {
    kinetics: Kinetics,
    /// Doses after `minute`.
    doses: &'a [Dose],
    /// First minute whose middle is not before the first of `doses`; `i64::MAX` without doses.
    next_dose: i64,
    state: CaffeineState,
    /// Minute since 1970 that `state` describes.
    minute: i64,
    /// Fraction of the gut caffeine that is still in the gut after a minute.
    gut_to_gut: f64,
    /// Fraction of the gut caffeine that is active after a minute.
    gut_to_active: f64,
    /// Fraction of the active caffeine that is still active after a minute.
    active_to_active: f64,
}

impl<'a> QuarterHours<'a> {
    /// Creates an accumulator for readings from `since` on, with the days of `zone`. `doses` are all
    /// those since [`Self::dose_lookback_micros`] before `since`, in time order.
    pub fn new(since: Timestamp, zone: &'a Zone, kinetics: Kinetics, doses: &'a [Dose]) -> Self {
        let start = since.minus(LONGEST_LAG).micros().div_euclid(QUARTER) * QUARTER / MINUTE;
        Self {
            zone,
            levels: LevelCursor::new(kinetics, doses, start),
            regression: WithinDayRegression::default(),
            date: None,
            quarter_start_minute: start,
            current: QuarterSums::default(),
            recent_levels: [0.0; LAGS],
        }
    }

    /// Returns how long before `since` a dose is still relevant, in microseconds.
    pub fn dose_lookback_micros(kinetics: &Kinetics) -> i64 {
        LONGEST_LAG + QUARTER + kinetics.lookback_micros()
    }

    /// Adds the next reading, in time order.
    pub fn push(&mut self, at: Timestamp, bpm: Bpm) {
        let minute = at.micros().div_euclid(MINUTE);
        while self.levels.minute < minute {
            let end = self.quarter_start_minute + QUARTER / MINUTE;
            self.levels.advance_to(minute.min(end), &mut self.current.sum_of_minute_levels);
            if self.levels.minute == end {
                self.end_quarter();
                self.quarter_start_minute = end;
            }
        }
        self.current.readings += 1;
        self.current.bpm += u32::from(bpm.get());
        self.current.mg += self.levels.state.active_mg;
    }

    /// Returns the effect of caffeine on the heart rate; `None` when there is too little data.
    pub fn effect(mut self) -> Option<CaffeineEffect> {
        self.end_quarter();
        self.regression.effect()
    }

    fn end_quarter(&mut self) {
        let sums = std::mem::take(&mut self.current);
        self.recent_levels.rotate_right(1);
        self.recent_levels[0] = sums.sum_of_minute_levels / (QUARTER / MINUTE) as f64;
        if sums.readings == 0 {
            return;
        }
        let start = Timestamp::clamped(self.quarter_start_minute * MINUTE);
        let (date, time) = self.zone.local(start);
        if self.date.replace(date).is_some_and(|previous| previous != date) {
            self.regression.end_day();
        }
        let readings = f64::from(sums.readings);
        let mut lagged = self.recent_levels;
        lagged[0] = sums.mg / readings;
        self.regression.push(time.quarter(), f64::from(sums.bpm) / readings, &lagged);
    }
}

impl<'a> LevelCursor<'a> {
    fn new(kinetics: Kinetics, doses: &'a [Dose], minute: i64) -> Self {
        let minute_in_hours = MINUTE as f64 / HOUR as f64;
        let gut = kinetics.advance(CaffeineState { gut_mg: 1.0, active_mg: 0.0 }, minute_in_hours);
        let active = kinetics.advance(CaffeineState { gut_mg: 0.0, active_mg: 1.0 }, minute_in_hours);
        let mut levels = Self {
            kinetics,
            doses,
            next_dose: i64::MAX,
            state: CaffeineState::default(),
            minute,
            gut_to_gut: gut.gut_mg,
            gut_to_active: gut.active_mg,
            active_to_active: active.active_mg,
        };
        levels.add_doses();
        levels
    }

    /// Advances to the minute `until` and adds the level of each minute before it to `sum_mg`.
    fn advance_to(&mut self, until: i64, sum_mg: &mut f64) {
        while self.minute < until {
            // Doses are added between runs of the inner loop: most of the half a million minutes of a year have
            // none.
            let end = until.min(self.next_dose);
            let (CaffeineState { mut gut_mg, mut active_mg }, mut sum) = (self.state, *sum_mg);
            for _ in self.minute..end {
                sum += active_mg;
                active_mg = active_mg * self.active_to_active + gut_mg * self.gut_to_active;
                gut_mg *= self.gut_to_gut;
            }
            (self.state, *sum_mg) = (CaffeineState { gut_mg, active_mg }, sum);
            self.minute = end;
            if end == self.next_dose {
                self.add_doses();
            }
        }
    }

    /// Adds the doses up to the middle of the current minute.
    fn add_doses(&mut self) {
        let at = Timestamp::clamped(self.minute * MINUTE + MINUTE / 2);
        while let [(time, dose), rest @ ..] = self.doses
            && *time <= at
        {
            let new_dose = CaffeineState { gut_mg: dose.mg(), active_mg: 0.0 };
            let part = self.kinetics.advance(new_dose, at.hours_since(*time));
            self.state.gut_mg += part.gut_mg;
            self.state.active_mg += part.active_mg;
            self.doses = rest;
        }
        // The first minute whose middle is not before the dose.
        self.next_dose = self
            .doses
            .first()
            .map_or(i64::MAX, |(time, _)| (time.micros() + MINUTE / 2 - 1).div_euclid(MINUTE));
    }
}
