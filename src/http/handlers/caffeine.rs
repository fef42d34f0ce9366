//! `/coffee/active` and `/coffee/summary`: what the caffeine model says.

use rocket::State;

use crate::domain::advice::{
    ActiveCaffeine, CaffeineAdvisor, CaffeineProfile, CoffeeSummary, USUAL_DOSE_SAMPLE,
};
use crate::domain::caffeine::{ABSORPTION_PER_HOUR, Kinetics};
use crate::http::app::Shared;
use crate::http::extract::query::{ActiveQuery, Query};
use crate::http::response::{Answer, Answered};

/// Caffeine in the body
///
/// By the model (one compartment, first-order absorption and elimination): now, as a curve, and at bedtime.
/// An estimate, with its sources. Everything that is logged counts from its own time on, also what was drunk
/// after `at`; nothing else is assumed to be drunk.
#[utoipa::path(get, path = "/coffee/active", operation_id = "active_caffeine", tag = "coffee", params(crate::http::schemas::ActiveParams),
    responses((status = 200, description = "The level, its curve, and what follows for the night", body = ActiveCaffeine)))]
#[rocket::get("/coffee/active")]
pub async fn active(app: &State<Shared>, query: Query<ActiveQuery>) -> Answered {
    let query = query.0;
    let at = query.at.unwrap_or_else(|| app.clock.now());
    let zone = &app.settings.place.zone;
    let mut profile: CaffeineProfile = app.settings.profile;
    let asked = query.half_life_hours.and_then(|hours| Kinetics::new(hours, ABSORPTION_PER_HOUR));
    profile.kinetics = asked.unwrap_or(profile.kinetics);
    let (doses, latest) =
        app.store.intake(profile.dose_window(zone, at, query.hours), at, USUAL_DOSE_SAMPLE).await?;
    let advisor = CaffeineAdvisor::new(&profile, zone, at, &doses, &latest);
    Answer::ok(&advisor.active(query.hours, query.step_minutes))
}

/// The day at a glance
///
/// Today's total against the advised limit, what is in the body, and a sentence.
#[utoipa::path(get, path = "/coffee/summary", operation_id = "coffee_summary", tag = "coffee",
    responses((status = 200, description = "How the day stands", body = CoffeeSummary)))]
#[rocket::get("/coffee/summary")]
pub async fn summary(app: &State<Shared>) -> Answered {
    let (at, profile, zone) = (app.clock.now(), &app.settings.profile, &app.settings.place.zone);
    let (doses, latest) = app.store.intake(profile.dose_window(zone, at, 1), at, USUAL_DOSE_SAMPLE).await?;
    Answer::ok(&CaffeineAdvisor::new(profile, zone, at, &doses, &latest).summary())
}
