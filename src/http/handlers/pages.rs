//! Dashboard, settings, documentation page and OpenAPI document.

use std::convert::Infallible;
use std::io;
use std::sync::OnceLock;

use rocket::http::{ContentType, Header};
use rocket::outcome::Outcome;
use rocket::request::{FromParam, FromRequest, Request};
use rocket::response::{Redirect, Responder};
use rocket::{Either, State, request};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::app::VERSION;
use crate::http::error::ApiError;
use crate::http::handlers::assets;
use crate::http::handlers::assets::Asset;
use crate::http::prefers_html::prefers_html;
use crate::http::response::JsonResponse;

/// Response body of `GET /`.
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

/// Reports whether the client prefers HTML, as browsers do.
#[derive(Clone, Copy)]
pub struct PrefersHtml(bool);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for PrefersHtml {
    type Error = Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Infallible> {
        Outcome::Success(Self(prefers_html(request)))
    }
}

/// Dashboard or JSON, as the client prefers.
#[derive(Responder)]
pub struct Home {
    content: Either<Asset, JsonResponse>,
    vary: Header<'static>,
}

/// Welcome
///
/// Browsers (`Accept: text/html`) get the dashboard.
#[utoipa::path(get, path = "/", operation_id = "welcome", tag = "open", responses(
    (status = 200, description = "Links, or the dashboard for browsers", content((Welcome = "application/json"), (String = "text/html"))),
    (status = 304, description = "The browser's copy is current")))]
#[rocket::get("/")]
pub fn root(prefers_html: PrefersHtml) -> Result<Home, ApiError> {
    let content = if prefers_html.0 {
        Either::Left(Asset::file("index.html")?)
    } else {
        Either::Right(JsonResponse::ok(&Welcome {
            message: "Coffee Tracker",
            version: VERSION,
            docs: "/docs",
            health: "/health",
            api_endpoints: Endpoints { coffee: "/coffee/", heartrate: "/heartrate/" },
        })?)
    };
    Ok(Home { content, vary: Header::new("Vary", "Accept, Accept-Encoding") })
}

/// Returns the documentation page.
#[rocket::get("/docs")]
pub fn docs() -> Result<Asset, ApiError> {
    Asset::file("docs.html")
}

/// Section of the settings, which the page shows by its address.
pub struct SettingsSection;

impl FromParam<'_> for SettingsSection {
    type Error = ();

    fn from_param(name: &str) -> Result<Self, ()> {
        match name {
            "you" | "devices" | "data" | "backups" | "people" | "system" => Ok(Self),
            _ => Err(()),
        }
    }
}

/// Returns the settings page, which lists the sections.
#[rocket::get("/settings")]
pub fn settings() -> Result<Asset, ApiError> {
    Asset::file("settings.html")
}

/// Returns the settings page for one of its sections.
#[rocket::get("/settings/<section>")]
pub fn settings_section(section: Option<SettingsSection>) -> Result<Asset, ApiError> {
    section.map_or(Err(ApiError::NotFound("Path not found")), |SettingsSection| settings())
}

/// Redirects to the documentation page.
#[rocket::get("/redoc")]
pub fn redoc() -> Redirect {
    Redirect::permanent("/docs")
}

/// OpenAPI document.
#[derive(ToSchema)]
#[schema(value_type = Object)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct OpenApiDocument(serde_json::Value);

/// Function that returns the text of the document.
pub struct DocumentSource(pub fn() -> &'static str);

/// OpenAPI document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "open", responses(
    (status = 200, description = "This document", body = OpenApiDocument, headers(("ETag" = String, description = "Digest of the document, for `If-None-Match`"))),
    (status = 304, description = "The client's copy is current")))]
#[rocket::get("/openapi.json")]
pub fn openapi(source: &State<DocumentSource>) -> Result<Asset, ApiError> {
    static COMPRESSED: OnceLock<io::Result<Vec<u8>>> = OnceLock::new();
    let compressed = COMPRESSED.get_or_init(|| assets::gzip((source.0)().as_bytes()));
    let compressed = compressed.as_ref().map_err(|_| ApiError::Internal)?;
    Ok(Asset::generated(compressed, ContentType::JSON))
}
