//! `/people` and `/check`: what the owner does in the browser.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::time::Duration;

use coffee_tracker::auth::key::Scope;
use coffee_tracker::domain::time::{DAY, HOUR};
use coffee_tracker::http::table;
use rocket::http::Method;
use rocket::tokio;
use serde_json::{Value, json};

use super::helpers::{TestApp, TestResponse, at, invalid_field, invalid_value};

/// Waits for `work` while the databases that commands request are closed, as a server does once a second.
async fn following<T>(app: &TestApp, work: impl Future<Output = T>) -> T {
    let follow = async {
        loop {
            app.people.refresh_people();
            app.people.refresh_databases().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = follow => unreachable!(),
    }
}

#[rocket::async_test]
async fn a_person_is_added_renamed_removed_and_brought_back() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T08:00:00Z", 95.0, None).await;
    let added = app.post("/people", json!({"name": "anna", "display_name": "Anna"})).await;
    assert_eq!((added.status, added.header("location")), (201, "/people/anna"), "{}", added.text());
    let key = added.json()["key"]["key"].as_str().unwrap().to_owned();
    let anna = json!({"name": "anna", "display_name": "Anna", "is_owner": false, "newest_entry_at": null, "keys": 1,
        "state": "ok", "problem": null, "frozen_since": null, "move": null, "backup": {"success_at": null, "error": null}});
    let first_key = json!({"name": "first", "scopes": ["read", "write", "manage"], "key": key});
    added.assert_json(201, json!({"person": anna, "key": first_key}));
    let me = app.request(Method::Get, "/me").key(&key).send().await.json();
    assert_eq!(me["person"], json!({"name": "anna", "display_name": "Anna"}));
    let coffee =
        app.request(Method::Post, "/coffee/").key(&key).json(&json!({"caffeine_mg": 80})).send().await;
    assert_eq!(coffee.status, 201, "{}", coffee.text());

    let taken = app.post("/people", json!({"name": "anna"})).await;
    taken.assert_problem(409, "There is a person named anna already: choose another name");
    app.post("/people", json!({"name": "Anna B"})).await.assert_invalid(&[invalid_value(
        "body",
        "name",
        "must have 1 to 32 lower-case letters, digits or hyphens, and start with a letter or digit",
        "Anna B",
    )]);
    // It must not become an option of the command that adds a person.
    assert_eq!(app.post("/people", json!({"name": "-anna"})).await.status, 422);

    let renamed =
        following(&app, app.patch("/people/anna", json!({"name": "anne", "display_name": null}))).await;
    assert_eq!(renamed.status, 200, "{}", renamed.text());
    assert_eq!((&renamed.json()["name"], &renamed.json()["display_name"]), (&json!("anne"), &Value::Null));
    assert_eq!(app.get("/people/anna").await.status, 404);
    let coffees = app.request(Method::Get, "/coffee/").key(&key).send().await;
    assert_eq!(coffees.json().as_array().unwrap().len(), 1);
    app.patch("/people/owner", json!({"name": "boss"}))
        .await
        .assert_problem(409, "The name of the owner is fixed");
    let shown = app.patch("/people/owner", json!({"display_name": "Olga"})).await.json();
    assert_eq!((&shown["name"], &shown["display_name"]), (&json!("owner"), &json!("Olga")));

    app.delete("/people/owner").await.assert_problem(409, "The owner cannot be removed");
    let accepted = app.delete("/people/anne").await;
    let job = following(&app, app.finished(accepted)).await;
    assert_eq!((&job["kind"], &job["state"]), (&json!("remove-person"), &json!("succeeded")), "{job}");
    let folder = job["result"]["folder"].as_str().unwrap().to_owned();
    assert!(job["result"]["backup"].as_str().unwrap().starts_with("coffee_"), "{job}");
    assert_eq!(app.request(Method::Get, "/me").key(&key).send().await.status, 401);
    let list = app.get("/people").await.json();
    assert_eq!(list["people"].as_array().unwrap().len(), 1);
    assert_eq!(list["removed"][0]["folder"], folder.as_str());
    assert_eq!(list["removed"][0]["name"], "anne");

    let back = app.post("/people", json!({"removed": folder})).await;
    assert_eq!((back.status, back.json().get("key")), (201, None), "{}", back.text());
    assert_eq!(back.json()["person"]["name"], "anne");
    let coffees = app.request(Method::Get, "/coffee/").key(&key).send().await;
    assert_eq!(coffees.json().as_array().unwrap().len(), 1);
    let gone = app.post("/people", json!({"removed": folder, "name": "dora"})).await;
    gone.assert_problem(404, "There is no such folder of a removed person");
}

/// Runs the server for a day, whose tasks run once a second.
fn pass_a_day(app: &TestApp) {
    app.advance_clock(86_400);
    app.people.refresh_people();
}

#[rocket::async_test]
async fn a_removed_person_is_deleted_after_30_days_and_the_last_backup_is_kept() {
    let app = TestApp::new().await;
    for name in ["anna", "ben"] {
        assert_eq!(app.post("/people", json!({"name": name})).await.status, 201);
        let accepted = app.delete(&format!("/people/{name}")).await;
        let job = following(&app, app.finished(accepted)).await;
        assert_eq!(job["state"], "succeeded", "{job}");
    }
    let list = app.get("/people").await.json();
    let removed = list["removed"].as_array().unwrap().iter();
    let find = |name: &str| removed.clone().find(|removed| removed["name"] == name).unwrap();
    let removed_at = at(find("anna")["removed_at"].as_str().unwrap());
    let deletion_at = at(find("anna")["deletion_at"].as_str().unwrap());
    // The folder was last changed after the whole second in its name.
    assert!((removed_at.plus(30 * DAY)..removed_at.plus(31 * DAY)).contains(&deletion_at), "{deletion_at}");
    let back = app.post("/people", json!({"removed": find("ben")["folder"]})).await;
    assert_eq!(back.status, 201, "{}", back.text());
    // The folder has the time of the machine, and not that of the test.
    app.clock.set(removed_at.plus(HOUR));
    (0..30).for_each(|_| pass_a_day(&app));
    let list = app.get("/people").await.json();
    assert_eq!((list["removed"].as_array().unwrap().len(), &list["people"][1]["name"]), (1, &json!("ben")));
    pass_a_day(&app);
    let list = app.get("/people").await.json();
    assert_eq!((&list["removed"], &list["people"][1]["name"]), (&json!([]), &json!("ben")));
    let backups = app.shared.settings.common.of_person(&"anna".parse().unwrap()).backups;
    let kept = fs::read_dir(backups).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(kept.into_iter().any(|file| file.starts_with("coffee_") && file.ends_with(".db")));
}

#[rocket::async_test]
async fn a_path_with_a_trailing_slash_removes_nobody() {
    let app = TestApp::new().await;
    app.add_person("anna", &[Scope::Read]);
    // What clients send for `/people/anna/keys/..`.
    for path in ["/people/anna/", "/people//anna/", "/people/anna//"] {
        assert_eq!(app.delete(path).await.status, 404, "{path}");
        assert_eq!(app.get(path).await.status, 200, "{path}");
    }
}

#[rocket::async_test]
async fn removed_people_can_be_kept_forever() {
    let app = TestApp::with_flags(&[("removed-person-days", "0")]).await;
    let folder = "anna-20200101_000000";
    let path = app.shared.settings.common.removed_folder().join(folder);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("coffee.db"), "").unwrap();
    app.clock.set(at("2099-01-01T00:00:00Z"));
    (0..40).for_each(|_| pass_a_day(&app));
    let removed = json!([{"folder": folder, "name": "anna", "removed_at": "2020-01-01T00:00:00.000000Z",
        "deletion_at": null}]);
    assert_eq!(app.get("/people").await.json()["removed"], removed);
}

#[rocket::async_test]
async fn the_list_of_people_shows_who_cannot_be_served() {
    let app = TestApp::new().await;
    let added = app.post("/people", json!({"name": "anna"})).await.json();
    let key = added["key"]["key"].as_str().unwrap();
    let database = app.shared.settings.common.people_folder().join("anna/coffee.db");
    fs::write(&database, "flat white").unwrap();
    assert_eq!(app.request(Method::Get, "/coffee/").key(key).send().await.status, 503);
    let anna = app.get("/people/anna").await.json();
    assert_eq!(anna["state"], "unavailable");
    assert!(anna["problem"].as_str().unwrap().contains("is not a SQLite database"), "{anna}");
}

/// Names of the keys in a list.
fn names(list: &TestResponse) -> Vec<String> {
    let list = list.json();
    let keys = list["keys"].as_array().unwrap().iter();
    keys.map(|key| key["name"].as_str().unwrap().to_owned()).collect()
}

#[rocket::async_test]
async fn the_owner_lists_creates_and_revokes_the_keys_of_a_person() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &[Scope::Read, Scope::Manage]);
    let ben = app.add_person("ben", &[Scope::Read]);
    let created = app.post("/people/anna/keys", json!({"name": "phone", "scopes": ["write", "read"]})).await;
    assert_eq!((created.status, created.header("location")), (201, "/people/anna/keys/phone"));
    let key = created.json()["key"].as_str().unwrap().to_owned();
    let phone = json!({"name": "phone", "scopes": ["read", "write"], "created_at": "2026-06-01T12:00:00.000000Z",
        "last_used_at": null, "expires_at": null, "is_current": false, "key": key});
    created.assert_json(201, phone);
    let me = async |key: &str| app.request(Method::Get, "/me").key(key).send().await;
    assert_eq!(me(&key).await.json()["person"]["name"], "anna");
    let list = app.get("/people/anna/keys").await;
    assert!(!list.text().contains("ct_"), "{}", list.text());
    assert_eq!((list.status, names(&list)), (200, vec!["phone".to_owned(), "first".to_owned()]));
    assert_eq!(list.json()["keys"][0]["last_used_at"], "2026-06-01T12:00:00.000000Z");
    assert_eq!(app.get("/people/anna").await.json()["keys"], 2);
    assert_eq!(names(&app.get("/people/ben/keys").await), ["first"]);

    let taken = app.post("/people/anna/keys", json!({"name": "phone"})).await;
    taken.assert_problem(409, "A key named phone exists already: choose another name");
    let revoked = app.delete("/people/anna/keys/phone").await;
    revoked.assert_json(200, json!({"message": "Key revoked", "name": "phone"}));
    assert_eq!(
        (me(&key).await.status, me(&anna.key).await.status, me(&ben.key).await.status),
        (401, 200, 200)
    );
    app.delete("/people/anna/keys/phone").await.assert_problem(404, "Key not found");
    // Anna herself can undo it.
    let undone = anna.request(&app, Method::Post, "/keys/phone/undo-revoke").send().await;
    assert_eq!((undone.status, me(&key).await.status), (200, 200));
}

#[rocket::async_test]
async fn the_keys_of_the_owner_are_those_of_the_collection_of_keys() {
    let app = TestApp::new().await;
    let body = json!({"name": "prometheus", "scopes": ["metrics"]});
    let created = app.post("/people/owner/keys", body).await;
    assert_eq!((created.status, created.header("location")), (201, "/people/owner/keys/prometheus"));
    let key = created.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(app.request(Method::Get, "/metrics").key(&key).send().await.status, 200);
    assert_eq!(app.get("/people/owner/keys").await.json(), app.get("/keys").await.json());
    assert_eq!(app.delete("/people/owner/keys/prometheus").await.status, 200);
    assert_eq!(app.request(Method::Get, "/metrics").key(&key).send().await.status, 401);
}

#[rocket::async_test]
async fn a_person_gets_no_key_with_a_scope_of_the_owner() {
    let app = TestApp::new().await;
    app.add_person("anna", &[Scope::Read]);
    let create =
        async |path: &str, scopes: Value| app.post(path, json!({"name": "new", "scopes": scopes})).await;
    let message = "must not have metrics, which are about everyone: only a key of the owner can";
    let refused = create("/people/anna/keys", json!(["read", "metrics"])).await;
    refused.assert_invalid(&[invalid_field("body", "scopes", message)]);
    for path in ["/people/anna/keys", "/people/owner/keys"] {
        let refused = create(path, json!(["admin"])).await;
        let message = "must be read, write, metrics or manage";
        refused.assert_invalid(&[invalid_value("body", "scopes", message, "admin")]);
    }
    let dots = app.post("/people/anna/keys", json!({"name": ".."})).await;
    dots.assert_invalid(&[invalid_value("body", "name", "must not be `.` or `..`", "..")]);
    assert_eq!(names(&app.get("/people/anna/keys").await), ["first"]);
    let unnamed = app.delete("/people/anna/keys/my%20phone").await;
    let message = "must have 1 to 50 letters, digits, `-`, `_` or `.`";
    unnamed.assert_invalid(&[invalid_value("path", "key", message, "my phone")]);
}

#[rocket::async_test]
async fn an_unknown_person_has_no_keys() {
    let app = TestApp::new().await;
    for name in ["dora", "Anna", ".new-1"] {
        let path = format!("/people/{name}/keys");
        for response in [
            app.get(&path).await,
            app.post(&path, json!({"name": "phone"})).await,
            app.delete(&format!("{path}/phone")).await,
        ] {
            response.assert_problem(404, "Person not found");
        }
    }
}

#[rocket::async_test]
async fn a_member_reaches_no_route_of_the_owner() {
    let app = TestApp::new().await;
    let added = app.post("/people", json!({"name": "anna"})).await.json();
    let key = added["key"]["key"].as_str().unwrap();
    let named = app.add_key("laptop", &Scope::OF_NAMED_KEYS);
    let routes: BTreeSet<_> = table()
        .iter()
        .filter(|entry| entry.access.scope() == Some(Scope::Admin))
        .map(|entry| (entry.route.method.as_str(), entry.template))
        .collect();
    assert!(routes.len() >= 11, "{routes:?}");
    for (method, template) in routes {
        let path = template.replace("<name>", "owner").replace("<key>", "phone");
        for key in [key, named.as_str()] {
            let refused = app.request(method.parse().unwrap(), &path).key(key).json(&json!({})).send().await;
            refused.assert_problem(403, "This API key lacks the scope admin");
        }
    }
}

#[rocket::async_test]
async fn the_check_reports_its_findings_and_is_repeated_after_a_minute() {
    let app = TestApp::new().await;
    let first = app.get("/check").await;
    assert_eq!(first.status, 200, "{}", first.text());
    let findings = first.json()["findings"].as_array().unwrap().clone();
    let find = |about: &str| findings.iter().find(|finding| finding["about"] == about).unwrap().clone();
    assert_eq!(find("database")["state"], "ok");
    assert_eq!(find("backups")["state"], "must");
    assert_eq!(first.json()["checked_at"], "2026-06-01T12:00:00.000000Z");
    let bytes = |field: &str| first.json()["disk"][field].as_u64().unwrap();
    assert!(bytes("free_bytes") > 0 && bytes("free_bytes") <= bytes("size_bytes"), "{}", first.text());
    assert!(["ok", "low"].contains(&first.json()["disk"]["status"].as_str().unwrap()));
    app.advance_clock(30);
    assert_eq!(app.get("/check").await.json()["checked_at"], "2026-06-01T12:00:00.000000Z");
    app.advance_clock(31);
    assert_eq!(app.get("/check").await.json()["checked_at"], "2026-06-01T12:01:01.000000Z");
}
