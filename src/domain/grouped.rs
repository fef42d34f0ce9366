//! Map from an optional name to a value, in order of first appearance, with lookups that do not copy the
//! name.

use indexmap::{Equivalent, IndexMap};

/// Map with one value for each name and one for the missing name.
#[derive(Debug)]
pub struct Grouped<V>(IndexMap<Option<String>, V>);

/// Borrowed key of a [`Grouped`]; its hash is that of the owned one.
#[derive(Hash)]
struct NameRef<'n>(Option<&'n str>);

impl Equivalent<Option<String>> for NameRef<'_> {
    fn equivalent(&self, name: &Option<String>) -> bool {
        self.0 == name.as_deref()
    }
}

impl<V> Default for Grouped<V> {
    fn default() -> Self {
        Self(IndexMap::new())
    }
}

impl<V: Default> Grouped<V> {
    /// Returns the value of `name`, a new default value for a new name.
    pub fn get_or_default(&mut self, name: Option<&str>) -> &mut V {
        let index = match self.0.get_index_of(&NameRef(name)) {
            Some(index) => index,
            None => self.0.insert_full(name.map(str::to_owned), V::default()).0,
        };
        &mut self.0[index]
    }

    /// Returns the entries in order of first appearance.
    pub fn into_entries(self) -> impl Iterator<Item = (Option<String>, V)> {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_and_the_missing_name_have_one_value_in_order_of_appearance() {
        let mut sums: Grouped<u32> = Grouped::default();
        let names: Vec<Option<String>> = (0..40).map(|n| (n != 20).then(|| format!("name {n}"))).collect();
        for round in 1..4 {
            for name in &names {
                *sums.get_or_default(name.as_deref()) += round;
            }
        }
        let expected: Vec<_> = names.into_iter().map(|name| (name, 6)).collect();
        assert_eq!(sums.into_entries().collect::<Vec<_>>(), expected);
    }
}
