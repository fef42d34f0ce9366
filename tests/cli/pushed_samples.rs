//! Samples that arrive by push and in files: each is stored once, in whatever order they come, and what was deleted does
//! not come back.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::apple_export::AppleExport;
use crate::fixtures::run_ok;
use crate::helpers::{Server, database, number, rows, temporary_folder, test_seed};
use crate::import::{import, import_file, summary};
use crate::rollups::differing_rollups;

const WATCH: &str = "Ada’s Apple\u{a0}Watch";

/// Pushes one metric as Health Auto Export does, and returns the response.
fn push(server: &Server, metric: &str, units: &str, samples: &Value) -> Value {
    let body = json!({"data": {"metrics": [{"name": metric, "units": units, "data": samples}]}});
    let response = server.client().post("/ingest/health-auto-export", &body.to_string());
    assert_eq!(response.status, 200, "{}", response.json());
    response.json()
}

/// Returns an export with heart rates of the watch and with caffeine: time, value and motion context, if any.
fn apple_export(readings: &[(String, u32, Option<u8>)], caffeine: &[(String, u32)]) -> Vec<u8> {
    let mut export = AppleExport::new(Vec::new(), "en_US").unwrap();
    for (time, bpm, motion) in readings {
        let motion = motion
            .map(|n| format!("<MetadataEntry key=\"HKMetadataKeyHeartRateMotionContext\" value=\"{n}\"/>"));
        export.record("HeartRate", "count/min", &bpm.to_string(), time, &motion.unwrap_or_default()).unwrap();
    }
    for (time, mg) in caffeine {
        export.record("DietaryCaffeine", "mg", &mg.to_string(), time, "").unwrap();
    }
    export.finish().unwrap()
}

#[test]
fn the_same_sample_by_export_and_by_push_is_stored_once() {
    let at = |minute: u32| format!("2025-07-23 14:{minute:02}:00 +0200");
    let file = apple_export(
        &[(at(0), 61, Some(1)), (at(1), 62, Some(2)), (at(2), 63, None)],
        &[(at(3), 80), (at(3), 80), (at(4), 63)],
    );
    let readings = json!([
        {"Avg": 61, "date": at(0), "source": WATCH}, {"Avg": 62, "date": at(1), "source": WATCH},
        {"Avg": 63, "date": at(2), "source": WATCH}]);
    let caffeine = json!([
        {"qty": 80, "date": at(3), "source": WATCH}, {"qty": 63, "date": at(4), "source": WATCH}]);
    let stored =
        "select timestamp / 60000000 % 60, bpm, context, source from heart_rate_logs order by timestamp";
    let doses = "select timestamp / 60000000 % 60, caffeine_mg, source from coffee_logs order by timestamp";
    for is_push_first in [true, false] {
        let folder = temporary_folder();
        let server = Server::start(folder.path());
        let push_all = |inserted: u32| {
            let counts = |response: &Value| ["inserted", "updated"].map(|field| response[field].clone());
            let of_readings = push(&server, "heart_rate", "bpm", &readings);
            assert_eq!(counts(&of_readings), [json!(inserted.min(3)), json!(0)]);
            let of_caffeine = push(&server, "dietary_caffeine", "mg", &caffeine);
            assert_eq!(counts(&of_caffeine), [json!(inserted.min(2)), json!(0)]);
        };
        if is_push_first {
            push_all(3);
            // The export has two equal coffees, and the contexts of two readings.
            let result = import(folder.path(), &file, &[]);
            let expected = "file: 1 coffee and 0 readings added, 2 readings updated, 3 duplicates skipped, 0 rows rejected";
            assert_eq!(summary(&result), expected);
        } else {
            let result = import(folder.path(), &file, &[]);
            assert!(
                summary(&result).starts_with("file: 3 coffees and 3 readings added, 0 duplicates"),
                "{result:?}"
            );
        }
        push_all(0);
        let result = import_file(folder.path(), "file", &[]);
        assert!(
            summary(&result).starts_with("file: 0 coffees and 0 readings added, 6 duplicates"),
            "{result:?}"
        );
        let c = database(folder.path());
        let source = format!("Text({WATCH:?})");
        assert_eq!(
            rows(&c, stored),
            [
                format!("Integer(30)|Integer(61)|Text(\"resting\")|{source}"),
                format!("Integer(31)|Integer(62)|Text(\"active\")|{source}"),
                format!("Integer(32)|Integer(63)|Null|{source}"),
            ]
            .map(|row| row.replace("Integer(3", "Integer("))
        );
        assert_eq!(rows(&c, doses).len(), 3);
        assert_eq!(number(&c, "select count(*) from sources"), 2);
        server.stop_cleanly();
        assert_eq!(differing_rollups(folder.path(), "coffee.db"), json!([]));
    }
}

#[test]
fn a_coffee_that_the_user_has_described_is_not_imported_again() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let at = "2025-07-23 08:00:00 +0200";
    push(&server, "dietary_caffeine", "mg", &json!([{"qty": 80, "date": at, "source": WATCH}]));
    let described = r#"{"coffee_type": "espresso", "notes": "with milk"}"#;
    assert_eq!(server.client().try_request("PUT", "/coffee/1", "", described).unwrap().status, 200);
    let result = import(folder.path(), apple_export(&[], &[(at.to_owned(), 80)]), &[]);
    assert!(summary(&result).starts_with("file: 0 coffees and 0 readings added, 1 duplicate"), "{result:?}");
    server.stop_cleanly();
}

#[test]
fn a_deleted_average_does_not_hide_the_readings_of_a_file() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let at = "2025-07-23 08:00:00 +0200";
    push(&server, "heart_rate", "bpm", &json!([{"Avg": 75, "date": at, "source": WATCH}]));
    assert_eq!(server.client().try_request("DELETE", "/heartrate/1", "", "").unwrap().status, 200);
    let file = apple_export(&[(at.to_owned(), 71, None), (at.to_owned(), 75, None)], &[]);
    let result = import(folder.path(), file, &[]);
    assert!(summary(&result).starts_with("file: 0 coffees and 1 reading added, 1 duplicate"), "{result:?}");
    server.stop_cleanly();
}

#[test]
fn a_pruned_period_is_not_filled_by_the_next_push() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let now = "select strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-2 hours')";
    let time: String =
        rusqlite::Connection::open_in_memory().unwrap().query_row(now, [], |row| row.get(0)).unwrap();
    let samples = json!([{"Avg": 75, "date": time, "source": WATCH}]);
    push(&server, "heart_rate", "bpm", &samples);
    push(&server, "dietary_caffeine", "mg", &json!([{"qty": 80, "date": time, "source": WATCH}]));
    let before = "select strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-1 hours')";
    let before: String =
        rusqlite::Connection::open_in_memory().unwrap().query_row(before, [], |row| row.get(0)).unwrap();
    run_ok(folder.path(), &["prune", "--before", &before, "--yes"]);
    assert_eq!(push(&server, "heart_rate", "bpm", &samples)["duplicates"], 1);
    assert_eq!(number(&database(folder.path()), "select count(*) from heart_rate_logs"), 0);
    assert_eq!(number(&database(folder.path()), "select count(*) from coffee_logs"), 0);
    server.stop_cleanly();
}

/// A push of several chunks, of which the second time many samples are changed and many are new.
#[test]
fn the_rollups_of_large_pushes_equal_the_readings() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    // Every ten seconds, so that hours and days have several readings and share chunks.
    let sample = |n: u32, bpm: u32| {
        let (day, hour, minute, second) = (1 + n / 8640, n / 360 % 24, n / 6 % 60, n % 6 * 10);
        let date = format!("2025-07-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
        json!({"Avg": bpm, "date": date, "source": WATCH})
    };
    let first: Vec<Value> = (0..10_000).map(|n| sample(n, 50 + n % 90)).collect();
    let response = push(&server, "heart_rate", "bpm", &json!(first));
    assert_eq!((&response["inserted"], &response["updated"]), (&json!(10_000), &json!(0)));
    // Every third one has another value.
    let second: Vec<Value> =
        (5_000..15_000).map(|n| sample(n, if n % 3 == 0 { 150 } else { 50 + n % 90 })).collect();
    let response = push(&server, "heart_rate", "bpm", &json!(second));
    assert_eq!(response["inserted"], 5_000);
    assert_eq!(response["updated"], (5_000..10_000).filter(|n| n % 3 == 0).count());
    server.stop_cleanly();
    assert_eq!(differing_rollups(folder.path(), "coffee.db"), json!([]));
    let c = database(folder.path());
    assert_eq!(number(&c, "select count(*) from heart_rate_logs"), 15_000);
    assert_eq!(number(&c, "select sum(count) from heart_rate_days where bpm = 150"), 3_333);
}

/// Set of entries: seconds and values.
type Entries = BTreeSet<(i64, i64)>;

/// Samples of one round, all on one day.
struct Round<'s> {
    server: &'s Server,
    folder: &'s Path,
    day: i64,
}

/// Steps of a round: each adds samples or deletes one.
const STEPS: [fn(&Round<'_>); 7] = [
    |round| round.push_watch(),
    |round| round.push_strap(),
    |round| round.push_caffeine(),
    |round| round.push_webhook(),
    |round| round.import_export(),
    |round| round.delete("/heartrate/", "bpm", 73),
    |round| round.delete("/coffee/", "caffeine_mg", 63),
];

impl Round<'_> {
    /// Returns an instant of the day in UTC, as Health Auto Export writes it.
    fn time(&self, second: i64) -> String {
        let at = 1_700_000_000 / 86_400 * 86_400 + self.day * 86_400 + second;
        let query = format!("select strftime('%Y-%m-%d %H:%M:%S +0000', {at}, 'unixepoch')");
        rusqlite::Connection::open_in_memory().unwrap().query_row(&query, [], |row| row.get(0)).unwrap()
    }

    fn push_watch(&self) {
        let sample = |second: i64, bpm: u32| json!({"Avg": bpm, "date": self.time(second), "source": WATCH});
        push(self.server, "heart_rate", "bpm", &json!([sample(0, 71), sample(60, 72), sample(120, 73)]));
    }

    /// The strap has a sample of the watch, too.
    fn push_strap(&self) {
        let sample =
            |second: i64, bpm: u32| json!({"qty": bpm, "date": self.time(second), "source": "Strap"});
        push(self.server, "heart_rate", "bpm", &json!([sample(60, 72), sample(120, 73), sample(180, 74)]));
    }

    fn push_caffeine(&self) {
        let sample = |second: i64, mg: u32| json!({"qty": mg, "date": self.time(second), "source": WATCH});
        push(self.server, "dietary_caffeine", "mg", &json!([sample(0, 80), sample(60, 63)]));
    }

    fn push_webhook(&self) {
        let iso = |second: i64| self.time(second).replacen(' ', "T", 1).replace(" +0000", ".25Z");
        let body = json!({"heart_rate": [{"bpm": 71, "time": iso(0)}, {"bpm": 75, "time": iso(240)}]});
        assert_eq!(self.server.client().post("/ingest/hc-webhook", &body.to_string()).status, 200);
    }

    fn import_export(&self) {
        let readings =
            [(self.time(0), 71, Some(1)), (self.time(60), 72, None), (self.time(120), 73, Some(2))];
        let caffeine = [(self.time(0), 80), (self.time(60), 63)];
        let result = import(self.folder, apple_export(&readings, &caffeine), &[]);
        assert_eq!(result.code, Some(0), "{result:?}");
    }

    /// Returns the entries of the day in a list.
    fn entries(&self, path: &str, field: &str) -> Vec<(i64, (i64, i64))> {
        let [since, until] =
            [0, 86_400].map(|second| self.time(second).replacen(' ', "T", 1).replace(" +0000", "Z"));
        let list = self.server.get(&format!("{path}?since={since}&until={until}")).json();
        let second_of_day = |time: &str| {
            let part = |from: usize| time[from..from + 2].parse::<i64>().unwrap();
            part(11) * 3600 + part(14) * 60 + part(17)
        };
        let entry = |entry: &Value| {
            let value = entry[field].as_f64().unwrap() as i64;
            (entry["id"].as_i64().unwrap(), (second_of_day(entry["timestamp"].as_str().unwrap()), value))
        };
        list.as_array().unwrap().iter().map(entry).collect()
    }

    fn delete(&self, path: &str, field: &str, value: i64) {
        for (id, (_, stored)) in self.entries(path, field) {
            if stored == value {
                let response =
                    self.server.client().try_request("DELETE", &format!("{path}{id}"), "", "").unwrap();
                assert_eq!(response.status, 200);
            }
        }
    }

    fn assert_entries(&self, path: &str, field: &str, expected: impl IntoIterator<Item = (i64, i64)>) {
        let found = self.entries(path, field);
        let set: Entries = found.iter().map(|(_, entry)| *entry).collect();
        assert_eq!(set, expected.into_iter().collect(), "{path} of day {}", self.day);
        assert_eq!(set.len(), found.len(), "{path} of day {}: an entry is stored twice", self.day);
    }
}

#[test]
fn any_interleaving_of_pushes_imports_and_deletes_ends_in_the_same_entries() {
    let mut random = fastrand::Rng::with_seed(test_seed());
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    for day in 0..12 {
        let round = Round { server: &server, folder: folder.path(), day };
        for _ in 0..random.usize(0..8) {
            STEPS[random.usize(0..STEPS.len())](&round);
        }
        // Everything has arrived once, then is deleted if it was not yet, and arrives again.
        let mut rest: Vec<_> = STEPS.to_vec();
        random.shuffle(&mut rest);
        rest.iter().chain(&STEPS).for_each(|step| step(&round));
        random.shuffle(&mut rest);
        rest.iter().for_each(|step| step(&round));
        round.assert_entries("/heartrate/", "bpm", [(0, 71), (60, 72), (180, 74), (240, 75)]);
        round.assert_entries("/coffee/", "caffeine_mg", [(0, 80)]);
    }
    server.stop_cleanly();
    assert_eq!(differing_rollups(folder.path(), "coffee.db"), json!([]));
}
