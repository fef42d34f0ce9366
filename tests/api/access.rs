//! Who may request: keys, the brake on guesses, public metrics.

use rocket::http::Method;
use serde_json::json;

use super::helpers::{KEY, TestApp, TestResponse};

const DETAIL: &str = "A valid API key is required: Authorization: Bearer KEY";

fn assert_unauthorized(response: TestResponse, reason: &str) {
    assert_eq!(response.header("www-authenticate"), "Bearer", "{reason}");
    response.assert_problem(401, DETAIL);
}

#[rocket::async_test]
async fn a_wrong_key_a_malformed_one_and_none_get_the_same_answer() {
    let app = TestApp::new().await;
    for (header, reason) in [
        ("", "empty"),
        ("Bearer", "no key"),
        ("Bearer ", "a blank key"),
        ("Bearer the-wrong-key", "a wrong key"),
        (KEY, "no scheme"),
        ("Basic dXNlcjpwYXNz", "another scheme"),
        (&format!("Token {KEY}"), "the right key under another scheme"),
        (&format!("Bearer {KEY} {KEY}"), "the key twice"),
        (&format!("Bearer {KEY}x"), "one character more"),
        (&format!("Bearer {}", &KEY[1..]), "one character less"),
        (&format!("Bearer {}", KEY.to_uppercase()), "keys have their case"),
        (&format!("Bearer\u{a0}{KEY}"), "a blank that is none"),
    ] {
        let request = app.request(Method::Get, "/coffee/").header("Authorization", header);
        assert_unauthorized(request.send().await, reason);
    }
    let none = app.request(Method::Get, "/coffee/").without_header("Authorization");
    assert_unauthorized(none.send().await, "none");
    let twice = app.request(Method::Get, "/coffee/").add_header("Authorization", format!("Bearer {KEY}"));
    assert_unauthorized(twice.send().await, "the right one, doubled");
}

#[rocket::async_test]
async fn the_right_key_opens_however_the_scheme_is_written() {
    let app = TestApp::new().await;
    for header in ["Bearer ", "bearer ", "BEARER ", "Bearer   ", " Bearer "] {
        let request = app.request(Method::Get, "/coffee/").header("Authorization", format!("{header}{KEY}"));
        assert_eq!(request.send().await.status, 200, "{header:?}");
    }
}

/// What anyone may request.
const OPEN: [&str; 10] = [
    "/",
    "/docs",
    "/redoc",
    "/health",
    "/info",
    "/openapi.json",
    "/static/icon.svg",
    "/sw.js",
    "/manifest.webmanifest",
    "/favicon.ico",
];

#[rocket::async_test]
async fn everything_but_the_open_pages_needs_a_key() {
    let app = TestApp::new().await;
    let mut locked = 0;
    for entry in coffee_tracker::http::table() {
        let path = entry.template.replace("<id>", "1").replace("<path..>", "icon.svg");
        let request = app.request(entry.route.method, &path).without_header("Authorization");
        let response = request.body(r#"{"caffeine_mg": 1, "bpm": 60}"#).send().await;
        if OPEN.contains(&path.as_str()) {
            let status = if path == "/redoc" { 308 } else { 200 };
            assert_eq!(response.status, status, "{path}");
        } else {
            assert_unauthorized(response, &path);
            locked += 1;
        }
    }
    assert!(locked >= 20, "{locked} routes need a key");
    app.get("/coffee/").await.assert_json(200, json!([]));
}

#[rocket::async_test]
async fn unknown_paths_methods_and_options_need_no_key() {
    let app = TestApp::new().await;
    for (method, path, status) in [
        (Method::Get, "/nowhere", 404),
        (Method::Post, "/coffee/1", 405),
        (Method::Options, "/coffee/1", 204),
        (Method::Options, "/nowhere", 404),
    ] {
        assert_eq!(
            app.request(method, path).without_header("Authorization").send().await.status,
            status,
            "{method} {path}"
        );
    }
}

#[rocket::async_test]
async fn metrics_are_public_when_the_operator_says_so() {
    for (public, status) in [("false", 401), ("true", 200)] {
        let app = TestApp::with_flags(&[("metrics-public", public)]).await;
        let request = app.request(Method::Get, "/metrics").without_header("Authorization");
        assert_eq!(request.send().await.status, status, "METRICS_PUBLIC={public}");
        assert_eq!(app.get("/metrics").await.status, 200);
        let info = app.get("/info").await.json();
        let metrics = info["endpoints"].as_array().unwrap().iter().find(|e| e["path"] == "/metrics").unwrap();
        assert_eq!(metrics["needs_key"], json!(status == 401));
    }
}

#[rocket::async_test]
async fn after_ten_wrong_keys_the_rest_of_the_minute_is_refused_to_wrong_ones_only() {
    let app = TestApp::new().await;
    let wrong = |n: u32| app.request(Method::Get, "/coffee/").key(&format!("guess-{n}"));
    for n in 0..10 {
        assert_unauthorized(wrong(n).send().await, "a guess");
    }
    app.advance_clock(20);
    let refused = wrong(10).send().await.assert_problem(429, "Too many requests: try again in 40 s");
    assert_eq!(refused.header("retry-after"), "40");
    assert_eq!(app.get("/coffee/").await.status, 200, "the right key always passes");
    assert_eq!(wrong(11).remote("192.168.1.21:1").send().await.status, 401, "another client");
    app.advance_clock(40);
    assert_unauthorized(wrong(12).send().await, "a new minute");
    assert_eq!(app.metric(r#"auth_failures_total{reason="wrong"}"#).await, 13.0);
}

#[rocket::async_test]
async fn a_key_of_a_megabyte_is_refused_for_its_size() {
    let app = TestApp::new().await;
    app.request(Method::Get, "/coffee/")
        .key(&"k".repeat(1 << 20))
        .send()
        .await
        .assert_problem(431, "The headers must not be larger than 16 KiB in total");
}
