//! Coverage of the correlation's 95% intervals, and its verdict, on simulated people with a known effect.
//!
//! Simulated people sleep, exercise and drink by habit. Their heart rate has a daily rhythm and drifts over
//! hours and days. `STATISTICS_RUNS` sets the number of people of each kind (`make test-statistics`: 1,000).

use coffee_tracker::domain::caffeine::{Dose, Kinetics};
use coffee_tracker::domain::calendar::Zone;
use coffee_tracker::domain::correlation::{
    CoffeeToCompare, Correlation, CorrelationParams, CorrelationResult, Correlator, Verdict,
};
use coffee_tracker::domain::time::{MINUTE, Timestamp};
use coffee_tracker::simulator::{Habits, SimulatedDay, SimulatedPerson};

/// Results for all people with the same effect. Shares are between 0 and 1.
struct Findings {
    /// Share of the intervals of the response that contain the effect.
    coverage: f64,
    /// Mean response, in bpm per 100 mg.
    mean_response: f64,
    /// Share of the intervals of the increase that contain the mean increase of all people.
    increase_coverage: f64,
    /// Mean increase, in bpm.
    mean_increase: f64,
    /// Share of the people whose verdict is "no evidence".
    no_evidence: f64,
}

/// When a person measures the heart rate.
#[derive(Clone, Copy, Debug, PartialEq)]
enum MeasurementTimes {
    /// By a watch: every 5 minutes, day and night.
    Always,
    /// By hand: 70 to 75 minutes before each coffee and 55 to 60 minutes after it.
    AroundCoffees,
}

/// Correlation of the days of one simulated person.
fn correlate_person(
    seed: u64,
    days: u32,
    coffees_per_day: f64,
    times: MeasurementTimes,
    effect: f64,
) -> Correlation {
    let zone = Zone::named("Europe/Berlin").unwrap();
    let first = zone.date(zone.parse("2026-03-01").unwrap());
    let habits = Habits { coffees_per_day, readings_per_day: 288, bpm_per_100_mg: effect };
    let mut person = SimulatedPerson::new(seed, habits, zone.clone());
    let (mut date, mut day, mut coffees, mut readings) =
        (first, SimulatedDay::default(), Vec::new(), Vec::new());
    for _ in 0..days {
        person.simulate_day(date, &mut day);
        if times == MeasurementTimes::AroundCoffees {
            let minutes = |at: Timestamp, cup: Timestamp| (at.micros() - cup.micros()) / MINUTE;
            day.readings.retain(|reading| {
                let near = |cup: Timestamp| matches!(minutes(reading.timestamp, cup), -75..=-70 | 55..=60);
                day.coffees.iter().any(|coffee| near(coffee.timestamp))
            });
        }
        coffees.append(&mut day.coffees);
        readings.append(&mut day.readings);
        date = date.next();
    }
    let params = CorrelationParams {
        since: zone.day(first).0,
        until: zone.day(date).0,
        hours_after: 2,
        context: None,
        max_pairs: 1,
        zone,
        kinetics: Kinetics::default(),
    };
    let doses: Vec<Dose> = coffees.iter().map(|coffee| (coffee.timestamp, coffee.caffeine_mg)).collect();
    let coffees = doses.iter().map(|&(timestamp, caffeine_mg)| CoffeeToCompare {
        timestamp,
        caffeine_mg,
        coffee_type: None,
    });
    let mut correlator = Correlator::new(&params, coffees.collect(), &doses);
    for reading in readings {
        if params.includes(Some(reading.context)) {
            correlator.push(reading.timestamp, reading.bpm);
        }
    }
    match correlator.finish() {
        CorrelationResult::Pairs(correlation) => *correlation,
        CorrelationResult::NoPairs(_) => panic!("person {seed} has no pairs"),
    }
}

/// Results of `runs` people with the seeds from 0.
fn correlate_people(
    runs: u64,
    days: u32,
    coffees_per_day: f64,
    times: MeasurementTimes,
    effect: f64,
) -> Findings {
    let correlations: Vec<_> =
        (0..runs).map(|seed| correlate_person(seed, days, coffees_per_day, times, effect)).collect();
    let share = |matches: &dyn Fn(&Correlation) -> bool| {
        correlations.iter().filter(|correlation| matches(correlation)).count() as f64 / runs as f64
    };
    let mean = |of: &dyn Fn(&Correlation) -> f64| correlations.iter().map(of).sum::<f64>() / runs as f64;
    let contains = |interval: [f64; 2], truth: f64| interval[0] <= truth && truth <= interval[1];
    let response = |correlation: &Correlation| correlation.statistics.response.unwrap();
    let increase = |correlation: &Correlation| correlation.statistics.increase.unwrap();
    let mean_increase = mean(&|correlation| increase(correlation).mean_bpm);
    Findings {
        coverage: share(&|correlation| contains(response(correlation).interval_bpm_per_100_mg, effect)),
        mean_response: mean(&|correlation| response(correlation).bpm_per_100_mg),
        increase_coverage: share(&|correlation| {
            contains(increase(correlation).interval_bpm.unwrap(), mean_increase)
        }),
        mean_increase,
        no_evidence: share(&|correlation| correlation.verdict == Verdict::NoEvidence),
    }
}

#[test]
fn intervals_have_their_nominal_coverage_and_no_effect_gives_no_evidence() {
    let runs: u64 = std::env::var("STATISTICS_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(150);
    // Three standard errors of a share of 95%, and 2 percentage points at least.
    let tolerance = (3.0 * (0.95 * 0.05 / runs as f64).sqrt()).max(0.02);
    for (days, coffees_per_day, times) in [
        (30, 4.0, MeasurementTimes::Always),
        (30, 1.0, MeasurementTimes::Always),
        (30, 4.0, MeasurementTimes::AroundCoffees),
    ] {
        println!("{runs} people, {days} days, {coffees_per_day} coffees a day, {times:?}");
        for effect in [0.0, 3.0, 10.0] {
            let findings = correlate_people(runs, days, coffees_per_day, times, effect);
            let Findings { coverage, mean_response, increase_coverage, mean_increase, no_evidence } =
                findings;
            println!(
                "  {effect} bpm per 100 mg: mean {mean_response:.2}, coverage {:.1}%; \
                 mean increase {mean_increase:.2} bpm, coverage {:.1}%; no evidence for {:.1}%",
                coverage * 100.0,
                increase_coverage * 100.0,
                no_evidence * 100.0
            );
            assert!((coverage - 0.95).abs() <= tolerance, "coverage of the response: {coverage}");
            assert!(
                (increase_coverage - 0.95).abs() <= tolerance,
                "coverage of the increase: {increase_coverage}"
            );
            assert!((mean_response - effect).abs() < 0.15, "mean response {mean_response} for {effect}");
            assert!(
                effect > 0.0 || no_evidence >= 0.95 - tolerance,
                "no evidence for {no_evidence} without effect"
            );
            assert!(
                effect < 10.0 || no_evidence <= 0.01,
                "no evidence for {no_evidence} with effect {effect}"
            );
        }
    }
}
