//! `/me`: the key of the request and the server.

use rocket::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::auth::api_keys::ValidKey;
use crate::auth::key::Scopes;
use crate::http::app::{SharedApp, VERSION};
use crate::http::error::ApiError;
use crate::http::response::{JsonResponse, JsonResult};

/// Response body of `GET /me`.
#[derive(Serialize, ToSchema)]
pub struct Me {
    key: KeyOfRequest,
    server: ServerOfRequest,
}

/// Key of the request.
#[derive(Serialize, ToSchema)]
struct KeyOfRequest {
    /// Name of the key; `owner` for the owner's key.
    name: String,
    /// Permissions of the key: `read`, `write`, `metrics`, `manage`, `admin`.
    #[schema(value_type = Vec<String>)]
    scopes: Scopes,
}

#[derive(Serialize, ToSchema)]
struct ServerOfRequest {
    version: &'static str,
    /// Time zone of calendar days, and of timestamps without an offset.
    timezone: String,
}

/// Key of the request
///
/// The name and the scopes of the key that the request presents, whatever its scopes are.
#[utoipa::path(get, path = "/me", operation_id = "me", tag = "open", responses((status = 200, description = "Key and server", body = Me)))]
#[rocket::get("/me")]
pub fn me(app: &State<SharedApp>, key: ValidKey) -> JsonResult {
    let name = app.keys.name(key.id).ok_or(ApiError::Unauthorized)?;
    JsonResponse::ok(&Me {
        key: KeyOfRequest { name, scopes: key.scopes },
        server: ServerOfRequest { version: VERSION, timezone: app.settings.common.zone.name().to_owned() },
    })
}
