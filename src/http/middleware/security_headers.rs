//! Headers of every response (id, time, limits, security, CORS), and the check of the `Host` header.

use std::net::IpAddr;
use std::time::Duration;

use rocket::http::Method;
use rocket::request::Request;
use rocket::response::Response;

use crate::http::app::App;
use crate::http::request_context::RequestContext;
use crate::http::request_id::RequestId;

const CSP_JSON: &str = "default-src 'none'; frame-ancestors 'none'";
const CSP_PAGE: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; \
                        base-uri 'none'; form-action 'self'";
/// Swagger UI needs inline styles.
const CSP_DOCS: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                        frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// The page that reports an error has an inline style, and can load nothing.
const CSP_ERROR: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// Response headers that scripts of other origins may read.
const EXPOSED_HEADERS: &str = "Content-Disposition, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Process-Time, X-Request-ID";

/// Adds the headers of every response.
pub fn add(app: &App, request: &Request<'_>, response: &mut Response<'_>, elapsed: Duration) {
    let context = RequestContext::of(request);
    response.set_raw_header("X-Request-ID", RequestId::of(request).to_string());
    response.set_raw_header("X-Process-Time", format!("{:.6}", elapsed.as_secs_f64()));
    if let Some(allowance) = context.allowance.get() {
        let (name, rate) = (allowance.class.name(), allowance.rate);
        let policy = format!("\"{name}\";q={};w={}", rate.requests, rate.per.as_secs());
        response.set_raw_header("RateLimit-Policy", policy);
        let limit = format!("\"{name}\";r={};t={}", allowance.remaining, allowance.reset_seconds);
        response.set_raw_header("RateLimit", limit);
    }
    if app.settings.security_headers {
        response.set_raw_header("X-Content-Type-Options", "nosniff");
        response.set_raw_header("X-Frame-Options", "DENY");
        response.set_raw_header("Referrer-Policy", "no-referrer");
        response.set_raw_header("Cross-Origin-Opener-Policy", "same-origin");
        response.set_raw_header("Cross-Origin-Resource-Policy", "same-origin");
        response.set_raw_header("Content-Security-Policy", content_security_policy(context, response));
    }
    if !response.headers().contains("Cache-Control") {
        // Entries change, and they are private.
        response.set_raw_header("Cache-Control", "no-store");
    }
    if !app.settings.cors_origins.is_empty() {
        add_cors(app, request, context, response);
    }
}

fn content_security_policy(context: &RequestContext, response: &Response<'_>) -> &'static str {
    let is_page = response.content_type().is_some_and(|content| content.is_html());
    match context.route.get().copied() {
        _ if is_page && response.status().code >= 400 => CSP_ERROR,
        Some("/docs") if is_page => CSP_DOCS,
        // The policy of a service worker's script applies to its requests.
        Some("/sw.js") => CSP_PAGE,
        _ if is_page => CSP_PAGE,
        _ => CSP_JSON,
    }
}

fn add_cors(app: &App, request: &Request<'_>, context: &RequestContext, response: &mut Response<'_>) {
    response.adjoin_raw_header("Vary", "Origin");
    let Some(origin) = request.headers().get_one("Origin") else { return };
    let allowed = &app.settings.cors_origins;
    if !allowed.iter().any(|one| one == "*" || one.eq_ignore_ascii_case(origin)) {
        return;
    }
    response.set_raw_header("Access-Control-Allow-Origin", origin.to_owned());
    let is_preflight = context.method == Method::Options
        && request.headers().get_one("Access-Control-Request-Method").is_some();
    if is_preflight {
        let methods = response.headers().get_one("Allow").unwrap_or("GET").to_owned();
        response.set_raw_header("Access-Control-Allow-Methods", methods);
        response.set_raw_header(
            "Access-Control-Allow-Headers",
            "Authorization, Content-Type, Idempotency-Key, X-Request-ID",
        );
        response.set_raw_header("Access-Control-Max-Age", "600");
    } else {
        response.set_raw_header("Access-Control-Expose-Headers", EXPOSED_HEADERS);
    }
}

/// Reports whether requests for this `Host` are served. Local names and private addresses always are, so
/// that a LAN works without configuration.
pub fn is_host_allowed(host: &str, allowed: &[String], own_name: &str) -> bool {
    let host = host.trim().to_ascii_lowercase();
    let name = without_port(&host);
    if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>()
        && is_private(address.to_canonical())
    {
        return true;
    }
    let name = name.trim_end_matches('.');
    let is_below = |suffix: &str| name.len() > suffix.len() && name.ends_with(suffix);
    let is_local = name == "localhost"
        || (!own_name.is_empty() && name == own_name)
        || [".localhost", ".local", ".lan", ".home.arpa"].into_iter().any(is_below);
    let is_listed = |pattern: &String| match pattern.strip_prefix('*') {
        Some(suffix) if suffix.starts_with('.') => is_below(suffix),
        _ => pattern == "*" || pattern == name,
    };
    is_local || allowed.iter().any(is_listed)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // A bare IPv6 address has colons, but no port.
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (name.ends_with(']') || !name.contains(':')) =>
        {
            name
        }
        _ => host,
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_names_and_private_addresses_are_always_allowed_and_others_when_listed() {
        let allowed = vec!["coffee.example".to_owned(), "*.kitchen.example".to_owned()];
        let is_allowed = |host| is_host_allowed(host, &allowed, "pi");
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "pi",
            "pi:80",
            "pi.local",
            "coffee.lan",
            "x.home.arpa:1",
            "127.0.0.1:8000",
            "192.168.1.7",
            "10.0.0.1",
            "172.16.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "[::1]:8000",
            "[fe80::1]",
            "[fd12::1]",
            "::1",
            "[::ffff:192.168.1.7]:80",
            "coffee.example",
            "Coffee.Example.:443",
            "a.kitchen.example",
            "a.b.kitchen.example",
        ] {
            assert!(is_allowed(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "kitchen.example",
            ".kitchen.example",
            "xkitchen.example",
            "coffee.example.evil",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "[2001:db8::1]",
            ".local",
            "local",
            "localhost.evil.example",
            "coffee.example:8x",
        ] {
            assert!(!is_allowed(host), "{host}");
        }
        assert!(is_host_allowed("anything.example", &["*".to_owned()], ""));
    }
}
