//! Means of heart rate and modelled caffeine over quarters of an hour, the input of the regression.
//!
//! Each quarter counts once, whatever its number of readings: a watch that measures more often during
//! an event does not give the event more weight. The caffeine of a quarter is the mean of the modelled level
//! in the minutes of its readings.

use crate::domain::caffeine::{CaffeineState, Dose, Kinetics};
use crate::domain::calendar::{Date, Zone};
use crate::domain::correlation::response::{LAGS, PulseResponse, WithinDayRegression};
use crate::domain::heart_rate::Bpm;
use crate::domain::time::{HOUR, MINUTE, Timestamp};

/// A quarter of an hour in microseconds.
const QUARTER: i64 = 15 * MINUTE;
/// The longest of the [`LAGS`] in microseconds.
const LONGEST_LAG: i64 = 6 * HOUR;

/// Accumulator of readings into quarters of an hour and days.
pub struct QuarterHours<'a> {
    zone: &'a Zone,
    levels: LevelsByMinute<'a>,
    regression: WithinDayRegression,
    date: Option<Date>,
    /// Start of the current quarter in minutes since 1970.
    quarter: i64,
    current: QuarterSums,
    /// Ring buffer of the mean levels of the last quarters. Each is stored twice, so that the last [`LAGS`]
    /// are contiguous from `newest` on, the newest first.
    past: [f64; 2 * LAGS],
    newest: usize,
}

/// Sums over the readings of a quarter (`readings`, `bpm`, `mg`) and over its past minutes (`minutes_mg`).
#[derive(Clone, Copy, Debug, Default)]
struct QuarterSums {
    readings: u32,
    bpm: u32,
    mg: f64,
    minutes_mg: f64,
}

/// Level of active caffeine in the middle of each minute.
struct LevelsByMinute<'a> {
    kinetics: Kinetics,
    /// Doses after `minute`.
    doses: &'a [Dose],
    /// Minute of the first of `doses`.
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
    /// Creates an accumulator for readings from `since` on, with the days of `zone`. `doses` are in time
    /// order and start at least [`Self::lookback_micros`] before `since`.
    pub fn new(since: Timestamp, zone: &'a Zone, kinetics: Kinetics, doses: &'a [Dose]) -> Self {
        let start = since.minus(LONGEST_LAG).micros().div_euclid(QUARTER) * QUARTER / MINUTE;
        Self {
            zone,
            levels: LevelsByMinute::new(kinetics, doses, start),
            regression: WithinDayRegression::default(),
            date: None,
            quarter: start,
            current: QuarterSums::default(),
            past: [0.0; 2 * LAGS],
            newest: 0,
        }
    }

    /// Returns the time before `since` in which doses are relevant, in microseconds.
    pub fn lookback_micros(kinetics: &Kinetics) -> i64 {
        LONGEST_LAG + QUARTER + kinetics.lookback_micros()
    }

    /// Adds the next reading, in time order.
    pub fn push(&mut self, at: Timestamp, bpm: Bpm) {
        let minute = at.micros().div_euclid(MINUTE);
        while self.levels.minute < minute {
            let end = self.quarter + QUARTER / MINUTE;
            self.levels.advance_to(minute.min(end), &mut self.current.minutes_mg);
            if self.levels.minute == end {
                self.end_quarter();
                self.quarter = end;
            }
        }
        self.current.readings += 1;
        self.current.bpm += u32::from(bpm.get());
        self.current.mg += self.levels.state.active_mg;
    }

    /// Returns the response of the heart rate to caffeine; `None` when there is too little data.
    pub fn response(mut self) -> Option<PulseResponse> {
        self.end_quarter();
        self.regression.response()
    }

    fn end_quarter(&mut self) {
        let sums = std::mem::take(&mut self.current);
        let mean_mg = sums.minutes_mg / (QUARTER / MINUTE) as f64;
        self.newest = self.newest.checked_sub(1).unwrap_or(LAGS - 1);
        self.past[self.newest] = mean_mg;
        self.past[self.newest + LAGS] = mean_mg;
        if sums.readings == 0 {
            return;
        }
        let start = Timestamp::clamped(self.quarter * MINUTE);
        let (date, time) = self.zone.local(start);
        if self.date.replace(date).is_some_and(|previous| previous != date) {
            self.regression.end_day();
        }
        let readings = f64::from(sums.readings);
        let mut lagged = [0.0; LAGS];
        lagged.copy_from_slice(&self.past[self.newest..self.newest + LAGS]);
        lagged[0] = sums.mg / readings;
        self.regression.push(time.quarter(), f64::from(sums.bpm) / readings, lagged[0], &lagged);
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
            // The inner loop has no doses, because most of the half a million minutes of a year have none.
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
        self.next_dose =
            self.doses.first().map_or(i64::MAX, |(time, _)| -(MINUTE / 2 - time.micros()).div_euclid(MINUTE));
    }
}
