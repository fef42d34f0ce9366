//! Days and hours in local time: midnight, daylight saving time and skipped days.

use serde_json::{Value, json};

use super::helpers::TestApp;

fn day(date: &str, total: f64, coffees: u64) -> Value {
    json!({"date": date, "total_mg": total, "coffee_count": coffees})
}

/// Time zone, date, start of that day and start of the next one.
const DAYS: [(&str, &str, &str, &str); 5] = [
    ("Europe/Berlin", "2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
    ("Europe/Berlin", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
    ("Europe/Berlin", "2026-06-01", "2026-05-31T22:00:00Z", "2026-06-01T22:00:00Z"),
    ("America/Bogota", "2026-06-01", "2026-06-01T05:00:00Z", "2026-06-02T05:00:00Z"),
    ("Pacific/Kiritimati", "2026-06-01", "2026-05-31T10:00:00Z", "2026-06-01T10:00:00Z"),
];

fn just_before(instant: &str) -> String {
    super::helpers::at(instant).minus(1).to_string()
}

#[rocket::async_test]
async fn an_entry_at_midnight_belongs_to_the_new_day() {
    for (zone, date, start, next) in DAYS {
        let app = TestApp::in_zone(zone, &just_before(next)).await;
        app.add_coffee(&just_before(start), 1.0, None).await;
        app.add_coffee(start, 10.0, None).await;
        app.add_coffee(&just_before(next), 100.0, None).await;
        app.get("/coffee/today").await.assert_json(
            200,
            json!({"date": date, "total_caffeine_mg": 110.0, "addiction_level": "casual user",
                   "recommended_max": 400.0, "over_limit": false, "coffee_count": 2}),
        );
        // One microsecond later the next day begins.
        app.clock.set(super::helpers::at(next));
        let today = app.get("/coffee/today").await.json();
        assert_eq!(
            (&today["coffee_count"], &today["total_caffeine_mg"]),
            (&json!(0), &json!(0.0)),
            "{zone} {date}"
        );
        assert_ne!(today["date"], date);
    }
}

#[rocket::async_test]
async fn the_week_has_seven_local_days_across_clock_changes() {
    for (now, dates, first, hours) in [
        (
            "2026-03-30T10:00:00Z",
            ["2026-03-30", "2026-03-29", "2026-03-28", "2026-03-24"],
            "2026-03-23T23:00:00Z",
            23,
        ),
        (
            "2026-10-26T10:00:00Z",
            ["2026-10-26", "2026-10-25", "2026-10-24", "2026-10-20"],
            "2026-10-19T22:00:00Z",
            25,
        ),
    ] {
        let app = TestApp::in_zone("Europe/Berlin", now).await;
        app.add_coffee(&just_before(first), 1000.0, None).await;
        app.add_coffee(first, 1.0, None).await;
        // The first and last microsecond of the day of 23 or 25 hours, and their neighbours.
        let (start, next) = if hours == 23 {
            ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z")
        } else {
            ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z")
        };
        app.add_coffee(&just_before(start), 2.0, None).await;
        app.add_coffee(start, 20.0, None).await;
        app.add_coffee(&just_before(next), 21.0, None).await;
        app.add_coffee(next, 300.0, None).await;
        let days =
            [day(dates[0], 300.0, 1), day(dates[1], 41.0, 2), day(dates[2], 2.0, 1), day(dates[3], 1.0, 1)];
        app.get("/coffee/week").await.assert_json(
            200,
            json!({"daily_breakdown": days, "week_total_mg": 344.0, "week_average_mg": 49.14,
                   "days_with_caffeine": 4}),
        );
    }
}

#[rocket::async_test]
async fn statistics_count_local_days_and_local_hours() {
    for (zone, now, coffees, hours, days) in [
        // 01:59:59, and 03:00 one second later.
        (
            "Europe/Berlin",
            "2026-03-29T10:00:00Z",
            ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", "2026-03-28T22:59:59.999999Z"],
            [1, 3, 23],
            2,
        ),
        // 02:30 occurs twice.
        (
            "Europe/Berlin",
            "2026-10-25T10:00:00Z",
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"],
            [2, 2, 3],
            1,
        ),
        (
            "America/Bogota",
            "2026-06-01T12:00:00Z",
            ["2026-06-01T04:59:59.999999Z", "2026-06-01T05:00:00Z", "2026-06-01T11:00:00Z"],
            [23, 0, 6],
            2,
        ),
        (
            "Pacific/Kiritimati",
            "2026-06-01T12:00:00Z",
            ["2026-06-01T09:59:59.999999Z", "2026-06-01T10:00:00Z", "2026-06-01T11:59:00Z"],
            [23, 0, 1],
            2,
        ),
    ] {
        let app = TestApp::in_zone(zone, now).await;
        let mut by_hour: Vec<(u64, f64)> = vec![(0, 0.0); 24];
        for (coffee, hour) in coffees.iter().zip(hours) {
            app.add_coffee(coffee, 50.0, None).await;
            by_hour[hour].0 += 1;
            by_hour[hour].1 += 50.0;
        }
        let hour = |(hour, (count, mg))| json!({"hour": hour, "coffee_count": count, "total_mg": mg});
        let by_hour: Vec<Value> = by_hour.into_iter().enumerate().map(hour).collect();
        let stats = app.get("/coffee/stats").await.json();
        assert_eq!(stats["by_hour"], Value::from(by_hour), "{zone} {now}");
        assert_eq!(stats["days_with_caffeine"], days, "{zone} {now}");
    }
}

#[rocket::async_test]
async fn a_skipped_day_and_a_day_without_midnight_are_counted_correctly() {
    // In São Paulo this day began at 01:00, which is 03:00 UTC.
    let app = TestApp::in_zone("America/Sao_Paulo", "2018-11-04T12:00:00Z").await;
    app.add_coffee("2018-11-04T02:59:59.999999Z", 1.0, None).await;
    app.add_coffee("2018-11-04T03:00:00Z", 2.0, None).await;
    let today = app.get("/coffee/today").await.json();
    assert_eq!((&today["date"], &today["total_caffeine_mg"]), (&json!("2018-11-04"), &json!(2.0)));
    // Samoa skipped the 30th.
    let app = TestApp::in_zone("Pacific/Apia", "2011-12-30T10:00:00Z").await;
    app.add_coffee("2011-12-30T09:59:59.999999Z", 1.0, None).await;
    app.add_coffee("2011-12-30T10:00:00Z", 2.0, None).await;
    let days = [day("2011-12-31", 2.0, 1), day("2011-12-29", 1.0, 1)];
    assert_eq!(app.get("/coffee/week").await.json()["daily_breakdown"], json!(days));
}
