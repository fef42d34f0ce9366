//! `/keys`: keys that people create, revoke, bring back and rotate over HTTP.

use coffee_tracker::auth::key::{KeyName, Scope};
use coffee_tracker::auth::key_file::KeyFile;
use coffee_tracker::fs::paths::with_suffix;
use coffee_tracker::people::folder::ClosingLock;
use rocket::http::Method;
use serde_json::{Value, json};

use super::helpers::{KEY, REQUEST_ID, TestApp, TestResponse, invalid_field, invalid_value};

const EVERYTHING: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Manage];
const START: &str = "2026-06-01T12:00:00.000000Z";
const UNAUTHORIZED: &str = "A valid API key is required: Authorization: Bearer KEY";

/// A key as `GET /keys` lists it, created at the start and never used.
fn unused_key(name: &str, scopes: &[&str]) -> Value {
    json!({"name": name, "scopes": scopes, "created_at": START, "last_used_at": null, "expires_at": null,
           "is_current": false})
}

fn with(mut key: Value, changes: &Value) -> Value {
    key.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    key
}

/// Text of the key in a response.
fn text_of(response: &TestResponse) -> String {
    response.json()["key"].as_str().unwrap().to_owned()
}

/// Creates a key with the owner's key.
async fn create(app: &TestApp, body: Value) -> String {
    let response = app.post("/keys", body).await;
    assert_eq!(response.status, 201, "{}", response.text());
    text_of(&response)
}

async fn status_of(app: &TestApp, key: &str) -> u16 {
    app.request(Method::Get, "/coffee/").key(key).send().await.status
}

async fn listed(app: &TestApp) -> Vec<Value> {
    app.get("/keys").await.json()["keys"].as_array().unwrap().clone()
}

#[rocket::async_test]
async fn a_new_key_works_with_the_response_that_alone_contains_it() {
    let app = TestApp::new().await;
    let response = app.post("/keys", json!({"name": "phone"})).await;
    assert_eq!(response.header("location"), "/keys/phone");
    let key = text_of(&response);
    assert!(key.starts_with("ct_") && key.len() == 67, "{key}");
    response.assert_json(201, with(unused_key("phone", &["read", "write"]), &json!({"key": key})));
    assert_eq!(status_of(&app, &key).await, 200);
    let list = app.get("/keys").await;
    assert!(!list.text().contains("ct_"), "{}", list.text());
    list.assert_json(
        200,
        json!({"keys": [with(unused_key("phone", &["read", "write"]), &json!({"last_used_at": START}))]}),
    );
}

#[rocket::async_test]
async fn a_key_has_the_scopes_and_the_expiry_of_the_request() {
    let app = TestApp::new().await;
    let body =
        json!({"name": "guest", "scopes": ["metrics", "read"], "expires_at": "2026-06-01T16:00:00+02:00"});
    let response = app.post("/keys/", body).await;
    let key = text_of(&response);
    let expected = json!({"expires_at": "2026-06-01T14:00:00.000000Z", "key": key});
    response.assert_json(201, with(unused_key("guest", &["read", "metrics"]), &expected));
    app.advance_clock(7199);
    assert_eq!(status_of(&app, &key).await, 200);
    app.advance_clock(1);
    assert_eq!(status_of(&app, &key).await, 401);
    app.get("/keys").await.assert_json(200, json!({"keys": []}));
}

#[rocket::async_test]
async fn keys_are_listed_newest_first_and_the_current_one_is_marked() {
    let app = TestApp::new().await;
    let phone = app.add_key("phone", &EVERYTHING);
    app.advance_clock(60);
    create(&app, json!({"name": "watch", "scopes": ["write"], "expires_at": null})).await;
    create(&app, json!({"name": "tablet", "scopes": ["read"]})).await;
    let at = json!({"created_at": "2026-06-01T12:01:00.000000Z"});
    let phone_now = json!({"last_used_at": "2026-06-01T12:01:00.000000Z", "is_current": true});
    app.request(Method::Get, "/keys").key(&phone).send().await.assert_json(
        200,
        json!({"keys": [
            with(unused_key("tablet", &["read"]), &at),
            with(unused_key("watch", &["write"]), &at),
            with(unused_key("phone", &["read", "write", "manage"]), &phone_now),
        ]}),
    );
}

#[rocket::async_test]
async fn every_invalid_field_of_a_new_key_is_reported() {
    let app = TestApp::new().await;
    let form = "must have 1 to 50 letters, digits, `-`, `_` or `.`";
    let scopes = "must be read, write, metrics or manage";
    app.post(
        "/keys",
        json!({"name": "my phone", "scopes": ["admin", "read", "fly"], "expires_at": "2026-06-01T12:00:00Z"}),
    )
    .await
    .assert_invalid(&[
        invalid_value("body", "name", form, "my phone"),
        invalid_value("body", "scopes", scopes, "admin"),
        invalid_value("body", "scopes", scopes, "fly"),
        invalid_value("body", "expires_at", "must be in the future", "2026-06-01T12:00:00Z"),
    ]);
    let missing = app.post("/keys", json!({"scopes": []})).await;
    missing.assert_invalid(&[
        invalid_field("body", "name", "is required"),
        invalid_field("body", "scopes", "must have at least one scope"),
    ]);
    let time = "must be a date and time such as 2025-07-23T14:30:00Z";
    let soon = app.post("/keys", json!({"name": "phone", "expires_at": "soon"})).await;
    soon.assert_invalid(&[invalid_value("body", "expires_at", time, "soon")]);
    for path in ["/keys", "/pairings"] {
        for name in [".", ".."] {
            let dots = invalid_value("body", "name", "must not be `.` or `..`", name);
            app.post(path, json!({"name": name})).await.assert_invalid(&[dots]);
        }
    }
    let path = app.delete("/keys/my%20phone").await;
    path.assert_invalid(&[invalid_value("path", "name", form, "my phone")]);
    assert_eq!(listed(&app).await, [] as [Value; 0]);
}

#[rocket::async_test]
async fn a_taken_name_and_more_than_100_keys_are_conflicts() {
    let app = TestApp::new().await;
    create(&app, json!({"name": "key-0"})).await;
    let again = app.post("/keys", json!({"name": "key-0"})).await;
    again.assert_problem(409, "A key named key-0 exists already: choose another name");
    for n in 1..100 {
        create(&app, json!({"name": format!("key-{n}")})).await;
    }
    let more = app.post("/keys", json!({"name": "more"})).await;
    more.assert_problem(409, "There are 100 keys, which is the maximum: revoke one first");
    assert_eq!(listed(&app).await.len(), 100);
}

#[rocket::async_test]
async fn a_revoked_key_fails_with_the_response_and_works_again_after_undo() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    let request = |method, path: &str| anna.request(&app, method, path).send();
    let body = json!({"name": "phone", "scopes": ["read"]});
    let phone = text_of(&anna.post(&app, "/keys", &body).await);
    assert_eq!(status_of(&app, &phone).await, 200);
    let revoked = json!({"message": "Key revoked", "name": "phone"});
    request(Method::Delete, "/keys/phone").await.assert_json(200, revoked);
    let refused = app.request(Method::Get, "/coffee/").key(&phone).send().await;
    refused.assert_problem(401, UNAUTHORIZED);
    request(Method::Delete, "/keys/phone").await.assert_problem(404, "Key not found");
    app.advance_clock(599);
    // The time of its last use is not kept for a key that is revoked.
    let restored = request(Method::Post, "/keys/phone/undo-revoke").await;
    restored.assert_json(200, unused_key("phone", &["read"]));
    assert_eq!(status_of(&app, &phone).await, 200);
    let repeated = request(Method::Post, "/keys/phone/undo-revoke").await;
    repeated.assert_problem(404, "No key with this name was revoked in the last 10 minutes");
}

#[rocket::async_test]
async fn a_revocation_can_be_undone_for_10_minutes_unless_the_name_is_taken() {
    let app = TestApp::new().await;
    let undo = || app.request(Method::Post, "/keys/phone/undo-revoke").send();
    let gone = "No key with this name was revoked in the last 10 minutes";
    undo().await.assert_problem(404, gone);
    let first = create(&app, json!({"name": "phone"})).await;
    undo().await.assert_problem(404, gone);
    app.delete("/keys/phone").await;
    let second = create(&app, json!({"name": "phone"})).await;
    undo().await.assert_problem(409, "A key named phone exists already: choose another name");
    assert_eq!((status_of(&app, &first).await, status_of(&app, &second).await), (401, 200));
    app.advance_clock(600);
    app.delete("/keys/phone").await;
    app.advance_clock(600);
    undo().await.assert_problem(404, gone);
    assert_eq!((status_of(&app, &first).await, status_of(&app, &second).await), (401, 401));
    // A command revokes for good.
    create(&app, json!({"name": "phone"})).await;
    KeyFile::of(app.database()).revoke(&KeyName::parse("phone").unwrap(), app.clock.now()).unwrap();
    app.people.refresh_people();
    undo().await.assert_problem(404, gone);
}

#[rocket::async_test]
async fn a_key_that_has_expired_since_its_revocation_stays_revoked() {
    let app = TestApp::new().await;
    let key = create(&app, json!({"name": "guest", "expires_at": "2026-06-01T12:01:00Z"})).await;
    app.delete("/keys/guest").await;
    app.advance_clock(60);
    app.request(Method::Post, "/keys/guest/undo-revoke")
        .send()
        .await
        .assert_problem(404, "No key with this name was revoked in the last 10 minutes");
    assert_eq!(status_of(&app, &key).await, 401);
}

#[rocket::async_test]
async fn a_rotated_key_expires_after_its_grace_period() {
    let app = TestApp::new().await;
    let first = create(&app, json!({"name": "phone", "scopes": ["read"]})).await;
    app.advance_clock(60);
    let rotate = |body: &str| app.request(Method::Post, "/keys/phone/rotate").body(body).send();
    let response = rotate(r#"{"grace_hours": 0.5}"#).await;
    let second = text_of(&response);
    let old_end = "2026-06-01T12:31:00.000000Z";
    let new = with(unused_key("phone", &["read"]), &json!({"created_at": "2026-06-01T12:01:00.000000Z"}));
    response.assert_json(200, with(new.clone(), &json!({"key": second, "old_key_expires_at": old_end})));
    let old = with(unused_key("phone", &["read"]), &json!({"expires_at": old_end}));
    assert_eq!(listed(&app).await, [new, old]);
    app.advance_clock(1799);
    assert_eq!((status_of(&app, &first).await, status_of(&app, &second).await), (200, 200));
    app.advance_clock(1);
    assert_eq!((status_of(&app, &first).await, status_of(&app, &second).await), (401, 200));
    // Without a body: 24 hours.
    let third = rotate("").await;
    assert_eq!(third.json()["old_key_expires_at"], "2026-06-02T12:31:00.000000Z");
    assert_eq!((status_of(&app, &second).await, status_of(&app, &text_of(&third)).await), (200, 200));
    let fourth = rotate(r#"{"grace_hours": 0}"#).await;
    assert_eq!(fourth.json()["old_key_expires_at"], "2026-06-01T12:31:00.000000Z");
    for (key, status) in [(&second, 401), (&text_of(&third), 401), (&text_of(&fourth), 200)] {
        assert_eq!(status_of(&app, key).await, status);
    }
}

#[rocket::async_test]
async fn a_rotation_keeps_the_expiry_of_the_key() {
    let app = TestApp::new().await;
    let end = "2026-06-01T13:00:00.000000Z";
    create(&app, json!({"name": "guest", "expires_at": end})).await;
    let response = app.post("/keys/guest/rotate", json!({})).await;
    let key = text_of(&response);
    let expected = json!({"expires_at": end, "key": key, "old_key_expires_at": end});
    response.assert_json(200, with(unused_key("guest", &["read", "write"]), &expected));
}

#[rocket::async_test]
async fn revoking_a_rotated_key_and_undoing_it_concerns_both() {
    let app = TestApp::new().await;
    let first = create(&app, json!({"name": "phone"})).await;
    let second = text_of(&app.post("/keys/phone/rotate", json!({"grace_hours": 1})).await);
    app.delete("/keys/phone").await;
    assert_eq!((status_of(&app, &first).await, status_of(&app, &second).await), (401, 401));
    let restored = app.request(Method::Post, "/keys/phone/undo-revoke").send().await;
    restored.assert_json(200, unused_key("phone", &["read", "write"]));
    assert_eq!((status_of(&app, &first).await, status_of(&app, &second).await), (200, 200));
}

#[rocket::async_test]
async fn a_rotation_of_an_unknown_key_or_with_an_invalid_grace_period_changes_nothing() {
    let app = TestApp::new().await;
    create(&app, json!({"name": "phone"})).await;
    app.post("/keys/tablet/rotate", json!({})).await.assert_problem(404, "Key not found");
    for (grace, message) in [
        (json!(-1), "must be between 0 and 8784"),
        (json!(8785), "must be between 0 and 8784"),
        (json!("a day"), "must be a number"),
        (Value::Null, "must be a number"),
    ] {
        let response = app.post("/keys/phone/rotate", json!({"grace_hours": grace})).await;
        response.assert_invalid(&[invalid_value("body", "grace_hours", message, grace)]);
    }
    assert_eq!(listed(&app).await, [unused_key("phone", &["read", "write"])]);
}

#[rocket::async_test]
async fn people_manage_their_own_keys_alone() {
    let app = TestApp::new().await;
    let (anna, ben) = (app.add_person("anna", &EVERYTHING), app.add_person("ben", &EVERYTHING));
    let bens = text_of(&ben.post(&app, "/keys", &json!({"name": "tablet"})).await);
    for (method, path) in [
        (Method::Delete, "/keys/tablet"),
        (Method::Post, "/keys/tablet/rotate"),
        (Method::Post, "/keys/first/undo-revoke"),
    ] {
        for other in [&anna.key, KEY] {
            let response = app.request(method, path).key(other).send().await;
            assert_eq!(response.status, 404, "{method} {path}: {}", response.text());
        }
    }
    // The same name is free for somebody else.
    let annas = text_of(&anna.post(&app, "/keys", &json!({"name": "tablet"})).await);
    for (key, name) in [(&annas, "anna"), (&bens, "ben")] {
        let me = app.request(Method::Get, "/me").key(key).send().await.json();
        assert_eq!((&me["person"]["name"], &me["key"]["name"]), (&json!(name), &json!("tablet")));
    }
    anna.request(&app, Method::Delete, "/keys/tablet").send().await;
    assert_eq!((status_of(&app, &annas).await, status_of(&app, &bens).await), (401, 200));
    let names = |response: TestResponse| {
        let keys = response.json()["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(anna.get(&app, "/keys").await), ["first"]);
    assert_eq!(names(ben.get(&app, "/keys").await), ["tablet", "first"]);
    assert_eq!(names(app.get("/keys").await), [] as [String; 0]);
}

#[rocket::async_test]
async fn only_keys_of_the_owner_can_have_the_scope_metrics() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    let body = json!({"name": "prometheus", "scopes": ["metrics"]});
    anna.post(&app, "/keys", &body).await.assert_invalid(&[invalid_field(
        "body",
        "scopes",
        "must not have metrics, which are about everyone: only a key of the owner can",
    )]);
    let key = create(&app, body).await;
    assert_eq!(app.request(Method::Get, "/metrics").key(&key).send().await.status, 200);
}

/// Asserts a problem with status 503, which the server's own JSON has, too.
#[track_caller]
fn assert_unavailable(response: &TestResponse, detail: &str) {
    let problem = json!({"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": detail,
                         "request_id": REQUEST_ID});
    assert_eq!((response.status, response.json()), (503, problem));
    assert_eq!(
        (response.header("retry-after"), response.header("content-type")),
        ("2", "application/problem+json")
    );
}

#[rocket::async_test]
async fn a_key_file_that_cannot_be_changed_changes_nothing() {
    let app = TestApp::new().await;
    let phone = create(&app, json!({"name": "phone", "scopes": ["read"]})).await;
    let changes = || {
        [
            app.request(Method::Post, "/keys").json(&json!({"name": "watch"})),
            app.request(Method::Delete, "/keys/phone"),
            app.request(Method::Post, "/keys/phone/rotate"),
        ]
    };
    // A folder in place of the lock, because permissions do not stop a test that runs as root.
    let lock = with_suffix(app.database(), ".keys.lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    for change in changes() {
        let detail = "The keys cannot be written (disk full, quota, limit or fault)";
        assert_unavailable(&change.send().await, detail);
    }
    std::fs::remove_dir(&lock).unwrap();

    let lock = ClosingLock::acquire(app.database()).unwrap().unwrap();
    for change in changes() {
        let detail = "Another change of the keys is in progress: try again";
        assert_unavailable(&change.send().await, detail);
    }
    drop(lock);

    let file = KeyFile::of(app.database()).path().to_owned();
    let valid = std::fs::read(&file).unwrap();
    std::fs::write(&file, "{").unwrap();
    for change in changes() {
        let detail = "Internal error: the server's log has details under this request id";
        change.send().await.assert_problem(500, detail);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{");
    std::fs::write(&file, valid).unwrap();

    app.people.refresh_people();
    assert_eq!(status_of(&app, &phone).await, 200);
    let used = json!({"last_used_at": START});
    assert_eq!(listed(&app).await, [with(unused_key("phone", &["read"]), &used)]);
    assert_eq!(create(&app, json!({"name": "watch"})).await.len(), 67);
}

#[rocket::async_test]
async fn a_person_whom_a_proxy_signs_in_manages_keys_from_pages_of_the_server_alone() {
    let flags = [("trusted-proxies", "10.0.0.0/8"), ("auth-proxy-header", "Remote-User")];
    let app = TestApp::with_flags(&flags).await;
    app.add_person("anna", &EVERYTHING);
    let request = |method, path: &str| {
        let request = app.request(method, path).without_header("Authorization");
        request
            .header("Remote-User", "anna")
            .header("X-Forwarded-For", "192.168.1.20")
            .remote("10.0.0.1:5000")
    };
    let listed = json!({"keys": [unused_key("first", &["read", "write", "manage"])]});
    request(Method::Get, "/keys").send().await.assert_json(200, listed);
    let post = || request(Method::Post, "/keys").json(&json!({"name": "phone"}));
    post()
        .send()
        .await
        .assert_problem(403, "Changes are accepted only from pages of this server: use an API key");
    assert_eq!(post().header("Sec-Fetch-Site", "same-origin").send().await.status, 201);
}
