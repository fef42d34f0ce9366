//! `GET /heartrate/range` and `GET /heartrate/stats`.

use serde_json::{Value, json};

use super::helpers::{TestApp, invalid_field, invalid_value};

const DATE_FORMAT: &str = "must be a date and time such as 2025-07-23T14:30:00Z";

fn reading(id: i64, time: &str, bpm: u16) -> Value {
    json!({"id": id, "timestamp": format!("2026-06-01T{time}.000000Z"), "bpm": bpm, "context": "resting", "notes": null})
}

#[rocket::async_test]
async fn a_range_includes_its_start_and_excludes_its_end() {
    let app = TestApp::new().await;
    let all = [
        ("2026-06-01T08:00:00Z", 60),
        ("2026-06-01T09:00:00Z", 61),
        ("2026-06-01T08:30:00Z", 65),
        ("2026-06-01T10:00:00Z", 200),
    ];
    app.add_readings("resting", &all).await;
    let period = json!({"start": "2026-06-01T08:00:00.000000Z", "end": "2026-06-01T10:00:00.000000Z"});
    let stats = json!({"min_bpm": 60, "max_bpm": 65, "avg_bpm": 62.0, "median_bpm": 61.0, "std_dev": 2.6});
    let readings =
        json!([reading(1, "08:00:00", 60), reading(3, "08:30:00", 65), reading(2, "09:00:00", 61)]);
    let mut expected = json!({"period": period, "readings_count": 3, "stats": stats, "readings": readings});
    for query in [
        "start=2026-06-01T08:00:00Z&end=2026-06-01T10:00:00Z",
        "start=2026-06-01T10:00:00&end=2026-06-01T12:00:00",
        "start=2026-06-01T10:00:00+02:00&end=2026-06-01T12:00:00%2B02:00",
    ] {
        app.get(&format!("/heartrate/range?{query}")).await.assert_json(200, expected.clone());
    }
    let bucket = |start: &str, end: &str, n: u64, min: u16, avg: f64, max: u16| {
        let instant = |time| format!("2026-06-01T{time}.000000Z");
        json!({"start": instant(start), "end": instant(end), "count": n, "min_bpm": min, "avg_bpm": avg, "max_bpm": max})
    };
    // Buckets without readings are omitted.
    expected["buckets"] = json!([
        bucket("08:00:00", "08:30:00", 1, 60, 60.0, 60),
        bucket("08:30:00", "09:00:00", 1, 65, 65.0, 65),
        bucket("09:00:00", "09:30:00", 1, 61, 61.0, 61)
    ]);
    let query = "/heartrate/range/?start=2026-06-01T08:00:00Z&end=2026-06-01T10:00:00Z&buckets=";
    app.get(&format!("{query}4")).await.assert_json(200, expected.clone());
    expected["buckets"] = json!([bucket("08:00:00", "10:00:00", 3, 60, 62.0, 65)]);
    app.get(&format!("{query}1")).await.assert_json(200, expected);
    assert_eq!(app.get(&format!("{query}1000")).await.json()["buckets"].as_array().unwrap().len(), 3);
}

#[rocket::async_test]
async fn an_empty_range_returns_a_message_and_an_invalid_one_is_rejected() {
    let app = TestApp::new().await;
    app.add_readings("resting", &[("2026-06-01T08:00:00Z", 60)]).await;
    for (start, end) in [
        ("2026-06-01T08:00:00.000001Z", "2026-06-01T09:00:00Z"),
        ("2026-06-01T08:00:00Z", "2026-06-01T08:00:00Z"),
        ("2026-06-01T07:00:00Z", "2026-06-01T08:00:00Z"),
    ] {
        let response = app.get(&format!("/heartrate/range?start={start}&end={end}&buckets=3")).await;
        let instant = |text| super::helpers::at(text).to_string();
        response.assert_json(
            200,
            json!({"message": "No data in that range", "start": instant(start), "end": instant(end)}),
        );
    }
    for (query, errors) in [
        (
            "",
            vec![
                invalid_field("query", "start", "is required"),
                invalid_field("query", "end", "is required"),
            ],
        ),
        ("start=2026-06-01", vec![invalid_field("query", "end", "is required")]),
        (
            "start=x&end=",
            vec![
                invalid_value("query", "start", DATE_FORMAT, "x"),
                invalid_value("query", "end", DATE_FORMAT, ""),
            ],
        ),
        (
            "start=2026-06-02&end=2026-06-01",
            vec![invalid_value("query", "end", "must not be before start", "2026-06-01")],
        ),
        (
            "start=2026-06-01&end=2026-06-02&buckets=0",
            vec![invalid_value("query", "buckets", "must be between 1 and 1000", "0")],
        ),
        (
            "start=2026-06-01&end=2026-06-02&buckets=1001",
            vec![invalid_value("query", "buckets", "must be between 1 and 1000", "1001")],
        ),
        (
            "start=2026-06-01&end=2026-06-02&buckets=",
            vec![invalid_value("query", "buckets", "must be a whole number", "")],
        ),
    ] {
        app.get(&format!("/heartrate/range?{query}")).await.assert_invalid(&errors);
    }
}

#[rocket::async_test]
async fn a_range_lists_at_most_100_readings_and_counts_all() {
    let app = TestApp::new().await;
    let readings: Vec<Value> =
        (0..150).map(|n| json!({"bpm": 60 + n, "timestamp": "2026-06-01T08:00:00Z"})).collect();
    app.post("/heartrate/batch", json!({"readings": readings})).await;
    let range = app.get("/heartrate/range?start=2026-06-01&end=2026-06-02").await.json();
    assert_eq!(range["readings_count"], 150);
    let ids: Vec<i64> =
        range["readings"].as_array().unwrap().iter().map(|r| r["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=100).collect::<Vec<i64>>());
    assert_eq!(range["stats"]["max_bpm"], 209);
}

#[rocket::async_test]
async fn statistics_are_exact_and_grouped_by_context() {
    let app = TestApp::new().await;
    app.get("/heartrate/stats?days=7")
        .await
        .assert_json(200, json!({"message": "No heart rate data in last 7 days", "days": 7}));
    app.add_readings(
        "resting",
        &[("2026-06-01T08:00:00Z", 60), ("2026-06-01T09:00:00Z", 61), ("2026-05-31T09:00:00Z", 64)],
    )
    .await;
    app.add_readings("panic", &[("2026-06-01T09:00:00Z", 130)]).await;
    // A reading without a context counts only in the overall statistics.
    app.post("/heartrate/", json!({"bpm": 70, "context": null})).await;
    app.add_readings("resting", &[("2026-05-25T11:59:59Z", 200), ("2026-06-01T12:04:00Z", 200)]).await;
    let context = |count: u64, avg: f64, min: u16, max: u16| json!({"count": count, "avg_bpm": avg, "min_bpm": min, "max_bpm": max});
    app.get("/heartrate/stats?days=7").await.assert_json(
        200,
        json!({
            "period_days": 7, "total_readings": 5,
            // 60 61 64 70 130: mean 77, squares 289+256+169+49+2809 = 3572, /4 = 893.
            "overall_stats": {"min_bpm": 60, "max_bpm": 130, "avg_bpm": 77.0, "median_bpm": 64.0, "std_dev": 29.9},
            "by_context": {"panic": context(1, 130.0, 130, 130), "resting": context(3, 61.7, 60, 64)},
            "health_assessment": "Excellent resting heart rate",
        }),
    );
}

#[rocket::async_test]
async fn median_and_standard_deviation_of_few_readings() {
    for (pulses, median, deviation) in [
        (&[72][..], 72.0, 0.0),
        (&[60, 61], 60.5, 0.7),
        (&[61, 60, 200, 30], 60.5, 76.2),
        (&[60, 60, 60], 60.0, 0.0),
    ] {
        let app = TestApp::new().await;
        for bpm in pulses {
            app.post("/heartrate/", json!({"bpm": bpm})).await;
        }
        let stats = &app.get("/heartrate/stats").await.json()["overall_stats"];
        assert_eq!(
            (&stats["median_bpm"], &stats["std_dev"]),
            (&json!(median), &json!(deviation)),
            "{pulses:?}"
        );
    }
}

#[rocket::async_test]
async fn the_assessment_follows_the_average() {
    let low = "Consistently low - see a doctor or you're an elite athlete";
    let high = "Consistently high - medical consultation recommended";
    for (pulses, assessment) in [
        (&[49][..], low),
        // The average is 49.95, which is rounded to 50.0 but is below 50.
        (&[49, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50], low),
        (&[50], "Low but possibly normal for athletes"),
        (&[59, 60], "Low but possibly normal for athletes"),
        (&[60], "Excellent resting heart rate"),
        (&[80], "Excellent resting heart rate"),
        (&[80, 81], "Normal range"),
        (&[100], "Normal range"),
        (&[100, 101], "Elevated - consider lifestyle changes"),
        (&[120], "Elevated - consider lifestyle changes"),
        (&[120, 121], high),
        (&[250], high),
    ] {
        let app = TestApp::new().await;
        let readings: Vec<Value> = pulses.iter().map(|bpm| json!({"bpm": bpm})).collect();
        app.post("/heartrate/batch", json!({"readings": readings})).await;
        assert_eq!(app.get("/heartrate/stats/").await.json()["health_assessment"], assessment, "{pulses:?}");
    }
}
