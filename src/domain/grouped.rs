//! Map from an optional name to a value, in order of first appearance, with lookups that do not copy the
//! name.

use std::collections::HashMap;

/// Map with one value for each name and one for the missing name.
#[derive(Debug)]
pub struct Grouped<V> {
    /// Index of each name in `entries`.
    indices: HashMap<String, usize>,
    unnamed: Option<usize>,
    entries: Vec<(Option<String>, V)>,
    /// Index of the last lookup, tried first because equal names often follow each other.
    last: usize,
}

/// Number of entries that are compared one by one, which is faster than hashing.
const LINEAR_SEARCH: usize = 8;

impl<V> Default for Grouped<V> {
    fn default() -> Self {
        Self { indices: HashMap::new(), unnamed: None, entries: Vec::new(), last: 0 }
    }
}

impl<V: Default> Grouped<V> {
    /// Returns the value of `name`, a new default value for a new name.
    pub fn get_or_default(&mut self, name: Option<&str>) -> &mut V {
        let matches = |(key, _): &(Option<String>, V)| key.as_deref() == name;
        if !self.entries.get(self.last).is_some_and(matches) {
            let found = match self.entries.iter().take(LINEAR_SEARCH).position(matches) {
                None if self.entries.len() > LINEAR_SEARCH => match name {
                    Some(name) => self.indices.get(name).copied(),
                    None => self.unnamed,
                },
                found => found,
            };
            self.last = found.unwrap_or_else(|| self.insert(name));
        }
        &mut self.entries[self.last].1
    }

    fn insert(&mut self, name: Option<&str>) -> usize {
        let index = self.entries.len();
        match name {
            Some(name) => drop(self.indices.insert(name.to_owned(), index)),
            None => self.unnamed = Some(index),
        }
        self.entries.push((name.map(str::to_owned), V::default()));
        index
    }

    /// Returns the entries in order of first appearance, with mutable values.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut (Option<String>, V)> {
        self.entries.iter_mut()
    }

    /// Returns the entries in order of first appearance.
    pub fn into_entries(self) -> impl Iterator<Item = (Option<String>, V)> {
        self.entries.into_iter()
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
