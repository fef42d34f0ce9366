//! Timestamps of entries: accepted formats, rejected values, and a wrong clock of the server.

use serde_json::json;

use super::helpers::{Setup, TestApp, at, invalid_value};

const AHEAD: &str = "must not lie more than 5 minutes ahead of the server's clock";
const DATE_FORMAT: &str = "must be a date and time such as 2025-07-23T14:30:00Z";
const ZONE: &str = "must name a known time zone such as [Europe/Berlin]";
const YEARS: &str = "must lie in the years 1 to 9999";
const LEAP: &str = "must have seconds from 0 to 59 (leap seconds cannot be stored)";

#[rocket::async_test]
async fn timestamps_are_accepted_with_any_offset_or_none() {
    let app = TestApp::new().await;
    for (sent, stored) in [
        ("2025-07-23T14:30:00.123456Z", "2025-07-23T14:30:00.123456Z"),
        ("2025-07-23t14:30:00z", "2025-07-23T14:30:00.000000Z"),
        ("2025-07-23T14:30:00+02:00", "2025-07-23T12:30:00.000000Z"),
        ("2025-07-23T14:30:00-05:00", "2025-07-23T19:30:00.000000Z"),
        ("2025-07-23T14:30:00+14:00", "2025-07-23T00:30:00.000000Z"),
        ("2025-07-23T14:30:00+0530", "2025-07-23T09:00:00.000000Z"),
        ("2025-07-23T14:30:00 02:00", "2025-07-23T12:30:00.000000Z"),
        ("2025-07-23T14:30:00", "2025-07-23T12:30:00.000000Z"),
        ("2025-01-23 14:30", "2025-01-23T13:30:00.000000Z"),
        ("2025-07-23", "2025-07-22T22:00:00.000000Z"),
        (" 2025-07-23T14:30:00Z ", "2025-07-23T14:30:00.000000Z"),
        ("2025-07-23T14:30:00.1234569Z", "2025-07-23T14:30:00.123456Z"),
        ("2025-07-23T14:30:00[UTC]", "2025-07-23T14:30:00.000000Z"),
        ("2025-07-23T10:30:00[America/New_York]", "2025-07-23T14:30:00.000000Z"),
        ("2025-07-23T14:30:00Z[America/New_York]", "2025-07-23T14:30:00.000000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        // A repeated local time is the first of the two; a skipped one is moved forward.
        ("2025-10-26T02:30:00", "2025-10-26T00:30:00.000000Z"),
        ("2025-03-30T02:30:00", "2025-03-30T01:30:00.000000Z"),
    ] {
        for (path, body) in [
            ("/coffee/", json!({"caffeine_mg": 1, "timestamp": sent})),
            ("/heartrate/", json!({"bpm": 60, "timestamp": sent})),
        ] {
            let response = app.post(path, body).await;
            assert_eq!(response.status, 201, "{sent}: {}", response.text());
            assert_eq!(response.json()["timestamp"], stored, "{sent}");
            assert_eq!(app.get(response.header("location")).await.body, response.body, "{sent}");
        }
    }
}

#[rocket::async_test]
async fn invalid_and_future_timestamps_are_rejected() {
    let app = TestApp::new().await;
    for (sent, message) in [
        ("2026-06-01T12:05:00.000001Z", AHEAD),
        ("2026-06-01T12:06:00Z", AHEAD),
        ("2026-06-01T14:06:00", AHEAD),
        ("9999-12-30T00:00:00Z", AHEAD),
        ("0000-01-01T00:00:00Z", YEARS),
        ("-000001-01-01T00:00:00Z", YEARS),
        ("10000-01-01T00:00:00Z", DATE_FORMAT),
        ("+010000-01-01T00:00:00Z", DATE_FORMAT),
        ("2016-12-31T23:59:60Z", LEAP),
        ("2016-12-31T23:59:60", LEAP),
        ("2025-07-23T14:30:00+99:00", DATE_FORMAT),
        ("2025-02-29T00:00:00Z", DATE_FORMAT),
        ("2025-07-23T25:00:00Z", DATE_FORMAT),
        ("2025-07-23T14:30:00[Nowhere/Land]", ZONE),
        ("23.07.2025 14:30", DATE_FORMAT),
        ("1753281000", DATE_FORMAT),
        ("now", DATE_FORMAT),
        ("", DATE_FORMAT),
    ] {
        for (path, body) in [
            ("/coffee/", json!({"caffeine_mg": 1, "timestamp": sent})),
            ("/heartrate/", json!({"bpm": 60, "timestamp": sent})),
        ] {
            app.post(path, body).await.assert_invalid(&[invalid_value("body", "timestamp", message, sent)]);
        }
    }
    let number = json!({"caffeine_mg": 1, "timestamp": 1_753_281_000});
    app.post("/coffee/", number).await.assert_invalid(&[invalid_value(
        "body",
        "timestamp",
        "must be text",
        1_753_281_000,
    )]);
}

#[rocket::async_test]
async fn timestamps_may_be_five_minutes_in_the_future() {
    let app = TestApp::new().await;
    for sent in ["2026-06-01T12:05:00Z", "2026-06-01T14:05:00", "2026-06-01T12:04:59.999999Z"] {
        assert_eq!(
            app.post("/coffee/", json!({"caffeine_mg": 1, "timestamp": sent})).await.status,
            201,
            "{sent}"
        );
        assert_eq!(
            app.post("/heartrate/", json!({"bpm": 60, "timestamp": sent})).await.status,
            201,
            "{sent}"
        );
    }
    let late = json!({"timestamp": "2026-06-01T12:06:00Z"});
    for path in ["/coffee/1", "/heartrate/1"] {
        app.put(path, late.clone()).await.assert_invalid(&[invalid_value(
            "body",
            "timestamp",
            AHEAD,
            "2026-06-01T12:06:00Z",
        )]);
    }
    assert_eq!(app.get("/health").await.json()["clock"], json!({"status": "ok"}));
}

#[rocket::async_test]
async fn a_server_clock_in_1970_accepts_client_times_and_reports_it() {
    let app = TestApp::with_setup(Setup { now: "1970-01-01T00:10:00Z", ..Setup::default() }).await;
    assert_eq!(app.get("/health").await.json()["clock"], json!({"status": "suspect"}));
    let coffee = json!({"caffeine_mg": 80, "timestamp": "2026-06-01T12:00:00Z"});
    let stored = json!({"id": 1, "timestamp": "2026-06-01T12:00:00.000000Z", "caffeine_mg": 80.0,
                        "coffee_type": null, "notes": null});
    app.post("/coffee/", coffee).await.assert_json(201, stored);
    // The clock is synchronized.
    app.clock.set(at("2026-06-01T12:01:00Z"));
    assert_eq!(app.get("/health").await.json()["clock"], json!({"status": "ok"}));
    app.post("/coffee/", json!({"caffeine_mg": 1, "timestamp": "2026-06-01T13:00:00Z"}))
        .await
        .assert_invalid(&[invalid_value("body", "timestamp", AHEAD, "2026-06-01T13:00:00Z")]);
}

#[rocket::async_test]
async fn a_clock_older_than_the_newest_entry_is_suspect() {
    let app = TestApp::new().await;
    for (path, body) in
        [("/heartrate/", json!({"bpm": 60})), ("/heartrate/batch", json!({"readings": [{"bpm": 60}]}))]
    {
        app.advance_clock(3600);
        assert_eq!(app.post(path, body).await.status, 201);
        let now = app.clock.now();
        for (seconds, status) in [(300, "ok"), (301, "suspect"), (86_400, "suspect")] {
            app.clock.set(now.minus(seconds * 1_000_000));
            assert_eq!(
                app.get("/health").await.json()["clock"],
                json!({"status": status}),
                "{path} {seconds}"
            );
        }
        let response = app.post("/coffee/", json!({"caffeine_mg": 1, "timestamp": now.to_string()})).await;
        assert_eq!(response.status, 201, "{path}: {}", response.text());
        app.clock.set(now);
    }
}
