//! `/ingest`: payloads as the apps send them, with their oddities. They are written down from the documentation of the
//! apps' formats.

use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{Setup, TestApp, TestResponse, invalid_field};
use coffee_tracker::auth::key::Scope;

/// Time of the server.
const NOW: &str = "2024-02-07T12:00:00Z";
const HEALTH_AUTO_EXPORT: &str = "/ingest/health-auto-export";
const HC_WEBHOOK: &str = "/ingest/hc-webhook";

async fn app() -> TestApp {
    TestApp::in_zone("America/Los_Angeles", NOW).await
}

/// Response body with these numbers, and nothing ignored or rejected.
fn counts(inserted: u64, updated: u64, duplicates: u64) -> Value {
    json!({
        "received": inserted + updated + duplicates, "inserted": inserted, "updated": updated,
        "duplicates": duplicates, "ignored": {}, "rejected": [], "rejected_count": 0,
    })
}

async fn push_raw(app: &TestApp, path: &str, body: &str) -> TestResponse {
    app.request(Method::Post, path).body(body).send().await
}

/// Body of a push of one metric by Health Auto Export.
fn metric(name: &str, units: &str, samples: &Value) -> Value {
    json!({"data": {"metrics": [{"name": name, "units": units, "data": samples}]}})
}

/// Returns time, bpm and context of the readings, oldest first.
async fn readings(app: &TestApp) -> Vec<(String, i64, Option<String>)> {
    let list = app.get("/heartrate/?limit=1000").await.json();
    let reading = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().map(str::to_owned);
        (text("timestamp").unwrap(), entry["bpm"].as_i64().unwrap(), text("context"))
    };
    list.as_array().unwrap().iter().rev().map(reading).collect()
}

async fn doses(app: &TestApp) -> Vec<f64> {
    let list = app.get("/coffee/").await.json();
    list.as_array().unwrap().iter().rev().map(|entry| entry["caffeine_mg"].as_f64().unwrap()).collect()
}

#[rocket::async_test]
async fn the_documented_push_of_health_auto_export_is_stored_once() {
    let app = app().await;
    let push = json!({"data": {"metrics": [
        {"name": "heart_rate", "units": "bpm", "data": [{"date": "2024-02-06 14:30:00 -0800", "Min": 65, "Avg": 72.4, "Max": 85, "source": "Apple Watch"}]},
        {"name": "resting_heart_rate", "units": "bpm", "data": [{"qty": 58, "date": "2024-02-06 00:00:00 -0800"}]},
        {"name": "dietary_caffeine", "units": "mg", "data": [{"qty": 95, "date": "2024-02-06 08:10:00 -0800", "source": "HiCoffee"}]},
        {"name": "step_count", "units": "count", "data": [{"qty": 8500, "date": "2024-02-06 14:30:00 -0800"}]}],
        "workouts": [{"name": "Walk"}, {}], "stateOfMind": [], "medications": [], "symptoms": [], "cycleTracking": [], "ecg": [],
        "heartRateNotifications": []}});
    let expected = |counts: (u64, u64)| {
        json!({
            "received": 6, "inserted": counts.0, "updated": 0, "duplicates": counts.1,
            "ignored": {"step_count": 1, "workouts": 2}, "rejected": [], "rejected_count": 0,
        })
    };
    app.post(HEALTH_AUTO_EXPORT, push.clone()).await.assert_json(200, expected((3, 0)));
    app.post(HEALTH_AUTO_EXPORT, push).await.assert_json(200, expected((0, 3)));
    let resting = Some("resting".to_owned());
    assert_eq!(
        readings(&app).await,
        [
            ("2024-02-06T08:00:00.000000Z".to_owned(), 58, resting),
            ("2024-02-06T22:30:00.000000Z".to_owned(), 72, None)
        ]
    );
    app.get("/coffee/1").await.assert_json(
        200,
        json!({"id": 1, "timestamp": "2024-02-06T16:10:00.000000Z", "caffeine_mg": 95.0, "coffee_type": null, "notes": null}),
    );
    assert_eq!(app.metric("heartrate_logged_total{context=\"resting\"}").await, 1.0);
    assert_eq!(app.metric("caffeine_mg_total").await, 95.0);
    app.get("/sources").await.assert_json(
        200,
        json!({"sources": [
            {"name": "Apple Watch", "kind": "heartrate", "newest_at": "2024-02-06T22:30:00.000000Z", "minutes_ago": 810},
            {"name": "HiCoffee", "kind": "coffee", "newest_at": "2024-02-06T16:10:00.000000Z", "minutes_ago": 1190},
            {"name": "Health Auto Export", "kind": "heartrate", "newest_at": "2024-02-06T08:00:00.000000Z", "minutes_ago": 1680},
        ]}),
    );
}

#[rocket::async_test]
async fn members_come_in_any_order_and_dates_in_every_form_of_a_phone() {
    let app = app().await;
    // The names of metrics after their samples, as a dictionary is written in any order.
    let push = r#"{"data": {"workouts": [], "metrics": [
        {"data": [{"source": "W", "Avg": 60, "date": "2024-02-06 2:30:00 PM -0800"},
                  {"Avg": 61, "date": "2024-02-06 2:31:00\u202fPM -0800"},
                  {"avg": "62,", "qty": "62", "date": "2024-02-06 14:32:00 -08:00"},
                  {"qty": 63, "date": "2024-02-06T22:33:00Z"},
                  {"qty": 64.5, "date": "2024-02-06 14:34:00"}],
         "units": "count/min", "name": "heart_rate"},
        {"units": "g", "data": [{"qty": 0.0621, "date": "2024-02-06 08:00:00 -0800"}], "name": "caffeine"},
        {"data": [{"qty": 500, "date": "2024-02-06 09:00:00 -0800"}], "name": "dietary_caffeine", "units": "mcg"},
        {"data": [{"qty": 40, "date": "2024-02-06 10:00:00 -0800"}], "name": "dietary_caffeine"},
        {"data": [{"qty": 7, "date": "2024-02-06 10:00:00 -0800"}], "name": "vo2_max"},
        {"data": [{"qty": 7, "date": "2024-02-06 10:00:00 -0800"}, 5, null]}, {"name": "no_data"}, null, 7
    ]}, "more": [1, 2]}"#;
    push_raw(&app, HEALTH_AUTO_EXPORT, &format!("\u{feff} {push}\n")).await.assert_json(
        200,
        json!({
            "received": 14, "inserted": 8, "updated": 0, "duplicates": 0,
            "ignored": {"vo2_max": 1, "unnamed": 3, "more": 2}, "rejected": [], "rejected_count": 0,
        }),
    );
    let stored: Vec<_> =
        readings(&app).await.into_iter().map(|(at, bpm, _)| (at[11..16].to_owned(), bpm)).collect();
    let expected: [(&str, i64); 5] =
        [("22:30", 60), ("22:31", 61), ("22:32", 62), ("22:33", 63), ("22:34", 65)];
    assert_eq!(stored, expected.map(|(at, bpm)| (at.to_owned(), bpm)));
    assert_eq!(doses(&app).await, [62.1, 0.5, 40.0]);
}

#[rocket::async_test]
async fn a_bad_sample_rejects_itself_alone_and_is_reported() {
    let app = app().await;
    let push = metric(
        "heart_rate",
        "bpm",
        &json!([
            {"Avg": 70, "date": "2024-02-06 14:30:00 -0800"}, {"Avg": 71}, {"date": "2024-02-06 14:31:00 -0800"},
            {"Avg": "fast", "date": "2024-02-06 14:31:00 -0800"}, {"Avg": 300, "date": "2024-02-06 14:31:00 -0800"},
            {"Avg": 10, "date": "2024-02-06 14:31:00 -0800"}, {"Avg": 70, "date": "yesterday"},
            {"Avg": 70, "date": "2034-02-06 14:31:00 -0800"}, [], {"Avg": {}, "qty": [], "date": {}},
            {"Avg": 72, "date": "2024-02-06 14:32:00 -0800"},
        ]),
    );
    let rejected =
        |index: u64, reason: &str| json!({"metric": "heart_rate", "index": index, "reason": reason});
    app.post(HEALTH_AUTO_EXPORT, push).await.assert_json(
        200,
        json!({
            "received": 11, "inserted": 2, "updated": 0, "duplicates": 0, "ignored": {}, "rejected_count": 9,
            "rejected": [
                rejected(1, "date is missing"),
                rejected(2, "Avg or qty is missing"),
                rejected(3, "Avg: must be a number"),
                rejected(4, "bpm: 300 is above MAX_HEART_RATE_BPM (250)"),
                rejected(5, "bpm: 10 is below MIN_HEART_RATE_BPM (30)"),
                rejected(6, "date: must be a date and time"),
                rejected(7, "date: lies in the future"),
                rejected(8, "must be an object"),
                rejected(9, "date: must be text"),
            ],
        }),
    );
    let many: Vec<Value> = (0..50).map(|_| json!({"qty": 1, "date": "2024-02-06 14:30:00 -0800"})).collect();
    let unit = format!("cup{}", "s".repeat(60_000));
    let response = app.post(HEALTH_AUTO_EXPORT, metric("caffeine", &unit, &json!(many))).await.json();
    assert_eq!((&response["rejected_count"], &response["inserted"]), (&json!(50), &json!(0)));
    assert_eq!(response["rejected"].as_array().unwrap().len(), 20);
    let reason = format!("unit: must be mg, g or mcg (got \"cup{}…\")", "s".repeat(57));
    assert_eq!(response["rejected"][0], json!({"metric": "caffeine", "index": 0, "reason": reason}));
}

#[rocket::async_test]
async fn a_changed_average_replaces_the_stored_one() {
    let app = app().await;
    let push = |mean: f64, mg: f64| {
        json!({"data": {"metrics": [
            {"name": "heart_rate", "units": "bpm", "data": [{"Avg": mean, "date": "2024-02-06 14:00:00 -0800", "source": "Watch"}]},
            {"name": "dietary_caffeine", "units": "mg", "data": [{"qty": mg, "date": "2024-02-06 14:00:00 -0800", "source": "App"}]},
        ]}})
    };
    app.post(HEALTH_AUTO_EXPORT, push(70.4, 60.0)).await.assert_json(200, counts(2, 0, 0));
    app.post(HEALTH_AUTO_EXPORT, push(75.6, 90.0)).await.assert_json(200, counts(0, 2, 0));
    app.post(HEALTH_AUTO_EXPORT, push(76.0, 90.0)).await.assert_json(200, counts(0, 0, 2));
    let at = "2024-02-06T22:00:00.000000Z".to_owned();
    assert_eq!((readings(&app).await, doses(&app).await), (vec![(at, 76, None)], vec![90.0]));
    // The statistics contain the new value only.
    let range = app.get("/heartrate/range?start=2024-02-06T00:00:00Z&end=2024-02-07T00:00:00Z").await.json();
    assert_eq!((&range["stats"]["min_bpm"], &range["stats"]["max_bpm"]), (&json!(76), &json!(76)));
    // Of several values of one time, the last one counts, however often the push comes.
    let twice = metric(
        "heart_rate",
        "bpm",
        &json!([
            {"Avg": 81, "date": "2024-02-06 14:10:00 -0800", "source": "Watch"},
            {"Avg": 82, "date": "2024-02-06 14:10:00 -0800", "source": "Watch"},
        ]),
    );
    app.post(HEALTH_AUTO_EXPORT, twice.clone()).await.assert_json(200, counts(1, 0, 1));
    app.post(HEALTH_AUTO_EXPORT, twice).await.assert_json(200, counts(0, 0, 2));
    assert_eq!(readings(&app).await[1].1, 82);
}

#[rocket::async_test]
async fn the_same_heart_rate_in_the_same_second_of_another_source_is_the_same_sample() {
    let app = app().await;
    app.add_readings("exercise", &[("2024-02-06T22:00:00.250Z", 120)]).await;
    let sample = |bpm: u64, time: &str, source: &str| json!({"qty": bpm, "date": time, "source": source});
    let push = metric(
        "heart_rate",
        "bpm",
        &json!([
            sample(120, "2024-02-06T22:00:00Z", "Watch"),
            sample(121, "2024-02-06T22:00:10Z", "Watch"),
            sample(121, "2024-02-06T22:00:10.500Z", "Strap"),
            sample(122, "2024-02-06T22:00:10.600Z", "Strap"),
            // Two of one source within a second are two samples.
            sample(121, "2024-02-06T22:00:11Z", "Strap"),
            sample(121, "2024-02-06T22:00:11.100Z", "Strap"),
        ]),
    );
    app.post(HEALTH_AUTO_EXPORT, push.clone()).await.assert_json(200, counts(4, 0, 2));
    app.post(HEALTH_AUTO_EXPORT, push).await.assert_json(200, counts(0, 0, 6));
    let stored: Vec<i64> = readings(&app).await.into_iter().map(|(_, bpm, _)| bpm).collect();
    assert_eq!(stored, [120, 121, 122, 121, 121]);
    // The caffeine of two apps is not compared.
    let caffeine =
        |source: &str| metric("caffeine", "mg", &json!([sample(80, "2024-02-06T22:00:00Z", source)]));
    app.post(HEALTH_AUTO_EXPORT, caffeine("One")).await.assert_json(200, counts(1, 0, 0));
    app.post(HEALTH_AUTO_EXPORT, caffeine("Two")).await.assert_json(200, counts(1, 0, 0));
}

#[rocket::async_test]
async fn a_resting_heart_rate_and_a_usual_one_of_the_same_time_do_not_replace_each_other() {
    let at = "2024-02-06 00:00:00 -0800";
    for is_resting_first in [false, true] {
        let app = app().await;
        let usual =
            |bpm: u64| metric("heart_rate", "bpm", &json!([{"Avg": bpm, "date": at, "source": "Watch"}]));
        let resting = |bpm: u64| {
            metric("resting_heart_rate", "bpm", &json!([{"qty": bpm, "date": at, "source": "Watch"}]))
        };
        let mut pushes = [usual(64), resting(58)];
        if is_resting_first {
            pushes.reverse();
        }
        for push in &pushes {
            app.post(HEALTH_AUTO_EXPORT, push.clone()).await.assert_json(200, counts(1, 0, 0));
        }
        for push in pushes {
            app.post(HEALTH_AUTO_EXPORT, push).await.assert_json(200, counts(0, 0, 1));
        }
        app.post(HEALTH_AUTO_EXPORT, usual(66)).await.assert_json(200, counts(0, 1, 0));
        let mut stored: Vec<_> =
            readings(&app).await.into_iter().map(|(_, bpm, context)| (bpm, context)).collect();
        stored.sort();
        assert_eq!(stored, [(58, Some("resting".to_owned())), (66, None)]);
    }
}

/// Samples of one push, all of one time: resting ones or not, and bpm and source of each.
type PushedValues = (bool, &'static [(u64, &'static str)]);

/// Pushes with the numbers of samples that each inserts and updates, and bpm and kind (resting or not) of the readings
/// that are stored after them.
type ValueCase = (&'static [(PushedValues, (u64, u64))], &'static [(i64, bool)]);

/// Changes to a value that another reading of the same second has.
const EQUAL_VALUES: [ValueCase; 5] = [
    (
        &[((false, &[(70, "A"), (72, "B")]), (2, 0)), ((false, &[(70, "B")]), (0, 1))],
        &[(70, false), (70, false)],
    ),
    (
        &[((false, &[(60, "A")]), (1, 0)), ((true, &[(58, "A")]), (1, 0)), ((false, &[(58, "A")]), (0, 1))],
        &[(58, false), (58, true)],
    ),
    (
        &[((false, &[(58, "A")]), (1, 0)), ((true, &[(60, "A")]), (1, 0)), ((true, &[(58, "A")]), (0, 1))],
        &[(58, false), (58, true)],
    ),
    // Within one push, the changed value counts and the former one does not.
    (&[((false, &[(70, "A")]), (1, 0)), ((false, &[(75, "A"), (75, "B")]), (0, 1))], &[(75, false)]),
    (
        &[((false, &[(70, "A")]), (1, 0)), ((false, &[(75, "A"), (70, "B")]), (1, 1))],
        &[(70, false), (75, false)],
    ),
];

#[rocket::async_test]
async fn a_value_that_becomes_equal_to_another_readings_is_replaced_all_the_same() {
    for (pushes, expected) in EQUAL_VALUES {
        let app = app().await;
        for ((is_resting, values), (inserted, updated)) in pushes {
            let sample = |(bpm, source): &(u64, &str)| json!({"qty": bpm, "date": "2024-02-06T22:00:00Z", "source": source});
            let name = if *is_resting { "resting_heart_rate" } else { "heart_rate" };
            let push = metric(name, "bpm", &values.iter().map(sample).collect());
            let duplicates = values.len() as u64 - inserted - updated;
            let counts = counts(*inserted, *updated, duplicates);
            app.post(HEALTH_AUTO_EXPORT, push.clone()).await.assert_json(200, counts);
            // The same push again changes nothing.
            let again = app.post(HEALTH_AUTO_EXPORT, push).await.json();
            assert_eq!((&again["inserted"], &again["updated"]), (&json!(0), &json!(0)), "{pushes:?}");
        }
        let mut stored: Vec<_> =
            readings(&app).await.into_iter().map(|(_, bpm, context)| (bpm, context.is_some())).collect();
        stored.sort_unstable();
        assert_eq!(stored, expected, "{pushes:?}");
    }
}

#[rocket::async_test]
async fn what_the_user_has_deleted_or_changed_is_not_pushed_back() {
    let app = app().await;
    let push = json!({"data": {"metrics": [
        {"name": "heart_rate", "units": "bpm", "data": [
            {"Avg": 70, "date": "2024-02-06T10:00:00Z", "source": "Watch"},
            {"Avg": 71, "date": "2024-02-06T11:00:00Z", "source": "Watch"},
            {"Avg": 72, "date": "2024-02-06T12:00:00Z", "source": "Watch"},
            {"Avg": 73, "date": "2024-02-06T13:00:00Z", "source": "Watch"}]},
        {"name": "dietary_caffeine", "units": "mg", "data": [
            {"qty": 60, "date": "2024-02-06T10:00:00Z", "source": "App"},
            {"qty": 61, "date": "2024-02-06T11:00:00Z", "source": "App"}]},
    ]}});
    app.post(HEALTH_AUTO_EXPORT, push.clone()).await.assert_json(200, counts(6, 0, 0));
    assert_eq!(app.delete("/heartrate/1").await.status, 200);
    assert_eq!(app.put("/heartrate/2", json!({"bpm": 90})).await.status, 200);
    assert_eq!(app.put("/heartrate/3", json!({"timestamp": "2024-02-06T12:30:00Z"})).await.status, 200);
    // Notes are no reason to ignore later values.
    assert_eq!(app.put("/heartrate/4", json!({"bpm": 73, "notes": "stairs"})).await.status, 200);
    assert_eq!(app.delete("/coffee/1").await.status, 200);
    assert_eq!(app.put("/coffee/2", json!({"caffeine_mg": 40})).await.status, 200);
    app.post(HEALTH_AUTO_EXPORT, push).await.assert_json(200, counts(0, 0, 6));
    let stored: Vec<_> =
        readings(&app).await.into_iter().map(|(at, bpm, _)| (at[11..16].to_owned(), bpm)).collect();
    assert_eq!(stored, [("11:00", 90), ("12:30", 72), ("13:00", 73)].map(|(at, bpm)| (at.to_owned(), bpm)));
    assert_eq!(doses(&app).await, [40.0]);
    // Not by another source of the same sample either, and not with another value; a later average of an entry with
    // notes replaces its value and keeps the notes.
    let others = metric(
        "heart_rate",
        "bpm",
        &json!([
            {"Avg": 70, "date": "2024-02-06T10:00:00.4Z", "source": "Strap"},
            {"Avg": 75, "date": "2024-02-06T10:00:00Z", "source": "Watch"},
            {"Avg": 76, "date": "2024-02-06T13:00:00Z", "source": "Watch"},
        ]),
    );
    app.post(HEALTH_AUTO_EXPORT, others).await.assert_json(200, counts(0, 1, 2));
    let changed = app.get("/heartrate/4").await.json();
    assert_eq!((&changed["bpm"], &changed["notes"]), (&json!(76), &json!("stairs")));
    // A reading whose context the user has set is the user's, and so is the place to which one was moved.
    assert_eq!(app.put("/heartrate/4", json!({"context": "resting"})).await.status, 200);
    let later = metric(
        "heart_rate",
        "bpm",
        &json!([
            {"Avg": 77, "date": "2024-02-06T13:00:00Z", "source": "Watch"},
            {"Avg": 99, "date": "2024-02-06T12:30:00Z", "source": "Watch"},
        ]),
    );
    app.post(HEALTH_AUTO_EXPORT, later.clone()).await.assert_json(200, counts(0, 0, 2));
    assert_eq!(app.delete("/heartrate/4").await.status, 200);
    app.post(HEALTH_AUTO_EXPORT, later).await.assert_json(200, counts(0, 0, 2));
}

#[rocket::async_test]
async fn a_push_of_hc_webhook_is_stored_once_and_its_test_stores_nothing() {
    let app = app().await;
    let push = |is_test: bool| {
        json!({"timestamp": "2024-02-06T22:30:00Z", "app_version": "1.9.0",
         "heart_rate": [{"bpm": 72, "time": "2024-02-06T22:28:11Z"}, {"avg": 71.6, "min": 60, "max": 80, "time": "2024-02-06T22:29:11.5+01:00"},
                        {"bpm": 0, "time": "2024-02-06T22:28:12Z"}, {"time": "2024-02-06T22:28:13Z"}],
         "resting_heart_rate": [{"bpm": 58, "time": "2024-02-06T06:00:00Z"}],
         "sleep": [{"session_end_time": "2024-02-06T06:10:00Z", "duration_seconds": 27000, "stages": [{"stage": "deep"}]}],
         "nutrition": [], "test": is_test})
    };
    let expected = |inserted: u64, duplicates: u64| {
        json!({
            "received": 6, "inserted": inserted, "updated": 0, "duplicates": duplicates, "ignored": {"sleep": 1},
            "rejected": [
                {"metric": "heart_rate", "index": 2, "reason": "bpm: must be between 1 and 1000 (got \"0\")"},
                {"metric": "heart_rate", "index": 3, "reason": "bpm is missing"},
            ],
            "rejected_count": 2,
        })
    };
    app.post(HC_WEBHOOK, push(true)).await.assert_json(200, counts(0, 0, 0));
    app.post(HC_WEBHOOK, json!({"test": true})).await.assert_json(200, counts(0, 0, 0));
    assert_eq!(readings(&app).await, []);
    app.post(HC_WEBHOOK, push(false)).await.assert_json(200, expected(3, 0));
    app.post(HC_WEBHOOK, push(false)).await.assert_json(200, expected(0, 3));
    assert_eq!(
        readings(&app).await,
        [
            ("2024-02-06T06:00:00.000000Z".to_owned(), 58, Some("resting".to_owned())),
            ("2024-02-06T21:29:11.500000Z".to_owned(), 72, None),
            ("2024-02-06T22:28:11.000000Z".to_owned(), 72, None),
        ]
    );
    assert_eq!(app.get("/sources").await.json()["sources"][0]["name"], "HC Webhook");
}

#[rocket::async_test]
async fn a_body_that_is_not_that_of_the_app_is_rejected_and_stores_nothing() {
    let app = app().await;
    let sample =
        r#"{"name": "heart_rate", "units": "bpm", "data": [{"Avg": 70, "date": "2024-02-06 14:30:00 -0800"}"#;
    for (path, body, message) in [
        (HEALTH_AUTO_EXPORT, String::new(), "malformed JSON: EOF while parsing a value at line 1 column 0"),
        (HEALTH_AUTO_EXPORT, "[]".to_owned(), "must be a JSON object"),
        (HEALTH_AUTO_EXPORT, "7".to_owned(), "must be a JSON object"),
        (
            HEALTH_AUTO_EXPORT,
            r#"{"metrics": []}"#.to_owned(),
            "must be the JSON of Health Auto Export: an object with an object `data`",
        ),
        (
            HEALTH_AUTO_EXPORT,
            r#"{"data": [{"metrics": []}]}"#.to_owned(),
            "must be the JSON of Health Auto Export: an object with an object `data`",
        ),
        (
            HC_WEBHOOK,
            format!(r#"{{"data": {{"metrics": [{sample}]}}]}}}}"#),
            "must be the JSON of HC Webhook: an object with timestamp, app_version or heart_rate",
        ),
        // Cut off after a whole sample.
        (
            HEALTH_AUTO_EXPORT,
            format!(r#"{{"data": {{"metrics": [{sample}"#),
            "malformed JSON: EOF while parsing a list at line 1 column 118",
        ),
        (
            HEALTH_AUTO_EXPORT,
            format!(r#"{{"data": {{"metrics": [{sample}]}}]}}}} more"#),
            "malformed JSON: trailing characters at line 1 column 125",
        ),
    ] {
        push_raw(&app, path, &body).await.assert_invalid(&[invalid_field("body", "body", message)]);
    }
    assert_eq!(readings(&app).await, []);
}

#[rocket::async_test]
async fn pushes_need_the_scope_write_and_are_limited_in_size() {
    let setup = Setup { now: NOW, flags: &[("max-ingest-body-bytes", "2000")] };
    let app = TestApp::with_setup(setup).await;
    let watch = app.add_key("watch", &[Scope::Write]);
    let display = app.add_key("display", &[Scope::Read]);
    let request = |key: &str| app.request(Method::Post, HC_WEBHOOK).key(key);
    assert_eq!(request(&watch).body(r#"{"test": true}"#).send().await.status, 200);
    assert_eq!(request(&display).body(r#"{"test": true}"#).send().await.status, 403);
    assert_eq!(app.request(Method::Get, "/sources").key(&watch).send().await.status, 403);
    assert_eq!(app.request(Method::Get, "/sources").key(&display).send().await.status, 200);
    let long = format!(r#"{{"test": true, "x": "{}"}}"#, "x".repeat(2000));
    request(&watch)
        .body(long.clone())
        .send()
        .await
        .assert_problem(413, "The body must not be larger than 2000 bytes");
    let declared = request(&watch).body(long.clone()).header("Content-Length", long.len().to_string());
    declared.send().await.assert_problem(413, "The body must not be larger than 2000 bytes");
}

#[rocket::async_test]
async fn a_push_that_was_seen_before_writes_nothing() {
    let app = app().await;
    let minutes = (0..1440_u32).map(|minute| {
        let time = format!("2024-02-06T{:02}:{:02}:00Z", minute / 60, minute % 60);
        json!({"Min": 50, "Avg": 60 + minute % 40, "Max": 110, "date": time, "source": "Apple Watch"})
    });
    let push = metric("heart_rate", "bpm", &json!(minutes.collect::<Vec<_>>()));
    app.post(HEALTH_AUTO_EXPORT, push.clone()).await.assert_json(200, counts(1440, 0, 0));
    let commits = app.metric("store_commits_total").await;
    assert!(commits > 0.0);
    app.post(HEALTH_AUTO_EXPORT, push).await.assert_json(200, counts(0, 0, 1440));
    assert_eq!(app.metric("store_commits_total").await, commits);
    let stats = app.get("/heartrate/stats?days=2").await.json();
    assert_eq!(stats["total_readings"], 1440);
}
