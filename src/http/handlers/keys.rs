//! `/keys`: the named keys of the caller's person.

use rocket::http::Status;
use rocket::tokio;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Schema, Type};

use crate::auth::key::{KeyId, KeyName, KeyRequest, Scope, Scopes};
use crate::auth::key_file::KeyFileError;
use crate::auth::key_store::ListedKey;
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::ValidationContext;
use crate::domain::time::{HOUR, Timestamp};
use crate::http::error::ApiError;
use crate::http::extract::json_body::{FromBody, JsonBody};
use crate::http::extract::query::KeyOfPath;
use crate::http::response::{JsonResponse, JsonResult};
use crate::http::validation::{
    FieldError, FieldValidator, Location, ValidationErrors, number_schema, parse_object,
};
use crate::people::keys::{CreatedKey, PersonKeys};
use crate::people::registry::ValidKey;

/// Scopes of a new key for which none are given.
const DEFAULT_SCOPES: [Scope; 2] = [Scope::Read, Scope::Write];
/// Grace period of a rotated key for which none is given, hours.
const DEFAULT_GRACE_HOURS: f64 = 24.0;
/// Longest grace period, hours: 366 days.
const MAX_GRACE_HOURS: f64 = 8784.0;

/// Request body of `POST /keys`. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct KeyInput {
    /// Name of the key, which no valid key of the person has; neither `.` nor `..`.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9._-]{1,50}$", required)]
    #[serde(default)]
    name: JsonScalar,
    /// Permissions; default: `read` and `write`. Only keys of the owner can have `metrics`.
    #[schema(value_type = Option<Vec<NamedScope>>, min_items = 1)]
    #[serde(default)]
    scopes: Option<Vec<String>>,
    /// Time at which the key expires, in the future; default: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default)]
    expires_at: JsonScalar,
}

/// Scope that a named key can have.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum NamedScope {
    Read,
    Write,
    Metrics,
    Manage,
}

/// Request body of `POST /keys/{name}/rotate`.
#[derive(Deserialize, ToSchema)]
pub struct RotateInput {
    #[schema(schema_with = grace_hours_schema)]
    #[serde(default)]
    grace_hours: JsonScalar,
}

/// Grace period of a rotation in microseconds.
pub struct GracePeriod(i64);

/// Named key, without its text.
#[derive(Serialize, ToSchema)]
pub struct ApiKey {
    #[schema(value_type = String)]
    name: KeyName,
    /// Permissions of the key: `read`, `write`, `metrics`, `manage`.
    #[schema(value_type = Vec<String>)]
    scopes: Scopes,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Null when the key was never used.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_used_at: Option<Timestamp>,
    /// Null when the key never expires.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    expires_at: Option<Timestamp>,
    /// It is the key of the request.
    is_current: bool,
}

/// Response body of `GET /keys`.
#[derive(Serialize, ToSchema)]
pub struct KeyList {
    /// Newest first. While a rotated key is valid, its name is listed twice.
    keys: Vec<ApiKey>,
}

/// New key. Its text is in no other response.
#[derive(Serialize, ToSchema)]
pub struct NewApiKey {
    #[serde(flatten)]
    details: ApiKey,
    /// Text of the key, which is sent as `Authorization: Bearer KEY`.
    key: String,
}

/// Response body of `POST /keys/{name}/rotate`.
#[derive(Serialize, ToSchema)]
pub struct RotatedApiKey {
    #[serde(flatten)]
    new: NewApiKey,
    /// Time at which the former key expires.
    #[schema(value_type = String, format = DateTime)]
    old_key_expires_at: Timestamp,
}

/// Response body of `DELETE /keys/{name}`.
#[derive(Serialize, ToSchema)]
pub struct KeyRevoked {
    message: &'static str,
    #[schema(value_type = String)]
    name: KeyName,
}

fn grace_hours_schema() -> Schema {
    let pattern = r"^(8784|[0-9]{1,3}(\.[0-9]{1,6})?)$";
    let description = "Hours in which the former key remains valid; default: 24. 0 revokes it at once.";
    number_schema(Type::Number, 0.0, MAX_GRACE_HOURS, pattern, description)
}

impl ApiKey {
    /// Describes a key to the caller whose key has the id `current`.
    pub fn of(listed: ListedKey, current: KeyId) -> Self {
        let ListedKey { key, last_used } = listed;
        Self {
            is_current: key.digest.id() == current,
            name: key.name,
            scopes: key.scopes,
            created_at: key.created,
            last_used_at: last_used,
            expires_at: key.expires,
        }
    }
}

impl NewApiKey {
    /// Describes a key that was just created.
    pub fn of(created: CreatedKey, current: KeyId) -> Self {
        Self { details: ApiKey::of(created.listed, current), key: created.text }
    }

    /// Returns 201 with the key, which is in the collection at `path`.
    fn created(self, path: &str) -> JsonResult {
        let location = format!("{path}/{}", self.details.name);
        Ok(JsonResponse::ok(&self)?.with_status(Status::Created).with_header("Location", location))
    }
}

impl KeyInput {
    /// Validates the fields.
    pub fn validate(&self, v: &mut FieldValidator, context: &ValidationContext<'_>) -> Option<KeyRequest> {
        let name = v.parse("name", &self.name, KeyName::parse_new);
        let scopes = match &self.scopes {
            None => Some(DEFAULT_SCOPES.to_vec()),
            Some(names) if names.is_empty() => {
                v.add_error("scopes", &JsonScalar::Nested, "must have at least one scope");
                None
            }
            Some(names) => {
                // Collected first, so that every invalid scope is reported.
                let scopes: Vec<Option<Scope>> = names.iter().map(|name| scope(v, name)).collect();
                scopes.into_iter().collect()
            }
        };
        let expires = v.changed("expires_at", &self.expires_at, |v, name, field| {
            v.parse(name, field, |text| match context.zone.parse(text) {
                Ok(at) if at <= context.now => Err("must be in the future"),
                parsed => parsed,
            })
        });
        let expires = expires.flatten();
        Some(KeyRequest { name: name?, scopes: Scopes::from(scopes?), expires })
    }
}

fn scope(v: &mut FieldValidator, name: &str) -> Option<Scope> {
    let scope = Scope::OF_NAMED_KEYS.into_iter().find(|scope| scope.name() == name);
    if scope.is_none() {
        let message = "must be read, write, metrics or manage";
        v.add_error("scopes", &JsonScalar::Text(name.to_owned()), message);
    }
    scope
}

impl FromBody for KeyRequest {
    fn from_body(body: &[u8], context: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: KeyInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let request = input.validate(&mut v, context);
        v.finish(request)
    }
}

impl FromBody for GracePeriod {
    fn from_body(body: &[u8], _: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
        let input: RotateInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let hours = match input.grace_hours {
            JsonScalar::Absent => Some(DEFAULT_GRACE_HOURS),
            field => v.number("grace_hours", &field, 0.0, MAX_GRACE_HOURS),
        };
        v.finish(hours.map(|hours| Self((hours * HOUR as f64) as i64)))
    }
}

/// Rejects scopes that a key of this person cannot have.
pub fn check_scopes(keys: &PersonKeys, scopes: Scopes) -> Result<(), FieldError> {
    if scopes.has(Scope::Metrics) && !keys.person().name().is_owner() {
        let message = "must not have metrics, which are about everyone: only a key of the owner can";
        return Err(FieldError::new(Location::Body, "scopes", message));
    }
    Ok(())
}

/// Returns the valid keys of a person, as the caller whose key has the id `current` sees them.
pub fn list_keys(keys: &PersonKeys, current: KeyId) -> JsonResult {
    let keys = keys.list().into_iter().map(|listed| ApiKey::of(listed, current)).collect();
    JsonResponse::ok(&KeyList { keys })
}

/// Creates a key of a person whose keys are the collection at `path`.
pub async fn add_key(keys: PersonKeys, current: KeyId, request: KeyRequest, path: &str) -> JsonResult {
    check_scopes(&keys, request.scopes)?;
    let created = blocking(move || keys.add(&request)).await?;
    NewApiKey::of(created, current).created(path)
}

/// Revokes a key of a person.
pub async fn revoke_key(keys: PersonKeys, name: KeyName) -> JsonResult {
    let revoked = name.clone();
    blocking(move || keys.revoke(&revoked)).await?;
    JsonResponse::ok(&KeyRevoked { message: "Key revoked", name })
}

/// Runs work that blocks on files.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyFileError> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(spawn_blocking(work).await.map_err(|_| ApiError::Internal)??)
}

/// List keys
///
/// The valid named keys of the person. The owner's key and the sign-in by a proxy are not among them.
#[utoipa::path(get, path = "/keys", operation_id = "list_keys", tag = "keys", responses((status = 200, description = "The keys, newest first", body = KeyList)))]
#[rocket::get("/keys")]
#[expect(clippy::needless_pass_by_value, reason = "Rocket passes extractors by value")]
pub fn list(keys: PersonKeys, caller: ValidKey) -> JsonResult {
    list_keys(&keys, caller.id)
}

/// Create a key
///
/// The response is the only one that contains the text of the key.
#[utoipa::path(post, path = "/keys", operation_id = "add_key", tag = "keys", request_body(content = KeyInput, example = json!({"name": "phone", "scopes": ["read", "write"], "expires_at": null})),
    responses((status = 201, description = "The new key", body = NewApiKey, headers(("Location" = String, description = "Path of the key, such as `/keys/phone`")))))]
#[rocket::post("/keys", data = "<request>")]
pub async fn add(keys: PersonKeys, caller: ValidKey, request: JsonBody<KeyRequest>) -> JsonResult {
    add_key(keys, caller.id, request.0, "/keys").await
}

/// Revoke a key
///
/// Takes effect with the response, also for a former key that a rotation left valid. It can be undone for 10 minutes.
#[utoipa::path(delete, path = "/keys/{name}", operation_id = "revoke_key", tag = "keys", params(KeyOfPath), responses((status = 200, description = "The key was revoked", body = KeyRevoked)))]
#[rocket::delete("/keys/<name>")]
pub async fn revoke(keys: PersonKeys, name: Result<KeyName, FieldError>) -> JsonResult {
    revoke_key(keys, name?).await
}

/// Undo a revocation
///
/// Makes a key valid again that was revoked with `DELETE` in the last 10 minutes, unless its name is in use again or the server
/// was restarted.
#[utoipa::path(post, path = "/keys/{name}/undo-revoke", operation_id = "undo_revoke_key", tag = "keys", params(KeyOfPath), responses((status = 200, description = "The key", body = ApiKey)))]
#[rocket::post("/keys/<name>/undo-revoke")]
pub async fn undo_revoke(
    keys: PersonKeys,
    caller: ValidKey,
    name: Result<KeyName, FieldError>,
) -> JsonResult {
    let name = name?;
    let restored = blocking(move || keys.undo_revoke(&name)).await?;
    let restored = restored.map(|listed| ApiKey::of(listed, caller.id));
    JsonResponse::found(restored, "No key with this name was revoked in the last 10 minutes")
}

/// Rotate a key
///
/// Creates another key with the same name, scopes and expiry, and lets the former one expire after a grace period. The body
/// may be empty.
#[utoipa::path(post, path = "/keys/{name}/rotate", operation_id = "rotate_key", tag = "keys", params(KeyOfPath), request_body(content = Option<RotateInput>, example = json!({"grace_hours": 24})),
    responses((status = 200, description = "The new key", body = RotatedApiKey)))]
#[rocket::post("/keys/<name>/rotate", data = "<grace>")]
pub async fn rotate(
    keys: PersonKeys,
    caller: ValidKey,
    name: Result<KeyName, FieldError>,
    grace: JsonBody<GracePeriod>,
) -> JsonResult {
    let name = name?;
    let rotated = blocking(move || keys.rotate(&name, grace.0.0)).await?;
    let new = NewApiKey::of(rotated.new, caller.id);
    JsonResponse::ok(&RotatedApiKey { new, old_key_expires_at: rotated.old_expires })
}
