//! `/coffee/active` and `/coffee/summary`: what the caffeine model says.

use rocket::State;

use crate::domain::advice::{Active, Adviser, Drinker, Summary, USUAL_OF};
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
    responses((status = 200, description = "The level, its curve, and what follows for the night", body = Active)))]
#[rocket::get("/coffee/active")]
pub async fn active(app: &State<Shared>, query: Query<ActiveQuery>) -> Answered {
    let query = query.0;
    let at = query.at.unwrap_or_else(|| app.clock.now());
    let zone = &app.settings.place.zone;
    let mut drinker: Drinker = app.settings.drinker;
    let asked = query.half_life_hours.and_then(|hours| Kinetics::new(hours, ABSORPTION_PER_HOUR));
    drinker.kinetics = asked.unwrap_or(drinker.kinetics);
    let (doses, latest) = app.store.intake(drinker.needs(zone, at, query.hours), at, USUAL_OF).await?;
    let adviser = Adviser::new(&drinker, zone, at, &doses, &latest);
    Answer::ok(&adviser.active(query.hours, query.step_minutes))
}

/// The day at a glance
///
/// Today's total against the advised limit, what is in the body, and a sentence.
#[utoipa::path(get, path = "/coffee/summary", operation_id = "coffee_summary", tag = "coffee",
    responses((status = 200, description = "How the day stands", body = Summary)))]
#[rocket::get("/coffee/summary")]
pub async fn summary(app: &State<Shared>) -> Answered {
    let (at, drinker, zone) = (app.clock.now(), &app.settings.drinker, &app.settings.place.zone);
    let (doses, latest) = app.store.intake(drinker.needs(zone, at, 1), at, USUAL_OF).await?;
    Answer::ok(&Adviser::new(drinker, zone, at, &doses, &latest).summary())
}
