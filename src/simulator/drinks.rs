//! Types and times of the coffees that a simulated person drinks.

use fastrand::Rng;

use crate::domain::coffee::Milligrams;
use crate::domain::time::{HOUR, MINUTE, Timestamp};
use crate::simulator::day_plan::{DayPlan, uniform};

/// Simulated coffee.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedCoffee {
    pub timestamp: Timestamp,
    pub caffeine_mg: Milligrams,
    pub coffee_type: Option<&'static str>,
    pub notes: Option<&'static str>,
}

/// Type, milligrams per serving, and relative frequency before 14:00, from 14:00 and from 18:00.
/// The doses of the first six are those of `coffee::PRESETS`; the others are derived from them.
pub(super) const DRINKS: [(&str, f64, [u32; 3]); 10] = [
    ("espresso", 80.0, [20, 30, 6]),
    ("filter coffee", 90.0, [40, 20, 4]),
    ("black tea", 50.0, [8, 16, 20]),
    ("cola", 40.0, [1, 8, 14]),
    ("energy drink", 80.0, [2, 5, 2]),
    ("dark chocolate", 25.0, [0, 5, 16]),
    ("cappuccino", 80.0, [22, 12, 2]),
    ("flat white", 160.0, [8, 6, 0]),
    ("cold brew", 150.0, [2, 4, 0]),
    // McCusker et al. 2006 found up to 13.9 mg in a large cup of decaffeinated coffee.
    ("decaf", 5.0, [1, 6, 30]),
];

/// Start and end in minutes after waking, and relative frequency.
const DRINKING_TIMES: [(i64, i64, u32); 6] =
    [(10, 75, 32), (75, 180, 14), (180, 270, 22), (330, 450, 19), (450, 600, 9), (600, 840, 4)];

const NOTES: [&str; 5] = ["with oat milk", "before the meeting", "too bitter", "iced", "bad night"];

pub(super) fn random_coffee(rng: &mut Rng, plan: &DayPlan) -> Option<SimulatedCoffee> {
    let (from, until, _) = DRINKING_TIMES[weighted_index(rng, DRINKING_TIMES.map(|(_, _, weight)| weight))];
    let time = (plan.wake_time + rng.i64(from * MINUTE..until * MINUTE))
        .min(plan.sleep_time - rng.i64(MINUTE..HOUR));
    let part_of_day = if time < 14 * HOUR { 0 } else { 1 + usize::from(time >= 18 * HOUR) };
    let (name, mg, _) = DRINKS[weighted_index(rng, DRINKS.map(|(_, _, weights)| weights[part_of_day]))];
    let servings = match rng.u32(0..100) {
        0..70 => 1.0,
        70..94 => uniform(rng, 0.8, 1.25),
        _ => 2.0,
    };
    let has_type = rng.u32(0..100) < 96;
    let has_notes = rng.u32(0..100) < 7;
    let notes = NOTES[weighted_index(rng, [1; 5])];
    Some(SimulatedCoffee {
        timestamp: plan.instant(time),
        caffeine_mg: Milligrams::new((mg * servings).round())?,
        coffee_type: has_type.then_some(name),
        notes: has_notes.then_some(notes),
    })
}

/// Returns a random index with a probability proportional to its weight.
fn weighted_index<const N: usize>(rng: &mut Rng, weights: [u32; N]) -> usize {
    let mut left = rng.u32(0..weights.iter().sum::<u32>().max(1));
    for (index, weight) in weights.iter().enumerate() {
        if left < *weight {
            return index;
        }
        left -= weight;
    }
    0
}
