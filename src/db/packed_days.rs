//! Packed days: all readings of a UTC day in one blob, which is much faster to read than its rows.
//!
//! Triggers mark a day as pending when one of its readings changes (`sql/0004_packed_days.sql`), and
//! [`pack_pending`] packs pending days that have ended. A day that is not packed is read row by row.
//!
//! Format of a blob, numbers little-endian:
//!
//! - version (1 byte), exponent of the time unit (1 byte: a unit is 10^n microseconds), number of readings
//!   (4 bytes), number of contexts (1 byte),
//! - for each context its length in bytes (1 byte; 0: no context) and its text,
//! - for each reading, in the order of time and id: the time since the previous one (the first: since
//!   midnight) in units, as LEB128; the index of its context (1 byte); the heart rate in bpm (2 bytes).
//!
//! An oversized day has an empty blob, and is read row by row: one with more than [`MAX_READINGS`] readings,
//! since packing it would delay other writes, or with more than 255 contexts, since their number has one byte.

use std::time::{Duration, Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::db::reading_rows::each_reading;
use crate::domain::heart_rate::Bpm;
use crate::domain::time::{DAY, Timestamp};

pub const TABLE: &str = "heart_rate_packed_days";
const VERSION: u8 = 1;
/// Bytes before the contexts.
const HEADER_BYTES: usize = 7;
/// Maximum number of readings in a packed day.
const MAX_READINGS: usize = 20_000;
/// Exponents of the time unit: seconds, milliseconds, microseconds.
const EXPONENTS: [u8; 3] = [6, 3, 0];
/// Time after which a transaction packs no further day.
const TURN: Duration = Duration::from_millis(4);

/// Encoder of a day.
#[derive(Debug, Default)]
pub struct DayPacker {
    contexts: Vec<Option<String>>,
    /// Microseconds since midnight, bpm, index of the context.
    readings: Vec<(i64, u16, u8)>,
    is_too_large: bool,
}

impl DayPacker {
    /// Adds the next reading of the day, in the order of time and id.
    pub fn add(&mut self, at: Timestamp, bpm: Bpm, context: Option<&str>) {
        if self.is_too_large {
            return;
        }
        let context_index =
            self.contexts.iter().position(|own| own.as_deref() == context).unwrap_or_else(|| {
                self.contexts.push(context.map(str::to_owned));
                self.contexts.len() - 1
            });
        match u8::try_from(context_index) {
            Ok(context_index) if context_index < u8::MAX && self.readings.len() < MAX_READINGS => {
                self.readings.push((at.micros().rem_euclid(DAY), bpm.get(), context_index));
            }
            _ => *self = Self { is_too_large: true, ..Self::default() },
        }
    }

    pub fn finish(&self) -> Vec<u8> {
        if self.is_too_large {
            return Vec::new();
        }
        let fits = |exponent: &u8| {
            let unit = 10_i64.pow(u32::from(*exponent));
            self.readings.iter().all(|(at, ..)| at % unit == 0)
        };
        let exponent = EXPONENTS.into_iter().find(fits).unwrap_or(0);
        let mut blob = Vec::with_capacity(64 + 5 * self.readings.len());
        blob.extend([VERSION, exponent]);
        blob.extend((self.readings.len() as u32).to_le_bytes());
        blob.push(self.contexts.len() as u8);
        for context in &self.contexts {
            let text = context.as_deref().unwrap_or_default().as_bytes();
            blob.push(text.len() as u8);
            blob.extend(text);
        }
        let mut before = 0;
        for (at, bpm, context_index) in &self.readings {
            let mut left = (at - before).unsigned_abs() / 10_u64.pow(u32::from(exponent));
            before = *at;
            while left >= 0x80 {
                blob.push(left as u8 | 0x80);
                left >>= 7;
            }
            let [low, high] = bpm.to_le_bytes();
            blob.extend([left as u8, *context_index, low, high]);
        }
        blob
    }
}

/// Decodes the readings of `day` with included contexts into `readings`. Returns `None` for an empty or damaged
/// blob.
fn unpack(
    blob: &[u8],
    day: i64,
    is_included: impl Fn(Option<&str>) -> bool,
    readings: &mut Vec<(Timestamp, Bpm)>,
) -> Option<()> {
    readings.clear();
    let (&[VERSION, exponent, count @ .., contexts], mut rest) = blob.split_first_chunk::<HEADER_BYTES>()?
    else {
        return None;
    };
    let unit = EXPONENTS.contains(&exponent).then(|| 10_i64.pow(u32::from(exponent)))?;
    let mut included = [None; 256];
    for slot in &mut included[..usize::from(contexts)] {
        let (&length, after) = rest.split_first()?;
        let (text, after) = after.split_at_checked(usize::from(length))?;
        let text = std::str::from_utf8(text).ok()?;
        *slot = Some(is_included(Some(text).filter(|text| !text.is_empty())));
        rest = after;
    }
    let mut at = day * DAY;
    let end = at + DAY;
    for _ in 0..u32::from_le_bytes(count) {
        let mut delta = 0;
        for shift in (0..).step_by(7) {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            delta |= i64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
            // Six groups of 7 bits hold any time of a day in microseconds.
            if shift >= 35 {
                return None;
            }
        }
        let (&[context_index, low, high], after) = rest.split_first_chunk()?;
        rest = after;
        at += delta * unit;
        if at >= end {
            return None;
        }
        let bpm = Bpm::new(i64::from(u16::from_le_bytes([low, high])))?;
        if included[usize::from(context_index)]? {
            readings.push((Timestamp::clamped(at), bpm));
        }
    }
    rest.is_empty().then_some(())
}

/// Calls `each` for each packed day from that of `start` to that of `end`, in order, with the start and the end of
/// the day and all its readings with included contexts. Pending, oversized and damaged days are omitted.
pub fn each_packed_day(
    c: &Connection,
    start: Timestamp,
    end: Timestamp,
    is_included: impl Fn(Option<&str>) -> bool,
    mut each: impl FnMut(Timestamp, Timestamp, &[(Timestamp, Bpm)]) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut query = c.prepare_cached(
        "select day, readings from heart_rate_packed_days not indexed
         where day between ? and ? and readings is not null order by day",
    )?;
    let mut rows = query.query([start, end].map(|at| at.micros().div_euclid(DAY)))?;
    let mut readings = Vec::new();
    while let Some(row) = rows.next()? {
        let day: i64 = row.get(0)?;
        if unpack(row.get_ref(1)?.as_blob()?, day, &is_included, &mut readings).is_some() {
            each(Timestamp::clamped(day * DAY), Timestamp::clamped((day + 1) * DAY), &readings)?;
        }
    }
    Ok(())
}

/// Packs pending days that have ended, newest first, in one short transaction. Writes nothing when there are
/// none.
pub fn pack_pending(c: &Connection) -> rusqlite::Result<()> {
    // The system's time rather than the server's clock, which `db` may not import: only the choice of the days that
    // have ended depends on it.
    let today = Timestamp::from(SystemTime::now()).micros().div_euclid(DAY);
    if newest_pending(c, today)?.is_none() {
        return Ok(());
    }
    let packing = Transaction::new_unchecked(c, TransactionBehavior::Immediate)?;
    let began = Instant::now();
    while let Some(day) = newest_pending(&packing, today)? {
        pack(&packing, day)?;
        if began.elapsed() >= TURN {
            break;
        }
    }
    packing.commit()
}

fn newest_pending(c: &Connection, before: i64) -> rusqlite::Result<Option<i64>> {
    c.prepare_cached(
        "select day from heart_rate_packed_days indexed by heart_rate_packed_days_pending
         where readings is null and day < ? order by day desc limit 1",
    )?
    .query_row([before], |row| row.get(0))
    .optional()
}

fn pack(c: &Connection, day: i64) -> rusqlite::Result<()> {
    let (mut packer, mut is_empty) = (DayPacker::default(), true);
    each_reading(c, day * DAY, (day + 1) * DAY, |at, bpm, context| {
        packer.add(at, bpm, context);
        is_empty = false;
    })?;
    if is_empty {
        c.prepare_cached("delete from heart_rate_packed_days where day = ?")?.execute([day])?;
    } else {
        c.prepare_cached("update heart_rate_packed_days set readings = ? where day = ?")?
            .execute((packer.finish(), day))?;
    }
    Ok(())
}

/// Marks a day as pending, as the triggers do.
pub fn mark_pending(c: &Connection, day: i64) -> rusqlite::Result<()> {
    c.prepare_cached(
        "insert into heart_rate_packed_days (day) values (?)
         on conflict do update set readings = null where readings is not null",
    )?
    .execute([day])
    .map(drop)
}

/// Reports whether there is a packed day without readings.
pub fn has_day_without_readings(c: &Connection) -> rusqlite::Result<bool> {
    c.query_row(
        "select exists (
             select 1 from heart_rate_packed_days not indexed
             where readings is not null and not exists (
                 select 1 from heart_rate_logs indexed by heart_rate_logs_by_time
                 where timestamp >= day * 86400000000 and timestamp < (day + 1) * 86400000000))",
        [],
        |row| row.get(0),
    )
}

/// Reports whether a day is pending or packed with exactly these readings.
pub fn is_pending_or_equal(c: &Connection, day: i64, packer: &DayPacker) -> rusqlite::Result<bool> {
    let stored: Option<Option<Vec<u8>>> = c
        .prepare_cached("select readings from heart_rate_packed_days where day = ?")?
        .query_row([day], |row| row.get(0))
        .optional()?;
    Ok(stored.is_some_and(|stored| stored.is_none_or(|stored| stored == packer.finish())))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::backup::expected_schema::model;
    use crate::db::heart_rates::correlate;
    use crate::db::rollups::{RollupBuilder, differing_tables, recount};
    use crate::db::schema;
    use crate::domain::caffeine::Kinetics;
    use crate::domain::calendar::Zone;
    use crate::domain::correlation::{CorrelationParams, CorrelationResult};
    use crate::domain::time::{HOUR, MINUTE, SECOND};

    const CONTEXTS: [Option<&str>; 6] =
        [None, Some("resting"), Some("resting"), Some("exercise"), Some("sleeping"), Some("Ärger 😀")];
    /// The first of the days that the tests fill: some of them lie before 1970.
    const FIRST_DAY: i64 = -3;
    const DAYS: i64 = 9;

    fn database() -> Connection {
        let mut c = Connection::open_in_memory().unwrap();
        schema::migrate(&mut c, 0, schema::migrations()).unwrap();
        c
    }

    fn random() -> Rng {
        let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_126);
        println!("TEST_SEED={seed}");
        Rng::with_seed(seed)
    }

    /// A random instant; many lie at the edge of a day, or at the same instant as others.
    fn instant(random: &mut Rng) -> i64 {
        let day = (FIRST_DAY + random.i64(0..DAYS)) * DAY;
        day + match random.u8(0..6) {
            0 => 0,
            1 => DAY - 1,
            2 => random.i64(0..DAY),
            3 => random.i64(0..DAY / 1000) * 1000,
            4 => random.i64(0..24 * 4) * 15 * MINUTE,
            _ => random.i64(0..DAY / SECOND) * SECOND,
        }
    }

    fn insert(c: &Connection, at: i64, bpm: i64, context: Option<&str>) -> rusqlite::Result<()> {
        c.prepare_cached("insert into heart_rate_logs (timestamp, bpm, context) values (?, ?, ?)")?
            .execute((at, bpm, context))
            .map(drop)
    }

    fn insert_random(c: &Connection, random: &mut Rng) -> (Timestamp, Bpm, Option<&'static str>) {
        let (at, bpm, context) = (instant(random), random.i64(40..180), CONTEXTS[random.usize(0..6)]);
        insert(c, at, bpm, context).unwrap();
        (Timestamp::clamped(at), Bpm::new(bpm).unwrap(), context)
    }

    fn drink(c: &Connection, random: &mut Rng) {
        c.execute(
            "insert into coffee_logs (timestamp, caffeine_mg) values (?, ?)",
            (instant(random), random.f64() * 200.0),
        )
        .unwrap();
    }

    fn pack_all(c: &Connection) {
        while newest_pending(c, i64::MAX).unwrap().is_some() {
            pack_pending(c).unwrap();
        }
    }

    fn packed(c: &Connection) -> i64 {
        let query = "select count(*) from heart_rate_packed_days where readings is not null";
        c.query_row(query, [], |row| row.get(0)).unwrap()
    }

    fn unpack_all(c: &Connection) {
        c.execute("update heart_rate_packed_days set readings = null", []).unwrap();
    }

    /// Correlations over periods that end within days, in several zones.
    fn answers(c: &Connection) -> Vec<CorrelationResult> {
        let start = FIRST_DAY * DAY;
        let mut found = Vec::new();
        for (zone, since, until) in [
            ("UTC", 0, DAYS * DAY),
            ("Europe/Berlin", 7 * HOUR + 1, 5 * DAY + 13 * HOUR),
            ("Pacific/Apia", DAY - 1, 6 * DAY + 1),
            ("Asia/Kathmandu", 2 * DAY, 2 * DAY + HOUR),
        ] {
            for context in [None, Some("resting"), Some("Ärger 😀"), Some("unheard of")] {
                let params = CorrelationParams {
                    since: Timestamp::clamped(start + since),
                    until: Timestamp::clamped(start + until),
                    hours_after: 3,
                    context: context.map(str::to_owned),
                    max_pairs: 1000,
                    zone: Zone::named(zone).unwrap(),
                    kinetics: Kinetics::default(),
                };
                found.push(correlate(c, &params).unwrap());
            }
        }
        found
    }

    #[test]
    fn answers_are_the_same_with_packed_days_whatever_was_written_before_and_after_packing() {
        let (c, mut random) = (database(), random());
        let mut most_packed = 0;
        for round in 0..60 {
            for _ in 0..random.usize(1..30) {
                let some_id = random.i64(1..=2000);
                match random.u8(0..8) {
                    0 => drink(&c, &mut random),
                    1 => {
                        c.execute("delete from heart_rate_logs where id = ?", [some_id]).unwrap();
                    }
                    2 => {
                        let values = (instant(&mut random), random.i64(40..180), random.usize(0..6), some_id);
                        let (at, bpm, context, id) = values;
                        c.execute(
                            "update heart_rate_logs set timestamp = ?, bpm = ?, context = ? where id = ?",
                            (at, bpm, CONTEXTS[context], id),
                        )
                        .unwrap();
                    }
                    3 => {
                        let change = "update heart_rate_logs set bpm = bpm + 1, notes = 'x' where id = ?";
                        c.execute(change, [some_id]).unwrap();
                    }
                    4 => RollupBuilder::during(&c, |counter| {
                        for _ in 0..40 {
                            let (at, bpm, context) = insert_random(&c, &mut random);
                            counter.add(at, bpm, context);
                        }
                        Ok(())
                    })
                    .unwrap(),
                    5 => pack_pending(&c).unwrap(),
                    _ => _ = insert_random(&c, &mut random),
                }
            }
            // Those of some days alone, so that packed days and others take turns.
            if random.bool() {
                pack_all(&c);
                let some = "update heart_rate_packed_days set readings = null where day % 3 = ?";
                c.execute(some, [random.i64(0..3)]).unwrap();
            }
            assert_eq!(differing_tables(&c).unwrap(), Vec::<&str>::new(), "round {round}");
            let found = answers(&c);
            most_packed = most_packed.max(packed(&c));
            pack_all(&c);
            assert_eq!(differing_tables(&c).unwrap(), Vec::<&str>::new(), "round {round}, packed");
            let of_packed = answers(&c);
            unpack_all(&c);
            let of_rows = answers(&c);
            assert!(of_packed == of_rows && found == of_rows, "round {round}");
            if round % 20 == 19 {
                recount(&c).unwrap();
            }
        }
        assert!(most_packed > 3, "{most_packed}");
        assert!(
            answers(&c).iter().filter(|answer| matches!(answer, CorrelationResult::Pairs(_))).count() > 8
        );
    }

    #[test]
    fn a_day_is_pending_again_as_soon_as_one_of_its_readings_changes() {
        let c = database();
        for (day, bpm) in [(1, 60), (2, 70), (3, 80)] {
            insert(&c, day * DAY, bpm, None).unwrap();
        }
        for (change, still_packed) in [
            ("insert into heart_rate_logs (timestamp, bpm) values (86400000001, 61)", 2),
            ("insert into heart_rate_logs (timestamp, bpm) values (-1, 61)", 3),
            ("delete from heart_rate_logs where timestamp = -1", 3),
            ("update heart_rate_logs set bpm = 99 where id = 2", 2),
            ("update heart_rate_logs set context = 'x' where id = 2", 2),
            ("update heart_rate_logs set notes = 'x' where id = 2", 3),
            ("update heart_rate_logs set timestamp = timestamp + 86400000000 where id = 2", 1),
            ("delete from heart_rate_logs where id = 3", 1),
        ] {
            pack_all(&c);
            c.execute(change, []).unwrap();
            assert_eq!(packed(&c), still_packed, "{change}");
        }
        let today = Timestamp::from(SystemTime::now());
        insert(&c, today.micros(), 60, None).unwrap();
        pack_pending(&c).unwrap();
        let pending = newest_pending(&c, i64::MAX).unwrap();
        assert_eq!(pending, Some(today.micros().div_euclid(DAY)), "a day that has not ended is not packed");
    }

    #[test]
    fn a_damaged_blob_is_read_from_the_rows_and_found_by_verification() {
        let (c, mut random) = (database(), random());
        (0..400).for_each(|_| _ = insert_random(&c, &mut random));
        (0..20).for_each(|_| drink(&c, &mut random));
        let expected = answers(&c);
        pack_all(&c);
        let blob = |day: i64| -> Vec<u8> {
            let query = "select readings from heart_rate_packed_days where day = ?";
            c.query_row(query, [day], |row| row.get(0)).unwrap()
        };
        let good = blob(1);
        let mut readings = Vec::new();
        assert!(unpack(&good, 1, |_| true, &mut readings).is_some() && !readings.is_empty());
        let replace = |blob: &[u8]| {
            c.execute("update heart_rate_packed_days set readings = ? where day = 1", [blob]).unwrap();
        };
        let other_version = [&[VERSION + 1], &good[1..]].concat();
        let too_long = [&good[..], &[0]].concat();
        for damaged in [&good[..good.len() - 1], &good[..5], &[], &other_version, &too_long] {
            replace(damaged);
            assert!(answers(&c) == expected);
            assert_eq!(differing_tables(&c).unwrap(), [TABLE]);
        }
        for length in 0..good.len() {
            assert_eq!(unpack(&good[..length], 1, |_| true, &mut readings), None, "cut off at {length}");
        }
        for _ in 0..20_000 {
            let mut flipped = good.clone();
            for _ in 0..random.usize(1..4) {
                flipped[random.usize(0..good.len())] ^= random.u8(1..);
            }
            let _ = unpack(&flipped, 1, |_| true, &mut readings);
        }
        replace(&good);
        assert_eq!(differing_tables(&c).unwrap(), Vec::<&str>::new());
        c.execute("update heart_rate_packed_days set day = 4000 where day = 1", []).unwrap();
        assert_eq!(differing_tables(&c).unwrap(), [TABLE]);
    }

    #[test]
    fn days_with_too_much_in_them_are_not_packed() {
        let c = database();
        c.execute_batch(
            "insert into coffee_logs (timestamp, caffeine_mg) values (40000000000, 100);
             with recursive n (n) as (select 0 union all select n + 1 from n where n < 20000)
             insert into heart_rate_logs (timestamp, bpm) select n * 4000000, 60 + n % 50 from n;
             with recursive n (n) as (select 0 union all select n + 1 from n where n < 255)
             insert into heart_rate_logs (timestamp, bpm, context)
             select 86400000000 + n * 1000000, 70, 'context ' || n from n",
        )
        .unwrap();
        let expected = answers(&c);
        pack_all(&c);
        let lengths = "select group_concat(length(readings)) from heart_rate_packed_days";
        let lengths = || c.query_row(lengths, [], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(lengths(), "0,0");
        assert!(answers(&c) == expected);
        assert_eq!(differing_tables(&c).unwrap(), Vec::<&str>::new());
        // One fewer of each is packed.
        c.execute("delete from heart_rate_logs where id = 1 or context = 'context 0'", []).unwrap();
        let expected = answers(&c);
        pack_all(&c);
        assert!(!lengths().starts_with("0,") && !lengths().ends_with(",0"), "{}", lengths());
        assert!(answers(&c) == expected);
        assert_eq!(differing_tables(&c).unwrap(), Vec::<&str>::new());
    }

    #[test]
    fn the_days_of_an_older_database_are_packed_after_its_migration() {
        let mut random = random();
        for version in 1..=3_usize {
            let mut c = model(version.cast_signed() as i64).unwrap();
            (0..300).for_each(|_| _ = insert_random(&c, &mut random));
            (0..9).for_each(|_| drink(&c, &mut random));
            if version > 1 {
                assert_eq!(differing_tables(&c).unwrap(), Vec::<&str>::new());
            }
            schema::migrate(&mut c, version, schema::migrations()).unwrap();
            let expected = answers(&c);
            pack_all(&c);
            assert_eq!((packed(&c), differing_tables(&c).unwrap()), (DAYS, vec![]), "from version {version}");
            assert!(answers(&c) == expected);
        }
    }
}
