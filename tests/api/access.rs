//! Authentication: invalid keys, routes that require none, and the throttle of failed attempts.

use rocket::http::Method;
use serde_json::json;

use super::helpers::{KEY, TestApp, TestResponse};

const DETAIL: &str = "A valid API key is required: Authorization: Bearer KEY";

fn assert_unauthorized(response: TestResponse, reason: &str) {
    assert_eq!(response.header("www-authenticate"), "Bearer", "{reason}");
    response.assert_problem(401, DETAIL);
}

#[rocket::async_test]
async fn missing_malformed_and_invalid_keys_get_the_same_response() {
    let app = TestApp::new().await;
    for (header, reason) in [
        ("", "empty"),
        ("Bearer", "no key"),
        ("Bearer ", "a blank key"),
        ("Bearer the-wrong-key", "an invalid key"),
        (KEY, "no scheme"),
        ("Basic dXNlcjpwYXNz", "another scheme"),
        (&format!("Token {KEY}"), "a valid key with another scheme"),
        (&format!("Bearer {KEY} {KEY}"), "the key twice"),
        (&format!("Bearer {KEY}x"), "one character more"),
        (&format!("Bearer {}", &KEY[1..]), "one character less"),
        (&format!("Bearer {}", KEY.to_uppercase()), "keys are case-sensitive"),
        (&format!("Bearer\u{a0}{KEY}"), "a no-break space"),
    ] {
        let request = app.request(Method::Get, "/coffee/").header("Authorization", header);
        assert_unauthorized(request.send().await, reason);
    }
    let none = app.request(Method::Get, "/coffee/").without_header("Authorization");
    assert_unauthorized(none.send().await, "none");
    let twice = app.request(Method::Get, "/coffee/").add_header("Authorization", format!("Bearer {KEY}"));
    assert_unauthorized(twice.send().await, "a repeated header");
}

#[rocket::async_test]
async fn case_and_spaces_of_the_scheme_do_not_matter() {
    let app = TestApp::new().await;
    for header in ["Bearer ", "bearer ", "BEARER ", "Bearer   ", " Bearer "] {
        let request = app.request(Method::Get, "/coffee/").header("Authorization", format!("{header}{KEY}"));
        assert_eq!(request.send().await.status, 200, "{header:?}");
    }
}

/// Paths that require no key.
const PUBLIC: [&str; 13] = [
    "/",
    "/docs",
    "/redoc",
    "/settings",
    "/settings/devices",
    "/health",
    "/info",
    "/openapi.json",
    "/static/icon.svg",
    "/sw.js",
    "/manifest.webmanifest",
    "/favicon.ico",
    "/pair",
];

#[rocket::async_test]
async fn every_route_that_is_not_public_requires_a_key() {
    let app = TestApp::new().await;
    let mut protected = 0;
    for entry in coffee_tracker::http::table() {
        let path = entry.template.replace("<id>", "1").replace("<path..>", "icon.svg");
        let path = path.replace("<name>", "phone").replace("<file>", "coffee_20260101_000000.db");
        let path = path.replace("<section>", "devices").replace("<key>", "phone");
        let request = app.request(entry.route.method, &path).without_header("Authorization");
        let response = request.body(r#"{"caffeine_mg": 1, "bpm": 60}"#).send().await;
        if PUBLIC.contains(&path.as_str()) {
            let status = match path.as_str() {
                "/redoc" => 308,
                // It requires a code.
                "/pair" => 422,
                _ => 200,
            };
            assert_eq!(response.status, status, "{path}");
        } else {
            assert_unauthorized(response, &path);
            protected += 1;
        }
    }
    assert!(protected >= 20, "only {protected} routes require a key");
    app.get("/coffee/").await.assert_json(200, json!([]));
}

#[rocket::async_test]
async fn unknown_paths_wrong_methods_and_options_require_no_key() {
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
async fn metrics_are_public_with_metrics_public() {
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
async fn ten_failed_attempts_block_only_invalid_keys_for_the_rest_of_the_minute() {
    let app = TestApp::new().await;
    let guess = |n: u32| app.request(Method::Get, "/coffee/").key(&format!("guess-{n}"));
    for n in 0..10 {
        assert_unauthorized(guess(n).send().await, "a guess");
    }
    app.advance_clock(20);
    let limited = guess(10).send().await.assert_problem(429, "Too many requests: try again in 40 s");
    assert_eq!(limited.header("retry-after"), "40");
    assert_eq!(app.get("/coffee/").await.status, 200, "a valid key is never blocked");
    assert_eq!(guess(11).remote("192.168.1.21:1").send().await.status, 401, "another client");
    app.advance_clock(40);
    assert_unauthorized(guess(12).send().await, "a new minute");
    assert_eq!(app.metric(r#"auth_failures_total{reason="wrong"}"#).await, 13.0);
}

#[rocket::async_test]
async fn a_key_of_one_mebibyte_exceeds_the_header_limit() {
    let app = TestApp::new().await;
    app.request(Method::Get, "/coffee/")
        .key(&"k".repeat(1 << 20))
        .send()
        .await
        .assert_problem(431, "The headers must not be larger than 16 KiB in total");
}
