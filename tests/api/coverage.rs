//! Do the 95 % intervals hold the truth in 95 of 100 cases, and is "no evidence" said where there
//! is none? On simulated people whose truth is known: they sleep, train, drink by habit, and their
//! pulse has a daily rhythm and wanders by itself, over hours and from day to day.
//!
//! `STATISTICS_RUNS` says how many people of each kind are asked (`make test-statistics`: 1,000).

use coffee_tracker::domain::caffeine::{Dose, Kinetics};
use coffee_tracker::domain::calendar::Zone;
use coffee_tracker::domain::correlation::{
    CorrelatedCoffee, Correlation, CorrelationParams, CorrelationResult, Correlator, Verdict,
};
use coffee_tracker::domain::time::{MINUTE, Timestamp};
use coffee_tracker::simulator::{Habits, SimulatedDay, SimulatedPerson};

/// What people with one effect were told.
struct Told {
    /// Of the intervals of the response, those that hold the effect.
    covers: f64,
    mean: f64,
    /// Of the intervals of the increase, those that hold what it is on average over all people.
    increase_covers: f64,
    mean_increase: f64,
    no_evidence: f64,
}

/// Which readings a person takes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measures {
    /// A watch: every 5 minutes, day and night.
    Always,
    /// By hand: a little more than an hour before each coffee, and an hour after it.
    AroundCoffees,
}

fn live(seed: u64, days: u32, cups: f64, measures: Measures, effect: f64) -> Correlation {
    let zone = Zone::named("Europe/Berlin").unwrap();
    let first = zone.date(zone.parse("2026-03-01").unwrap());
    let habits = Habits { coffees_per_day: cups, readings_per_day: 288, bpm_per_100_mg: effect };
    let mut person = SimulatedPerson::new(seed, habits, zone.clone());
    let (mut date, mut day, mut coffees, mut readings) =
        (first, SimulatedDay::default(), Vec::new(), Vec::new());
    for _ in 0..days {
        person.simulate_day(date, &mut day);
        if measures == Measures::AroundCoffees {
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
    let coffees = doses.iter().map(|&(timestamp, caffeine_mg)| CorrelatedCoffee {
        timestamp,
        caffeine_mg,
        coffee_type: None,
    });
    let mut correlator = Correlator::new(&params, coffees.collect(), &doses);
    for reading in readings {
        correlator.push(reading.timestamp, reading.bpm, Some(reading.context));
    }
    match correlator.finish() {
        CorrelationResult::Pairs(answer) => *answer,
        CorrelationResult::NoPairs(_) => panic!("person {seed} has no pair"),
    }
}

fn ask_people(runs: u64, days: u32, cups: f64, measures: Measures, effect: f64) -> Told {
    let answers: Vec<_> = (0..runs).map(|seed| live(seed, days, cups, measures, effect)).collect();
    let share = |is: &dyn Fn(&Correlation) -> bool| {
        answers.iter().filter(|answer| is(answer)).count() as f64 / runs as f64
    };
    let mean = |of: &dyn Fn(&Correlation) -> f64| answers.iter().map(of).sum::<f64>() / runs as f64;
    let holds = |interval: [f64; 2], truth: f64| interval[0] <= truth && truth <= interval[1];
    let response = |answer: &Correlation| answer.statistics.response.unwrap();
    let increase = |answer: &Correlation| answer.statistics.increase.unwrap();
    let mean_increase = mean(&|answer| increase(answer).mean_bpm);
    Told {
        covers: share(&|answer| holds(response(answer).interval_bpm_per_100_mg, effect)),
        mean: mean(&|answer| response(answer).bpm_per_100_mg),
        increase_covers: share(&|answer| holds(increase(answer).interval_bpm.unwrap(), mean_increase)),
        mean_increase,
        no_evidence: share(&|answer| answer.verdict == Verdict::NoEvidence),
    }
}

#[test]
fn intervals_have_their_nominal_coverage_and_no_effect_gives_no_evidence() {
    let runs: u64 = std::env::var("STATISTICS_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(150);
    // 95 %, give or take 2; few people more by the luck of the draw (three standard errors).
    let slack = (3.0 * (0.95 * 0.05 / runs as f64).sqrt()).max(0.02);
    for (days, cups, measures) in
        [(30, 4.0, Measures::Always), (30, 1.0, Measures::Always), (30, 4.0, Measures::AroundCoffees)]
    {
        println!("{runs} people, {days} days, {cups} coffees a day, {measures:?}");
        for effect in [0.0, 3.0, 10.0] {
            let told = ask_people(runs, days, cups, measures, effect);
            let Told { covers, mean, increase_covers, mean_increase, no_evidence } = told;
            println!(
                "  {effect} bpm per 100 mg: found {mean:.2}, held by {:.1} % of the intervals; \
                 increase {mean_increase:.2} bpm, held by {:.1} %; no evidence said to {:.1} %",
                covers * 100.0,
                increase_covers * 100.0,
                no_evidence * 100.0
            );
            assert!((covers - 0.95).abs() <= slack, "{covers} of the intervals hold {effect}");
            assert!((increase_covers - 0.95).abs() <= slack, "{increase_covers} hold the increase");
            assert!((mean - effect).abs() < 0.15, "{mean} is found for {effect}");
            assert!(effect > 0.0 || no_evidence >= 0.95 - slack, "{no_evidence} hear no evidence");
            assert!(effect < 10.0 || no_evidence <= 0.01, "{no_evidence} hear nothing of {effect}");
        }
    }
}
