//! What the figures say: of the pairs, of the pulse's answer to caffeine, and in one word.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::association::{Association, pearson, spearman};
use crate::domain::correlation::pairs::PairTotals;
use crate::domain::correlation::response::PulseResponse;
use crate::domain::statistics::round2;
use crate::domain::t_distribution::Estimate;

/// Readings of these contexts are left out unless they are asked for: something other than coffee
/// moves the pulse then, and further. Sleep is among them, as a first cup follows it.
pub const EXCLUDED_CONTEXTS: [&str; 5] = ["active", "exercise", "panic", "sleeping", "stressed"];

/// How much speaks for the pulse having to do with caffeine: the p of `statistics.response`, in the
/// language of evidence of Muff et al. (2022), doi:10.1016/j.tree.2021.10.009, one step stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// p is 0.05 or more, or there is too little to tell.
    #[serde(rename = "no evidence")]
    NoEvidence,
    /// p < 0.05.
    Weak,
    /// p < 0.01.
    Moderate,
    /// p < 0.001.
    Strong,
}

/// How sure the figures are. Beats per minute have 2 decimals, r has 3, p has 3 digits; an interval is
/// the 95 % confidence interval, from its lower to its upper end.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CorrelationStatistics {
    /// Contexts whose readings were left out, here and in the pairs; none when `context` was asked for.
    #[schema(value_type = Vec<String>)]
    pub left_out_contexts: &'static [&'static str],
    /// Over the pairs with a baseline: the pulse after a coffee less the pulse before it, whatever the
    /// reason. Null without such a pair.
    #[schema(required)]
    pub increase: Option<HeartRateIncrease>,
    /// Of dose against increase, over the same pairs.
    pub dose_and_increase: DoseAndIncrease,
    /// Over quarters of an hour: what the pulse does when there is caffeine in the body, by the model, with
    /// what differs from day to day and from hour to hour taken out. The verdict goes by it. Null when
    /// too few days have both.
    #[schema(required)]
    pub response: Option<HeartRateResponse>,
    /// The verdict in a sentence.
    pub explanation: String,
}

/// How much faster the heart beats after a coffee. Coffees of one day may share readings, so it is judged by days.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct HeartRateIncrease {
    #[schema(minimum = 1)]
    pub pairs: usize,
    /// On how many days.
    #[schema(minimum = 1)]
    pub days: usize,
    /// Beats per minute.
    pub mean_bpm: f64,
    /// Null with a single day, as all that follows.
    #[schema(required)]
    pub interval_bpm: Option<[f64; 2]>,
    /// The paired t; null also when all days are alike.
    #[schema(required)]
    pub t: Option<f64>,
    /// WithinDayRegression less 1.
    #[schema(required, minimum = 1)]
    pub degrees_of_freedom: Option<f64>,
    /// Of no increase.
    #[schema(required, minimum = 0, maximum = 1)]
    pub p: Option<f64>,
}

/// Do larger doses go with larger increases?
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct DoseAndIncrease {
    /// Null when doses or increases do not vary.
    #[schema(required)]
    pub pearson: Option<CorrelationCoefficient>,
    /// Of the ranks: few odd pairs do not matter.
    #[schema(required)]
    pub spearman: Option<CorrelationCoefficient>,
}

/// A correlation coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct CorrelationCoefficient {
    #[schema(minimum = -1, maximum = 1)]
    pub r: f64,
    /// Null with too few pairs or a single day.
    #[schema(required)]
    pub interval: Option<[f64; 2]>,
    #[schema(required, minimum = 0, maximum = 1)]
    pub p: Option<f64>,
    /// For so many independent pairs they count, as those of one day are alike.
    #[schema(minimum = 0)]
    pub effective_pairs: f64,
}

/// How the pulse answers to caffeine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct HeartRateResponse {
    /// Beats per minute for 100 mg of active caffeine.
    pub bpm_per_100_mg: f64,
    pub interval_bpm_per_100_mg: [f64; 2],
    #[schema(required)]
    pub t: Option<f64>,
    #[schema(minimum = 1)]
    pub degrees_of_freedom: f64,
    /// Of no answer at all.
    #[schema(minimum = 0, maximum = 1)]
    pub p: f64,
    /// Of the pulse against the modelled mg at that moment: the partial correlation.
    #[schema(minimum = -1, maximum = 1)]
    pub r: f64,
    pub r_interval: [f64; 2],
    /// So long after the caffeine, within 6 hours, the pulse follows it most closely. Means little
    /// without evidence.
    #[schema(minimum = 0, maximum = 6)]
    pub strongest_lag_hours: f64,
    #[schema(minimum = -1, maximum = 1)]
    pub r_at_strongest_lag: f64,
    #[schema(minimum = 2)]
    pub quarter_hours: u64,
    #[schema(minimum = 2)]
    pub days: usize,
    /// Those of them that tell something, as caffeine came or went.
    #[schema(minimum = 1)]
    pub telling_days: usize,
}

/// The figures and what they say. `left_out`: the contexts whose readings are not in them.
pub fn judge(
    totals: &PairTotals,
    response: Option<&PulseResponse>,
    left_out: &'static [&'static str],
) -> (Verdict, CorrelationStatistics) {
    let (doses, increases, days) = (&totals.doses, &totals.increases, &totals.pairs_by_day);
    let verdict = Verdict::of(response.map(|response| response.bpm_per_100_mg));
    let statistics = CorrelationStatistics {
        left_out_contexts: left_out,
        increase: increase(increases, days),
        dose_and_increase: DoseAndIncrease {
            pearson: pearson(doses, increases, days).map(CorrelationCoefficient::from),
            spearman: spearman(doses, increases, days).map(CorrelationCoefficient::from),
        },
        response: response.map(HeartRateResponse::from),
        explanation: explain(verdict, response),
    };
    (verdict, statistics)
}

/// The mean of values that come in consecutive groups of these sizes, judged by leaving each group out
/// in turn (the cluster jackknife). With one value in each it is the textbook's t. `None` with fewer
/// than two groups.
pub fn mean_by_groups(values: &[f64], groups: &[usize]) -> Option<Estimate> {
    if groups.len() < 2 {
        return None;
    }
    let (count, sum) = (values.len() as f64, values.iter().sum::<f64>());
    let (mut distances, mut squares, mut rest) = (0.0, 0.0, values);
    for &size in groups {
        let (group, others) = rest.split_at_checked(size)?;
        let size = size as f64;
        // Of the mean without this group from the mean of all.
        let distance = (sum - group.iter().sum::<f64>()) / (count - size) - sum / count;
        distances += distance;
        squares += distance * distance;
        rest = others;
    }
    let groups = groups.len() as f64;
    let variance = (groups - 1.0) / groups * (squares - distances * distances / groups).max(0.0);
    Some(Estimate { value: sum / count, standard_error: variance.sqrt(), degrees_of_freedom: groups - 1.0 })
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
        interval_bpm: estimate.map(|e| both(e.interval(), round2)),
        t: estimate.and_then(|e| e.t()).map(round2),
        degrees_of_freedom: estimate.map(|e| round2(e.degrees_of_freedom)),
        p: estimate.map(|e| three_digits(e.p())),
    })
}

impl From<Association> for CorrelationCoefficient {
    fn from(of: Association) -> Self {
        Self {
            r: round3(of.r),
            interval: of.interval.map(|ends| both(ends, round3)),
            p: of.p.map(three_digits),
            effective_pairs: round2(of.effective),
        }
    }
}

impl From<&PulseResponse> for HeartRateResponse {
    fn from(of: &PulseResponse) -> Self {
        let slope = of.bpm_per_100_mg;
        Self {
            bpm_per_100_mg: round2(slope.value),
            interval_bpm_per_100_mg: both(slope.interval(), round2),
            t: slope.t().map(round2),
            degrees_of_freedom: round2(slope.degrees_of_freedom),
            p: three_digits(slope.p()),
            r: round3(of.r),
            r_interval: both(of.r_interval, round3),
            strongest_lag_hours: of.lag as f64 / 4.0,
            r_at_strongest_lag: round3(of.lag_r),
            quarter_hours: of.quarters,
            days: of.days,
            telling_days: of.telling_days,
        }
    }
}

impl Verdict {
    /// What an estimated answer of the pulse says; none says nothing.
    pub fn of(slope: Option<Estimate>) -> Self {
        match slope.map_or(1.0, |slope| slope.p()) {
            p if p < 0.001 => Self::Strong,
            p if p < 0.01 => Self::Moderate,
            p if p < 0.05 => Self::Weak,
            _ => Self::NoEvidence,
        }
    }
}

fn explain(verdict: Verdict, response: Option<&PulseResponse>) -> String {
    let Some(response) = response else {
        return "Too few days have both caffeine and readings to tell whether the pulse follows it.".into();
    };
    let (low, high) = response.bpm_per_100_mg.interval();
    let found =
        format!("{low:.1} to {high:.1} beats per minute for every 100 mg, over {} days", response.days);
    let evidence = match verdict {
        Verdict::NoEvidence => return format!("Nothing shows that the pulse follows the caffeine: {found}."),
        Verdict::Weak => "weak",
        Verdict::Moderate => "moderate",
        Verdict::Strong => "strong",
    };
    let direction = if response.bpm_per_100_mg.value < 0.0 { "slower" } else { "faster" };
    format!("There is {evidence} evidence that the heart beats {direction} with caffeine: {found}.")
}

fn both((low, high): (f64, f64), round: fn(f64) -> f64) -> [f64; 2] {
    [round(low), round(high)]
}

fn round3(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0 + 0.0
}

/// Three significant digits: a p of 0.0000123 is not 0.
fn three_digits(p: f64) -> f64 {
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
        assert!((ours - theirs).abs() <= theirs.abs() * 1e-9, "{ours} is not {theirs}");
    }

    #[test]
    fn a_mean_is_judged_as_by_the_oracle() {
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
        // Several: each day left out in turn.
        for Groups { sizes, values, mean, error } in oracle.groups {
            let ours = mean_by_groups(&values, &sizes).unwrap();
            near(ours.value, mean);
            near(ours.standard_error, error);
            near(ours.degrees_of_freedom, sizes.len() as f64 - 1.0);
        }
        assert_eq!(mean_by_groups(&[1.0, 2.0], &[2]), None);
    }

    #[test]
    fn a_verdict_is_as_strong_as_its_p_is_small() {
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
    fn verdicts_are_written_as_the_contract_has_them() {
        let all = [Verdict::NoEvidence, Verdict::Weak, Verdict::Moderate, Verdict::Strong];
        let written = serde_json::to_value(all).unwrap();
        assert_eq!(written, serde_json::json!(["no evidence", "weak", "moderate", "strong"]));
    }

    #[test]
    fn a_p_keeps_three_digits_however_small() {
        for (p, shown) in
            [(0.0, 0.0), (1.0, 1.0), (0.049_96, 0.05), (0.012_345, 0.0123), (1.239e-20, 1.24e-20)]
        {
            assert_eq!(three_digits(p), shown);
        }
    }
}
