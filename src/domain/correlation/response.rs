//! How the pulse answers to caffeine: a regression over quarters of an hour, judged by days.
//!
//! pulse = the day's own level + the daily rhythm + slope × caffeine + what is left.
//!
//! - **The day's own level** takes out what differs from day to day: sleep, weather, a cold.
//! - **The daily rhythm** is that of the first two harmonics of 24 hours, as fitted to wearables by
//!   Natarajan et al. (2025), doi:10.1080/07420528.2024.2446622. Who always drinks at eight cannot
//!   tell the coffee from the hour: so the rhythm is held to what hearts do (its coefficients have a
//!   deviation of [`RHYTHM_BPM`]; a ridge), and what it may do counts as uncertainty of the slope.
//! - **What is left** repeats itself from one quarter to the next. So the slope is judged by days,
//!   which are left out in turn: the cluster jackknife, CV3J of MacKinnon, Nielsen & Webb (2023),
//!   doi:10.1016/j.jeconom.2022.04.001. Ten days with coffee among a hundred without are ten.
//!
//! It only sees numbers: which readings take part, and which day a quarter belongs to, is decided in
//! `quarters`.

use std::f64::consts::TAU;

use crate::domain::t_distribution::Estimate;

/// QuarterHours of an hour in a day.
pub const QUARTERS: usize = 96;
/// How many quarters of an hour the pulse may lag behind the caffeine: from 0 to 6 hours.
pub const LAGS: usize = 25;
/// The deviation of the rhythm's coefficients, by harmonic, in beats per minute: a swing of some
/// 4 over the day, and half of that twice a day. Our assumption; with a week of readings from
/// morning to night it no longer matters.
pub const RHYTHM_BPM: [f64; 2] = [3.0, 1.5];

/// The rhythm's columns: cosine and sine of each harmonic.
const RHYTHM: usize = 2 * RHYTHM_BPM.len();
/// All columns: the caffeine, the rhythm, the pulse.
const COLUMNS: usize = RHYTHM + 2;
const CAFFEINE: usize = 0;
const PULSE: usize = COLUMNS - 1;
/// The variance of a rounded pulse: less is never left over.
const ROUNDING: f64 = 1.0 / 12.0;

type Columns = [f64; COLUMNS];
/// QuarterSums of products of columns, of which only the symmetric whole makes sense.
type CrossProducts = [Columns; COLUMNS];
type Harmonics = [f64; RHYTHM];

/// What the pulse does when caffeine is there.
#[derive(Clone, Debug, PartialEq)]
pub struct PulseResponse {
    /// Beats per minute for 100 mg of active caffeine.
    pub bpm_per_100_mg: Estimate,
    /// How closely the pulse follows, day and rhythm apart: the partial correlation, and the ends of
    /// the slope's 95 % interval as such.
    pub r: f64,
    pub r_interval: (f64, f64),
    /// WithinDayRegression with at least two quarters of an hour.
    pub days: usize,
    /// Those of them that tell something, as caffeine came or went.
    pub telling_days: usize,
    /// QuarterHours of an hour.
    pub quarters: u64,
    /// The lag in quarters of an hour at which the pulse follows most closely, and its r there.
    pub lag: usize,
    pub lag_r: f64,
}

/// Gathers quarters of an hour, day by day.
#[derive(Debug)]
pub struct WithinDayRegression {
    harmonics: Vec<Harmonics>,
    /// Each ended day's products about its means.
    ended: Vec<CrossProducts>,
    total: CrossProducts,
    /// For each lag the caffeine's row of `total`.
    lagged: [Columns; LAGS],
    quarters: u64,
    open: OpenDay,
}

/// Plain sums over the day that still goes on.
#[derive(Clone, Debug, Default)]
struct OpenDay {
    count: u64,
    sums: Columns,
    products: CrossProducts,
    lagged_sums: [f64; LAGS],
    /// By column, as they are summed over all lags at once.
    lagged: [[f64; LAGS]; COLUMNS],
}

/// A slope, and what it takes to judge it.
struct Fit {
    slope: f64,
    /// What the slope takes from the pulse and from each column of the rhythm: the weights that turn
    /// the caffeine's column into what the rhythm does not explain.
    caffeine: Harmonics,
    /// The caffeine's sum of squares that the (held) rhythm does not explain.
    unexplained: f64,
    /// The pulse's sum of squares that is left.
    left: f64,
}

impl Default for WithinDayRegression {
    fn default() -> Self {
        Self {
            harmonics: (0..QUARTERS).map(harmonics).collect(),
            ended: Vec::new(),
            total: CrossProducts::default(),
            lagged: [Columns::default(); LAGS],
            quarters: 0,
            open: OpenDay::default(),
        }
    }
}

/// The rhythm's columns in the middle of a quarter of an hour, counted from midnight.
fn harmonics(quarter: usize) -> Harmonics {
    let angle = |harmonic: usize| TAU * harmonic as f64 * (quarter as f64 + 0.5) / QUARTERS as f64;
    std::array::from_fn(|n| {
        let angle = angle(n / 2 + 1);
        if n % 2 == 0 { angle.cos() } else { angle.sin() }
    })
}

/// The variance that a rhythm's coefficient is held to.
fn prior_variance(column: usize) -> f64 {
    RHYTHM_BPM[column / 2] * RHYTHM_BPM[column / 2]
}

impl WithinDayRegression {
    /// Takes the next quarter of an hour: which of its day (0 to 95), the mean pulse, the mean mg of
    /// active caffeine at its readings, and those of the quarters that lie 0, 1, 2 … before.
    pub fn push(&mut self, of_day: usize, bpm: f64, mg: f64, lagged_mg: &[f64; LAGS]) {
        let Some(harmonics) = self.harmonics.get(of_day) else { return };
        let mut row = Columns::default();
        row[CAFFEINE] = mg / 100.0;
        row[1..PULSE].copy_from_slice(harmonics);
        row[PULSE] = bpm;
        let open = &mut self.open;
        open.count += 1;
        for (column, value) in row.iter().enumerate() {
            open.sums[column] += value;
            for (product, other) in open.products[column].iter_mut().zip(&row) {
                *product += value * other;
            }
        }
        let lagged: [f64; LAGS] = lagged_mg.map(|mg| mg / 100.0);
        for (sum, mg) in open.lagged_sums.iter_mut().zip(&lagged) {
            *sum += mg;
        }
        for (products, value) in open.lagged.iter_mut().zip(&row).skip(1) {
            for (product, mg) in products.iter_mut().zip(&lagged) {
                *product += mg * value;
            }
        }
        for (product, mg) in open.lagged[CAFFEINE].iter_mut().zip(&lagged) {
            *product += mg * mg;
        }
    }

    /// Ends the day: the next quarter of an hour belongs to another.
    pub fn end_day(&mut self) {
        let open = std::mem::take(&mut self.open);
        if open.count < 2 {
            return;
        }
        let count = open.count as f64;
        let mut products = open.products;
        for (row, sum) in products.iter_mut().zip(&open.sums) {
            row.iter_mut().zip(&open.sums).for_each(|(product, other)| *product -= sum * other / count);
        }
        for (lag, sum) in open.lagged_sums.iter().enumerate() {
            let total = &mut self.lagged[lag];
            total[CAFFEINE] += open.lagged[CAFFEINE][lag] - sum * sum / count;
            for ((total, products), other) in total.iter_mut().zip(&open.lagged).zip(&open.sums).skip(1) {
                *total += products[lag] - sum * other / count;
            }
        }
        for (total, row) in self.total.iter_mut().zip(&products) {
            total.iter_mut().zip(row).for_each(|(total, product)| *total += product);
        }
        self.quarters += open.count;
        self.ended.push(products);
    }

    /// What the pulse does when caffeine is there; `None` when the days cannot tell: fewer than two,
    /// or caffeine on one of them only.
    pub fn response(mut self) -> Option<PulseResponse> {
        self.end_day();
        let days = self.ended.len();
        let free = self.quarters.checked_sub(days as u64).filter(|free| *free > 0)? as f64;
        // Holding the rhythm takes the variance of what is left, which takes the fit.
        let mut variance = (self.total[PULSE][PULSE] / free).max(ROUNDING);
        for _ in 0..10 {
            variance = (fit(&self.total, variance)?.left / free).max(ROUNDING);
        }
        let whole = fit(&self.total, variance)?;
        let slope = self.judge(&whole, variance)?;
        let spread = |slope: f64| {
            let explained = slope * whole.unexplained.sqrt();
            explained / explained.hypot(whole.left.sqrt())
        };
        let (low, high) = slope.interval();
        let (lag, lag_r) = self.strongest_lag(variance);
        Some(PulseResponse {
            bpm_per_100_mg: slope,
            r: spread(slope.value),
            r_interval: (spread(low), spread(high)),
            days,
            telling_days: self.informative(),
            quarters: self.quarters,
            lag,
            lag_r,
        })
    }

    /// The slope with its error: what it varies by when a day is left out, and what the rhythm may do.
    fn judge(&self, whole: &Fit, variance: f64) -> Option<Estimate> {
        let days = self.ended.len() as f64;
        let (mut sum, mut squares) = (0.0, 0.0);
        for day in &self.ended {
            let mut others = self.total;
            for (row, day) in others.iter_mut().zip(day) {
                row.iter_mut().zip(day).for_each(|(other, product)| *other -= product);
            }
            let distance = fit(&others, variance)?.slope - whole.slope;
            sum += distance;
            squares += distance * distance;
        }
        let by_days = (days - 1.0) / days * (squares - sum * sum / days).max(0.0);
        let by_rhythm: f64 = (whole.caffeine.iter().enumerate())
            .map(|(n, weight)| (weight / whole.unexplained * variance).powi(2) / prior_variance(n))
            .sum();
        Some(Estimate {
            value: whole.slope,
            standard_error: (by_days + by_rhythm).sqrt(),
            degrees_of_freedom: (self.informative() as f64 - 1.0).max(1.0),
        })
    }

    /// On how many days caffeine varied, at least a tenth as much as on the average day.
    fn informative(&self) -> usize {
        let least = self.total[CAFFEINE][CAFFEINE] / self.ended.len() as f64 / 10.0;
        self.ended.iter().filter(|day| day[CAFFEINE][CAFFEINE] > least).count()
    }

    fn strongest_lag(&self, variance: f64) -> (usize, f64) {
        let mut strongest = (0, 0.0_f64);
        for (lag, row) in self.lagged.iter().enumerate() {
            let mut total = self.total;
            for column in 0..COLUMNS {
                total[CAFFEINE][column] = row[column];
                total[column][CAFFEINE] = row[column];
            }
            let Some(fit) = fit(&total, variance) else { continue };
            let explained = fit.slope * fit.unexplained.sqrt();
            let r = explained / explained.hypot(fit.left.sqrt());
            if r.abs() > strongest.1.abs() {
                strongest = (lag, r);
            }
        }
        strongest
    }
}

/// The least squares fit with the rhythm held, for noise of this variance; `None` when the caffeine
/// does not vary beyond the day's level and the rhythm.
fn fit(products: &CrossProducts, variance: f64) -> Option<Fit> {
    let mut rhythm = [[0.0; RHYTHM]; RHYTHM];
    for (n, row) in rhythm.iter_mut().enumerate() {
        row.copy_from_slice(&products[n + 1][1..PULSE]);
        row[n] += variance / prior_variance(n);
    }
    let column = |of: usize| std::array::from_fn(|n| products[n + 1][of]);
    let (of_caffeine, of_pulse): (Harmonics, Harmonics) = (column(CAFFEINE), column(PULSE));
    let caffeine = solve(rhythm, of_caffeine)?;
    let along = |with: &Harmonics| caffeine.iter().zip(with).map(|(a, b)| a * b).sum::<f64>();
    let unexplained = products[CAFFEINE][CAFFEINE] - along(&of_caffeine);
    if unexplained.is_nan() || unexplained <= products[CAFFEINE][CAFFEINE] * 1e-9 + 1e-12 {
        return None;
    }
    let slope = (products[CAFFEINE][PULSE] - along(&of_pulse)) / unexplained;
    let without: Harmonics = std::array::from_fn(|n| of_pulse[n] - slope * of_caffeine[n]);
    let mut residual = Columns::default();
    residual[CAFFEINE] = -slope;
    residual[1..PULSE].iter_mut().zip(solve(rhythm, without)?).for_each(|(weight, of)| *weight = -of);
    residual[PULSE] = 1.0;
    Some(Fit { slope, caffeine, unexplained, left: quadratic(products, &residual).max(0.0) })
}

/// wᵀ·M·w.
fn quadratic(products: &CrossProducts, weights: &Columns) -> f64 {
    let row = |row: &Columns| row.iter().zip(weights).map(|(product, weight)| product * weight).sum::<f64>();
    products.iter().zip(weights).map(|(products, weight)| weight * row(products)).sum()
}

/// Solves a symmetric positive definite system by elimination, which needs no pivoting there.
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
        informative: usize,
        r: f64,
        lag: usize,
        lag_r: f64,
    }

    fn gathered(case: &Case) -> WithinDayRegression {
        let mut days = WithinDayRegression::default();
        for quarters in case.quarters.chunk_by(|a, b| a.day == b.day) {
            for quarter in quarters {
                let mut lagged: [f64; LAGS] =
                    std::array::from_fn(|lag| case.levels[quarter.at + LAGS - 1 - lag]);
                lagged[0] = quarter.mg;
                days.push(quarter.of_day, quarter.bpm, quarter.mg, &lagged);
            }
            days.end_day();
        }
        days
    }

    fn near(ours: f64, theirs: f64) {
        assert!((ours - theirs).abs() <= 1e-8 * theirs.abs().max(1.0), "{ours} is not {theirs}");
    }

    #[test]
    fn the_response_is_that_of_the_oracle() {
        let oracle: Oracle =
            serde_json::from_str(include_str!("../../../tests/data/statistics.json")).unwrap();
        assert!(oracle.responses.len() >= 4);
        for case in &oracle.responses {
            let (ours, theirs) = (gathered(case).response().unwrap(), &case.expected);
            near(ours.bpm_per_100_mg.value, theirs.slope);
            near(ours.bpm_per_100_mg.standard_error, theirs.error);
            near(ours.r, theirs.r);
            near(ours.lag_r, theirs.lag_r);
            assert_eq!((ours.lag, ours.telling_days), (theirs.lag, theirs.informative));
            assert_eq!(ours.quarters, case.quarters.len() as u64);
            near(ours.bpm_per_100_mg.degrees_of_freedom, theirs.informative as f64 - 1.0);
        }
    }

    /// WithinDayRegression with a pulse of 60 before a dose at eight, and so much more an hour after.
    fn mornings(rises: &[f64]) -> WithinDayRegression {
        let mut days = WithinDayRegression::default();
        for rise in rises {
            days.push(28, 60.0, 0.0, &[0.0; LAGS]);
            days.push(36, 60.0 + rise, 90.0, &[90.0; LAGS]);
            days.end_day();
        }
        days
    }

    #[test]
    fn what_the_hour_alone_may_do_is_not_put_down_to_coffee() {
        let slope = |rise: f64| mornings(&[rise; 10]).response().unwrap().bpm_per_100_mg;
        // Always at eight: a small rise may be the morning's, a large one is not.
        assert!(slope(2.0).p() > 0.3 && slope(15.0).p() < 0.001);
        // And however many such mornings there are, they cannot tell.
        assert!(mornings(&[2.0; 1000]).response().unwrap().bpm_per_100_mg.p() > 0.3);
    }

    #[test]
    fn a_day_or_caffeine_on_one_day_only_tells_nothing() {
        assert_eq!(WithinDayRegression::default().response(), None);
        assert_eq!(mornings(&[5.0]).response(), None);
        let mut days = mornings(&[5.0]);
        for _ in 0..20 {
            days.push(28, 60.0, 0.0, &[0.0; LAGS]);
            days.push(36, 61.0, 0.0, &[0.0; LAGS]);
            days.end_day();
        }
        assert_eq!(days.response(), None);
        // WithinDayRegression with a single quarter have nothing to compare.
        let mut days = WithinDayRegression::default();
        for _ in 0..20 {
            days.push(28, 60.0, 50.0, &[50.0; LAGS]);
            days.end_day();
        }
        assert_eq!(days.response(), None);
    }
}
