//! `/coffee`: log, list, change, delete, and what it adds up to.

use rocket::State;
use rocket::http::Status;
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::coffees::{CoffeeFilter, CoffeeStats, DayTotal};
use crate::db::idempotency::{IdempotencyKey, IdempotentOutcome};
use crate::domain::calendar::Date;
use crate::domain::coffee::{
    Coffee, CoffeeChange, CoffeeId, NewCoffee, PRESETS, PRESETS_SOURCE, Preset, addiction_level,
};
use crate::domain::statistics::round2;
use crate::domain::time::{DAY, Timestamp};
use crate::http::app::{Shared, next_page};
use crate::http::error::ApiError;
use crate::http::extract::json_body::Body;
use crate::http::extract::query::{CalendarDays, Days, Once, Query};
use crate::http::extract::validation::{FieldError, Location};
use crate::http::middleware::guard::MayRead;
use crate::http::response::{Acknowledged, Answer, Answered};

const MISSING: &str = "Coffee log not found";

/// An answer under an `Idempotency-Key`: 201 the first time and every time after. A repeated answer has
/// nothing but the id and `sent`, if there is one.
pub(super) fn stored<T: Serialize>(
    stored: IdempotentOutcome<T>,
    id: impl Fn(&T) -> i64,
    collection: &str,
    sent: Option<impl Serialize>,
) -> Answered {
    match stored {
        IdempotentOutcome::New(made) => {
            let answer = Answer::ok(&made)?;
            Ok(answer.with_status(Status::Created).located(format!("{collection}{}", id(&made))))
        }
        IdempotentOutcome::Replayed { id, answer } => {
            let answer = match sent {
                Some(sent) => Answer::ok(&Acknowledged { id, sent })?.with_status(Status::Created),
                None => Answer::raw(Status::Created, answer.into_bytes()),
            };
            Ok(answer.located(format!("{collection}{id}")))
        }
        IdempotentOutcome::KeyReused => {
            let message = "was used before, for another body";
            Err(FieldError::new(Location::Header, "Idempotency-Key", message).into())
        }
    }
}

/// Log a coffee
///
/// `timestamp` is when it was drunk: now, when it is left out. With an `Idempotency-Key` the same
/// request may be sent again without adding anything.
#[utoipa::path(post, path = "/coffee/", operation_id = "add_coffee", tag = "coffee", request_body(content = crate::http::schemas::CoffeeInput, example = json!({"caffeine_mg": 95, "coffee_type": "espresso", "notes": "after lunch"})), params(crate::http::schemas::IdempotencyHeader),
    responses((status = 201, description = "The coffee as it was stored. When a request is sent again by a key without the scope `read`: the id and the fields that were sent", body = crate::http::schemas::CoffeeWritten, headers(("Location" = String, description = "The path of the new coffee, such as `/coffee/1`")))))]
#[rocket::post("/coffee", data = "<new>")]
pub async fn add(app: &State<Shared>, once: Once, may_read: MayRead, new: Body<NewCoffee>) -> Answered {
    let key = once.0.map(|key| IdempotencyKey { route: "/coffee/", key, uptime: app.clock.elapsed() });
    let sent = may_read.instead(|| CoffeeChange::from(new.0.clone()));
    let kind = new.0.coffee_type.clone();
    let dose = new.0.caffeine_mg;
    let made = app.store.add_coffee(new.0, key, app.clock.now()).await?;
    if let IdempotentOutcome::New(coffee) = &made {
        app.metrics.coffee_logged(kind.as_deref(), dose);
        app.note_entry(coffee.timestamp);
    }
    stored(made, |coffee| coffee.id.0, "/coffee/", sent)
}

/// List coffees
///
/// Newest first. `Link: rel="next"` leads to the next page, when there is one.
#[utoipa::path(get, path = "/coffee/", operation_id = "list_coffees", tag = "coffee",
    params(crate::http::schemas::Span, crate::http::schemas::OfType, crate::http::schemas::Page),
    responses((status = 200, description = "At most `limit` coffees, newest first", body = [Coffee], headers(("Link" = String, description = "The next page, when there is one: `</coffee/?offset=50>; rel=\"next\"`")))))]
#[rocket::get("/coffee")]
pub async fn list(
    app: &State<Shared>,
    filter: Query<CoffeeFilter>,
    uri: crate::http::app::RequestUri<'_>,
) -> Answered {
    let filter = filter.0;
    let (limit, offset) = (filter.limit, filter.offset);
    let mut coffees = app.store.coffees(CoffeeFilter { limit: limit + 1, ..filter }).await?;
    let next = next_page(uri, "/coffee/", &mut coffees, limit, offset);
    Ok(Answer::ok(&coffees)?.linked(next))
}

/// Get a coffee
#[utoipa::path(get, path = "/coffee/{id}", operation_id = "get_coffee", tag = "coffee", params(crate::http::schemas::EntryId),
    responses((status = 200, description = "The coffee", body = Coffee)))]
#[rocket::get("/coffee/<id>")]
pub async fn show(app: &State<Shared>, id: Result<CoffeeId, FieldError>) -> Answered {
    Answer::found(app.store.coffee(id?).await?, MISSING)
}

/// Change a coffee
///
/// Only the fields that are given change; null clears `coffee_type` and `notes`. A key without the scope
/// `read` gets the id and the fields that it sent.
#[utoipa::path(put, path = "/coffee/{id}", operation_id = "put_coffee", tag = "coffee", params(crate::http::schemas::EntryId),
    request_body(content = crate::http::schemas::CoffeePatch, example = json!({"caffeine_mg": 80, "notes": null})), responses((status = 200, description = "The coffee as it is now", body = crate::http::schemas::CoffeeWritten)))]
#[rocket::put("/coffee/<id>", data = "<change>")]
pub async fn replace(
    app: &State<Shared>,
    id: Result<CoffeeId, FieldError>,
    may_read: MayRead,
    change: Body<CoffeeChange>,
) -> Answered {
    apply(app, id?, &may_read, change.0).await
}

async fn apply(app: &Shared, id: CoffeeId, may_read: &MayRead, change: CoffeeChange) -> Answered {
    let sent = may_read.instead(|| change.clone());
    let changed = app.store.change_coffee(id, change).await?;
    match sent {
        Some(sent) => Answer::found(changed.map(|_| Acknowledged { id: id.0, sent }), MISSING),
        None => Answer::found(changed, MISSING),
    }
}

/// Change a coffee
///
/// As `PUT` does.
#[utoipa::path(patch, path = "/coffee/{id}", operation_id = "patch_coffee", tag = "coffee", params(crate::http::schemas::EntryId),
    request_body(content = crate::http::schemas::CoffeePatch, example = json!({"coffee_type": "flat white"})), responses((status = 200, description = "The coffee as it is now", body = crate::http::schemas::CoffeeWritten)))]
#[rocket::patch("/coffee/<id>", data = "<change>")]
pub async fn change(
    app: &State<Shared>,
    id: Result<CoffeeId, FieldError>,
    may_read: MayRead,
    change: Body<CoffeeChange>,
) -> Answered {
    apply(app, id?, &may_read, change.0).await
}

/// That something is gone.
#[derive(Serialize, ToSchema)]
pub struct Deleted {
    pub message: &'static str,
    #[schema(minimum = 1)]
    pub id: i64,
}

/// Delete a coffee
#[utoipa::path(delete, path = "/coffee/{id}", operation_id = "delete_coffee", tag = "coffee", params(crate::http::schemas::EntryId),
    responses((status = 200, description = "It is gone", body = Deleted)))]
#[rocket::delete("/coffee/<id>")]
pub async fn delete(app: &State<Shared>, id: Result<CoffeeId, FieldError>) -> Answered {
    let id = id?;
    let gone =
        app.store.delete_coffee(id).await?.then_some(Deleted { message: "Coffee log deleted", id: id.0 });
    Answer::found(gone, MISSING)
}

/// Today's caffeine.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeeToday)]
pub struct Today {
    #[schema(value_type = String, format = Date)]
    date: Date,
    /// Milligrams, to 2 decimals.
    #[schema(minimum = 0)]
    total_caffeine_mg: f64,
    /// By the total: 0 `caffeine-free saint`, below 100 `amateur`, below 200 `casual user`, below 300
    /// `moderate addict`, below 400 `serious problem`, below 600 `severe addiction`, else `call emergency services`.
    addiction_level: &'static str,
    /// The advised limit for a day in milligrams; a setting.
    #[schema(minimum = 0)]
    recommended_max: f64,
    /// Is the total above it?
    over_limit: bool,
    coffee_count: u64,
}

/// Today so far
///
/// Today is the calendar day in the server's time zone.
#[utoipa::path(get, path = "/coffee/today", operation_id = "coffee_today", tag = "coffee", responses((status = 200, description = "Today's total and what it says", body = Today)))]
#[rocket::get("/coffee/today")]
pub async fn today(app: &State<Shared>) -> Answered {
    let zone = &app.settings.place.zone;
    let date = zone.date(app.clock.now());
    let (start, end) = zone.day(date);
    let total = app.store.caffeine_between(start, end).await?;
    let recommended_max = app.settings.rules.recommended_daily_caffeine_mg;
    Answer::ok(&Today {
        date,
        total_caffeine_mg: round2(total.total_mg),
        addiction_level: addiction_level(total.total_mg),
        recommended_max,
        over_limit: total.total_mg > recommended_max,
        coffee_count: total.coffee_count,
    })
}

/// One day's caffeine.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeeDay)]
struct OfDay {
    #[schema(value_type = String, format = Date)]
    date: Date,
    /// Milligrams, to 2 decimals.
    #[schema(minimum = 0)]
    total_mg: f64,
    coffee_count: u64,
}

/// Calendar days that end with today.
struct LastDays {
    /// Newest first; days without coffee are left out.
    days: Vec<OfDay>,
    total_mg: f64,
    with_caffeine: usize,
}

impl LastDays {
    async fn of(app: &Shared, count: u16) -> Result<Self, ApiError> {
        let zone = &app.settings.place.zone;
        let today = zone.date(app.clock.now());
        let (start, _) = zone.day(today.minus_days(u32::from(count) - 1));
        let (_, end) = zone.day(today);
        let days = app.store.caffeine_by_day(start, end, zone.clone()).await?;
        let of_day = |(date, day): (Date, DayTotal)| OfDay {
            date,
            total_mg: round2(day.total_mg),
            coffee_count: day.coffee_count,
        };
        Ok(Self {
            total_mg: days.iter().map(|(_, day)| day.total_mg).sum(),
            with_caffeine: days.iter().filter(|(_, day)| day.total_mg > 0.0).count(),
            days: days.into_iter().map(of_day).collect(),
        })
    }
}

/// Seven days' caffeine.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeeWeek)]
pub struct Week {
    /// Newest first; days without coffee are left out.
    #[schema(max_items = 7)]
    daily_breakdown: Vec<OfDay>,
    /// Milligrams, to 2 decimals.
    #[schema(minimum = 0)]
    week_total_mg: f64,
    /// The total divided by seven.
    #[schema(minimum = 0)]
    week_average_mg: f64,
    #[schema(maximum = 7)]
    days_with_caffeine: usize,
}

/// The last seven days
///
/// Calendar days, with today.
#[utoipa::path(get, path = "/coffee/week", operation_id = "coffee_week", tag = "coffee", responses((status = 200, description = "Day by day", body = Week)))]
#[rocket::get("/coffee/week")]
pub async fn week(app: &State<Shared>) -> Answered {
    let week = LastDays::of(app, 7).await?;
    Answer::ok(&Week {
        days_with_caffeine: week.with_caffeine,
        daily_breakdown: week.days,
        week_total_mg: round2(week.total_mg),
        week_average_mg: round2(week.total_mg / 7.0),
    })
}

/// Some days' caffeine.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeeDays)]
pub struct ByDay {
    #[schema(minimum = 1, maximum = 3650)]
    period_days: u16,
    /// Newest first; days without coffee are left out.
    #[schema(max_items = 3650)]
    daily_breakdown: Vec<OfDay>,
    /// Milligrams, to 2 decimals.
    #[schema(minimum = 0)]
    total_caffeine_mg: f64,
    /// The total divided by `period_days`.
    #[schema(minimum = 0)]
    average_per_day: f64,
    #[schema(maximum = 3650)]
    days_with_caffeine: usize,
}

/// Day by day
///
/// Calendar days, with today: what a calendar of a year shows.
#[utoipa::path(get, path = "/coffee/days", operation_id = "coffee_days", tag = "coffee", params(crate::http::schemas::CalendarDaysParam), responses((status = 200, description = "Day by day", body = ByDay)))]
#[rocket::get("/coffee/days")]
pub async fn days(app: &State<Shared>, days: Query<CalendarDays>) -> Answered {
    let count = days.0.0;
    let by_day = LastDays::of(app, count).await?;
    Answer::ok(&ByDay {
        period_days: count,
        days_with_caffeine: by_day.with_caffeine,
        daily_breakdown: by_day.days,
        total_caffeine_mg: round2(by_day.total_mg),
        average_per_day: round2(by_day.total_mg / f64::from(count)),
    })
}

/// What was drunk of one type.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeesOfType)]
struct OfType {
    /// Null for the coffees without a type.
    #[schema(required)]
    coffee_type: Option<String>,
    coffee_count: u64,
    #[schema(minimum = 0)]
    total_mg: f64,
    #[schema(minimum = 0)]
    average_mg: f64,
}

/// What was drunk in one hour of the day.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeesOfHour)]
struct OfHour {
    #[schema(minimum = 0, maximum = 23)]
    hour: usize,
    coffee_count: u64,
    #[schema(minimum = 0)]
    total_mg: f64,
}

/// What a period's coffees add up to.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeeStats)]
pub struct Stats {
    #[schema(minimum = 1, maximum = 3650)]
    period_days: u16,
    #[schema(minimum = 1)]
    total_coffees: u64,
    /// Milligrams, as are all sums and averages here, to 2 decimals.
    #[schema(minimum = 0)]
    total_caffeine_mg: f64,
    /// The total divided by `period_days`.
    #[schema(minimum = 0)]
    average_per_day: f64,
    #[schema(minimum = 0)]
    average_per_coffee: f64,
    #[schema(minimum = 0)]
    max_single_dose: f64,
    #[schema(minimum = 0)]
    min_single_dose: f64,
    /// Of equally frequent types the one drunk last; null when none has a type.
    #[schema(required)]
    most_common_type: Option<String>,
    /// Calendar days in the server's time zone.
    days_with_caffeine: u32,
    /// Most frequent first.
    by_type: Vec<OfType>,
    /// The 24 hours of the day in the server's time zone.
    #[schema(min_items = 24, max_items = 24)]
    by_hour: Vec<OfHour>,
}

/// That there is nothing in the period.
#[derive(Serialize, ToSchema)]
pub struct NoData {
    pub message: String,
    #[schema(minimum = 1, maximum = 3650)]
    pub days: u16,
}

/// Figures, or nothing to make them of.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeeStatsOrNone)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only tells the OpenAPI document that there are two shapes")]
pub enum StatsOrNone {
    Stats(Stats),
    None(NoData),
}

/// Statistics
///
/// Over the last `days` times 24 hours.
#[utoipa::path(get, path = "/coffee/stats", operation_id = "coffee_stats", tag = "coffee", params(crate::http::schemas::DaysParam),
    responses((status = 200, description = "The period's figures", body = StatsOrNone)))]
#[rocket::get("/coffee/stats")]
pub async fn stats(app: &State<Shared>, days: Query<Days>) -> Answered {
    let (days, now) = (days.0.0, app.clock.now());
    let since = now.minus(i64::from(days) * DAY);
    match app.store.coffee_stats(since, just_after(now), app.settings.place.zone.clone()).await? {
        Some(stats) => Answer::ok(&Stats::of(days, stats)),
        None => Answer::ok(&NoData { message: format!("No coffee data in last {days} days"), days }),
    }
}

/// A window that ends now holds what is logged now.
pub(super) fn just_after(now: Timestamp) -> Timestamp {
    now.plus(1)
}

impl Stats {
    fn of(days: u16, stats: CoffeeStats) -> Self {
        let count = stats.total.coffee_count;
        Self {
            period_days: days,
            total_coffees: count,
            total_caffeine_mg: round2(stats.total.total_mg),
            average_per_day: round2(stats.total.total_mg / f64::from(days)),
            average_per_coffee: round2(stats.total.total_mg / count as f64),
            max_single_dose: round2(stats.max_mg),
            min_single_dose: round2(stats.min_mg),
            most_common_type: stats.by_type.iter().find_map(|t| t.coffee_type.clone()),
            days_with_caffeine: stats.days_with_caffeine,
            by_hour: (0..)
                .zip(stats.by_hour)
                .map(|(hour, total)| OfHour {
                    hour,
                    coffee_count: total.coffee_count,
                    total_mg: round2(total.total_mg),
                })
                .collect(),
            by_type: stats
                .by_type
                .into_iter()
                .map(|t| OfType {
                    coffee_count: t.total.coffee_count,
                    total_mg: round2(t.total.total_mg),
                    average_mg: round2(t.total.total_mg / t.total.coffee_count as f64),
                    coffee_type: t.coffee_type,
                })
                .collect(),
        }
    }
}

/// A type the user drinks.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnType)]
struct Own {
    coffee_type: String,
    /// How often in the last year.
    #[schema(minimum = 1)]
    count: u64,
    /// The dose logged most often, mg.
    #[schema(minimum = 0)]
    caffeine_mg: f64,
    /// When it was drunk last.
    #[schema(value_type = String, format = DateTime)]
    last: Timestamp,
}

/// What a phone's menu offers.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeeTypes)]
pub struct Types {
    /// The user's own types of the last year, most frequent first.
    own: Vec<Own>,
    /// Doses for everyone.
    presets: &'static [Preset],
    /// Where the presets' doses come from.
    source: &'static str,
}

/// Types to choose from
///
/// Own types with how often and the usual dose, and presets with EFSA's values.
#[utoipa::path(get, path = "/coffee/types", operation_id = "coffee_types", tag = "coffee", responses((status = 200, description = "Own types and presets", body = Types)))]
#[rocket::get("/coffee/types")]
pub async fn types(app: &State<Shared>) -> Result<Answer, ApiError> {
    let own = app.store.own_types(app.clock.now().minus(365 * DAY), 50).await?;
    let own = own.into_iter().map(|own| Own {
        coffee_type: own.coffee_type,
        count: own.count,
        caffeine_mg: round2(own.usual_mg),
        last: own.last,
    });
    Answer::ok(&Types { own: own.collect(), presets: &PRESETS, source: PRESETS_SOURCE })
}
