//! `/heartrate/`, `/heartrate/{id}` and `/heartrate/current`.

use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{TestApp, invalid_field, invalid_value};

fn reading(id: i64, bpm: u16, context: Option<&str>, notes: Option<&str>) -> Value {
    json!({"id": id, "timestamp": "2026-06-01T12:00:00.000000Z", "bpm": bpm, "context": context, "notes": notes})
}

#[rocket::async_test]
async fn a_reading_can_be_created_read_changed_and_deleted() {
    let app = TestApp::new().await;
    let created = app.post("/heartrate/", json!({"bpm": 72, "context": "panic", "notes": "exam"})).await;
    let created = created.assert_json(201, reading(1, 72, Some("panic"), Some("exam")));
    assert_eq!(created.header("location"), "/heartrate/1");
    for path in ["/heartrate/1", "/heartrate/1/", "//heartrate//1"] {
        app.get(path).await.assert_json(200, reading(1, 72, Some("panic"), Some("exam")));
    }
    let (get, head) = (app.get("/heartrate/").await, app.request(Method::Head, "/heartrate").send().await);
    assert_eq!((head.status, head.content_length, head.body.len()), (200, Some(get.body.len()), 0));
    app.put("/heartrate/1", json!({"bpm": "73", "notes": null}))
        .await
        .assert_json(200, reading(1, 73, Some("panic"), None));
    app.patch("/heartrate/1", json!({"context": null})).await.assert_json(200, reading(1, 73, None, None));
    app.get("/heartrate").await.assert_json(200, json!([reading(1, 73, None, None)]));
    app.delete("/heartrate/1").await.assert_json(200, json!({"message": "Heart rate log deleted", "id": 1}));
    for method in [Method::Get, Method::Put, Method::Patch, Method::Delete] {
        let request = app.request(method, "/heartrate/1").json(&json!({"bpm": 60}));
        request.send().await.assert_problem(404, "Heart rate log not found");
    }
    app.post("/heartrate/", json!({"bpm": 60})).await.assert_json(201, reading(2, 60, Some("resting"), None));
}

#[rocket::async_test]
async fn bpm_is_a_whole_number_within_the_limits() {
    let app = TestApp::new().await;
    for (sent, stored) in
        [("30", 30), ("250", 250), ("72.0", 72), (r#""72""#, 72), (r#"" 72.0 ""#, 72), ("7.2e1", 72)]
    {
        let response =
            app.request(Method::Post, "/heartrate/").body(format!(r#"{{"bpm": {sent}}}"#)).send().await;
        assert_eq!((response.status, &response.json()["bpm"]), (201, &json!(stored)), "{sent}");
        assert!(response.text().contains(&format!("\"bpm\":{stored},")), "{}", response.text());
    }
    let (whole, range) = ("must be a whole number", "must be between 30 and 250");
    for (sent, error) in [
        ("72.4", invalid_value("body", "bpm", whole, 72.4)),
        (r#""72.4""#, invalid_value("body", "bpm", whole, "72.4")),
        ("29", invalid_value("body", "bpm", range, 29)),
        ("251", invalid_value("body", "bpm", range, 251)),
        ("-72", invalid_value("body", "bpm", range, -72)),
        ("0", invalid_value("body", "bpm", range, 0)),
        ("1e300", invalid_value("body", "bpm", range, 1e300)),
        ("true", invalid_value("body", "bpm", whole, true)),
        ("null", invalid_value("body", "bpm", whole, Value::Null)),
        ("[72]", invalid_field("body", "bpm", whole)),
        (r#""fast""#, invalid_value("body", "bpm", whole, "fast")),
        (r#""NaN""#, invalid_value("body", "bpm", whole, "NaN")),
    ] {
        let body = format!(r#"{{"bpm": {sent}}}"#);
        app.request(Method::Post, "/heartrate/")
            .body(body.clone())
            .send()
            .await
            .assert_invalid(std::slice::from_ref(&error));
        app.request(Method::Put, "/heartrate/1").body(body).send().await.assert_invalid(&[error]);
    }
    app.post("/heartrate/", json!({})).await.assert_invalid(&[invalid_field("body", "bpm", "is required")]);
    let wide = TestApp::with_flags(&[("min-heart-rate-bpm", "20"), ("max-heart-rate-bpm", "300")]).await;
    for (bpm, status) in [(20, 201), (300, 201), (19, 422), (301, 422)] {
        assert_eq!(wide.post("/heartrate/", json!({"bpm": bpm})).await.status, status, "{bpm}");
    }
}

#[rocket::async_test]
async fn a_context_is_free_text_with_the_default_resting() {
    let app = TestApp::new().await;
    for (sent, stored) in [
        (json!({}), json!("resting")),
        (json!({"context": null}), Value::Null),
        (json!({"context": ""}), Value::Null),
        (json!({"context": " on a swing "}), json!("on a swing")),
        (json!({"context": "\u{2615}".repeat(50)}), json!("\u{2615}".repeat(50))),
    ] {
        let mut body = sent.clone();
        body["bpm"] = json!(60);
        assert_eq!(app.post("/heartrate/", body).await.json()["context"], stored, "{sent}");
    }
    let long = "x".repeat(51);
    app.post("/heartrate/", json!({"bpm": 60, "context": long})).await.assert_invalid(&[invalid_value(
        "body",
        "context",
        "must have at most 50 characters (it has 51)",
        long.as_str(),
    )]);
}

#[rocket::async_test]
async fn invalid_ids_methods_and_empty_changes_are_rejected() {
    let app = TestApp::new().await;
    for (raw, shown) in [
        ("0", "0"),
        ("-1", "-1"),
        ("99999999999999999999", "99999999999999999999"),
        ("1.0", "1.0"),
        ("abc", "abc"),
        ("%00", "\0"),
        ("%2e%2e", ".."),
    ] {
        for method in [Method::Get, Method::Put, Method::Patch, Method::Delete] {
            let request = app.request(method, &format!("/heartrate/{raw}")).json(&json!({"bpm": 60}));
            request.send().await.assert_invalid(&[invalid_value(
                "path",
                "id",
                "must be a whole number of at least 1",
                shown,
            )]);
        }
    }
    let message = "must have at least one of bpm, context, notes, timestamp";
    app.put("/heartrate/1", json!({"pulse": 60}))
        .await
        .assert_invalid(&[invalid_field("body", "body", message)]);
    for (method, path, allow) in [
        (Method::Delete, "/heartrate/", "GET, HEAD, POST, OPTIONS"),
        (Method::Post, "/heartrate/1", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        (Method::Get, "/heartrate/batch", "POST, OPTIONS"),
        (Method::Delete, "/heartrate/batch", "POST, OPTIONS"),
        (Method::Put, "/heartrate/current", "GET, HEAD, OPTIONS"),
        (Method::Patch, "/heartrate/range", "GET, HEAD, OPTIONS"),
        (Method::Post, "/heartrate/stats", "GET, HEAD, OPTIONS"),
        (Method::Delete, "/heartrate/correlation", "GET, HEAD, OPTIONS"),
    ] {
        let response =
            app.request(method, path).send().await.assert_problem(405, &format!("Allowed methods: {allow}"));
        assert_eq!(response.header("allow"), allow, "{method} {path}");
        let options = app.request(Method::Options, path).send().await;
        assert_eq!((options.status, options.header("allow")), (204, allow), "{path}");
    }
}

#[rocket::async_test]
async fn the_current_reading_is_the_newest_with_its_status() {
    let app = TestApp::new().await;
    app.get("/heartrate/current").await.assert_json(200, json!({"message": "No heart rate data yet"}));
    for (bpm, status) in [
        (30, "bradycardia (dangerously low)"),
        (49, "bradycardia (dangerously low)"),
        (50, "bradycardia (athlete or dead)"),
        (59, "bradycardia (athlete or dead)"),
        (60, "normal"),
        (100, "normal"),
        (101, "elevated"),
        (120, "elevated"),
        (121, "tachycardia"),
        (150, "tachycardia"),
        (151, "severe tachycardia"),
        (180, "severe tachycardia"),
        (181, "call 911"),
        (250, "call 911"),
    ] {
        // All have the same timestamp: the one stored last is current.
        app.post("/heartrate/", json!({"bpm": bpm})).await;
        app.get("/heartrate/current/").await.assert_json(
            200,
            json!({"bpm": bpm, "timestamp": "2026-06-01T12:00:00.000000Z", "context": "resting",
                   "status": status, "minutes_ago": 0, "is_recent": true}),
        );
    }
}

#[rocket::async_test]
async fn a_reading_is_recent_for_less_than_thirty_minutes() {
    for (timestamp, minutes, recent) in [
        ("2026-06-01T12:05:00Z", 0, true),
        ("2026-06-01T11:59:00.000001Z", 0, true),
        ("2026-06-01T11:59:00Z", 1, true),
        ("2026-06-01T11:30:00.000001Z", 29, true),
        ("2026-06-01T11:30:00Z", 30, false),
        ("2026-05-31T12:00:00Z", 1440, false),
    ] {
        let app = TestApp::new().await;
        app.add_readings("sleeping", &[(timestamp, 61), ("2026-01-01T00:00:00Z", 200)]).await;
        let mut current = app.get("/heartrate/current").await.json();
        assert!(current["timestamp"].take().is_string());
        let expected = json!({"bpm": 61, "timestamp": null, "context": "sleeping", "status": "normal",
                              "minutes_ago": minutes, "is_recent": recent});
        assert_eq!(current, expected, "{timestamp}");
    }
}
