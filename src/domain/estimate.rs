//! Estimates with their intervals and p-values, from Student's t distribution.
//!
//! The `statrs` crate is not used because it loses digits with many degrees of freedom. The tests compare
//! with scipy, see `tests/data/statistics.json`.

/// Coverage of confidence intervals.
const CONFIDENCE: f64 = 0.95;

/// Estimate with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub standard_error: f64,
    /// At least 1, not necessarily whole.
    pub degrees_of_freedom: f64,
}

impl Estimate {
    /// Returns the t statistic; `None` when the standard error is 0.
    pub fn t(&self) -> Option<f64> {
        Some(self.value / self.standard_error).filter(|t| t.is_finite())
    }

    /// Returns the two-sided p-value of the hypothesis that the true value is 0. Without a standard error it is 0,
    /// or 1 for an estimate of 0.
    pub fn p(&self) -> f64 {
        match self.t() {
            Some(t) => two_sided_p(t, self.degrees_of_freedom),
            None => f64::from(u8::from(self.value == 0.0)),
        }
    }

    /// Returns the ends of the 95% confidence interval.
    pub fn interval(&self) -> (f64, f64) {
        let half_width = critical_value(self.degrees_of_freedom) * self.standard_error;
        (self.value - half_width, self.value + half_width)
    }
}

/// Returns the jackknife variance of an estimate, from its changes when one group at a time is left out.
pub fn jackknife_variance(changes: &[f64]) -> f64 {
    let groups = changes.len() as f64;
    let (sum, squares) =
        (changes.iter().sum::<f64>(), changes.iter().map(|change| change * change).sum::<f64>());
    (groups - 1.0) / groups * (squares - sum * sum / groups).max(0.0)
}

/// Returns the two-sided p-value of `t` with more than 0 degrees of freedom: the regularized incomplete
/// beta function I of ν/(ν + t²) at ν/2 and 1/2 (Abramowitz & Stegun 26.7.1).
pub fn two_sided_p(t: f64, degrees_of_freedom: f64) -> f64 {
    let (a, b) = (degrees_of_freedom / 2.0, 0.5);
    let ratio = t * t / degrees_of_freedom;
    if ratio == 0.0 {
        return 1.0;
    }
    if !ratio.is_finite() {
        return 0.0;
    }
    let (x, rest) = (1.0 / (1.0 + ratio), ratio / (1.0 + ratio));
    // x^a·(1 − x)^b/B(a, b), with Γ(1/2) = √π.
    let front =
        (-a * ratio.ln_1p() + b * rest.ln() + ln_gamma_half_step(a)).exp() / std::f64::consts::PI.sqrt();
    // The fraction converges fast below the mean of Beta(a + 1, b + 1); above it, DLMF 8.17.4 swaps a and b.
    if x < (a + 1.0) / (a + b + 2.0) {
        front / a / beta_fraction(a, b, x)
    } else {
        1.0 - front / b / beta_fraction(b, a, rest)
    }
}

/// Returns the t value with a two-sided p-value of 5 %, by bisection. Degrees of freedom below 1 count as 1.
pub fn critical_value(degrees_of_freedom: f64) -> f64 {
    let degrees_of_freedom = degrees_of_freedom.max(1.0);
    // 12.7 with 1 degree of freedom, 1.96 with infinitely many.
    let (mut low, mut high) = (1.9, 13.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if two_sided_p(middle, degrees_of_freedom) > 1.0 - CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// Evaluates the continued fraction of DLMF 8.17.22 with the algorithm of Lentz (1976),
/// doi:10.1364/AO.15.000668.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let non_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut value, mut c, mut d) = (1.0, 1.0, 0.0);
    for n in 1..=2000_u32 {
        let m = f64::from(n / 2);
        let coefficient = if n % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        d = 1.0 / non_zero(1.0 + coefficient * d);
        c = non_zero(1.0 + coefficient / c);
        let factor = c * d;
        value *= factor;
        if (factor - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

/// Returns ln Γ(x + ½) − ln Γ(x) for x > 0, without cancellation.
fn ln_gamma_half_step(x: f64) -> f64 {
    // Coefficients B₂ₖ/(2k(2k−1)) of Stirling's series (DLMF 5.11.1), accurate from 12 on.
    const SERIES: [f64; 7] = [
        1.0 / 12.0,
        -1.0 / 360.0,
        1.0 / 1260.0,
        -1.0 / 1680.0,
        1.0 / 1188.0,
        -691.0 / 360_360.0,
        1.0 / 156.0,
    ];
    let series = |x: f64| SERIES.iter().rev().fold(0.0, |sum, term| sum / (x * x) + term) / x;
    // The recurrence Γ(x) = Γ(x + 1)/x raises x to 12.
    let (mut x, mut ratio) = (x, 1.0);
    while x < 12.0 {
        ratio *= x / (x + 0.5);
        x += 1.0;
    }
    x * (0.5 / x).ln_1p() + 0.5 * x.ln() - 0.5 + series(x + 0.5) - series(x) + f64::ln(ratio)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Oracle {
        student: Vec<Tail>,
        critical: Vec<Critical>,
    }

    #[derive(Deserialize)]
    struct Tail {
        t: f64,
        df: f64,
        p: f64,
    }

    #[derive(Deserialize)]
    struct Critical {
        df: f64,
        t: f64,
    }

    fn near(ours: f64, theirs: f64, what: &str) {
        assert!((ours - theirs).abs() <= theirs.abs() * 1e-10 + 1e-300, "{what}: {ours} instead of {theirs}");
    }

    #[test]
    fn p_values_and_quantiles_are_those_of_scipy() {
        let oracle: Oracle = serde_json::from_str(include_str!("../../tests/data/statistics.json")).unwrap();
        assert!(oracle.student.len() > 100 && oracle.critical.len() > 10);
        for Tail { t, df, p } in oracle.student {
            near(two_sided_p(t, df), p, &format!("p of {t} with {df}"));
            near(two_sided_p(-t, df), p, &format!("p of -{t} with {df}"));
        }
        for Critical { df, t } in oracle.critical {
            near(critical_value(df), t, &format!("quantile with {df}"));
        }
    }

    #[test]
    fn an_estimate_without_error_has_no_t_and_p_0_or_1() {
        let exact = |value| Estimate { value, standard_error: 0.0, degrees_of_freedom: 9.0 };
        assert_eq!((exact(15.0).t(), exact(15.0).p(), exact(15.0).interval()), (None, 0.0, (15.0, 15.0)));
        assert_eq!((exact(0.0).t(), exact(0.0).p()), (None, 1.0));
    }

    #[test]
    fn an_interval_ends_at_zero_when_p_is_0_05() {
        for degrees_of_freedom in [1.0, 2.5, 29.0, 1000.0] {
            let estimate = Estimate {
                value: critical_value(degrees_of_freedom),
                standard_error: 1.0,
                degrees_of_freedom,
            };
            assert!((estimate.p() - 0.05).abs() < 1e-12);
            assert!(estimate.interval().0.abs() < 1e-12);
        }
    }
}
