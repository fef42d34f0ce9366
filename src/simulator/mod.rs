//! A simulated person for demonstrations and benchmarks: drinks by habit, sleeps, works,
//! trains now and then, and has a heart that answers to all of it.
//!
//! Plausible, not true: the numbers are chosen to look like a healthy adult's. One local
//! calendar day at a time, so that ten years never sit in memory. The same seed, habits,
//! zone and dates give the same days on every machine (short of a pulse on the very edge of
//! rounding: an exponential's last bit is the machine's own). Storing them is not done here.

mod drinks;
mod plan;

use fastrand::Rng;

use crate::domain::caffeine::{CaffeineState, Kinetics};
use crate::domain::calendar::{Date, Zone};
use crate::domain::coffee::Milligrams;
use crate::domain::heart_rate::Bpm;
use crate::domain::time::{HOUR, MINUTE, Timestamp};
use crate::simulator::drinks::order;
use crate::simulator::plan::{Episode, Plan, circadian};

/// How much a person drinks and measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// On average over a week, held within 0 to 50.
    pub coffees_per_day: f64,
    /// On every day, however long; held within 0 to 100,000.
    pub readings_per_day: u32,
    /// The heart's answer to 100 mg of active caffeine, in beats per minute.
    pub bpm_per_100_mg: f64,
}

/// A coffee as the person drank it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedCoffee {
    pub timestamp: Timestamp,
    pub caffeine_mg: Milligrams,
    pub coffee_type: Option<&'static str>,
    pub notes: Option<&'static str>,
}

/// A reading as the person's watch took it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedReading {
    pub timestamp: Timestamp,
    pub bpm: Bpm,
    pub context: &'static str,
}

/// A local calendar day, each list in time order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimulatedDay {
    pub coffees: Vec<SimulatedCoffee>,
    pub readings: Vec<SimulatedReading>,
}

/// Someone who lives one day after another.
#[derive(Clone, Debug)]
pub struct SimulatedPerson {
    habits: Habits,
    zone: Zone,
    kinetics: Kinetics,
    /// Decides what is drunk; apart from `heart`, so that it changes nothing else.
    appetite: Rng,
    heart: Rng,
    resting_bpm: f64,
    /// How far the resting pulse has wandered by the last hour, in beats per minute.
    drift_bpm: f64,
    body: CaffeineState,
    /// The instant that `body` describes.
    body_at: Timestamp,
    last_coffee: Timestamp,
}

/// What 100 mg of active caffeine do to the heart of a person who is not asked about it, in beats per minute.
pub const BPM_PER_100_MG: f64 = 3.0;
/// Above this level the heart does not answer more, in mg.
const FULL_ANSWER_MG: f64 = 1000.0;
/// The slowest and the fastest pulse of a simulated person.
const PULSES: (f64, f64) = (38.0, 215.0);

impl SimulatedPerson {
    /// A person whose whole life follows from `seed`.
    pub fn new(seed: u64, mut habits: Habits, zone: Zone) -> Self {
        let mut heart = Rng::with_seed(seed);
        let coffees = habits.coffees_per_day;
        habits.coffees_per_day = if coffees.is_nan() { 0.0 } else { coffees.clamp(0.0, 50.0) };
        habits.readings_per_day = habits.readings_per_day.min(100_000);
        Self {
            habits,
            zone,
            kinetics: Kinetics::default(),
            appetite: heart.fork(),
            resting_bpm: between(&mut heart, 57.0, 69.0),
            heart,
            drift_bpm: 0.0,
            body: CaffeineState::default(),
            body_at: Timestamp::MIN,
            last_coffee: Timestamp::MIN,
        }
    }

    /// Lives one local calendar day, after the days lived before, and writes it into `day`.
    /// A date that the zone skipped stays empty.
    pub fn simulate_day(&mut self, date: Date, day: &mut SimulatedDay) {
        day.coffees.clear();
        day.readings.clear();
        let (start, end) = self.zone.day(date);
        if start >= end {
            return;
        }
        let plan = self.plan(date, start, end);
        self.drink(date, &plan, &mut day.coffees);
        self.measure(&plan, &day.coffees, &mut day.readings);
        self.advance_to(end);
    }

    fn plan(&mut self, date: Date, start: Timestamp, end: Timestamp) -> Plan {
        let (rises, retires) =
            ([6.6, 6.6, 6.6, 6.6, 6.7, 8.3, 8.5], [22.6, 22.6, 22.7, 22.8, 23.4, 23.5, 22.4]);
        let rng = &mut self.heart;
        let wakes = local(rises[date.weekday()] + (bell(rng) * 0.35).clamp(-1.5, 1.5));
        let sleeps = local((retires[date.weekday()] + bell(rng) * 0.4).clamp(20.0, 23.95));
        let mut plan = Plan { start, end, wakes, sleeps, episodes: Vec::new(), drift: [0.0; 26] };
        plan.fill(rng, date.weekday() >= 5);
        for hour in &mut plan.drift {
            *hour = self.drift_bpm;
            self.drift_bpm = self.drift_bpm * 0.9 + bell(rng) * 1.1;
        }
        // Hour 24 of this day is hour 0 of the next.
        self.drift_bpm = plan.drift[24];
        plan
    }

    fn drink(&mut self, date: Date, plan: &Plan, coffees: &mut Vec<SimulatedCoffee>) {
        // Seven days' factors make 7.
        let factor = if date.weekday() < 5 { 1.04 } else { 0.9 };
        let mut wanted = self.habits.coffees_per_day * factor * between(&mut self.appetite, 0.75, 1.25);
        // The last one, of which a fraction is wanted, is drunk that often.
        while self.appetite.f64() < wanted {
            coffees.extend(order(&mut self.appetite, plan));
            wanted -= 1.0;
        }
        coffees.sort_by_key(|coffee| coffee.timestamp);
    }

    fn measure(&mut self, plan: &Plan, coffees: &[SimulatedCoffee], readings: &mut Vec<SimulatedReading>) {
        let count = i64::from(self.habits.readings_per_day);
        let length = plan.end.micros() - plan.start.micros();
        let (mut cups, mut episodes) = (coffees.iter().peekable(), plan.episodes.as_slice());
        readings.reserve(self.habits.readings_per_day as usize);
        for n in 0..count {
            let (slot, next) = (length * n / count, length * (n + 1) / count);
            // A watch is nearly on time.
            let at = plan.start.plus(slot + self.heart.i64(0..=(next - slot - 1) / 4));
            while let Some(coffee) = cups.next_if(|coffee| coffee.timestamp <= at) {
                self.take(coffee);
            }
            self.advance_to(at);
            let time = plan.local_time(at);
            while let [first, rest @ ..] = episodes
                && first.fades <= time
            {
                episodes = rest;
            }
            let episode = episodes.first().filter(|episode| episode.from <= time);
            let (pulse, context) = self.pulse(plan, time, episode);
            let beats = pulse.clamp(PULSES.0, PULSES.1).round() as i64;
            readings.extend(Bpm::new(beats).map(|bpm| SimulatedReading { timestamp: at, bpm, context }));
        }
        cups.for_each(|coffee| self.take(coffee));
    }

    fn take(&mut self, coffee: &SimulatedCoffee) {
        self.advance_to(coffee.timestamp);
        self.body.gut_mg += coffee.caffeine_mg.mg();
        self.last_coffee = coffee.timestamp;
    }

    fn advance_to(&mut self, at: Timestamp) {
        self.body = self.kinetics.advance(self.body, at.hours_since(self.body_at));
        self.body_at = at;
    }

    /// The pulse at `body_at`, whose local time of day is `time`, and what the body is doing.
    fn pulse(&mut self, plan: &Plan, time: i64, episode: Option<&Episode>) -> (f64, &'static str) {
        let hours = time as f64 / HOUR as f64;
        let caffeine = self.body.active_mg.min(FULL_ANSWER_MG) / 100.0 * self.habits.bpm_per_100_mg;
        let calm = self.resting_bpm + plan.drift_at(time) + circadian(hours) + caffeine;
        let noise = bell(&mut self.heart);
        if time < plan.wakes || time >= plan.sleeps {
            // Cycles of about 90 minutes, deep sleep and dreams.
            let cycle = (hours / 1.5).fract();
            return (calm - 8.0 + 4.0 * (cycle - 0.5).abs() + noise * 1.4, "sleeping");
        }
        let since_coffee = self.body_at.micros() - self.last_coffee.micros();
        match episode {
            Some(episode) => (calm + episode.lift_at(time) + noise * 3.2, episode.context_at(time)),
            None if (15 * MINUTE..75 * MINUTE).contains(&since_coffee) => (calm + noise * 2.4, "post-coffee"),
            None => (calm + noise * 2.4, "resting"),
        }
    }
}

/// A bell curve of mean 0 and deviation 1, never beyond ±3.5. Sums and products only: the
/// logarithms of exact normal numbers differ between machines.
fn bell(rng: &mut Rng) -> f64 {
    let bits = rng.u64(..);
    let sum: u64 = [0, 16, 32, 48].iter().map(|shift| bits >> shift & 0xffff).sum();
    (sum as f64 / 65_536.0 - 2.0) * 1.732_050_8
}

fn between(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + rng.f64() * (high - low)
}

/// Hours of the day in microseconds.
fn local(hours: f64) -> i64 {
    (hours * HOUR as f64) as i64
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::coffee::PRESETS;
    use crate::domain::time::DAY;
    use crate::simulator::drinks::DRINKS;

    fn live(seed: u64, coffees: f64, readings: u32, zone: &str, from: &str, days: u32) -> Vec<SimulatedDay> {
        let zone = Zone::named(zone).unwrap();
        let mut date = zone.date(zone.parse(from).unwrap());
        let habits =
            Habits { coffees_per_day: coffees, readings_per_day: readings, bpm_per_100_mg: BPM_PER_100_MG };
        let mut person = SimulatedPerson::new(seed, habits, zone.clone());
        (0..days)
            .map(|_| {
                let mut day = SimulatedDay::default();
                person.simulate_day(date, &mut day);
                let (start, end) = zone.day(date);
                check(&day, start, end);
                date = date.next();
                day
            })
            .collect()
    }

    /// What holds for any day.
    fn check(day: &SimulatedDay, start: Timestamp, end: Timestamp) {
        let drunk: Vec<_> = day.coffees.iter().map(|coffee| coffee.timestamp).collect();
        let measured: Vec<_> = day.readings.iter().map(|reading| reading.timestamp).collect();
        for times in [drunk, measured] {
            assert!(times.is_sorted() && times.iter().all(|at| (start..end).contains(at)));
        }
        assert!(day.coffees.iter().all(|coffee| (0.0..=1000.0).contains(&coffee.caffeine_mg.mg())));
        assert!(day.readings.iter().all(|reading| (30..=250).contains(&reading.bpm.get())));
    }

    fn mean(days: &[SimulatedDay], context: &str) -> f64 {
        let pulses = days.iter().flat_map(|day| &day.readings).filter(|reading| reading.context == context);
        let (sum, count) =
            pulses.fold((0.0, 0.0), |(sum, count), r| (sum + f64::from(r.bpm.get()), count + 1.0));
        sum / count
    }

    #[test]
    fn the_same_seed_lives_the_same_days_and_another_does_not() {
        let days = |seed| live(seed, 4.0, 288, "Europe/Berlin", "2026-03-20", 14);
        assert_eq!(days(1), days(1));
        assert_ne!(days(1), days(2));
    }

    #[test]
    fn the_asked_averages_are_met() {
        for wanted in [0.0, 0.4, 4.0, 50.0] {
            let days = live(3, wanted, 24, "Europe/Berlin", "2025-01-01", 728);
            let coffees: usize = days.iter().map(|day| day.coffees.len()).sum();
            let average = coffees as f64 / 728.0;
            assert!((average - wanted).abs() <= wanted * 0.1, "{average} for {wanted}");
            assert!(days.iter().all(|day| day.readings.len() == 24));
        }
    }

    #[test]
    fn odd_habits_and_odd_days_are_lived_too() {
        for (coffees, readings) in [(f64::NAN, 0), (-1.0, 1), (f64::INFINITY, 7), (50.0, 200_000)] {
            live(4, coffees, readings, "Europe/Berlin", "2026-03-28", 3);
            live(4, coffees, readings, "Europe/Berlin", "2026-10-24", 3);
        }
        live(4, 50.0, 100, "America/Sao_Paulo", "2018-11-03", 3);
        assert_eq!(live(4, 9.0, 100, "Pacific/Apia", "2011-12-29", 3)[1], SimulatedDay::default());
    }

    #[test]
    fn a_year_looks_like_a_healthy_adults() {
        let days = live(1, 4.0, 288, "Europe/Berlin", "2025-01-01", 365);
        let (resting, sleeping) = (mean(&days, "resting"), mean(&days, "sleeping"));
        assert!((60.0..80.0).contains(&resting), "{resting}");
        assert!((resting - 20.0..resting - 6.0).contains(&sleeping), "{sleeping}");
        assert!((105.0..150.0).contains(&mean(&days, "exercise")), "{}", mean(&days, "exercise"));
        for context in ["active", "stressed", "post-coffee"] {
            assert!(mean(&days, context) > resting, "{context}");
        }
        let shares = ["sleeping", "resting"].map(|context| {
            let all = days.iter().flat_map(|day| &day.readings);
            all.filter(|reading| reading.context == context).count() as f64 / (365.0 * 288.0)
        });
        assert!((0.27..0.4).contains(&shares[0]) && (0.3..0.6).contains(&shares[1]), "{shares:?}");
    }

    #[test]
    fn coffee_is_drunk_by_habit() {
        let days = live(1, 4.0, 0, "UTC", "2025-01-06", 364);
        let hours = |days: &[SimulatedDay]| -> Vec<f64> {
            days.iter()
                .flat_map(|day| &day.coffees)
                .map(|c| c.timestamp.micros().rem_euclid(DAY) as f64 / HOUR as f64)
                .collect()
        };
        let first = |weekend: bool| {
            let of_kind = days.iter().enumerate().filter(|(n, _)| (n % 7 >= 5) == weekend);
            let firsts: Vec<f64> =
                of_kind.filter_map(|(_, day)| hours(std::slice::from_ref(day)).first().copied()).collect();
            firsts.iter().sum::<f64>() / firsts.len() as f64
        };
        assert!(first(true) > first(false) + 1.0);
        let all = hours(&days);
        assert!(all.iter().filter(|h| **h < 12.0).count() > all.iter().filter(|h| **h >= 14.0).count());
        let named = |name| days.iter().flat_map(|day| &day.coffees).any(|c| c.coffee_type == Some(name));
        assert!(PRESETS.iter().all(|preset| named(preset.coffee_type)));
        for preset in PRESETS {
            assert!(DRINKS.iter().any(|d| d.0 == preset.coffee_type && d.1 == preset.caffeine_mg));
        }
    }

    #[test]
    fn the_heart_beats_three_times_a_minute_faster_for_every_hundred_milligrams() {
        let [without, with] = [0.0, 4.0].map(|coffees| live(5, coffees, 96, "UTC", "2025-01-01", 120));
        let kinetics = Kinetics::default();
        let doses: Vec<_> =
            with.iter().flat_map(|day| &day.coffees).map(|c| (c.timestamp, c.caffeine_mg)).collect();
        let (mut beats, mut milligrams) = (0.0, 0.0);
        for (a, b) in without.iter().zip(&with).flat_map(|(a, b)| a.readings.iter().zip(&b.readings)) {
            assert!(a.timestamp == b.timestamp && a.bpm <= b.bpm);
            beats += f64::from(b.bpm.get() - a.bpm.get());
            let recent = doses.partition_point(|(at, _)| *at < a.timestamp.minus(3 * DAY));
            let until = doses.partition_point(|(at, _)| *at <= a.timestamp);
            milligrams += kinetics.active(&doses[recent..until], a.timestamp);
        }
        let per_hundred = beats / milligrams * 100.0;
        assert!((2.9..3.1).contains(&per_hundred), "{per_hundred}");
    }
}
