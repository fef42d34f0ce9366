//! `/info`: version, time zone, rate limits, validation limits and endpoints.

use std::collections::BTreeMap;

use rocket::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::LimitClass;
use crate::domain::limits::{MAX_CLOCK_LEAD, MAX_COFFEE_TYPE, MAX_CONTEXT, MAX_NOTES};
use crate::domain::time::MINUTE;
use crate::http::app::{SharedApp, VERSION};
use crate::http::extract::headers::Caller;
use crate::http::middleware::guard::RouteTable;
use crate::http::response::{JsonResponse, JsonResult};

/// Response body of `GET /info`.
#[derive(Serialize, ToSchema)]
pub struct Info {
    name: &'static str,
    version: &'static str,
    /// Time zone of calendar days, and of timestamps without an offset.
    timezone: String,
    /// A reverse proxy signs people in, so that its users need no key.
    proxy_sign_in: bool,
    /// Rate limits by class; null when they are off.
    #[schema(value_type = Option<BTreeMap<String, String>>, required)]
    rate_limits: Option<BTreeMap<&'static str, String>>,
    validation: Validation,
    /// Method and path of every route.
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize, ToSchema)]
struct Validation {
    max_caffeine_mg: f64,
    recommended_daily_caffeine_mg: f64,
    min_heart_rate_bpm: u16,
    max_heart_rate_bpm: u16,
    max_coffee_type_length: usize,
    max_context_length: usize,
    max_notes_length: usize,
    max_request_body_bytes: u64,
    max_clock_drift_minutes: i64,
}

#[derive(Serialize, ToSchema)]
struct Endpoint {
    method: String,
    path: &'static str,
    needs_key: bool,
}

/// Server information
///
/// With a key, `recommended_daily_caffeine_mg` is the limit of the person to whom it belongs.
#[utoipa::path(get, path = "/info", tag = "open", responses((status = 200, description = "Limits and endpoints", body = Info)))]
#[rocket::get("/info")]
pub async fn info(app: &State<SharedApp>, caller: Caller, routes: &State<RouteTable>) -> JsonResult {
    let settings = &app.settings;
    // Without a key or the database, the rest is still of use.
    let defaults = app.current().profile;
    let profile = match caller.database {
        Some(database) => database.profile(&defaults).await.unwrap_or(defaults),
        None => defaults,
    };
    let rules = &settings.entry_limits;
    JsonResponse::ok(&Info {
        name: "Coffee Tracker",
        version: VERSION,
        timezone: settings.common.zone.name().to_owned(),
        proxy_sign_in: settings.auth_proxy_header.is_some(),
        rate_limits: settings.rate_limits.map(|rates| {
            LimitClass::ALL.iter().zip(rates).map(|(class, rate)| (class.name(), rate.text())).collect()
        }),
        validation: Validation {
            max_caffeine_mg: rules.max_caffeine_mg,
            recommended_daily_caffeine_mg: profile.daily_limit_mg,
            min_heart_rate_bpm: rules.min_bpm,
            max_heart_rate_bpm: rules.max_bpm,
            max_coffee_type_length: MAX_COFFEE_TYPE,
            max_context_length: MAX_CONTEXT,
            max_notes_length: MAX_NOTES,
            max_request_body_bytes: settings.max_body_bytes,
            max_clock_drift_minutes: MAX_CLOCK_LEAD / MINUTE,
        },
        endpoints: routes
            .0
            .iter()
            .map(|entry| Endpoint {
                method: entry.route.method.to_string(),
                path: entry.template,
                needs_key: entry.access.requires_key(settings.metrics_public),
            })
            .collect(),
    })
}
