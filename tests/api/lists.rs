//! `GET /coffee/` and `GET /heartrate/`: order, filters and pages.

use serde_json::{Value, json};

use coffee_tracker::domain::time::HOUR;

use super::helpers::{TestApp, at, invalid_field, invalid_value};

/// An application with coffees 1 to 6: 3 and 4 have the same timestamp, 5 is the oldest.
async fn app_with_six_coffees() -> TestApp {
    let app = TestApp::new().await;
    for (time, kind) in [
        ("2026-05-30T08:00:00Z", Some("latte")),
        ("2026-05-31T08:00:00Z", Some("espresso")),
        ("2026-06-01T08:00:00Z", Some("latte")),
        ("2026-06-01T08:00:00Z", None),
        ("2026-05-01T08:00:00Z", Some("latte")),
        ("2026-06-01T08:00:00.000001Z", Some("Latte")),
    ] {
        app.add_coffee(time, 80.0, kind).await;
    }
    app
}

#[rocket::async_test]
async fn coffees_are_listed_newest_first_and_by_descending_id_within_a_timestamp() {
    let app = app_with_six_coffees().await;
    assert_eq!(app.ids("/coffee/").await, [6, 4, 3, 2, 1, 5]);
}

#[rocket::async_test]
async fn filters_select_matching_entries() {
    let app = app_with_six_coffees().await;
    for (query, ids, reason) in [
        ("since=2026-05-31T08:00:00Z", &[6, 4, 3, 2][..], "the start is included"),
        ("until=2026-05-31T08:00:00Z", &[1, 5], "the end is not"),
        ("since=2026-06-01T08:00:00Z&until=2026-06-01T08:00:00.000001Z", &[4, 3], "[start, end)"),
        ("since=2026-06-01T10:00:00", &[6, 4, 3], "without an offset: the time zone of the server"),
        ("since=2026-06-01T10:00:00+02:00", &[6, 4, 3], "an unencoded plus"),
        ("since=2026-06-01T10:00:00%2B02:00", &[6, 4, 3], "an encoded plus"),
        ("since=2026-06-01T10:00:00%2002:00", &[6, 4, 3], "a plus decoded as a space"),
        ("since=2026-06-01+10:00:00+02:00", &[6, 4, 3], "pluses for a space and a plus"),
        ("since=2026-06-01", &[6, 4, 3], "a day begins at midnight"),
        ("until=2026-06-01T00:00:00+02:00&coffee_type=latte", &[1, 5], "filters are combined"),
        ("coffee_type=latte", &[6, 3, 1, 5], "case-insensitive"),
        ("coffee_type=%20latte%20", &[6, 3, 1, 5], "trimmed"),
        ("coffee_type=LATTE", &[6, 3, 1, 5], "in upper case"),
        ("coffee_type=latte&limit=2&offset=1", &[3, 1], "a page of a type"),
        ("coffee_type=latte&since=2026-05-30T08:00:00Z&until=2026-06-01T08:00:00Z", &[1], "[start, end)"),
        ("coffee_type=tea", &[], "no match"),
        ("coffee_type=", &[6, 4, 3, 2, 1, 5], "an empty value is no filter"),
        ("limit=2", &[6, 4], "a page"),
        ("limit=2&offset=2", &[3, 2], "the next page"),
        ("offset=5", &[5], "the rest"),
        ("offset=6", &[], "past the end"),
        ("limit=1000&offset=2147483647", &[], "the largest offset"),
        ("limit=2.0", &[6, 4], "a whole number"),
        ("unknown=1", &[6, 4, 3, 2, 1, 5], "unknown fields are ignored"),
        ("", &[6, 4, 3, 2, 1, 5], "an empty query"),
        ("since=2026-06-01T08:00:00Z&until=2026-06-01T08:00:00Z", &[], "an empty period"),
    ] {
        assert_eq!(app.ids(&format!("/coffee/?{query}")).await, ids, "{query}: {reason}");
    }
}

#[rocket::async_test]
async fn invalid_query_parameters_are_reported_field_by_field() {
    let app = TestApp::new().await;
    let (limits, offsets) = ("must be between 1 and 1000", "must be between 0 and 2147483647");
    let form = "must be a date and time such as 2025-07-23T14:30:00Z";
    let one = |field, message, value: &str| vec![invalid_value("query", field, message, value)];
    for path in ["/coffee/", "/heartrate/"] {
        for (query, errors) in [
            ("limit=0", one("limit", limits, "0")),
            ("limit=-1", one("limit", limits, "-1")),
            ("limit=1001", one("limit", limits, "1001")),
            ("limit=1.5", one("limit", "must be a whole number", "1.5")),
            ("limit=ten", one("limit", "must be a whole number", "ten")),
            ("limit=", one("limit", "must be a whole number", "")),
            ("limit=99999999999999999999999", one("limit", limits, "99999999999999999999999")),
            ("offset=-1", one("offset", offsets, "-1")),
            ("offset=2147483648", one("offset", offsets, "2147483648")),
            ("since=yesterday", one("since", form, "yesterday")),
            ("until=", one("until", form, "")),
            (
                "since=2026-06-02T00:00:00Z&until=2026-06-01T00:00:00Z",
                one("until", "must not be before since", "2026-06-01T00:00:00Z"),
            ),
            ("limit=1&limit=1", vec![invalid_field("query", "limit", "must be given once")]),
            ("x=1&x=2", vec![invalid_field("query", "x", "must be given once")]),
            ("limit=%FF", vec![invalid_field("query", "query", "must be percent-encoded UTF-8")]),
            (
                "limit=0&offset=-1&since=no",
                vec![
                    invalid_value("query", "since", form, "no"),
                    invalid_value("query", "limit", limits, "0"),
                    invalid_value("query", "offset", offsets, "-1"),
                ],
            ),
        ] {
            app.get(&format!("{path}?{query}")).await.assert_invalid(&errors);
        }
    }
    let long = "x".repeat(101);
    let cut = format!("{}…", "x".repeat(100));
    app.get(&format!("/coffee/?coffee_type={long}")).await.assert_invalid(&[invalid_value(
        "query",
        "coffee_type",
        "must have at most 100 characters (it has 101)",
        cut.as_str(),
    )]);
    app.get(&format!("/heartrate/?context={}", "%C3%A9".repeat(51))).await.assert_invalid(&[invalid_value(
        "query",
        "context",
        "must have at most 50 characters (it has 51)",
        "é".repeat(51).as_str(),
    )]);
}

#[rocket::async_test]
async fn link_headers_lead_through_all_pages_and_keep_the_filters() {
    let app = app_with_six_coffees().await;
    for (path, next) in [
        ("/coffee/?limit=2", "/coffee/?limit=2&offset=2"),
        ("/coffee?limit=2&offset=2", "/coffee/?limit=2&offset=4"),
        ("/coffee/?limit=2&offset=4", ""),
        ("/coffee/?offset=1&limit=1&coffee_type=latte", "/coffee/?limit=1&coffee_type=latte&offset=2"),
        (
            "/coffee/?since=2026-05-31T10:00:00%2B02:00&limit=1",
            "/coffee/?since=2026-05-31T10:00:00%2B02:00&limit=1&offset=1",
        ),
        ("/coffee/?limit=6", ""),
        ("/coffee/?limit=5", "/coffee/?limit=5&offset=5"),
        ("/coffee/?limit=2&%6Fff%73et=2", "/coffee/?limit=2&offset=4"),
        ("/coffee/?o%66fset=1&limit=1&coffee_type=%6Fffset", ""),
        ("/coffee/?limit=1&not_offset=1&offsets=2", "/coffee/?limit=1&not_offset=1&offsets=2&offset=1"),
        ("/coffee/", ""),
    ] {
        let expected = if next.is_empty() { String::new() } else { format!("<{next}>; rel=\"next\"") };
        assert_eq!(app.get(path).await.header("link"), expected, "{path}");
    }
    let (mut path, mut seen) = ("/coffee/?limit=1".to_owned(), Vec::new());
    loop {
        seen.extend(app.ids(&path).await);
        let response = app.get(&path).await;
        let Some(next) = response.header("link").split(['<', '>']).nth(1) else { break };
        path = next.to_owned();
    }
    assert_eq!(seen, [6, 4, 3, 2, 1, 5]);
}

#[rocket::async_test]
async fn the_type_filter_ignores_case_beyond_ascii_and_stored_types_keep_their_spelling() {
    let app = TestApp::new().await;
    let spellings = ["Café Crème", "CAFÉ CRÈME", "café crème", "cafe creme", "Ćafé", "ćAFÉ"];
    for (hour, spelling) in spellings.iter().enumerate() {
        app.add_coffee(&format!("2026-06-01T0{hour}:00:00Z"), 80.0, Some(spelling)).await;
    }
    for (query, ids) in [
        ("caf%C3%A9%20cr%C3%A8me", &[3, 2, 1][..]),
        ("CAF%C3%89%20cr%C3%A8ME", &[3, 2, 1]),
        ("Cafe%20CREME", &[4]),
        ("%C4%87af%C3%A9", &[6, 5]),
        ("caf", &[]),
    ] {
        assert_eq!(app.ids(&format!("/coffee/?coffee_type={query}")).await, ids, "{query}");
    }
    let all = app.get("/coffee/").await.json();
    let stored: Vec<_> = all.as_array().unwrap().iter().rev().map(|one| &one["coffee_type"]).collect();
    assert_eq!(stored, spellings);
}

#[rocket::async_test]
async fn the_default_limit_is_50() {
    let app = TestApp::new().await;
    let readings: Vec<Value> = (0..1002).map(|n| json!({"bpm": 60 + n % 40})).collect();
    app.post("/heartrate/batch", json!({"readings": readings}))
        .await
        .assert_json(201, json!({"inserted": 1002, "duplicates": 0}));
    assert_eq!(app.ids("/heartrate/").await.len(), 50);
    assert_eq!(app.get("/heartrate/").await.header("link"), "</heartrate/?offset=50>; rel=\"next\"");
    assert_eq!(app.ids("/heartrate/?limit=1000").await, (3..=1002).rev().collect::<Vec<i64>>());
    assert_eq!(app.ids("/heartrate/?limit=1000&offset=1000").await, [2, 1]);
}

#[rocket::async_test]
async fn readings_are_listed_newest_first_and_filtered_by_context() {
    let app = TestApp::new().await;
    app.add_readings("resting", &[("2026-06-01T08:00:00Z", 60), ("2026-06-01T09:00:00Z", 61)]).await;
    app.add_readings("panic", &[("2026-06-01T09:00:00Z", 130), ("2026-05-01T09:00:00Z", 131)]).await;
    for (query, ids) in [
        ("", &[3, 2, 1, 4][..]),
        ("?context=panic", &[3, 4]),
        ("?context=resting&limit=1", &[2]),
        ("?since=2026-06-01T09:00:00Z", &[3, 2]),
        ("?until=2026-06-01T09:00:00Z", &[1, 4]),
        ("?context=panic&since=2026-05-01T09:00:00Z&until=2026-06-01T09:00:00Z", &[4]),
        ("?context=sleeping", &[]),
        ("?context=%20PANIC%20", &[3, 4]),
    ] {
        assert_eq!(app.ids(&format!("/heartrate/{query}")).await, ids, "{query}");
    }
    app.add_readings("Panic", &[("2026-05-15T09:00:00Z", 132)]).await;
    assert_eq!(app.ids("/heartrate/?context=panic").await, [3, 5, 4], "every spelling, newest first");
    assert_eq!(app.ids("/heartrate/?context=PANIC&limit=1&offset=1").await, [5]);
    assert_eq!(app.ids("/heartrate/?context=Panic&limit=2&offset=1").await, [5, 4]);
    let response = app.get("/heartrate?context=panic&limit=1").await;
    assert_eq!(response.header("link"), "</heartrate/?context=panic&limit=1&offset=1>; rel=\"next\"");
}

#[rocket::async_test]
async fn deep_pages_of_a_context_contain_every_spelling() {
    let app = TestApp::new().await;
    let start = at("2026-01-01T00:00:00Z");
    let context = |n: i64| ["resting", "Resting", "active"][usize::try_from(n % 3).unwrap()];
    let reading =
        |n: i64| json!({"bpm": 60, "context": context(n), "timestamp": start.plus(n * HOUR).to_string()});
    let readings: Vec<Value> = (0..3600).map(reading).collect();
    app.post("/heartrate/batch", json!({"readings": readings})).await;
    let resting: Vec<i64> = (0..3600).rev().filter(|n| n % 3 < 2).map(|n| n + 1).collect();
    for spelling in ["resting", "RESTING"] {
        for offset in [0, 1000, 2001, 2399] {
            let page = app.ids(&format!("/heartrate/?context={spelling}&limit=30&offset={offset}")).await;
            assert_eq!(
                page,
                resting[offset..(offset + 30).min(resting.len())],
                "{spelling}, offset {offset}"
            );
        }
    }
    let active: Vec<i64> = (0..3600).rev().filter(|n| n % 3 == 2).map(|n| n + 1).collect();
    assert_eq!(app.ids("/heartrate/?context=ACTIVE&limit=1000&offset=1100").await, active[1100..]);
}
