//! After random writes in several time zones, every aggregate equals a naive computation over the
//! exported rows.
//!
//! `TEST_SEED` sets the seed of the last round.

use std::collections::BTreeMap;

use coffee_tracker::backup::verify::verify_file;
use coffee_tracker::domain::time::{DAY, HOUR, MINUTE, Timestamp};
use fastrand::Rng;
use serde_json::{Value, json};

use super::helpers::{TestApp, at, test_seed};

/// Time zones with offsets of half and quarter hours and with days of 23, 24½ and 25 hours, west and east
/// of UTC, each with a current time; where there is daylight saving time, shortly after a transition.
const PLACES: [(&str, &str); 5] = [
    ("Europe/Berlin", "2026-10-25T13:17:23.123456Z"),
    ("Australia/Lord_Howe", "2026-04-05T08:00:00Z"),
    ("Asia/Kathmandu", "2026-02-01T18:14:59.999999Z"),
    ("America/St_Johns", "2026-03-08T23:59:59Z"),
    ("Pacific/Kiritimati", "2026-01-01T00:00:00Z"),
];
const CONTEXTS: [&str; 5] = ["resting", "sleeping", "Résting", "active", "a b\tc"];
const TYPES: [&str; 3] = ["espresso", "latte", "tea"];

#[derive(Clone, Debug)]
struct Row {
    id: i64,
    at: Timestamp,
    value: f64,
    kind: Option<String>,
}

/// A random time in the last 130 days, which include whole blocks of 32 days; often close to the start of
/// a minute, an hour or a day.
fn instant(rng: &mut Rng, now: Timestamp) -> Timestamp {
    let past = now.minus(rng.i64(0..130 * DAY));
    let beside = rng.i64(-1..=1);
    let edge = |unit: i64| past.micros().div_euclid(unit) * unit + beside;
    match rng.u8(0..10) {
        0 => Timestamp::clamped(edge(DAY)).min(now),
        1 => Timestamp::clamped(edge(HOUR)).min(now),
        2 => Timestamp::clamped(edge(MINUTE)).min(now),
        _ => past,
    }
}

fn reading(rng: &mut Rng, now: Timestamp) -> Value {
    let bpm = if rng.u8(0..20) == 0 { rng.u16(30..=250) } else { rng.u16(58..75) };
    // Half of the readings share a context, so that its list has many pages.
    let context = if rng.bool() { CONTEXTS[0] } else { rng.choice(CONTEXTS).unwrap() };
    json!({"timestamp": instant(rng, now), "bpm": bpm, "context": context})
}

fn coffee(rng: &mut Rng, now: Timestamp) -> Value {
    let coffee_type = rng.bool().then(|| *rng.choice(TYPES).as_ref().unwrap());
    json!({"timestamp": instant(rng, now), "caffeine_mg": rng.u16(0..8) * 20, "coffee_type": coffee_type})
}

/// Exports the entries of a kind, with their value and their type or context.
async fn rows(app: &TestApp, kind: &str, value: &str, name: &str) -> Vec<Row> {
    let response = app.get(&format!("/export/{kind}?format=jsonl")).await;
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        Row {
            id: row["id"].as_i64().unwrap(),
            at: at(row["timestamp"].as_str().unwrap()),
            value: row[value].as_f64().unwrap(),
            kind: row[name].as_str().map(str::to_owned),
        }
    };
    response.text().lines().map(row).collect()
}

/// Adds, changes and deletes readings at random.
async fn change_readings(app: &TestApp, rng: &mut Rng, now: Timestamp) {
    for _ in 0..150 {
        let readings = app.get("/heartrate/?limit=1000").await.json();
        let id = rng.choice(readings.as_array().unwrap()).unwrap()["id"].clone();
        let path = format!("/heartrate/{id}");
        let mut change = reading(rng, now);
        match rng.u8(0..8) {
            0 => drop(change.as_object_mut().unwrap().remove("timestamp")),
            1 => change = json!({"context": null}),
            2 => change = json!({"bpm": rng.u16(30..=250)}),
            3 => change = json!({"notes": "nothing else changed"}),
            _ => {}
        }
        let response = match rng.u8(0..12) {
            0..4 => app.delete(&path).await,
            4..8 => app.patch(&path, change).await,
            8 => {
                let batch: Vec<Value> = (0..rng.usize(1..130)).map(|_| reading(rng, now)).collect();
                app.post("/heartrate/batch", json!({"readings": batch})).await
            }
            _ => app.post("/heartrate/", reading(rng, now)).await,
        };
        assert!(response.status < 300, "{}", response.text());
    }
}

fn round1(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Naive `overall_stats` of readings.
fn summary(rows: &[&Row]) -> Value {
    let mut all: Vec<f64> = rows.iter().map(|row| row.value).collect();
    all.sort_by(f64::total_cmp);
    let n = all.len();
    let mean = all.iter().sum::<f64>() / n as f64;
    let squares: f64 = all.iter().map(|v| (v - mean).powi(2)).sum();
    let deviation = if n > 1 { (squares / (n - 1) as f64).sqrt() } else { 0.0 };
    let whole = |value: f64| value.to_string().parse::<u16>().unwrap();
    json!({"min_bpm": whole(all[0]), "max_bpm": whole(all[n - 1]), "avg_bpm": round1(mean),
           "median_bpm": round1(f64::midpoint(all[(n - 1) / 2], all[n / 2])), "std_dev": round1(deviation)})
}

/// Compares `/heartrate/stats`.
async fn compare_statistics(app: &TestApp, rng: &mut Rng, now: Timestamp, all: &[Row]) {
    for days in [1, 2, 31, 33, 64, 100, 3650, rng.i64(1..130)] {
        let (since, until) = (now.minus(days * DAY), now.plus(1));
        let inside: Vec<&Row> = all.iter().filter(|row| row.at >= since && row.at < until).collect();
        let response = app.get(&format!("/heartrate/stats?days={days}")).await.json();
        if inside.is_empty() {
            assert!(response["message"].is_string(), "{response}");
            continue;
        }
        assert_eq!(response["total_readings"], inside.len(), "{days}");
        assert_eq!(response["overall_stats"], summary(&inside), "{days}");
        let mut by_context: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in &inside {
            if let Some(context) = &row.kind {
                by_context.entry(context).or_default().push(row);
            }
        }
        let summarize = |rows: &Vec<&Row>| {
            let summary = summary(rows);
            json!({"count": rows.len(), "avg_bpm": summary["avg_bpm"], "min_bpm": summary["min_bpm"],
                   "max_bpm": summary["max_bpm"]})
        };
        let expected: BTreeMap<&str, Value> =
            by_context.iter().map(|(context, rows)| (*context, summarize(rows))).collect();
        assert_eq!(response["by_context"], json!(expected), "{days}");
    }
}

/// Compares `/heartrate/range`.
async fn compare_ranges(app: &TestApp, rng: &mut Rng, now: Timestamp, all: &[Row]) {
    for _ in 0..20 {
        let (mut start, mut end) = (instant(rng, now), instant(rng, now));
        if rng.bool() {
            start = Timestamp::clamped(start.micros().div_euclid(HOUR) * HOUR);
        }
        if end < start {
            (start, end) = (end, start);
        }
        let n = *rng.choice([1, 2, 7, 24, 500, 1000].as_slice()).unwrap();
        let path = format!("/heartrate/range?start={start}&end={end}&buckets={n}");
        let response = app.get(&path).await.json();
        let within = |from: Timestamp, until: Timestamp| -> Vec<&Row> {
            all.iter().filter(|row| row.at >= from && row.at < until).collect()
        };
        let inside = within(start, end);
        if inside.is_empty() {
            assert!(response["message"].is_string(), "{path}: {response}");
            continue;
        }
        assert_eq!(
            (&response["readings_count"], &response["stats"]),
            (&json!(inside.len()), &summary(&inside)),
            "{path}"
        );
        let span = i128::from(end.micros() - start.micros());
        let edge = |i: i128| start.plus(i64::try_from(span * i / i128::from(n)).unwrap());
        let buckets = (0..i128::from(n)).filter_map(|i| {
            let (from, until) = (edge(i), edge(i + 1));
            let rows = within(from, until);
            let summary = summary(rows.first().map(|_| rows.as_slice())?);
            Some(json!({"start": from, "end": until, "count": rows.len(), "min_bpm": summary["min_bpm"],
                        "avg_bpm": summary["avg_bpm"], "max_bpm": summary["max_bpm"]}))
        });
        assert_eq!(response["buckets"], json!(buckets.collect::<Vec<_>>()), "{path}");
    }
}

/// Compares filtered and paged lists of readings.
async fn compare_lists(app: &TestApp, rng: &mut Rng, now: Timestamp, all: &[Row]) {
    for _ in 0..40 {
        let (a, b) = (instant(rng, now), instant(rng, now));
        let (a, b) = (a.min(b), a.max(b));
        let mut path = "/heartrate/?limit=20".to_owned();
        let mut wanted: Vec<&Row> = all.iter().rev().collect();
        if rng.bool() {
            path.push_str(&format!("&since={a}"));
            wanted.retain(|row| row.at >= a);
        }
        if rng.bool() {
            path.push_str(&format!("&until={b}"));
            wanted.retain(|row| row.at < b);
        }
        if rng.bool() {
            let context = CONTEXTS[if rng.bool() { 0 } else { rng.usize(..CONTEXTS.len()) }];
            path.push_str(&format!(
                "&context={}",
                context.replace(' ', "%20").replace('\t', "%09").replace('é', "%C3%A9")
            ));
            wanted.retain(|row| row.kind.as_deref() == Some(context));
        }
        let offset = rng.usize(0..=wanted.len() + 10);
        path.push_str(&format!("&offset={offset}"));
        let wanted: Vec<i64> = wanted.iter().skip(offset).take(20).map(|row| row.id).collect();
        assert_eq!(app.ids(&path).await, wanted, "{path}");
    }
}

/// Compares `/coffee/stats`.
async fn compare_coffees(app: &TestApp, zone: &str, now: Timestamp) {
    let zone = jiff::tz::TimeZone::get(zone).unwrap();
    let all = rows(app, "coffee", "caffeine_mg", "coffee_type").await;
    for days in [1, 7, 40, 3650] {
        let since = now.minus(days * DAY);
        let inside: Vec<&Row> = all.iter().filter(|row| row.at >= since && row.at <= now).collect();
        let response = app.get(&format!("/coffee/stats?days={days}")).await.json();
        if inside.is_empty() {
            assert!(response["message"].is_string(), "{response}");
            continue;
        }
        let (mut hours, mut dates) = ([(0.0, 0); 24], BTreeMap::new());
        for row in &inside {
            let local = jiff::Timestamp::from_microsecond(row.at.micros()).unwrap();
            let local = zone.to_datetime(local);
            let hour = &mut hours[usize::try_from(local.hour()).unwrap()];
            *hour = (hour.0 + row.value, hour.1 + 1);
            *dates.entry(local.date()).or_insert(0.0) += row.value;
        }
        let total: f64 = inside.iter().map(|row| row.value).sum();
        assert_eq!(
            (&response["total_coffees"], &response["total_caffeine_mg"]),
            (&json!(inside.len()), &json!(total))
        );
        assert_eq!(response["days_with_caffeine"], dates.values().filter(|mg| **mg > 0.0).count());
        let found = response["by_hour"].as_array().unwrap();
        let found: Vec<_> =
            found.iter().map(|of| (of["total_mg"].clone(), of["coffee_count"].clone())).collect();
        let expected: Vec<_> = hours.iter().map(|(mg, count)| (json!(mg), json!(count))).collect();
        assert_eq!(found, expected, "{days}");
    }
}

async fn compare_with_naive_computation(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let (zone, now) = *rng.choice(PLACES.as_slice()).unwrap();
    println!("TEST_SEED={seed}: {zone}, {now}");
    let app = TestApp::in_zone(zone, now).await;
    let now = at(now);
    let batch: Vec<Value> = (0..6000).map(|_| reading(&mut rng, now)).collect();
    assert_eq!(app.post("/heartrate/batch", json!({"readings": batch})).await.status, 201);
    for _ in 0..100 {
        assert_eq!(app.post("/coffee/", coffee(&mut rng, now)).await.status, 201);
    }
    change_readings(&app, &mut rng, now).await;
    let all = rows(&app, "heartrate", "bpm", "context").await;
    compare_statistics(&app, &mut rng, now, &all).await;
    compare_ranges(&app, &mut rng, now, &all).await;
    compare_lists(&app, &mut rng, now, &all).await;
    compare_coffees(&app, zone, now).await;
    let found = verify_file(app.database());
    assert_eq!((found.reasons, found.differing_rollups), (vec![], vec![]));
}

#[rocket::async_test]
async fn every_aggregate_equals_a_naive_computation() {
    for seed in [1, 2, 3, 4] {
        compare_with_naive_computation(seed).await;
    }
    compare_with_naive_computation(test_seed()).await;
}
