//! `POST /heartrate/batch`: atomic unless `on_error=skip`, and without duplicates when it is sent again.

use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{TestApp, invalid_field, invalid_value};

fn result(inserted: u64, duplicates: u64) -> Value {
    json!({"inserted": inserted, "duplicates": duplicates})
}

#[rocket::async_test]
async fn a_batch_sent_twice_adds_nothing_the_second_time() {
    let app = TestApp::new().await;
    let batch = json!({"readings": [
        {"bpm": 61, "timestamp": "2026-06-01T06:00:00Z", "context": "sleeping"},
        {"bpm": "74", "timestamp": "2026-06-01T09:00:00+02:00"},
        // Two equal readings in one batch are both stored.
        {"bpm": 80, "timestamp": "2026-06-01T08:00:00Z", "notes": "stairs"},
        {"bpm": 80, "timestamp": "2026-06-01T08:00:00Z", "notes": "stairs"},
        {"bpm": 66},
    ]});
    app.post("/heartrate/batch", batch.clone()).await.assert_json(201, result(5, 0));
    app.post("/heartrate/batch/", batch.clone()).await.assert_json(201, result(0, 5));
    // A minute later the reading without a timestamp is a new one.
    app.advance_clock(60);
    app.post("//heartrate//batch", batch).await.assert_json(201, result(1, 4));
    assert_eq!(app.ids("/heartrate/").await.len(), 6);
    app.get("/heartrate/2").await.assert_json(
        200,
        json!({"id": 2, "timestamp": "2026-06-01T07:00:00.000000Z", "bpm": 74, "context": "resting", "notes": null}),
    );
}

#[rocket::async_test]
async fn a_duplicate_is_equal_in_time_pulse_context_and_notes() {
    let app = TestApp::new().await;
    let base = json!({"bpm": 61, "timestamp": "2026-06-01T06:00:00Z", "context": "sleeping", "notes": "n"});
    app.post("/heartrate/", base.clone()).await;
    for (field, value, duplicates) in [
        ("bpm", json!(61), 1),
        ("bpm", json!("61.0"), 1),
        ("timestamp", json!("2026-06-01T08:00:00"), 1),
        ("notes", json!(" n "), 1),
        ("unknown", json!(1), 1),
        ("bpm", json!(62), 0),
        ("timestamp", json!("2026-06-01T06:00:00.000001Z"), 0),
        ("context", json!("panic"), 0),
        ("context", Value::Null, 0),
        ("notes", Value::Null, 0),
    ] {
        let mut reading = base.clone();
        reading[field] = value;
        let response = app.post("/heartrate/batch", json!({"readings": [reading]})).await;
        response.assert_json(201, result(1 - duplicates, duplicates));
    }
    // Three equal readings are sent, and one of them is stored already.
    app.post("/heartrate/batch", json!({"readings": [base, base, base]}))
        .await
        .assert_json(201, result(2, 1));
}

#[rocket::async_test]
async fn an_invalid_reading_rejects_the_batch_and_is_reported_by_its_index() {
    let app = TestApp::new().await;
    let valid = json!({"bpm": 60});
    let readings =
        json!([valid, {"bpm": 60, "context": 7}, valid, {"bpm": 10, "timestamp": "later"}, 5, {}, [], null]);
    app.post("/heartrate/batch", json!({"readings": readings})).await.assert_invalid(&[
        invalid_value("body", "readings[1].context", "must be text", 7),
        invalid_value("body", "readings[3].bpm", "must be between 30 and 250", 10),
        invalid_value(
            "body",
            "readings[3].timestamp",
            "must be a date and time such as 2025-07-23T14:30:00Z",
            "later",
        ),
        invalid_field("body", "readings[4]", "must be an object"),
        invalid_field("body", "readings[5].bpm", "is required"),
        invalid_field("body", "readings[6]", "must be an object"),
        invalid_field("body", "readings[7]", "must be an object"),
    ]);
    app.get("/heartrate/").await.assert_json(200, json!([]));
}

#[rocket::async_test]
async fn a_batch_has_1_to_10_000_readings() {
    let app = TestApp::new().await;
    let batch = |n: usize| json!({"readings": vec![json!({"bpm": 60}); n]});
    let wrong_count = |n: usize| {
        invalid_field("body", "readings", &format!("must be a list of 1 to 10000 readings (it has {n})"))
    };
    app.post("/heartrate/batch", batch(0)).await.assert_invalid(&[wrong_count(0)]);
    app.post("/heartrate/batch", batch(10_001)).await.assert_invalid(&[wrong_count(10_001)]);
    app.post("/heartrate/batch", json!({})).await.assert_invalid(&[wrong_count(0)]);
    app.post("/heartrate/batch", batch(10_000)).await.assert_json(201, result(10_000, 0));
    app.post("/heartrate/batch", batch(10_000)).await.assert_json(201, result(0, 10_000));
}

#[rocket::async_test]
async fn readings_must_be_a_list() {
    let app = TestApp::new().await;
    for (sent, kind) in
        [("null", "null"), ("5", "integer `5`"), (r#""x""#, "string \"x\""), (r#"{"bpm": 60}"#, "map")]
    {
        let body = format!(r#"{{"readings": {sent}}}"#);
        let response = app.request(Method::Post, "/heartrate/batch").body(body).send().await;
        let column = if kind == "map" { 13 } else { 13 + sent.len() };
        let message = format!("invalid type: {kind}, expected a list of readings at line 1 column {column}");
        response.assert_invalid(&[invalid_field("body", "body", &message)]);
    }
}

#[rocket::async_test]
async fn a_batch_may_have_8_mib_regardless_of_the_limit_of_other_bodies() {
    let app = TestApp::with_flags(&[("max-request-body-bytes", "1024")]).await;
    let padded =
        |size: usize| format!("{{\"readings\": [{{\"bpm\": 60}}], \"x\": \"{}\"}}", "y".repeat(size - 36));
    assert_eq!(padded(100).len(), 100);
    let send = |size| app.request(Method::Post, "/heartrate/batch").body(padded(size)).send();
    send(8 << 20).await.assert_json(201, result(1, 0));
    send((8 << 20) + 1).await.assert_problem(413, "The body must not be larger than 8388608 bytes");
}

/// Response body with `on_error=skip`.
fn skip_result(received: u64, inserted: u64, duplicates: u64, rejected: &[(u64, &str)]) -> Value {
    let list: Vec<Value> =
        rejected.iter().map(|(index, reason)| json!({"index": index, "reason": reason})).collect();
    json!({"received": received, "inserted": inserted, "duplicates": duplicates, "rejected": list,
           "rejected_count": rejected.len()})
}

const SKIP: &str = "/heartrate/batch?on_error=skip";

#[rocket::async_test]
async fn with_skip_only_invalid_readings_are_rejected() {
    let app = TestApp::new().await;
    let night = json!({"readings": [
        {"bpm": 61, "timestamp": "2026-06-01T01:00:00Z"},
        {"bpm": 61.4, "timestamp": "2026-06-01T02:00:00Z"},
        {"bpm": 60, "context": 7},
        {"bpm": 10, "timestamp": "later"},
        5,
        {},
        {"bpm": 62, "timestamp": "2026-06-01T03:00:00Z"},
        {"bpm": 63, "timestamp": "2026-06-02T03:00:00Z"},
    ]});
    let rejected = [
        (1, "bpm: must be a whole number (got 61.4)"),
        (2, "context: must be text (got 7)"),
        (
            3,
            "bpm: must be between 30 and 250 (got 10); timestamp: must be a date and time such as \
             2025-07-23T14:30:00Z (got \"later\")",
        ),
        (4, "must be an object"),
        (5, "bpm: is required"),
        (
            7,
            "timestamp: must not lie more than 5 minutes ahead of the server's clock (got \"2026-06-02T03:00:00Z\")",
        ),
    ];
    app.post(SKIP, night.clone()).await.assert_json(201, skip_result(8, 2, 0, &rejected));
    app.post("/heartrate/batch/?on_error=skip", night.clone())
        .await
        .assert_json(201, skip_result(8, 0, 2, &rejected));
    let stored = app.get("/heartrate/").await.json();
    let pulses: Vec<_> = stored.as_array().unwrap().iter().map(|reading| &reading["bpm"]).collect();
    assert_eq!(pulses, [62, 61]);
    assert_eq!(app.metric(r#"heartrate_logged_total{context="resting"}"#).await, 2.0);
    // The default, given explicitly, rejects the batch.
    let rejected = app.post("/heartrate/batch?on_error=fail", night).await;
    assert_eq!(rejected.status, 422);
}

#[rocket::async_test]
async fn with_skip_at_most_twenty_rejections_are_listed_and_all_are_counted() {
    let app = TestApp::new().await;
    let invalid = json!({"readings": vec![json!({"bpm": 0}); 10_000]});
    let response = app.post(SKIP, invalid).await;
    let body = response.json();
    assert_eq!(
        (response.status, &body["rejected_count"], &body["inserted"]),
        (201, &json!(10_000), &json!(0))
    );
    let shown: Vec<_> = body["rejected"].as_array().unwrap().iter().map(|one| &one["index"]).collect();
    assert_eq!(shown, (0..20).collect::<Vec<u64>>());
    let valid = json!({"readings": [{"bpm": 60}]});
    app.post(SKIP, valid).await.assert_json(201, skip_result(1, 1, 0, &[]));
}

#[rocket::async_test]
async fn with_skip_a_malformed_batch_is_still_rejected() {
    let app = TestApp::new().await;
    let wrong_count = |n: usize| {
        invalid_field("body", "readings", &format!("must be a list of 1 to 10000 readings (it has {n})"))
    };
    app.post(SKIP, json!({})).await.assert_invalid(&[wrong_count(0)]);
    app.post(SKIP, json!({"readings": vec![json!({"bpm": 60}); 10_001]}))
        .await
        .assert_invalid(&[wrong_count(10_001)]);
    let malformed = app.request(Method::Post, SKIP).body(r#"{"readings": [{"bpm": 60}"#).send().await;
    assert_eq!(malformed.status, 422);
    for wrong in ["", "Skip", "ignore"] {
        let path = format!("/heartrate/batch?on_error={wrong}");
        let response = app.post(&path, json!({"readings": [{"bpm": 60}]})).await;
        response.assert_invalid(&[invalid_value("query", "on_error", "must be fail or skip", wrong)]);
    }
    app.get("/heartrate/").await.assert_json(200, json!([]));
}
