//! `/coffee`: log, list, change and delete coffees.

use rocket::State;
use rocket::http::uri::Origin;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Schema, Type};

use crate::db::entry_filter::EntryFilter;
use crate::db::idempotency::IdempotentOutcome;
use crate::domain::coffee::{Coffee, CoffeeChange, CoffeeId, Milligrams, NewCoffee};
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::{MAX_COFFEE_TYPE, MAX_NOTES, ValidationContext};
use crate::domain::time::Timestamp;
use crate::http::app::SharedApp;
use crate::http::extract::headers::{Caller, IdempotencyHeader, IdempotencyKeyHeader, PersonOfRequest};
use crate::http::extract::json_body::{FromBody, JsonBody};
use crate::http::extract::query::{CoffeeTypeFilter, EntryId, Page, Query, TimeRange};
use crate::http::handlers::entries::{Collection, Deleted};
use crate::http::response::JsonResult;
use crate::http::validation::{
    FieldError, FieldValidator, Location, ValidationErrors, number_schema, parse_object, timestamp_schema,
};

const COFFEES: Collection =
    Collection { path: "/coffee/", not_found: "Coffee log not found", deleted: "Coffee log deleted" };

/// Request body for a new coffee. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct CoffeeInput {
    #[schema(schema_with = dose_schema, required)]
    #[serde(default)]
    caffeine_mg: JsonScalar,
    /// Any text, such as `espresso`.
    #[schema(value_type = Option<String>, max_length = 100)]
    #[serde(default)]
    coffee_type: JsonScalar,
    #[schema(value_type = Option<String>, max_length = 1000)]
    #[serde(default)]
    notes: JsonScalar,
    #[schema(schema_with = timestamp_schema)]
    #[serde(default)]
    timestamp: JsonScalar,
}

fn dose_schema() -> Schema {
    let pattern = r"^(1000|[0-9]{1,3}(\.[0-9]{1,6})?)$";
    let description = "Milligrams. `/info` has the maximum, which is a setting.";
    number_schema(Type::Number, 0.0, 1000.0, pattern, description)
}

impl CoffeeInput {
    fn dose(&self, v: &mut FieldValidator, context: &ValidationContext<'_>) -> Option<Milligrams> {
        v.number("caffeine_mg", &self.caffeine_mg, 0.0, context.limits.max_caffeine_mg)
            .and_then(Milligrams::new)
    }
}

impl FromBody for NewCoffee {
    fn from_body(body: &[u8], context: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: CoffeeInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let caffeine_mg = input.dose(&mut v, context);
        let timestamp = v.new_time(&input.timestamp, context);
        let coffee_type = v.text("coffee_type", &input.coffee_type, MAX_COFFEE_TYPE);
        let notes = v.text("notes", &input.notes, MAX_NOTES);
        v.finish(caffeine_mg.map(|caffeine_mg| Self { timestamp, caffeine_mg, coffee_type, notes }))
    }
}

impl FromBody for CoffeeChange {
    fn from_body(body: &[u8], context: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: CoffeeInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let change = Self {
            caffeine_mg: if input.caffeine_mg.is_present() { input.dose(&mut v, context) } else { None },
            timestamp: v.changed_time(&input.timestamp, context),
            coffee_type: v.changed_text("coffee_type", &input.coffee_type, MAX_COFFEE_TYPE),
            notes: v.changed_text("notes", &input.notes, MAX_NOTES),
        };
        v.finish_change(change, "caffeine_mg, coffee_type, notes, timestamp")
    }
}

/// Log a coffee
///
/// `timestamp` is the time of the coffee; default: now. With an `Idempotency-Key`, the same request can be
/// sent again without adding another coffee.
#[utoipa::path(post, path = "/coffee/", operation_id = "add_coffee", tag = "coffee", request_body(content = CoffeeInput, example = json!({"caffeine_mg": 95, "coffee_type": "espresso", "notes": "after lunch"})), params(IdempotencyKeyHeader),
    responses((status = 201, description = "The stored coffee. A repeated request by a caller without the scope `read` gets the id and the fields that it sent", body = ref("#/components/schemas/CoffeeWritten"), headers(("Location" = String, description = "Path of the new coffee, such as `/coffee/1`")))))]
#[rocket::post("/coffee", data = "<new>")]
pub async fn add(
    app: &State<SharedApp>,
    person: PersonOfRequest,
    idempotency: IdempotencyHeader,
    caller: Caller,
    new: JsonBody<NewCoffee>,
) -> JsonResult {
    // A repeated request without the scope `read` gets back only what it sent: a `CoffeeChange` omits absent fields.
    let sent = (!caller.may_read).then(|| CoffeeChange::from(new.0.clone()));
    let outcome = person.store.add_coffee(new.0, idempotency.0, app.clock.now()).await?;
    if let IdempotentOutcome::New(coffee) = &outcome {
        app.metrics.count_coffee(coffee.coffee_type.as_deref(), coffee.caffeine_mg, person.is_owner);
        person.raise_newest_entry(coffee.timestamp);
    }
    COFFEES.created(outcome, |coffee| coffee.id.0, sent)
}

/// List coffees
///
/// Newest first. `Link: rel="next"` leads to the next page, if there is one.
#[utoipa::path(get, path = "/coffee/", operation_id = "list_coffees", tag = "coffee", params(TimeRange, CoffeeTypeFilter, Page),
    responses((status = 200, description = "At most `limit` coffees, newest first", body = [Coffee], headers(("Link" = String, description = "Next page, if there is one: `</coffee/?offset=50>; rel=\"next\"`")))))]
#[rocket::get("/coffee")]
pub async fn list(
    person: PersonOfRequest,
    query: Query<(TimeRange, Page, CoffeeTypeFilter)>,
    uri: &Origin<'_>,
) -> JsonResult {
    let (range, page, CoffeeTypeFilter { coffee_type }) = query.0;
    let filter = EntryFilter {
        since: range.since.unwrap_or(Timestamp::MIN),
        until: range.until.unwrap_or(Timestamp::MAX),
        label: coffee_type,
        limit: page.limit + 1,
        offset: page.offset,
    };
    COFFEES.page(uri, person.store.coffees(filter).await?, page)
}

/// Get a coffee
#[utoipa::path(get, path = "/coffee/{id}", operation_id = "get_coffee", tag = "coffee", params(EntryId),
    responses((status = 200, description = "The coffee", body = Coffee)))]
#[rocket::get("/coffee/<id>")]
pub async fn get(person: PersonOfRequest, id: Result<CoffeeId, FieldError>) -> JsonResult {
    COFFEES.found(person.store.coffee(id?).await?)
}

/// Change a coffee
///
/// Changes only the fields that are sent; null clears `coffee_type` and `notes`. A caller without the scope
/// `read` gets the id and the fields that it sent.
#[utoipa::path(put, path = "/coffee/{id}", operation_id = "put_coffee", tag = "coffee", params(EntryId),
    request_body(content = ref("#/components/schemas/CoffeePatch"), example = json!({"caffeine_mg": 80, "notes": null})), responses((status = 200, description = "The changed coffee", body = ref("#/components/schemas/CoffeeWritten"))))]
#[rocket::put("/coffee/<id>", data = "<change>")]
pub async fn put(
    person: PersonOfRequest,
    id: Result<CoffeeId, FieldError>,
    caller: Caller,
    change: JsonBody<CoffeeChange>,
) -> JsonResult {
    let id = id?;
    let sent = (!caller.may_read).then(|| change.0.clone());
    COFFEES.changed(person.store.change_coffee(id, change.0).await?, id.0, sent)
}

/// Delete a coffee
#[utoipa::path(delete, path = "/coffee/{id}", operation_id = "delete_coffee", tag = "coffee", params(EntryId),
    responses((status = 200, description = "The coffee was deleted", body = Deleted)))]
#[rocket::delete("/coffee/<id>")]
pub async fn delete(person: PersonOfRequest, id: Result<CoffeeId, FieldError>) -> JsonResult {
    let id = id?;
    COFFEES.deleted(person.store.delete_coffee(id).await?, id.0)
}
