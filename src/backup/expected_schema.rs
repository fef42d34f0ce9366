//! Comparison of a file's schema with the one of its version, object by object.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::db::schema;

/// Largest plausible id: half of SQLite's range. A file with a larger one would soon run out of ids.
pub const LARGEST_ID: i64 = 1 << 62;

/// Statement that creates the table of digests.
pub const CREATE_DIGEST_TABLE: &str = include_str!("../../sql/backup_digests.sql");

/// Kind and name of a table, an index, a view or a trigger.
type ObjectKey = (String, String);

/// Object of a schema: the table that it belongs to, and the statement that created it.
#[derive(Debug, PartialEq, Eq)]
struct SchemaObject {
    table: String,
    sql: Option<String>,
}

/// Difference between a file's schema and that of its version.
#[derive(Debug, thiserror::Error)]
pub enum SchemaDifference {
    #[error("the {} {} is missing", object.0, object.1)]
    Missing { object: ObjectKey },
    #[error("the {} {} is not as schema version {version} has it", object.0, object.1)]
    Changed { object: ObjectKey, version: i64 },
    #[error("the {} {} does not belong to schema version {version}", object.0, object.1)]
    Unexpected { object: ObjectKey, version: i64 },
}

/// Columns and primary key of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableShape {
    pub name: String,
    pub columns: Vec<String>,
    /// Columns of the primary key; `rowid` without one.
    pub key: Vec<String>,
    /// The table uses autoincrement: its last id is in `sqlite_sequence`.
    pub is_numbered: bool,
}

impl TableShape {
    /// Shape of SQLite's table of last ids.
    pub fn of_sequences() -> Self {
        let columns = ["name", "seq"].map(str::to_owned).to_vec();
        let key = ["name", "rowid"].map(str::to_owned).to_vec();
        Self { name: "sqlite_sequence".to_owned(), columns, key, is_numbered: false }
    }

    /// Returns a query for the rows in the order of the primary key, read from the table itself.
    pub fn select_from(&self, database: &str) -> String {
        let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let (columns, key) = (list(&self.columns), list(&self.key));
        format!(
            "select {columns} from {}.{} not indexed order by {key}",
            quoted(database),
            self.quoted_name()
        )
    }

    /// Returns the quoted name for a statement.
    pub fn quoted_name(&self) -> String {
        quoted(&self.name)
    }

    /// Returns the last id given in a database, ignoring implausible ones.
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

/// Creates an empty in-memory database with the schema of a version.
pub fn model(version: i64) -> rusqlite::Result<Connection> {
    let model = Connection::open_in_memory()?;
    create_schema(&model, version)?;
    Ok(model)
}

/// Creates the schema of a version in an empty database.
pub fn create_schema(c: &Connection, version: i64) -> rusqlite::Result<()> {
    let mut steps = schema::migrations().iter().take(usize::try_from(version).unwrap_or(0));
    steps.try_for_each(|step| c.execute_batch(step))
}

/// Returns the tables of a schema.
pub fn table_shapes(model: &Connection) -> rusqlite::Result<Vec<TableShape>> {
    let mut info = model.prepare("select name, pk from pragma_table_info(?) order by cid")?;
    let objects = objects(model)?;
    let tables =
        objects.into_iter().filter(|((kind, name), _)| kind == "table" && !name.starts_with("sqlite_"));
    let shape = |((_, name), object): (ObjectKey, SchemaObject)| {
        let columns = info
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, u32)>>>()?;
        let mut key: Vec<_> = columns.iter().filter(|(_, place)| *place > 0).cloned().collect();
        key.sort_unstable_by_key(|(_, place)| *place);
        if key.is_empty() {
            key.push(("rowid".to_owned(), 1));
        }
        let names = |columns: Vec<(String, u32)>| columns.into_iter().map(|(name, _)| name).collect();
        let is_numbered = object.sql.unwrap_or_default().to_ascii_lowercase().contains("autoincrement");
        Ok(TableShape { name, columns: names(columns), key: names(key), is_numbered })
    };
    tables.map(shape).collect()
}

/// Returns the tables of a version that number their rows: a deleted row's id is not given again.
fn numbered_tables(version: i64) -> rusqlite::Result<impl Iterator<Item = TableShape>> {
    Ok(table_shapes(&model(version)?)?.into_iter().filter(|shape| shape.is_numbered))
}

/// Returns the last id of each table that has had rows.
pub fn last_ids(c: &Connection, version: i64) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut ids = Vec::new();
    for shape in numbered_tables(version)? {
        ids.extend(shape.last_id(c)?.map(|id| (shape.name, id)));
    }
    Ok(ids)
}

fn objects(c: &Connection) -> rusqlite::Result<BTreeMap<ObjectKey, SchemaObject>> {
    c.prepare("select type, name, tbl_name, sql from main.sqlite_schema")?
        .query_map([], |row| {
            Ok(((row.get(0)?, row.get(1)?), SchemaObject { table: row.get(2)?, sql: row.get(3)? }))
        })?
        .collect()
}

/// Reports whether an object belongs to Litestream, or to SQLite's statistics.
fn is_harmless(c: &Connection, key: &ObjectKey, object: &SchemaObject) -> rusqlite::Result<bool> {
    let (kind, name) = (key.0.as_str(), key.1.as_str());
    if kind == "table" && ["sqlite_stat1", "sqlite_stat4"].contains(&name) {
        return Ok(true);
    }
    if !object.table.starts_with("_litestream_") || !["table", "index"].contains(&kind) {
        return Ok(false);
    }
    let references = "select count(*) from pragma_foreign_key_list(?)";
    c.query_row(references, [&object.table], |row| row.get::<_, i64>(0)).map(|count| count == 0)
}

/// Returns the differences between a file's schema and that of its version. A backup's table of digests is
/// none.
pub fn differences(c: &Connection, version: i64) -> rusqlite::Result<Vec<SchemaDifference>> {
    let model = model(version)?;
    let (found, wanted) = (objects(c)?, objects(&model)?);
    model.execute_batch(CREATE_DIGEST_TABLE)?;
    let of_backups = objects(&model)?;
    let mut differences = Vec::new();
    for (key, object) in &wanted {
        match found.get(key) {
            None => differences.push(SchemaDifference::Missing { object: key.clone() }),
            Some(other) if other.sql != object.sql => {
                differences.push(SchemaDifference::Changed { object: key.clone(), version });
            }
            Some(_) => {}
        }
    }
    for (key, object) in &found {
        let is_known = wanted.contains_key(key) || of_backups.get(key) == Some(object);
        if !is_known && !is_harmless(c, key, object)? {
            differences.push(SchemaDifference::Unexpected { object: key.clone(), version });
        }
    }
    Ok(differences)
}

/// Returns implausibly large ids, and last ids below an id in use: with either, inserts would fail or an id
/// would be given twice.
pub fn id_faults(c: &Connection, version: i64) -> rusqlite::Result<Vec<String>> {
    let mut faults = Vec::new();
    for shape in numbered_tables(version)? {
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
