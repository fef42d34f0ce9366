//! How far two things go together: Pearson's r and Spearman's, with p and 95 % interval.
//!
//! Values come in groups (days), in order. Those of one group need not be independent of each
//! other: the more they repeat each other, the fewer they count for (Kish's design effect). With
//! one value in each group all figures are the textbook's. Held to an independent library's values
//! in `tests/data/statistics.json`.

use crate::domain::t_distribution::two_sided_p;

/// The standard normal distance that 5 % of cases exceed, on either side.
const NORMAL_CRITICAL: f64 = 1.959_963_984_540_054;

/// A correlation coefficient and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Association {
    /// −1 to 1.
    pub r: f64,
    /// For so many independent values it counts; never more than there are.
    pub effective: f64,
    /// How often chance alone gives an r as far from 0; `None` with too few values.
    pub p: Option<f64>,
    /// The 95 % confidence interval; `None` with too few values.
    pub interval: Option<(f64, f64)>,
}

/// Pearson's r of `x` and `y`, which come in consecutive groups of these sizes. `None` when one of
/// them does not vary.
pub fn pearson(x: &[f64], y: &[f64], groups: &[usize]) -> Option<Association> {
    associate(x.to_vec(), y.to_vec(), groups, |_| 1.0)
}

/// Spearman's r: that of the ranks, equal values sharing the mean of theirs. The interval is that of
/// Bonett & Wright (2000), doi:10.1007/BF02294183.
pub fn spearman(x: &[f64], y: &[f64], groups: &[usize]) -> Option<Association> {
    associate(ranks(x), ranks(y), groups, |r| 1.0 + r * r / 2.0)
}

/// `spread`: the variance of Fisher's z times (n − 3).
fn associate(x: Vec<f64>, y: Vec<f64>, groups: &[usize], spread: impl Fn(f64) -> f64) -> Option<Association> {
    let (x, y) = (centred(x), centred(y));
    let (xx, yy, xy) = (dot(&x, &x), dot(&y, &y), dot(&x, &y));
    let r = (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0);
    if !r.is_finite() {
        return None;
    }
    let n = x.len() as f64;
    let design = design_effect(&x, &y, xy / xx, groups);
    let effective = design.map_or(1.0, |effect| n / effect);
    let p = (effective > 2.0).then(|| {
        let t = r * ((effective - 2.0) / (1.0 - r * r)).sqrt();
        two_sided_p(t, effective - 2.0)
    });
    let interval = (effective > 3.0).then(|| {
        let (z, reach) = (r.atanh(), NORMAL_CRITICAL * (spread(r) / (effective - 3.0)).sqrt());
        ((z - reach).tanh(), (z + reach).tanh())
    });
    Some(Association { r, effective, p, interval })
}

/// By how much the variance of the slope grows because values of one group go together, at least 1:
/// Kish (1965), "Survey Sampling"; for slopes Moulton (1986), doi:10.1016/0304-4076(86)90021-7. `None`
/// with a single group, which cannot tell.
fn design_effect(x: &[f64], y: &[f64], slope: f64, groups: &[usize]) -> Option<f64> {
    if groups.len() < 2 {
        return None;
    }
    let mut pairs = x.iter().zip(y);
    let (mut alone, mut together) = (0.0, 0.0);
    for &size in groups {
        let mut sum = 0.0;
        for (x, y) in pairs.by_ref().take(size) {
            let score = x * (y - slope * x);
            alone += score * score;
            sum += score;
        }
        together += sum * sum;
    }
    let (count, groups) = (x.len() as f64, groups.len() as f64);
    let effect = together * groups / (groups - 1.0) / (alone * count / (count - 1.0));
    // Nothing is left over when all lie on one line.
    Some(if effect.is_finite() { effect.max(1.0) } else { 1.0 })
}

/// Ranks from 1 on; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for ties in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = before as f64 + (ties.len() + 1) as f64 / 2.0;
        ties.iter().for_each(|index| ranks[*index] = rank);
        before += ties.len();
    }
    ranks
}

/// The same values about their mean.
fn centred(mut values: Vec<f64>) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter_mut().for_each(|value| *value -= mean);
    values
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Oracle {
        samples: Vec<Sample>,
    }

    #[derive(Deserialize)]
    struct Sample {
        x: Vec<f64>,
        y: Vec<f64>,
        pearson: Expected,
        spearman: Expected,
    }

    #[derive(Deserialize)]
    struct Expected {
        r: f64,
        p: f64,
        low: f64,
        high: f64,
    }

    fn agree(ours: Association, theirs: &Expected) {
        let (low, high) = ours.interval.unwrap();
        for (ours, theirs) in
            [(ours.r, theirs.r), (ours.p.unwrap(), theirs.p), (low, theirs.low), (high, theirs.high)]
        {
            assert!((ours - theirs).abs() <= theirs.abs() * 1e-9 + 1e-14, "{ours} is not {theirs}");
        }
    }

    #[test]
    fn with_one_value_in_each_group_both_are_those_of_the_oracle() {
        let oracle: Oracle = serde_json::from_str(include_str!("../../tests/data/statistics.json")).unwrap();
        assert!(oracle.samples.len() >= 8);
        for sample in oracle.samples {
            let groups = vec![1; sample.x.len()];
            let ours = pearson(&sample.x, &sample.y, &groups).unwrap();
            assert_eq!(ours.effective, sample.x.len() as f64);
            agree(ours, &sample.pearson);
            agree(spearman(&sample.x, &sample.y, &groups).unwrap(), &sample.spearman);
        }
    }

    #[test]
    fn what_is_said_ten_times_counts_once() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (x, y): (Vec<f64>, Vec<f64>) =
            (0..60).map(|_| (rng.f64(), rng.f64())).map(|(x, e)| (x, x + 2.0 * e)).unzip();
        let ten_times = |values: &[f64]| values.iter().flat_map(|v| [*v; 10]).collect::<Vec<_>>();
        let once = pearson(&x, &y, &[1; 60]).unwrap();
        let often = pearson(&ten_times(&x), &ten_times(&y), &[10; 60]).unwrap();
        assert!((once.r - often.r).abs() < 1e-12 && (once.effective - often.effective).abs() < 1.0);
        assert!((once.p.unwrap() - often.p.unwrap()).abs() < 0.01);
    }

    #[test]
    fn too_few_values_give_no_p_and_what_does_not_vary_gives_nothing() {
        let two = pearson(&[1.0, 2.0], &[3.0, 1.0], &[1, 1]).unwrap();
        assert_eq!((two.r, two.p, two.interval), (-1.0, None, None));
        let three = pearson(&[1.0, 2.0, 4.0], &[3.0, 1.0, 2.0], &[1, 1, 1]).unwrap();
        assert!(three.p.is_some() && three.interval.is_none());
        let one_day = spearman(&[1.0, 2.0, 4.0, 5.0], &[3.0, 1.0, 2.0, 7.0], &[4]).unwrap();
        assert_eq!((one_day.p, one_day.interval), (None, None));
        assert_eq!(pearson(&[2.0, 2.0, 2.0], &[1.0, 2.0, 3.0], &[1, 1, 1]), None);
        assert_eq!(spearman(&[], &[], &[]), None);
        let line = pearson(&[1.0, 2.0, 3.0, 4.0], &[2.0, 4.0, 6.0, 8.0], &[1; 4]).unwrap();
        assert_eq!((line.r, line.p), (1.0, Some(0.0)));
    }
}
