//! `Host` checks, CORS, and the headers of every response.

use rocket::http::Method;
use serde_json::json;

use super::helpers::{REQUEST_ID, TestApp, TestResponse};

#[rocket::async_test]
async fn unknown_missing_and_repeated_hosts_are_rejected() {
    let app = TestApp::with_flags(&[("allowed-hosts", "coffee.example,*.kitchen.example")]).await;
    let not_allowed = "Host name not allowed: add it to ALLOWED_HOSTS";
    for (host, ok) in [
        ("localhost", true),
        ("LOCALHOST:8000", true),
        ("127.0.0.1:8000", true),
        ("192.168.1.7", true),
        ("[::1]:8000", true),
        ("pi.local", true),
        ("coffee.example:443", true),
        ("a.kitchen.example", true),
        ("kitchen.example", false),
        ("evil.example", false),
        ("coffee.example.evil", false),
        ("8.8.8.8", false),
        ("", false),
    ] {
        for path in ["/health", "/coffee/", "/nowhere"] {
            let response = app.request(Method::Get, path).header("Host", host).send().await;
            if ok {
                assert_ne!(response.status, 400, "{host} {path}");
            } else {
                response.assert_problem(400, not_allowed);
            }
        }
    }
    let browser =
        |host: &str| app.request(Method::Get, "/").header("Host", host).header("Accept", "text/html,*/*");
    for (host, setting) in [
        ("evil.example", "ALLOWED_HOSTS=evil.example<"),
        ("Coffee.Evil:8000", "ALLOWED_HOSTS=Coffee.Evil<"),
        ("<script>.example", "ALLOWED_HOSTS=coffee.example<"),
        ("", "ALLOWED_HOSTS=coffee.example<"),
    ] {
        let response = browser(host).send().await;
        assert_eq!(
            (response.status, response.header("content-type")),
            (400, "text/html; charset=utf-8"),
            "{host}"
        );
        assert!(response.text().contains(setting), "{host}: {}", response.text());
        assert!(!response.text().contains("script"), "{host}");
        let policy = response.header("content-security-policy");
        assert_eq!(
            policy,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
        );
    }
    assert_eq!(browser("localhost").send().await.status, 200);
    let missing = app.request(Method::Get, "/health").without_header("Host");
    missing.send().await.assert_problem(400, "The Host header is missing");
    let repeated = app.request(Method::Get, "/health").add_header("Host", "localhost");
    repeated.send().await.assert_problem(400, "The Host header is repeated");
    let unrestricted = TestApp::with_flags(&[("allowed-hosts", "*")]).await;
    assert_eq!(
        unrestricted.request(Method::Get, "/health").header("Host", "evil.example").send().await.status,
        200
    );
}

/// Name and value of every CORS header.
fn cors(response: &TestResponse) -> Vec<(&str, &str)> {
    let is_cors = |name: &str| name.starts_with("access-control-");
    response.headers.iter().filter(|(n, _)| is_cors(n)).map(|(n, v)| (n.as_str(), v.as_str())).collect()
}

const ORIGIN: &str = "https://home.example";
const EXPOSED: (&str, &str) = (
    "access-control-expose-headers",
    "Content-Disposition, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Process-Time, X-Request-ID",
);

#[rocket::async_test]
async fn only_allowed_origins_get_cors_headers() {
    let app = TestApp::with_flags(&[("cors-origins", "https://home.example, http://192.168.1.5:3000")]).await;
    for (origin, ok) in [
        (ORIGIN, true),
        ("HTTPS://HOME.EXAMPLE", true),
        ("http://192.168.1.5:3000", true),
        ("http://home.example", false),
        ("https://home.example:8443", false),
        ("https://home.example.evil", false),
        ("null", false),
    ] {
        for (path, status) in [("/coffee/", 200), ("/coffee/7", 404), ("/coffee/0", 422), ("/nowhere", 404)] {
            let response = app.request(Method::Get, path).header("Origin", origin).send().await;
            assert_eq!(response.status, status, "{origin} {path}");
            assert_eq!(response.header("vary"), "Origin");
            let expected = vec![("access-control-allow-origin", origin), EXPOSED];
            assert_eq!(cors(&response), if ok { expected } else { vec![] }, "{origin} {path}");
        }
    }
    assert_eq!(cors(&app.get("/coffee/").await), []);
}

#[rocket::async_test]
async fn a_preflight_response_lists_methods_and_headers() {
    let app = TestApp::with_flags(&[("cors-origins", ORIGIN)]).await;
    let preflight = |origin| {
        let request = app
            .request(Method::Options, "/coffee/1")
            .without_header("Authorization")
            .header("Origin", origin);
        request.header("Access-Control-Request-Method", "PUT").send()
    };
    let response = preflight(ORIGIN).await;
    assert_eq!((response.status, response.body.len()), (204, 0));
    assert_eq!(
        cors(&response),
        [
            ("access-control-allow-headers", "Authorization, Content-Type, Idempotency-Key, X-Request-ID"),
            ("access-control-allow-methods", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
            ("access-control-allow-origin", ORIGIN),
            ("access-control-max-age", "600"),
        ]
    );
    assert_eq!(cors(&preflight("https://evil.example").await), []);
    let without_origins = TestApp::new().await;
    let response = without_origins.request(Method::Get, "/coffee/").header("Origin", ORIGIN).send().await;
    assert_eq!((cors(&response), response.header("vary")), (vec![], ""));
}

#[rocket::async_test]
async fn every_response_has_security_headers_unless_they_are_disabled() {
    const SECURITY: [(&str, &str); 6] = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (setting, on) in [("true", true), ("false", false)] {
        let app = TestApp::with_flags(&[("security-headers", setting)]).await;
        for path in ["/", "/coffee/", "/coffee/0", "/nowhere", "/metrics", "/static/icon.svg", "/health"] {
            let response = app.get(path).await;
            for (name, value) in SECURITY {
                assert_eq!(response.header(name), if on { value } else { "" }, "{path} {name}");
            }
        }
        let options = app.request(Method::Options, "/coffee/").send().await;
        assert_eq!(options.header("x-frame-options"), if on { "DENY" } else { "" });
    }
}

#[rocket::async_test]
async fn a_well_formed_request_id_is_kept_and_another_is_replaced() {
    let app = TestApp::new().await;
    let long = "x".repeat(128);
    for id in ["a", "4bf92f35-77b3.4da6:a3_CE", &long] {
        for path in ["/health", "/coffee/0", "/nowhere"] {
            let response = app.request(Method::Get, path).header("X-Request-ID", id).send().await;
            assert_eq!(response.header("x-request-id"), id, "{path}");
        }
    }
    let too_long = "x".repeat(129);
    let mut made = Vec::new();
    for id in ["", "a b", "é", "a\"b", "<script>", &too_long] {
        let response = app.request(Method::Get, "/coffee/0").header("X-Request-ID", id).send().await;
        let given = response.header("x-request-id");
        assert!(given.len() == 32 && given.bytes().all(|b| b.is_ascii_hexdigit()), "{id}: {given}");
        assert_eq!(response.json()["request_id"], given);
        made.push(given.to_owned());
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 6, "every request has its own");
}

#[rocket::async_test]
async fn every_response_has_an_id_a_duration_and_is_not_cached() {
    let app = TestApp::new().await;
    for (method, path) in [
        (Method::Get, "/"),
        (Method::Get, "/health"),
        (Method::Head, "/coffee/"),
        (Method::Get, "/coffee/0"),
        (Method::Get, "/nowhere"),
        (Method::Delete, "/coffee/"),
        (Method::Options, "/coffee/"),
        (Method::Get, "/metrics"),
    ] {
        let response = app.request(method, path).send().await;
        assert_eq!(response.header("x-request-id"), REQUEST_ID, "{path}");
        let seconds: f64 = response.header("x-process-time").parse().unwrap();
        assert!((0.0..60.0).contains(&seconds), "{path}: {seconds}");
        assert_eq!(response.header("cache-control"), "no-store", "{path}");
        assert_eq!(response.header("server"), "", "{path}");
    }
}

#[rocket::async_test]
async fn headers_larger_than_16_kib_in_total_are_rejected() {
    let app = TestApp::new().await;
    let detail = "The headers must not be larger than 16 KiB in total";
    for path in ["/health", "/coffee/", "/nowhere"] {
        let one = app.request(Method::Get, path).header("X-Large", "x".repeat(16 << 10));
        one.send().await.assert_problem(431, detail);
        let many = (0..2000)
            .fold(app.request(Method::Get, path), |request, n| request.add_header("X-Many", n.to_string()));
        many.send().await.assert_problem(431, detail);
    }
    let nearly = app.request(Method::Get, "/coffee/").header("X-Large", "x".repeat(15 << 10));
    nearly.send().await.assert_json(200, json!([]));
}
