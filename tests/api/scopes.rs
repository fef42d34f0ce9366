//! Named keys: scopes, revocation, rotation, the key file and the time of last use.

use coffee_tracker::auth::key::{KeyName, Scope, Scopes};
use coffee_tracker::auth::key_file::KeyFile;
use coffee_tracker::http::table;
use rocket::http::Method;
use serde_json::json;

use super::helpers::{KEY, TestApp, TestResponse};

const DAY: i64 = 86_400_000_000;

fn key_file(app: &TestApp) -> KeyFile {
    KeyFile::of(app.database())
}

fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

/// Status of a request that requires the scope `read`.
async fn read_status(app: &TestApp, key: &str) -> u16 {
    app.request(Method::Get, "/coffee/").key(key).send().await.status
}

#[track_caller]
fn assert_forbidden(response: TestResponse, scope: Scope) {
    let challenge = format!(r#"Bearer error="insufficient_scope", scope="{}""#, scope.name());
    assert_eq!(response.header("www-authenticate"), challenge);
    response.assert_problem(403, &format!("This API key lacks the scope {}", scope.name()));
}

#[rocket::async_test]
async fn every_route_accepts_only_the_scope_in_the_route_table() {
    let app = TestApp::new().await;
    let mut checked = 0;
    for only in Scope::ALL {
        let without: Vec<Scope> = Scope::OF_NAMED_KEYS.into_iter().filter(|scope| *scope != only).collect();
        let with = match only {
            Scope::Admin => KEY.to_owned(),
            only => app.add_key(&format!("with-{}", only.name()), &[only]),
        };
        let without = app.add_key(&format!("without-{}", only.name()), &without);
        for entry in table().iter().filter(|entry| entry.access.scope() == Some(only)) {
            let path = entry.template.replace("<id>", "1").replace("<name>", "phone");
            let path = path.replace("<file>", "coffee_20260101_000000.db").replace("<key>", "phone");
            let request = |key| app.request(entry.route.method, &path).key(key).send();
            assert_forbidden(request(&without).await, only);
            let status = request(&with).await.status;
            assert!(![401, 403, 405].contains(&status), "{} {path}: {status}", entry.route.method);
            checked += 1;
        }
    }
    assert_eq!(checked, table().iter().filter(|entry| entry.access.scope().is_some()).count());
}

#[rocket::async_test]
async fn me_returns_the_name_and_the_scopes_of_any_key() {
    let app = TestApp::new().await;
    let scales = app.add_key("scales", &[Scope::Metrics]);
    let server = json!({"version": env!("CARGO_PKG_VERSION"), "timezone": "Europe/Berlin"});
    let person = json!({"name": "owner", "display_name": null});
    let me = |key| app.request(Method::Get, "/me").key(key).send();
    assert_eq!(
        me(&scales).await.json(),
        json!({"person": person, "server": server,
               "key": {"name": "scales", "scopes": ["metrics"], "created_at": "2026-06-01T12:00:00.000000Z",
                       "last_used_at": "2026-06-01T12:00:00.000000Z"}})
    );
    let owner = json!({"person": person, "server": server,
        "key": {"name": "owner", "scopes": ["read", "write", "metrics", "manage", "admin"], "created_at": null,
                "last_used_at": null}});
    assert_eq!(app.get("/me").await.json(), owner);
    assert_eq!(me("the-wrong-key-of-this-test").await.status, 401);
}

#[rocket::async_test]
async fn head_requires_the_read_scope_and_public_pages_none() {
    let app = TestApp::new().await;
    let (reader, writer) = (app.add_key("reader", &[Scope::Read]), app.add_key("writer", &[Scope::Write]));
    let head = |key| app.request(Method::Head, "/coffee/").key(key).send();
    assert_eq!((head(&reader).await.status, head(&writer).await.status), (200, 403));
    for path in ["/", "/health", "/info", "/openapi.json"] {
        assert_eq!(app.request(Method::Get, path).key(&writer).send().await.status, 200, "{path}");
    }
    let app = TestApp::with_flags(&[("metrics-public", "true")]).await;
    let writer = app.add_key("writer", &[Scope::Write]);
    assert_eq!(app.request(Method::Get, "/metrics").key(&writer).send().await.status, 200);
}

#[rocket::async_test]
async fn a_forbidden_request_changes_nothing_and_is_counted() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T08:00:00Z", 95.0, None).await;
    let reader = app.add_key("reader", &[Scope::Read]);
    assert_forbidden(app.request(Method::Delete, "/coffee/1").key(&reader).send().await, Scope::Write);
    let post = app.request(Method::Post, "/coffee/").key(&reader).body(r#"{"caffeine_mg": 1}"#);
    assert_forbidden(post.send().await, Scope::Write);
    assert_eq!(app.ids("/coffee/").await, [1]);
    assert_eq!(app.metric(r#"auth_failures_total{reason="scope"}"#).await, 2.0);
}

#[rocket::async_test]
async fn a_missing_scope_does_not_count_as_a_failed_authentication() {
    let app = TestApp::new().await;
    let writer = app.add_key("writer", &[Scope::Write]);
    for _ in 0..20 {
        assert_eq!(read_status(&app, &writer).await, 403);
    }
    assert_eq!(read_status(&app, "an-invalid-key").await, 401);
    for _ in 0..10 {
        read_status(&app, "an-invalid-key").await;
    }
    assert_eq!(read_status(&app, "an-invalid-key").await, 429);
    let reader = app.add_key("reader", &[Scope::Read]);
    assert_eq!(read_status(&app, &reader).await, 200, "a valid key is never blocked");
    assert_eq!(read_status(&app, &writer).await, 403, "a key that lacks the scope is not blocked either");
}

#[rocket::async_test]
async fn a_revoked_key_is_rejected() {
    let app = TestApp::new().await;
    let (lost, kept) = (app.add_key("lost", &[Scope::Read]), app.add_key("kept", &[Scope::Read]));
    key_file(&app).revoke(&name("lost"), app.clock.now()).unwrap();
    app.people.refresh_people();
    assert_eq!((read_status(&app, &lost).await, read_status(&app, &kept).await), (401, 200));
    // Its name can be used again, but the key stays invalid.
    let second = app.add_key("lost", &[Scope::Read]);
    assert_eq!((read_status(&app, &lost).await, read_status(&app, &second).await), (401, 200));
}

#[rocket::async_test]
async fn a_rotated_key_is_valid_until_the_end_of_its_grace_period() {
    let app = TestApp::new().await;
    let first = app.add_key("phone", &[Scope::Read]);
    let rotate = |grace: i64| {
        let now = app.clock.now();
        let made = key_file(&app).rotate(&name("phone"), now, now.plus(grace)).unwrap();
        app.people.refresh_people();
        made
    };
    let second = rotate(DAY);
    app.advance_clock(86_399);
    assert_eq!((read_status(&app, &first).await, read_status(&app, &second).await), (200, 200));
    app.advance_clock(1);
    assert_eq!((read_status(&app, &first).await, read_status(&app, &second).await), (401, 200));

    // A longer grace period of a later rotation does not extend earlier ones.
    let third = rotate(DAY);
    app.advance_clock(10);
    let fourth = rotate(10 * DAY);
    app.advance_clock(86_390);
    let statuses =
        [read_status(&app, &second).await, read_status(&app, &third).await, read_status(&app, &fourth).await];
    assert_eq!(statuses, [401, 200, 200]);
    // Without a grace period, all earlier keys end at once.
    let fifth = rotate(0);
    let statuses =
        [read_status(&app, &third).await, read_status(&app, &fourth).await, read_status(&app, &fifth).await];
    assert_eq!(statuses, [401, 401, 200]);
    let write = app.request(Method::Post, "/coffee/").key(&fifth).body(r#"{"caffeine_mg": 1}"#);
    assert_forbidden(write.send().await, Scope::Write);
}

#[rocket::async_test]
async fn a_missing_key_file_revokes_all_named_keys_and_a_malformed_one_none() {
    let app = TestApp::new().await;
    let reader = app.add_key("reader", &[Scope::Read]);
    let path = key_file(&app).path().to_owned();
    let valid = std::fs::read_to_string(&path).unwrap();
    let misspelt = valid.replace("created", "creatd");
    for malformed in ["", "{", "[]", r#"{"version": 2, "keys": []}"#, &valid[1..], &misspelt] {
        std::fs::write(&path, malformed).unwrap();
        app.people.refresh_people();
        assert_eq!(read_status(&app, &reader).await, 200, "{malformed:?}");
    }
    std::fs::write(&path, "x".repeat(1 << 20)).unwrap();
    app.people.refresh_people();
    assert_eq!(read_status(&app, &reader).await, 200, "too large");
    std::fs::remove_file(&path).unwrap();
    app.people.refresh_people();
    assert_eq!(read_status(&app, &reader).await, 401);
    std::fs::write(&path, &valid).unwrap();
    app.people.refresh_people();
    assert_eq!(read_status(&app, &reader).await, 200, "the file is back");
    assert_eq!(app.get("/coffee/").await.status, 200, "the owner's key is not in the file");
}

#[rocket::async_test]
async fn the_time_of_last_use_is_saved_at_most_every_quarter_of_an_hour_and_follows_the_clock_backwards() {
    use coffee_tracker::auth::key::KeyDigest;
    use coffee_tracker::auth::key_store::read_last_uses;
    let app = TestApp::new().await;
    let (used, unused) = (app.add_key("used", &[Scope::Read]), app.add_key("unused", &[Scope::Read]));
    let recorded = || {
        app.people.refresh_people();
        let uses = read_last_uses(app.database());
        assert_eq!(uses.get(&KeyDigest::of(&unused)), None);
        uses.get(&KeyDigest::of(&used)).map(|at| at.to_string())
    };
    let at = |time: &str| Some(format!("2026-06-01T{time}.000000Z"));
    assert_eq!(recorded(), None);
    read_status(&app, &used).await;
    assert_eq!(recorded(), at("12:00:00"));
    app.advance_clock(15 * 60 - 1);
    read_status(&app, &used).await;
    assert_eq!(recorded(), at("12:00:00"), "within a quarter of an hour of the last record");
    app.advance_clock(1);
    assert_eq!(recorded(), at("12:00:00"), "not used again");
    read_status(&app, &used).await;
    assert_eq!(recorded(), at("12:15:00"));
    app.clock.set(super::helpers::at("2026-06-01T02:00:00Z"));
    read_status(&app, &used).await;
    assert_eq!(recorded(), at("02:00:00"));
    // A change of the key file keeps the recorded times.
    app.add_key("another", &[Scope::Read]);
    app.advance_clock(15 * 60);
    read_status(&app, &used).await;
    assert_eq!(recorded(), at("02:15:00"));
}

#[rocket::async_test]
async fn at_most_100_keys_can_exist() {
    let app = TestApp::new().await;
    let made: Vec<String> = (0..100).map(|n| app.add_key(&format!("key-{n}"), &[Scope::Read])).collect();
    let more = key_file(&app).add(&name("more"), Scopes::default(), None, app.clock.now());
    assert_eq!(more.unwrap_err().to_string(), "there are 100 keys, which is the maximum; revoke one first");
    assert_eq!(read_status(&app, &made[0]).await, 200);
    assert_eq!(read_status(&app, &made[99]).await, 200);
}

#[rocket::async_test]
async fn a_change_with_only_the_write_scope_returns_only_the_sent_fields() {
    let app = TestApp::new().await;
    let notes = "after the argument";
    let coffee = json!({"caffeine_mg": 95, "coffee_type": "espresso", "notes": notes});
    let reading = json!({"bpm": 61, "context": "sleeping", "notes": notes});
    app.post("/coffee/", coffee).await;
    app.post("/heartrate/", reading).await;
    let writer = app.add_key("writer", &[Scope::Write, Scope::Metrics]);
    let both = app.add_key("both", &[Scope::Write, Scope::Read]);
    for method in [Method::Put, Method::Patch] {
        let change =
            async |path: &str, key: &str, body| app.request(method, path).key(key).json(&body).send().await;
        for (body, expected) in [
            (json!({"caffeine_mg": "80"}), json!({"id": 1, "caffeine_mg": 80.0})),
            (json!({"coffee_type": " flat white ", "x": 1}), json!({"id": 1, "coffee_type": "flat white"})),
            (json!({"coffee_type": null}), json!({"id": 1, "coffee_type": null})),
            (
                json!({"timestamp": "2026-06-01T08:00:00+02:00"}),
                json!({"id": 1, "timestamp": "2026-06-01T06:00:00.000000Z"}),
            ),
        ] {
            change("/coffee/1", &writer, body).await.assert_json(200, expected);
        }
        change("/heartrate/1", &writer, json!({"bpm": 62}))
            .await
            .assert_json(200, json!({"id": 1, "bpm": 62}));
        change("/heartrate/1", &writer, json!({"context": null}))
            .await
            .assert_json(200, json!({"id": 1, "context": null}));
        change("/coffee/2", &writer, json!({"caffeine_mg": 1}))
            .await
            .assert_problem(404, "Coffee log not found");
        change("/coffee/1", &both, json!({"caffeine_mg": 80})).await.assert_json(
            200,
            json!({"id": 1, "timestamp": "2026-06-01T06:00:00.000000Z", "caffeine_mg": 80.0,
                   "coffee_type": null, "notes": notes}),
        );
        change("/heartrate/1", &both, json!({"bpm": 62})).await.assert_json(
            200,
            json!({"id": 1, "timestamp": "2026-06-01T12:00:00.000000Z", "bpm": 62, "context": null,
                   "notes": notes}),
        );
    }
}

#[rocket::async_test]
async fn a_repeated_request_with_only_the_write_scope_returns_only_the_sent_fields() {
    let app = TestApp::new().await;
    let writer = app.add_key("writer", &[Scope::Write]);
    let post = async |path: &str, key: &str, body: &serde_json::Value| {
        let request = app.request(Method::Post, path).key(key).header("Idempotency-Key", "k");
        request.json(body).send().await
    };
    for (path, field, value, full, sent) in [
        (
            "/coffee/",
            "caffeine_mg",
            json!(95),
            json!({"id": 1, "timestamp": "2026-06-01T12:00:00.000000Z", "caffeine_mg": 95.0,
                   "coffee_type": null, "notes": null}),
            json!({"id": 1, "caffeine_mg": 95.0}),
        ),
        (
            "/heartrate/",
            "bpm",
            json!(61),
            json!({"id": 1, "timestamp": "2026-06-01T12:00:00.000000Z", "bpm": 61, "context": "resting",
                   "notes": null}),
            json!({"id": 1, "bpm": 61, "context": "resting"}),
        ),
    ] {
        let body = json!({field: value});
        post(path, KEY, &body).await.assert_json(201, full.clone());
        let location = format!("{path}1");
        app.patch(&location, json!({"notes": "added later"})).await;
        let repeated = post(path, &writer, &body).await.assert_json(201, sent);
        assert_eq!(repeated.header("location"), location);
        post(path, KEY, &body).await.assert_json(201, full);
    }
}

#[rocket::async_test]
async fn a_new_entry_is_returned_with_only_the_write_scope() {
    let app = TestApp::new().await;
    let writer = app.add_key("writer", &[Scope::Write]);
    app.request(Method::Post, "/coffee/").key(&writer).json(&json!({"caffeine_mg": 95})).send().await.assert_json(
        201,
        json!({"id": 1, "timestamp": "2026-06-01T12:00:00.000000Z", "caffeine_mg": 95.0, "coffee_type": null,
               "notes": null}),
    );
    let deleted = app.request(Method::Delete, "/coffee/1").key(&writer).send().await;
    deleted.assert_json(200, json!({"message": "Coffee log deleted", "id": 1}));
}
