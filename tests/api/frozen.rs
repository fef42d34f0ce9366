//! A person who is being moved to another machine: their data can be read, and not changed.

use coffee_tracker::auth::key::Scope;
use coffee_tracker::domain::person::PersonName;
use coffee_tracker::http::table;
use coffee_tracker::people::moving::{Release, freeze, release};
use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{Caller, TestApp, TestResponse};

const EVERYTHING: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Manage];
const DETAIL: &str = "This person is being moved to another machine: try again";

#[track_caller]
fn assert_frozen(response: &TestResponse) {
    assert_eq!((response.status, &response.json()["detail"]), (503, &json!(DETAIL)), "{}", response.text());
    assert_eq!(response.header("content-type"), "application/problem+json");
    assert_eq!(response.header("retry-after"), "2");
}

fn name(person: &Caller) -> PersonName {
    person.name.parse().unwrap()
}

fn freeze_person(app: &TestApp, person: &Caller) {
    freeze(&app.shared.settings.common, &name(person), app.clock.now()).unwrap();
}

fn release_person(app: &TestApp, person: &Caller) {
    assert!(release(&app.shared.settings.common, &name(person), Release::Finish).unwrap());
}

async fn add_coffee(app: &TestApp, person: &Caller) -> TestResponse {
    person.post(app, "/coffee/", &json!({"caffeine_mg": 80})).await
}

#[rocket::async_test]
async fn every_change_of_a_frozen_person_is_rejected_and_every_read_goes_on() {
    let app = TestApp::new().await;
    let (anna, ben) = (app.add_person("anna", &EVERYTHING), app.add_person("ben", &EVERYTHING));
    assert_eq!(add_coffee(&app, &anna).await.status, 201);
    freeze_person(&app, &anna);
    app.people.refresh_people();
    let (mut reads, mut changes) = (0, 0);
    for entry in table() {
        let (method, scope) = (entry.route.method, entry.access.scope());
        let path = entry
            .template
            .replace("<id>", "1")
            .replace("<name>", "first")
            .replace("<file>", "coffee_20260101_000000.db");
        let response = anna.request(&app, method, &path).send().await;
        match (scope, method) {
            (Some(Scope::Read), _) | (Some(Scope::Manage), Method::Get) => {
                reads += 1;
                assert!([200, 404, 422].contains(&response.status), "{method} {path}: {}", response.text());
            }
            (Some(Scope::Write | Scope::Manage), _) => {
                changes += 1;
                assert_frozen(&response);
            }
            _ => {}
        }
    }
    assert!(reads > 20 && changes > 20, "{reads} reads, {changes} changes");
    assert_eq!(anna.get(&app, "/coffee/today").await.json()["coffee_count"], 1);
    assert_eq!(add_coffee(&app, &ben).await.status, 201);
    assert_eq!(app.metric("people_frozen").await, 1.0);
    let person = app.get("/people/anna").await.json();
    assert_eq!(
        (&person["state"], &person["frozen_since"]),
        (&json!("ok"), &json!("2026-06-01T12:00:00.000000Z"))
    );
    assert_eq!(person["move"]["direction"], "leaving");
    // The owner changes nothing of hers either.
    for (method, path, body) in [
        (Method::Post, "/people/anna/keys", json!({"name": "phone"})),
        (Method::Delete, "/people/anna/keys/first", Value::Null),
    ] {
        assert_frozen(&app.request(method, path).json(&body).send().await);
    }
    for change in [json!({"name": "lisa"}), json!({"display_name": "Lisa"})] {
        let refused = app.request(Method::Patch, "/people/anna").json(&change).send().await;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.text().contains("is being moved to another machine"), "{}", refused.text());
    }

    release_person(&app, &anna);
    // At once, although the server has not looked for changes meanwhile.
    assert_eq!(add_coffee(&app, &anna).await.status, 201);
    assert_eq!(app.get("/people/anna").await.json()["move"], Value::Null);
    assert_eq!(app.metric("people_frozen").await, 0.0);
}

#[rocket::async_test]
async fn a_change_is_rejected_from_the_freeze_on_before_the_server_has_looked_for_it() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    assert_eq!(add_coffee(&app, &anna).await.status, 201);
    let started = anna.post(&app, "/pairings", &json!({"name": "tablet"})).await.json();
    freeze_person(&app, &anna);
    assert_frozen(&add_coffee(&app, &anna).await);
    assert_frozen(&anna.post(&app, "/heartrate/", &json!({"bpm": 70})).await);
    let push = json!({"timestamp": "2026-06-01T08:00:00Z", "app_version": "1",
        "heart_rate": [{"bpm": 61, "time": "2026-06-01T07:00:00Z"}]});
    assert_frozen(&anna.post(&app, "/ingest/hc-webhook", &push).await);
    assert_frozen(
        &anna.request(&app, Method::Patch, "/profile").json(&json!({"bedtime": "22:00"})).send().await,
    );
    assert_frozen(&anna.post(&app, "/keys", &json!({"name": "phone"})).await);
    assert_frozen(&anna.request(&app, Method::Delete, "/keys/first").send().await);
    // The pairing goes on after the move was undone.
    let pair = async || {
        app.request(Method::Post, "/pair")
            .without_header("Authorization")
            .json(&json!({"code": started["code"]}))
            .send()
            .await
    };
    assert_frozen(&pair().await);
    assert_eq!(anna.get(&app, "/coffee/today").await.json()["coffee_count"], 1);
    // Rejected changes are not errors of the database.
    let text = app.get("/metrics").await.text().to_owned();
    let errors = text.lines().filter(|line| line.starts_with("database_errors_total{"));
    assert!(errors.clone().count() > 0 && errors.clone().all(|line| line.ends_with(" 0")), "{text}");
    release_person(&app, &anna);
    assert_eq!(pair().await.status, 201);
    assert_eq!(add_coffee(&app, &anna).await.status, 201);
}
