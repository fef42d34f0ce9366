//! `/pairings` and `/pair`: a new device exchanges a code or six digits for a key.

use coffee_tracker::auth::key::Scope;
use coffee_tracker::fs::paths::with_suffix;
use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{TestApp, TestResponse, invalid_field, invalid_value};

const EVERYTHING: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Manage];
const UNKNOWN: &str = "This code is unknown, used or expired";
const NOT_FOUND: &str = "Pairing not found";

/// Starts a pairing with the owner's key.
async fn start(app: &TestApp, name: &str) -> Value {
    let response = app.post("/pairings", json!({"name": name})).await;
    assert_eq!(response.status, 201, "{}", response.text());
    response.json()
}

/// Presents a code or digits, without a key.
async fn pair(app: &TestApp, body: Value) -> TestResponse {
    app.request(Method::Post, "/pair").without_header("Authorization").json(&body).send().await
}

async fn by_code(app: &TestApp, pairing: &Value) -> TestResponse {
    pair(app, json!({"code": pairing["code"]})).await
}

async fn by_digits(app: &TestApp, pairing: &Value) -> TestResponse {
    pair(app, json!({"digits": pairing["digits"]})).await
}

/// State of a pairing of the owner.
async fn state(app: &TestApp, pairing: &Value) -> Value {
    app.get(&format!("/pairings/{}", pairing["id"].as_str().unwrap())).await.json()["state"].clone()
}

/// Digits that this pairing does not have.
fn wrong_digits(pairing: &Value) -> Value {
    json!({"digits": if pairing["digits"] == "000000" { "000001" } else { "000000" }})
}

#[rocket::async_test]
async fn a_code_becomes_a_key_of_the_person_once() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    let body = json!({"name": "tablet", "scopes": ["read"], "base_url": "http://192.168.1.5:8000/"});
    let response = anna.post(&app, "/pairings", &body).await;
    let started = response.json();
    let text = |field: &str| started[field].as_str().unwrap().to_owned();
    let (id, code, qr) = (text("id"), text("code"), text("qr_svg"));
    assert_eq!(response.header("location"), format!("/pairings/{id}"));
    assert_eq!((code.len(), text("digits").len()), (22, 6));
    assert!(
        qr.starts_with("<svg ") && qr.ends_with("</svg>") && qr.contains("#000000") && qr.contains("#ffffff")
    );
    let mut public = json!({"id": id, "name": "tablet", "scopes": ["read"],
        "expires_at": "2026-06-01T12:05:00.000000Z", "state": "waiting", "paired_at": null});
    let mut all = public.clone();
    all.as_object_mut().unwrap().extend([
        ("code".to_owned(), json!(code)),
        ("digits".to_owned(), json!(text("digits"))),
        ("url".to_owned(), json!(format!("http://192.168.1.5:8000/#pair={code}"))),
        ("qr_svg".to_owned(), json!(qr)),
    ]);
    response.assert_json(201, all);
    let path = format!("/pairings/{id}");
    anna.get(&app, &path).await.assert_json(200, public.clone());

    app.advance_clock(60);
    let paired = by_code(&app, &started).await;
    let key = paired.json()["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("ct_"), "{key}");
    let person = json!({"name": "anna", "display_name": null});
    paired.assert_json(201, json!({"key": key, "name": "tablet", "scopes": ["read"], "person": person}));
    assert_eq!(app.request(Method::Get, "/coffee/").key(&key).send().await.status, 200);
    let me = app.request(Method::Get, "/me").key(&key).send().await.json();
    assert_eq!((&me["person"]["name"], &me["key"]["name"]), (&json!("anna"), &json!("tablet")));
    public["state"] = json!("paired");
    public["paired_at"] = json!("2026-06-01T12:01:00.000000Z");
    anna.get(&app, &path).await.assert_json(200, public);

    by_code(&app, &started).await.assert_problem(404, UNKNOWN);
    by_digits(&app, &started).await.assert_problem(404, UNKNOWN);
    app.advance_clock(3540);
    anna.get(&app, &path).await.assert_problem(404, NOT_FOUND);
}

#[rocket::async_test]
async fn digits_may_contain_spaces_and_no_link_is_needed() {
    let app = TestApp::new().await;
    let started = start(&app, "phone").await;
    assert_eq!((&started["url"], &started["qr_svg"]), (&Value::Null, &Value::Null));
    let (head, tail) = started["digits"].as_str().unwrap().split_at(3);
    let paired = pair(&app, json!({"digits": format!(" {head} {tail} ")})).await;
    assert_eq!((paired.status, &paired.json()["scopes"]), (201, &json!(["read", "write"])));
    assert_eq!(app.get("/keys").await.json()["keys"][0]["name"], "phone");
}

#[rocket::async_test]
async fn a_pairing_expires_after_5_minutes() {
    let app = TestApp::new().await;
    let started = start(&app, "phone").await;
    app.advance_clock(300);
    assert_eq!(state(&app, &started).await, "expired");
    by_code(&app, &started).await.assert_problem(404, UNKNOWN);
    by_digits(&app, &started).await.assert_problem(404, UNKNOWN);
    assert_eq!(app.get("/keys").await.json(), json!({"keys": []}));
}

#[rocket::async_test]
async fn five_wrong_digits_end_the_digits_but_not_the_code() {
    let app = TestApp::new().await;
    let started = start(&app, "phone").await;
    for _ in 0..4 {
        pair(&app, wrong_digits(&started)).await.assert_problem(404, UNKNOWN);
    }
    // Neither a malformed request nor a wrong code counts.
    assert_eq!(pair(&app, json!({"digits": "12345"})).await.status, 422);
    pair(&app, json!({"code": "wrong"})).await.assert_problem(404, UNKNOWN);
    let other = start(&app, "watch").await;
    assert_eq!(by_digits(&app, &other).await.status, 201);
    pair(&app, wrong_digits(&started)).await.assert_problem(404, UNKNOWN);
    by_digits(&app, &started).await.assert_problem(404, UNKNOWN);
    assert_eq!(by_code(&app, &started).await.status, 201);
}

#[rocket::async_test]
async fn a_pairing_can_be_ended() {
    let app = TestApp::new().await;
    let started = start(&app, "phone").await;
    let path = format!("/pairings/{}", started["id"].as_str().unwrap());
    app.delete(&path).await.assert_json(200, json!({"message": "Pairing ended", "id": started["id"]}));
    app.delete(&path).await.assert_problem(404, NOT_FOUND);
    app.get(&path).await.assert_problem(404, NOT_FOUND);
    by_code(&app, &started).await.assert_problem(404, UNKNOWN);
}

#[rocket::async_test]
async fn the_sixth_waiting_pairing_ends_the_oldest() {
    let app = TestApp::new().await;
    let oldest = start(&app, "phone-0").await;
    for n in 1..6 {
        start(&app, &format!("phone-{n}")).await;
    }
    assert_eq!(state(&app, &oldest).await, "expired");
    by_code(&app, &oldest).await.assert_problem(404, UNKNOWN);
}

#[rocket::async_test]
async fn a_name_that_is_taken_meanwhile_is_a_conflict_and_the_pairing_continues() {
    let app = TestApp::new().await;
    let taken = "A key named phone exists already: choose another name";
    let started = start(&app, "phone").await;
    app.add_key("phone", &[Scope::Read]);
    app.post("/pairings", json!({"name": "phone"})).await.assert_problem(409, taken);
    by_code(&app, &started).await.assert_problem(409, taken);
    assert_eq!(state(&app, &started).await, "waiting");
    app.delete("/keys/phone").await;
    assert_eq!(by_code(&app, &started).await.status, 201);
}

#[rocket::async_test]
async fn a_key_file_that_cannot_be_written_leaves_the_pairing_waiting() {
    let app = TestApp::new().await;
    let started = start(&app, "phone").await;
    let lock = with_suffix(app.database(), ".keys.lock");
    std::fs::create_dir(&lock).unwrap();
    assert_eq!(by_code(&app, &started).await.status, 503);
    std::fs::remove_dir(&lock).unwrap();
    assert_eq!(state(&app, &started).await, "waiting");
    assert_eq!(by_code(&app, &started).await.status, 201);
}

#[rocket::async_test]
async fn people_see_and_end_their_own_pairings_alone() {
    let app = TestApp::new().await;
    let (anna, ben) = (app.add_person("anna", &EVERYTHING), app.add_person("ben", &EVERYTHING));
    let started = anna.post(&app, "/pairings", &json!({"name": "phone"})).await.json();
    let path = format!("/pairings/{}", started["id"].as_str().unwrap());
    for method in [Method::Get, Method::Delete] {
        ben.request(&app, method, &path).send().await.assert_problem(404, NOT_FOUND);
        app.request(method, &path).send().await.assert_problem(404, NOT_FOUND);
    }
    let paired = by_code(&app, &started).await;
    assert_eq!((paired.status, &paired.json()["person"]["name"]), (201, &json!("anna")));
}

#[rocket::async_test]
async fn the_pairings_of_a_person_end_when_the_person_is_removed() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    let started = anna.post(&app, "/pairings", &json!({"name": "phone"})).await.json();
    std::fs::remove_dir_all(app.database_of("anna").parent().unwrap()).unwrap();
    app.people.refresh_people();
    app.add_person("anna", &EVERYTHING);
    by_code(&app, &started).await.assert_problem(404, UNKNOWN);
}

#[rocket::async_test]
async fn invalid_fields_are_reported_and_secrets_are_not_repeated() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    let form = "must be an address such as http://192.168.1.5:8000";
    for url in [
        "",
        "192.168.1.5:8000",
        "ftp://192.168.1.5",
        "http://",
        "http://host/path",
        "http://host?x",
        "http://host#x",
        "http://me@host",
        "http://host:",
        "http://host:0",
        "http://host:65536",
        "http://[::1",
        "http://[A4f4e]",
    ] {
        let response = app.post("/pairings", json!({"name": "phone", "base_url": url})).await;
        response.assert_invalid(&[invalid_value("body", "base_url", form, url)]);
    }
    for url in ["https://coffee.example", "http://[fe80::1]", "http://[::1]:65535/", "http://pi.local:80"] {
        let started = app.post("/pairings", json!({"name": "phone", "base_url": url})).await.json();
        let code = started["code"].as_str().unwrap();
        assert_eq!(started["url"], format!("{}/#pair={code}", url.trim_end_matches('/')));
    }
    let metrics = json!({"name": "phone", "scopes": ["metrics"]});
    anna.post(&app, "/pairings", &metrics).await.assert_invalid(&[invalid_field(
        "body",
        "scopes",
        "must not have metrics, which are about everyone: only a key of the owner can",
    )]);
    for (body, field, message) in [
        (json!({}), "body", "must have code or digits"),
        (json!({"code": null}), "body", "must have code or digits"),
        (json!({"digits": "12 34 5"}), "digits", "must be six digits"),
        (json!({"digits": 482_913}), "digits", "must be text"),
        (json!({"code": "not a code"}), "code", "must be the code of a pairing"),
    ] {
        pair(&app, body).await.assert_invalid(&[invalid_field("body", field, message)]);
    }
}
