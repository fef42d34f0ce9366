//! `/coffee/` and `/coffee/{id}`: create, read, change and delete.

use coffee_tracker::auth::key::Scope;
use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{TestApp, invalid_field, invalid_value};

fn espresso(id: i64) -> Value {
    json!({"id": id, "timestamp": "2026-06-01T12:00:00.000000Z", "caffeine_mg": 95.0,
           "coffee_type": "espresso", "notes": "after lunch"})
}

const BODY: &str = r#"{"caffeine_mg": 95, "coffee_type": "espresso", "notes": "after lunch"}"#;

#[rocket::async_test]
async fn a_coffee_can_be_created_read_changed_and_deleted() {
    let app = TestApp::new().await;
    let created = app.request(Method::Post, "/coffee/").body(BODY).send().await.assert_json(201, espresso(1));
    assert_eq!(created.header("location"), "/coffee/1");
    app.get("/coffee/1").await.assert_json(200, espresso(1));
    app.get("/coffee/").await.assert_json(200, json!([espresso(1)]));
    let mut changed = espresso(1);
    changed["caffeine_mg"] = json!(80.5);
    changed["notes"] = Value::Null;
    app.put("/coffee/1", json!({"caffeine_mg": 80.5, "notes": null})).await.assert_json(200, changed.clone());
    changed["coffee_type"] = json!("flat white");
    changed["timestamp"] = json!("2026-05-31T22:00:00.000000Z");
    let patch = json!({"coffee_type": "flat white", "timestamp": "2026-06-01T00:00:00"});
    app.patch("/coffee/1", patch).await.assert_json(200, changed.clone());
    app.get("/coffee/1").await.assert_json(200, changed);
    app.delete("/coffee/1").await.assert_json(200, json!({"message": "Coffee log deleted", "id": 1}));
    app.get("/coffee/").await.assert_json(200, json!([]));
    // Ids are never reused: a client may still have the deleted one.
    app.request(Method::Post, "/coffee/").body(BODY).send().await.assert_json(201, espresso(2));
}

#[rocket::async_test]
async fn requests_for_an_unknown_id_return_404() {
    let app = TestApp::new().await;
    for method in [Method::Get, Method::Put, Method::Patch, Method::Delete] {
        let request = app.request(method, "/coffee/7").json(&json!({"caffeine_mg": 1}));
        request.send().await.assert_problem(404, "Coffee log not found");
    }
    app.get("/coffee/9223372036854775807").await.assert_problem(404, "Coffee log not found");
}

#[rocket::async_test]
async fn missing_trailing_and_repeated_slashes_do_not_matter() {
    let app = TestApp::new().await;
    for (id, path) in (1..).zip(["/coffee/", "/coffee", "//coffee", "//coffee///"]) {
        app.request(Method::Post, path).body(BODY).send().await.assert_json(201, espresso(id));
    }
    let all: Value = (1..=4).rev().map(espresso).collect();
    for path in ["/coffee/", "/coffee", "//coffee", "//coffee//", "/coffee/?limit=50", "/coffee?limit=50"] {
        app.get(path).await.assert_json(200, all.clone());
    }
    for path in ["/coffee/2", "/coffee/2/", "//coffee//2"] {
        app.get(path).await.assert_json(200, espresso(2));
    }
}

#[rocket::async_test]
async fn head_returns_the_headers_of_get_and_no_body() {
    let app = TestApp::new().await;
    app.request(Method::Post, "/coffee/").body(BODY).send().await.assert_json(201, espresso(1));
    for path in [
        "/coffee/",
        "/coffee/1",
        "/coffee/today",
        "/coffee/week",
        "/coffee/days",
        "/coffee/stats",
        "/coffee/types",
    ] {
        let (get, head) = (app.get(path).await, app.request(Method::Head, path).send().await);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.content_length, Some(get.body.len()), "{path}");
        let without_time = |mut headers: std::collections::BTreeMap<String, String>| {
            headers.remove("x-process-time");
            headers
        };
        assert_eq!(without_time(head.headers), without_time(get.headers), "{path}");
    }
}

#[rocket::async_test]
async fn options_and_rejected_methods_list_the_allowed_methods() {
    let app = TestApp::new().await;
    let read = "GET, HEAD, OPTIONS";
    for (path, allow, wrong) in [
        ("/coffee/", "POST, GET, HEAD, OPTIONS", [Method::Put, Method::Delete]),
        ("/coffee/1", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS", [Method::Post, Method::Trace]),
        // The path of an id has more methods, but a name takes precedence.
        ("/coffee/today", read, [Method::Put, Method::Delete]),
        ("/coffee/week", read, [Method::Post, Method::Patch]),
        ("/coffee/stats/", read, [Method::Post, Method::Delete]),
        ("/coffee/types", read, [Method::Put, Method::Patch]),
    ] {
        let names = |allow: &str| {
            let mut names: Vec<String> = allow.split(", ").map(str::to_owned).collect();
            names.sort();
            names
        };
        // Neither requires a key.
        let options = app.request(Method::Options, path).without_header("Authorization").send().await;
        assert_eq!((options.status, options.body.len()), (204, 0), "{path}");
        assert_eq!(names(options.header("allow")), names(allow), "{path}");
        for method in wrong {
            let response = app.request(method, path).without_header("Authorization").send().await;
            let detail = format!("Allowed methods: {}", response.header("allow"));
            assert_eq!(names(response.header("allow")), names(allow), "{method} {path}");
            response.assert_problem(405, &detail);
        }
    }
}

#[rocket::async_test]
async fn ids_are_positive_whole_numbers() {
    let app = TestApp::new().await;
    for (raw, shown) in [
        ("0", "0"),
        ("-1", "-1"),
        ("+1", "+1"),
        ("99999999999999999999", "99999999999999999999"),
        ("1.0", "1.0"),
        ("abc", "abc"),
        ("%00", "\0"),
        ("%2e%2e", ".."),
        ("1%20", "1 "),
        ("%D9%A1", "\u{661}"),
    ] {
        for method in [Method::Get, Method::Put, Method::Patch, Method::Delete] {
            let request = app.request(method, &format!("/coffee/{raw}")).json(&json!({"caffeine_mg": 1}));
            let error = invalid_value("path", "id", "must be a whole number of at least 1", shown);
            request.send().await.assert_invalid(&[error]);
        }
    }
}

#[rocket::async_test]
async fn null_means_missing_in_post_and_clears_optional_fields_in_put() {
    let app = TestApp::new().await;
    let nulls = json!({"caffeine_mg": 95, "coffee_type": null, "notes": null, "timestamp": null});
    let mut without_details = espresso(1);
    without_details["coffee_type"] = Value::Null;
    without_details["notes"] = Value::Null;
    app.post("/coffee/", nulls).await.assert_json(201, without_details.clone());
    app.post("/coffee/", json!({"caffeine_mg": null})).await.assert_invalid(&[invalid_value(
        "body",
        "caffeine_mg",
        "must be a number",
        Value::Null,
    )]);
    for method in [Method::Put, Method::Patch] {
        let request = |body: Value| app.request(method, "/coffee/1").json(&body).send();
        request(json!({"coffee_type": "x", "notes": "y"})).await;
        request(json!({"coffee_type": null, "notes": " "})).await.assert_json(200, without_details.clone());
        request(json!({"caffeine_mg": null, "timestamp": null})).await.assert_invalid(&[
            invalid_value("body", "caffeine_mg", "must be a number", Value::Null),
            invalid_value("body", "timestamp", "must be text", Value::Null),
        ]);
    }
    app.get("/coffee/1").await.assert_json(200, without_details);
}

#[rocket::async_test]
async fn a_change_requires_a_known_field_and_unknown_fields_are_ignored() {
    let app = TestApp::new().await;
    app.request(Method::Post, "/coffee/").body(BODY).send().await.assert_json(201, espresso(1));
    for body in [json!({}), json!({"sugar": 3, "id": 9})] {
        let message = "must have at least one of caffeine_mg, coffee_type, notes, timestamp";
        app.put("/coffee/1", body.clone()).await.assert_invalid(&[invalid_field("body", "body", message)]);
        app.patch("/coffee/1", body).await.assert_invalid(&[invalid_field("body", "body", message)]);
    }
    let body =
        json!({"caffeine_mg": 95, "coffee_type": "espresso", "notes": "after lunch", "id": 77, "x": [1]});
    app.put("/coffee/1", body.clone()).await.assert_json(200, espresso(1));
    app.post("/coffee/", body).await.assert_json(201, espresso(2));
}

#[rocket::async_test]
async fn the_maximum_dose_is_configurable() {
    let app = TestApp::with_flags(&[("max-caffeine-mg", "250")]).await;
    assert_eq!(app.post("/coffee/", json!({"caffeine_mg": 250})).await.status, 201);
    app.post("/coffee/", json!({"caffeine_mg": 250.01})).await.assert_invalid(&[invalid_value(
        "body",
        "caffeine_mg",
        "must be between 0 and 250",
        250.01,
    )]);
    app.put("/coffee/1", json!({"caffeine_mg": 251})).await.assert_invalid(&[invalid_value(
        "body",
        "caffeine_mg",
        "must be between 0 and 250",
        251,
    )]);
}

#[rocket::async_test]
async fn a_type_is_renamed_in_every_spelling_and_back() {
    let app = TestApp::new().await;
    for (hour, name) in [(8, "Latte"), (9, "latte"), (10, "mocha"), (11, "latte"), (12, "oat latte")] {
        app.add_coffee(&format!("2026-05-01T{hour:02}:00:00Z"), 60.0, Some(name)).await;
    }
    app.add_coffee("2026-05-01T13:00:00Z", 60.0, None).await;
    let types = async || {
        let all = app.get("/coffee/").await.json();
        all.as_array().unwrap().iter().map(|coffee| coffee["coffee_type"].clone()).collect::<Vec<_>>()
    };
    let before = types().await;
    let answer = app.post("/coffee/rename", json!({"from": " LATTE", "to": "mocha ", "unknown": 1})).await;
    let former = json!({"renamed": 3, "former_types": {"Latte": [1], "latte": [2, 4]}});
    answer.assert_json(200, former);
    assert_eq!(
        types().await,
        json!([null, "oat latte", "mocha", "mocha", "mocha", "mocha"]).as_array().unwrap().clone()
    );
    let renamed = async |body| app.post("/coffee/rename", body).await.json()["renamed"].clone();
    assert_eq!(renamed(json!({"from": "latte", "to": "mocha"})).await, 0);
    assert_eq!(renamed(json!({"from": "mocha", "to": "Latte", "ids": [1.0, 99]})).await, 1);
    assert_eq!(renamed(json!({"from": "mocha", "to": "latte", "ids": [2, 4, 5]})).await, 2);
    assert_eq!(types().await, before);
    // One spelling for all, in place of several.
    assert_eq!(renamed(json!({"from": "latte", "to": "LATTE"})).await, 3);
}

#[rocket::async_test]
async fn a_rename_needs_both_names_and_returns_only_a_number_without_the_scope_read() {
    let app = TestApp::new().await;
    app.add_coffee("2026-05-01T08:00:00Z", 60.0, Some("latte")).await;
    for body in [
        json!({"from": "latte"}),
        json!({"to": "mocha"}),
        json!({"from": "latte", "to": " "}),
        json!({"from": "latte", "to": 1}),
        json!({"from": "latte", "to": "x".repeat(101)}),
        json!({"from": "latte", "to": "mocha", "ids": "all"}),
        json!({"from": "latte", "to": "mocha", "ids": [1.5]}),
        json!({"from": "latte", "to": "mocha", "ids": [9_223_372_036_854_775_808_u64]}),
    ] {
        assert_eq!(app.post("/coffee/rename", body.clone()).await.status, 422, "{body}");
    }
    let key = app.add_key("scales", &[Scope::Write]);
    let body = json!({"from": "latte", "to": "mocha"});
    let answer = app.request(Method::Post, "/coffee/rename").key(&key).json(&body).send().await;
    answer.assert_json(200, json!({"renamed": 1}));
}
