//! Fairing that starts and ends every request: normal form of the path; headers, log line and metrics.

use std::sync::Arc;

use rocket::data::Data;
use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Method;
use rocket::http::uri::Origin;
use rocket::request::Request;
use rocket::response::Response;

use crate::http::app::App;
use crate::http::client_address::Client;
use crate::http::middleware::security_headers;
use crate::http::raw_request::RawRequest;
use crate::http::request_context::RequestContext;
use crate::http::request_id::RequestId;

/// Route label of an unmatched request.
pub const UNMATCHED: &str = "unmatched";

/// Fairing that starts and ends every request.
pub struct RequestFairing(pub Arc<App>);

#[rocket::async_trait]
impl Fairing for RequestFairing {
    fn info(&self) -> Info {
        Info { name: "request", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        RequestContext::start(request);
        if let Some(uri) = normalized(request.method(), request.uri()) {
            request.set_uri(uri);
        }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        finish(&self.0, request, response);
        // Rocket removes the body of a response to HEAD after this, and with it the length.
        if RawRequest::of(request).is_connected()
            && !response.headers().contains("Transfer-Encoding")
            && let Some(size) = response.body_mut().size().await
        {
            response.set_raw_header("Content-Length", size.to_string());
        }
    }
}

/// Adds the common headers, writes the log line and updates the metrics.
pub fn finish(app: &App, request: &Request<'_>, response: &mut Response<'_>) {
    let context = RequestContext::of(request);
    let elapsed = context.started.elapsed();
    let status = response.status().code;
    let route = context.route.get().copied().unwrap_or(UNMATCHED);
    let bytes = response.body().preset_size().unwrap_or(0);
    let client = context.client.get_or_init(|| Client::of(request, &app.settings.trusted_proxies));
    security_headers::add(app, request, response, elapsed);
    // `dispatch` passes an unknown method as TRACE.
    let is_unknown = context.skipped_fairings || RawRequest::of(request).is_method_unknown;
    let method = if is_unknown { "other" } else { context.method.as_str() };
    app.metrics.observe_request(method, route, status, elapsed.as_secs_f64());
    // Not the URI: its query may hold private text.
    tracing::info!(
        target: "request",
        id = RequestId::of(request).as_str(),
        method,
        route,
        status,
        ms = elapsed.as_micros() as f64 / 1000.0,
        client = %client.address,
        bytes,
        "request"
    );
}

/// Returns the URI without doubled and trailing slashes; `None` when it has none.
///
/// The path of a `DELETE` keeps its trailing slash: clients turn `/people/anna/keys/..` into `/people/anna/`, and that
/// request must not remove Anna.
fn normalized(method: Method, uri: &Origin<'_>) -> Option<Origin<'static>> {
    let path = uri.path().as_str();
    let is_kept = path == "/" || method == Method::Delete && path.ends_with('/');
    if is_kept || !(path.ends_with('/') || path.contains("//")) {
        return None;
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    Origin::parse_owned(format!("/{}{query}", segments.join("/"))).ok()
}
