//! `/heartrate/correlation` on scenarios that can be computed by hand.

use serde_json::{Value, json};

use super::helpers::{TestApp, bad};

fn pair(
    time: &str,
    mg: f64,
    after: f64,
    baseline: Option<f64>,
    increase: Option<f64>,
    readings: u64,
) -> Value {
    json!({"coffee_time": format!("2026-{time}:00.000000Z"), "caffeine_mg": mg, "coffee_type": "espresso",
           "avg_heartrate_after": after, "baseline_heartrate": baseline, "hr_increase": increase,
           "readings_count": readings, "time_window_hours": 2})
}

#[rocket::async_test]
async fn each_coffee_is_compared_with_the_pulse_before_it() {
    let app = TestApp::new().await;
    app.coffee("2026-05-31T08:00:00Z", 80.0, Some("espresso")).await;
    app.coffee("2026-06-01T08:00:00Z", 101.0, Some("espresso")).await;
    // No reading after it: no pair.
    app.coffee("2026-05-20T08:00:00Z", 500.0, Some("espresso")).await;
    app.readings(
        "resting",
        &[
            ("2026-05-31T05:59:59Z", 200), // before the baseline
            ("2026-05-31T06:00:00Z", 60),  // its start belongs to it
            ("2026-05-31T07:44:59Z", 61),
            ("2026-05-31T07:45:00Z", 200), // its end does not
            ("2026-05-31T08:14:59Z", 200), // too early after
            ("2026-05-31T08:15:00Z", 70),
            ("2026-05-31T09:59:59Z", 73),
            ("2026-05-31T10:00:00Z", 200), // too late after
            ("2026-06-01T07:00:00Z", 60),
            ("2026-06-01T09:00:00Z", 64),
        ],
    )
    .await;
    app.readings("exercise", &[("2026-06-01T09:30:00Z", 124)]).await;
    let first = pair("05-31T08:00", 80.0, 71.5, Some(60.5), Some(11.0), 2);
    let resting = json!({
        "correlations": [pair("06-01T08:00", 101.0, 64.0, Some(60.0), Some(4.0), 1), first],
        "analysis": {"total_correlations": 2, "avg_caffeine_dose": 90.5, "avg_hr_increase": 7.5,
                     "max_hr_increase": 11.0, "time_window_analyzed": "2 hours after coffee"},
        "summary": "Moderate heart rate response to caffeine",
    });
    app.get("/heartrate/correlation?context=resting").await.is(200, resting);
    let all = json!({
        "correlations": [pair("06-01T08:00", 101.0, 94.0, Some(60.0), Some(34.0), 2), first],
        "analysis": {"total_correlations": 2, "avg_caffeine_dose": 90.5, "avg_hr_increase": 22.5,
                     "max_hr_increase": 34.0, "time_window_analyzed": "2 hours after coffee"},
        "summary": "Significant heart rate increase from caffeine",
    });
    app.get("/heartrate/correlation/").await.is(200, all);
    let exercise = json!({
        "correlations": [pair("06-01T08:00", 101.0, 124.0, None, None, 1)],
        "analysis": {"total_correlations": 1, "avg_caffeine_dose": 101.0, "avg_hr_increase": null,
                     "max_hr_increase": null, "time_window_analyzed": "2 hours after coffee"},
        "summary": "Not enough baseline data for proper correlation",
    });
    app.get("/heartrate/correlation?context=exercise").await.is(200, exercise);
    // A narrower window, in hours and in days.
    let narrow = app.get("/heartrate/correlation?hours_after=1&days=1").await.json();
    assert_eq!(narrow["summary"], "Not enough data to crush your dreams of health", "{narrow}");
    let wide = app.get("/heartrate/correlation?hours_after=24&days=1").await.json();
    assert_eq!(wide["analysis"]["time_window_analyzed"], "24 hours after coffee");
    assert_eq!(wide["analysis"]["total_correlations"], 1);
}

#[rocket::async_test]
async fn the_summary_follows_the_average_increase() {
    for (after, summary) in [
        (50, "Caffeine barely affects your heart rate - impressive tolerance"),
        (64, "Caffeine barely affects your heart rate - impressive tolerance"),
        (65, "Moderate heart rate response to caffeine"),
        (74, "Moderate heart rate response to caffeine"),
        (75, "Significant heart rate increase from caffeine"),
        (84, "Significant heart rate increase from caffeine"),
        (85, "Your heart really doesn't like caffeine"),
    ] {
        let app = TestApp::new().await;
        app.coffee("2026-06-01T08:00:00Z", 80.0, None).await;
        app.readings("resting", &[("2026-06-01T07:00:00Z", 60), ("2026-06-01T09:00:00Z", after)]).await;
        assert_eq!(app.get("/heartrate/correlation").await.json()["summary"], summary, "{after}");
    }
}

#[rocket::async_test]
async fn without_pairs_it_says_what_to_do() {
    let app = TestApp::new().await;
    let nothing = json!({"correlations": [], "summary": "Not enough data to crush your dreams of health",
                         "recommendations": ["Log more coffee and heart rate data", "Try again in a few days"]});
    app.get("/heartrate/correlation").await.is(200, nothing.clone());
    app.coffee("2026-06-01T08:00:00Z", 80.0, None).await;
    app.readings("resting", &[("2026-06-01T07:00:00Z", 60)]).await;
    app.get("/heartrate/correlation").await.is(200, nothing);
}

#[rocket::async_test]
async fn fifty_pairs_are_shown_and_all_are_counted() {
    let app = TestApp::new().await;
    for n in 0..52 {
        app.coffee(&format!("2026-06-01T08:{n:02}:00Z"), 80.0, None).await;
    }
    app.readings("resting", &[("2026-06-01T09:30:00Z", 70)]).await;
    let answer = app.get("/heartrate/correlation").await.json();
    let shown = answer["correlations"].as_array().unwrap();
    assert_eq!((shown.len(), &answer["analysis"]["total_correlations"]), (50, &json!(52)));
    assert_eq!(shown[0]["coffee_time"], "2026-06-01T08:51:00.000000Z");
}

#[rocket::async_test]
async fn hours_after_are_1_to_24() {
    let app = TestApp::new().await;
    for hours in ["0", "25", "-1"] {
        app.get(&format!("/heartrate/correlation?hours_after={hours}")).await.unfit(&[bad(
            "query",
            "hours_after",
            "must be between 1 and 24",
            hours,
        )]);
    }
}
