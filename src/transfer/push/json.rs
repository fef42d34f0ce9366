//! Readers of large JSON documents piece by piece. They are seeds: serde's deserializers with state, here the handlers
//! of what is read.

use std::fmt;
use std::io::{BufRead, BufReader, Read};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::domain::json_scalar::JsonScalar;
use crate::transfer::push::bounded_strings::BoundedStrings;
use crate::transfer::push::parsed_push::PushError;

/// Size of the read buffer, in bytes.
const BUFFER: usize = 64 * 1024;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a document that must be an object.
///
/// # Errors
/// Malformed JSON, another value than an object, or a failure to read.
pub fn read_document(input: impl Read, members: &mut impl ObjectMembers) -> Result<(), PushError> {
    let mut input = BufReader::with_capacity(BUFFER, BoundedStrings::new(input));
    let head = input.fill_buf().map_err(|e| PushError::OtherContent(e.to_string()))?;
    if head.starts_with(BYTE_ORDER_MARK) {
        input.consume(BYTE_ORDER_MARK.len());
    }
    let mut document = serde_json::Deserializer::from_reader(input);
    let is_object = Object(members).deserialize(&mut document)?;
    document.end()?;
    if is_object { Ok(()) } else { Err(PushError::OtherContent("must be a JSON object".to_owned())) }
}

/// Handler of the members of an object.
pub trait ObjectMembers {
    /// Handles a member, whose value must be taken from the map.
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error>;
}

/// Implements the visits of JSON values other than lists and objects.
macro_rules! visit_scalars {
    ($value:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON value")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}

/// Seed of an object. Its value is false for any other JSON value, which is skipped.
pub struct Object<'m, T>(pub &'m mut T);

impl<'de, T: ObjectMembers> DeserializeSeed<'de> for Object<'_, T> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: ObjectMembers> Visitor<'de> for Object<'_, T> {
    type Value = bool;

    visit_scalars!(false);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.0.member(&name, &mut map)?;
        }
        Ok(true)
    }
}

/// Seed of the items of a list that are of no interest. Its value is their number; 0 for other JSON values.
pub struct CountItems;

impl<'de> DeserializeSeed<'de> for CountItems {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CountItems {
    type Value = u64;

    visit_scalars!(0);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u64, A::Error> {
        let mut count = 0;
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(0)
    }
}

/// Handler of the items of a list.
pub trait ListItems {
    /// Takes an item from the list and handles it. Returns false at the end.
    fn item<'de, A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error>;
}

/// Seed of a list. Its value is false for any other JSON value, which is skipped.
pub struct List<'m, T>(pub &'m mut T);

impl<'de, T: ListItems> DeserializeSeed<'de> for List<'_, T> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: ListItems> Visitor<'de> for List<'_, T> {
    type Value = bool;

    visit_scalars!(false);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        while self.0.item(&mut list)? {}
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}

/// Items of a list that are objects, of which some scalar members are kept.
pub struct ItemMembers<F, const N: usize> {
    names: [&'static str; N],
    next_index: u64,
    each: F,
}

impl<F: FnMut(u64, Option<[JsonScalar; N]>), const N: usize> ItemMembers<F, N> {
    /// Creates a handler. `each` receives the position of each item and its members; `None` for an item that is no object.
    pub fn new(names: [&'static str; N], each: F) -> Self {
        Self { names, next_index: 0, each }
    }
}

impl<F: FnMut(u64, Option<[JsonScalar; N]>), const N: usize> ListItems for ItemMembers<F, N> {
    fn item<'de, A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let Some(members) = list.next_element_seed(ScalarMembers(self.names))? else { return Ok(false) };
        (self.each)(self.next_index, members);
        self.next_index += 1;
        Ok(true)
    }
}

/// Seed of an object of which the scalar members with these names are kept; `None` for any other JSON value.
struct ScalarMembers<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for ScalarMembers<N> {
    type Value = Option<[JsonScalar; N]>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for ScalarMembers<N> {
    type Value = Option<[JsonScalar; N]>;

    visit_scalars!(None);

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = std::array::from_fn(|_| JsonScalar::Absent);
        while let Some(index) = map.next_key_seed(NameIndex(&self.0))? {
            match index.and_then(|index| members.get_mut(index)) {
                Some(member) => *member = map.next_value()?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some(members))
    }
}

/// Seed of the name of a member: its position among the names, if it is one of them.
struct NameIndex<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for NameIndex<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameIndex<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}
