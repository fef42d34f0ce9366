//! `/profile`: defaults, changes, validation, and the routes that follow it.

use coffee_tracker::auth::key::Scope;
use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::TestApp;

fn default(value: &Value) -> Value {
    json!({"value": value, "default": value, "is_default": true})
}

fn defaults() -> Value {
    json!({
        "bedtime": default(&json!("23:00")),
        "bedtime_by_weekday": default(&json!({})),
        "half_life_hours": default(&json!(5.0)),
        "sleep_threshold_mg": default(&json!(50.0)),
        "usual_dose_mg": default(&Value::Null),
        "daily_limit_mg": default(&json!(400.0)),
    })
}

#[rocket::async_test]
async fn fields_are_set_and_reset_one_by_one() {
    let app = TestApp::with_flags(&[("usual-dose-mg", "90")]).await;
    let mut expected = defaults();
    expected["usual_dose_mg"] = default(&json!(90.0));
    app.get("/profile").await.assert_json(200, expected.clone());
    let changes = [
        ("bedtime", json!("7:05"), json!("07:05"), json!("23:00")),
        ("bedtime_by_weekday", json!({"friday": "0:30"}), json!({"friday": "00:30"}), json!({})),
        ("half_life_hours", json!(8), json!(8.0), json!(5.0)),
        ("sleep_threshold_mg", json!("62.5"), json!(62.5), json!(50.0)),
        ("usual_dose_mg", json!(120), json!(120.0), json!(90.0)),
        ("daily_limit_mg", json!(400), json!(400.0), json!(400.0)),
    ];
    for (field, sent, value, default) in &changes {
        expected[*field] = json!({"value": value, "default": default, "is_default": false});
        app.patch("/profile", json!({*field: sent, "unknown": 1})).await.assert_json(200, expected.clone());
    }
    app.get("/profile").await.assert_json(200, expected.clone());
    for (field, _, _, value) in &changes {
        expected[*field] = default(value);
        app.patch("/profile", json!({*field: null})).await.assert_json(200, expected.clone());
    }
}

#[rocket::async_test]
async fn an_invalid_field_changes_nothing() {
    let app = TestApp::new().await;
    let body = json!({"bedtime": "24:00", "half_life_hours": 0.9, "sleep_threshold_mg": "much", "usual_dose_mg": 1000.1,
        "daily_limit_mg": 250});
    let response = app.patch("/profile", body).await;
    let errors = response.json()["errors"].clone();
    let errors = errors.as_array().unwrap();
    let errors: Vec<_> =
        errors.iter().map(|error| (error["field"].as_str(), error["message"].as_str())).collect();
    let expected = [
        ("bedtime", "must be a time of day such as 23:00"),
        ("half_life_hours", "must be between 1 and 24"),
        ("sleep_threshold_mg", "must be a number"),
        ("usual_dose_mg", "must be between 1 and 1000"),
    ];
    assert_eq!(response.status, 422);
    assert_eq!(errors, expected.map(|(field, message)| (Some(field), Some(message))));
    assert_eq!(app.patch("/profile", json!({"unknown": 1})).await.status, 422);
    app.get("/profile").await.assert_json(200, defaults());
}

#[rocket::async_test]
async fn the_bedtimes_of_weekdays_are_replaced_together() {
    let app = TestApp::new().await;
    for (sent, value) in [
        (json!({"sunday": "21:30", "friday": "0:30"}), json!({"friday": "00:30", "sunday": "21:30"})),
        (json!({"friday": "01:00", "sunday": null}), json!({"friday": "01:00"})),
        (json!({}), json!({})),
        (json!({"monday": "22:00"}), json!({"monday": "22:00"})),
        (json!(null), json!({})),
    ] {
        let mut expected = defaults();
        let is_default = value == json!({});
        expected["bedtime_by_weekday"] = json!({"value": value, "default": {}, "is_default": is_default});
        let response = app.patch("/profile", json!({"bedtime_by_weekday": sent})).await;
        response.assert_json(200, expected.clone());
        app.get("/profile").await.assert_json(200, expected);
    }
}

#[rocket::async_test]
async fn an_invalid_bedtime_of_a_weekday_is_named() {
    let app = TestApp::new().await;
    let is_no_object = r#"must be an object such as {"friday": "00:30"}"#;
    for (sent, field, message) in [
        (json!({"friday": "24:30"}), ".friday", "must be a time of day such as 23:00"),
        (json!({"friday": 23}), ".friday", "must be text"),
        (json!({"friday": ["23:00"]}), ".friday", "must be text"),
        (json!({"Friday": "23:00"}), ".Friday", "must be a weekday from monday to sunday"),
        (json!("23:00"), "", is_no_object),
        (json!(["friday"]), "", is_no_object),
        (json!(true), "", is_no_object),
        (json!(-1), "", is_no_object),
        (json!(1), "", is_no_object),
        (json!(1.5), "", is_no_object),
    ] {
        let response = app.patch("/profile", json!({"bedtime_by_weekday": sent})).await;
        assert_eq!(response.status, 422, "{sent}");
        let errors = response.json()["errors"].take();
        assert_eq!(errors.as_array().unwrap().len(), 1, "{errors}");
        assert_eq!(errors[0]["field"], format!("bedtime_by_weekday{field}"), "{sent}");
        assert_eq!(errors[0]["message"], message, "{sent}");
    }
    let many: serde_json::Map<_, _> = (0..1000).map(|n| (format!("day{n}"), json!("23:00"))).collect();
    let response = app.patch("/profile", json!({"bedtime_by_weekday": many})).await;
    assert_eq!((response.status, response.json()["errors"].as_array().unwrap().len()), (422, 8));
    app.get("/profile").await.assert_json(200, defaults());
}

/// Values of the responses that depend on the profile.
async fn values_in_use(app: &TestApp) -> Value {
    let [today, active, summary, info] = [
        app.get("/coffee/today").await.json(),
        app.get("/coffee/active").await.json(),
        app.get("/coffee/summary").await.json(),
        app.get("/info").await.json(),
    ];
    json!([
        today["recommended_max"],
        today["over_limit"],
        active["bedtime"],
        active["half_life_hours"],
        active["sleep_threshold_mg"],
        active["usual_dose_mg"],
        active["daily_limit_mg"],
        summary["daily_limit_mg"],
        info["validation"]["recommended_daily_caffeine_mg"],
    ])
}

#[rocket::async_test]
async fn every_route_uses_a_new_profile_at_once() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T08:00:00Z", 200.0, None).await;
    let before = json!([400.0, false, "2026-06-01T21:00:00.000000Z", 5.0, 50.0, 200.0, 400.0, 400.0, 400.0]);
    assert_eq!(values_in_use(&app).await, before);
    let active_before = app.metric("caffeine_active_mg").await;
    let profile = json!({"bedtime": "22:30", "half_life_hours": 8, "sleep_threshold_mg": 30, "usual_dose_mg": 60, "daily_limit_mg": 150});
    assert_eq!(app.patch("/profile", profile).await.status, 200);
    let after = json!([150.0, true, "2026-06-01T20:30:00.000000Z", 8.0, 30.0, 60.0, 150.0, 150.0, 150.0]);
    assert_eq!(values_in_use(&app).await, after);
    assert!(app.metric("caffeine_active_mg").await > active_before);
    // A half-life of the request takes precedence.
    assert_eq!(app.get("/coffee/active?half_life_hours=3").await.json()["half_life_hours"], 3.0);
}

#[rocket::async_test]
async fn a_key_without_the_scope_read_sees_only_what_it_sent() {
    let app = TestApp::new().await;
    app.patch("/profile", json!({"daily_limit_mg": 150})).await;
    let key = app.add_key("scales", &[Scope::Write]);
    for (sent, value) in [
        (json!({"bedtime": "22:30"}), json!({"value": "22:30", "default": "23:00", "is_default": false})),
        (json!({"bedtime_by_weekday": {}}), default(&json!({}))),
    ] {
        let (field, _) = sent.as_object().unwrap().iter().next().unwrap();
        let request = app.request(Method::Patch, "/profile").key(&key).json(&sent);
        request.send().await.assert_json(200, json!({field: value}));
    }
}
