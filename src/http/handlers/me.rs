//! `/me`: the person and the key of the request, and the server.

use rocket::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::key::Scopes;
use crate::domain::time::Timestamp;
use crate::http::app::{SharedApp, VERSION};
use crate::http::error::ApiError;
use crate::http::response::{JsonResponse, JsonResult};
use crate::people::person::Person;
use crate::people::registry::ValidKey;

/// Response body of `GET /me`.
#[derive(Serialize, ToSchema)]
pub struct Me {
    person: PersonOfKey,
    key: KeyOfRequest,
    server: ServerOfRequest,
}

/// Person to whom the key belongs.
#[derive(Serialize, ToSchema)]
pub struct PersonOfKey {
    /// Name of the person; `owner` for the owner.
    name: String,
    /// Name for people to read; null when none was set.
    #[schema(required)]
    display_name: Option<String>,
}

/// Key of the request.
#[derive(Serialize, ToSchema)]
struct KeyOfRequest {
    /// Name of the key; `owner` for the owner's key.
    name: String,
    /// Permissions of the key: `read`, `write`, `metrics`, `manage`, `admin`.
    #[schema(value_type = Vec<String>)]
    scopes: Scopes,
    /// Null for the owner's key.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    created_at: Option<Timestamp>,
    /// Null for the owner's key.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_used_at: Option<Timestamp>,
}

#[derive(Serialize, ToSchema)]
struct ServerOfRequest {
    version: &'static str,
    /// Time zone of calendar days, and of timestamps without an offset.
    timezone: String,
}

impl PersonOfKey {
    /// Describes a person.
    pub fn of(person: &Person) -> Self {
        Self { name: person.name().to_string(), display_name: person.display_name() }
    }
}

/// Person and key of the request
///
/// The person whose data the key gives access to, and the name and the scopes of the key, whatever its scopes are.
#[utoipa::path(get, path = "/me", operation_id = "me", tag = "open", responses((status = 200, description = "Person, key and server", body = Me)))]
#[rocket::get("/me")]
#[expect(clippy::needless_pass_by_value, reason = "Rocket passes extractors by value")]
pub fn me(app: &State<SharedApp>, key: ValidKey) -> JsonResult {
    let details = key.details().ok_or(ApiError::Unauthorized)?;
    JsonResponse::ok(&Me {
        person: PersonOfKey::of(&key.person),
        key: KeyOfRequest {
            name: details.name,
            scopes: key.scopes,
            created_at: details.created,
            last_used_at: details.last_used,
        },
        server: ServerOfRequest { version: VERSION, timezone: app.settings.common.zone.name().to_owned() },
    })
}
