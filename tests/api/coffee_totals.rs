//! `/coffee/today`, `/coffee/week`, `/coffee/days`, `/coffee/stats` and `/coffee/types`.

use serde_json::{Value, json};

use super::helpers::{TestApp, invalid_field, invalid_value};

#[rocket::async_test]
async fn the_addiction_level_follows_the_total_of_the_day() {
    for (doses, total, level, over) in [
        (&[][..], 0.0, "caffeine-free saint", false),
        (&[0.0], 0.0, "caffeine-free saint", false),
        (&[0.01], 0.01, "amateur", false),
        (&[99.99], 99.99, "amateur", false),
        (&[100.0], 100.0, "casual user", false),
        (&[100.0, 99.99], 199.99, "casual user", false),
        (&[200.0], 200.0, "moderate addict", false),
        (&[299.99], 299.99, "moderate addict", false),
        (&[300.0], 300.0, "serious problem", false),
        (&[399.99], 399.99, "serious problem", false),
        (&[400.0], 400.0, "severe addiction", false),
        (&[400.01], 400.01, "severe addiction", true),
        (&[599.99], 599.99, "severe addiction", true),
        (&[600.0], 600.0, "call emergency services", true),
        (&[1000.0, 1000.0], 2000.0, "call emergency services", true),
        (&[0.1, 0.2], 0.3, "amateur", false),
        // In binary floating point the sum is slightly less than 100.
        (&[39.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 59.2], 100.0, "casual user", false),
    ] {
        let app = TestApp::new().await;
        for dose in doses {
            app.add_coffee("2026-06-01T08:00:00Z", *dose, None).await;
        }
        app.get("/coffee/today").await.assert_json(
            200,
            json!({"date": "2026-06-01", "total_caffeine_mg": total, "addiction_level": level,
                   "recommended_max": 400.0, "over_limit": over, "coffee_count": doses.len()}),
        );
    }
}

#[rocket::async_test]
async fn the_recommended_maximum_is_configurable() {
    let app = TestApp::with_flags(&[("recommended-daily-caffeine-mg", "200")]).await;
    app.add_coffee("2026-06-01T08:00:00Z", 200.5, None).await;
    let today = app.get("/coffee/today").await.json();
    assert_eq!((&today["recommended_max"], &today["over_limit"]), (&json!(200.0), &json!(true)));
}

#[rocket::async_test]
async fn a_week_without_coffee_has_zero_totals() {
    let app = TestApp::new().await;
    app.get("/coffee/week").await.assert_json(
        200,
        json!({"daily_breakdown": [], "week_total_mg": 0.0, "week_average_mg": 0.0, "days_with_caffeine": 0}),
    );
}

#[rocket::async_test]
async fn a_day_with_only_decaf_is_listed_but_not_counted_as_a_day_with_caffeine() {
    let app = TestApp::new().await;
    app.add_coffee("2026-05-31T08:00:00Z", 0.0, Some("decaf")).await;
    app.add_coffee("2026-06-01T08:00:00Z", 10.0, None).await;
    let days = json!([{"date": "2026-06-01", "total_mg": 10.0, "coffee_count": 1},
                      {"date": "2026-05-31", "total_mg": 0.0, "coffee_count": 1}]);
    app.get("/coffee/week").await.assert_json(
        200,
        json!({"daily_breakdown": days, "week_total_mg": 10.0, "week_average_mg": 1.43, "days_with_caffeine": 1}),
    );
}

#[rocket::async_test]
async fn days_lists_the_last_365_days_newest_first() {
    let app = TestApp::new().await;
    app.get("/coffee/days").await.assert_json(
        200,
        json!({"period_days": 365, "daily_breakdown": [], "total_caffeine_mg": 0.0, "average_per_day": 0.0,
               "days_with_caffeine": 0}),
    );
    for (time, mg) in [
        ("2025-06-01T21:59:59.999999Z", 1000.0),
        ("2025-06-01T22:00:00Z", 50.0),
        ("2026-05-31T21:59:59Z", 80.0),
        ("2026-05-31T10:00:00Z", 33.335),
        ("2026-05-31T22:00:00Z", 0.0),
    ] {
        app.add_coffee(time, mg, None).await;
    }
    let day = |date: &str, total: f64, coffees: u64| json!({"date": date, "total_mg": total, "coffee_count": coffees});
    let (today, yesterday) = (day("2026-06-01", 0.0, 1), day("2026-05-31", 113.34, 2));
    app.get("/coffee/days/").await.assert_json(
        200,
        json!({"period_days": 365, "daily_breakdown": [&today, &yesterday, day("2025-06-02", 50.0, 1)],
               "total_caffeine_mg": 163.34, "average_per_day": 0.45, "days_with_caffeine": 2}),
    );
    app.get("/coffee/days?days=2").await.assert_json(
        200,
        json!({"period_days": 2, "daily_breakdown": [&today, &yesterday],
               "total_caffeine_mg": 113.34, "average_per_day": 56.67, "days_with_caffeine": 1}),
    );
    let longest = app.get("/coffee/days?days=3650").await.json();
    assert_eq!(longest["daily_breakdown"][3], day("2025-06-01", 1000.0, 1));
}

#[rocket::async_test]
async fn statistics_are_rounded_to_two_decimals() {
    let app = TestApp::new().await;
    app.add_coffee("2026-05-20T06:00:00Z", 100.0, Some("latte")).await;
    app.add_coffee("2026-05-20T07:00:00Z", 33.333, Some("espresso")).await;
    app.add_coffee("2026-05-30T07:30:00Z", 66.667, Some("espresso")).await;
    app.add_coffee("2026-05-31T22:00:00Z", 0.0, None).await;
    // Before and after the period.
    app.add_coffee("2026-05-02T11:59:59Z", 500.0, Some("latte")).await;
    app.add_coffee("2026-06-01T12:04:00Z", 500.0, Some("latte")).await;
    let hour = |hour: u64| match hour {
        0 => json!({"hour": 0, "coffee_count": 1, "total_mg": 0.0}),
        8 => json!({"hour": 8, "coffee_count": 1, "total_mg": 100.0}),
        9 => json!({"hour": 9, "coffee_count": 2, "total_mg": 100.0}),
        other => json!({"hour": other, "coffee_count": 0, "total_mg": 0.0}),
    };
    let of_type = |coffee_type: Value, count: u64, total: f64, average: f64| json!({"coffee_type": coffee_type, "coffee_count": count, "total_mg": total, "average_mg": average});
    app.get("/coffee/stats").await.assert_json(
        200,
        json!({
            "period_days": 30, "total_coffees": 4, "total_caffeine_mg": 200.0, "average_per_day": 6.67,
            "average_per_coffee": 50.0, "max_single_dose": 100.0, "min_single_dose": 0.0,
            "most_common_type": "espresso", "days_with_caffeine": 2,
            "by_type": [of_type(json!("espresso"), 2, 100.0, 50.0), of_type(Value::Null, 1, 0.0, 0.0),
                        of_type(json!("latte"), 1, 100.0, 100.0)],
            "by_hour": (0..24).map(hour).collect::<Vec<Value>>(),
        }),
    );
    let one_day = app.get("/coffee/stats?days=2").await.json();
    assert_eq!((&one_day["total_coffees"], &one_day["average_per_day"]), (&json!(1), &json!(0.0)));
    assert_eq!(app.get("/coffee/stats/?days=3650").await.json()["total_coffees"], 5);
}

#[rocket::async_test]
async fn of_equally_frequent_types_the_most_recent_one_is_most_common() {
    for (coffees, expected) in [
        (&["latte", "espresso"][..], json!("espresso")),
        (&["espresso", "latte"], json!("latte")),
        (&["espresso", "espresso", "latte"], json!("espresso")),
        (&["latte", "espresso", "espresso", "latte"], json!("latte")),
        (&["espresso", "latte", "latte", "espresso"], json!("espresso")),
        // Coffees without a type are not counted.
        (&["", "", "latte"], json!("latte")),
        (&["", ""], Value::Null),
    ] {
        let app = TestApp::new().await;
        // Stored in reverse: the timestamps decide, not the order of the requests.
        for (hour, kind) in coffees.iter().enumerate().rev() {
            app.add_coffee(&format!("2026-06-01T0{hour}:00:00Z"), 80.0, Some(kind)).await;
        }
        assert_eq!(app.get("/coffee/stats").await.json()["most_common_type"], expected, "{coffees:?}");
    }
}

#[rocket::async_test]
async fn statistics_without_coffee_return_a_message() {
    let app = TestApp::new().await;
    app.add_coffee("2026-05-31T11:59:59.999999Z", 80.0, None).await;
    app.get("/coffee/stats?days=1")
        .await
        .assert_json(200, json!({"message": "No coffee data in last 1 days", "days": 1}));
    app.add_coffee("2026-05-31T12:00:00Z", 80.0, None).await;
    assert_eq!(
        app.get("/coffee/stats?days=1").await.json()["total_coffees"],
        1,
        "the start is part of the period"
    );
}

#[rocket::async_test]
async fn a_period_has_1_to_3650_days() {
    let app = TestApp::new().await;
    for path in ["/coffee/stats", "/coffee/days", "/heartrate/stats", "/heartrate/correlation"] {
        for (days, message) in [
            ("0", "must be between 1 and 3650"),
            ("-1", "must be between 1 and 3650"),
            ("3651", "must be between 1 and 3650"),
            ("1.5", "must be a whole number"),
            ("month", "must be a whole number"),
            ("", "must be a whole number"),
        ] {
            app.get(&format!("{path}?days={days}"))
                .await
                .assert_invalid(&[invalid_value("query", "days", message, days)]);
        }
        app.get(&format!("{path}?days=1&days=2")).await.assert_invalid(&[invalid_field(
            "query",
            "days",
            "must be given once",
        )]);
        assert_eq!(app.get(&format!("{path}?days=3650")).await.status, 200, "{path}");
    }
}

#[rocket::async_test]
async fn types_lists_own_types_with_their_usual_dose_and_presets() {
    let app = TestApp::new().await;
    for (time, mg, kind) in [
        ("2026-05-01T08:00:00Z", 60.0, "ristretto"),
        ("2026-05-02T08:00:00Z", 60.0, "ristretto"),
        ("2026-05-03T08:00:00Z", 75.0, "ristretto"),
        // Equally frequent doses: the most recent one.
        ("2026-05-04T08:00:00Z", 120.0, "latte"),
        ("2026-05-05T08:00:00Z", 130.0, "latte"),
        ("2026-05-06T08:00:00Z", 30.0, "mate"),
        ("2026-05-07T08:00:00Z", 31.0, "chai"),
        ("2025-05-31T08:00:00Z", 99.0, "forgotten"),
    ] {
        app.add_coffee(time, mg, Some(kind)).await;
    }
    app.add_coffee("2026-05-08T08:00:00Z", 80.0, None).await;
    let own = |name: &str, count: u64, mg: f64, last: &str| json!({"coffee_type": name, "count": count, "caffeine_mg": mg, "last": format!("2026-05-{last}T08:00:00.000000Z")});
    let preset =
        |(name, mg, ml): (&str, f64, u16)| json!({"coffee_type": name, "caffeine_mg": mg, "serving_ml": ml});
    let presets = [
        ("espresso", 80.0, 60),
        ("filter coffee", 90.0, 200),
        ("black tea", 50.0, 220),
        ("cola", 40.0, 355),
        ("energy drink", 80.0, 250),
        ("dark chocolate", 25.0, 50),
    ];
    app.get("/coffee/types/").await.assert_json(
        200,
        json!({
            "own": [own("ristretto", 3, 60.0, "03"), own("latte", 2, 130.0, "05"),
                    own("chai", 1, 31.0, "07"), own("mate", 1, 30.0, "06")],
            "presets": presets.map(preset),
            "source": "EFSA explains risk assessment: Caffeine (2015), European Food Safety Authority, doi:10.2805/618813",
        }),
    );
}

#[rocket::async_test]
async fn a_type_is_case_insensitive_and_shown_in_its_first_spelling() {
    let app = TestApp::new().await;
    for (time, mg, kind) in [
        // Before every period below; of these two with one timestamp the first stored counts as first.
        ("2023-05-01T08:00:00Z", 60.0, "Espresso"),
        ("2023-05-01T08:00:00Z", 60.0, "eSpresso"),
        ("2026-05-20T08:00:00Z", 60.0, "espresso"),
        ("2026-05-21T08:00:00Z", 80.0, "ESPRESSO"),
        ("2026-05-22T08:00:00Z", 80.0, "espresso"),
        ("2026-05-23T08:00:00Z", 40.0, "ÉCLAIR"),
        ("2026-05-24T08:00:00Z", 40.0, "éclair"),
        ("2026-05-25T08:00:00Z", 90.0, "mocha"),
    ] {
        app.add_coffee(time, mg, Some(kind)).await;
    }
    let stats = app.get("/coffee/stats").await.json();
    assert_eq!(stats["most_common_type"], "Espresso");
    let by_type: Vec<Value> = [("Espresso", 3, 220.0, 73.33), ("ÉCLAIR", 2, 80.0, 40.0), ("mocha", 1, 90.0, 90.0)]
        .map(|(name, count, total, average)| {
            json!({"coffee_type": name, "coffee_count": count, "total_mg": total, "average_mg": average})
        })
        .into();
    assert_eq!(stats["by_type"], json!(by_type));
    let own = |name: &str, count: u64, mg: f64, last: &str| {
        json!({"coffee_type": name, "count": count, "caffeine_mg": mg,
               "last": format!("2026-05-{last}T08:00:00.000000Z")})
    };
    assert_eq!(
        app.get("/coffee/types").await.json()["own"],
        json!([own("Espresso", 3, 80.0, "22"), own("ÉCLAIR", 2, 40.0, "24"), own("mocha", 1, 90.0, "25")])
    );
    // Without the first entry, the spelling of the next one is shown.
    app.delete("/coffee/1").await;
    assert_eq!(app.get("/coffee/stats").await.json()["most_common_type"], "eSpresso");
}
