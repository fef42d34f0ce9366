//! Columns of entries in files.

use crate::domain::entry::EntryKind;

/// Column of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    Id,
    Timestamp,
    CaffeineMg,
    CoffeeType,
    Notes,
    Bpm,
    Context,
    Source,
}

impl Column {
    /// Every column, in the order of the variants.
    pub const ALL: [Self; 8] = [
        Self::Id,
        Self::Timestamp,
        Self::CaffeineMg,
        Self::CoffeeType,
        Self::Notes,
        Self::Bpm,
        Self::Context,
        Self::Source,
    ];

    /// Returns the name in files and requests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Timestamp => "timestamp",
            Self::CaffeineMg => "caffeine_mg",
            Self::CoffeeType => "coffee_type",
            Self::Notes => "notes",
            Self::Bpm => "bpm",
            Self::Context => "context",
            Self::Source => "source",
        }
    }

    /// Finds a column by name, ignoring case; blanks and hyphens count as underscores.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_lowercase().replace([' ', '-'], "_");
        Self::ALL.into_iter().find(|column| column.name() == name)
    }

    /// Returns the columns of exported entries, in their order.
    pub const fn exported(kind: EntryKind) -> [Self; 6] {
        match kind {
            EntryKind::Coffee => {
                [Self::Id, Self::Timestamp, Self::CaffeineMg, Self::CoffeeType, Self::Notes, Self::Source]
            }
            EntryKind::HeartRate => {
                [Self::Id, Self::Timestamp, Self::Bpm, Self::Context, Self::Notes, Self::Source]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_names_ignore_case_blanks_and_hyphens() {
        for name in ["caffeine_mg", " Caffeine MG", "CAFFEINE-MG"] {
            assert_eq!(Column::from_name(name), Some(Column::CaffeineMg), "{name}");
        }
        assert_eq!(Column::from_name("caffeine"), None);
        for column in Column::ALL {
            assert_eq!(Column::from_name(column.name()), Some(column));
        }
    }
}
