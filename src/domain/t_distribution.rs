//! Student's t distribution, and estimates that are judged by it.
//!
//! Held to an independent library's values in `tests/data/statistics.json`.

/// The share of cases in which an interval is meant to hold the truth.
const CONFIDENCE: f64 = 0.95;

/// An estimate and how far off it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub standard_error: f64,
    /// Of its t distribution: 1 or more, not always whole.
    pub degrees_of_freedom: f64,
}

impl Estimate {
    /// The value in standard errors; `None` without any error.
    pub fn t(&self) -> Option<f64> {
        Some(self.value / self.standard_error).filter(|t| t.is_finite())
    }

    /// How often chance alone gives a value as far from 0, if the truth is 0.
    pub fn p(&self) -> f64 {
        match self.t() {
            Some(t) => two_sided_p(t, self.degrees_of_freedom),
            None => f64::from(u8::from(self.value == 0.0)),
        }
    }

    /// The 95 % confidence interval.
    pub fn interval(&self) -> (f64, f64) {
        let reach = critical_value(self.degrees_of_freedom) * self.standard_error;
        (self.value - reach, self.value + reach)
    }
}

/// How often a t with so many degrees of freedom (more than 0) lies at least as far from 0 as `t`:
/// the incomplete beta function I of ν/(ν + t²) at ν/2 and 1/2 (Abramowitz & Stegun 26.7.1).
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
    // x^a·rest^b/B(a, b), with Γ(1/2) = √π.
    let front = (-a * ratio.ln_1p() + b * rest.ln() + ln_gamma_step(a)).exp() / std::f64::consts::PI.sqrt();
    // The fraction converges fast below the mean; above it the symmetry of DLMF 8.17.4 helps.
    if x < (a + 1.0) / (a + b + 2.0) {
        front / a / beta_fraction(a, b, x)
    } else {
        1.0 - front / b / beta_fraction(b, a, rest)
    }
}

/// How far from 0 a t with so many degrees of freedom (1 or more) lies in 5 % of cases.
pub fn critical_value(degrees_of_freedom: f64) -> f64 {
    let nu = degrees_of_freedom.max(1.0);
    // 12.7 at one degree, 1.96 at infinitely many.
    let (mut low, mut high) = (1.9, 13.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if two_sided_p(middle, nu) > 1.0 - CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The continued fraction 1 + d₁/(1 + d₂/(1 + …)) of DLMF 8.17.22, by the forward recurrence of
/// its convergents' ratios (Lentz 1976, doi:10.1364/AO.15.000668).
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let apart = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut value, mut upper, mut lower) = (1.0, 1.0, 0.0);
    for n in 1..=2000_u32 {
        let m = f64::from(n / 2);
        let d = if n % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        lower = 1.0 / apart(1.0 + d * lower);
        upper = apart(1.0 + d / upper);
        let factor = upper * lower;
        value *= factor;
        if (factor - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

/// ln Γ(x + ½) − ln Γ(x) for x > 0, without the digits that the difference would cost.
fn ln_gamma_step(x: f64) -> f64 {
    // B₂ₖ/(2k(2k−1)) of Stirling's series (DLMF 5.11.1), which is good from 12 on.
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
    // Below, Γ(x) = Γ(x + 1)/x leads there.
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
        assert!((ours - theirs).abs() <= theirs.abs() * 1e-10 + 1e-300, "{what}: {ours} is not {theirs}");
    }

    #[test]
    fn tails_and_quantiles_are_those_of_the_oracle() {
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
    fn an_estimate_without_error_is_certain() {
        let sure = |value| Estimate { value, standard_error: 0.0, degrees_of_freedom: 9.0 };
        assert_eq!((sure(15.0).t(), sure(15.0).p(), sure(15.0).interval()), (None, 0.0, (15.0, 15.0)));
        assert_eq!((sure(0.0).t(), sure(0.0).p()), (None, 1.0));
    }

    #[test]
    fn an_interval_ends_at_zero_where_p_is_a_twentieth() {
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
