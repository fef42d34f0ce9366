//! Simulates the coffees and heart rates of a person, for the demo, tests and benchmarks.
//!
//! The numbers are chosen to look like those of a healthy adult; they are not measurements. One local
//! calendar day is generated at a time, so memory does not grow with the number of days. The same seed,
//! habits, zone and dates give the same days on every machine, except for heart rates at the very edge of
//! rounding: the last bit of `exp` differs between machines. Nothing is stored here.

mod day_plan;
mod drinks;

use fastrand::Rng;

pub use crate::simulator::drinks::SimulatedCoffee;

use crate::domain::caffeine::{CaffeineState, Kinetics};
use crate::domain::calendar::{Date, Zone};
use crate::domain::heart_rate::Bpm;
use crate::domain::time::{HOUR, MINUTE, Timestamp};
use crate::simulator::day_plan::{DayPlan, Episode, circadian, hours_to_micros, uniform};
use crate::simulator::drinks::random_coffee;

/// Habits of a simulated person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Habits {
    /// Average over a week, clamped to 0 to 50.
    pub coffees_per_day: f64,
    /// Number of readings on every day, whatever its length; clamped to 0 to 100,000.
    pub readings_per_day: u32,
    /// Effect of 100 mg of active caffeine on the heart rate, in beats per minute.
    pub bpm_per_100_mg: f64,
}

/// Simulated heart-rate reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedReading {
    pub timestamp: Timestamp,
    pub bpm: Bpm,
    pub context: &'static str,
}

/// Simulated local calendar day, each list in time order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SimulatedDay {
    pub coffees: Vec<SimulatedCoffee>,
    pub readings: Vec<SimulatedReading>,
}

/// Simulated person, one day after another.
#[derive(Clone, Debug)]
pub struct SimulatedPerson {
    habits: Habits,
    zone: Zone,
    kinetics: Kinetics,
    /// Random numbers for coffees. They are separate so that the number of coffees does not change the
    /// random numbers for heart rates.
    coffee_rng: Rng,
    heart_rng: Rng,
    resting_bpm: f64,
    /// Drift of the resting heart rate at the last hour, in beats per minute.
    drift_bpm: f64,
    caffeine: CaffeineState,
    /// Time of `caffeine`.
    caffeine_at: Timestamp,
    last_coffee: Timestamp,
}

/// Default effect of 100 mg of active caffeine, in beats per minute.
pub const DEFAULT_BPM_PER_100_MG: f64 = 3.0;
/// Active caffeine above which the effect does not grow, in milligrams.
const MAX_EFFECTIVE_MG: f64 = 1000.0;
/// Lowest and highest simulated heart rate, in beats per minute.
const BPM_RANGE: (f64, f64) = (38.0, 215.0);

impl SimulatedPerson {
    pub fn new(seed: u64, mut habits: Habits, zone: Zone) -> Self {
        let mut heart_rng = Rng::with_seed(seed);
        let coffees = habits.coffees_per_day;
        habits.coffees_per_day = if coffees.is_nan() { 0.0 } else { coffees.clamp(0.0, 50.0) };
        habits.readings_per_day = habits.readings_per_day.min(100_000);
        Self {
            habits,
            zone,
            kinetics: Kinetics::default(),
            coffee_rng: heart_rng.fork(),
            resting_bpm: uniform(&mut heart_rng, 57.0, 69.0),
            heart_rng,
            drift_bpm: 0.0,
            caffeine: CaffeineState::default(),
            caffeine_at: Timestamp::MIN,
            last_coffee: Timestamp::MIN,
        }
    }

    /// Simulates a local calendar day that follows the ones simulated before, and writes it to `day`. A date
    /// that the zone skipped stays empty.
    pub fn simulate_day(&mut self, date: Date, day: &mut SimulatedDay) {
        day.coffees.clear();
        day.readings.clear();
        let (start, end) = self.zone.day(date);
        if start >= end {
            return;
        }
        let plan = self.plan_day(date, start, end);
        self.add_coffees(date, &plan, &mut day.coffees);
        self.add_readings(&plan, &day.coffees, &mut day.readings);
        self.advance_to(end);
    }

    fn plan_day(&mut self, date: Date, start: Timestamp, end: Timestamp) -> DayPlan {
        // Average times in hours, Monday to Sunday.
        let (wake, sleep) = ([6.6, 6.6, 6.6, 6.6, 6.7, 8.3, 8.5], [22.6, 22.6, 22.7, 22.8, 23.4, 23.5, 22.4]);
        let rng = &mut self.heart_rng;
        let wake_time = hours_to_micros(wake[date.weekday()] + (approx_normal(rng) * 0.35).clamp(-1.5, 1.5));
        let sleep_time =
            hours_to_micros((sleep[date.weekday()] + approx_normal(rng) * 0.4).clamp(20.0, 23.95));
        let mut plan = DayPlan { start, end, wake_time, sleep_time, episodes: Vec::new(), drift: [0.0; 26] };
        plan.add_episodes(rng, date.weekday() >= 5);
        for hour in &mut plan.drift {
            *hour = self.drift_bpm;
            self.drift_bpm = self.drift_bpm * 0.9 + approx_normal(rng) * 1.1;
        }
        // Hour 24 of this day is hour 0 of the next.
        self.drift_bpm = plan.drift[24];
        plan
    }

    fn add_coffees(&mut self, date: Date, plan: &DayPlan, coffees: &mut Vec<SimulatedCoffee>) {
        // The factors of the seven days add up to 7.
        let factor = if date.weekday() < 5 { 1.04 } else { 0.9 };
        let mut remaining = self.habits.coffees_per_day * factor * uniform(&mut self.coffee_rng, 0.75, 1.25);
        // The fraction of the last coffee is the probability of drinking it.
        while self.coffee_rng.f64() < remaining {
            coffees.extend(random_coffee(&mut self.coffee_rng, plan));
            remaining -= 1.0;
        }
        coffees.sort_by_key(|coffee| coffee.timestamp);
    }

    fn add_readings(
        &mut self,
        plan: &DayPlan,
        coffees: &[SimulatedCoffee],
        readings: &mut Vec<SimulatedReading>,
    ) {
        let count = i64::from(self.habits.readings_per_day);
        let length = plan.end.micros() - plan.start.micros();
        let (mut coffees, mut episodes) = (coffees.iter().peekable(), plan.episodes.as_slice());
        readings.reserve(self.habits.readings_per_day as usize);
        for n in 0..count {
            let (slot, next) = (length * n / count, length * (n + 1) / count);
            // Readings are up to a quarter of the interval late.
            let at = plan.start.plus(slot + self.heart_rng.i64(0..=(next - slot - 1) / 4));
            while let Some(coffee) = coffees.next_if(|coffee| coffee.timestamp <= at) {
                self.drink(coffee);
            }
            self.advance_to(at);
            let time = plan.local_time(at);
            while let [first, rest @ ..] = episodes
                && first.recovered <= time
            {
                episodes = rest;
            }
            let episode = episodes.first().filter(|episode| episode.from <= time);
            let (bpm, context) = self.heart_rate(plan, time, episode);
            let bpm = bpm.clamp(BPM_RANGE.0, BPM_RANGE.1).round() as i64;
            readings.extend(Bpm::new(bpm).map(|bpm| SimulatedReading { timestamp: at, bpm, context }));
        }
        coffees.for_each(|coffee| self.drink(coffee));
    }

    fn drink(&mut self, coffee: &SimulatedCoffee) {
        self.advance_to(coffee.timestamp);
        self.caffeine.gut_mg += coffee.caffeine_mg.mg();
        self.last_coffee = coffee.timestamp;
    }

    fn advance_to(&mut self, at: Timestamp) {
        self.caffeine = self.kinetics.advance(self.caffeine, at.hours_since(self.caffeine_at));
        self.caffeine_at = at;
    }

    /// Returns the heart rate and its context at `caffeine_at`, whose local time of day is `time`.
    fn heart_rate(&mut self, plan: &DayPlan, time: i64, episode: Option<&Episode>) -> (f64, &'static str) {
        let hours = time as f64 / HOUR as f64;
        let effect_bpm = self.caffeine.active_mg.min(MAX_EFFECTIVE_MG) / 100.0 * self.habits.bpm_per_100_mg;
        let resting = self.resting_bpm + plan.drift_at(time) + circadian(hours) + effect_bpm;
        let noise = approx_normal(&mut self.heart_rng);
        if time < plan.wake_time || time >= plan.sleep_time {
            // Sleep cycles of about 90 minutes.
            let cycle = (hours / 1.5).fract();
            return (resting - 8.0 + 4.0 * (cycle - 0.5).abs() + noise * 1.4, "sleeping");
        }
        let since_coffee = self.caffeine_at.micros() - self.last_coffee.micros();
        match episode {
            Some(episode) => (resting + episode.rise_at(time) + noise * 3.2, episode.context_at(time)),
            None if (15 * MINUTE..75 * MINUTE).contains(&since_coffee) => {
                (resting + noise * 2.4, "post-coffee")
            }
            None => (resting + noise * 2.4, "resting"),
        }
    }
}

/// Returns an approximately normal number of mean 0 and standard deviation 1, within ±3.5. It uses sums
/// and products only, because logarithms differ between machines.
fn approx_normal(rng: &mut Rng) -> f64 {
    let bits = rng.u64(..);
    let sum: u64 = [0, 16, 32, 48].iter().map(|shift| bits >> shift & 0xffff).sum();
    (sum as f64 / 65_536.0 - 2.0) * 1.732_050_8
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::coffee::PRESETS;
    use crate::domain::time::DAY;
    use crate::simulator::drinks::DRINKS;

    fn simulate(
        seed: u64,
        coffees: f64,
        readings: u32,
        zone: &str,
        from: &str,
        days: u32,
    ) -> Vec<SimulatedDay> {
        let zone = Zone::named(zone).unwrap();
        let mut date = zone.date(zone.parse(from).unwrap());
        let habits = Habits {
            coffees_per_day: coffees,
            readings_per_day: readings,
            bpm_per_100_mg: DEFAULT_BPM_PER_100_MG,
        };
        let mut person = SimulatedPerson::new(seed, habits, zone.clone());
        (0..days)
            .map(|_| {
                let mut day = SimulatedDay::default();
                person.simulate_day(date, &mut day);
                let (start, end) = zone.day(date);
                assert_day_is_plausible(&day, start, end);
                date = date.next();
                day
            })
            .collect()
    }

    fn assert_day_is_plausible(day: &SimulatedDay, start: Timestamp, end: Timestamp) {
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
    fn the_same_seed_gives_the_same_days_and_another_seed_different_ones() {
        let days = |seed| simulate(seed, 4.0, 288, "Europe/Berlin", "2026-03-20", 14);
        assert_eq!(days(1), days(1));
        assert_ne!(days(1), days(2));
    }

    #[test]
    fn the_average_number_of_coffees_is_the_requested_one() {
        for wanted in [0.0, 0.4, 4.0, 50.0] {
            let days = simulate(3, wanted, 24, "Europe/Berlin", "2025-01-01", 728);
            let coffees: usize = days.iter().map(|day| day.coffees.len()).sum();
            let average = coffees as f64 / 728.0;
            assert!((average - wanted).abs() <= wanted * 0.1, "{average} for {wanted}");
            assert!(days.iter().all(|day| day.readings.len() == 24));
        }
    }

    #[test]
    fn extreme_habits_and_irregular_days_are_simulated() {
        for (coffees, readings) in [(f64::NAN, 0), (-1.0, 1), (f64::INFINITY, 7), (50.0, 200_000)] {
            simulate(4, coffees, readings, "Europe/Berlin", "2026-03-28", 3);
            simulate(4, coffees, readings, "Europe/Berlin", "2026-10-24", 3);
        }
        simulate(4, 50.0, 100, "America/Sao_Paulo", "2018-11-03", 3);
        assert_eq!(simulate(4, 9.0, 100, "Pacific/Apia", "2011-12-29", 3)[1], SimulatedDay::default());
    }

    #[test]
    fn heart_rates_over_a_year_are_those_of_a_healthy_adult() {
        let days = simulate(1, 4.0, 288, "Europe/Berlin", "2025-01-01", 365);
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
    fn coffee_is_drunk_in_the_morning_and_later_on_weekends() {
        let days = simulate(1, 4.0, 0, "UTC", "2025-01-06", 364);
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
    fn heart_rate_rises_by_three_bpm_for_every_hundred_milligrams() {
        let [without, with] = [0.0, 4.0].map(|coffees| simulate(5, coffees, 96, "UTC", "2025-01-01", 120));
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
