//! A JSON value that should be an object; any other value is read, but dropped.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// JSON value of which only an object is parsed. A derived implementation for `T` would also read the fields from a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum JsonObject<T> {
    /// The member is missing.
    #[default]
    Absent,
    Null,
    Object(T),
    /// A scalar or a list.
    Other,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = JsonObject<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonObject<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(JsonObject::Object)
    }

    fn visit_unit<E>(self) -> Result<JsonObject<T>, E> {
        Ok(JsonObject::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<JsonObject<T>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(JsonObject::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<JsonObject<T>, E> {
        Ok(JsonObject::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<JsonObject<T>, E> {
        Ok(JsonObject::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<JsonObject<T>, E> {
        Ok(JsonObject::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<JsonObject<T>, E> {
        Ok(JsonObject::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<JsonObject<T>, E> {
        Ok(JsonObject::Other)
    }
}
