//! `GET /heartrate/correlation`, compared with values computed by hand and on simulated people.

use coffee_tracker::domain::calendar::Zone;
use coffee_tracker::simulator::{Habits, SimulatedDay, SimulatedPerson};
use serde_json::{Value, json};

use super::helpers::{NOW, TestApp, at, invalid_value};

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

/// Splits a response into the pairs with their summary, and the statistics.
fn split_statistics(mut body: Value) -> (Value, Value) {
    let fields = body.as_object_mut().unwrap();
    let statistics = fields.remove("statistics").unwrap();
    fields.remove("verdict").unwrap();
    (body, statistics)
}

#[rocket::async_test]
async fn each_coffee_is_compared_with_the_pulse_before_it() {
    let app = TestApp::new().await;
    app.add_coffee("2026-05-31T08:00:00Z", 80.0, Some("espresso")).await;
    app.add_coffee("2026-06-01T08:00:00Z", 101.0, Some("espresso")).await;
    // Without a reading after it, a coffee is in no pair.
    app.add_coffee("2026-05-20T08:00:00Z", 500.0, Some("espresso")).await;
    app.add_readings(
        "resting",
        &[
            ("2026-05-31T05:59:59Z", 200), // before the baseline
            ("2026-05-31T06:00:00Z", 60),  // the start is part of the baseline
            ("2026-05-31T07:44:59Z", 61),
            ("2026-05-31T07:45:00Z", 200), // the end is not
            ("2026-05-31T08:14:59Z", 200), // before the window
            ("2026-05-31T08:15:00Z", 70),
            ("2026-05-31T09:59:59Z", 73),
            ("2026-05-31T10:00:00Z", 200), // after the window
            ("2026-06-01T07:00:00Z", 60),
            ("2026-06-01T09:00:00Z", 64),
        ],
    )
    .await;
    app.add_readings("exercise", &[("2026-06-01T09:30:00Z", 124)]).await;
    let first = pair("05-31T08:00", 80.0, 71.5, Some(60.5), Some(11.0), 2);
    let without_exercise = json!({
        "correlations": [pair("06-01T08:00", 101.0, 64.0, Some(60.0), Some(4.0), 1), first],
        "analysis": {"total_correlations": 2, "avg_caffeine_dose": 90.5, "avg_hr_increase": 7.5,
                     "max_hr_increase": 11.0, "time_window_analyzed": "2 hours after coffee"},
        "summary": "Moderate heart rate response to caffeine",
    });
    // Exercise is excluded unless the request names it.
    let (pairs, statistics) = split_statistics(app.get("/heartrate/correlation/").await.json());
    assert_eq!(pairs, without_exercise);
    assert_eq!(
        statistics["left_out_contexts"],
        json!(["active", "exercise", "panic", "sleeping", "stressed"])
    );
    let (pairs, statistics) =
        split_statistics(app.get("/heartrate/correlation?context=resting").await.json());
    assert_eq!((pairs, &statistics["left_out_contexts"]), (without_exercise, &json!([])));
    let exercise = json!({
        "correlations": [pair("06-01T08:00", 101.0, 124.0, None, None, 1)],
        "analysis": {"total_correlations": 1, "avg_caffeine_dose": 101.0, "avg_hr_increase": null,
                     "max_hr_increase": null, "time_window_analyzed": "2 hours after coffee"},
        "summary": "Not enough baseline data for proper correlation",
        "verdict": "no evidence",
        "statistics": {
            "left_out_contexts": [], "increase": null, "response": null,
            "dose_and_increase": {"pearson": null, "spearman": null},
            "explanation": "Not enough days with both caffeine and heart-rate readings.",
        },
    });
    app.get("/heartrate/correlation?context=exercise").await.assert_json(200, exercise);
    // Shorter windows: in hours, and in days.
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
        app.add_coffee("2026-06-01T08:00:00Z", 80.0, None).await;
        app.add_readings("resting", &[("2026-06-01T07:00:00Z", 60), ("2026-06-01T09:00:00Z", after)]).await;
        assert_eq!(app.get("/heartrate/correlation").await.json()["summary"], summary, "{after}");
    }
}

#[rocket::async_test]
async fn without_pairs_the_response_has_recommendations() {
    let app = TestApp::new().await;
    let nothing = json!({"correlations": [], "summary": "Not enough data to crush your dreams of health",
                         "recommendations": ["Log more coffee and heart rate data", "Try again in a few days"]});
    app.get("/heartrate/correlation").await.assert_json(200, nothing.clone());
    app.add_coffee("2026-06-01T08:00:00Z", 80.0, None).await;
    app.add_readings("resting", &[("2026-06-01T07:00:00Z", 60)]).await;
    app.get("/heartrate/correlation").await.assert_json(200, nothing);
}

#[rocket::async_test]
async fn at_most_fifty_pairs_are_listed_and_all_are_counted() {
    let app = TestApp::new().await;
    for n in 0..52 {
        app.add_coffee(&format!("2026-06-01T08:{n:02}:00Z"), 80.0, None).await;
    }
    app.add_readings("resting", &[("2026-06-01T09:30:00Z", 70)]).await;
    let body = app.get("/heartrate/correlation").await.json();
    let shown = body["correlations"].as_array().unwrap();
    assert_eq!((shown.len(), &body["analysis"]["total_correlations"]), (50, &json!(52)));
    assert_eq!(shown[0]["coffee_time"], "2026-06-01T08:51:00.000000Z");
}

#[rocket::async_test]
async fn statistics_of_five_pairs_equal_the_reference_values() {
    let app = TestApp::new().await;
    // One coffee a day; the heart rate rises by 2, 5, 3, 9 and 6 bpm.
    for (day, mg, rise) in [(26, 60.0, 2), (27, 90.0, 5), (28, 80.0, 3), (29, 200.0, 9), (30, 80.0, 6)] {
        app.add_coffee(&format!("2026-05-{day}T08:00:00Z"), mg, None).await;
        let (before, after) = (format!("2026-05-{day}T07:00:00Z"), format!("2026-05-{day}T09:00:00Z"));
        app.add_readings("resting", &[(&before, 60), (&after, 60 + rise)]).await;
    }
    let statistics = app.get("/heartrate/correlation").await.json()["statistics"].take();
    // Mean 5, deviation 2.739: t = 5 / (2.739 / √5), and 2.776 standard errors to either side.
    assert_eq!(
        statistics["increase"],
        json!({"pairs": 5, "days": 5, "mean_bpm": 5.0, "interval_bpm": [1.6, 8.4], "t": 4.08,
               "degrees_of_freedom": 4.0, "p": 0.0151})
    );
    // Values of SciPy: r of dose and increase is 0.8825; the ranks are 1 4 2.5 5 2.5 and 1 3 2 5 4.
    assert_eq!(
        statistics["dose_and_increase"],
        json!({"pearson": {"r": 0.883, "interval": [0.001, 0.992], "p": 0.0475, "effective_pairs": 5.0},
               "spearman": {"r": 0.821, "interval": [-0.416, 0.992], "p": 0.0886, "effective_pairs": 5.0}})
    );
}

/// Stores 20 simulated days of coffees and readings, up to [`NOW`].
async fn simulate(app: &TestApp, bpm_per_100_mg: f64) {
    let zone = Zone::named("Europe/Berlin").unwrap();
    let habits = Habits { coffees_per_day: 4.0, readings_per_day: 96, bpm_per_100_mg };
    let (mut person, mut day) = (SimulatedPerson::new(2, habits, zone.clone()), SimulatedDay::default());
    let mut date = zone.date(at(NOW)).minus_days(20);
    for _ in 0..20 {
        person.simulate_day(date, &mut day);
        for coffee in &day.coffees {
            app.add_coffee(&coffee.timestamp.to_string(), coffee.caffeine_mg.mg(), coffee.coffee_type).await;
        }
        let readings: Vec<Value> = (day.readings.iter())
            .map(|r| json!({"timestamp": r.timestamp, "bpm": r.bpm.get(), "context": r.context}))
            .collect();
        app.post("/heartrate/batch", json!({"readings": readings})).await;
        date = date.next();
    }
}

#[rocket::async_test]
async fn a_response_to_caffeine_is_detected_and_its_absence_gives_no_evidence() {
    for (effect, verdict) in [(0.0, "no evidence"), (10.0, "strong")] {
        let app = TestApp::new().await;
        simulate(&app, effect).await;
        let body = app.get("/heartrate/correlation?limit=3").await.json();
        assert_eq!(body["verdict"], verdict, "{}", body["statistics"]);
        assert_eq!(body["correlations"].as_array().unwrap().len(), 3);
        let (increase, response) = (&body["statistics"]["increase"], &body["statistics"]["response"]);
        assert_eq!(increase["days"], 20);
        assert!(increase["pairs"].as_u64() > Some(60));
        let interval = response["interval_bpm_per_100_mg"].as_array().unwrap();
        assert!(interval[0].as_f64() < Some(effect) && interval[1].as_f64() > Some(effect), "{response}");
        // The simulated response has no lag.
        assert!(effect == 0.0 || response["strongest_lag_hours"].as_f64() < Some(0.5), "{response}");
        // A single day is too little evidence, whatever the effect.
        let today = app.get("/heartrate/correlation?days=1").await.json();
        assert_eq!(today["verdict"], "no evidence");
    }
}

#[rocket::async_test]
async fn the_half_life_setting_is_used() {
    let mut found = Vec::new();
    for half_life in ["2", "5", "12"] {
        let app = TestApp::with_flags(&[("caffeine-half-life-hours", half_life)]).await;
        simulate(&app, 10.0).await;
        let body = app.get("/heartrate/correlation").await.json();
        found.push(body["statistics"]["response"]["r"].as_f64().unwrap());
    }
    // The simulated half-life is 5 hours: with it the correlation is strongest.
    assert!(found[1] > found[0] && found[1] > found[2], "{found:?}");
}

#[rocket::async_test]
async fn limit_is_between_1_and_1000() {
    let app = TestApp::new().await;
    for limit in ["0", "1001", "-1", "x"] {
        let message = if limit == "x" { "must be a whole number" } else { "must be between 1 and 1000" };
        app.get(&format!("/heartrate/correlation?limit={limit}"))
            .await
            .assert_invalid(&[invalid_value("query", "limit", message, limit)]);
    }
}

#[rocket::async_test]
async fn hours_after_is_between_1_and_24() {
    let app = TestApp::new().await;
    for hours in ["0", "25", "-1"] {
        app.get(&format!("/heartrate/correlation?hours_after={hours}"))
            .await
            .assert_invalid(&[invalid_value("query", "hours_after", "must be between 1 and 24", hours)]);
    }
}

#[rocket::async_test]
async fn contexts_with_other_effects_on_the_heart_rate_are_excluded_by_default() {
    for (context, by_default, with_filter) in [
        (json!(null), 2, 1),
        (json!("post-coffee"), 2, 1),
        (json!("Sleeping"), 2, 1),
        (json!("active"), 1, 1),
        (json!("exercise"), 1, 1),
        (json!("panic"), 1, 1),
        (json!("sleeping"), 1, 1),
        (json!("stressed"), 1, 1),
    ] {
        let app = TestApp::new().await;
        app.add_coffee("2026-06-01T08:00:00Z", 80.0, None).await;
        app.add_readings("resting", &[("2026-06-01T09:00:00Z", 250)]).await;
        let stored = app.post("/heartrate/", json!({"timestamp": "2026-06-01T09:00:01Z", "bpm": 30})).await;
        let path = format!("/heartrate/{}", stored.json()["id"]);
        assert_eq!(app.patch(&path, json!({"context": context})).await.status, 200);
        let counted = async |query: &str| {
            app.get(&format!("/heartrate/correlation{query}")).await.json()["correlations"][0]["readings_count"]
                .clone()
        };
        assert_eq!(counted("").await, by_default, "{context}");
        if let Some(name) = context.as_str() {
            assert_eq!(counted(&format!("?context={name}")).await, with_filter, "{context}");
        }
    }
}

#[rocket::async_test]
async fn a_type_is_shown_in_its_first_spelling() {
    let app = TestApp::new().await;
    for (day, kind) in
        [("2026-01-01", "Flat White"), ("2026-05-30", "flat white"), ("2026-05-31", "FLAT WHITE")]
    {
        app.add_coffee(&format!("{day}T08:00:00Z"), 95.0, Some(kind)).await;
        let times = [format!("{day}T07:30:00Z"), format!("{day}T08:30:00Z")];
        app.add_readings("resting", &[(times[0].as_str(), 60), (times[1].as_str(), 66)]).await;
    }
    let body = app.get("/heartrate/correlation").await.json();
    let types: Vec<_> =
        body["correlations"].as_array().unwrap().iter().map(|pair| &pair["coffee_type"]).collect();
    assert_eq!(types, ["Flat White", "Flat White"]);
}
