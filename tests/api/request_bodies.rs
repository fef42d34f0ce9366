//! Request bodies: numbers, text, malformed JSON and the size limit.

use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{TestApp, TestResponse, invalid_field, invalid_value};

async fn coffee(app: &TestApp, body: impl Into<Vec<u8>>) -> TestResponse {
    app.request(Method::Post, "/coffee/").body(body).send().await
}

#[rocket::async_test]
async fn numbers_are_accepted_as_numbers_and_as_strings() {
    let app = TestApp::new().await;
    for (sent, stored) in [
        ("0", 0.0),
        ("95", 95.0),
        ("95.5", 95.5),
        ("1000", 1000.0),
        ("9.5e1", 95.0),
        ("-0.0", 0.0),
        ("-0", 0.0),
        (r#""95""#, 95.0),
        (r#"" 95.5 ""#, 95.5),
        (r#""9.5e1""#, 95.0),
        (r#""-0.0""#, 0.0),
        ("1e-400", 0.0),
        ("0.1", 0.1),
    ] {
        let response = coffee(&app, format!(r#"{{"caffeine_mg": {sent}}}"#)).await;
        assert_eq!(response.status, 201, "{sent}: {}", response.text());
        assert_eq!(response.json()["caffeine_mg"], json!(stored), "{sent}");
        // A negative zero is equal to zero and differs only in the text.
        assert!(!response.text().contains(":-"), "{sent}: {}", response.text());
        assert_eq!(app.get(response.header("location")).await.body, response.body, "{sent}");
    }
}

#[rocket::async_test]
async fn invalid_and_out_of_range_numbers_are_rejected() {
    let app = TestApp::new().await;
    let (number, range) = ("must be a number", "must be between 0 and 1000");
    for (sent, error) in [
        ("true", invalid_value("body", "caffeine_mg", number, true)),
        ("null", invalid_value("body", "caffeine_mg", number, Value::Null)),
        ("[95]", invalid_field("body", "caffeine_mg", number)),
        (r#"{"mg": 95}"#, invalid_field("body", "caffeine_mg", number)),
        (r#""""#, invalid_value("body", "caffeine_mg", number, "")),
        (r#""strong""#, invalid_value("body", "caffeine_mg", number, "strong")),
        (r#""NaN""#, invalid_value("body", "caffeine_mg", number, "NaN")),
        (r#""inf""#, invalid_value("body", "caffeine_mg", number, "inf")),
        (r#""Infinity""#, invalid_value("body", "caffeine_mg", number, "Infinity")),
        (r#""1e999""#, invalid_value("body", "caffeine_mg", number, "1e999")),
        (r#""0x10""#, invalid_value("body", "caffeine_mg", number, "0x10")),
        (r#""9,5""#, invalid_value("body", "caffeine_mg", number, "9,5")),
        ("1500", invalid_value("body", "caffeine_mg", range, 1500)),
        ("1000.0001", invalid_value("body", "caffeine_mg", range, 1000.0001)),
        ("-1", invalid_value("body", "caffeine_mg", range, -1)),
        ("-1e-300", invalid_value("body", "caffeine_mg", range, -1e-300)),
        (r#""1001""#, invalid_value("body", "caffeine_mg", range, "1001")),
        ("18446744073709551615", invalid_value("body", "caffeine_mg", range, u64::MAX)),
    ] {
        coffee(&app, format!(r#"{{"caffeine_mg": {sent}}}"#)).await.assert_invalid(&[error]);
    }
    coffee(&app, "{}").await.assert_invalid(&[invalid_field("body", "caffeine_mg", "is required")]);
    app.get("/coffee/").await.assert_json(200, json!([]));
}

#[rocket::async_test]
async fn malformed_json_is_rejected_with_line_and_column() {
    let app = TestApp::new().await;
    for (sent, message) in [
        ("", "must not be empty: a JSON object is expected"),
        (" \n\t ", "must not be empty: a JSON object is expected"),
        ("\u{feff}", "must not be empty: a JSON object is expected"),
        ("[]", "must be a JSON object"),
        ("95", "must be a JSON object"),
        ("\"x\"", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("caffeine_mg=95", "must be a JSON object"),
        ("{", "malformed JSON: EOF while parsing an object at line 1 column 1"),
        ("{\"caffeine_mg\": 95", "malformed JSON: EOF while parsing an object at line 1 column 18"),
        ("\n{\n \"caffeine_mg\": }", "malformed JSON: expected value at line 3 column 17"),
        ("{\"caffeine_mg\": 95} x", "malformed JSON: trailing characters at line 1 column 21"),
        ("{\"caffeine_mg\": 95,}", "malformed JSON: trailing comma at line 1 column 20"),
        ("{\"caffeine_mg\": NaN}", "malformed JSON: expected value at line 1 column 17"),
        ("{\"caffeine_mg\": Infinity}", "malformed JSON: expected value at line 1 column 17"),
        ("{\"caffeine_mg\": 1e999}", "malformed JSON: number out of range at line 1 column 21"),
        ("{\"caffeine_mg\": 1, \"caffeine_mg\": 2}", "duplicate field `caffeine_mg` at line 1 column 32"),
        ("{\"notes\": \"\\ud800\"}", "malformed JSON: unexpected end of hex escape at line 1 column 18"),
    ] {
        coffee(&app, sent).await.assert_invalid(&[invalid_field("body", "body", message)]);
    }
}

#[rocket::async_test]
async fn deeply_nested_json_and_invalid_utf_8_are_rejected() {
    let app = TestApp::new().await;
    for (open, kind) in [("[", "list"), ("{\"a\":", "value")] {
        let nested = format!("{{\"notes\": {}", open.repeat(100_000));
        let response = coffee(&app, nested).await;
        let column = 10 + 100_000 * open.len();
        let message = format!("malformed JSON: EOF while parsing a {kind} at line 1 column {column}");
        response.assert_invalid(&[invalid_field("body", "body", &message)]);
    }
    coffee(&app, "[".repeat(100_000)).await.assert_invalid(&[invalid_field(
        "body",
        "body",
        "must be a JSON object",
    )]);
    coffee(&app, b"{\"notes\": \"\xff\"}").await.assert_invalid(&[invalid_field(
        "body",
        "body",
        "must be UTF-8 (byte 12 is not)",
    )]);
    assert_eq!(coffee(&app, r#"{"caffeine_mg": 1}"#).await.status, 201);
}

#[rocket::async_test]
async fn bodies_are_parsed_as_json_with_any_content_type() {
    let app = TestApp::new().await;
    let body = r#"{"caffeine_mg": 95}"#;
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/json; charset=utf-16",
        "nonsense",
        "",
    ] {
        let request = app.request(Method::Post, "/coffee/").header("Content-Type", content_type).body(body);
        assert_eq!(request.send().await.status, 201, "{content_type}");
        let request = app.request(Method::Put, "/coffee/1").header("Content-Type", content_type).body(body);
        assert_eq!(request.send().await.status, 200, "{content_type}");
    }
    assert_eq!(coffee(&app, body).await.status, 201, "no content type");
    assert_eq!(coffee(&app, format!("\u{feff}{body}")).await.status, 201, "a byte order mark");
}

#[rocket::async_test]
async fn text_is_trimmed_stripped_of_control_characters_and_limited_in_characters() {
    let app = TestApp::new().await;
    for (sent, stored) in [
        ("  flat white \n", Some("flat white".to_owned())),
        ("a\u{0}b\u{7}\u{1b}[31mc\u{85}", Some("ab[31mc".to_owned())),
        ("a\tb\r\nc", Some("a\tb\r\nc".to_owned())),
        ("\u{0} \u{3000}", None),
        ("", None),
        (&"\u{2615}".repeat(100), Some("\u{2615}".repeat(100))),
        (&format!(" {}\u{0} ", "x".repeat(100)), Some("x".repeat(100))),
        ("'); drop table coffee_logs; --", Some("'); drop table coffee_logs; --".to_owned())),
    ] {
        let response =
            app.post("/coffee/", json!({"caffeine_mg": 1, "coffee_type": sent, "notes": sent})).await;
        assert_eq!(response.status, 201, "{sent}: {}", response.text());
        assert_eq!(response.json()["coffee_type"], json!(stored));
        assert_eq!(response.json()["notes"], json!(stored));
        assert_eq!(app.get(response.header("location")).await.body, response.body);
    }
    let cups = |n| "\u{2615}".repeat(n);
    assert_eq!(app.post("/coffee/", json!({"caffeine_mg": 1, "notes": cups(1000)})).await.status, 201);
    let cut = format!("{}…", cups(100));
    app.post("/coffee/", json!({"caffeine_mg": 1, "coffee_type": cups(101), "notes": cups(1001)}))
        .await
        .assert_invalid(&[
            invalid_value(
                "body",
                "coffee_type",
                "must have at most 100 characters (it has 101)",
                cut.as_str(),
            ),
            invalid_value("body", "notes", "must have at most 1000 characters (it has 1001)", cut.as_str()),
        ]);
}

#[rocket::async_test]
async fn every_invalid_field_is_reported() {
    let app = TestApp::new().await;
    let bad_coffee = json!({"caffeine_mg": "much", "coffee_type": 7, "notes": [1], "timestamp": true});
    let errors = [
        invalid_value("body", "caffeine_mg", "must be a number", "much"),
        invalid_value("body", "timestamp", "must be text", true),
        invalid_value("body", "coffee_type", "must be text", 7),
        invalid_field("body", "notes", "must be text"),
    ];
    app.post("/coffee/", bad_coffee.clone()).await.assert_invalid(&errors);
    app.put("/coffee/1", bad_coffee).await.assert_invalid(&errors);
    let bad_reading = json!({"bpm": 72.4, "context": false, "notes": {}, "timestamp": "soon"});
    let errors = [
        invalid_value("body", "bpm", "must be a whole number", 72.4),
        invalid_value("body", "timestamp", "must be a date and time such as 2025-07-23T14:30:00Z", "soon"),
        invalid_value("body", "context", "must be text", false),
        invalid_field("body", "notes", "must be text"),
    ];
    app.post("/heartrate/", bad_reading.clone()).await.assert_invalid(&errors);
    app.patch("/heartrate/1", bad_reading).await.assert_invalid(&errors);
}

#[rocket::async_test]
async fn bodies_larger_than_the_limit_are_rejected() {
    let app = TestApp::new().await;
    let padded = |size: usize| format!("{{\"caffeine_mg\": 1, \"x\": \"{}\"}}", "y".repeat(size - 27));
    assert_eq!(padded(1000).len(), 1000);
    assert_eq!(coffee(&app, padded(1 << 20)).await.status, 201);
    let detail = "The body must not be larger than 1048576 bytes";
    for size in [(1 << 20) + 1, 2 << 20] {
        for path in ["/coffee/", "/heartrate/"] {
            app.request(Method::Post, path).body(padded(size)).send().await.assert_problem(413, detail);
        }
        app.request(Method::Put, "/coffee/1").body(padded(size)).send().await.assert_problem(413, detail);
    }
    // A request whose Content-Length exceeds the limit is rejected without reading its body.
    let request =
        app.request(Method::Post, "/coffee/").header("Content-Length", "2097152").body(padded(1000));
    let response = request.send().await.assert_problem(413, detail);
    assert_eq!(response.header("connection"), "close");
    let small = TestApp::with_flags(&[("max-request-body-bytes", "1024")]).await;
    assert_eq!(coffee(&small, padded(1024)).await.status, 201);
    coffee(&small, padded(1025)).await.assert_problem(413, "The body must not be larger than 1024 bytes");
}
