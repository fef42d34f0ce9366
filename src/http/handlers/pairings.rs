//! `/pairings` and `/pair`: give a new device a key by a QR code or six digits.

use std::net::Ipv6Addr;

use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use rocket::http::Status;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::key::{KeyName, KeyRequest, Scopes};
use crate::auth::pairing::{Pairing, PairingSecret, PairingState};
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::ValidationContext;
use crate::domain::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::extract::json_body::{FromBody, JsonBody};
use crate::http::extract::query::PairingOfPath;
use crate::http::handlers::keys::{KeyInput, blocking, check_scopes};
use crate::http::handlers::me::PersonOfKey;
use crate::http::response::{JsonResponse, JsonResult};
use crate::http::validation::{FieldValidator, Location, ValidationErrors, parse_object};
use crate::people::keys::{CodeRedeemer, PersonKeys};

const NOT_FOUND: &str = "Pairing not found";
/// Maximum length of a code, of which the server's own have 22 characters.
const MAX_CODE: usize = 100;
/// Maximum length of the host in a base URL.
const MAX_HOST: usize = 253;

/// Request body of `POST /pairings`: the key that the device gets. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct PairingInput {
    #[serde(flatten)]
    key: KeyInput,
    /// Address at which the device reaches the server; default: no link and no QR code.
    #[schema(value_type = Option<String>, pattern = r"^https?://([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?/?$")]
    #[serde(default)]
    base_url: JsonScalar,
}

/// Pairing to be started.
pub struct PairingRequest {
    key: KeyRequest,
    /// Base URL without its trailing slash.
    base_url: Option<String>,
}

/// State of a pairing.
#[derive(Serialize, ToSchema)]
pub struct PairingDetails {
    id: String,
    /// Name of the key that the device gets.
    #[schema(value_type = String)]
    name: KeyName,
    /// Permissions of the key.
    #[schema(value_type = Vec<String>)]
    scopes: Scopes,
    /// Time at which the code and the digits expire.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// `waiting`, `paired` or `expired`.
    #[schema(value_type = String, pattern = "^(waiting|paired|expired)$")]
    state: &'static str,
    /// Time at which a device got the key.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    paired_at: Option<Timestamp>,
}

/// Response body of `POST /pairings`.
#[derive(Serialize, ToSchema)]
pub struct NewPairing {
    #[serde(flatten)]
    details: PairingDetails,
    /// Code for `POST /pair`. It is in no other response.
    code: String,
    /// Six digits that can be typed instead of the code.
    digits: String,
    /// Link with the code, which the QR code contains; null without `base_url`.
    #[schema(required)]
    url: Option<String>,
    /// QR code as an SVG image; null without `base_url`.
    #[schema(required)]
    qr_svg: Option<String>,
}

/// Response body of `DELETE /pairings/{id}`.
#[derive(Serialize, ToSchema)]
pub struct PairingEnded {
    message: &'static str,
    id: String,
}

/// Request body of `POST /pair`: a code or six digits.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum PairInput {
    Code {
        #[schema(pattern = "^[A-Za-z0-9_-]{1,100}$")]
        code: String,
    },
    Digits {
        /// Six digits; spaces are ignored.
        #[schema(pattern = "^[0-9]{3} ?[0-9]{3}$")]
        digits: String,
    },
}

/// Fields of [`PairInput`].
#[derive(Deserialize)]
struct PairFields {
    #[serde(default)]
    code: JsonScalar,
    #[serde(default)]
    digits: JsonScalar,
}

/// Response body of `POST /pair`.
#[derive(Serialize, ToSchema)]
pub struct PairedDevice {
    /// Text of the key, which is sent as `Authorization: Bearer KEY`. It is in no other response.
    key: String,
    #[schema(value_type = String)]
    name: KeyName,
    #[schema(value_type = Vec<String>)]
    scopes: Scopes,
    person: PersonOfKey,
}

impl FromBody for PairingRequest {
    fn from_body(body: &[u8], check: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: PairingInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let key = input.key.validate(&mut v, check);
        let base_url =
            v.changed("base_url", &input.base_url, |v, name, field| v.parse(name, field, base_url));
        v.finish(key.map(|key| Self { key, base_url: base_url.flatten() }))
    }
}

/// Checks that a URL consists of scheme, host and port, and removes a trailing slash.
fn base_url(text: &str) -> Result<String, &'static str> {
    const FORM: &str = "must be an address such as http://192.168.1.5:8000";
    let base = text.strip_suffix('/').unwrap_or(text);
    let authority = base.strip_prefix("http://").or_else(|| base.strip_prefix("https://")).ok_or(FORM)?;
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of an IPv6 address without a port is inside the brackets.
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            (1..=MAX_HOST).contains(&host.len())
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        }
    };
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0') && port.parse::<u16>().is_ok()
    };
    if is_host && port.is_none_or(is_port) { Ok(base.to_owned()) } else { Err(FORM) }
}

impl FromBody for PairingSecret {
    fn from_body(body: &[u8], _: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let fields: PairFields = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let secret = match (fields.code, fields.digits) {
            (JsonScalar::Absent | JsonScalar::Null, JsonScalar::Absent | JsonScalar::Null) => {
                v.add_error("body", &JsonScalar::Absent, "must have code or digits");
                None
            }
            (JsonScalar::Absent | JsonScalar::Null, digits) => {
                secret(&mut v, "digits", &digits, six_digits).map(Self::Digits)
            }
            (code, _) => secret(&mut v, "code", &code, code_text).map(Self::Code),
        };
        v.finish(secret)
    }
}

/// Parses a secret, which an error must not quote.
fn secret(
    v: &mut FieldValidator,
    name: &str,
    field: &JsonScalar,
    parse: impl FnOnce(&str) -> Result<String, &'static str>,
) -> Option<String> {
    let parsed = if let JsonScalar::Text(text) = field { parse(text) } else { Err("must be text") };
    parsed.map_err(|message| v.add_error(name, &JsonScalar::Nested, message)).ok()
}

fn six_digits(text: &str) -> Result<String, &'static str> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let is_valid = digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit());
    if is_valid { Ok(digits) } else { Err("must be six digits") }
}

fn code_text(text: &str) -> Result<String, &'static str> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let is_valid = (1..=MAX_CODE).contains(&text.len()) && text.bytes().all(is_allowed);
    if is_valid { Ok(text.to_owned()) } else { Err("must be the code of a pairing") }
}

impl From<Pairing> for PairingDetails {
    fn from(pairing: Pairing) -> Self {
        let (state, paired_at) = match pairing.state {
            PairingState::Waiting | PairingState::Claimed => ("waiting", None),
            PairingState::Paired(at) => ("paired", Some(at)),
            PairingState::Expired => ("expired", None),
        };
        Self {
            id: pairing.id,
            name: pairing.request.name,
            scopes: pairing.request.scopes,
            expires_at: pairing.expires_at,
            state,
            paired_at,
        }
    }
}

/// Draws a QR code in black on white, with the quiet zone that scanners need.
fn qr_code(text: &str) -> Result<String, ApiError> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).map_err(|e| {
        tracing::error!("a QR code could not be drawn: {e}");
        ApiError::Internal
    })?;
    let dark_on_light = (svg::Color("#000000"), svg::Color("#ffffff"));
    let image =
        code.render().dark_color(dark_on_light.0).light_color(dark_on_light.1).quiet_zone(true).build();
    // Inside a page, an XML declaration is not allowed.
    Ok(image.split_once("?>").map_or(image.clone(), |(_, svg)| svg.to_owned()))
}

/// Start pairing
///
/// Returns a code and six digits that a new device can exchange for a key within 5 minutes, once. At most 5 pairings of a person
/// wait; another one ends the oldest. Five wrong attempts with digits end the digits of all waiting pairings.
#[utoipa::path(post, path = "/pairings", operation_id = "start_pairing", tag = "keys", request_body(content = PairingInput, example = json!({"name": "phone", "scopes": ["read", "write"], "base_url": "http://192.168.1.5:8000"})),
    responses((status = 201, description = "The pairing, with its code and digits", body = NewPairing, headers(("Location" = String, description = "Path of the pairing, such as `/pairings/4d1f0c9ab27e6358`")))))]
#[rocket::post("/pairings", data = "<request>")]
#[expect(clippy::needless_pass_by_value, reason = "Rocket passes extractors by value")]
pub fn start(keys: PersonKeys, request: JsonBody<PairingRequest>) -> JsonResult {
    let PairingRequest { key, base_url } = request.0;
    check_scopes(&keys, key.scopes)?;
    let started = keys.start_pairing(key)?;
    let url = base_url.map(|base| format!("{base}/#pair={}", started.code));
    let pairing = NewPairing {
        qr_svg: url.as_deref().map(qr_code).transpose()?,
        url,
        details: started.pairing.into(),
        code: started.code,
        digits: started.digits,
    };
    let location = format!("/pairings/{}", pairing.details.id);
    Ok(JsonResponse::ok(&pairing)?.with_status(Status::Created).with_header("Location", location))
}

/// Get a pairing
///
/// A pairing can be looked up for an hour.
#[utoipa::path(get, path = "/pairings/{id}", operation_id = "get_pairing", tag = "keys", params(PairingOfPath), responses((status = 200, description = "The pairing", body = PairingDetails)))]
#[rocket::get("/pairings/<id>")]
#[expect(clippy::needless_pass_by_value, reason = "Rocket passes extractors by value")]
pub fn get(keys: PersonKeys, id: &str) -> JsonResult {
    JsonResponse::found(keys.pairing(id).map(PairingDetails::from), NOT_FOUND)
}

/// End a pairing
///
/// Its code and digits become invalid. A key that a device got already remains valid.
#[utoipa::path(delete, path = "/pairings/{id}", operation_id = "end_pairing", tag = "keys", params(PairingOfPath), responses((status = 200, description = "The pairing has ended", body = PairingEnded)))]
#[rocket::delete("/pairings/<id>")]
#[expect(clippy::needless_pass_by_value, reason = "Rocket passes extractors by value")]
pub fn end(keys: PersonKeys, id: &str) -> JsonResult {
    let ended = keys.end_pairing(id).then(|| PairingEnded { message: "Pairing ended", id: id.to_owned() });
    JsonResponse::found(ended, NOT_FOUND)
}

/// Pair a device
///
/// Exchanges a code or six digits for a key, once.
#[utoipa::path(post, path = "/pair", operation_id = "pair", tag = "keys", request_body(content = PairInput, example = json!({"digits": "482 913"})), responses((status = 201, description = "The new key", body = PairedDevice)))]
#[rocket::post("/pair", data = "<secret>")]
pub async fn pair(redeemer: CodeRedeemer, secret: JsonBody<PairingSecret>) -> JsonResult {
    let paired = blocking(move || redeemer.redeem(&secret.0)).await?;
    let (created, person) = paired.ok_or(ApiError::NotFound("This code is unknown, used or expired"))?;
    let device = PairedDevice {
        key: created.text,
        name: created.listed.key.name,
        scopes: created.listed.key.scopes,
        person: PersonOfKey::of(&person),
    };
    Ok(JsonResponse::ok(&device)?.with_status(Status::Created))
}
