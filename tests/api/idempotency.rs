//! `Idempotency-Key`: a repeated request is executed once.

use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{Setup, TestApp, TestResponse, at, invalid_field};

const DAY: u64 = 86_400;

async fn post(app: &TestApp, path: &str, key: &str, body: Value) -> TestResponse {
    app.request(Method::Post, path).header("Idempotency-Key", key).json(&body).send().await
}

fn body_of(path: &str) -> Value {
    if path == "/coffee/" { json!({"caffeine_mg": 95}) } else { json!({"bpm": 60}) }
}

#[rocket::async_test]
async fn a_repeated_request_gets_the_first_response_and_stores_nothing() {
    let app = TestApp::new().await;
    for (path, change) in [("/coffee/", json!({"caffeine_mg": 1})), ("/heartrate/", json!({"bpm": 100}))] {
        let first = post(&app, path, "k", body_of(path)).await;
        assert_eq!(first.status, 201, "{}", first.text());
        let location = first.header("location").to_owned();
        let repeat = async |when: &str| {
            app.advance_clock(60);
            let repeated = post(&app, path, "k", body_of(path)).await;
            assert_eq!((repeated.status, repeated.text()), (201, first.text()), "{when}");
            assert_eq!(repeated.header("location"), location, "{when}");
        };
        repeat("immediately").await;
        assert_eq!(app.put(&location, change).await.status, 200);
        repeat("after an edit").await;
        assert_eq!(app.ids(path).await, [1]);
        assert_eq!(app.delete(&location).await.status, 200);
        repeat("after a delete").await;
        assert!(app.ids(path).await.is_empty());
    }
}

#[rocket::async_test]
async fn a_key_with_another_body_is_rejected_and_an_equivalent_body_is_accepted() {
    let app = TestApp::new().await;
    post(&app, "/coffee/", "k", json!({"caffeine_mg": 95, "notes": "x"})).await;
    for other in [
        json!({"caffeine_mg": 96, "notes": "x"}),
        json!({"caffeine_mg": 95}),
        json!({"caffeine_mg": 95, "notes": "x", "timestamp": "2026-06-01T12:00:00Z"}),
    ] {
        post(&app, "/coffee/", "k", other).await.assert_invalid(&[invalid_field(
            "header",
            "Idempotency-Key",
            "was already used with a different body",
        )]);
    }
    let same = json!({"notes": " x ", "caffeine_mg": "95.0", "unknown": 1});
    assert_eq!(post(&app, "/coffee/", " k ", same).await.status, 201);
    assert_eq!(app.ids("/coffee/").await, [1]);
    // A rejected request does not use up its key.
    assert_eq!(post(&app, "/coffee/", "fresh", json!({"caffeine_mg": -1})).await.status, 422);
    assert_eq!(post(&app, "/coffee/", "fresh", json!({"caffeine_mg": 1})).await.status, 201);
}

#[rocket::async_test]
async fn a_key_belongs_to_one_route_and_expires_after_thirty_days() {
    let app = TestApp::new().await;
    for path in ["/coffee/", "/heartrate/"] {
        assert_eq!(post(&app, path, "k", body_of(path)).await.json()["id"], 1, "{path}");
    }
    app.advance_clock(30 * DAY);
    for path in ["/coffee/", "/heartrate/"] {
        assert_eq!(post(&app, path, "k", body_of(path)).await.json()["id"], 1, "{path}");
    }
    app.advance_clock(DAY);
    for path in ["/coffee/", "/heartrate/"] {
        assert_eq!(post(&app, path, "k", body_of(path)).await.json()["id"], 2, "{path}");
    }
}

#[rocket::async_test]
async fn a_key_used_with_a_wrong_clock_is_kept_when_the_clock_is_corrected() {
    const NOW: &str = "2026-06-01T12:00:00Z";
    // Before the build of the program, months behind, and years ahead.
    for wrong_time in ["1970-01-01T00:00:10Z", "2025-11-05T00:00:00Z", "2041-01-01T00:00:00Z"] {
        for path in ["/coffee/", "/heartrate/"] {
            let app = TestApp::with_setup(Setup { now: wrong_time, ..Setup::default() }).await;
            let first = post(&app, path, "k", body_of(path)).await;
            assert_eq!(first.status, 201, "{wrong_time}: {}", first.text());
            app.advance_clock(60);
            app.clock.set(at(NOW));
            // Every write removes expired keys.
            assert_eq!(post(&app, path, "other", body_of(path)).await.status, 201, "{wrong_time}");
            let repeated = post(&app, path, "k", body_of(path)).await;
            assert_eq!((repeated.status, repeated.text()), (201, first.text()), "{wrong_time}");
            assert_eq!(app.ids(path).await.len(), 2, "{wrong_time}, {path}");
            // From the correction on it is kept for 30 days.
            app.advance_clock(30 * DAY - 60);
            let repeated = post(&app, path, "k", body_of(path)).await;
            assert_eq!((repeated.status, repeated.text()), (201, first.text()), "{wrong_time}");
            app.advance_clock(DAY);
            let late = post(&app, path, "k", body_of(path)).await;
            assert_eq!((late.status, late.json()["id"].as_i64()), (201, Some(3)), "{wrong_time}");
        }
    }
}

#[rocket::async_test]
async fn a_temporarily_wrong_clock_expires_no_key() {
    for wrong_time in ["1970-01-01T00:00:10Z", "2041-01-01T00:00:00Z"] {
        let app = TestApp::new().await;
        let first = post(&app, "/coffee/", "k", body_of("/coffee/")).await;
        app.clock.set(at(wrong_time));
        assert_eq!(
            post(&app, "/coffee/", "while wrong", body_of("/coffee/")).await.status,
            201,
            "{wrong_time}"
        );
        app.clock.set(at("2026-06-01T13:00:00Z"));
        assert_eq!(post(&app, "/coffee/", "other", body_of("/coffee/")).await.status, 201, "{wrong_time}");
        for (key, id) in [("k", 1), ("while wrong", 2), ("other", 3)] {
            assert_eq!(
                post(&app, "/coffee/", key, body_of("/coffee/")).await.json()["id"],
                id,
                "{wrong_time}: {key}"
            );
        }
        assert_eq!(
            post(&app, "/coffee/", "k", body_of("/coffee/")).await.text(),
            first.text(),
            "{wrong_time}"
        );
        // Both expire after 30 days.
        app.advance_clock(31 * DAY);
        assert_eq!(post(&app, "/coffee/", "k", body_of("/coffee/")).await.json()["id"], 4, "{wrong_time}");
        assert_eq!(
            post(&app, "/coffee/", "while wrong", body_of("/coffee/")).await.json()["id"],
            5,
            "{wrong_time}"
        );
    }
}

#[rocket::async_test]
async fn a_key_has_1_to_255_characters_and_is_not_repeated() {
    let app = TestApp::new().await;
    for (key, status) in [
        ("x".repeat(255), 201),
        ("é".repeat(255), 201),
        ("x".repeat(256), 422),
        (String::new(), 422),
        ("  ".into(), 422),
    ] {
        for path in ["/coffee/", "/heartrate/"] {
            let response = post(&app, path, &key, body_of(path)).await;
            assert_eq!(response.status, status, "{key}: {}", response.text());
            if status == 422 {
                response.assert_invalid(&[invalid_field(
                    "header",
                    "Idempotency-Key",
                    "must have 1 to 255 characters",
                )]);
            }
        }
    }
    let request = app.request(Method::Post, "/coffee/").json(&body_of("/coffee/"));
    let response = request.add_header("Idempotency-Key", "a").add_header("Idempotency-Key", "b").send().await;
    response.assert_invalid(&[invalid_field("header", "Idempotency-Key", "must be given once")]);
}

#[rocket::async_test]
async fn a_repeated_request_is_not_counted_in_the_metrics() {
    let app = TestApp::new().await;
    for _ in 0..3 {
        post(&app, "/coffee/", "k", body_of("/coffee/")).await;
        post(&app, "/heartrate/", "k", body_of("/heartrate/")).await;
    }
    assert_eq!(app.metric("caffeine_mg_total").await, 95.0);
    assert_eq!(app.metric(r#"heartrate_logged_total{context="resting"}"#).await, 1.0);
}
