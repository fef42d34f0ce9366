//! Sums by a name that may be missing, looked up without copying the name.

use std::collections::HashMap;

/// One `V` for each name seen, and one for no name.
#[derive(Debug)]
pub struct Grouped<V> {
    places: HashMap<Option<Box<str>>, usize>,
    entries: Vec<(Option<String>, V)>,
    /// Rows come in runs of the same name, so the last one is tried first.
    last: usize,
}

impl<V> Default for Grouped<V> {
    fn default() -> Self {
        Self { places: HashMap::new(), entries: Vec::new(), last: 0 }
    }
}

impl<V: Default> Grouped<V> {
    /// The value under `name`, made when it is new.
    pub fn slot(&mut self, name: Option<&str>) -> &mut V {
        let is_last = self.entries.get(self.last).is_some_and(|(last, _)| last.as_deref() == name);
        if !is_last {
            let entries = &mut self.entries;
            self.last = *self.places.entry(name.map(Box::from)).or_insert_with(|| {
                entries.push((name.map(str::to_owned), V::default()));
                entries.len() - 1
            });
        }
        &mut self.entries[self.last].1
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
