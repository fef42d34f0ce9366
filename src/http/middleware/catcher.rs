//! Response to requests that no route handles: unknown paths and methods, OPTIONS, panics, and
//! requests that Rocket could not parse.

use rocket::catcher;
use rocket::catcher::Handler;
use rocket::http::{Method, Status};
use rocket::request::Request;
use rocket::response::Response;

use crate::config::LimitClass;
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::middleware::guard::{Access, RouteTable, check};
use crate::http::middleware::request_fairing::finish;
use crate::http::request_context::RequestContext;

/// Catcher for every status.
#[derive(Clone)]
pub struct DefaultCatcher(pub RouteTable);

#[rocket::async_trait]
impl Handler for DefaultCatcher {
    async fn handle<'r>(&self, status: Status, request: &'r Request<'_>) -> catcher::Result<'r> {
        let mut response = match status.code {
            500.. => ApiError::Internal.respond(request),
            _ => self.respond(status, request).unwrap_or_else(|e| e.respond(request)),
        };
        if RequestContext::of(request).skipped_fairings
            && let Ok(app) = App::of(request)
        {
            finish(app, request, &mut response);
        }
        Ok(response)
    }
}

impl DefaultCatcher {
    /// Responds to OPTIONS, or fails with the error for the path. Charged to the limit of open pages; needs no key.
    fn respond<'r>(&self, status: Status, request: &Request<'_>) -> Result<Response<'r>, ApiError> {
        check(request, LimitClass::Open, Access::Public)?;
        let context = RequestContext::of(request);
        let Some((template, methods)) = self.0.methods_at(request.uri().path().as_str()) else {
            return Err(match (status.code, context.skipped_fairings) {
                (404, _) | (_, true) => ApiError::NotFound("Path not found"),
                _ => ApiError::BadRequest("Malformed request"),
            });
        };
        context.route.get_or_init(|| template);
        let allowed = allow_header(&methods);
        if context.method != Method::Options {
            return Err(ApiError::MethodNotAllowed(allowed));
        }
        let mut response = Response::new();
        response.set_status(Status::NoContent);
        response.set_raw_header("Allow", allowed);
        Ok(response)
    }
}

/// Value of `Allow`: HEAD comes with GET, and OPTIONS always.
fn allow_header(methods: &[Method]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for method in methods {
        names.push(method.as_str());
        if *method == Method::Get {
            names.push("HEAD");
        }
    }
    names.push("OPTIONS");
    names.join(", ")
}
