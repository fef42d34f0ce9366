//! Pages and static files: content negotiation, compression, caching and content security policy.

use std::io::Read;

use flate2::read::GzDecoder;
use rocket::http::Method;
use serde_json::json;

use super::helpers::{TestApp, TestResponse};

/// `Accept` header of Firefox, Chrome and Safari for a page.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
const BUNDLE: &str = "/static/vendor/swagger-ui-5.35.0/swagger-ui-bundle.js";
const CSP: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
                   form-action 'self'";

async fn get_with(app: &TestApp, path: &str, headers: &[(&'static str, &str)]) -> TestResponse {
    let request = app.request(Method::Get, path).without_header("Authorization");
    headers.iter().fold(request, |request, (name, value)| request.header(name, *value)).send().await
}

#[rocket::async_test]
async fn browsers_get_the_dashboard_and_other_clients_json() {
    let app = TestApp::new().await;
    for (accept, is_page, reason) in [
        (BROWSER, true, "browsers"),
        ("text/html", true, "HTML"),
        ("text/html, application/json", true, "equal quality"),
        ("application/json, text/html;q=0.5", false, "JSON preferred"),
        ("text/html;q=0, */*", false, "HTML excluded"),
        ("*/*", false, "curl"),
        ("application/json", false, "JSON"),
        ("image/png", false, "something else"),
        ("not a media type", false, "malformed"),
    ] {
        let response = get_with(&app, "/", &[("Accept", accept)]).await;
        let kind = if is_page { "text/html; charset=utf-8" } else { "application/json" };
        assert_eq!((response.status, response.header("content-type")), (200, kind), "{reason}");
        assert_eq!(response.header("vary"), "Accept, Accept-Encoding", "{reason}");
        assert_eq!(
            response.header("cache-control"),
            if is_page { "no-cache" } else { "no-store" },
            "{reason}"
        );
        assert_eq!(response.text().starts_with("<!doctype html>"), is_page, "{reason}");
    }
    let none = app.request(Method::Get, "/").without_header("Accept").send().await;
    assert_eq!(none.json()["docs"], json!("/docs"));
}

#[rocket::async_test]
async fn redoc_redirects_to_docs() {
    let app = TestApp::new().await;
    for path in ["/docs", "/docs/"] {
        let page = get_with(&app, path, &[]).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        assert!(page.text().starts_with("<!doctype html>"));
    }
    let other = get_with(&app, "/redoc", &[]).await;
    assert_eq!((other.status, other.header("location")), (308, "/docs"));
}

#[rocket::async_test]
async fn every_section_of_the_settings_has_an_address_and_others_are_not_found() {
    let app = TestApp::new().await;
    for path in ["", "/", "/you", "/devices", "/data", "/backups", "/people", "/system", "/you?sign-in"] {
        let page = get_with(&app, &format!("/settings{path}"), &[("Accept", BROWSER)]).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
        assert_eq!(page.header("cache-control"), "no-cache");
        assert!(page.text().contains("/static/settings/main.js"));
    }
    for path in ["/nobody", "/You", "/you/more"] {
        let missing = get_with(&app, &format!("/settings{path}"), &[("Accept", BROWSER)]).await;
        missing.assert_problem(404, "Path not found");
    }
}

#[rocket::async_test]
async fn files_at_the_root_are_those_in_static() {
    let app = TestApp::new().await;
    for (path, kind, same) in [
        ("/sw.js", "text/javascript; charset=utf-8", "/static/sw.js"),
        ("/manifest.webmanifest", "application/manifest+json", "/static/manifest.webmanifest"),
        ("/favicon.ico", "image/svg+xml", "/static/icon.svg"),
    ] {
        let file = get_with(&app, path, &[]).await;
        assert_eq!((file.status, file.header("content-type")), (200, kind), "{path}");
        assert_eq!(file.header("cache-control"), "no-cache", "{path}");
        assert_eq!(file.body, get_with(&app, same, &[]).await.body, "{path}");
    }
}

#[rocket::async_test]
async fn static_files_are_revalidated_by_their_etag() {
    let app = TestApp::new().await;
    for path in ["/static/icon.svg", "/docs", "/openapi.json"] {
        let plain = get_with(&app, path, &[]).await;
        let compressed = get_with(&app, path, &[("Accept-Encoding", "gzip")]).await;
        let tag = compressed.header("etag").to_owned();
        assert_ne!(plain.header("etag"), tag, "each encoding has an etag of its own: {path}");
        for (known, status) in [
            (tag.clone(), 304),
            (format!("\"x\", W/{tag}"), 304),
            ("*".into(), 304),
            ("\"x\"".into(), 200),
            (plain.header("etag").to_owned(), 200),
        ] {
            let headers = [("Accept-Encoding", "gzip"), ("If-None-Match", known.as_str())];
            let response = get_with(&app, path, &headers).await;
            assert_eq!((response.status, response.header("etag")), (status, tag.as_str()), "{path} {known}");
            assert_eq!(response.header("cache-control"), "no-cache", "{path}");
            assert_eq!(response.header("vary"), "Accept-Encoding", "{path}");
            assert_eq!(response.body.is_empty(), status == 304, "{path}");
        }
    }
    app.get("/static/none.svg").await.assert_problem(404, "File not found");
    app.request(Method::Put, "/static/icon.svg")
        .send()
        .await
        .assert_problem(405, "Allowed methods: GET, HEAD, OPTIONS");
}

#[rocket::async_test]
async fn vendored_files_are_cached_permanently() {
    let app = TestApp::new().await;
    let bundle = get_with(&app, BUNDLE, &[("Accept-Encoding", "gzip")]).await;
    assert_eq!(bundle.header("cache-control"), "public, max-age=31536000, immutable");
    let missing = get_with(&app, "/static/vendor/swagger-ui-0.0.0/swagger-ui-bundle.js", &[]).await;
    assert_eq!((missing.status, missing.header("cache-control")), (404, "no-store"));
}

#[rocket::async_test]
async fn static_files_are_compressed_only_for_clients_that_accept_gzip() {
    let app = TestApp::new().await;
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/static/docs.html")).unwrap();
    for (accepted, is_compressed) in [
        (Some("gzip, deflate"), true),
        (Some("br;q=1.0, GZIP;q=0.8"), true),
        (Some("*"), true),
        (Some("gzip;q=0, *"), false),
        (Some("gzip; q=0.000"), false),
        (Some("identity"), false),
        (Some("br, zstd"), false),
        (Some(""), false),
        (None, false),
    ] {
        let headers = accepted.map(|coding| ("Accept-Encoding", coding));
        let response = get_with(&app, "/static/docs.html", headers.as_slice()).await;
        assert_eq!(response.status, 200);
        assert_eq!(
            response.header("content-encoding"),
            if is_compressed { "gzip" } else { "" },
            "{accepted:?}"
        );
        assert_eq!(response.content_length, Some(response.body.len()), "{accepted:?}");
        let mut content = Vec::new();
        if is_compressed {
            assert!(response.body.len() < file.len() / 2, "{} of {}", response.body.len(), file.len());
            GzDecoder::new(&*response.body).read_to_end(&mut content).unwrap();
        } else {
            content = response.body;
        }
        assert_eq!(content, file, "{accepted:?}");
    }
    let head = app.request(Method::Head, BUNDLE).header("Accept-Encoding", "gzip").send().await;
    let whole = get_with(&app, BUNDLE, &[("Accept-Encoding", "gzip")]).await;
    assert_eq!((head.status, head.body.len(), head.content_length), (200, 0, Some(whole.body.len())));
}

#[rocket::async_test]
async fn static_files_have_the_correct_content_type() {
    let app = TestApp::new().await;
    for (path, kind) in [
        ("/static/theme.css", "text/css; charset=utf-8"),
        ("/static/icon.svg", "image/svg+xml"),
        (BUNDLE, "text/javascript; charset=utf-8"),
        ("/static/vendor/swagger-ui-5.35.0/LICENSE", "text/plain; charset=utf-8"),
        ("/static/vendor/swagger-ui-5.35.0/swagger-ui-bundle.js.LICENSE.txt", "text/plain; charset=utf-8"),
        ("/static/index.html", "text/html; charset=utf-8"),
    ] {
        let file = get_with(&app, path, &[]).await;
        assert_eq!((file.status, file.header("content-type")), (200, kind), "{path}");
    }
}

#[rocket::async_test]
async fn pages_load_only_from_the_server_and_the_docs_allow_inline_styles() {
    let app = TestApp::new().await;
    let docs = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    for (path, policy) in [
        ("/", CSP),
        ("/static/index.html", CSP),
        ("/docs", docs),
        ("/settings", CSP),
        ("/settings/devices", CSP),
        // The policy applies to the requests of the worker.
        ("/sw.js", CSP),
        ("/static/theme.css", "default-src 'none'; frame-ancestors 'none'"),
    ] {
        let response = get_with(&app, path, &[("Accept", BROWSER)]).await;
        assert_eq!((response.status, response.header("content-security-policy")), (200, policy), "{path}");
        assert_eq!(response.header("x-frame-options"), "DENY", "{path}");
        // Browsers replace the cached headers with those of the 304 response.
        let revalidated =
            get_with(&app, path, &[("Accept", BROWSER), ("If-None-Match", response.header("etag"))]).await;
        assert_eq!(
            (revalidated.status, revalidated.header("content-security-policy")),
            (304, policy),
            "{path}"
        );
    }
}
