//! What a simulated person drinks, and when.

use fastrand::Rng;

use crate::domain::coffee::Milligrams;
use crate::domain::time::{HOUR, MINUTE};
use crate::simulator::plan::Plan;
use crate::simulator::{SimulatedCoffee, between};

/// What is drunk: type, mg per serving, how readily before 14:00, from 14:00, from 18:00.
/// Doses of the first six are those of `coffee::PRESETS`, the others follow from them.
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

/// When coffee is drunk: from and until so many minutes after waking, and how readily.
const THIRST: [(i64, i64, u32); 6] =
    [(10, 75, 32), (75, 180, 14), (180, 270, 22), (330, 450, 19), (450, 600, 9), (600, 840, 4)];

const NOTES: [&str; 5] = ["with oat milk", "before the meeting", "too bitter", "iced", "bad night"];

/// One drink of the day.
pub(super) fn order(rng: &mut Rng, plan: &Plan) -> Option<SimulatedCoffee> {
    let (from, until, _) = THIRST[weighted(rng, THIRST.map(|(_, _, weight)| weight))];
    let time = (plan.wakes + rng.i64(from * MINUTE..until * MINUTE)).min(plan.sleeps - rng.i64(MINUTE..HOUR));
    let part = if time < 14 * HOUR { 0 } else { 1 + usize::from(time >= 18 * HOUR) };
    let (name, mg, _) = DRINKS[weighted(rng, DRINKS.map(|(_, _, weights)| weights[part]))];
    // Most people log what the menu offers; some weigh, some take two.
    let servings = match rng.u32(0..100) {
        0..70 => 1.0,
        70..94 => between(rng, 0.8, 1.25),
        _ => 2.0,
    };
    let named = rng.u32(0..100) < 96;
    let noted = rng.u32(0..100) < 7;
    let note = NOTES[weighted(rng, [1; 5])];
    Some(SimulatedCoffee {
        timestamp: plan.instant(time),
        caffeine_mg: Milligrams::new((mg * servings).round())?,
        coffee_type: named.then_some(name),
        notes: noted.then_some(note),
    })
}

/// An index, the more often the greater its weight.
fn weighted<const N: usize>(rng: &mut Rng, weights: [u32; N]) -> usize {
    let mut left = rng.u32(0..weights.iter().sum::<u32>().max(1));
    for (index, weight) in weights.iter().enumerate() {
        if left < *weight {
            return index;
        }
        left -= weight;
    }
    0
}
