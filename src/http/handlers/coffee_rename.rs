//! `POST /coffee/rename`: change the type of many coffees at once.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, SchemaType, Type};

use crate::db::coffee_types::RenamedCoffees;
use crate::domain::coffee::{CoffeeId, TypeRename};
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::{MAX_COFFEE_TYPE, ValidationContext};
use crate::http::extract::headers::{Caller, PersonOfRequest};
use crate::http::extract::json_body::{FromBody, JsonBody};
use crate::http::response::{JsonResponse, JsonResult};
use crate::http::validation::{FieldValidator, Location, ValidationErrors, parse_object};

/// Largest id in a request: up to it, JSON programs represent whole numbers exactly (RFC 8259, section 6).
const MAX_ID: f64 = ((1_u64 << 53) - 1) as f64;

/// Request body of `POST /coffee/rename`. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct RenameInput {
    /// Type whose coffees are renamed, whatever the case of its letters.
    #[schema(value_type = String, min_length = 1, max_length = 100, required)]
    #[serde(default)]
    from: JsonScalar,
    /// New type. When other coffees have it already, both become one type.
    #[schema(value_type = String, min_length = 1, max_length = 100, required)]
    #[serde(default)]
    to: JsonScalar,
    #[schema(schema_with = ids_schema)]
    #[serde(default)]
    ids: Option<Vec<Number>>,
}

/// Response body of `POST /coffee/rename`.
#[derive(Serialize, ToSchema)]
pub struct CoffeesRenamed {
    /// Number of renamed coffees.
    renamed: usize,
    /// Ids of the renamed coffees by their former type, to rename them back. Absent for callers without the
    /// scope `read`.
    #[schema(value_type = BTreeMap<String, Vec<i64>>, nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    former_types: Option<RenamedCoffees>,
}

impl FromBody for TypeRename {
    fn from_body(body: &[u8], _: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: RenameInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let from = v.required_text("from", &input.from, MAX_COFFEE_TYPE);
        let to = v.required_text("to", &input.to, MAX_COFFEE_TYPE);
        let only: Option<Option<HashSet<CoffeeId>>> =
            input.ids.map(|ids| ids.iter().map(coffee_id).collect());
        if only == Some(None) {
            v.add_error("ids", &JsonScalar::Nested, "must be ids: whole numbers from 1 to 2^53 - 1");
        }
        v.finish(from.zip(to).map(|(from, to)| Self { from, to, only: only.flatten() }))
    }
}

/// Returns an id: 4.0 is one, 4.5 is not.
fn coffee_id(number: &Number) -> Option<CoffeeId> {
    let is_id = |number: &f64| number.fract() == 0.0 && (1.0..=MAX_ID).contains(number);
    number.as_f64().filter(is_id).map(|number| CoffeeId(number as i64))
}

fn ids_schema() -> Schema {
    let id = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1.0)).maximum(Some(MAX_ID));
    let kinds = SchemaType::from_iter([Type::Array, Type::Null]);
    let description = "Rename only these coffees; default: all of the type.";
    ArrayBuilder::new().schema_type(kinds).items(id).description(Some(description)).build().into()
}

/// Rename a type
///
/// Changes the type of all its coffees at once, or merges it into another type.
#[utoipa::path(post, path = "/coffee/rename", operation_id = "rename_type", tag = "coffee", request_body(content = RenameInput, example = json!({"from": "esspreso", "to": "espresso"})),
    responses((status = 200, description = "Number of renamed coffees, and their former types", body = CoffeesRenamed)))]
#[rocket::post("/coffee/rename", data = "<rename>")]
pub async fn rename(person: PersonOfRequest, caller: Caller, rename: JsonBody<TypeRename>) -> JsonResult {
    let former_types = person.store.rename_type(rename.0).await?;
    JsonResponse::ok(&CoffeesRenamed {
        renamed: former_types.values().map(Vec::len).sum(),
        former_types: caller.may_read.then_some(former_types),
    })
}
