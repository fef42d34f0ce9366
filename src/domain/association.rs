//! Pearson's and Spearman's correlation coefficients with p-values and 95% intervals, for grouped values.
//!
//! Values come in consecutive groups (days). Values within a group may be correlated; a design effect
//! reduces the effective sample size accordingly. With one value in each group the results are the
//! textbook's. The tests compare with scipy, see `tests/data/statistics.json`.

use crate::domain::estimate::two_sided_p;

/// 97.5 % quantile of the standard normal distribution.
const NORMAL_CRITICAL_VALUE: f64 = 1.959_963_984_540_054;

/// Correlation coefficient with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Association {
    /// −1 to 1.
    pub r: f64,
    /// Effective sample size, at most the number of values.
    pub effective: f64,
    /// Two-sided p-value for r = 0; `None` with too few values.
    pub p: Option<f64>,
    /// 95% confidence interval; `None` with too few values.
    pub interval: Option<(f64, f64)>,
}

/// Returns Pearson's r of `x` and `y` in consecutive groups of the given sizes; `None` when either is
/// constant.
pub fn pearson(x: &[f64], y: &[f64], groups: &[usize]) -> Option<Association> {
    associate(x.to_vec(), y.to_vec(), groups, |_| 1.0)
}

/// Returns Spearman's rank correlation; ties share their mean rank. The interval is that of Bonett & Wright
/// (2000), doi:10.1007/BF02294183.
pub fn spearman(x: &[f64], y: &[f64], groups: &[usize]) -> Option<Association> {
    associate(ranks(x), ranks(y), groups, |r| 1.0 + r * r / 2.0)
}

/// Correlates `x` and `y`. `z_variance` is the variance of Fisher's z times (n − 3).
fn associate(
    x: Vec<f64>,
    y: Vec<f64>,
    groups: &[usize],
    z_variance: impl Fn(f64) -> f64,
) -> Option<Association> {
    let (x, y) = (centered(x), centered(y));
    let (xx, yy, xy) = (dot(&x, &x), dot(&y, &y), dot(&x, &y));
    let r = (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0);
    if !r.is_finite() {
        return None;
    }
    let n = x.len() as f64;
    // A single group counts as one value: it gives neither p nor interval.
    let effective = design_effect(&x, &y, xy / xx, groups).map_or(1.0, |effect| n / effect);
    let p = (effective > 2.0).then(|| {
        let t = r * ((effective - 2.0) / (1.0 - r * r)).sqrt();
        two_sided_p(t, effective - 2.0)
    });
    let interval = (effective > 3.0).then(|| {
        let z = r.atanh();
        let half_width = NORMAL_CRITICAL_VALUE * (z_variance(r) / (effective - 3.0)).sqrt();
        ((z - half_width).tanh(), (z + half_width).tanh())
    });
    Some(Association { r, effective, p, interval })
}

/// Returns the factor, at least 1, by which the correlation within groups inflates the variance of the
/// slope: its cluster-robust variance (Liang & Zeger 1986, doi:10.1093/biomet/73.1.13) divided by the one
/// for independent values (White 1980, doi:10.2307/1912934), each with its factor for small samples. `None`
/// for a single group.
fn design_effect(x: &[f64], y: &[f64], slope: f64, groups: &[usize]) -> Option<f64> {
    if groups.len() < 2 {
        return None;
    }
    let mut pairs = x.iter().zip(y);
    let (mut independent, mut clustered) = (0.0, 0.0);
    for &size in groups {
        let mut sum = 0.0;
        for (x, y) in pairs.by_ref().take(size) {
            let score = x * (y - slope * x);
            independent += score * score;
            sum += score;
        }
        clustered += sum * sum;
    }
    let (count, groups) = (x.len() as f64, groups.len() as f64);
    let effect = clustered * groups / (groups - 1.0) / (independent * count / (count - 1.0));
    // 0/0 when all points are on one line.
    Some(if effect.is_finite() { effect.max(1.0) } else { 1.0 })
}

/// Returns one-based ranks; ties share their mean rank.
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

fn centered(mut values: Vec<f64>) -> Vec<f64> {
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
            assert!((ours - theirs).abs() <= theirs.abs() * 1e-9 + 1e-14, "{ours} instead of {theirs}");
        }
    }

    #[test]
    fn with_one_value_in_each_group_both_coefficients_are_those_of_scipy() {
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
    fn repeated_values_in_a_group_count_once() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (x, y): (Vec<f64>, Vec<f64>) =
            (0..60).map(|_| (rng.f64(), rng.f64())).map(|(x, e)| (x, x + 2.0 * e)).unzip();
        let ten_times = |values: &[f64]| values.iter().flat_map(|v| [*v; 10]).collect::<Vec<_>>();
        let single = pearson(&x, &y, &[1; 60]).unwrap();
        let repeated = pearson(&ten_times(&x), &ten_times(&y), &[10; 60]).unwrap();
        assert!((single.r - repeated.r).abs() < 1e-12 && (single.effective - repeated.effective).abs() < 1.0);
        assert!((single.p.unwrap() - repeated.p.unwrap()).abs() < 0.01);
    }

    #[test]
    fn too_few_values_give_no_p_value_and_constant_values_no_coefficient() {
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
