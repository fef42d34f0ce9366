//! `GET /metrics`: the series, their values, and their bounded number of labels.

use rocket::http::Method;
use serde_json::json;

use super::helpers::TestApp;

#[rocket::async_test]
async fn metrics_have_the_prometheus_text_format() {
    let app = TestApp::new().await;
    let response = app.get("/metrics").await;
    assert_eq!(
        (response.status, response.header("content-type")),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    for series in [
        "caffeine_mg_total",
        "caffeine_last_mg",
        "coffee_last_timestamp_seconds",
        "heartrate_bpm_current",
        "heartrate_last_timestamp_seconds",
        "caffeine_active_mg",
        "caffeine_today_mg",
        "store_write_queue_depth",
        "store_commits_total",
        "store_rows_committed_total",
        "coffee_tracker_build_info",
        "process_start_time_seconds",
        "backup_last_result",
        "backup_last_size_bytes",
        "backup_last_success_timestamp_seconds",
        "database_size_bytes",
        "disk_bytes",
        "store_readers",
        "database_errors_total",
    ] {
        assert!(response.text().contains(&format!("# TYPE {series} ")), "{series}");
    }
}

#[rocket::async_test]
async fn entries_are_counted() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T11:00:00Z", 80.0, Some("Latte")).await;
    app.add_coffee("2026-06-01T10:00:00.5Z", 40.5, Some("latte")).await;
    app.add_coffee("2026-05-31T10:00:00Z", 10.0, None).await;
    app.post("/coffee/", json!({"caffeine_mg": -1})).await;
    app.add_readings("sleeping", &[("2026-06-01T03:00:00Z", 50), ("2026-06-01T04:00:00.25Z", 51)]).await;
    app.post("/heartrate/", json!({"bpm": 40, "timestamp": "2026-06-01T01:00:00Z"})).await;
    app.post("/heartrate/", json!({"bpm": 41, "timestamp": "2026-06-01T01:00:00Z", "context": null})).await;
    for (series, value) in [
        (r#"coffee_logged_total{type="latte"}"#, 2.0),
        (r#"coffee_logged_total{type="none"}"#, 1.0),
        ("caffeine_mg_total", 130.5),
        ("caffeine_last_mg", 80.0),
        ("coffee_last_timestamp_seconds", 1_780_311_600.0),
        ("caffeine_today_mg", 120.5),
        (r#"heartrate_logged_total{context="sleeping"}"#, 2.0),
        (r#"heartrate_logged_total{context="resting"}"#, 1.0),
        (r#"heartrate_logged_total{context="none"}"#, 1.0),
        ("heartrate_bpm_current", 51.0),
        ("heartrate_last_timestamp_seconds", 1_780_286_400.25),
        ("store_rows_committed_total", 7.0),
        ("store_write_queue_depth", 0.0),
        (r#"component_up{component="database"}"#, 1.0),
    ] {
        assert_eq!(app.metric(series).await, value, "{series}");
    }
    let active = app.metric("caffeine_active_mg").await;
    assert!((80.0..125.0).contains(&active), "{active}");
    assert!(app.metric(r#"database_size_bytes{file="main"}"#).await > 0.0);
    assert!(app.metric(r#"disk_bytes{kind="size"}"#).await > 0.0);
}

#[rocket::async_test]
async fn requests_are_counted_by_route_template() {
    let app = TestApp::new().await;
    for (method, path) in [
        (Method::Get, "/coffee/4711?limit=secret"),
        (Method::Get, "/coffee/4712/"),
        (Method::Head, "/coffee/4711"),
        (Method::Delete, "/heartrate/4711"),
        (Method::Get, "/coffee"),
        (Method::Get, "//coffee/"),
        (Method::Get, "/secret/4711"),
        (Method::Get, "/secret/4712"),
        (Method::Put, "/coffee/today"),
        (Method::Options, "/coffee/4711"),
        (Method::Get, "/static/4711.js"),
    ] {
        app.request(method, path).send().await;
    }
    for (labels, value) in [
        (r#"method="GET",path="/coffee/<id>",status="404""#, 2.0),
        (r#"method="HEAD",path="/coffee/<id>",status="404""#, 1.0),
        (r#"method="DELETE",path="/heartrate/<id>",status="404""#, 1.0),
        (r#"method="GET",path="/coffee/",status="200""#, 2.0),
        (r#"method="GET",path="unmatched",status="404""#, 2.0),
        (r#"method="PUT",path="/coffee/today",status="405""#, 1.0),
        (r#"method="OPTIONS",path="/coffee/<id>",status="204""#, 1.0),
        (r#"method="GET",path="/static/<path..>",status="404""#, 1.0),
    ] {
        assert_eq!(app.metric(&format!("http_requests_total{{{labels}}}")).await, value, "{labels}");
    }
    let counted = r#"http_request_duration_seconds_count{method="GET",path="/coffee/<id>"}"#;
    assert_eq!(app.metric(counted).await, 2.0);
    let text = app.get("/metrics").await.text().to_owned();
    assert!(!text.contains("4711") && !text.contains("secret"), "{text}");
}

#[rocket::async_test]
async fn metrics_group_types_and_contexts_beyond_50_as_other() {
    let app = TestApp::new().await;
    for n in 0..60 {
        app.add_coffee("2026-06-01T11:00:00Z", 1.0, Some(&format!("type {n}"))).await;
        app.post("/heartrate/", json!({"bpm": 60, "context": format!("context {n}")})).await;
    }
    // A type that has a series of its own keeps it.
    app.add_coffee("2026-06-01T11:00:00Z", 1.0, Some("TYPE 7")).await;
    let text = app.get("/metrics").await.text().to_owned();
    for (series, label) in [("coffee_logged_total", "type"), ("heartrate_logged_total", "context")] {
        let lines = text.lines().filter(|line| line.starts_with(&format!("{series}{{"))).count();
        assert_eq!(lines, 51, "{series}");
        assert_eq!(app.metric(&format!("{series}{{{label}=\"other\"}}")).await, 10.0);
    }
    assert_eq!(app.metric(r#"coffee_logged_total{type="type 7"}"#).await, 2.0);
}

#[rocket::async_test]
async fn rejections_are_counted_by_reason_and_start_at_zero() {
    let app = TestApp::with_flags(&[("rate-limit-enabled", "true"), ("rate-limit-info", "1/hour")]).await;
    for series in [r#"rate_limited_total{class="info"}"#, r#"auth_failures_total{reason="wrong"}"#] {
        assert_eq!(app.metric(series).await, 0.0, "exported before the first increase: {series}");
    }
    for _ in 0..3 {
        app.get("/info").await;
    }
    app.request(Method::Get, "/coffee/").key("wrong").send().await;
    app.request(Method::Get, "/coffee/").without_header("Authorization").send().await;
    for (series, value) in [
        (r#"rate_limited_total{class="info"}"#, 2.0),
        (r#"auth_failures_total{reason="wrong"}"#, 1.0),
        (r#"auth_failures_total{reason="missing"}"#, 1.0),
    ] {
        assert_eq!(app.metric(series).await, value, "{series}");
    }
}

#[rocket::async_test]
async fn label_values_are_escaped() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T11:00:00Z", 1.0, Some("a\"} 1\ncaffeine_mg_total 999 #\\")).await;
    let text = app.get("/metrics").await.text().to_owned();
    assert!(text.contains(r#"coffee_logged_total{type="a\"} 1\ncaffeine_mg_total 999 #\\"} 1"#), "{text}");
    assert_eq!(app.metric("caffeine_mg_total").await, 1.0);
}
