//! What a person sees: the dashboard, and where it lives; the docs page.

use std::convert::Infallible;

use rocket::http::{Accept, Header};
use rocket::outcome::Outcome;
use rocket::request::{FromRequest, Request};
use rocket::response::{Redirect, Responder};
use rocket::{Either, request};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::handlers::assets::Asset;
use crate::http::handlers::health::VERSION;
use crate::http::response::Answer;

/// Where to go.
#[derive(Serialize, ToSchema)]
pub struct Welcome {
    message: &'static str,
    version: &'static str,
    docs: &'static str,
    health: &'static str,
    api_endpoints: Endpoints,
}

#[derive(Serialize, ToSchema)]
struct Endpoints {
    coffee: &'static str,
    heartrate: &'static str,
}

/// Is it a browser that asks, for somebody who wants to look?
#[derive(Clone, Copy)]
pub struct WantsPage(bool);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for WantsPage {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        Outcome::Success(Self(request.accept().is_some_and(prefers_html)))
    }
}

/// Is HTML asked for by name, and no less than JSON?
fn prefers_html(accept: &Accept) -> bool {
    let weight = |sub: &str| {
        let named = accept.iter().filter(|kind| kind.sub() == sub);
        named.map(|kind| kind.weight_or(1.0)).fold(0.0, f32::max)
    };
    let html = weight("html");
    html > 0.0 && html >= weight("json")
}

/// The page or the JSON: what it is depends on what is asked for.
#[derive(Responder)]
pub struct Home {
    chosen: Either<Asset, Answer>,
    vary: Header<'static>,
}

/// Welcome
///
/// A browser (`Accept: text/html`) gets the dashboard.
#[utoipa::path(get, path = "/", operation_id = "welcome", tag = "open", responses(
    (status = 200, description = "Where to go; to a browser, the dashboard", content((Welcome = "application/json"), (String = "text/html"))),
    (status = 304, description = "The dashboard is as the browser has it")))]
#[rocket::get("/")]
pub fn root(wants_page: WantsPage) -> Result<Home, ApiError> {
    let chosen = if wants_page.0 {
        Either::Left(Asset::file("index.html")?)
    } else {
        Either::Right(Answer::ok(&Welcome {
            message: "Coffee Tracker",
            version: VERSION,
            docs: "/docs",
            health: "/health",
            api_endpoints: Endpoints { coffee: "/coffee/", heartrate: "/heartrate/" },
        })?)
    };
    Ok(Home { chosen, vary: Header::new("Vary", "Accept, Accept-Encoding") })
}

/// The docs page
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = "open", responses(
    (status = 200, description = "A guide, and this document to try out", content_type = "text/html", body = String),
    (status = 304, description = "The page is as the browser has it")))]
#[rocket::get("/docs")]
pub fn docs() -> Result<Asset, ApiError> {
    Asset::file("docs.html")
}

/// The docs page's other name
#[utoipa::path(get, path = "/redoc", operation_id = "redoc", tag = "open", responses(
    (status = 308, description = "See `/docs`", headers(("Location" = String, description = "`/docs`")))))]
#[rocket::get("/redoc")]
pub fn redoc() -> Redirect {
    Redirect::permanent("/docs")
}
