//! A JSON value of which only scalars are kept, so that the memory of parsed input is bounded.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use crate::domain::text;

/// JSON value of one object member. Lists and objects are read, but their contents are dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum JsonScalar {
    /// The member is missing.
    #[default]
    Absent,
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// A list or an object.
    Nested,
}

impl JsonScalar {
    /// Returns whether the member is present, `null` included.
    pub fn is_present(&self) -> bool {
        *self != Self::Absent
    }

    /// Returns a finite number, from a JSON number or from a string with a decimal number: some phones
    /// send `"95"` instead of 95. `None` for anything else.
    pub fn as_number(&self) -> Option<f64> {
        let number = match self {
            Self::Number(number) => number.as_f64(),
            Self::Text(text) => text::parse_decimal(text.trim()),
            _ => None,
        };
        // Adding zero turns -0.0 into 0.0.
        number.map(|number| number + 0.0)
    }

    /// Returns the value for an error message, with text cut to 100 characters. `None` when it is absent or
    /// nested.
    pub fn excerpt(&self) -> Option<Value> {
        match self {
            Self::Absent | Self::Nested => None,
            Self::Null => Some(Value::Null),
            Self::Bool(value) => Some(Value::Bool(*value)),
            Self::Number(number) => Some(Value::Number(number.clone())),
            Self::Text(text) => Some(Value::String(text::shorten(text, 100).into_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for JsonScalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = JsonScalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any JSON value")
            }

            fn visit_unit<E>(self) -> Result<JsonScalar, E> {
                Ok(JsonScalar::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<JsonScalar, E> {
                Ok(JsonScalar::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<JsonScalar, E> {
                Ok(JsonScalar::Number(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<JsonScalar, E> {
                Ok(JsonScalar::Number(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<JsonScalar, E> {
                Ok(Number::from_f64(value).map_or(JsonScalar::Null, JsonScalar::Number))
            }

            fn visit_str<E>(self, value: &str) -> Result<JsonScalar, E> {
                Ok(JsonScalar::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<JsonScalar, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(JsonScalar::Nested)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonScalar, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(JsonScalar::Nested)
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}
