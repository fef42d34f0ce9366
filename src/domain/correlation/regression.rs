//! Effect of caffeine on the heart rate: a within-day regression over quarters of an hour, with a jackknife
//! over days.
//!
//! heart rate = level of the day + daily rhythm + slope × caffeine + residual
//!
//! - **Level of the day.** Day fixed effects remove differences between days: sleep, weather, a cold.
//! - **Daily rhythm.** The first two harmonics of 24 hours, as fitted to wearables by Natarajan et al.
//!   (2025), doi:10.1080/07420528.2024.2446622. When coffee is always drunk at the same hour, its effect
//!   cannot be separated from that of the hour. A normal (ridge) prior with standard deviation
//!   [`RHYTHM_BPM`] therefore bounds the harmonics, and the remaining freedom of the rhythm adds to the
//!   standard error of the slope.
//! - **Residual.** Neighbouring quarters are correlated, so the standard error comes from leaving out one
//!   day at a time: the cluster jackknife CV3J of MacKinnon, Nielsen & Webb (2023),
//!   doi:10.1016/j.jeconom.2022.04.001. The degrees of freedom are the informative days minus 1,
//!   at least 1. A day is informative when the sum of squares of its caffeine about its mean exceeds a tenth
//!   of the average over the days.
//!
//! This module works on numbers; `quarter_hours` selects readings and assigns quarters to days.

use std::f64::consts::TAU;

use crate::domain::estimate::{Estimate, jackknife_variance};

/// Quarters of an hour in a day.
pub const QUARTERS_PER_DAY: usize = 96;
/// Number of lags between caffeine and heart rate: 0 to 6 hours in quarters of an hour.
pub const LAGS: usize = 25;
/// Prior standard deviation of the rhythm's coefficients by harmonic, in beats per minute: a mean amplitude
/// of about 4 bpm for the daily and 2 bpm for the half-daily wave. This is an assumption of this project. With
/// a week of readings from morning to night its influence is negligible, except when coffee is always drunk
/// at the same hour.
pub const RHYTHM_BPM: [f64; 2] = [3.0, 1.5];

/// Number of columns for the daily rhythm: the cosine and the sine of each harmonic.
const RHYTHM: usize = 2 * RHYTHM_BPM.len();
/// Number of columns: one for the caffeine, those for the rhythm, one for the heart rate.
const COLUMNS: usize = RHYTHM + 2;
const CAFFEINE: usize = 0;
const HEART_RATE: usize = COLUMNS - 1;
/// Variance of the rounding to whole beats per minute, the lower bound of the residual variance.
const ROUNDING_VARIANCE: f64 = 1.0 / 12.0;

type ColumnValues = [f64; COLUMNS];
/// Matrix of sums of products of columns; symmetric.
type CrossProducts = [ColumnValues; COLUMNS];
type Harmonics = [f64; RHYTHM];

/// Estimated effect of caffeine on the heart rate, which the API calls the response.
#[derive(Clone, Debug, PartialEq)]
pub struct CaffeineEffect {
    /// Beats per minute for 100 mg of active caffeine.
    pub slope: Estimate,
    /// Partial correlation of heart rate and caffeine given day and rhythm.
    pub r: f64,
    /// Both ends of the slope's 95% interval, converted to partial correlations.
    pub r_interval: (f64, f64),
    /// Number of days with at least two quarters of an hour.
    pub days: usize,
    /// Number of those `days` whose sum of squares of caffeine about the day's mean exceeds a tenth of the average
    /// over the days.
    pub informative_days: usize,
    /// Number of quarters of an hour on these `days`.
    pub quarter_hours: u64,
    /// Lag with the strongest correlation, in quarters of an hour.
    pub strongest_lag: usize,
    /// Partial correlation at that lag.
    pub strongest_lag_r: f64,
}

/// Accumulator of quarters of an hour, day by day.
#[derive(Debug)]
pub struct WithinDayRegression {
    harmonics: Vec<Harmonics>,
    /// Cross products of each ended day about its means.
    days: Vec<CrossProducts>,
    /// Sum of `days`.
    total: CrossProducts,
    /// Row that takes the place of the caffeine row of `total` for each lag.
    lagged: [ColumnValues; LAGS],
    quarter_hours: u64,
    today: DaySums,
}

/// Raw sums over the current day.
#[derive(Clone, Debug, Default)]
struct DaySums {
    count: u64,
    sums: ColumnValues,
    products: CrossProducts,
    lagged_sums: [f64; LAGS],
    /// Sums of the products of each column with the caffeine of each lag; in the row of the caffeine column,
    /// sums of the squares of the latter.
    lagged: [[f64; LAGS]; COLUMNS],
}

/// Ridge fit of the heart rate.
struct RidgeFit {
    slope: f64,
    /// Coefficients of the rhythm columns in a ridge regression of the caffeine.
    caffeine_on_rhythm: Harmonics,
    /// Penalized residual sum of squares of the caffeine on the rhythm, S: the squared residuals plus the
    /// ridge penalty of `caffeine_on_rhythm`.
    caffeine_squares: f64,
    /// Residual sum of squares of the heart rate.
    residual_squares: f64,
}

impl Default for WithinDayRegression {
    fn default() -> Self {
        Self {
            harmonics: (0..QUARTERS_PER_DAY).map(harmonics).collect(),
            days: Vec::new(),
            total: CrossProducts::default(),
            lagged: [ColumnValues::default(); LAGS],
            quarter_hours: 0,
            today: DaySums::default(),
        }
    }
}

/// Returns the rhythm columns in the middle of a quarter of the day.
fn harmonics(quarter_of_day: usize) -> Harmonics {
    let angle =
        |harmonic: usize| TAU * harmonic as f64 * (quarter_of_day as f64 + 0.5) / QUARTERS_PER_DAY as f64;
    std::array::from_fn(|n| {
        let angle = angle(n / 2 + 1);
        if n % 2 == 0 { angle.cos() } else { angle.sin() }
    })
}

/// Returns the prior variance of the coefficient of a rhythm column.
fn prior_variance(column: usize) -> f64 {
    RHYTHM_BPM[column / 2] * RHYTHM_BPM[column / 2]
}

impl WithinDayRegression {
    /// Adds a quarter of an hour: its number in the day (0 to 95), the mean heart rate, and the mean
    /// milligrams of active caffeine 0, 1, 2 … quarters before.
    pub fn push(&mut self, quarter_of_day: usize, bpm: f64, lagged_mg: &[f64; LAGS]) {
        let Some(harmonics) = self.harmonics.get(quarter_of_day) else { return };
        let mut columns = ColumnValues::default();
        columns[CAFFEINE] = lagged_mg[0] / 100.0;
        columns[1..HEART_RATE].copy_from_slice(harmonics);
        columns[HEART_RATE] = bpm;
        let today = &mut self.today;
        today.count += 1;
        for (column, value) in columns.iter().enumerate() {
            today.sums[column] += value;
            for (product, other) in today.products[column].iter_mut().zip(&columns) {
                *product += value * other;
            }
        }
        let lagged: [f64; LAGS] = lagged_mg.map(|mg| mg / 100.0);
        for (sum, mg) in today.lagged_sums.iter_mut().zip(&lagged) {
            *sum += mg;
        }
        for (products, value) in today.lagged.iter_mut().zip(&columns).skip(1) {
            for (product, mg) in products.iter_mut().zip(&lagged) {
                *product += mg * value;
            }
        }
        for (product, mg) in today.lagged[CAFFEINE].iter_mut().zip(&lagged) {
            *product += mg * mg;
        }
    }

    /// Ends the current day. A day with a single quarter is ignored.
    pub fn end_day(&mut self) {
        let today = std::mem::take(&mut self.today);
        if today.count < 2 {
            return;
        }
        let count = today.count as f64;
        let mut products = today.products;
        for (row, sum) in products.iter_mut().zip(&today.sums) {
            row.iter_mut().zip(&today.sums).for_each(|(product, other)| *product -= sum * other / count);
        }
        for (lag, sum) in today.lagged_sums.iter().enumerate() {
            let total = &mut self.lagged[lag];
            total[CAFFEINE] += today.lagged[CAFFEINE][lag] - sum * sum / count;
            for ((total, products), other) in total.iter_mut().zip(&today.lagged).zip(&today.sums).skip(1) {
                *total += products[lag] - sum * other / count;
            }
        }
        for (total, row) in self.total.iter_mut().zip(&products) {
            total.iter_mut().zip(row).for_each(|(total, product)| *total += product);
        }
        self.quarter_hours += today.count;
        self.days.push(products);
    }

    /// Returns the effect. `None` when day and rhythm explain the caffeine completely, also when they do so with
    /// one day left out: with fewer than two days, or when caffeine varied on one day only.
    pub fn effect(mut self) -> Option<CaffeineEffect> {
        self.end_day();
        let days = self.days.len();
        // The slope and the rhythm's coefficients are not subtracted: they are few compared with the quarters
        // of even some days, and the penalty bounds the rhythm.
        let residual_df = self.quarter_hours.checked_sub(days as u64).filter(|df| *df > 0)? as f64;
        // The ridge penalty depends on the residual variance, which depends on the fit: iterate. The penalty has
        // little influence on the residuals, so that ten iterations are more than enough.
        let mut variance = (self.total[HEART_RATE][HEART_RATE] / residual_df).max(ROUNDING_VARIANCE);
        for _ in 0..10 {
            variance = (fit(&self.total, variance)?.residual_squares / residual_df).max(ROUNDING_VARIANCE);
        }
        let whole = fit(&self.total, variance)?;
        let slope = self.slope(&whole, variance)?;
        let (low, high) = slope.interval();
        let (strongest_lag, strongest_lag_r) = self.strongest_lag(variance);
        Some(CaffeineEffect {
            slope,
            r: whole.partial_correlation(slope.value),
            r_interval: (whole.partial_correlation(low), whole.partial_correlation(high)),
            days,
            informative_days: self.informative_days(),
            quarter_hours: self.quarter_hours,
            strongest_lag,
            strongest_lag_r,
        })
    }

    /// Returns the slope; its variance is that of the jackknife over days plus that of the rhythm's prior.
    fn slope(&self, whole: &RidgeFit, variance: f64) -> Option<Estimate> {
        let mut changes = Vec::with_capacity(self.days.len());
        for day in &self.days {
            let mut others = self.total;
            for (row, day) in others.iter_mut().zip(day) {
                row.iter_mut().zip(day).for_each(|(other, product)| *other -= product);
            }
            changes.push(fit(&others, variance)?.slope - whole.slope);
        }
        // The penalty P = variance / prior variance biases the slope by βᵀ·P·w / S for a rhythm β, with
        // w = `caffeine_on_rhythm` and S = `caffeine_squares`. This is the variance of that for β from the prior.
        let rhythm_variance: f64 = (whole.caffeine_on_rhythm.iter().enumerate())
            .map(|(n, weight)| (weight / whole.caffeine_squares * variance).powi(2) / prior_variance(n))
            .sum();
        Some(Estimate {
            value: whole.slope,
            standard_error: (jackknife_variance(&changes) + rhythm_variance).sqrt(),
            // At least 1, as an estimate requires, although few days may have most of the caffeine.
            degrees_of_freedom: (self.informative_days() as f64 - 1.0).max(1.0),
        })
    }

    /// Returns the number of informative days; see [`CaffeineEffect::informative_days`].
    fn informative_days(&self) -> usize {
        let threshold = self.total[CAFFEINE][CAFFEINE] / self.days.len() as f64 / 10.0;
        self.days.iter().filter(|day| day[CAFFEINE][CAFFEINE] > threshold).count()
    }

    /// Returns the lag with the strongest partial correlation, and that correlation.
    fn strongest_lag(&self, variance: f64) -> (usize, f64) {
        let mut strongest = (0, 0.0_f64);
        for (lag, row) in self.lagged.iter().enumerate() {
            let mut total = self.total;
            for column in 0..COLUMNS {
                total[CAFFEINE][column] = row[column];
                total[column][CAFFEINE] = row[column];
            }
            let Some(fit) = fit(&total, variance) else { continue };
            let r = fit.partial_correlation(fit.slope);
            if r.abs() > strongest.1.abs() {
                strongest = (lag, r);
            }
        }
        strongest
    }
}

impl RidgeFit {
    fn partial_correlation(&self, slope: f64) -> f64 {
        let explained = slope * self.caffeine_squares.sqrt();
        explained / explained.hypot(self.residual_squares.sqrt())
    }
}

/// Fits the heart rate by least squares with a ridge penalty on the rhythm, for a residual variance. `None`
/// when day and rhythm explain the caffeine completely.
fn fit(products: &CrossProducts, variance: f64) -> Option<RidgeFit> {
    let mut rhythm = [[0.0; RHYTHM]; RHYTHM];
    for (n, row) in rhythm.iter_mut().enumerate() {
        row.copy_from_slice(&products[n + 1][1..HEART_RATE]);
        row[n] += variance / prior_variance(n);
    }
    let rhythm_with = |column: usize| std::array::from_fn(|n| products[n + 1][column]);
    let (rhythm_caffeine, rhythm_heart_rate): (Harmonics, Harmonics) =
        (rhythm_with(CAFFEINE), rhythm_with(HEART_RATE));
    let caffeine_on_rhythm = solve(rhythm, rhythm_caffeine)?;
    let explained = |with: &Harmonics| caffeine_on_rhythm.iter().zip(with).map(|(a, b)| a * b).sum::<f64>();
    let caffeine_squares = products[CAFFEINE][CAFFEINE] - explained(&rhythm_caffeine);
    if caffeine_squares.is_nan() || caffeine_squares <= products[CAFFEINE][CAFFEINE] * 1e-9 + 1e-12 {
        return None;
    }
    let slope = (products[CAFFEINE][HEART_RATE] - explained(&rhythm_heart_rate)) / caffeine_squares;
    let without_caffeine: Harmonics =
        std::array::from_fn(|n| rhythm_heart_rate[n] - slope * rhythm_caffeine[n]);
    let mut residual = ColumnValues::default();
    residual[CAFFEINE] = -slope;
    let rhythm_weights = solve(rhythm, without_caffeine)?;
    residual[1..HEART_RATE].iter_mut().zip(rhythm_weights).for_each(|(weight, value)| *weight = -value);
    residual[HEART_RATE] = 1.0;
    let residual_squares = quadratic_form(products, &residual).max(0.0);
    Some(RidgeFit { slope, caffeine_on_rhythm, caffeine_squares, residual_squares })
}

/// Returns wᵀ·M·w.
fn quadratic_form(products: &CrossProducts, weights: &ColumnValues) -> f64 {
    let dot =
        |row: &ColumnValues| row.iter().zip(weights).map(|(product, weight)| product * weight).sum::<f64>();
    products.iter().zip(weights).map(|(row, weight)| weight * dot(row)).sum()
}

/// Solves a symmetric positive definite system by Gaussian elimination, which needs no pivoting there.
fn solve(mut matrix: [Harmonics; RHYTHM], mut right: Harmonics) -> Option<Harmonics> {
    for pivot in 0..RHYTHM {
        let row = matrix[pivot];
        if row[pivot].is_nan() || row[pivot] <= 0.0 {
            return None;
        }
        for below in pivot + 1..RHYTHM {
            let factor = matrix[below][pivot] / row[pivot];
            matrix[below].iter_mut().zip(row).for_each(|(value, above)| *value -= factor * above);
            right[below] -= factor * right[pivot];
        }
    }
    for pivot in (0..RHYTHM).rev() {
        let known: f64 = (pivot + 1..RHYTHM).map(|n| matrix[pivot][n] * right[n]).sum();
        right[pivot] = (right[pivot] - known) / matrix[pivot][pivot];
    }
    Some(right)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Oracle {
        responses: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        levels: Vec<f64>,
        quarters: Vec<Quarter>,
        expected: Expected,
    }

    #[derive(Deserialize)]
    struct Quarter {
        day: u32,
        of_day: usize,
        at: usize,
        bpm: f64,
        mg: f64,
    }

    #[derive(Debug, Deserialize)]
    struct Expected {
        slope: f64,
        error: f64,
        #[serde(rename = "telling")]
        informative: usize,
        r: f64,
        lag: usize,
        lag_r: f64,
    }

    fn regression(case: &Case) -> WithinDayRegression {
        let mut days = WithinDayRegression::default();
        for quarters in case.quarters.chunk_by(|a, b| a.day == b.day) {
            for quarter in quarters {
                let mut lagged: [f64; LAGS] =
                    std::array::from_fn(|lag| case.levels[quarter.at + LAGS - 1 - lag]);
                lagged[0] = quarter.mg;
                days.push(quarter.of_day, quarter.bpm, &lagged);
            }
            days.end_day();
        }
        days
    }

    fn near(ours: f64, theirs: f64) {
        assert!((ours - theirs).abs() <= 1e-8 * theirs.abs().max(1.0), "{ours} is not {theirs}");
    }

    #[test]
    fn the_effect_is_that_of_the_reference_implementation() {
        let oracle: Oracle =
            serde_json::from_str(include_str!("../../../tests/data/statistics.json")).unwrap();
        assert!(oracle.responses.len() >= 4);
        for case in &oracle.responses {
            let (ours, theirs) = (regression(case).effect().unwrap(), &case.expected);
            near(ours.slope.value, theirs.slope);
            near(ours.slope.standard_error, theirs.error);
            near(ours.r, theirs.r);
            near(ours.strongest_lag_r, theirs.lag_r);
            assert_eq!((ours.strongest_lag, ours.informative_days), (theirs.lag, theirs.informative));
            assert_eq!(ours.quarter_hours, case.quarters.len() as u64);
            near(ours.slope.degrees_of_freedom, theirs.informative as f64 - 1.0);
        }
    }

    /// Days with 60 bpm before a dose at 08:00, and a rise an hour later.
    fn mornings(rises: &[f64]) -> WithinDayRegression {
        let mut days = WithinDayRegression::default();
        for rise in rises {
            days.push(28, 60.0, &[0.0; LAGS]);
            days.push(36, 60.0 + rise, &[90.0; LAGS]);
            days.end_day();
        }
        days
    }

    #[test]
    fn an_effect_of_the_hour_is_not_attributed_to_coffee() {
        let slope = |rise: f64| mornings(&[rise; 10]).effect().unwrap().slope;
        // The dose is always at 08:00: the daily rhythm may explain a small rise, not a large one.
        assert!(slope(2.0).p() > 0.3 && slope(15.0).p() < 0.001);
        // More such mornings add no evidence.
        assert!(mornings(&[2.0; 1000]).effect().unwrap().slope.p() > 0.3);
    }

    #[test]
    fn one_day_or_one_day_with_caffeine_gives_no_effect() {
        assert_eq!(WithinDayRegression::default().effect(), None);
        assert_eq!(mornings(&[5.0]).effect(), None);
        let mut days = mornings(&[5.0]);
        for _ in 0..20 {
            days.push(28, 60.0, &[0.0; LAGS]);
            days.push(36, 61.0, &[0.0; LAGS]);
            days.end_day();
        }
        assert_eq!(days.effect(), None);
        // A day with a single quarter has nothing to compare.
        let mut days = WithinDayRegression::default();
        for _ in 0..20 {
            days.push(28, 60.0, &[50.0; LAGS]);
            days.end_day();
        }
        assert_eq!(days.effect(), None);
    }
}
