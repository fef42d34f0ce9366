//! `GET /export/coffee` and `GET /export/heartrate`.

use rocket::http::Method;
use rusqlite::Connection;
use serde_json::json;

use super::helpers::{REQUEST_ID, TestApp, invalid_field, invalid_value};

const COFFEE_HEADER: &str = "id,timestamp,caffeine_mg,coffee_type,notes,source\n";
const READING_HEADER: &str = "id,timestamp,bpm,context,notes,source\n";

/// An application with coffees 1 to 4 (2 and 3 with the same timestamp), readings 1 to 3 and text that
/// requires quotes.
async fn app_with_entries() -> TestApp {
    let app = TestApp::new().await;
    for coffee in [
        json!({"timestamp": "2026-05-31T08:00:00.5Z", "caffeine_mg": 95, "coffee_type": "flat white", "notes": "two\nlines, a \"quote\""}),
        json!({"timestamp": "2026-06-01T08:00:00Z", "caffeine_mg": 63.25}),
        json!({"timestamp": "2026-06-01T08:00:00Z", "caffeine_mg": 0.1, "coffee_type": "=1+1"}),
        json!({"timestamp": "2026-05-01T22:00:00Z", "caffeine_mg": 0, "notes": "früh 🫖\r\n\t"}),
    ] {
        assert_eq!(app.post("/coffee/", coffee).await.status, 201);
    }
    for reading in [
        json!({"timestamp": "2026-06-01T09:00:00Z", "bpm": 61}),
        json!({"timestamp": "2026-06-01T08:00:00Z", "bpm": 142, "context": "panic", "notes": "'; drop table"}),
        json!({"timestamp": "2026-06-01T10:00:00Z", "bpm": 70, "context": "a,b"}),
    ] {
        assert_eq!(app.post("/heartrate/", reading).await.status, 201);
    }
    Connection::open(app.database())
        .unwrap()
        .execute_batch(
            "update heart_rate_logs set context = null, source = 'Anna''s \"Watch\"' where id = 1;
             create table _litestream_seq (id integer, seq integer);
             insert into _litestream_seq values (1, 7)",
        )
        .unwrap();
    app
}

#[rocket::async_test]
async fn coffees_are_exported_oldest_first_with_every_column() {
    let app = app_with_entries().await;
    let response = app.get("/export/coffee").await;
    assert_eq!(response.status, 200);
    assert_eq!(
        response.text(),
        "id,timestamp,caffeine_mg,coffee_type,notes,source\n\
         4,2026-05-01T22:00:00.000000Z,0,,früh 🫖,\n\
         1,2026-05-31T08:00:00.500000Z,95,flat white,\"two\nlines, a \"\"quote\"\"\",\n\
         2,2026-06-01T08:00:00.000000Z,63.25,,,\n\
         3,2026-06-01T08:00:00.000000Z,0.1,=1+1,,\n"
    );
    assert_eq!(response.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(response.header("content-disposition"), "attachment; filename=\"coffee_20260601.csv\"");
    assert_eq!(response.header("cache-control"), "no-store");
    assert_eq!(response.header("x-request-id"), REQUEST_ID);
    assert_eq!(response.content_length, None, "streamed");

    let response = app.get("/export/coffee/?format=jsonl").await;
    assert_eq!(
        response.text(),
        concat!(
            r#"{"id":4,"timestamp":"2026-05-01T22:00:00.000000Z","caffeine_mg":0,"coffee_type":null,"notes":"früh 🫖","source":null}"#,
            "\n",
            r#"{"id":1,"timestamp":"2026-05-31T08:00:00.500000Z","caffeine_mg":95,"coffee_type":"flat white","notes":"two\nlines, a \"quote\"","source":null}"#,
            "\n",
            r#"{"id":2,"timestamp":"2026-06-01T08:00:00.000000Z","caffeine_mg":63.25,"coffee_type":null,"notes":null,"source":null}"#,
            "\n",
            r#"{"id":3,"timestamp":"2026-06-01T08:00:00.000000Z","caffeine_mg":0.1,"coffee_type":"=1+1","notes":null,"source":null}"#,
            "\n",
        )
    );
    assert_eq!(response.header("content-type"), "application/x-ndjson");
    assert_eq!(response.header("content-disposition"), "attachment; filename=\"coffee_20260601.jsonl\"");
}

#[rocket::async_test]
async fn the_spreadsheet_format_escapes_formulas() {
    let app = app_with_entries().await;
    let response = app.get("/export/coffee?format=spreadsheet&since=2026-06-01").await;
    assert_eq!(
        response.text(),
        format!("\u{feff}{COFFEE_HEADER}2,2026-06-01 10:00:00,63.25,,,\n3,2026-06-01 10:00:00,0.1,'=1+1,,\n")
    );
    assert_eq!(response.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(
        response.header("content-disposition"),
        "attachment; filename=\"coffee_20260601_spreadsheet.csv\""
    );
}

#[rocket::async_test]
async fn readings_are_exported_with_their_source() {
    let app = app_with_entries().await;
    let response = app.get("/export/heartrate").await;
    assert_eq!(
        response.text(),
        "id,timestamp,bpm,context,notes,source\n\
         2,2026-06-01T08:00:00.000000Z,142,panic,'; drop table,\n\
         1,2026-06-01T09:00:00.000000Z,61,,,\"Anna's \"\"Watch\"\"\"\n\
         3,2026-06-01T10:00:00.000000Z,70,\"a,b\",,\n"
    );
    assert_eq!(response.header("content-disposition"), "attachment; filename=\"heartrate_20260601.csv\"");
    let response = app.get("/export/heartrate?format=jsonl&until=2026-06-01T10:00:00Z").await;
    assert_eq!(
        response.text(),
        concat!(
            r#"{"id":2,"timestamp":"2026-06-01T08:00:00.000000Z","bpm":142,"context":"panic","notes":"'; drop table","source":null}"#,
            "\n",
            r#"{"id":1,"timestamp":"2026-06-01T09:00:00.000000Z","bpm":61,"context":null,"notes":null,"source":"Anna's \"Watch\""}"#,
            "\n",
        )
    );
}

#[rocket::async_test]
async fn since_is_inclusive_and_until_exclusive_in_the_time_zone_of_the_server() {
    let app = app_with_entries().await;
    for (query, ids, reason) in [
        ("since=2026-05-31T08:00:00.5Z", &[1, 2, 3][..], "the start is included"),
        ("until=2026-06-01T08:00:00Z", &[4, 1], "the end is not"),
        ("since=2026-05-31&until=2026-06-01", &[1], "days of Berlin"),
        ("since=2026-05-02", &[4, 1, 2, 3], "22:00 in London is the next day in Berlin"),
        ("since=2026-06-01T10:00:00", &[2, 3], "without an offset: the time zone of the server"),
        ("since=2026-06-01&until=2026-06-01", &[], "an empty period"),
        ("format=csv&unknown=1", &[4, 1, 2, 3], "unknown fields are ignored"),
    ] {
        let text =
            app.get(&format!("/export/coffee?format=jsonl&{}", query.replace("format=csv&", ""))).await;
        let ids_of = |text: &str| -> Vec<i64> {
            let id =
                |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap();
            text.lines().map(id).collect()
        };
        assert_eq!(ids_of(text.text()), ids, "{query}: {reason}");
    }
}

#[rocket::async_test]
async fn the_file_name_has_the_date_in_the_time_zone_of_the_server() {
    let app = TestApp::in_zone("Pacific/Kiritimati", "2026-06-01T12:00:00Z").await;
    let response = app.get("/export/heartrate").await;
    assert_eq!(response.header("content-disposition"), "attachment; filename=\"heartrate_20260602.csv\"");
}

#[rocket::async_test]
async fn an_empty_table_is_exported_as_a_header_or_as_no_lines() {
    let app = TestApp::new().await;
    for (path, body) in [
        ("/export/coffee", COFFEE_HEADER),
        ("/export/heartrate?format=csv", READING_HEADER),
        ("/export/coffee?format=jsonl", ""),
        ("/export/heartrate?format=jsonl", ""),
    ] {
        let response = app.get(path).await;
        assert_eq!((response.status, response.text()), (200, body), "{path}");
    }
}

#[rocket::async_test]
async fn an_export_of_many_chunks_is_complete_and_in_order() {
    let app = TestApp::new().await;
    let fill = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 30000)
        insert into heart_rate_logs (timestamp, bpm, context, notes)
        select 1700000000000000 + i * 1000000, 60 + i % 40, 'resting', 'reading ' || i from n";
    Connection::open(app.database()).unwrap().execute(fill, []).unwrap();
    let whole = app.get("/export/heartrate").await;
    assert!(whole.body.len() > 1 << 20, "{} bytes", whole.body.len());
    let mut lines = whole.text().lines().skip(1);
    for n in 1..=30_000 {
        let line = lines.next().unwrap();
        assert!(
            line.starts_with(&format!("{n},20")) && line.ends_with(&format!(",resting,reading {n},")),
            "{line}"
        );
    }
    assert_eq!(lines.next(), None);
}

#[rocket::async_test]
async fn invalid_export_parameters_are_reported_field_by_field() {
    let app = TestApp::new().await;
    let form = "must be a date and time such as 2025-07-23T14:30:00Z";
    let formats = "must be csv, jsonl or spreadsheet";
    for path in ["/export/coffee", "/export/heartrate"] {
        for (query, errors) in [
            ("format=xml", vec![invalid_value("query", "format", formats, "xml")]),
            ("format=", vec![invalid_value("query", "format", formats, "")]),
            ("format=CSV", vec![invalid_value("query", "format", formats, "CSV")]),
            ("since=yesterday", vec![invalid_value("query", "since", form, "yesterday")]),
            (
                "since=2026-06-02&until=2026-06-01",
                vec![invalid_value("query", "until", "must not be before since", "2026-06-01")],
            ),
            (
                "format=a&since=b&until=c",
                vec![
                    invalid_value("query", "format", formats, "a"),
                    invalid_value("query", "since", form, "b"),
                    invalid_value("query", "until", form, "c"),
                ],
            ),
            ("format=csv&format=csv", vec![invalid_field("query", "format", "must be given once")]),
        ] {
            app.get(&format!("{path}?{query}")).await.assert_invalid(&errors);
        }
    }
}

#[rocket::async_test]
async fn exports_require_a_key_head_reads_no_rows_and_other_methods_are_rejected() {
    let app = app_with_entries().await;
    // HEAD succeeds without the table.
    let rename = "alter table coffee_logs rename to hidden";
    Connection::open(app.database()).unwrap().execute_batch(rename).unwrap();
    let head = app.request(Method::Head, "/export/coffee?format=jsonl").send().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), "application/x-ndjson");
    assert_eq!(head.header("content-disposition"), "attachment; filename=\"coffee_20260601.jsonl\"");
    let rejected = app.request(Method::Head, "/export/coffee?format=xml").send().await;
    assert_eq!(rejected.status, 422);

    let path = "/export/heartrate";
    let response = app.request(Method::Get, path).without_header("Authorization").send().await;
    response.assert_problem(401, "A valid API key is required: Authorization: Bearer KEY");
    for method in [Method::Post, Method::Put, Method::Patch, Method::Delete] {
        let response =
            app.request(method, path).send().await.assert_problem(405, "Allowed methods: GET, HEAD, OPTIONS");
        assert_eq!(response.header("allow"), "GET, HEAD, OPTIONS");
    }
    let options = app.request(Method::Options, path).send().await;
    assert_eq!((options.status, options.header("allow")), (204, "GET, HEAD, OPTIONS"));
    assert_eq!(app.get("/export/tea").await.status, 404);
    assert_eq!(app.get("/export").await.status, 404);
}

#[rocket::async_test]
async fn an_error_before_the_first_line_returns_500_and_releases_the_reader() {
    let app = app_with_entries().await;
    let rename = "alter table coffee_logs rename to hidden";
    Connection::open(app.database()).unwrap().execute_batch(rename).unwrap();
    let errors = r#"database_errors_total{kind="internal"}"#;
    // Reading `/metrics` fails on the missing table too, and is counted.
    let before = app.metric(errors).await;
    let by_metrics = app.metric(errors).await - before;
    // More requests than slow readers.
    for format in ["csv", "jsonl", "csv", "jsonl", "csv"] {
        let response = app.get(&format!("/export/coffee?format={format}")).await;
        assert_eq!(response.header("content-disposition"), "");
        response.assert_problem(500, "Internal error: the server's log has details under this request id");
        assert_eq!(app.get("/export/heartrate").await.status, 200);
    }
    assert_eq!(app.metric(errors).await, before + 5.0 + 2.0 * by_metrics);
}

#[rocket::async_test]
async fn exports_have_the_rate_limit_of_reads() {
    let app = TestApp::with_flags(&[("rate-limit-enabled", "true")]).await;
    let response = app.get("/export/coffee").await;
    assert_eq!(response.header("ratelimit-policy"), "\"read\";q=600;w=60");
    assert_eq!(app.get("/export/heartrate").await.header("ratelimit"), "\"read\";r=598;t=1");
}
