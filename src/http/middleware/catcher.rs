//! What answers when no route does: unknown paths and methods, OPTIONS, panics, and
//! requests that Rocket could not read (which reach no fairing).

use rocket::catcher;
use rocket::catcher::{Catcher, Handler};
use rocket::http::{Method, Status};
use rocket::request::Request;
use rocket::response::Response;

use crate::config::LimitClass;
use crate::http::error::ApiError;
use crate::http::middleware::guard::{Access, admit, allow, app};
use crate::http::middleware::request_context::Exchange;
use crate::http::routes;

#[derive(Clone)]
struct Default;

/// The one catcher there is.
pub fn catcher() -> Catcher {
    Catcher::new(None, Default)
}

#[rocket::async_trait]
impl Handler for Default {
    async fn handle<'r>(&self, status: Status, request: &'r Request<'_>) -> catcher::Result<'r> {
        let exchange = Exchange::of(request);
        let mut response = match status.code {
            500.. => ApiError::Internal.respond(&exchange.id),
            _ => unrouted(status, request, exchange),
        };
        if exchange.salvaged
            && let Ok(app) = app(request)
        {
            exchange.end(app, request, &mut response);
        }
        Ok(response)
    }
}

/// Pages that are not there are counted as open pages and need no key.
fn unrouted<'r>(status: Status, request: &Request<'_>, exchange: &Exchange) -> Response<'r> {
    let refuse = |error: ApiError| error.respond(&exchange.id);
    if let Err(refusal) = admit(request, LimitClass::Open, Access::Public) {
        return refuse(refusal);
    }
    let path = request.uri().path();
    let Some((template, methods)) = routes::methods_at(path.as_str()) else {
        return refuse(match (status.code, exchange.salvaged) {
            (404, _) | (_, true) => ApiError::NotFound("Nothing lives at this path"),
            _ => ApiError::BadRequest("The request could not be read"),
        });
    };
    exchange.route.get_or_init(|| template);
    let allowed = allow(&methods);
    if exchange.method == Method::Options {
        let mut response = Response::new();
        response.set_status(Status::NoContent);
        response.set_raw_header("Allow", allowed);
        return response;
    }
    refuse(ApiError::MethodNotAllowed(allowed))
}
