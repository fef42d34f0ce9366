//! OpenAPI document of exactly the mounted routes of the API.
//!
//! Handlers describe what is particular to them. Errors, headers and authorization, which all routes have in
//! common, are added from the route table; `openapi.json` has their texts and an example of every body.

use std::sync::LazyLock;

use rocket::http::Method;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Ref, RefOr, Required};

use crate::auth::key::Scope;
use crate::config::LimitClass;
use crate::http::app::VERSION;
use crate::http::error::Problem;
use crate::http::middleware::guard::{Access, RouteEntry};
use crate::http::routes;
use crate::http::routes::Operations;
use crate::http::validation::FieldError;

const DESCRIPTION: &str = "Track your caffeine and heart rate on your own server.

- **Keys**: everything under `/coffee`, `/heartrate` and `/export` requires `Authorization: Bearer KEY`. The owner's key has every scope, a named key has its own: `read`, `write`, `metrics`, `manage` (one's own keys, backups and imports). `admin` (everything) is the owner's alone. Each operation's `security` names the scope that it requires.
- **Timestamps** are RFC 3339. Responses use UTC; requests may use any offset, and a timestamp without an offset is read in the server's time zone (see `/info`). A time range includes its start and excludes its end.
- **Days** are calendar days in the server's time zone; \"the last N days\" are the last N times 24 hours.
- **Numbers** in a body may be sent as numeric strings. **Text** is trimmed; empty text is null.
- **Errors** are problem documents (RFC 9457). A 422 lists every invalid field.
- **Rate limits** apply per client and key: each operation's `x-rate-limit-class` names its limit, and the header `RateLimit` has the remaining quota. Without a valid key, operations that require one are charged to `unauthenticated`.
- Every path works with and without its trailing slash, and supports `HEAD` and `OPTIONS`. Bodies are read as JSON whatever their Content-Type.";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Coffee Tracker",
        description = DESCRIPTION,
        license(name = "MIT", identifier = "MIT")
    ),
    tags(
        (name = "coffee", description = "Coffees, totals and the caffeine model"),
        (name = "heart rate", description = "Heart rates, statistics and the correlation with caffeine"),
        (name = "apps", description = "Samples that health apps push, and where entries come from"),
        (name = "keys", description = "Named keys of the person, and pairing of devices"),
        (name = "backups", description = "Backups of the person, and work in the background"),
        (name = "imports", description = "Import of files"),
        (name = "people", description = "Everyone on this server, for the owner"),
        (name = "profile", description = "Bedtimes, half-life and limits of the person"),
        (name = "open", description = "Pages, health and metadata of the server")
    ),
    components(schemas(Problem<'static>, FieldError))
)]
struct Document;

/// Headers of every response.
const COMMON_HEADERS: [&str; 4] = ["X-Request-ID", "X-Process-Time", "RateLimit", "RateLimit-Policy"];

/// Returns the document as JSON.
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    &TEXT
}

/// Returns the document with the parts from `openapi.json`.
fn document() -> Value {
    let mut document = json!(operations());
    let mut common: Value = serde_json::from_str(include_str!("openapi.json")).unwrap_or_default();
    let components = &mut document["components"];
    components["headers"] = common["headers"].take();
    components["responses"] = common["responses"].take();
    for (_, response) in components["responses"].as_object_mut().into_iter().flatten() {
        for name in COMMON_HEADERS {
            response["headers"][name] = json!({"$ref": format!("#/components/headers/{name}")});
        }
    }
    let schemas = &mut components["schemas"];
    for (entry, what) in [("Coffee", "coffee"), ("Reading", "reading")] {
        schemas[format!("{entry}Patch")] = patch_schema(&schemas[format!("{entry}Input")], what);
        schemas[format!("{entry}Written")] = written_schema(&schemas[entry], what);
    }
    require_any_field(&mut schemas["ProfileInput"]);
    require_any_field(&mut schemas["PersonChangeInput"]);
    // A removed person keeps the former name.
    schemas["NewPersonInput"]["anyOf"] = json!([{"required": ["name"]}, {"required": ["removed"]}]);
    if let Some(examples) = common["examples"].as_object_mut() {
        for (schema, example) in examples {
            if let Some(schema) = components["schemas"].get_mut(schema) {
                schema["examples"] = json!([example.take()]);
            }
        }
    }
    document
}

/// Derives the schema of a change from that of a new entry.
fn patch_schema(input: &Value, what: &str) -> Value {
    let mut patch = input.clone();
    require_any_field(&mut patch);
    if let Some(schema) = patch.as_object_mut() {
        schema.remove("required");
    }
    for (name, field) in patch["properties"].as_object_mut().into_iter().flatten() {
        if name == "timestamp" {
            let time = "At most 5 minutes in the future.";
            *field = json!({"type": "string", "format": "date-time", "description": time});
        } else if field.get("maxLength").is_some() {
            field["description"] = "Null clears it.".into();
        }
    }
    let description =
        "Request body that changes a WHAT: at least one of these fields. Unknown fields are ignored.";
    patch["description"] = description.replace("WHAT", what).into();
    patch
}

/// Requires at least one of the fields of an object.
fn require_any_field(schema: &mut Value) {
    let fields = schema["properties"].as_object().into_iter().flatten();
    schema["anyOf"] = fields.map(|(field, _)| json!({"required": [field]})).collect();
}

/// Derives the schema of the response to a write from that of a stored entry.
fn written_schema(stored: &Value, what: &str) -> Value {
    let mut written = stored.clone();
    written["required"] = json!(["id"]);
    let description =
        "Stored WHAT. Callers without the scope `read` get the id and the fields that they sent.";
    written["description"] = description.replace("WHAT", what).into();
    written
}

fn operations() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.merge(Operations::openapi());
    document.info.version = VERSION.to_owned();
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("API key: the owner's key (the server prints its location when it starts) or a named key with the required scope (`coffee-tracker key add`)."));
    components.add_security_scheme("key", SecurityScheme::Http(scheme.build()));
    for item in document.paths.paths.values_mut().filter(|item| item.put.is_some()) {
        item.patch.clone_from(&item.put);
        if let Some(patch) = &mut item.patch {
            patch.description = Some("Same as `PUT`.".to_owned());
            patch.operation_id = patch.operation_id.as_ref().map(|id| id.replacen("put", "patch", 1));
        }
    }
    for entry in routes::table() {
        let path = entry.template.replace('<', "{").replace('>', "}");
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

/// Adds headers, errors, authorization and rate limit to an operation.
fn complete(operation: &mut Operation, entry: &RouteEntry) {
    let scope = entry.access.scope();
    let requires_key = entry.access != Access::Public;
    let has_body = operation.request_body.is_some();
    // A removed person who is to be brought back.
    let has_id =
        entry.template.contains('<') || (entry.template == "/people" && entry.route.method == Method::Post);
    let is_pairing = entry.class == LimitClass::Pair;
    let may_change = matches!(scope, Some(Scope::Manage | Scope::Admin)) && entry.route.method != Method::Get;
    let has_fields = has_body || operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        body.required.get_or_insert(Required::True);
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            for name in COMMON_HEADERS {
                let header = Ref::new(format!("#/components/headers/{name}"));
                response.headers.insert(name.to_owned(), RefOr::Ref(header));
            }
        }
    }
    let errors = [
        (true, "400", "BadRequest"),
        (requires_key, "401", "Unauthorized"),
        (scope.is_some(), "403", "Forbidden"),
        (has_id || is_pairing, "404", "NotFound"),
        (has_body, "408", "TooSlow"),
        (may_change || is_pairing, "409", "Conflict"),
        (has_body, "413", "TooLarge"),
        (entry.template == "/backups/<file>", "416", "RangeNotSatisfiable"),
        (has_fields, "422", "Unfit"),
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
    let requirement = SecurityRequirement::new("key", scope.map(Scope::name));
    operation.security = Some(requires_key.then_some(requirement).into_iter().collect());
    let class = json!(entry.class.name());
    let extensions = operation.extensions.get_or_insert_default();
    extensions.insert("x-rate-limit-class".to_owned(), class);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Returns the names of the schemas that a response body may have.
    fn body_schemas(schema: &Value, all: &Value) -> Vec<String> {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            let inner = body_schemas(&all[name], all);
            return if inner.is_empty() { vec![name.to_owned()] } else { inner };
        }
        let choices = schema["oneOf"].as_array().into_iter().flatten();
        choices.chain(schema.get("items")).flat_map(|choice| body_schemas(choice, all)).collect()
    }

    #[test]
    fn every_response_body_has_an_example() {
        let document = document();
        let all = &document["components"]["schemas"];
        for (path, operations) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in operations.as_object().into_iter().flatten() {
                for (status, response) in operation["responses"].as_object().into_iter().flatten() {
                    for (_, body) in response["content"].as_object().into_iter().flatten() {
                        for name in body_schemas(&body["schema"], all) {
                            let has_example =
                                ["example", "examples"].iter().any(|key| !all[&name][key].is_null());
                            let is_document = name == "OpenApiDocument";
                            assert!(
                                has_example || is_document,
                                "{method} {path} {status}: {name} has no example"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_example_belongs_to_a_schema() {
        let common: Value = serde_json::from_str(include_str!("openapi.json")).unwrap_or_default();
        let document = document();
        let examples = common["examples"].as_object();
        assert!(examples.is_some_and(|all| !all.is_empty()));
        for name in examples.into_iter().flatten().map(|(name, _)| name) {
            assert!(!document["components"]["schemas"][name].is_null(), "no schema is named {name}");
        }
    }

    #[test]
    fn operation_ids_are_unique() {
        let document = operations();
        let items = document.paths.paths.values();
        let operations =
            items.flat_map(|item| [&item.get, &item.post, &item.put, &item.patch, &item.delete]).flatten();
        let names: Vec<_> = operations.filter_map(|operation| operation.operation_id.clone()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}
