//! Statistics of a correlation, as they are returned, and the verdict.
//!
//! Values of one day are similar, so each of the three uncertainties treats days as clusters:
//!
//! - **Mean increase:** a jackknife over days, see [`mean_by_groups`].
//! - **Dose and increase:** the textbook intervals of `association`, with the number of pairs divided by a
//!   design effect.
//! - **Effect of caffeine:** the cluster jackknife CV3J of `regression`, which refits the model without each
//!   day in turn, plus the uncertainty of the daily rhythm. Its p-value alone decides the verdict.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::association::{Association, pearson, spearman};
use crate::domain::correlation::pairs::PairTotals;
use crate::domain::correlation::regression::CaffeineEffect;
use crate::domain::estimate::{Estimate, jackknife_variance};
use crate::domain::statistics::{round2, round3};

/// Contexts whose readings are excluded by default: in them something stronger than coffee is at work; sleep
/// would also be the low baseline of the first coffee of a day. `sql/correlation_readings.sql` depends on
/// their number and order.
pub const EXCLUDED_CONTEXTS: [&str; 5] = ["active", "exercise", "panic", "sleeping", "stressed"];

/// Strength of the evidence that caffeine changes the heart rate, from the p-value of
/// `statistics.response`. The words are those of Muff et al. (2022), doi:10.1016/j.tree.2021.10.009, one
/// step stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// p ≥ 0.05, or no `statistics.response`. Without any pair there is no verdict at all.
    #[serde(rename = "no evidence")]
    NoEvidence,
    /// p < 0.05.
    Weak,
    /// p < 0.01.
    Moderate,
    /// p < 0.001.
    Strong,
}

/// Statistics of a correlation. Beats per minute have 2 decimals, r has 3, p has 3 significant digits.
/// Intervals are 95% confidence intervals: lower end, upper end.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CorrelationStatistics {
    // The API's name of the excluded contexts.
    /// Contexts whose readings were excluded; empty when `context` was given.
    #[schema(value_type = Vec<String>)]
    pub left_out_contexts: &'static [&'static str],
    /// Mean increase over the pairs with a baseline, whatever its cause. Null without such a pair.
    #[schema(required)]
    pub increase: Option<HeartRateIncrease>,
    /// Correlation of dose and increase over the same pairs.
    pub dose_and_increase: DoseAndIncrease,
    /// Response of the heart rate to the modelled caffeine, adjusted for day and time of day; the basis of
    /// the verdict. Null when too few days have both readings and caffeine, or when day and time of day
    /// explain the caffeine completely.
    #[schema(required)]
    pub response: Option<HeartRateResponse>,
    /// The verdict as a sentence.
    pub explanation: String,
}

/// Increase of the heart rate after a coffee. The unit of analysis is the pair; the uncertainty is clustered
/// by day, because coffees of one day may share readings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct HeartRateIncrease {
    /// Number of pairs with a baseline.
    #[schema(minimum = 1)]
    pub pairs: usize,
    /// Number of days with such a pair.
    #[schema(minimum = 1)]
    pub days: usize,
    /// Beats per minute.
    pub mean_bpm: f64,
    /// Null with a single day, like the fields below.
    #[schema(required)]
    pub interval_bpm: Option<[f64; 2]>,
    /// t statistic; with one pair a day, that of the paired t-test. Also null when the standard error is 0.
    #[schema(required)]
    pub t: Option<f64>,
    /// Number of days minus 1.
    #[schema(required, minimum = 1)]
    pub degrees_of_freedom: Option<f64>,
    /// Two-sided p-value for no increase.
    #[schema(required, minimum = 0, maximum = 1)]
    pub p: Option<f64>,
}

/// Correlation of dose and increase.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct DoseAndIncrease {
    /// Pearson's r; null when all doses or all increases are equal.
    #[schema(required)]
    pub pearson: Option<CorrelationCoefficient>,
    /// Spearman's rank correlation, which is robust to outliers.
    #[schema(required)]
    pub spearman: Option<CorrelationCoefficient>,
}

/// Correlation coefficient with its uncertainty, rounded for the response.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct CorrelationCoefficient {
    #[schema(minimum = -1, maximum = 1)]
    pub r: f64,
    /// Null with too few pairs or a single day.
    #[schema(required)]
    pub interval: Option<[f64; 2]>,
    /// Two-sided p-value for r = 0.
    #[schema(required, minimum = 0, maximum = 1)]
    pub p: Option<f64>,
    /// Effective number of independent pairs, as pairs of one day are similar.
    #[schema(minimum = 0)]
    pub effective_pairs: f64,
}

/// Response of the heart rate to caffeine, rounded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct HeartRateResponse {
    /// Beats per minute for 100 mg of active caffeine.
    pub bpm_per_100_mg: f64,
    pub interval_bpm_per_100_mg: [f64; 2],
    /// Null when the standard error is 0.
    #[schema(required)]
    pub t: Option<f64>,
    /// `telling_days` minus 1, at least 1.
    #[schema(minimum = 1)]
    pub degrees_of_freedom: f64,
    /// Two-sided p-value for no response.
    #[schema(minimum = 0, maximum = 1)]
    pub p: f64,
    /// Partial correlation of heart rate and active caffeine at the same time.
    #[schema(minimum = -1, maximum = 1)]
    pub r: f64,
    pub r_interval: [f64; 2],
    /// Delay between caffeine and heart rate, up to 6 hours, with the strongest correlation. Meaningless
    /// without evidence.
    #[schema(minimum = 0, maximum = 6)]
    pub strongest_lag_hours: f64,
    #[schema(minimum = -1, maximum = 1)]
    pub r_at_strongest_lag: f64,
    /// Number of quarters of an hour with readings, on days with at least two.
    #[schema(minimum = 2)]
    pub quarter_hours: u64,
    /// Number of days with at least two such quarters.
    #[schema(minimum = 2)]
    pub days: usize,
    /// Number of those `days` on which caffeine varied noticeably: the sum of squares about the day's mean
    /// exceeds a tenth of the average over the days.
    // The API's name of the informative days.
    #[schema(minimum = 1)]
    pub telling_days: usize,
}

/// Returns the verdict and the statistics. `excluded_contexts` are those whose readings were excluded.
pub fn evaluate(
    totals: &PairTotals,
    effect: Option<&CaffeineEffect>,
    excluded_contexts: &'static [&'static str],
) -> (Verdict, CorrelationStatistics) {
    let (doses, increases, days) =
        (&totals.doses_with_baseline, &totals.increases, &totals.pairs_with_baseline_by_day);
    let verdict = Verdict::of(effect.map(|effect| effect.slope));
    let statistics = CorrelationStatistics {
        left_out_contexts: excluded_contexts,
        increase: increase(increases, days),
        dose_and_increase: DoseAndIncrease {
            pearson: pearson(doses, increases, days).map(CorrelationCoefficient::from),
            spearman: spearman(doses, increases, days).map(CorrelationCoefficient::from),
        },
        response: effect.map(HeartRateResponse::from),
        explanation: explain(verdict, effect),
    };
    (verdict, statistics)
}

/// Estimates the mean of values in consecutive groups of the given sizes, with a jackknife over groups.
/// With one value in each group this is the one-sample t-test. `None` with fewer than two groups.
pub fn mean_by_groups(values: &[f64], groups: &[usize]) -> Option<Estimate> {
    if groups.len() < 2 {
        return None;
    }
    let (count, sum) = (values.len() as f64, values.iter().sum::<f64>());
    let (mut changes, mut rest) = (Vec::with_capacity(groups.len()), values);
    for &size in groups {
        let (group, others) = rest.split_at_checked(size)?;
        changes.push((sum - group.iter().sum::<f64>()) / (count - size as f64) - sum / count);
        rest = others;
    }
    Some(Estimate {
        value: sum / count,
        standard_error: jackknife_variance(&changes).sqrt(),
        degrees_of_freedom: groups.len() as f64 - 1.0,
    })
}

fn increase(increases: &[f64], days: &[usize]) -> Option<HeartRateIncrease> {
    let pairs = increases.len();
    if pairs == 0 {
        return None;
    }
    let estimate = mean_by_groups(increases, days);
    Some(HeartRateIncrease {
        pairs,
        days: days.len(),
        mean_bpm: round2(increases.iter().sum::<f64>() / pairs as f64),
        interval_bpm: estimate.map(|e| round_interval(e.interval(), round2)),
        t: estimate.and_then(|e| e.t()).map(round2),
        degrees_of_freedom: estimate.map(|e| round2(e.degrees_of_freedom)),
        p: estimate.map(|e| round_p(e.p())),
    })
}

impl From<Association> for CorrelationCoefficient {
    fn from(association: Association) -> Self {
        Self {
            r: round3(association.r),
            interval: association.interval.map(|interval| round_interval(interval, round3)),
            p: association.p.map(round_p),
            effective_pairs: round2(association.effective),
        }
    }
}

impl From<&CaffeineEffect> for HeartRateResponse {
    fn from(effect: &CaffeineEffect) -> Self {
        let slope = effect.slope;
        Self {
            bpm_per_100_mg: round2(slope.value),
            interval_bpm_per_100_mg: round_interval(slope.interval(), round2),
            t: slope.t().map(round2),
            degrees_of_freedom: round2(slope.degrees_of_freedom),
            p: round_p(slope.p()),
            r: round3(effect.r),
            r_interval: round_interval(effect.r_interval, round3),
            strongest_lag_hours: effect.strongest_lag as f64 / 4.0,
            r_at_strongest_lag: round3(effect.strongest_lag_r),
            quarter_hours: effect.quarter_hours,
            days: effect.days,
            telling_days: effect.informative_days,
        }
    }
}

impl Verdict {
    /// Returns the verdict for an estimated effect, [`Verdict::NoEvidence`] without one.
    pub fn of(slope: Option<Estimate>) -> Self {
        match slope.map_or(1.0, |slope| slope.p()) {
            p if p < 0.001 => Self::Strong,
            p if p < 0.01 => Self::Moderate,
            p if p < 0.05 => Self::Weak,
            _ => Self::NoEvidence,
        }
    }
}

fn explain(verdict: Verdict, effect: Option<&CaffeineEffect>) -> String {
    let Some(effect) = effect else {
        // Also when day and rhythm explain the caffeine completely: more, different days help then, too.
        return "Not enough days with both caffeine and heart-rate readings.".into();
    };
    let (low, high) = effect.slope.interval();
    let condition = format!("bpm per 100 mg (95% confidence, {} days)", effect.days);
    let evidence = match verdict {
        Verdict::NoEvidence => {
            return format!(
                "No evidence that caffeine changes your heart rate. \
                 The effect is between {low:.1} and {high:.1} {condition}."
            );
        }
        Verdict::Weak => "Weak",
        Verdict::Moderate => "Moderate",
        Verdict::Strong => "Strong",
    };
    let change = if effect.slope.value < 0.0 { "lowers" } else { "raises" };
    format!("{evidence} evidence that caffeine {change} your heart rate: {low:.1} to {high:.1} {condition}.")
}

fn round_interval((low, high): (f64, f64), round: fn(f64) -> f64) -> [f64; 2] {
    [round(low), round(high)]
}

/// Rounds to three significant digits, so that a p-value of 0.0000123 does not become 0.
fn round_p(p: f64) -> f64 {
    if p <= 0.0 {
        return 0.0;
    }
    format!("{p:.2e}").parse().unwrap_or(p)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Oracle {
        samples: Vec<Sample>,
        groups: Vec<Groups>,
    }

    #[derive(Deserialize)]
    struct Sample {
        y: Vec<f64>,
        paired: Paired,
    }

    #[derive(Deserialize)]
    struct Paired {
        mean: f64,
        low: f64,
        high: f64,
        t: f64,
        p: f64,
    }

    #[derive(Deserialize)]
    struct Groups {
        sizes: Vec<usize>,
        values: Vec<f64>,
        mean: f64,
        error: f64,
    }

    fn near(ours: f64, theirs: f64) {
        assert!((ours - theirs).abs() <= theirs.abs() * 1e-9, "{ours} instead of {theirs}");
    }

    #[test]
    fn a_mean_by_groups_is_that_of_the_reference_implementation() {
        let oracle: Oracle =
            serde_json::from_str(include_str!("../../../tests/data/statistics.json")).unwrap();
        // One value a day: the paired t test.
        for Sample { y, paired } in oracle.samples {
            let ours = mean_by_groups(&y, &vec![1; y.len()]).unwrap();
            near(ours.value, paired.mean);
            near(ours.interval().0, paired.low);
            near(ours.interval().1, paired.high);
            near(ours.t().unwrap(), paired.t);
            near(ours.p(), paired.p);
        }
        // Several values a day: the jackknife over days.
        for Groups { sizes, values, mean, error } in oracle.groups {
            let ours = mean_by_groups(&values, &sizes).unwrap();
            near(ours.value, mean);
            near(ours.standard_error, error);
            near(ours.degrees_of_freedom, sizes.len() as f64 - 1.0);
        }
        assert_eq!(mean_by_groups(&[1.0, 2.0], &[2]), None);
    }

    #[test]
    fn the_verdict_depends_on_the_p_value() {
        let verdict =
            |t: f64| Verdict::of(Some(Estimate { value: t, standard_error: 1.0, degrees_of_freedom: 29.0 }));
        // Two-sided quantiles of t with 29 degrees of freedom: 2.045, 2.756, 3.659.
        for (t, expected) in [
            (0.0, Verdict::NoEvidence),
            (2.04, Verdict::NoEvidence),
            (2.05, Verdict::Weak),
            (-2.05, Verdict::Weak),
            (2.76, Verdict::Moderate),
            (-3.65, Verdict::Moderate),
            (3.66, Verdict::Strong),
        ] {
            assert_eq!(verdict(t), expected, "{t}");
        }
        assert_eq!(Verdict::of(None), Verdict::NoEvidence);
    }

    #[test]
    fn verdicts_are_serialized_as_in_the_api_contract() {
        let all = [Verdict::NoEvidence, Verdict::Weak, Verdict::Moderate, Verdict::Strong];
        let written = serde_json::to_value(all).unwrap();
        assert_eq!(written, serde_json::json!(["no evidence", "weak", "moderate", "strong"]));
    }

    #[test]
    fn p_values_are_rounded_to_three_significant_digits() {
        for (p, rounded) in
            [(0.0, 0.0), (1.0, 1.0), (0.049_96, 0.05), (0.012_345, 0.0123), (1.239e-20, 1.24e-20)]
        {
            assert_eq!(round_p(p), rounded);
        }
    }
}
