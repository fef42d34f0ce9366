//! Rate limits: the quota of each class, how it refills, and how clients are identified.

use coffee_tracker::auth::key::{KeyName, Scope};
use coffee_tracker::auth::key_file::KeyFile;
use rocket::http::Method;
use serde_json::Value;

use super::helpers::{TestApp, TestRequest, TestResponse};

const ON: (&str, &str) = ("rate-limit-enabled", "true");

/// Method, path, class, requests per window, window in seconds, seconds until one request is refilled.
const CLASSES: [(Method, &str, &str, u32, u32, u32); 32] = [
    (Method::Get, "/", "open", 30, 60, 2),
    (Method::Get, "/docs", "open", 30, 60, 2),
    (Method::Get, "/settings/you", "open", 30, 60, 2),
    (Method::Get, "/openapi.json", "open", 30, 60, 2),
    (Method::Get, "/nowhere", "open", 30, 60, 2),
    (Method::Options, "/coffee/", "open", 30, 60, 2),
    (Method::Delete, "/coffee/", "open", 30, 60, 2),
    (Method::Put, "/coffee/today", "open", 30, 60, 2),
    (Method::Get, "/health", "health", 60, 60, 1),
    (Method::Get, "/info", "info", 10, 60, 6),
    (Method::Get, "/static/icon.svg", "static", 600, 60, 1),
    (Method::Get, "/sw.js", "static", 600, 60, 1),
    (Method::Get, "/manifest.webmanifest", "static", 600, 60, 1),
    (Method::Get, "/metrics", "read", 600, 60, 1),
    (Method::Get, "/coffee/1", "read", 600, 60, 1),
    (Method::Head, "/coffee/", "read", 600, 60, 1),
    (Method::Get, "/heartrate/current", "read", 600, 60, 1),
    (Method::Get, "/keys", "manage", 120, 60, 1),
    (Method::Delete, "/keys/phone", "manage", 120, 60, 1),
    (Method::Post, "/pair", "pair", 10, 60, 6),
    (Method::Post, "/coffee/", "coffee-write", 100, 3600, 36),
    (Method::Put, "/coffee/1", "coffee-change", 60, 3600, 60),
    (Method::Patch, "/coffee/1", "coffee-change", 60, 3600, 60),
    (Method::Delete, "/coffee/1", "coffee-change", 60, 3600, 60),
    (Method::Post, "/heartrate/", "heartrate-write", 200, 3600, 18),
    (Method::Post, "/heartrate/batch", "heartrate-batch", 60, 3600, 60),
    (Method::Post, "/ingest/hc-webhook", "ingest", 120, 3600, 30),
    (Method::Get, "/backups", "manage", 120, 60, 1),
    (Method::Get, "/people/owner", "manage", 120, 60, 1),
    (Method::Delete, "/people/owner/keys/phone", "manage", 120, 60, 1),
    (Method::Put, "/heartrate/1", "heartrate-change", 120, 3600, 30),
    (Method::Delete, "/heartrate/1", "heartrate-change", 120, 3600, 30),
];

/// Asserts the policy (quota, window in seconds) and the state (remaining, seconds to wait).
fn assert_limits(response: &TestResponse, class: &str, (q, w): (u32, u32), (r, t): (u32, u32)) {
    assert_eq!(response.header("ratelimit-policy"), format!("\"{class}\";q={q};w={w}"));
    assert_eq!(response.header("ratelimit"), format!("\"{class}\";r={r};t={t}"));
}

/// Asserts status 429 with a wait in seconds.
fn assert_limited(response: TestResponse, class: &str, policy: (u32, u32), wait: u32) {
    assert_limits(&response, class, policy, (0, wait));
    assert_eq!(response.header("retry-after"), wait.to_string());
    if !response.body.is_empty() {
        response.assert_problem(429, &format!("Too many requests: try again in {wait} s"));
    }
}

/// Uses up a quota, then asserts the rejection, the refill of one request and that of the whole quota.
async fn assert_quota<'a>(
    app: &'a TestApp,
    request: impl Fn() -> TestRequest<'a>,
    class: &str,
    (quota, window, one): (u32, u32, u32),
) {
    let first = request().send().await;
    assert_ne!(first.status, 429, "{class}");
    assert_limits(&first, class, (quota, window), (quota - 1, one));
    for _ in 2..quota {
        request().send().await;
    }
    let last = request().send().await;
    assert_eq!(last.status, first.status, "{class}");
    assert_limits(&last, class, (quota, window), (0, one));
    let limited = request().send().await;
    assert_eq!(limited.status, 429, "{class}");
    assert_limited(limited, class, (quota, window), one);
    app.advance_clock(one.into());
    assert_eq!(request().send().await.status, first.status, "{class}");
    if one > 1 {
        assert_eq!(request().send().await.status, 429, "{class}");
    }
    // After the whole window the whole quota is refilled.
    app.advance_clock(window.into());
    assert_limits(&request().send().await, class, (quota, window), (quota - 1, one));
}

#[rocket::async_test]
async fn every_class_has_a_quota_that_refills() {
    for (method, path, class, quota, window, one) in CLASSES {
        let app = TestApp::with_flags(&[ON]).await;
        assert_quota(&app, || app.request(method, path), class, (quota, window, one)).await;
    }
}

#[rocket::async_test]
async fn without_a_valid_key_public_routes_keep_their_class_and_others_share_one() {
    for (method, path, class, quota, window, one) in CLASSES {
        let app = TestApp::with_flags(&[ON]).await;
        let request = || app.request(method, path).without_header("Authorization");
        if ["open", "health", "info", "static", "pair"].contains(&class) {
            assert_quota(&app, request, class, (quota, window, one)).await;
        } else {
            assert_quota(&app, request, "unauthenticated", (120, 60, 1)).await;
        }
    }
}

#[rocket::async_test]
async fn requests_without_a_valid_key_do_not_use_the_quota_of_a_key() {
    let app = TestApp::with_flags(&[ON]).await;
    let revoked = app.add_key("old", &Scope::OF_NAMED_KEYS);
    KeyFile::of(app.database()).revoke(&KeyName::parse("old").unwrap(), app.clock.now()).unwrap();
    app.people.refresh_people();
    let keys = ["", "Bearer wrong", "Basic dXNlcjpwYXNz", &format!("Bearer {revoked}")];
    // All of them share one quota.
    let paths = [(Method::Post, "/coffee/"), (Method::Get, "/coffee/"), (Method::Post, "/heartrate/")];
    for n in 0..120_usize {
        let (method, path) = paths[n % paths.len()];
        let request = app.request(method, path).header("Authorization", keys[n % keys.len()]);
        let response = request.body(r#"{"caffeine_mg": 1, "bpm": 60}"#).send().await;
        assert!([401, 429].contains(&response.status), "{}", response.text());
        let left = u32::try_from(119 - n).unwrap();
        assert!(response.header("ratelimit").starts_with(&format!("\"unauthenticated\";r={left};")));
    }
    for (method, path) in paths {
        let request = app.request(method, path).without_header("Authorization");
        assert_limited(request.send().await, "unauthenticated", (120, 60), 1);
        let response = app.request(method, path).body(r#"{"caffeine_mg": 1, "bpm": 60}"#).send().await;
        assert!(response.status < 300, "{}", response.text());
    }
    assert_eq!(app.ids("/coffee/").await, [1]);
    let other_client =
        app.request(Method::Get, "/coffee/").without_header("Authorization").remote("192.168.1.21:1");
    assert_eq!(other_client.send().await.status, 401, "another client");
    assert_eq!(app.metric(r#"rate_limited_total{class="unauthenticated"}"#).await, 3.0);
    assert_eq!(app.metric(r#"rate_limited_total{class="read"}"#).await, 0.0);
}

#[rocket::async_test]
async fn a_public_route_with_a_key_uses_the_quota_of_that_key() {
    let app = TestApp::with_flags(&[ON, ("rate-limit-info", "1/minute")]).await;
    let status = async |header: &str| {
        app.request(Method::Get, "/info").header("Authorization", header).send().await.status
    };
    let phone = format!("Bearer {}", app.add_key("phone", &[Scope::Metrics]));
    assert_eq!((status("").await, status("Bearer wrong").await), (200, 429), "both lack a valid key");
    assert_eq!((status(&phone).await, status(&phone).await), (200, 429));
    assert_eq!(app.get("/info").await.status, 200, "the owner's key");
}

#[rocket::async_test]
async fn each_pair_of_key_and_client_has_its_own_quota() {
    let app = TestApp::with_flags(&[ON, ("rate-limit-coffee-write", "2/hour")]).await;
    let phone = app.add_key("phone", &[Scope::Write]);
    let watch = app.add_key("watch", &[Scope::Read]);
    let post = async |key: &str, remote: &str| {
        let request = app.request(Method::Post, "/coffee/").key(key).remote(remote);
        request.body(r#"{"caffeine_mg": 1}"#).send().await.status
    };
    let (here, there) = ("192.168.1.20:1", "192.168.1.21:1");
    for status in [201, 201, 429] {
        assert_eq!(post(&phone, here).await, status);
    }
    // A valid key without the scope uses the quota of the requested class.
    for status in [403, 403, 429] {
        assert_eq!(post(&watch, here).await, status);
    }
    assert_eq!(post(&phone, there).await, 201);
    assert_eq!(post(super::helpers::KEY, here).await, 201);
    assert_eq!(app.metric(r#"rate_limited_total{class="coffee-write"}"#).await, 2.0);
}

#[rocket::async_test]
async fn public_metrics_count_as_reads_with_and_without_a_key() {
    let app = TestApp::with_flags(&[ON, ("metrics-public", "true")]).await;
    for _ in 0..2 {
        let response = app.request(Method::Get, "/metrics").without_header("Authorization").send().await;
        assert_eq!(response.header("ratelimit-policy"), "\"read\";q=600;w=60");
    }
    assert_limits(&app.get("/metrics").await, "read", (600, 60), (599, 1));
}

#[rocket::async_test]
async fn a_hundred_coffees_can_be_added_per_hour() {
    let app = TestApp::with_flags(&[ON]).await;
    let post = || app.request(Method::Post, "/coffee/").body(r#"{"caffeine_mg": 1}"#).send();
    for left in (0..100).rev() {
        let response = post().await;
        assert_eq!(response.status, 201);
        assert_limits(&response, "coffee-write", (100, 3600), (left, 36));
    }
    app.advance_clock(10);
    assert_limited(post().await, "coffee-write", (100, 3600), 26);
    app.advance_clock(26);
    let response = post().await;
    assert_eq!(response.status, 201);
    assert_limits(&response, "coffee-write", (100, 3600), (0, 36));
    // Another class and another client have their own quotas.
    assert_eq!(app.get("/coffee/").await.status, 200);
    let other =
        app.request(Method::Post, "/coffee/").remote("192.168.1.21:5000").body(r#"{"caffeine_mg": 1}"#);
    assert_eq!(other.send().await.status, 201);
    assert_eq!(app.metric(r#"rate_limited_total{class="coffee-write"}"#).await, 1.0);
}

#[rocket::async_test]
async fn a_limited_request_stores_nothing() {
    let app = TestApp::with_flags(&[ON, ("rate-limit-coffee-write", "1/hour")]).await;
    let post = |body: &str| app.request(Method::Post, "/coffee/").body(body).send();
    // A request with an invalid body uses up the quota.
    assert_eq!(post("{").await.status, 422);
    assert_eq!(post(r#"{"caffeine_mg": 1}"#).await.status, 429);
    assert!(app.ids("/coffee/").await.is_empty());
}

/// Reports whether the quota of `/info` is used up for a request.
async fn is_limited(app: &TestApp, prepare: impl Fn(TestRequest<'_>) -> TestRequest<'_>) -> bool {
    prepare(app.request(Method::Get, "/info")).send().await.status == 429
}

#[rocket::async_test]
async fn clients_are_ipv4_addresses_and_ipv6_64_networks() {
    for (first, second, same, reason) in [
        ("192.168.1.20:1", "192.168.1.20:2", true, "ports do not matter"),
        ("192.168.1.20:1", "192.168.1.21:1", false, "another address"),
        ("192.168.1.20:1", "[::ffff:192.168.1.20]:1", true, "IPv4 in IPv6"),
        ("192.168.1.20:1", "[::ffff:192.168.1.21]:1", false, "another IPv4 in IPv6"),
        ("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.2]:1", false, "two IPv4 in IPv6 share no /64"),
        ("[2001:db8::1]:1", "[2001:db8::ffff:ffff:ffff:ffff]:1", true, "the same /64"),
        ("[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false, "another /64"),
    ] {
        let app = TestApp::with_flags(&[ON, ("rate-limit-info", "1/minute")]).await;
        assert!(!is_limited(&app, |request| request.remote(first)).await);
        assert_eq!(is_limited(&app, |request| request.remote(second)).await, same, "{reason}");
    }
}

#[rocket::async_test]
async fn forwarded_addresses_count_only_from_trusted_proxies() {
    const PROXY: &str = "10.0.0.1:1";
    const CLIENT: &str = "192.168.1.20:1";
    for (remote, first, second, same, reason) in [
        (CLIENT, "1.1.1.1", "2.2.2.2", true, "ignored from an untrusted address"),
        (PROXY, "1.1.1.1", "2.2.2.2", false, "used from a trusted proxy"),
        (PROXY, "1.1.1.1", "1.1.1.1", true, "the same client"),
        (PROXY, "9.9.9.9, 1.1.1.1", "8.8.8.8, 1.1.1.1", true, "the rightmost untrusted address counts"),
        (PROXY, "1.1.1.1, 10.0.0.2", "2.2.2.2, 10.0.0.2", false, "trusted hops are skipped"),
        (PROXY, "1.1.1.1,fd00::7", "1.1.1.1 , 10.9.9.9", true, "any number of trusted hops"),
        (PROXY, "1.1.1.1:4711", "1.1.1.1:4712", true, "with a port"),
        (PROXY, "[2001:db8::1]:4711", "2001:db8::2", true, "IPv6 with a port, and without"),
        (PROXY, "::ffff:1.1.1.1", "1.1.1.1", true, "IPv4 in IPv6"),
        (PROXY, "1.1.1.1, nonsense", "2.2.2.2, nonsense", true, "an unreadable hop ends the list"),
        (PROXY, "", "unknown", true, "nothing readable: the proxy is the client"),
    ] {
        let flags = [ON, ("rate-limit-info", "1/minute"), ("trusted-proxies", "10.0.0.0/8, fd00::/8")];
        let app = TestApp::with_flags(&flags).await;
        assert!(!is_limited(&app, forwarded(remote, first)).await);
        assert_eq!(is_limited(&app, forwarded(remote, second)).await, same, "{reason}");
    }
}

/// Sets the address of the connection and the hops in `X-Forwarded-For`.
fn forwarded<'h>(remote: &'h str, hops: &'h str) -> impl Fn(TestRequest<'_>) -> TestRequest<'_> + 'h {
    move |request| request.remote(remote).header("X-Forwarded-For", hops)
}

#[rocket::async_test]
async fn repeated_forwarded_headers_form_one_list_and_x_real_ip_is_ignored() {
    let flags = [ON, ("rate-limit-info", "1/minute"), ("trusted-proxies", "10.0.0.1")];
    let app = TestApp::with_flags(&flags).await;
    assert!(!is_limited(&app, forwarded("10.0.0.1:1", "1.1.1.1")).await);
    assert!(
        is_limited(&app, |request| forwarded("10.0.0.1:1", "2.2.2.2")(request)
            .add_header("X-Forwarded-For", "1.1.1.1"))
        .await
    );
    for remote in ["10.0.0.1:1", "192.168.1.20:1"] {
        let app = TestApp::with_flags(&flags).await;
        assert!(!is_limited(&app, |request| request.remote(remote).header("X-Real-IP", "3.3.3.3")).await);
        assert!(
            is_limited(&app, |request| request.remote(remote).header("X-Real-IP", "4.4.4.4")).await,
            "{remote}"
        );
    }
}

#[rocket::async_test]
async fn limits_are_configurable() {
    let app = TestApp::with_flags(&[ON, ("rate-limit-read", "2/day")]).await;
    let response = app.get("/coffee/").await;
    assert_limits(&response, "read", (2, 86_400), (1, 43_200));
    app.get("/coffee/").await;
    assert_limited(app.get("/heartrate/").await, "read", (2, 86_400), 43_200);
}

#[rocket::async_test]
async fn disabled_limits_send_no_headers_and_reject_nothing() {
    let app = TestApp::new().await;
    for _ in 0..20 {
        let response = app.get("/info").await;
        assert_eq!((response.status, &response.json()["rate_limits"]), (200, &Value::Null));
        assert_eq!((response.header("ratelimit"), response.header("ratelimit-policy")), ("", ""));
    }
}

#[rocket::async_test]
async fn cleanup_removes_only_clients_with_a_full_quota() {
    let app =
        TestApp::with_flags(&[ON, ("rate-limit-info", "1/hour"), ("rate-limit-health", "60/minute")]).await;
    let tracked = async || app.get("/health").await.json()["rate_limiter"]["tracked_clients"].clone();
    assert!(!is_limited(&app, |request| request).await);
    for n in 0..50 {
        app.request(Method::Get, "/health").remote(&format!("10.1.0.{n}:1")).send().await;
    }
    app.advance_clock(120);
    assert_eq!(tracked().await, 52);
    app.advance_clock(2);
    app.shared.remove_idle_callers();
    // The client that is over its limit, and the one that requests `/health`.
    assert_eq!(tracked().await, 2);
    assert!(is_limited(&app, |request| request).await);
}
