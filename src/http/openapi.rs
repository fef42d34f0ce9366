//! `/openapi.json`: the document of exactly the mounted routes, made from the code.
//!
//! What holds for every route alike (errors, headers, keys) is added from the route
//! table, so that a handler cannot forget to say it. How errors and headers look, and an
//! example of every answer, stands in `openapi.json`.

use std::io;
use std::sync::LazyLock;

use rocket::http::{ContentType, Method};
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Ref, RefOr};

use crate::auth::key::Scope;
use crate::http::error::ApiError;
use crate::http::handlers::assets::Asset;
use crate::http::handlers::{assets, caffeine, coffee, export, health, heart_rate, metrics, pages};
use crate::http::routes;
use crate::http::routes::Entry;

const DESCRIPTION: &str = "Logs what people drink and how their heart answers.

- **Keys**: everything about coffee and hearts needs `Authorization: Bearer KEY`. The owner's key is good for everything, a named one for its scopes: `read`, `write`, `metrics`. Each operation's `security` names the scope it needs.
- **Times** are RFC 3339. They go out in UTC; they come in with any offset, and one without an offset is in the server's time zone (`/info` names it). A span is from its start up to, but without, its end.
- **Days** are calendar days in the server's time zone; \"the last N days\" are the last N times 24 hours.
- **Numbers** in a body may be sent as numeric strings. **Text** is trimmed; empty text is null.
- **Errors** are problem documents (RFC 9457). A 422 names every bad field.
- **Limits** are per client and key: each operation's `x-rate-limit-class` names the limit it is charged to; `RateLimit` says what is left. Without a valid key, operations that need one are charged to `unauthenticated`.
- Every path answers with and without its trailing slash, and to `HEAD` and `OPTIONS`. Bodies are read as JSON whatever their Content-Type.";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Coffee Tracker",
        description = DESCRIPTION,
        license(name = "MIT", identifier = "MIT")
    ),
    tags(
        (name = "coffee", description = "What was drunk, and what it adds up to"),
        (name = "heart rate", description = "What was measured, and what coffee has to do with it"),
        (name = "open", description = "What this server is and how it is")
    ),
    paths(
        pages::root, health::health, health::info, metrics::metrics, document, pages::docs, pages::redoc,
        assets::asset, assets::service_worker, assets::manifest, assets::icon,
        coffee::add, coffee::list, coffee::show, coffee::replace, coffee::change, coffee::delete,
        coffee::today, coffee::week, coffee::days, coffee::stats, coffee::types, caffeine::active,
        caffeine::summary,
        heart_rate::add, heart_rate::add_batch, heart_rate::list, heart_rate::show, heart_rate::replace,
        heart_rate::change, heart_rate::delete, heart_rate::current, heart_rate::range, heart_rate::stats,
        heart_rate::correlate,
        export::coffee, export::heart_rate
    ),
    components(schemas(crate::http::schemas::Problem, crate::http::schemas::BadField))
)]
struct Document;

/// The OpenAPI document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "open", responses(
    (status = 200, description = "This document", body = crate::http::schemas::OpenApiDocument, headers(("ETag" = String, description = "The document's digest, for `If-None-Match`"))),
    (status = 304, description = "The document is as the client has it")))]
#[rocket::get("/openapi.json")]
pub fn document() -> Result<Asset, ApiError> {
    static PACKED: LazyLock<io::Result<Vec<u8>>> =
        LazyLock::new(|| assets::gzip(whole().to_string().as_bytes()));
    let packed = PACKED.as_ref().map_err(|_| ApiError::Internal)?;
    Ok(Asset::generated(packed, ContentType::JSON))
}

/// What every answer carries.
const HEADERS: [&str; 4] = ["X-Request-ID", "X-Process-Time", "RateLimit", "RateLimit-Policy"];

/// The document as JSON.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| whole().to_string());
    &TEXT
}

/// The document with what `openapi.json` adds.
fn whole() -> Value {
    let mut document = json!(build());
    let mut common: Value = serde_json::from_str(include_str!("openapi.json")).unwrap_or_default();
    let components = &mut document["components"];
    components["headers"] = common["headers"].take();
    components["responses"] = common["responses"].take();
    for (_, response) in components["responses"].as_object_mut().into_iter().flatten() {
        for name in HEADERS {
            response["headers"][name] = json!({"$ref": format!("#/components/headers/{name}")});
        }
    }
    if let Some(examples) = common["examples"].as_object_mut() {
        for (schema, example) in examples {
            if let Some(schema) = components["schemas"].get_mut(schema) {
                schema["examples"] = json!([example.take()]);
            }
        }
    }
    for change in ["CoffeePatch", "ReadingPatch"] {
        let schema = &mut components["schemas"][change];
        let fields = schema["properties"].as_object().into_iter().flatten();
        let any: Vec<Value> = fields.map(|(field, _)| json!({"required": [field]})).collect();
        schema["anyOf"] = any.into();
    }
    document
}

fn build() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.info.version = health::VERSION.to_owned();
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key: the owner's (the server prints where to find it when it starts), or a named one with the scopes that the operation lists (`coffee-tracker key add`)."));
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
    let scope = entry.access.scope();
    let has_body = operation.request_body.is_some();
    let is_entry = entry.template.contains("<id>");
    let takes_fields = has_body || operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            for name in HEADERS {
                let header = Ref::new(format!("#/components/headers/{name}"));
                response.headers.insert(name.to_owned(), RefOr::Ref(header));
            }
        }
    }
    let errors = [
        (true, "400", "BadRequest"),
        (scope.is_some(), "401", "Unauthorized"),
        (scope.is_some(), "403", "Forbidden"),
        (is_entry || entry.template.contains("<path..>"), "404", "NotFound"),
        (has_body, "408", "TooSlow"),
        (has_body, "413", "TooLarge"),
        (takes_fields, "422", "Unfit"),
        (true, "429", "TooMany"),
        (true, "431", "HeadersTooLarge"),
        (true, "500", "Internal"),
        (true, "503", "Unavailable"),
    ];
    for (applies, status, name) in errors {
        if applies && !operation.responses.responses.contains_key(status) {
            let response = RefOr::Ref(Ref::from_response_name(name));
            operation.responses.responses.insert(status.to_owned(), response);
        }
    }
    let requirement = |scope: Scope| SecurityRequirement::new("key", [scope.name()]);
    operation.security = Some(scope.map(requirement).into_iter().collect());
    let class = json!(entry.class.name());
    let extensions = operation.extensions.get_or_insert_default();
    extensions.insert("x-rate-limit-class".to_owned(), class);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of the schemas that an answer's body may have.
    fn shapes(schema: &Value, all: &Value) -> Vec<String> {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            let inner = shapes(&all[name], all);
            return if inner.is_empty() { vec![name.to_owned()] } else { inner };
        }
        let choices = schema["oneOf"].as_array().into_iter().flatten();
        choices.chain(schema.get("items")).flat_map(|choice| shapes(choice, all)).collect()
    }

    #[test]
    fn every_answer_has_an_example() {
        let document = whole();
        let all = &document["components"]["schemas"];
        for (path, operations) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in operations.as_object().into_iter().flatten() {
                for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
                    for (_, body) in answer["content"].as_object().into_iter().flatten() {
                        for name in shapes(&body["schema"], all) {
                            let shown = ["example", "examples"].iter().any(|key| !all[&name][key].is_null());
                            let is_open = name == "OpenApiDocument";
                            assert!(shown || is_open, "{method} {path} {status}: {name} has no example");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_example_belongs_to_a_schema() {
        let common: Value = serde_json::from_str(include_str!("openapi.json")).unwrap_or_default();
        let document = whole();
        let examples = common["examples"].as_object();
        assert!(examples.is_some_and(|all| !all.is_empty()));
        for name in examples.into_iter().flatten().map(|(name, _)| name) {
            assert!(!document["components"]["schemas"][name].is_null(), "there is no schema {name}");
        }
    }

    #[test]
    fn operations_are_called_by_names_of_their_own() {
        let document = build();
        let items = document.paths.paths.values();
        let operations =
            items.flat_map(|item| [&item.get, &item.post, &item.put, &item.patch, &item.delete]).flatten();
        let names: Vec<_> = operations.filter_map(|operation| operation.operation_id.clone()).collect();
        assert_eq!(names.len(), routes::table().len());
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}
