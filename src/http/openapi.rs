//! `/openapi.json`: the document of exactly the mounted routes, made from the code.
//!
//! What holds for every route alike (errors, headers, keys) is added from the route
//! table, so that a handler cannot forget to say it.

use std::sync::LazyLock;

use rocket::http::{ContentType, Method};
use serde_json::json;
use utoipa::OpenApi;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};

use super::admission::Access;
use super::routes::{self, Entry};
use super::{coffee, heart_rate, open, scrape};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Coffee Tracker",
        description = "Logs what people drink and how their heart answers.\n\nTimes are RFC 3339; one without an offset is in the server's time zone. Numbers may be sent as numeric strings. Every path answers with and without its trailing slash. Errors are problem documents (RFC 9457).",
        license(name = "MIT", identifier = "MIT")
    ),
    tags(
        (name = "coffee", description = "What was drunk"),
        (name = "heart rate", description = "How the heart answered"),
        (name = "open", description = "How the server is")
    ),
    paths(
        open::root, open::health, open::info, scrape::metrics, document, super::assets::asset,
        coffee::add, coffee::list, coffee::show, coffee::replace, coffee::change, coffee::delete,
        coffee::today, coffee::week, coffee::stats, coffee::types,
        heart_rate::add, heart_rate::add_batch, heart_rate::list, heart_rate::show, heart_rate::replace,
        heart_rate::change, heart_rate::delete, heart_rate::current, heart_rate::range, heart_rate::stats,
        heart_rate::correlate
    ),
    components(schemas(super::shapes::Problem, super::shapes::BadField))
)]
struct Document;

/// The OpenAPI document
#[utoipa::path(get, path = "/openapi.json", tag = "open", responses((status = 200, description = "This document", body = serde_json::Value)))]
#[rocket::get("/openapi.json")]
pub fn document() -> (ContentType, &'static str) {
    (ContentType::JSON, text())
}

/// The document as JSON.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| serde_json::to_string(&build()).unwrap_or_default());
    &TEXT
}

fn build() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.info.version = open::VERSION.to_owned();
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key"));
    components.add_security_scheme("key", SecurityScheme::Http(scheme.build()));
    for entry in routes::table() {
        let path = entry.template.replace("<path..>", "{path}").replace('<', "{").replace('>', "}");
        let operations = document.paths.paths.get_mut(&path);
        let operation = operations.and_then(|item| match entry.route.method {
            Method::Get => item.get.as_mut(),
            Method::Post => item.post.as_mut(),
            Method::Put => item.put.as_mut(),
            Method::Patch => item.patch.as_mut(),
            Method::Delete => item.delete.as_mut(),
            _ => None,
        });
        if let Some(operation) = operation {
            complete(operation, entry);
        }
    }
    document
}

/// Adds what the route table knows.
fn complete(operation: &mut Operation, entry: &Entry) {
    let has_body = operation.request_body.is_some();
    let is_entry = entry.template.contains("<id>");
    let takes_fields = has_body || operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    let errors = [
        (true, "400", "Not HTTP-sane, or a foreign Host"),
        (entry.access != Access::Public, "401", "No valid key"),
        (is_entry || entry.template.contains("<path..>"), "404", "There is no such thing"),
        (has_body, "408", "The body did not arrive in time"),
        (has_body, "413", "The body is too large"),
        (takes_fields, "422", "Fields that do not fit: each is named"),
        (true, "429", "Over the rate limit: see Retry-After"),
        (true, "431", "The headers are too large"),
        (true, "500", "A fault inside"),
        (true, "503", "The store is busy, full or unavailable: see Retry-After"),
    ];
    for (applies, status, description) in errors {
        if applies && !operation.responses.responses.contains_key(status) {
            let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
            let mut response =
                ResponseBuilder::new().description(description).content("application/problem+json", problem);
            let header = match status {
                "401" => Some("WWW-Authenticate"),
                "429" | "503" => Some("Retry-After"),
                _ => None,
            };
            if let Some(header) = header {
                response = response.header(header, HeaderBuilder::new().schema(Some(text_schema())).build());
            }
            operation.responses.responses.insert(status.to_owned(), RefOr::T(response.build()));
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            for name in ["X-Request-ID", "X-Process-Time", "RateLimit", "RateLimit-Policy"] {
                let header = HeaderBuilder::new().schema(Some(text_schema())).build();
                response.headers.insert(name.to_owned(), RefOr::T(header));
            }
        }
    }
    operation.security = Some(match entry.access {
        Access::Public => vec![SecurityRequirement::default()],
        Access::Key | Access::Metrics => vec![SecurityRequirement::new("key", Vec::<String>::new())],
    });
    let class = json!(entry.class.name());
    let extensions = operation.extensions.get_or_insert_default();
    extensions.insert("x-rate-limit-class".to_owned(), class);
}

fn text_schema() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}
