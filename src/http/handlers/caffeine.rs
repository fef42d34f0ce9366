//! `/coffee/active` and `/coffee/summary`: estimates of the caffeine model.

use rocket::State;

use crate::domain::advice::{ActiveCaffeine, CaffeineAdvisor, CoffeeSummary, USUAL_DOSE_SAMPLE};
use crate::domain::caffeine::{ABSORPTION_PER_HOUR, Kinetics};
use crate::http::app::SharedApp;
use crate::http::extract::headers::PersonOfRequest;
use crate::http::extract::query::{ActiveCaffeineQuery, Query};
use crate::http::response::{JsonResponse, JsonResult};

/// Caffeine in the body
///
/// Estimate of a one-compartment model with first-order absorption and elimination: now, as a curve, and at
/// bedtime, with the sources of all constants. Every logged coffee counts from its own time on, including
/// those after `at`; no other coffees are assumed.
#[utoipa::path(get, path = "/coffee/active", operation_id = "active_caffeine", tag = "coffee", params(ActiveCaffeineQuery),
    responses((status = 200, description = "Level, curve and bedtime forecast", body = ActiveCaffeine)))]
#[rocket::get("/coffee/active")]
pub async fn active(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    query: Query<ActiveCaffeineQuery>,
) -> JsonResult {
    let query = query.0;
    let at = query.at.unwrap_or_else(|| app.clock.now());
    let zone = &app.settings.common.zone;
    let mut profile = person.profile(&app.current().profile).await?;
    let kinetics = query.half_life_hours.and_then(|hours| Kinetics::new(hours, ABSORPTION_PER_HOUR));
    profile.kinetics = kinetics.unwrap_or(profile.kinetics);
    let window = profile.dose_window(zone, at, query.hours);
    let (doses, latest) = person.store.intake(window, at, USUAL_DOSE_SAMPLE).await?;
    let advisor = CaffeineAdvisor::new(&profile, zone, at, &doses, &latest);
    JsonResponse::ok(&advisor.active(query.hours, query.step_minutes))
}

/// Summary of the day
///
/// Today's total compared with the recommended maximum, caffeine in the body, and advice.
#[utoipa::path(get, path = "/coffee/summary", operation_id = "coffee_summary", tag = "coffee",
    responses((status = 200, description = "Summary of the day", body = CoffeeSummary)))]
#[rocket::get("/coffee/summary")]
pub async fn summary(app: &State<SharedApp>, person: PersonOfRequest) -> JsonResult {
    let (at, profile, zone) =
        (app.clock.now(), person.profile(&app.current().profile).await?, &app.settings.common.zone);
    let (doses, latest) =
        person.store.intake(profile.dose_window(zone, at, 1), at, USUAL_DOSE_SAMPLE).await?;
    JsonResponse::ok(&CaffeineAdvisor::new(&profile, zone, at, &doses, &latest).summary())
}
