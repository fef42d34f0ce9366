//! Errors of the database and panics: status 500 without internal details, while other routes keep working.

use rocket::http::Method;
use rusqlite::Connection;
use serde_json::json;

use super::helpers::{TestApp, TestResponse};

impl TestApp {
    /// Changes the database behind the application's back.
    fn execute(&self, sql: &str) {
        let connection = Connection::open(self.database()).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

/// Asserts status 500 without details of the database.
fn assert_internal_error(response: TestResponse, request: &str) {
    for word in ["sql", "table", "_logs", "coffee.db", "/tmp", "panicked", "column", "no such"] {
        assert!(!response.text().to_lowercase().contains(word), "{request}: {}", response.text());
    }
    assert_eq!(response.header("retry-after"), "", "{request}");
    response.assert_problem(500, "Internal error: the server's log has details under this request id");
}

#[rocket::async_test]
async fn without_the_coffee_table_coffee_routes_fail_and_heart_rate_routes_work() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T08:00:00Z", 80.0, None).await;
    app.execute("alter table coffee_logs rename to hidden");
    let body = json!({"caffeine_mg": 1});
    for (method, path) in [
        (Method::Post, "/coffee/"),
        (Method::Get, "/coffee/"),
        (Method::Get, "/coffee/?coffee_type=latte"),
        (Method::Get, "/coffee/1"),
        (Method::Put, "/coffee/1"),
        (Method::Patch, "/coffee/1"),
        (Method::Delete, "/coffee/1"),
        (Method::Get, "/coffee/today"),
        (Method::Get, "/coffee/week"),
        (Method::Get, "/coffee/days"),
        (Method::Get, "/coffee/stats"),
        (Method::Get, "/coffee/types"),
        (Method::Get, "/heartrate/correlation"),
    ] {
        assert_internal_error(app.request(method, path).json(&body).send().await, path);
        assert_eq!(app.post("/heartrate/", json!({"bpm": 60})).await.status, 201, "after {path}");
        assert_eq!(app.get("/heartrate/current").await.status, 200, "after {path}");
    }
    // Health and metrics report the failure and stay available.
    let health = app.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("degraded")));
    assert_eq!(health.json()["database"]["status"], "unhealthy");
    assert_eq!(health.json()["database"]["error"], "the database cannot be read");
    assert_eq!(app.metric(r#"component_up{component="database"}"#).await, 0.0);
    assert!(app.metric(r#"database_errors_total{kind="internal"}"#).await >= 12.0);
    // With the table back, everything works without a restart.
    app.execute("alter table hidden rename to coffee_logs");
    assert_eq!(app.ids("/coffee/").await, [1]);
    assert_eq!(app.get("/health").await.json()["status"], "alive");
}

#[rocket::async_test]
async fn without_the_heart_rate_table_heart_rate_routes_fail_and_coffee_routes_work() {
    let app = TestApp::new().await;
    app.execute("drop table heart_rate_logs");
    for (method, path) in [
        (Method::Post, "/heartrate/"),
        (Method::Post, "/heartrate/batch"),
        (Method::Get, "/heartrate/"),
        (Method::Get, "/heartrate/?context=resting"),
        (Method::Get, "/heartrate/1"),
        (Method::Put, "/heartrate/1"),
        (Method::Patch, "/heartrate/1"),
        (Method::Delete, "/heartrate/1"),
        (Method::Get, "/heartrate/current"),
        (Method::Get, "/heartrate/range?start=2026-06-01&end=2026-06-02"),
        (Method::Get, "/heartrate/stats"),
    ] {
        let body = json!({"bpm": 60, "readings": [{"bpm": 60}]});
        assert_internal_error(app.request(method, path).json(&body).send().await, path);
        assert_eq!(app.post("/coffee/", json!({"caffeine_mg": 1})).await.status, 201, "after {path}");
        assert_eq!(app.get("/coffee/today").await.status, 200, "after {path}");
    }
}

#[rocket::async_test]
async fn without_the_table_of_idempotency_keys_only_requests_with_a_key_fail() {
    let app = TestApp::new().await;
    app.execute("drop table idempotency_keys");
    let body = json!({"caffeine_mg": 1});
    let request = app.request(Method::Post, "/coffee/").header("Idempotency-Key", "k").json(&body);
    assert_internal_error(request.send().await, "POST /coffee/ with an idempotency key");
    app.post("/coffee/", body).await;
    // The failed request stored nothing.
    assert_eq!(app.ids("/coffee/").await, [1]);
}

#[rocket::async_test]
async fn a_batch_that_fails_halfway_stores_nothing() {
    let app = TestApp::new().await;
    app.execute(
        "create trigger reject_99 before insert on heart_rate_logs when new.bpm = 99
         begin select raise(abort, '99 is rejected'); end",
    );
    let readings = json!({"readings": [{"bpm": 60}, {"bpm": 61}, {"bpm": 99}]});
    assert_internal_error(app.post("/heartrate/batch", readings).await, "POST /heartrate/batch");
    app.get("/heartrate/").await.assert_json(200, json!([]));
    app.get("/heartrate/current").await.assert_json(200, json!({"message": "No heart rate data yet"}));
}

#[rocket::get("/panicking")]
fn panicking() -> &'static str {
    panic!("a secret")
}

#[rocket::async_test]
async fn a_panic_in_a_handler_returns_500_without_details() {
    let app = TestApp::new().await;
    let server = coffee_tracker::http::rocket(app.shared.clone(), app.people.clone())
        .mount("/", rocket::routes![panicking]);
    let client = rocket::local::asynchronous::Client::untracked(server).await.unwrap();
    let request = |path| client.get(path).header(rocket::http::Header::new("Host", "localhost")).dispatch();
    for _ in 0..3 {
        let response = request("/panicking").await;
        assert_eq!(response.status().code, 500);
        assert_eq!(response.headers().get_one("Content-Type"), Some("application/problem+json"));
        assert!(response.headers().contains("X-Request-ID"));
        let text = response.into_string().await.unwrap();
        assert!(!text.contains("secret") && text.contains("log has details"), "{text}");
        assert_eq!(request("/health").await.status().code, 200);
    }
}
