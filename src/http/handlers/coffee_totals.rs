//! `/coffee/…`: totals by day, statistics and types of coffee.

use rocket::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::coffees::{CaffeineTotal, CoffeeStats};
use crate::domain::calendar::Date;
use crate::domain::coffee::{PRESETS, PRESETS_SOURCE, Preset, addiction_level};
use crate::domain::statistics::round2;
use crate::domain::time::{DAY, Timestamp};
use crate::http::app::{App, SharedApp};
use crate::http::error::ApiError;
use crate::http::extract::headers::PersonOfRequest;
use crate::http::extract::query::{CalendarDaysQuery, DaysQuery, Query};
use crate::http::handlers::entries::{NoData, rolling_window};
use crate::http::response::{JsonResponse, JsonResult};
use crate::people::database::PersonDatabase;

/// Response body of `GET /coffee/today`.
#[derive(Serialize, ToSchema)]
pub struct CoffeeToday {
    #[schema(value_type = String, format = Date)]
    date: Date,
    /// Milligrams, to 2 decimals.
    #[schema(minimum = 0)]
    total_caffeine_mg: f64,
    /// Label of the total: 0 `caffeine-free saint`, below 100 `amateur`, below 200 `casual user`, below 300
    /// `moderate addict`, below 400 `serious problem`, below 600 `severe addiction`, else `call emergency services`.
    addiction_level: &'static str,
    /// Recommended daily maximum in milligrams, of the profile.
    #[schema(minimum = 0)]
    recommended_max: f64,
    /// The total exceeds `recommended_max`.
    over_limit: bool,
    coffee_count: u64,
}

/// Today's caffeine
///
/// Total of the current calendar day in the server's time zone.
#[utoipa::path(get, path = "/coffee/today", operation_id = "coffee_today", tag = "coffee", responses((status = 200, description = "Today's total and its assessment", body = CoffeeToday)))]
#[rocket::get("/coffee/today")]
pub async fn today(app: &State<SharedApp>, person: PersonOfRequest) -> JsonResult {
    let zone = &app.settings.common.zone;
    let date = zone.date(app.clock.now());
    let (start, end) = zone.day(date);
    let (total, own_limit) = person.store.caffeine_and_limit(start, end).await?;
    let recommended_max = own_limit.unwrap_or(app.current().profile.daily_limit_mg);
    JsonResponse::ok(&CoffeeToday {
        date,
        total_caffeine_mg: round2(total.total_mg),
        addiction_level: addiction_level(total.total_mg),
        recommended_max,
        over_limit: total.total_mg > recommended_max,
        coffee_count: total.coffee_count,
    })
}

/// Total of one calendar day.
#[derive(Serialize, ToSchema)]
struct CoffeeDay {
    #[schema(value_type = String, format = Date)]
    date: Date,
    /// Milligrams, to 2 decimals.
    #[schema(minimum = 0)]
    total_mg: f64,
    coffee_count: u64,
}

/// Totals of the last calendar days, today included.
struct DailyTotals {
    /// Newest first; days without coffee are omitted.
    days: Vec<CoffeeDay>,
    total_mg: f64,
    days_with_caffeine: usize,
}

impl DailyTotals {
    async fn read(app: &App, person: &PersonDatabase, count: u16) -> Result<Self, ApiError> {
        let zone = &app.settings.common.zone;
        let today = zone.date(app.clock.now());
        let (start, _) = zone.day(today.minus_days(u32::from(count) - 1));
        let (_, end) = zone.day(today);
        let days = person.store.caffeine_by_day(start, end, zone.clone()).await?;
        let coffee_day = |(date, day): (Date, CaffeineTotal)| CoffeeDay {
            date,
            total_mg: round2(day.total_mg),
            coffee_count: day.coffee_count,
        };
        Ok(Self {
            total_mg: days.iter().map(|(_, day)| day.total_mg).sum(),
            days_with_caffeine: days.iter().filter(|(_, day)| day.total_mg > 0.0).count(),
            days: days.into_iter().map(coffee_day).collect(),
        })
    }
}

/// Response body of `GET /coffee/week`.
#[derive(Serialize, ToSchema)]
pub struct CoffeeWeek {
    /// Newest first; days without coffee are omitted.
    #[schema(max_items = 7)]
    daily_breakdown: Vec<CoffeeDay>,
    /// Milligrams, to 2 decimals.
    #[schema(minimum = 0)]
    week_total_mg: f64,
    /// Total divided by seven.
    #[schema(minimum = 0)]
    week_average_mg: f64,
    #[schema(maximum = 7)]
    days_with_caffeine: usize,
}

/// Caffeine of the last seven days
///
/// Calendar days, today included.
#[utoipa::path(get, path = "/coffee/week", operation_id = "coffee_week", tag = "coffee", responses((status = 200, description = "Totals by day", body = CoffeeWeek)))]
#[rocket::get("/coffee/week")]
pub async fn week(app: &State<SharedApp>, person: PersonOfRequest) -> JsonResult {
    let week = DailyTotals::read(app, &person, 7).await?;
    JsonResponse::ok(&CoffeeWeek {
        days_with_caffeine: week.days_with_caffeine,
        daily_breakdown: week.days,
        week_total_mg: round2(week.total_mg),
        week_average_mg: round2(week.total_mg / 7.0),
    })
}

/// Response body of `GET /coffee/days`.
#[derive(Serialize, ToSchema)]
pub struct CoffeeDays {
    #[schema(minimum = 1, maximum = 3650)]
    period_days: u16,
    /// Newest first; days without coffee are omitted.
    #[schema(max_items = 3650)]
    daily_breakdown: Vec<CoffeeDay>,
    /// Milligrams, to 2 decimals.
    #[schema(minimum = 0)]
    total_caffeine_mg: f64,
    /// Total divided by `period_days`.
    #[schema(minimum = 0)]
    average_per_day: f64,
    #[schema(maximum = 3650)]
    days_with_caffeine: usize,
}

/// Caffeine by day
///
/// Calendar days, today included.
#[utoipa::path(get, path = "/coffee/days", operation_id = "coffee_days", tag = "coffee", params(CalendarDaysQuery), responses((status = 200, description = "Totals by day", body = CoffeeDays)))]
#[rocket::get("/coffee/days")]
pub async fn days(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    query: Query<CalendarDaysQuery>,
) -> JsonResult {
    let count = query.0.days;
    let totals = DailyTotals::read(app, &person, count).await?;
    JsonResponse::ok(&CoffeeDays {
        period_days: count,
        days_with_caffeine: totals.days_with_caffeine,
        daily_breakdown: totals.days,
        total_caffeine_mg: round2(totals.total_mg),
        average_per_day: round2(totals.total_mg / f64::from(count)),
    })
}

/// Totals of one type of coffee.
#[derive(Serialize, ToSchema)]
struct CoffeesOfType {
    /// Null for coffees without a type.
    #[schema(required)]
    coffee_type: Option<String>,
    coffee_count: u64,
    #[schema(minimum = 0)]
    total_mg: f64,
    #[schema(minimum = 0)]
    average_mg: f64,
}

/// Totals of one hour of the day.
#[derive(Serialize, ToSchema)]
struct CoffeesOfHour {
    #[schema(minimum = 0, maximum = 23)]
    hour: usize,
    coffee_count: u64,
    #[schema(minimum = 0)]
    total_mg: f64,
}

/// Response body of `GET /coffee/stats` for a period with coffees.
#[derive(Serialize, ToSchema)]
#[schema(as = CoffeeStats)]
pub struct CoffeeStatsBody {
    #[schema(minimum = 1, maximum = 3650)]
    period_days: u16,
    #[schema(minimum = 1)]
    total_coffees: u64,
    /// Milligrams, to 2 decimals, like all sums and averages here.
    #[schema(minimum = 0)]
    total_caffeine_mg: f64,
    /// Total divided by `period_days`.
    #[schema(minimum = 0)]
    average_per_day: f64,
    #[schema(minimum = 0)]
    average_per_coffee: f64,
    #[schema(minimum = 0)]
    max_single_dose: f64,
    #[schema(minimum = 0)]
    min_single_dose: f64,
    /// Most recent of equally frequent types; null when no coffee has a type.
    #[schema(required)]
    most_common_type: Option<String>,
    /// Calendar days in the server's time zone.
    days_with_caffeine: u32,
    /// Most frequent first.
    by_type: Vec<CoffeesOfType>,
    /// The 24 hours of the day in the server's time zone.
    #[schema(min_items = 24, max_items = 24)]
    by_hour: Vec<CoffeesOfHour>,
}

/// Response body of `GET /coffee/stats`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum CoffeeStatsOrNone {
    Stats(CoffeeStatsBody),
    None(NoData),
}

/// Statistics of coffees
///
/// Over the last `days` times 24 hours.
#[utoipa::path(get, path = "/coffee/stats", operation_id = "coffee_stats", tag = "coffee", params(DaysQuery),
    responses((status = 200, description = "Statistics of the period", body = CoffeeStatsOrNone)))]
#[rocket::get("/coffee/stats")]
pub async fn stats(app: &State<SharedApp>, person: PersonOfRequest, query: Query<DaysQuery>) -> JsonResult {
    let days = query.0.days;
    let (since, until) = rolling_window(app.clock.now(), days);
    match person.store.coffee_stats(since, until, app.settings.common.zone.clone()).await? {
        Some(stats) => JsonResponse::ok(&CoffeeStatsBody::new(days, stats)),
        None => JsonResponse::ok(&NoData::of("coffee", days)),
    }
}

impl CoffeeStatsBody {
    fn new(days: u16, stats: CoffeeStats) -> Self {
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
                .map(|(hour, total)| CoffeesOfHour {
                    hour,
                    coffee_count: total.coffee_count,
                    total_mg: round2(total.total_mg),
                })
                .collect(),
            by_type: stats
                .by_type
                .into_iter()
                .map(|t| CoffeesOfType {
                    coffee_count: t.total.coffee_count,
                    total_mg: round2(t.total.total_mg),
                    average_mg: round2(t.total.total_mg / t.total.coffee_count as f64),
                    coffee_type: t.coffee_type,
                })
                .collect(),
        }
    }
}

/// Type of coffee in the user's log.
#[derive(Serialize, ToSchema)]
#[schema(as = OwnType)]
struct OwnTypeBody {
    coffee_type: String,
    /// Number of coffees in the last year.
    #[schema(minimum = 1)]
    count: u64,
    /// Most frequent dose in milligrams.
    #[schema(minimum = 0)]
    caffeine_mg: f64,
    /// Time of the newest coffee of this type.
    #[schema(value_type = String, format = DateTime)]
    last: Timestamp,
}

/// Response body of `GET /coffee/types`.
#[derive(Serialize, ToSchema)]
pub struct CoffeeTypes {
    /// The user's own types of the last year, most frequent first.
    own: Vec<OwnTypeBody>,
    /// Common drinks.
    presets: &'static [Preset],
    /// Source of the doses of the presets.
    source: &'static str,
}

/// Types of coffee
///
/// The user's own types with frequency and usual dose, and presets with EFSA's values.
#[utoipa::path(get, path = "/coffee/types", operation_id = "coffee_types", tag = "coffee", responses((status = 200, description = "Own types and presets", body = CoffeeTypes)))]
#[rocket::get("/coffee/types")]
pub async fn types(app: &State<SharedApp>, person: PersonOfRequest) -> JsonResult {
    let own = person.store.own_types(app.clock.now().minus(365 * DAY), 50).await?;
    let own = own.into_iter().map(|own| OwnTypeBody {
        coffee_type: own.coffee_type,
        count: own.count,
        caffeine_mg: round2(own.usual_mg),
        last: own.last,
    });
    JsonResponse::ok(&CoffeeTypes { own: own.collect(), presets: &PRESETS, source: PRESETS_SOURCE })
}
