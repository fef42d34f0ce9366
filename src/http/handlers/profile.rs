//! `/profile`: bedtimes, half-life and limits of the person.

use std::collections::BTreeMap;
use std::fmt;

use rocket::State;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use crate::domain::bedtimes::by_weekday_schema;
use crate::domain::caffeine::HALF_LIFE_RANGE;
use crate::domain::calendar::{LocalTime, WEEKDAYS};
use crate::domain::json_object::JsonObject;
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::ValidationContext;
use crate::domain::profile::{
    DAILY_LIMIT_RANGE, FIELDS, Profile, ProfileChange, SLEEP_THRESHOLD_RANGE, USUAL_DOSE_RANGE,
};
use crate::domain::text;
use crate::http::app::SharedApp;
use crate::http::extract::headers::{Caller, PersonOfRequest};
use crate::http::extract::json_body::{FromBody, JsonBody};
use crate::http::response::{JsonResponse, JsonResult};
use crate::http::validation::{
    FieldValidator, Location, ValidationErrors, nullable_number_schema, parse_object,
};

/// Request body that changes the profile: at least one field; null resets a field to its default. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct ProfileInput {
    /// Time of day, such as `22:30`.
    #[schema(value_type = Option<String>, pattern = "^([01]?[0-9]|2[0-3]):[0-5][0-9]$")]
    #[serde(default)]
    bedtime: JsonScalar,
    #[schema(schema_with = weekdays_schema)]
    #[serde(default)]
    bedtime_by_weekday: JsonObject<WeekdayMembers>,
    #[schema(schema_with = half_life_schema)]
    #[serde(default)]
    half_life_hours: JsonScalar,
    #[schema(schema_with = sleep_threshold_schema)]
    #[serde(default)]
    sleep_threshold_mg: JsonScalar,
    #[schema(schema_with = usual_dose_schema)]
    #[serde(default)]
    usual_dose_mg: JsonScalar,
    #[schema(schema_with = daily_limit_schema)]
    #[serde(default)]
    daily_limit_mg: JsonScalar,
}

/// Members of `bedtime_by_weekday` by name: those of all weekdays, and some of the others.
struct WeekdayMembers(BTreeMap<String, JsonScalar>);

/// Pattern of a time of day.
const TIME: &str = "^([01]?[0-9]|2[0-3]):[0-5][0-9]$";
/// Pattern of numeric strings from 1 to 1000.
const TO_1000: &str = r"^(1000|[1-9][0-9]{0,2}(\.[0-9]{1,6})?)$";

fn weekdays_schema() -> Schema {
    let kinds = |kind| SchemaType::from_iter([kind, Type::Null]);
    let time = ObjectBuilder::new().schema_type(kinds(Type::String));
    let time = time.pattern(Some(TIME)).build();
    let description = "Bedtimes of the weekdays that differ from `bedtime`; other days have the usual one. Each belongs to the evening of \
         its day: 00:30 on Friday is in the night from Friday to Saturday.";
    by_weekday_schema(&time).schema_type(kinds(Type::Object)).description(Some(description)).build().into()
}

fn half_life_schema() -> Schema {
    let pattern = r"^(24|([1-9]|1[0-9]|2[0-3])(\.[0-9]{1,6})?)$";
    let description = "Half-life of caffeine: about 5 hours for an average adult, 3.5 for smokers, 8 in pregnancy or with oral contraceptives.";
    nullable_number_schema(&HALF_LIFE_RANGE, pattern, description)
}

fn sleep_threshold_schema() -> Schema {
    let description = "Maximum of active caffeine from bedtime on in milligrams.";
    nullable_number_schema(&SLEEP_THRESHOLD_RANGE, TO_1000, description)
}

fn usual_dose_schema() -> Schema {
    let description = "Usual dose in milligrams.";
    nullable_number_schema(&USUAL_DOSE_RANGE, TO_1000, description)
}

fn daily_limit_schema() -> Schema {
    let pattern = r"^(100000|[1-9][0-9]{0,4}(\.[0-9]{1,6})?)$";
    nullable_number_schema(&DAILY_LIMIT_RANGE, pattern, "Maximum on a calendar day in milligrams.")
}

/// Parses the bedtimes of the weekdays; days that are not listed are reset.
fn weekday_changes(
    input: &JsonObject<WeekdayMembers>,
    v: &mut FieldValidator,
) -> [Option<Option<LocalTime>>; 7] {
    const NAME: &str = "bedtime_by_weekday";
    let days = match input {
        JsonObject::Absent => return [None; 7],
        JsonObject::Null => return [Some(None); 7],
        JsonObject::Other => {
            v.add_error(NAME, &JsonScalar::Nested, "must be an object such as {\"friday\": \"00:30\"}");
            return [None; 7];
        }
        JsonObject::Object(WeekdayMembers(days)) => days,
    };
    for (name, field) in days.iter().filter(|(name, _)| !WEEKDAYS.contains(&name.as_str())) {
        let name = format!("{NAME}.{}", text::shorten(name, 20));
        v.add_error(&name, field, "must be a weekday from monday to sunday");
    }
    WEEKDAYS.map(|weekday| {
        let field = days.get(weekday).unwrap_or(&JsonScalar::Null);
        v.changed(&format!("{NAME}.{weekday}"), field, |v, name, field| {
            v.parse(name, field, LocalTime::parse)
        })
    })
}

impl<'de> Deserialize<'de> for WeekdayMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = WeekdayMembers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<WeekdayMembers, A::Error> {
                let mut days = BTreeMap::new();
                while let Some((name, value)) = members.next_entry::<String, JsonScalar>()? {
                    // Few of the others, so that memory is bounded.
                    if WEEKDAYS.contains(&name.as_str()) || days.len() <= WEEKDAYS.len() {
                        days.insert(name, value);
                    }
                }
                Ok(WeekdayMembers(days))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

impl FromBody for ProfileChange {
    fn from_body(body: &[u8], _: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: ProfileInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let change = Self {
            bedtime: v
                .changed("bedtime", &input.bedtime, |v, name, field| v.parse(name, field, LocalTime::parse)),
            bedtime_by_weekday: weekday_changes(&input.bedtime_by_weekday, &mut v),
            half_life_hours: v.changed_number("half_life_hours", &input.half_life_hours, &HALF_LIFE_RANGE),
            sleep_threshold_mg: v.changed_number(
                "sleep_threshold_mg",
                &input.sleep_threshold_mg,
                &SLEEP_THRESHOLD_RANGE,
            ),
            usual_dose_mg: v.changed_number("usual_dose_mg", &input.usual_dose_mg, &USUAL_DOSE_RANGE),
            daily_limit_mg: v.changed_number("daily_limit_mg", &input.daily_limit_mg, &DAILY_LIMIT_RANGE),
        };
        v.finish_change(change, &FIELDS.join(", "))
    }
}

/// Profile
///
/// Bedtimes, half-life of caffeine and limits: the values in effect, the server's defaults, and whether the
/// person has set a value.
#[utoipa::path(get, path = "/profile", operation_id = "get_profile", tag = "profile", responses((status = 200, description = "The profile", body = Profile)))]
#[rocket::get("/profile")]
pub async fn get(app: &State<SharedApp>, person: PersonOfRequest) -> JsonResult {
    JsonResponse::ok(&Profile::of(&person.store.own_profile().await?, &app.current().profile))
}

/// Change the profile
///
/// Changes only the fields that are sent; null resets a field to the server's default. Every estimate uses the
/// new values at once. `bedtime_by_weekday` is replaced as a whole. A caller without the scope `read` gets only the fields
/// that it sent.
#[utoipa::path(patch, path = "/profile", operation_id = "change_profile", tag = "profile", request_body(content = ProfileInput, example = json!({"bedtime": "22:30", "bedtime_by_weekday": {"friday": "00:30"}, "half_life_hours": null})),
    responses((status = 200, description = "The changed profile", body = Profile)))]
#[rocket::patch("/profile", data = "<change>")]
pub async fn change(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    caller: Caller,
    change: JsonBody<ProfileChange>,
) -> JsonResult {
    let profile = Profile::of(&person.store.change_profile(change.0).await?, &app.current().profile);
    JsonResponse::ok(&if caller.may_read { profile } else { profile.only_of(&change.0) })
}
