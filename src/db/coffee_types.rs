//! Coffee types, whose spellings differ in case: `Espresso` and `espresso` are one type.
//!
//! Entries keep the text that was typed. Figures show a type by its first spelling: that of its oldest coffee.

use std::collections::HashMap;

use rusqlite::Connection;

/// Key that all spellings of a type have in common.
fn fold(spelling: &str) -> String {
    spelling.to_lowercase()
}

/// First spelling of every type.
#[derive(Debug)]
pub struct TypeNames(HashMap<String, FirstSpelling>);

#[derive(Debug)]
struct FirstSpelling {
    /// Time and id of the oldest coffee with this spelling.
    oldest: (i64, i64),
    text: String,
}

impl TypeNames {
    /// Reads the first spelling of every type that is stored.
    ///
    /// # Errors
    /// SQLite's own.
    pub fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut names: HashMap<String, FirstSpelling> = HashMap::new();
        each_spelling(connection, |text, oldest| {
            let first = || FirstSpelling { oldest, text: text.to_owned() };
            let known = names.entry(fold(text)).or_insert_with(first);
            if oldest < known.oldest {
                *known = first();
            }
        })?;
        Ok(Self(names))
    }

    /// The name under which figures show the type with this spelling.
    pub fn shown<'a>(&'a self, spelling: &'a str) -> &'a str {
        self.0.get(&fold(spelling)).map_or(spelling, |first| &first.text)
    }
}

/// Every stored spelling of one type.
///
/// # Errors
/// SQLite's own.
pub fn spellings_of(connection: &Connection, coffee_type: &str) -> rusqlite::Result<Vec<String>> {
    let wanted = fold(coffee_type);
    let mut spellings = Vec::new();
    each_spelling(connection, |text, _| {
        if fold(text) == wanted {
            spellings.push(text.to_owned());
        }
    })?;
    Ok(spellings)
}

fn each_spelling(connection: &Connection, mut each: impl FnMut(&str, (i64, i64))) -> rusqlite::Result<()> {
    let mut query = connection.prepare_cached(include_str!("../../sql/type_spellings.sql"))?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        each(row.get_ref(0)?.as_str()?, (row.get(1)?, row.get(2)?));
    }
    Ok(())
}
