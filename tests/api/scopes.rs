//! Named keys: what each opens, until when, and what happens to the rest.

use coffee_tracker::auth::key::{KeyName, Scope, Scopes};
use coffee_tracker::auth::key_file::KeyFile;
use coffee_tracker::http::{Access, table};
use rocket::http::Method;
use serde_json::json;

use super::helpers::{TestApp, TestResponse};

const DAY: i64 = 86_400_000_000;

fn file(app: &TestApp) -> KeyFile {
    KeyFile::of(app.shared.store.path())
}

fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

/// A new key with these scopes, which the application has heard of.
fn key(app: &TestApp, called: &str, scopes: &[Scope]) -> String {
    let made = file(app).add(&name(called), Scopes::from(scopes.to_vec()), app.clock.now()).unwrap();
    app.shared.refresh_keys();
    made
}

async fn look(app: &TestApp, key: &str) -> u16 {
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
    let mut asked = 0;
    for only in Scope::ALL {
        let (with, without): (Vec<Scope>, Vec<Scope>) = Scope::ALL.into_iter().partition(|s| *s == only);
        let with = key(&app, &format!("with-{}", only.name()), &with);
        let without = key(&app, &format!("without-{}", only.name()), &without);
        for entry in table().iter().filter(|entry| entry.access.scope() == Some(only)) {
            let path = entry.template.replace("<id>", "1");
            let request = |key| app.request(entry.route.method, &path).key(key).send();
            assert_forbidden(request(&without).await, only);
            let opened = request(&with).await.status;
            assert!(![401, 403, 405].contains(&opened), "{} {path}: {opened}", entry.route.method);
            asked += 1;
        }
    }
    assert_eq!(asked, table().iter().filter(|entry| entry.access != Access::Public).count());
}

#[rocket::async_test]
async fn head_requires_the_read_scope_and_public_pages_none() {
    let app = TestApp::new().await;
    let (reader, writer) = (key(&app, "reader", &[Scope::Read]), key(&app, "writer", &[Scope::Write]));
    let head = |key| app.request(Method::Head, "/coffee/").key(key).send();
    assert_eq!((head(&reader).await.status, head(&writer).await.status), (200, 403));
    for path in ["/", "/health", "/info", "/openapi.json"] {
        assert_eq!(app.request(Method::Get, path).key(&writer).send().await.status, 200, "{path}");
    }
    let app = TestApp::with_flags(&[("metrics-public", "true")]).await;
    let writer = key(&app, "writer", &[Scope::Write]);
    assert_eq!(app.request(Method::Get, "/metrics").key(&writer).send().await.status, 200);
}

#[rocket::async_test]
async fn a_forbidden_request_changes_nothing_and_is_counted() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T08:00:00Z", 95.0, None).await;
    let reader = key(&app, "reader", &[Scope::Read]);
    assert_forbidden(app.request(Method::Delete, "/coffee/1").key(&reader).send().await, Scope::Write);
    let post = app.request(Method::Post, "/coffee/").key(&reader).body(r#"{"caffeine_mg": 1}"#);
    assert_forbidden(post.send().await, Scope::Write);
    assert_eq!(app.ids("/coffee/").await, [1]);
    assert_eq!(app.metric(r#"auth_failures_total{reason="scope"}"#).await, 2.0);
}

#[rocket::async_test]
async fn a_missing_scope_does_not_count_as_a_failed_authentication() {
    let app = TestApp::new().await;
    let writer = key(&app, "writer", &[Scope::Write]);
    for _ in 0..20 {
        assert_eq!(look(&app, &writer).await, 403);
    }
    assert_eq!(look(&app, "a-wrong-key").await, 401);
    for _ in 0..10 {
        look(&app, "a-wrong-key").await;
    }
    assert_eq!(look(&app, "a-wrong-key").await, 429);
    let reader = key(&app, "reader", &[Scope::Read]);
    assert_eq!(look(&app, &reader).await, 200, "a right key always passes");
    assert_eq!(look(&app, &writer).await, 403, "nor is this one braked");
}

#[rocket::async_test]
async fn a_revoked_key_is_invalid() {
    let app = TestApp::new().await;
    let (lost, kept) = (key(&app, "lost", &[Scope::Read]), key(&app, "kept", &[Scope::Read]));
    file(&app).revoke(&name("lost"), app.clock.now()).unwrap();
    app.shared.refresh_keys();
    assert_eq!((look(&app, &lost).await, look(&app, &kept).await), (401, 200));
    // Its name is free again; it opens nothing itself.
    let found = key(&app, "lost", &[Scope::Read]);
    assert_eq!((look(&app, &lost).await, look(&app, &found).await), (401, 200));
}

#[rocket::async_test]
async fn a_rotated_key_holds_until_its_grace_is_over() {
    let app = TestApp::new().await;
    let first = key(&app, "phone", &[Scope::Read]);
    let rotate = |grace: i64| {
        let now = app.clock.now();
        let made = file(&app).rotate(&name("phone"), now, now.plus(grace)).unwrap();
        app.shared.refresh_keys();
        made
    };
    let second = rotate(DAY);
    app.advance_clock(86_399);
    assert_eq!((look(&app, &first).await, look(&app, &second).await), (200, 200));
    app.advance_clock(1);
    assert_eq!((look(&app, &first).await, look(&app, &second).await), (401, 200));

    // A longer grace of a later rotation gives no more time to those before.
    let third = rotate(DAY);
    app.advance_clock(10);
    let fourth = rotate(10 * DAY);
    app.advance_clock(86_390);
    let opened = [look(&app, &second).await, look(&app, &third).await, look(&app, &fourth).await];
    assert_eq!(opened, [401, 200, 200]);
    // Without any, all before end.
    let fifth = rotate(0);
    let opened = [look(&app, &third).await, look(&app, &fourth).await, look(&app, &fifth).await];
    assert_eq!(opened, [401, 401, 200]);
    let write = app.request(Method::Post, "/coffee/").key(&fifth).body(r#"{"caffeine_mg": 1}"#);
    assert_forbidden(write.send().await, Scope::Write);
}

#[rocket::async_test]
async fn a_file_that_is_gone_ends_every_named_key_and_one_that_is_broken_ends_none() {
    let app = TestApp::new().await;
    let reader = key(&app, "reader", &[Scope::Read]);
    let path = file(&app).path().to_owned();
    let whole = std::fs::read_to_string(&path).unwrap();
    let misspelt = whole.replace("created", "creatd");
    for broken in ["", "{", "[]", r#"{"version": 2, "keys": []}"#, &whole[1..], &misspelt] {
        std::fs::write(&path, broken).unwrap();
        app.shared.refresh_keys();
        assert_eq!(look(&app, &reader).await, 200, "{broken:?}");
    }
    std::fs::write(&path, "x".repeat(1 << 20)).unwrap();
    app.shared.refresh_keys();
    assert_eq!(look(&app, &reader).await, 200, "too large");
    std::fs::remove_file(&path).unwrap();
    app.shared.refresh_keys();
    assert_eq!(look(&app, &reader).await, 401);
    std::fs::write(&path, &whole).unwrap();
    app.shared.refresh_keys();
    assert_eq!(look(&app, &reader).await, 200, "and back");
    assert_eq!(app.get("/coffee/").await.status, 200, "the owner's key is another matter");
}

#[rocket::async_test]
async fn last_use_is_noted_once_a_minute_and_follows_a_clock_that_is_put_back() {
    use coffee_tracker::auth::key::KeyDigest;
    use coffee_tracker::auth::last_used::LastUsed;
    let app = TestApp::new().await;
    let (used, unused) = (key(&app, "used", &[Scope::Read]), key(&app, "unused", &[Scope::Read]));
    let noted = || {
        app.shared.refresh_keys();
        let uses = LastUsed::read(app.shared.store.path());
        assert_eq!(uses.of(&KeyDigest::of(&unused)), None);
        uses.of(&KeyDigest::of(&used)).map(|at| at.to_string())
    };
    let at = |time: &str| Some(format!("2026-06-01T{time}.000000Z"));
    assert_eq!(noted(), None);
    look(&app, &used).await;
    assert_eq!(noted(), at("12:00:00"));
    app.advance_clock(59);
    look(&app, &used).await;
    assert_eq!(noted(), at("12:00:00"), "not every use is worth a write");
    app.advance_clock(1);
    assert_eq!(noted(), at("12:00:00"), "time alone is no use");
    look(&app, &used).await;
    assert_eq!(noted(), at("12:01:00"));
    app.clock.set(super::helpers::at("2026-06-01T02:00:00Z"));
    look(&app, &used).await;
    assert_eq!(noted(), at("02:00:00"));
    // What is noted is not lost with a change of the keys.
    key(&app, "another", &[Scope::Read]);
    app.advance_clock(120);
    look(&app, &used).await;
    assert_eq!(noted(), at("02:02:00"));
}

#[rocket::async_test]
async fn at_most_100_keys_can_exist() {
    let app = TestApp::new().await;
    let made: Vec<String> = (0..100).map(|n| key(&app, &format!("key-{n}"), &[Scope::Read])).collect();
    let more = file(&app).add(&name("more"), Scopes::ALL, app.clock.now());
    assert_eq!(more.unwrap_err().to_string(), "there are 100 keys, which is the maximum; revoke one first");
    assert_eq!(look(&app, &made[0]).await, 200);
    assert_eq!(look(&app, &made[99]).await, 200);
}

#[rocket::async_test]
async fn a_key_that_may_only_write_is_told_the_id_and_what_it_sent() {
    let app = TestApp::new().await;
    let secret = "after the argument";
    let coffee = json!({"caffeine_mg": 95, "coffee_type": "espresso", "notes": secret});
    let reading = json!({"bpm": 61, "context": "sleeping", "notes": secret});
    app.post("/coffee/", coffee).await;
    app.post("/heartrate/", reading).await;
    let writer = key(&app, "writer", &[Scope::Write, Scope::Metrics]);
    let both = key(&app, "both", &[Scope::Write, Scope::Read]);
    for method in [Method::Put, Method::Patch] {
        let change =
            async |path: &str, key: &str, body| app.request(method, path).key(key).json(&body).send().await;
        for (body, answer) in [
            (json!({"caffeine_mg": "80"}), json!({"id": 1, "caffeine_mg": 80.0})),
            (json!({"coffee_type": " flat white ", "x": 1}), json!({"id": 1, "coffee_type": "flat white"})),
            (json!({"coffee_type": null}), json!({"id": 1, "coffee_type": null})),
            (
                json!({"timestamp": "2026-06-01T08:00:00+02:00"}),
                json!({"id": 1, "timestamp": "2026-06-01T06:00:00.000000Z"}),
            ),
        ] {
            change("/coffee/1", &writer, body).await.assert_json(200, answer);
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
                   "coffee_type": null, "notes": secret}),
        );
        change("/heartrate/1", &both, json!({"bpm": 62})).await.assert_json(
            200,
            json!({"id": 1, "timestamp": "2026-06-01T12:00:00.000000Z", "bpm": 62, "context": null,
                   "notes": secret}),
        );
    }
}

#[rocket::async_test]
async fn an_answer_given_again_tells_a_key_that_may_only_write_what_it_sent() {
    let app = TestApp::new().await;
    let writer = key(&app, "writer", &[Scope::Write]);
    let post = async |path: &str, key: &str, body: &serde_json::Value| {
        let request = app.request(Method::Post, path).key(key).header("Idempotency-Key", "k");
        request.json(body).send().await
    };
    for (path, field, value, first, told) in [
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
        post(path, super::helpers::KEY, &body).await.assert_json(201, first.clone());
        let place = format!("{path}1");
        app.patch(&place, json!({"notes": "added later"})).await;
        let again = post(path, &writer, &body).await.assert_json(201, told);
        assert_eq!(again.header("location"), place);
        post(path, super::helpers::KEY, &body).await.assert_json(201, first);
    }
}

#[rocket::async_test]
async fn a_key_that_may_only_write_gets_back_what_it_logs() {
    let app = TestApp::new().await;
    let writer = key(&app, "writer", &[Scope::Write]);
    app.request(Method::Post, "/coffee/").key(&writer).json(&json!({"caffeine_mg": 95})).send().await.assert_json(
        201,
        json!({"id": 1, "timestamp": "2026-06-01T12:00:00.000000Z", "caffeine_mg": 95.0, "coffee_type": null,
               "notes": null}),
    );
    let gone = app.request(Method::Delete, "/coffee/1").key(&writer).send().await;
    gone.assert_json(200, json!({"message": "Coffee log deleted", "id": 1}));
}
