//! Error responses: always problem documents, and without internal details.

use rocket::http::Method;
use serde_json::json;

use super::helpers::{KEY, TestApp};

const NOT_FOUND: &str = "Path not found";

#[rocket::async_test]
async fn unknown_paths_return_404_with_any_method() {
    let app = TestApp::new().await;
    for path in [
        "/nowhere",
        "/coffee/1/2",
        "/coffee/today/1",
        "/heartrate/batch/1",
        "/Coffee/",
        "/coffee.json",
        "/coffee/../metrics",
        "/coffee/%2e%2e/metrics",
        "/coffee%2ftoday",
        "/.env",
        "/data/coffee.db",
        "/nowhere?api_key=secret",
    ] {
        for method in [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Options]
        {
            for accept in ["text/html", "*/*", "application/xml"] {
                let request = app.request(method, path).header("Accept", accept).body("{");
                request.send().await.assert_problem(404, NOT_FOUND);
            }
        }
        let head = app.request(Method::Head, path).send().await;
        assert_eq!((head.status, head.body.len()), (404, 0), "{path}");
    }
}

#[rocket::async_test]
async fn static_paths_cannot_leave_their_folder() {
    let app = TestApp::new().await;
    for path in [
        "/static/nothing.js",
        "/static/..%2fCargo.toml",
        "/static/%2e%2e/Cargo.toml",
        "/static/../Cargo.toml",
        "/static/.hidden",
        "/static/%00",
    ] {
        let response = app.get(path).await;
        assert!((400..500).contains(&response.status), "{path}: {}", response.status);
        assert_eq!(response.header("content-type"), "application/problem+json", "{path}");
        assert!(!response.text().contains("Cargo"), "{path}: {}", response.text());
    }
}

#[rocket::async_test]
async fn errors_are_problem_documents_with_any_accept_header() {
    let app = TestApp::new().await;
    for accept in ["text/html", "text/html,application/xhtml+xml", "image/png", ""] {
        for (method, path, status) in [
            (Method::Get, "/nowhere", 404),
            (Method::Delete, "/coffee/", 405),
            (Method::Get, "/coffee/0", 422),
            (Method::Post, "/coffee/", 422),
            (Method::Get, "/coffee/1", 404),
        ] {
            let response = app.request(method, path).header("Accept", accept).send().await;
            assert_eq!(response.status, status, "{accept} {path}");
            assert_eq!(response.header("content-type"), "application/problem+json", "{accept} {path}");
            assert_eq!(response.json()["status"], status);
        }
    }
}

#[rocket::async_test]
async fn error_responses_never_contain_the_key() {
    let app = TestApp::new().await;
    for path in ["/nowhere", "/coffee/0", "/coffee/?limit=0", "/coffee/today", "/metrics", "/info", "/health"]
    {
        assert!(!app.get(path).await.text().contains(KEY), "{path}");
    }
    app.get("/coffee/").await.assert_json(200, json!([]));
}
