//! Sums by a name that may be missing, looked up without copying the name.

use std::collections::HashMap;

/// One `V` for each name seen, and one for no name.
#[derive(Debug)]
pub struct Grouped<V> {
    places: HashMap<String, usize>,
    nameless: Option<usize>,
    entries: Vec<(Option<String>, V)>,
    /// Rows come in runs of the same name, so the last one is tried first.
    last: usize,
}

/// So many names are compared one by one, which takes less than a hash: a person has few.
const FIRST: usize = 8;

impl<V> Default for Grouped<V> {
    fn default() -> Self {
        Self { places: HashMap::new(), nameless: None, entries: Vec::new(), last: 0 }
    }
}

impl<V: Default> Grouped<V> {
    /// The value under `name`, made when it is new.
    pub fn get_or_default(&mut self, name: Option<&str>) -> &mut V {
        let is_it = |(own, _): &(Option<String>, V)| own.as_deref() == name;
        if !self.entries.get(self.last).is_some_and(is_it) {
            let found = match self.entries.iter().take(FIRST).position(is_it) {
                None if self.entries.len() > FIRST => match name {
                    Some(name) => self.places.get(name).copied(),
                    None => self.nameless,
                },
                found => found,
            };
            self.last = found.unwrap_or_else(|| self.add(name));
        }
        &mut self.entries[self.last].1
    }

    fn add(&mut self, name: Option<&str>) -> usize {
        let place = self.entries.len();
        match name {
            Some(name) => drop(self.places.insert(name.to_owned(), place)),
            None => self.nameless = Some(place),
        }
        self.entries.push((name.map(str::to_owned), V::default()));
        place
    }

    /// As [`Self::into_entries`], to look at or to change.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut (Option<String>, V)> {
        self.entries.iter_mut()
    }

    /// Every name with its value, in the order of their first appearance.
    pub fn into_entries(self) -> impl Iterator<Item = (Option<String>, V)> {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_and_none_has_one_value_however_many_there_are() {
        let mut sums: Grouped<u32> = Grouped::default();
        let names: Vec<Option<String>> = (0..40).map(|n| (n != 20).then(|| format!("name {n}"))).collect();
        for round in 1..4 {
            for name in &names {
                *sums.get_or_default(name.as_deref()) += round;
            }
        }
        let wanted: Vec<_> = names.into_iter().map(|name| (name, 6)).collect();
        assert_eq!(sums.into_entries().collect::<Vec<_>>(), wanted);
    }
}
