"""Prints reference values for the statistics, calculated with SciPy and NumPy (tests/data/statistics.json).

The calculation is independent of the program: library functions where they exist, and otherwise brute force,
such as leaving out every day in turn or a column per day.
"""

import json

import numpy as np
from scipy import stats

rng = np.random.default_rng(20260601)


def figures(values):
    return [float(v) for v in values]


def students():
    degrees = [1, 1.5, 2, 3, 4.7, 9, 29, 100, 364.2, 3649, 100000]
    distances = [0.0001, 0.1, 0.5, 1, 1.959964, 2.5, 4, 8, 20, 37.5]
    return [
        {"t": t, "df": df, "p": float(2 * stats.t.sf(t, df))} for df in degrees for t in distances
    ]


def criticals():
    degrees = [1, 1.2, 2, 3, 5, 8.25, 13, 29, 60, 100, 364, 3649, 1e6]
    return [{"df": df, "t": float(stats.t.ppf(0.975, df))} for df in degrees]


def with_interval(result, low, high):
    return {
        "r": float(result.statistic),
        "p": float(result.pvalue),
        "low": float(low),
        "high": float(high),
    }


def sample(n, slope, tied):
    x = rng.uniform(20, 300, n)
    if tied:
        x = np.round(x / 40) * 40
    y = np.round(slope * x / 100 + rng.normal(0, 4, n), 2)
    pearson = stats.pearsonr(x, y)
    spearman = stats.spearmanr(x, y)
    rho = spearman.statistic
    reach = stats.norm.ppf(0.975) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    rank_interval = np.tanh(np.arctanh(rho) - reach), np.tanh(np.arctanh(rho) + reach)
    paired = stats.ttest_1samp(y, 0)
    interval = paired.confidence_interval(0.95)
    return {
        "x": figures(x),
        "y": figures(y),
        "pearson": with_interval(pearson, *pearson.confidence_interval(0.95)),
        "spearman": with_interval(spearman, *rank_interval),
        "paired": {
            "mean": float(np.mean(y)),
            "low": float(interval.low),
            "high": float(interval.high),
            "t": float(paired.statistic),
            "p": float(paired.pvalue),
        },
    }


def samples():
    cases = [(4, 1, False), (5, 0, False), (12, 3, True), (30, 0, True), (30, 10, True)]
    cases += [(80, 3, False), (200, -2, True), (200, 0, False)]
    return [sample(*case) for case in cases]


def mean_by_groups(sizes):
    """Mean of values in groups, with the jackknife error of leaving out one group at a time."""
    groups = [np.round(rng.normal(3, 2) + rng.normal(0, 4, size), 2) for size in sizes]
    left_out = [
        np.concatenate([other for other in groups if other is not group]).mean() for group in groups
    ]
    count = len(groups)
    variance = (count - 1) / count * np.sum((left_out - np.mean(left_out)) ** 2)
    return {
        "sizes": sizes,
        "values": figures(np.concatenate(groups)),
        "mean": float(np.concatenate(groups).mean()),
        "error": float(np.sqrt(variance)),
    }


def groups():
    cases = [[1] * 12, [3] * 10, [1, 5], [4, 1, 2, 7, 3, 3, 1, 6]]
    return [mean_by_groups(sizes) for sizes in cases]


RHYTHM_BPM = np.array([3.0, 3.0, 1.5, 1.5])
LAGS = 25


def design(days, quarters, mg):
    """Design matrix: a column per day, four for the daily rhythm, and the caffeine last."""
    columns = [(days == day).astype(float) for day in np.unique(days)]
    angle = 2 * np.pi * (quarters + 0.5) / 96
    columns += [np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle), mg / 100]
    return np.array(columns).T


def ridge(x, y, variance):
    """Least squares with a penalty on the rhythm, written as four more rows."""
    penalty = np.zeros((4, x.shape[1]))
    for n in range(4):
        penalty[n, x.shape[1] - 5 + n] = np.sqrt(variance) / RHYTHM_BPM[n]
    coefficients, *_ = np.linalg.lstsq(np.vstack([x, penalty]), np.append(y, np.zeros(4)), rcond=None)
    return coefficients, float(np.sum((y - x @ coefficients) ** 2)), np.linalg.inv(x.T @ x + penalty.T @ penalty)


def respond(days, quarters, bpm, mg, levels, at):
    x = design(days, quarters, mg)
    names, counts = np.unique(days, return_counts=True)
    free = len(bpm) - len(names)
    within = bpm - np.array([bpm[days == day].mean() for day in days])
    variance = max(np.sum(within**2) / free, 1 / 12)
    for _ in range(10):
        variance = max(ridge(x, bpm, variance)[1] / free, 1 / 12)
    coefficients, residual, inverse = ridge(x, bpm, variance)
    slope = coefficients[-1]
    slopes = []
    for day in names:
        kept = days != day
        slopes.append(ridge(design(days[kept], quarters[kept], mg[kept]), bpm[kept], variance)[0][-1])
    by_days = (len(names) - 1) / len(names) * np.sum((slopes - np.mean(slopes)) ** 2)
    by_rhythm = np.sum((inverse[-1, -5:-1] * variance / RHYTHM_BPM) ** 2)
    varied = np.array([np.sum((mg[days == d] - mg[days == d].mean()) ** 2) for d in names])
    informative_days = int(np.sum(varied > varied.mean() / 10))

    def r(levels):
        coefficients, residual, inverse = ridge(design(days, quarters, levels), bpm, variance)
        explained = coefficients[-1] / np.sqrt(inverse[-1, -1])
        return explained / np.sqrt(explained**2 + residual)

    lagged = [r(mg if lag == 0 else levels[at + LAGS - 1 - lag]) for lag in range(LAGS)]
    strongest = int(np.argmax(np.abs(lagged)))
    return {
        "slope": float(slope),
        "error": float(np.sqrt(by_days + by_rhythm)),
        "telling": informative_days,
        "r": float(lagged[0]),
        "lag": strongest,
        "lag_r": float(lagged[strongest]),
    }


def response(day_count, of_day, slope, lag):
    """Simulated days of quarter hours: the heart rate follows the caffeine after `lag` quarters."""
    levels, days, quarters, at, mg = [], [], [], [], []
    for day in range(day_count):
        start = len(levels)
        early, late = rng.integers(0, of_day // 2), rng.integers(LAGS, LAGS + of_day)
        doses = np.array([early, late] if day % 3 else [])
        sizes = rng.uniform(40, 200, len(doses))
        for n in range(LAGS - 1 + of_day):
            after = n - doses
            levels.append(float(np.sum(np.where(after >= 0, sizes * 0.95 ** np.maximum(after, 0), 0))))
        for n in sorted(rng.choice(of_day, of_day * 3 // 4, replace=False)):
            days.append(day)
            quarters.append(int(28 + n) % 96)
            at.append(start + int(n))
            mg.append(levels[start + int(n) + LAGS - 1] + rng.normal(0, 1))
    levels, at, mg = (np.round(np.array(values), 2) for values in (levels, at, mg))
    days, quarters, at = np.array(days), np.array(quarters), at.astype(int)
    effective = levels[at + LAGS - 1 - lag]
    own = rng.normal(65, 4, day_count)[days]
    rhythm = 2 * np.cos(2 * np.pi * (quarters - 64) / 96)
    bpm = np.round(own + rhythm + slope * effective / 100 + rng.normal(0, 1.5, len(days)), 2)
    return {
        "levels": figures(levels),
        "quarters": [
            {"day": int(d), "of_day": int(q), "at": int(a), "bpm": float(b), "mg": float(m)}
            for d, q, a, b, m in zip(days, quarters, at, bpm, mg)
        ],
        "expected": respond(days, quarters, bpm, mg, levels, at),
    }


def responses():
    cases = [(5, 12, 3, 0), (4, 20, 0, 0), (9, 16, 10, 6), (12, 8, -4, 2)]
    return [response(*case) for case in cases]


figures_by_kind = {
    "student": students(),
    "critical": criticals(),
    "samples": samples(),
    "groups": groups(),
    "responses": responses(),
}
# One line per case.
kinds = [
    f'"{kind}": [\n' + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "\n]"
    for kind, cases in figures_by_kind.items()
]
print("{\n" + ",\n".join(kinds) + "\n}")
