//! Typical requests to every group of routes, with complete responses. `COFFEE_TRACKER=PROGRAM` tests another binary, also of
//! another architecture.

use serde_json::{Value, json};

use crate::client::{Client, Response};
use crate::helpers::{KEY, Server, temporary_folder};

/// A Monday in the past, so that the clock of the machine is later.
const NOON: &str = "2025-06-02T12:00:00.000000Z";

#[track_caller]
fn assert_response(response: &Response, status: u16, body: &Value) {
    assert_eq!((response.status, &response.json()), (status, body));
}

fn request(client: &mut Client, method: &str, path: &str, body: &Value) -> Response {
    client.try_request(method, path, "", &body.to_string()).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
}

fn espresso(id: i64, mg: f64) -> Value {
    json!({"id": id, "timestamp": NOON, "caffeine_mg": mg, "coffee_type": "espresso", "notes": "süß ☕"})
}

#[test]
fn a_coffee_is_logged_once_listed_updated_counted_exported_and_deleted() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let mut client = server.client();
    let body =
        json!({"timestamp": NOON, "caffeine_mg": "95", "coffee_type": "espresso", "notes": " süß ☕ "});
    for _ in 0..2 {
        let headers = "Idempotency-Key: morning\r\n";
        let logged = client.try_request("POST", "/coffee/", headers, &body.to_string()).unwrap();
        assert_response(&logged, 201, &espresso(1, 95.0));
        assert_eq!(logged.header("Location"), Some("/coffee/1"));
    }
    assert_response(
        &client.get("/coffee/?since=2025-06-02&until=2025-06-03"),
        200,
        &json!([espresso(1, 95.0)]),
    );
    assert_response(
        &request(&mut client, "PATCH", "/coffee/1", &json!({"caffeine_mg": 62.5})),
        200,
        &espresso(1, 62.5),
    );
    assert_response(&client.get("/coffee/1"), 200, &espresso(1, 62.5));
    let stats = client.get("/coffee/stats?days=3650").json();
    assert_eq!(
        [&stats["total_coffees"], &stats["total_caffeine_mg"], &stats["most_common_type"]],
        [&json!(1), &json!(62.5), &json!("espresso")]
    );
    assert_eq!(stats["by_hour"].as_array().map(Vec::len), Some(24));
    let csv = client.get("/export/coffee");
    let exported = String::from_utf8(csv.body).unwrap();
    assert_eq!(exported.lines().count(), 2, "{exported}");
    assert!(exported.contains(NOON) && exported.contains("süß ☕"), "{exported}");
    assert_response(
        &request(&mut client, "DELETE", "/coffee/1", &Value::Null),
        200,
        &json!({"message": "Coffee log deleted", "id": 1}),
    );
    client.get("/coffee/1").assert_problem(404);
    server.stop_cleanly();
}

#[test]
fn readings_are_logged_singly_and_in_batches_and_aggregated() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let mut client = server.client();
    let minute = |n: usize| format!("2025-06-02T12:{n:02}:00.000000Z");
    let readings: Vec<Value> =
        [60, 64, 75].iter().enumerate().map(|(n, bpm)| json!({"timestamp": minute(n), "bpm": bpm})).collect();
    let batch = json!({"readings": readings});
    let sent = request(&mut client, "POST", "/heartrate/batch", &batch);
    assert_response(&sent, 201, &json!({"inserted": 3, "duplicates": 0}));
    let again = request(&mut client, "POST", "/heartrate/batch", &batch);
    assert_response(&again, 201, &json!({"inserted": 0, "duplicates": 3}));
    let single = json!({"timestamp": minute(3), "bpm": 80.0, "context": "post-coffee"});
    let expected =
        json!({"id": 4, "timestamp": minute(3), "bpm": 80, "context": "post-coffee", "notes": null});
    assert_response(&request(&mut client, "POST", "/heartrate/", &single), 201, &expected);
    assert_response(&client.get("/heartrate/?context=post-coffee"), 200, &json!([expected]));
    let figures = json!({"min_bpm": 60, "max_bpm": 80, "avg_bpm": 69.8, "median_bpm": 69.5, "std_dev": 9.3});
    let range = client.get("/heartrate/range?start=2025-06-02&end=2025-06-03").json();
    assert_eq!((&range["readings_count"], &range["stats"]), (&json!(4), &figures));
    let stats = client.get("/heartrate/stats?days=3650").json();
    assert_eq!(stats["overall_stats"], figures);
    assert_eq!(stats["health_assessment"], "Excellent resting heart rate");
    assert_eq!(client.get("/heartrate/current").json()["bpm"], 80);
    server.stop_cleanly();
}

#[test]
fn invalid_and_unauthorized_requests_get_problem_responses() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let mut client = server.client();
    let bad = request(&mut client, "POST", "/coffee/", &json!({"caffeine_mg": 1500, "notes": 1}));
    bad.assert_problem(422);
    assert_eq!(bad.json()["errors"].as_array().map(Vec::len), Some(2));
    client.get("/no-such-page").assert_problem(404);
    let unauthorized =
        "GET /coffee/today HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer not-the-key\r\n\r\n";
    client.send(unauthorized).unwrap();
    let refused = client.read_response().unwrap();
    refused.assert_problem(401);
    assert!(!String::from_utf8_lossy(&refused.body).contains(KEY));
    server.stop_cleanly();
}

#[test]
fn health_info_metrics_and_the_openapi_document_describe_the_server() {
    let folder = temporary_folder();
    let server = Server::start(folder.path());
    let mut client = server.client();
    let health = client.get("/health").json();
    assert_eq!((&health["status"], &health["database"]["state"]), (&json!("alive"), &json!("ok")));
    assert_eq!(client.get("/info").json()["name"], "Coffee Tracker");
    request(&mut client, "POST", "/coffee/", &json!({"caffeine_mg": 40}));
    let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
    assert!(metrics.contains("caffeine_mg_total 40\n"), "{metrics}");
    assert_eq!(client.get("/openapi.json").json()["openapi"], "3.1.0");
    server.stop_cleanly();
}
