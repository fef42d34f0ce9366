//! `GET /coffee/active` and `GET /coffee/summary`, compared with the closed form of the caffeine model.

use serde_json::{Value, json};

use super::helpers::{TestApp, at, invalid_value};

const KA: f64 = 4.0;

/// Closed form of the model: mg left of a dose after some hours. `half_life` is in hours too.
fn closed_form(dose: f64, hours: f64, half_life: f64) -> f64 {
    let ke = 2.0_f64.ln() / half_life;
    if hours <= 0.0 { 0.0 } else { dose * KA / (KA - ke) * ((-ke * hours).exp() - (-KA * hours).exp()) }
}

/// Sum of the closed form over all doses, in mg.
fn level(doses: &[(&str, f64)], time: &str, half_life: f64) -> f64 {
    let parts = doses.iter().map(|(drunk, mg)| closed_form(*mg, at(time).hours_since(at(drunk)), half_life));
    parts.sum()
}

#[track_caller]
/// Asserts that a value is within 0.1 of the expected one.
fn assert_near(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap();
    assert!((value - expected).abs() < 0.1, "{value} is not {expected}");
}

#[rocket::async_test]
async fn levels_follow_the_closed_form_across_midnight_and_clock_changes() {
    for (now, bedtime) in [
        ("2026-06-01T12:00:00Z", "2026-06-01T21:00:00.000000Z"),
        ("2026-06-01T22:30:00Z", "2026-06-02T21:00:00.000000Z"),
        // Days of 23 and 25 hours in Berlin.
        ("2026-03-29T02:00:00Z", "2026-03-29T21:00:00.000000Z"),
        ("2026-10-25T02:00:00Z", "2026-10-25T22:00:00.000000Z"),
    ] {
        let app = TestApp::in_zone("Europe/Berlin", now).await;
        let hours_ago = |hours: i64| at(now).minus(hours * 3_600_000_000).to_string();
        let times = [hours_ago(50), hours_ago(9), hours_ago(5), hours_ago(1)];
        let doses: Vec<(&str, f64)> =
            times.iter().map(String::as_str).zip([200.0, 95.0, 80.0, 60.5]).collect();
        for (time, mg) in &doses {
            app.add_coffee(time, *mg, None).await;
        }
        let body = app.get("/coffee/active").await.json();
        assert_near(&body["active_caffeine_mg"], level(&doses, now, 5.0));
        assert_near(&body["low_mg"], level(&doses, now, 3.0));
        assert_near(&body["high_mg"], level(&doses, now, 8.0));
        assert_eq!(body["bedtime"], bedtime);
        assert_near(&body["at_bedtime_mg"], level(&doses, bedtime, 5.0));
        let curve = body["curve"].as_array().unwrap();
        assert_eq!(curve.len(), 97);
        for point in curve {
            let time = point["at"].as_str().unwrap();
            assert_near(&point["mg"], level(&doses, time, 5.0));
            assert_near(&point["low_mg"], level(&doses, time, 3.0));
            assert_near(&point["high_mg"], level(&doses, time, 8.0));
        }
        let below = body["below_threshold_at"].as_str().unwrap();
        assert!((level(&doses, below, 5.0) - 50.0).abs() < 0.01, "{below}");
        assert!((app.metric("caffeine_active_mg").await - level(&doses, now, 5.0)).abs() < 0.1);
    }
}

#[rocket::async_test]
async fn the_response_for_one_coffee_has_every_field() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T11:00:00Z", 80.0, Some("espresso")).await;
    let mut body = app.get("/coffee/active?hours=1&step_minutes=30").await.json();
    let sources = body["sources"].take();
    for source in sources.as_array().unwrap() {
        assert!(source["source"].as_str().is_some_and(|text| text.len() > 15), "{source}");
    }
    let values: Vec<f64> = sources.as_array().unwrap().iter().map(|s| s["value"].as_f64().unwrap()).collect();
    assert_eq!(values, [5.0, 4.0, 0.6, 1.6, 50.0, 400.0, 200.0, 80.0]);
    assert!(body["note"].take().as_str().unwrap().starts_with("An estimate for an average adult"));
    assert_eq!(body["half_life_hints"].take().as_array().unwrap().len(), 3);
    let below = body["below_threshold_at"].take();
    assert!((level(&[("2026-06-01T11:00:00Z", 80.0)], below.as_str().unwrap(), 5.0) - 50.0).abs() < 1e-3);
    // With another dose of 80 mg at that time, the level at bedtime (23:00) is exactly the threshold.
    let last = body["last_safe_coffee_at"].take();
    let left = closed_form(80.0, at("2026-06-01T21:00:00Z").hours_since(at(last.as_str().unwrap())), 5.0);
    assert!((left + closed_form(80.0, 10.0, 5.0) - 50.0).abs() < 1e-3, "{last}");
    let now = closed_form(80.0, 1.0, 5.0);
    let round = |mg: f64| (mg * 100.0).round() / 100.0;
    let point = |time: &str, hours: f64| {
        json!({"at": time, "mg": round(closed_form(80.0, hours, 5.0)),
               "low_mg": round(closed_form(80.0, hours, 3.0)), "high_mg": round(closed_form(80.0, hours, 8.0))})
    };
    let can_drink = (50.0 - closed_form(80.0, 10.0, 5.0)) / closed_form(1.0, 9.0, 5.0);
    assert_eq!(
        body,
        json!({"timestamp": "2026-06-01T12:00:00.000000Z", "active_caffeine_mg": round(now),
               "low_mg": round(closed_form(80.0, 1.0, 3.0)), "high_mg": round(closed_form(80.0, 1.0, 8.0)),
               "peak_at": "2026-06-01T12:00:00.000000Z", "half_life_hours": 5.0, "absorption_per_hour": 4.0,
               "bedtime": "2026-06-01T21:00:00.000000Z", "bedtimes": {"usual": "23:00", "by_weekday": {}},
               "at_bedtime_mg": round(closed_form(80.0, 10.0, 5.0)),
               "sleep_threshold_mg": 50.0, "below_threshold_at": null, "usual_dose_mg": 80.0,
               "last_safe_coffee_at": null, "can_drink_now_mg": (can_drink * 100.0).floor() / 100.0,
               "daily_limit_mg": 400.0, "step_minutes": 30,
               "curve": [point("2026-06-01T12:00:00.000000Z", 1.0), point("2026-06-01T12:30:00.000000Z", 1.5),
                         point("2026-06-01T13:00:00.000000Z", 2.0)],
               "note": null, "half_life_hints": null, "sources": null})
    );
}

#[rocket::async_test]
async fn without_coffee_nothing_is_active() {
    let app = TestApp::new().await;
    let body = app.get("/coffee/active").await.json();
    for (field, expected) in [
        ("active_caffeine_mg", json!(0.0)),
        ("peak_at", json!(null)),
        ("at_bedtime_mg", json!(0.0)),
        ("below_threshold_at", json!("2026-06-01T12:00:00.000000Z")),
        ("usual_dose_mg", json!(80.0)),
    ] {
        assert_eq!(body[field], expected, "{field}");
    }
    app.get("/coffee/summary").await.assert_json(
        200,
        json!({"date": "2026-06-01", "total_caffeine_mg": 0.0, "daily_limit_mg": 400.0,
               "limit_reached_percent": 0.0, "active_caffeine_mg": 0.0, "status": "Good",
               "insight": "No coffee yet today. 80 mg until 19:21 should not disturb your sleep.", "logs_count": 0,
               "can_drink_now_mg": body["can_drink_now_mg"],
               "last_safe_coffee_at": body["last_safe_coffee_at"]}),
    );
}

#[rocket::async_test]
async fn levels_can_be_requested_for_any_time_and_include_future_coffees_from_their_own_time() {
    let app = TestApp::new().await;
    let doses = [("2026-05-31T08:00:00Z", 95.0), ("2026-05-31T13:00:00Z", 80.0)];
    for (time, mg) in doses {
        app.add_coffee(time, mg, None).await;
    }
    // A phone's clock is four minutes ahead.
    app.add_coffee("2026-06-01T12:04:00Z", 100.0, None).await;
    let past = app.get("/coffee/active?at=2026-05-31T12:00:00%2B02:00").await.json();
    assert_eq!(past["timestamp"], "2026-05-31T10:00:00.000000Z");
    assert_near(&past["active_caffeine_mg"], level(&doses, "2026-05-31T10:00:00Z", 5.0));
    // The curve and the level at bedtime include the coffee of that afternoon.
    assert_near(&past["at_bedtime_mg"], level(&doses, "2026-05-31T21:00:00Z", 5.0));
    assert_near(&past["curve"][24]["mg"], level(&doses, "2026-05-31T16:00:00Z", 5.0));
    assert!(past["peak_at"].as_str().unwrap() > "2026-05-31T13:30", "{}", past["peak_at"]);
    let now = app.get("/coffee/active").await.json();
    assert_near(&now["active_caffeine_mg"], level(&doses, "2026-06-01T12:00:00Z", 5.0));
    assert_near(
        &now["at_bedtime_mg"],
        closed_form(100.0, 8.0 + 56.0 / 60.0, 5.0) + level(&doses, "2026-06-01T21:00:00Z", 5.0),
    );
    assert!(now["peak_at"].as_str().unwrap() > "2026-06-01T12:30");
    let later = app.get("/coffee/active?at=2026-06-02T06:00:00Z&half_life_hours=8").await.json();
    assert_near(
        &later["active_caffeine_mg"],
        closed_form(100.0, 17.0 + 56.0 / 60.0, 8.0) + level(&doses, "2026-06-02T06:00:00Z", 8.0),
    );
    assert_eq!(later["half_life_hours"], 8.0);
    for edge in ["0001-01-01T00:00:00Z", "9999-12-30T22:00:00Z"] {
        let body = app.get(&format!("/coffee/active?at={edge}&hours=72&half_life_hours=24")).await;
        assert_eq!((body.status, &body.json()["active_caffeine_mg"]), (200, &json!(0.0)), "{edge}");
    }
}

#[rocket::async_test]
async fn changed_and_deleted_coffees_change_the_level() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T08:00:00Z", 95.0, None).await;
    app.put("/coffee/1", json!({"caffeine_mg": 40, "timestamp": "2026-06-01T10:00:00Z"})).await;
    assert_near(&app.get("/coffee/active").await.json()["active_caffeine_mg"], closed_form(40.0, 2.0, 5.0));
    app.delete("/coffee/1").await;
    assert_eq!(app.get("/coffee/active").await.json()["active_caffeine_mg"], 0.0);
}

#[rocket::async_test]
async fn the_status_reports_the_most_important_limit() {
    for (doses, settings, status, insight) in [
        (&[("06:00", 401.0)][..], &[][..], "Warning", "401 mg today exceeds the daily limit of 400 mg."),
        (
            &[("11:00", 300.0)],
            &[],
            "Warning",
            "About 265 mg is in your body, more than the recommended maximum of 200 mg at once.",
        ),
        (
            &[("11:00", 160.0)],
            &[],
            "Caution",
            "About 41 mg would be in your body at bedtime (23:00); more than 40 mg may disturb your sleep.",
        ),
        (
            &[("02:00", 200.0), ("04:00", 150.0)],
            &[("sleep-threshold-mg", "100")],
            "Caution",
            "Another 150 mg would exceed the daily limit of 400 mg.",
        ),
        (
            &[("06:00", 80.0)],
            &[("usual-dose-mg", "200")],
            "Good",
            "80 mg so far today. Another 200 mg now would likely disturb your sleep at 23:00.",
        ),
        (
            &[("06:00", 20.0)],
            &[("sleep-threshold-mg", "500")],
            "Good",
            "20 mg so far today. Another coffee should not disturb your sleep.",
        ),
    ] {
        let settings: Vec<_> = [("sleep-threshold-mg", "40")].iter().chain(settings).copied().collect();
        let app = TestApp::with_flags(&settings).await;
        for (time, mg) in doses {
            app.add_coffee(&format!("2026-06-01T{time}:00Z"), *mg, None).await;
        }
        let body = app.get("/coffee/summary").await.json();
        assert_eq!((&body["status"], &body["insight"]), (&json!(status), &json!(insight)));
        assert_eq!(body["logs_count"], doses.len());
    }
}

#[rocket::async_test]
async fn the_next_dose_is_limited_per_dose_per_day_and_by_sleep() {
    // Sleep is far away: 200 mg in a single dose.
    let app = TestApp::with_flags(&[("sleep-threshold-mg", "1000")]).await;
    assert_eq!(app.get("/coffee/active").await.json()["can_drink_now_mg"], 200.0);
    // 30 mg of the daily limit are left, which is less than the usual dose.
    app.add_coffee("2026-06-01T05:00:00Z", 370.0, None).await;
    let body = app.get("/coffee/active").await.json();
    assert_eq!((&body["can_drink_now_mg"], &body["last_safe_coffee_at"]), (&json!(30.0), &json!(null)));
    assert_eq!(body["usual_dose_mg"], 370.0);
    app.add_coffee("2026-06-01T05:00:00Z", 100.0, None).await;
    assert_eq!(app.get("/coffee/active").await.json()["can_drink_now_mg"], 0.0);
    // The level at bedtime is above the threshold already.
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T11:30:00Z", 300.0, None).await;
    let body = app.get("/coffee/active").await.json();
    assert_eq!((&body["can_drink_now_mg"], &body["last_safe_coffee_at"]), (&json!(0.0), &json!(null)));
    // Drinking exactly that dose reaches the threshold and does not exceed it.
    let app = TestApp::with_flags(&[("bedtime", "15:30")]).await;
    let can_drink = app.get("/coffee/active").await.json()["can_drink_now_mg"].as_f64().unwrap();
    app.add_coffee("2026-06-01T12:00:00Z", can_drink, None).await;
    let after = app.get("/coffee/active").await.json();
    let at_bedtime = after["at_bedtime_mg"].as_f64().unwrap();
    assert!((49.9..=50.0).contains(&at_bedtime), "{at_bedtime} after {can_drink}");
}

#[rocket::async_test]
async fn invalid_parameters_are_rejected() {
    let app = TestApp::new().await;
    for (field, value, message) in [
        ("at", "yesterday", "must be a date and time such as 2025-07-23T14:30:00Z"),
        ("hours", "0", "must be between 1 and 72"),
        ("hours", "73", "must be between 1 and 72"),
        ("step_minutes", "4", "must be between 5 and 60"),
        ("half_life_hours", "0.5", "must be between 1 and 24"),
        ("half_life_hours", "nan", "must be a number"),
    ] {
        app.get(&format!("/coffee/active?{field}={value}"))
            .await
            .assert_invalid(&[invalid_value("query", field, message, value)]);
    }
}

#[rocket::async_test]
async fn in_the_night_a_drink_is_judged_by_the_night_that_has_begun() {
    // 1:00 in Berlin; bedtime was at 23:00.
    let app = TestApp::in_zone("Europe/Berlin", "2026-06-01T23:00:00Z").await;
    let summary = app.get("/coffee/summary").await.json();
    assert_eq!(summary["status"], "Good");
    assert_eq!(
        summary["insight"],
        "No coffee yet today. It is past your bedtime (23:00): another 80 mg now would likely disturb your sleep."
    );
    let room = app.get("/coffee/active").await.json()["can_drink_now_mg"].as_f64().unwrap();
    assert!((50.0..80.0).contains(&room), "the peak of {room} mg is 50 mg");
    app.add_coffee("2026-06-01T22:30:00Z", 160.0, None).await;
    let summary = app.get("/coffee/summary").await.json();
    assert_eq!(summary["status"], "Caution");
    let insight = summary["insight"].as_str().unwrap();
    assert!(insight.starts_with("It is past your bedtime (23:00), with about 1"), "{insight}");
    let active = app.get("/coffee/active").await.json();
    assert_eq!(active["can_drink_now_mg"], 0.0);
    // The next bedtime and the last safe coffee before it stay those of the coming evening.
    assert_eq!(active["bedtime"], "2026-06-02T21:00:00.000000Z");
    assert!(active["last_safe_coffee_at"].as_str().unwrap().starts_with("2026-06-02T"), "{active}");
    // Six hours after bedtime, the next bedtime counts.
    let morning = app.get("/coffee/active?at=2026-06-02T03:00:00Z").await.json();
    assert!(morning["can_drink_now_mg"].as_f64().unwrap() > 0.0, "{morning}");
}

#[rocket::async_test]
async fn the_forecast_of_an_evening_uses_the_bedtime_of_its_weekday() {
    let app = TestApp::in_zone("Europe/Berlin", "2026-06-05T16:00:00Z").await;
    let by_weekday = json!({"friday": "00:30", "sunday": "21:30"});
    assert_eq!(app.patch("/profile", json!({"bedtime_by_weekday": by_weekday})).await.status, 200);
    let doses =
        ["2026-06-05T14:00:00Z", "2026-06-06T14:00:00Z", "2026-06-07T14:00:00Z"].map(|time| (time, 120.0));
    for (n, (now, bedtime, status, insight)) in [
        // At 18:00 on Friday, on Saturday, which has the usual bedtime, and on Sunday.
        ("2026-06-05T16:00:00Z", "2026-06-05T22:30:00.000000Z", "Good", "120 mg so far today."),
        ("2026-06-06T16:00:00Z", "2026-06-06T21:00:00.000000Z", "Good", "120 mg so far today."),
        (
            "2026-06-07T16:00:00Z",
            "2026-06-07T19:30:00.000000Z",
            "Caution",
            "About 60 mg would be in your body at bedtime (21:30);",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        app.clock.set(at(now));
        app.add_coffee(doses[n].0, doses[n].1, None).await;
        let active = app.get("/coffee/active").await.json();
        assert_eq!(active["bedtime"], bedtime, "{now}");
        assert_eq!(active["bedtimes"], json!({"usual": "23:00", "by_weekday": by_weekday}));
        assert_near(&active["at_bedtime_mg"], level(&doses[..=n], bedtime, 5.0));
        let summary = app.get("/coffee/summary").await.json();
        assert_eq!(summary["status"], status, "{summary}");
        assert!(summary["insight"].as_str().unwrap().starts_with(insight), "{summary}");
    }
}

#[rocket::async_test]
async fn a_night_begins_with_the_bedtime_of_the_evening_before() {
    let app = TestApp::in_zone("Europe/Berlin", "2026-06-05T22:10:00Z").await;
    let by_weekday = json!({"friday": "00:30", "saturday": "3:00"});
    app.patch("/profile", json!({"bedtime_by_weekday": by_weekday})).await;
    for (now, past_bedtime, next) in [
        // Friday night at 0:10, at 0:31 and at 6:31; Saturday night at 2:59 and at 3:01.
        ("2026-06-05T22:10:00Z", None, "2026-06-05T22:30:00.000000Z"),
        ("2026-06-05T22:31:00Z", Some("00:30"), "2026-06-07T01:00:00.000000Z"),
        ("2026-06-06T04:31:00Z", None, "2026-06-07T01:00:00.000000Z"),
        ("2026-06-07T00:59:00Z", None, "2026-06-07T01:00:00.000000Z"),
        ("2026-06-07T01:01:00Z", Some("03:00"), "2026-06-07T21:00:00.000000Z"),
    ] {
        app.clock.set(at(now));
        let insight = app.get("/coffee/summary").await.json()["insight"].take();
        let text = past_bedtime.map_or(String::new(), |time| format!("It is past your bedtime ({time})"));
        let insight = insight.as_str().unwrap();
        assert!(insight.contains(&text), "{now}: {insight}");
        assert_eq!(insight.contains("past your bedtime"), past_bedtime.is_some(), "{now}: {insight}");
        assert_eq!(app.get("/coffee/active").await.json()["bedtime"], next, "{now}");
    }
}
