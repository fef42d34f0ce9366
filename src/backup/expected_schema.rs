//! The schema that a file of a version must have, object by object, and what a file has besides it.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::db::schema;

/// Largest id that is sane: half of what SQLite has. A file with a larger one would soon have none
/// left to give.
pub const LARGEST_ID: i64 = 1 << 62;

/// The statement that makes it.
pub const CREATE_DIGEST_TABLE: &str = include_str!("../../sql/backup_digests.sql");

/// A table, an index, a view or a trigger.
#[derive(Debug)]
pub struct SchemaObject {
    /// The table that it is about.
    pub table: String,
    /// The statement that made it.
    pub sql: Option<String>,
}

/// Objects by kind and name.
pub type Objects = BTreeMap<(String, String), SchemaObject>;

/// Columns and primary key of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    pub name: String,
    pub columns: Vec<String>,
    /// The columns of the primary key; `rowid` where there is none.
    pub key: Vec<String>,
    /// Its ids are given once: the last one is in `sqlite_sequence`.
    pub is_numbered: bool,
}

impl TableShape {
    /// SQLite's table of the last ids.
    pub fn of_sequences() -> Self {
        let columns = ["name", "seq"].map(str::to_owned).to_vec();
        let key = ["name", "rowid"].map(str::to_owned).to_vec();
        Self { name: "sqlite_sequence".to_owned(), columns, key, is_numbered: false }
    }

    /// A query for its rows in the order of the primary key, read from the table itself.
    pub fn select_from(&self, database: &str) -> String {
        let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let (columns, key) = (list(&self.columns), list(&self.key));
        format!(
            "select {columns} from {}.{} not indexed order by {key}",
            quoted(database),
            self.quoted_name()
        )
    }

    /// Its name, fit for a statement.
    pub fn quoted_name(&self) -> String {
        quoted(&self.name)
    }

    /// The last id that was given in a database, if any; insane ones do not count.
    pub fn last_id(&self, c: &Connection) -> rusqlite::Result<Option<i64>> {
        let table = self.quoted_name();
        let query = format!(
            "select nullif(max(
                 coalesce((select max(seq) from main.sqlite_sequence
                           where name = ?1 and typeof(seq) = 'integer' and seq <= ?2), 0),
                 coalesce((select max(rowid) from main.{table} where rowid <= ?2), 0)), 0)"
        );
        c.query_row(&query, params![self.name, LARGEST_ID], |row| row.get(0))
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An empty database in memory with the schema of a version.
pub fn model(version: i64) -> rusqlite::Result<Connection> {
    let model = Connection::open_in_memory()?;
    create_schema(&model, version)?;
    Ok(model)
}

/// Makes the schema of a version in an empty database.
pub fn create_schema(c: &Connection, version: i64) -> rusqlite::Result<()> {
    let statements = schema::migrations().iter().take(usize::try_from(version).unwrap_or(0));
    statements.into_iter().try_for_each(|step| c.execute_batch(step))
}

/// The tables of a model.
pub fn table_shapes(model: &Connection) -> rusqlite::Result<Vec<TableShape>> {
    let objects = objects(model)?;
    let tables = objects.into_iter().filter(|((kind, name), _)| kind == "table" && !is_of_sqlite(name));
    tables
        .map(|((_, name), object)| {
            let mut info = model.prepare("select name, pk from pragma_table_info(?) order by cid")?;
            let columns = info
                .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(String, u32)>>>()?;
            let mut key: Vec<_> = columns.iter().filter(|(_, place)| *place > 0).collect();
            key.sort_unstable_by_key(|(_, place)| *place);
            let mut key: Vec<String> = key.into_iter().map(|(name, _)| name.clone()).collect();
            if key.is_empty() {
                key.push("rowid".to_owned());
            }
            let sql = object.sql.unwrap_or_default().to_ascii_lowercase();
            let columns = columns.into_iter().map(|(name, _)| name).collect();
            Ok(TableShape { name, columns, key, is_numbered: sql.contains("autoincrement") })
        })
        .collect()
}

/// The last id that was given in each table of a version, where one was.
pub fn last_ids(c: &Connection, version: i64) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut ids = Vec::new();
    for shape in table_shapes(&model(version)?)?.into_iter().filter(|shape| shape.is_numbered) {
        ids.extend(shape.last_id(c)?.map(|id| (shape.name, id)));
    }
    Ok(ids)
}

/// Every object of a schema.
pub fn objects(c: &Connection) -> rusqlite::Result<Objects> {
    c.prepare("select type, name, tbl_name, sql from main.sqlite_schema")?
        .query_map([], |row| {
            Ok(((row.get(0)?, row.get(1)?), SchemaObject { table: row.get(2)?, sql: row.get(3)? }))
        })?
        .collect()
}

fn is_of_sqlite(name: &str) -> bool {
    name.starts_with("sqlite_")
}

/// Reports whether an object belongs to a program that streams the database away (Litestream), or
/// is a table of SQLite's statistics, which nothing depends on.
fn is_harmless(c: &Connection, kind: &str, name: &str, object: &SchemaObject) -> rusqlite::Result<bool> {
    if kind == "table" && ["sqlite_stat1", "sqlite_stat4"].contains(&name) {
        return Ok(true);
    }
    if !object.table.starts_with("_litestream_") || !["table", "index"].contains(&kind) {
        return Ok(false);
    }
    let references = "select count(*) from pragma_foreign_key_list(?)";
    c.query_row(references, [&object.table], |row| row.get::<_, i64>(0)).map(|count| count == 0)
}

/// Differences between a file's schema and that of its version.
pub fn schema_faults(c: &Connection, version: i64) -> rusqlite::Result<Vec<String>> {
    let (found, wanted) = (objects(c)?, objects(&model(version)?)?);
    let mut faults = Vec::new();
    for ((kind, name), object) in &wanted {
        match found.get(&(kind.clone(), name.clone())) {
            None => faults.push(format!("the {kind} {name} is missing")),
            Some(other) if other.sql != object.sql => {
                faults.push(format!("the {kind} {name} is not as schema version {version} has it"));
            }
            Some(_) => {}
        }
    }
    for (kind, name) in strangers(c, &found, &wanted)? {
        faults.push(format!("the {kind} {name} does not belong to schema version {version}"));
    }
    Ok(faults)
}

/// Kinds and names of objects that neither belong to the schema nor are harmless.
fn strangers(c: &Connection, found: &Objects, wanted: &Objects) -> rusqlite::Result<Vec<(String, String)>> {
    let carried = digests_object()?;
    let mut strangers = Vec::new();
    for ((kind, name), object) in found {
        let is_carried = kind == "table" && name == schema::DIGEST_TABLE && object.sql == carried;
        let is_known = is_carried || wanted.contains_key(&(kind.clone(), name.clone()));
        if !is_known && !is_harmless(c, kind, name, object)? {
            strangers.push((kind.clone(), name.clone()));
        }
    }
    Ok(strangers)
}

/// The statement of the table of digests, as SQLite stores it.
fn digests_object() -> rusqlite::Result<Option<String>> {
    let model = Connection::open_in_memory()?;
    model.execute_batch(CREATE_DIGEST_TABLE)?;
    Ok(objects(&model)?.into_values().next().and_then(|object| object.sql))
}

/// What keeps the rows of a database from being copied into tables of its version: tables that are
/// missing or have another shape.
pub fn table_faults(c: &Connection, version: i64) -> rusqlite::Result<Vec<String>> {
    let faults = schema_faults(c, version)?;
    let is_of_a_table =
        |fault: &String| fault.starts_with("the table ") && !fault.contains("does not belong");
    Ok(faults.into_iter().filter(is_of_a_table).collect())
}

/// Names of what a copy of a database leaves out, as it does not belong to its schema.
pub fn left_out(c: &Connection, version: i64) -> rusqlite::Result<Vec<String>> {
    let strangers = strangers(c, &objects(c)?, &objects(&model(version)?)?)?;
    Ok(strangers.into_iter().map(|(kind, name)| format!("{kind} {name}")).collect())
}

/// Ids that are larger than any should be, and last ids that do not fit the ids: with either,
/// nothing could be added, or an id would be given twice.
pub fn id_faults(c: &Connection, version: i64) -> rusqlite::Result<Vec<String>> {
    let mut faults = Vec::new();
    for shape in table_shapes(&model(version)?)?.into_iter().filter(|shape| shape.is_numbered) {
        let (name, table) = (&shape.name, shape.quoted_name());
        let query = format!("select coalesce(max(rowid), 0) from main.{table}");
        let largest: i64 = c.query_row(&query, [], |row| row.get(0))?;
        if largest > LARGEST_ID {
            faults.push(format!(
                "its ids are out of bounds: {name} has {largest}, and {LARGEST_ID} is the most"
            ));
        }
        let (entries, last): (i64, Option<i64>) = c.query_row(
            "select count(*), max(case typeof(seq) when 'integer' then seq else -1 end)
             from main.sqlite_sequence where name = ?",
            [name],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        match (entries, last.unwrap_or(0)) {
            (0 | 1, last) if (largest..=LARGEST_ID).contains(&last) => {}
            (0 | 1, _) if largest > LARGEST_ID => {}
            (0 | 1, last) => faults.push(format!(
                "its ids are out of bounds: the last id of {name} is {last}, not between {largest} and {LARGEST_ID}"
            )),
            (n, _) => faults.push(format!("its ids are out of bounds: {name} has {n} last ids")),
        }
    }
    Ok(faults)
}
