//! `/`, `/health`, `/info` and `/openapi.json`.

use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{Setup, TestApp};

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[rocket::async_test]
async fn the_root_links_to_the_documentation() {
    let app = TestApp::new().await;
    let welcome = json!({"message": "Coffee Tracker", "version": VERSION, "docs": "/docs", "health": "/health",
                         "api_endpoints": {"coffee": "/coffee/", "heartrate": "/heartrate/"}});
    for path in ["/", "//", "/?x=1"] {
        app.get(path).await.assert_json(200, welcome.clone());
    }
    app.request(Method::Post, "/").send().await.assert_problem(405, "Allowed methods: GET, HEAD, OPTIONS");
}

#[rocket::async_test]
async fn health_reports_every_component() {
    let app = TestApp::new().await;
    app.advance_clock(90);
    let mut health = app.get("/health").await.json();
    let database = health["database"].as_object_mut().unwrap();
    assert!(database["size_bytes"].take().as_u64().unwrap() > 0);
    assert!(database["sqlite_version"].take().as_str().unwrap() >= "3.51.3");
    assert!(health["disk"]["free_bytes"].take().is_u64());
    assert!(health["disk"]["used_percent"].take().is_f64());
    assert!(["ok", "low"].contains(&health["disk"]["status"].take().as_str().unwrap()));
    let expected = json!({
        "status": "alive", "timestamp": "2026-06-01T12:01:30.000000Z", "version": VERSION,
        "uptime_seconds": 90, "probably": "overcaffeinated", "people": 1, "people_open": 1,
        "database": {"status": "healthy", "type": "sqlite", "state": "ok", "sqlite_version": null, "size_bytes": null},
        "rate_limiter": {"status": "healthy", "type": "in-process", "tracked_clients": 0},
        "redis": {"status": "healthy", "type": "in-process"},
        "disk": {"status": null, "free_bytes": null, "used_percent": null},
        "backup": {"status": "none", "last_success": null, "age_seconds": null},
        "clock": {"status": "ok"},
        "connections": {"protection": "full", "open": 0, "limit": 256},
    });
    assert_eq!(health, expected);
    for path in ["/health/", "//health"] {
        assert_eq!(
            app.request(Method::Get, path).without_header("Authorization").send().await.status,
            200,
            "{path}"
        );
    }
}

#[rocket::async_test]
async fn health_reports_the_last_backup() {
    for (record, backup) in [
        (
            json!({"last_success": 1_780_311_600_000_000_i64}),
            json!({"status": "ok", "last_success": "2026-06-01T11:00:00.000000Z", "age_seconds": 3600}),
        ),
        (
            json!({"last_success": 1_780_221_600_000_000_i64}),
            json!({"status": "ok", "last_success": "2026-05-31T10:00:00.000000Z", "age_seconds": 93_600}),
        ),
        (
            json!({"last_success": 1_780_221_599_000_000_i64}),
            json!({"status": "stale", "last_success": "2026-05-31T09:59:59.000000Z", "age_seconds": 93_601}),
        ),
        (
            json!({"last_success": 1_780_311_600_000_000_i64, "error": "disk full"}),
            json!({"status": "failed", "last_success": "2026-06-01T11:00:00.000000Z", "age_seconds": 3600, "error": "disk full"}),
        ),
        (
            // The backup is newer than the clock by more than the tolerated drift.
            json!({"last_success": 1_780_315_501_000_000_i64}),
            json!({"status": "unknown", "last_success": "2026-06-01T12:05:01.000000Z", "age_seconds": null}),
        ),
        (
            json!({"last_success": 1_780_315_500_000_000_i64}),
            json!({"status": "ok", "last_success": "2026-06-01T12:05:00.000000Z", "age_seconds": 0}),
        ),
        (
            json!({"last_success": 1_798_689_600_000_000_i64, "error": "disk full"}),
            json!({"status": "failed", "last_success": "2026-12-31T04:00:00.000000Z", "age_seconds": null, "error": "disk full"}),
        ),
    ] {
        let app = TestApp::new().await;
        let path = coffee_tracker::fs::paths::with_suffix(app.database(), ".backup.json");
        let value = |field: &str| record.get(field).cloned().unwrap_or(Value::Null);
        let record =
            json!({"last_success": value("last_success"), "size_bytes": 4096, "error": value("error")});
        std::fs::write(path, record.to_string()).unwrap();
        let health = app.get("/health").await;
        assert_eq!((health.status, &health.json()["backup"]), (200, &backup));
    }
}

#[rocket::async_test]
async fn info_lists_limits_validation_rules_and_every_route() {
    let flags = [
        ("rate-limit-enabled", "true"),
        ("max-caffeine-mg", "500.5"),
        ("rate-limit-read", "7/second"),
        ("tz", "America/Bogota"),
    ];
    let app = TestApp::with_setup(Setup { flags: &flags, ..Setup::default() }).await;
    let mut info = app.get("/info").await.json();
    let endpoints = info["endpoints"].take();
    let expected = json!({
        "name": "Coffee Tracker", "version": VERSION, "timezone": "America/Bogota", "proxy_sign_in": false,
        "rate_limits": {
            "open": "30/minute", "health": "60/minute", "info": "10/minute", "static": "600/minute",
            "read": "7/second", "coffee-write": "100/hour", "coffee-change": "60/hour",
            "heartrate-write": "200/hour", "heartrate-change": "120/hour", "heartrate-batch": "60/hour",
            "ingest": "120/hour", "manage": "120/minute", "pair": "10/minute", "unauthenticated": "120/minute",
        },
        "validation": {
            "max_caffeine_mg": 500.5, "recommended_daily_caffeine_mg": 400.0, "min_heart_rate_bpm": 30,
            "max_heart_rate_bpm": 250, "max_coffee_type_length": 100, "max_context_length": 50,
            "max_notes_length": 1000, "max_request_body_bytes": 1_048_576, "max_clock_drift_minutes": 5,
        },
        "endpoints": null,
    });
    assert_eq!(info, expected);
    let listed = endpoints.as_array().unwrap();
    assert_eq!(listed.len(), coffee_tracker::http::table().len());
    for endpoint in [
        json!({"method": "GET", "path": "/", "needs_key": false}),
        json!({"method": "POST", "path": "/coffee/", "needs_key": true}),
        json!({"method": "PATCH", "path": "/heartrate/<id>", "needs_key": true}),
        json!({"method": "GET", "path": "/metrics", "needs_key": true}),
    ] {
        assert!(listed.contains(&endpoint), "{endpoint}");
    }
}

#[rocket::async_test]
async fn the_openapi_document_is_served() {
    let app = TestApp::new().await;
    let response = app.request(Method::Get, "/openapi.json").without_header("Authorization").send().await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"));
    assert!(response.json()["openapi"].as_str().unwrap().starts_with("3.1"));
}
