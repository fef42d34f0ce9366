//! Several people on one server: each key reaches the data of its person alone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use coffee_tracker::auth::key::Scope;
use coffee_tracker::http::table;
use coffee_tracker::people::folder::{ClosingLock, set_display_name};
use fastrand::Rng;
use rocket::http::Method;
use rocket::tokio::time::sleep;
use serde_json::{Value, json};

use super::helpers::{Caller, KEY, TestApp, TestRequest, test_seed};

const EVERYTHING: [Scope; 3] = [Scope::Read, Scope::Write, Scope::Manage];

impl TestApp {
    async fn health(&self) -> (u16, Value) {
        let response = self.get("/health").await;
        (response.status, response.json())
    }
}

impl Caller {
    /// Stores a coffee and a reading whose texts name the person.
    async fn add_entries(&self, app: &TestApp) {
        let coffee =
            json!({"caffeine_mg": 80, "coffee_type": format!("{}-brew", self.name), "notes": self.name});
        assert_eq!(self.post(app, "/coffee/", &coffee).await.status, 201, "{}", self.name);
        let reading = json!({"bpm": 70, "context": format!("{}-desk", self.name), "notes": self.name});
        assert_eq!(self.post(app, "/heartrate/", &reading).await.status, 201, "{}", self.name);
    }
}

/// Query of a route for which the defaults are not enough.
fn query_of(template: &str) -> &'static str {
    match template {
        "/heartrate/range" => "?start=2026-05-01T00:00:00Z&end=2026-07-01T00:00:00Z",
        _ => "",
    }
}

/// Body of a request, with texts that name the person.
fn body_of(template: &str, method: Method, person: &str) -> Option<Value> {
    let (brew, desk) = (format!("{person}-brew"), format!("{person}-desk"));
    Some(match (template, method) {
        ("/coffee/rename", _) => json!({"from": brew, "to": format!("{person}-drip")}),
        (path, Method::Post | Method::Put | Method::Patch) if path.starts_with("/coffee") => {
            json!({"caffeine_mg": 90, "coffee_type": brew, "notes": person})
        }
        ("/heartrate/batch", _) => {
            json!({"readings": [{"bpm": 71, "context": desk, "timestamp": "2026-06-01T11:00:00Z"}]})
        }
        (path, Method::Post | Method::Put | Method::Patch) if path.starts_with("/heartrate") => {
            json!({"bpm": 72, "context": desk, "notes": person})
        }
        ("/profile", Method::Patch) => json!({"bedtime": "22:00"}),
        ("/keys", Method::Post) => json!({"name": format!("{person}-phone")}),
        ("/pairings", Method::Post) => json!({"name": format!("{person}-tablet")}),
        ("/keys/<name>/rotate", _) => json!({"grace_hours": 0}),
        _ => return None,
    })
}

#[rocket::async_test]
async fn no_response_contains_the_data_of_another_person() {
    let seed = test_seed();
    println!("TEST_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let app = TestApp::with_flags(&[("max-open-people", "1")]).await;
    let owner = Caller { name: "owner", key: KEY.to_owned() };
    let people = [owner, app.add_person("anna", &EVERYTHING), app.add_person("ben", &EVERYTHING)];
    for person in &people {
        person.add_entries(&app).await;
    }
    let personal: Vec<_> = table()
        .iter()
        .filter(|entry| matches!(entry.access.scope(), Some(Scope::Read | Scope::Write | Scope::Manage)))
        .collect();
    let mut tried = BTreeSet::new();
    let mut pairing = "none".to_owned();
    // Every route once for everyone, and then at random.
    let all = personal.iter().flat_map(|entry| people.iter().map(move |person| (*entry, person)));
    let mut requests: Vec<_> = all.collect();
    for _ in 0..300 {
        requests.push((personal[rng.usize(..personal.len())], &people[rng.usize(..people.len())]));
    }
    for (entry, person) in requests {
        let (method, template) = (entry.route.method, entry.template);
        let id = rng.u32(1..4).to_string();
        let id = if template.starts_with("/pairings") { &pairing } else { &id };
        let key = format!("{}-phone", people[rng.usize(..people.len())].name);
        let path = template.replace("<id>", id).replace("<name>", &key) + query_of(template);
        let path = path.replace("<file>", "coffee_20260101_000000.db");
        let mut request = person.request(&app, method, &path);
        if let Some(body) = body_of(template, method, person.name) {
            request = request.json(&body);
        }
        if method == Method::Post && rng.bool() {
            // The same key for everyone: a replay must be of the person's own request.
            request = request.header("Idempotency-Key", rng.u32(..3).to_string());
        }
        let response = request.send().await;
        assert!(
            [200, 201, 202, 404, 409, 422].contains(&response.status),
            "{method} {path}: {}",
            response.text()
        );
        if response.status == 202 {
            wait_for_job(&app, person, response.header("location")).await;
        }
        let text = format!("{}{:?}", response.text(), response.headers);
        for other in people.iter().filter(|other| other.name != person.name) {
            assert!(!text.contains(other.name), "{method} {path} of {}: {text}", person.name);
        }
        if template == "/pairings" && response.status == 201 {
            pairing = response.json()["id"].as_str().unwrap().to_owned();
        }
        tried.insert((method.as_str(), template, person.name));
    }
    assert_eq!(tried.len(), personal.len() * people.len());
    assert_metrics_name_people_by_label(&app).await;
}

async fn assert_metrics_name_people_by_label(app: &TestApp) {
    let metrics = app.get("/metrics").await;
    for series in metrics.text().lines().filter(|line| line.contains("anna") || line.contains("ben")) {
        let named: String = series.split('{').skip(1).collect();
        assert!(named.starts_with("person=\"anna\"}") || named.starts_with("person=\"ben\"}"), "{series}");
    }
}

/// Waits for the end of a job, which uses the database of the person, too.
async fn wait_for_job(app: &TestApp, person: &Caller, path: &str) {
    while !person.get(app, path).await.json()["finished_at"].is_string() {
        sleep(Duration::from_millis(20)).await;
    }
}

#[rocket::async_test]
async fn me_names_the_person_of_the_key() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &[Scope::Read]);
    set_display_name(&app.database_of("anna"), Some(&"Anna B.".parse().unwrap())).unwrap();
    app.advance_clock(60);
    assert_eq!(anna.get(&app, "/coffee/").await.status, 200);
    app.people.refresh_people();
    let me = anna.get(&app, "/me").await.json();
    assert_eq!(me["person"], json!({"name": "anna", "display_name": "Anna B."}));
    assert_eq!(
        me["key"],
        json!({"name": "first", "scopes": ["read"], "created_at": "2026-06-01T12:00:00.000000Z",
               "last_used_at": "2026-06-01T12:01:00.000000Z"})
    );
    let owner = app.get("/me").await.json();
    assert_eq!(owner["person"], json!({"name": "owner", "display_name": null}));
}

#[rocket::async_test]
async fn only_the_owner_may_read_the_metrics_of_everyone() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &[Scope::Read, Scope::Metrics]);
    let refused = anna.get(&app, "/metrics").await;
    refused.assert_problem(403, "This API key lacks the scope metrics");
    let by_owner = app.add_key("prometheus", &[Scope::Metrics]);
    assert_eq!(app.request(Method::Get, "/metrics").key(&by_owner).send().await.status, 200);
}

#[rocket::async_test]
async fn metrics_of_others_carry_their_name_and_those_of_the_owner_no_label() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    assert_eq!(app.metric("people").await, 2.0);
    assert_eq!(app.metric("people_open").await, 1.0);
    app.add_coffee("2026-06-01T11:00:00Z", 95.0, Some("espresso")).await;
    anna.post(&app, "/coffee/", &json!({"caffeine_mg": 60, "coffee_type": "secret"})).await;
    anna.post(&app, "/coffee/", &json!({"caffeine_mg": 60, "coffee_type": "Espresso"})).await;
    app.people.refresh_databases().await;
    assert_eq!(app.metric("people_open").await, 2.0);
    assert_eq!(app.metric("caffeine_last_mg").await, 95.0);
    assert_eq!(app.metric("caffeine_last_mg{person=\"anna\"}").await, 60.0);
    assert_eq!(app.metric("caffeine_today_mg{person=\"anna\"}").await, 120.0);
    assert_eq!(app.metric("caffeine_mg_total").await, 215.0);
    assert_eq!(app.metric("coffee_logged_total{type=\"espresso\"}").await, 2.0);
    assert_eq!(app.metric("coffee_logged_total{type=\"other\"}").await, 1.0);
    let text = app.get("/metrics").await.text().to_owned();
    assert_eq!(text.matches("# TYPE caffeine_last_mg gauge").count(), 1);
    assert!(!text.contains("secret"), "{text}");
}

#[rocket::async_test]
async fn a_database_is_closed_to_make_room_for_another_and_when_it_is_idle() {
    let app = TestApp::with_flags(&[("max-open-people", "2")]).await;
    let people = ["anna", "ben", "cleo", "dora"].map(|name| app.add_person(name, &EVERYTHING));
    for round in 1..4 {
        for person in &people {
            person.add_entries(&app).await;
            let coffees = person.get(&app, "/coffee/").await.json();
            assert_eq!(coffees.as_array().unwrap().len(), round, "{}", person.name);
            assert!(app.health().await.1["people_open"].as_u64().unwrap() <= 3);
        }
    }
    app.advance_clock(301);
    app.people.refresh_databases().await;
    let (status, health) = app.health().await;
    assert_eq!((status, &health["people"], &health["people_open"]), (200, &json!(5), &json!(1)));
}

#[rocket::async_test]
async fn a_command_that_needs_the_database_closed_gets_it_and_the_others_notice_nothing() {
    let app = TestApp::new().await;
    let (anna, ben) = (app.add_person("anna", &EVERYTHING), app.add_person("ben", &EVERYTHING));
    anna.add_entries(&app).await;
    ben.add_entries(&app).await;
    let lock = ClosingLock::acquire(&app.database_of("anna")).unwrap().unwrap();
    app.people.refresh_people();
    app.people.refresh_databases().await;
    let refused = anna.get(&app, "/coffee/").await;
    assert_eq!(refused.header("retry-after"), "2");
    assert_eq!((refused.status, &refused.json()["detail"]), (503, &json!("The database is busy: try again")));
    assert_eq!(ben.get(&app, "/coffee/").await.status, 200);
    assert_eq!(app.health().await.0, 200);
    drop(lock);
    app.advance_clock(2);
    assert_eq!(anna.get(&app, "/coffee/").await.status, 200);
}

#[rocket::async_test]
async fn a_damaged_database_affects_its_person_alone_and_health_names_them() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    std::fs::write(app.database_of("anna"), "flat white ".repeat(1000)).unwrap();
    let refused = anna.get(&app, "/coffee/").await;
    assert_eq!(refused.header("retry-after"), "2");
    let detail = "Your database is unavailable: the server's log has the reason";
    assert_eq!((refused.status, &refused.json()["detail"]), (503, &json!(detail)));
    assert_eq!(app.get("/coffee/").await.status, 200);
    let (status, health) = app.health().await;
    assert_eq!((status, &health["status"]), (503, &json!("degraded")));
    let database = &health["database"];
    assert_eq!((&database["person"], &database["state"]), (&json!("anna"), &json!("failed")));
    // Without a path, as no key is needed.
    assert_eq!(database["error"], "damaged or missing: see the log");
    assert_eq!(app.metric("component_up{component=\"database\"}").await, 0.0);
    // Repaired: it is noticed without a request.
    std::fs::remove_file(app.database_of("anna")).unwrap();
    app.advance_clock(30);
    app.people.refresh_databases().await;
    assert_eq!(app.health().await.0, 200);
    assert_eq!(anna.get(&app, "/coffee/").await.status, 200);
    assert_eq!(app.metric("component_up{component=\"database\"}").await, 1.0);
}

#[rocket::async_test]
async fn traffic_cannot_keep_a_database_open_that_a_command_needs_closed() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    anna.add_entries(&app).await;
    let person = app.people.others().remove(0);
    let used_by_a_request = app.people.open(&person).await.unwrap();
    let lock = ClosingLock::acquire(&app.database_of("anna")).unwrap().unwrap();
    app.people.refresh_people();
    assert_eq!(anna.get(&app, "/coffee/").await.status, 503);
    drop(used_by_a_request);
    app.people.refresh_databases().await;
    assert_eq!(app.health().await.1["people_open"], 1);
    drop(lock);
    assert_eq!(anna.get(&app, "/coffee/").await.status, 200);
}

#[rocket::async_test]
async fn a_database_that_was_moved_away_is_reported_until_it_is_back_although_it_was_closed() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    anna.add_entries(&app).await;
    let database = app.database_of("anna");
    let away = database.with_file_name("away.db");
    std::fs::rename(&database, &away).unwrap();
    app.advance_clock(301);
    app.people.refresh_databases().await;
    let (status, health) = app.health().await;
    assert_eq!((status, &health["people_open"]), (503, &json!(1)));
    assert_eq!(health["database"]["person"], "anna");
    std::fs::rename(&away, &database).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    // The file is checked in the background first.
    while app.health().await.0 != 200 {
        assert!(Instant::now() < deadline, "{}", app.health().await.1);
        app.advance_clock(30);
        app.people.refresh_databases().await;
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(anna.get(&app, "/coffee/").await.json().as_array().unwrap().len(), 1);
}

#[rocket::async_test]
async fn people_are_followed_while_the_server_runs() {
    let app = TestApp::new().await;
    let anna = app.add_person("anna", &EVERYTHING);
    anna.add_entries(&app).await;
    app.advance_clock(301);
    app.people.refresh_databases().await;
    let folder = |name| app.database_of(name).parent().unwrap().to_owned();
    std::fs::rename(folder("anna"), folder("anne")).unwrap();
    assert_eq!(anna.get(&app, "/coffee/").await.status, 503);
    assert!(!folder("anna").exists());
    app.people.refresh_people();
    assert_eq!(anna.get(&app, "/me").await.json()["person"]["name"], "anne");
    assert_eq!(anna.get(&app, "/coffee/").await.json().as_array().unwrap().len(), 1);
    app.advance_clock(301);
    app.people.refresh_databases().await;
    std::fs::remove_dir_all(folder("anne")).unwrap();
    app.people.refresh_people();
    assert_eq!(anna.get(&app, "/me").await.status, 401);
    assert!(!folder("anne").exists());
}

const PROXY: [(&str, &str); 2] = [("trusted-proxies", "10.0.0.0/8"), ("auth-proxy-header", "Remote-User")];

/// Builds a request that came through the proxy, which named this person.
fn through_proxy<'a>(app: &'a TestApp, method: Method, path: &str, user: &str) -> TestRequest<'a> {
    let request = app.request(method, path).without_header("Authorization");
    request.header("Remote-User", user).header("X-Forwarded-For", "192.168.1.20").remote("10.0.0.1:5000")
}

#[rocket::async_test]
async fn a_trusted_proxy_names_the_person() {
    let app = TestApp::with_flags(&PROXY).await;
    let anna = app.add_person("anna", &EVERYTHING);
    anna.add_entries(&app).await;
    let me = through_proxy(&app, Method::Get, "/me", "anna").send().await.json();
    assert_eq!(me["person"]["name"], "anna");
    assert_eq!(
        (&me["key"]["name"], &me["key"]["scopes"]),
        (&json!("proxy"), &json!(["read", "write", "manage"]))
    );
    // Basic authentication of the proxy is passed on, and is not a key.
    let coffees =
        through_proxy(&app, Method::Get, "/coffee/", "anna").header("Authorization", "Basic YW5uYTp4");
    assert_eq!(coffees.send().await.json().as_array().unwrap().len(), 1);
    for unknown in ["eve", "", "../anna", "Anna"] {
        assert_eq!(
            through_proxy(&app, Method::Get, "/coffee/", unknown).send().await.status,
            401,
            "{unknown}"
        );
    }
    // The owner's key alone has the scopes metrics and admin.
    assert_eq!(through_proxy(&app, Method::Get, "/metrics", "owner").send().await.status, 403);
}

#[rocket::async_test]
async fn a_client_that_sends_the_header_of_the_proxy_gains_nothing() {
    let app = TestApp::with_flags(&PROXY).await;
    let anna = app.add_person("anna", &EVERYTHING);
    let direct = || through_proxy(&app, Method::Get, "/coffee/", "owner").remote("192.168.1.20:5000");
    assert_eq!(direct().send().await.status, 401);
    // With a key, it is still the person of the key.
    let me = direct().key(&anna.key).send().await;
    assert_eq!(me.json(), json!([]));
    let both = through_proxy(&app, Method::Get, "/coffee/", "owner").add_header("Remote-User", "anna");
    assert_eq!(both.send().await.status, 401);
    let without_setting = TestApp::with_flags(&PROXY[..1]).await;
    assert_eq!(through_proxy(&without_setting, Method::Get, "/coffee/", "owner").send().await.status, 401);
}

#[rocket::async_test]
async fn a_request_for_one_person_is_refused_when_the_proxy_names_another() {
    let app = TestApp::with_flags(&PROXY).await;
    app.add_person("anna", &EVERYTHING);
    app.add_person("ben", &EVERYTHING);
    let coffee = json!({"caffeine_mg": 90});
    let post = through_proxy(&app, Method::Post, "/coffee/", "ben").header("Sec-Fetch-Site", "same-origin");
    let refused = post.json(&coffee).header("X-Person", "anna").send().await;
    refused.assert_problem(401, "A valid API key is required: Authorization: Bearer KEY");
    for (name, status) in [("anna", 200), ("ben", 401), ("", 401)] {
        let read = through_proxy(&app, Method::Get, "/coffee/", "anna").header("X-Person", name);
        assert_eq!(read.send().await.status, status, "{name}");
    }
    assert_eq!(app.get("/info").await.json()["proxy_sign_in"], true);
}

#[rocket::async_test]
async fn pages_of_other_origins_cannot_change_anything_through_the_proxy() {
    let app = TestApp::with_flags(&PROXY).await;
    app.add_person("anna", &EVERYTHING);
    let coffee = json!({"caffeine_mg": 90});
    let post = |headers: &[(&str, &str)]| {
        let request = through_proxy(&app, Method::Post, "/coffee/", "anna").json(&coffee);
        headers.iter().fold(request, |request, (name, value)| request.header(name, *value)).send()
    };
    for (headers, status) in [
        (&[("Sec-Fetch-Site", "same-origin")][..], 201),
        (&[("Origin", "https://localhost")], 201),
        (&[("Sec-Fetch-Site", "same-origin"), ("Origin", "https://evil.example")], 201),
        (&[("Sec-Fetch-Site", "same-site")], 403),
        (&[("Sec-Fetch-Site", "cross-site"), ("Origin", "https://localhost")], 403),
        (&[("Sec-Fetch-Site", "none")], 403),
        (&[("Origin", "https://evil.example")], 403),
        (&[("Origin", "null")], 403),
        (&[], 403),
    ] {
        assert_eq!(post(headers).await.status, status, "{headers:?}");
    }
    post(&[])
        .await
        .assert_problem(403, "Changes are accepted only from pages of this server: use an API key");
    assert_eq!(app.metric("auth_failures_total{reason=\"origin\"}").await, 7.0);
    let read = through_proxy(&app, Method::Get, "/coffee/", "anna").header("Sec-Fetch-Site", "cross-site");
    assert_eq!(read.send().await.json().as_array().unwrap().len(), 3);
}

#[rocket::async_test]
async fn idempotency_keys_are_kept_for_30_days_however_often_the_database_is_closed() {
    const DAY: u64 = 86_400;
    let app = TestApp::with_flags(&[("max-open-people", "1")]).await;
    let (anna, ben) = (app.add_person("anna", &EVERYTHING), app.add_person("ben", &EVERYTHING));
    let coffee = json!({"timestamp": "2026-06-01T11:00:00Z", "caffeine_mg": 80});
    let post = |key: &'static str| {
        anna.request(&app, Method::Post, "/coffee/").json(&coffee).header("Idempotency-Key", key).send()
    };
    assert_eq!(post("before").await.status, 201);
    app.advance_clock(20 * DAY);
    let first = post("key").await;
    assert_eq!(first.status, 201);
    for _ in 0..29 {
        app.advance_clock(DAY);
        // Takes the only place, so that the other database is closed.
        assert_eq!(ben.get(&app, "/coffee/").await.status, 200);
        assert_eq!(post("key").await.text(), first.text());
    }
    app.advance_clock(DAY + 1);
    assert_eq!(ben.get(&app, "/coffee/").await.status, 200);
    assert_ne!(post("key").await.text(), first.text());
    assert_eq!(anna.get(&app, "/coffee/").await.json().as_array().unwrap().len(), 3);
}
