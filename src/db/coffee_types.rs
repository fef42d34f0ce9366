//! Coffee types, compared without regard to case: `Espresso` and `espresso` are one type.
//!
//! Entries keep the text that was sent. Statistics show a type by its first spelling, that of its oldest
//! coffee.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, params};

use crate::db::error::StoreError;
use crate::db::store::Store;
use crate::db::writer::Savepoint;
use crate::domain::coffee::{CoffeeId, TypeRename};
use crate::domain::text::fold_case;

/// Ids of renamed coffees by their former type.
pub type RenamedCoffees = BTreeMap<String, Vec<CoffeeId>>;

impl Store {
    /// Gives all coffees of a type another type, all at once.
    pub async fn rename_type(&self, rename: TypeRename) -> Result<RenamedCoffees, StoreError> {
        self.write("rename_type", Savepoint::Needed, move |c| rename_coffees(c, &rename)).await
    }
}

fn rename_coffees(connection: &Connection, rename: &TypeRename) -> rusqlite::Result<RenamedCoffees> {
    let mut renamed = RenamedCoffees::new();
    let mut spellings = spellings_of(connection, &rename.from)?;
    spellings.retain(|spelling| *spelling != rename.to);
    for spelling in spellings {
        let ids: Vec<CoffeeId> = connection
            .prepare_cached(
                "select id from coffee_logs indexed by coffee_logs_by_type where coffee_type = ? order by timestamp",
            )?
            .query_map([&spelling], |row| row.get(0).map(CoffeeId))?
            .filter(|id| match (&rename.only, id) {
                (Some(only), Ok(id)) => only.contains(id),
                _ => true,
            })
            .collect::<rusqlite::Result<_>>()?;
        let mut update = connection.prepare_cached("update coffee_logs set coffee_type = ? where id = ?")?;
        for id in &ids {
            update.execute(params![rename.to, id.0])?;
        }
        if !ids.is_empty() {
            renamed.insert(spelling, ids);
        }
    }
    Ok(renamed)
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
    /// Reads the first spelling of every stored type.
    pub fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut names: HashMap<String, FirstSpelling> = HashMap::new();
        each_spelling(connection, |text, oldest| {
            let first = || FirstSpelling { oldest, text: text.to_owned() };
            let known = names.entry(fold_case(text)).or_insert_with(first);
            if oldest < known.oldest {
                *known = first();
            }
        })?;
        Ok(Self(names))
    }

    /// Returns the spelling under which statistics show a type.
    pub fn shown<'a>(&'a self, spelling: &'a str) -> &'a str {
        self.0.get(&fold_case(spelling)).map_or(spelling, |first| &first.text)
    }
}

/// Returns every stored spelling of a type.
pub fn spellings_of(connection: &Connection, coffee_type: &str) -> rusqlite::Result<Vec<String>> {
    let wanted = fold_case(coffee_type);
    let mut spellings = Vec::new();
    each_spelling(connection, |text, _| {
        if fold_case(text) == wanted {
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
