//! Comparison of a file's schema with the one of its version, object by object.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::db::schema;

/// Largest plausible id: half of SQLite's range. A file with a larger one would soon run out of ids.
pub const LARGEST_ID: i64 = 1 << 62;

/// Statement that creates the table of digests.
pub const CREATE_DIGEST_TABLE: &str = include_str!("../../sql/backup_digests.sql");

/// A table, an index, a view or a trigger.
#[derive(Debug)]
pub struct SchemaObject {
    /// Table that the object belongs to.
    pub table: String,
    /// Statement that created it.
    pub sql: Option<String>,
}

/// Objects by kind and name.
pub type Objects = BTreeMap<(String, String), SchemaObject>;

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
    let statements = schema::migrations().iter().take(usize::try_from(version).unwrap_or(0));
    statements.into_iter().try_for_each(|step| c.execute_batch(step))
}

/// Returns the tables of a schema.
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

/// Returns the last id of each table that has had rows.
pub fn last_ids(c: &Connection, version: i64) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut ids = Vec::new();
    for shape in table_shapes(&model(version)?)?.into_iter().filter(|shape| shape.is_numbered) {
        ids.extend(shape.last_id(c)?.map(|id| (shape.name, id)));
    }
    Ok(ids)
}

/// Returns all objects of a schema.
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

/// Reports whether an object belongs to Litestream, or to SQLite's statistics.
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

/// Returns the differences between a file's schema and that of its version.
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
    for (kind, name) in foreign_objects(c, &found, &wanted)? {
        faults.push(format!("the {kind} {name} does not belong to schema version {version}"));
    }
    Ok(faults)
}

/// Returns kinds and names of objects that are neither part of the schema nor harmless.
fn foreign_objects(
    c: &Connection,
    found: &Objects,
    wanted: &Objects,
) -> rusqlite::Result<Vec<(String, String)>> {
    let carried = digests_object()?;
    let mut foreign_objects = Vec::new();
    for ((kind, name), object) in found {
        let is_carried = kind == "table" && name == schema::DIGEST_TABLE && object.sql == carried;
        let is_known = is_carried || wanted.contains_key(&(kind.clone(), name.clone()));
        if !is_known && !is_harmless(c, kind, name, object)? {
            foreign_objects.push((kind.clone(), name.clone()));
        }
    }
    Ok(foreign_objects)
}

/// Returns the statement of the digest table as SQLite stores it.
fn digests_object() -> rusqlite::Result<Option<String>> {
    let model = Connection::open_in_memory()?;
    model.execute_batch(CREATE_DIGEST_TABLE)?;
    Ok(objects(&model)?.into_values().next().and_then(|object| object.sql))
}

/// Returns the tables that are missing or differ, so that their rows cannot be copied.
pub fn table_faults(c: &Connection, version: i64) -> rusqlite::Result<Vec<String>> {
    let faults = schema_faults(c, version)?;
    let is_of_a_table =
        |fault: &String| fault.starts_with("the table ") && !fault.contains("does not belong");
    Ok(faults.into_iter().filter(is_of_a_table).collect())
}

/// Returns the names of objects that a backup excludes, since they are not part of the schema.
pub fn left_out(c: &Connection, version: i64) -> rusqlite::Result<Vec<String>> {
    let foreign_objects = foreign_objects(c, &objects(c)?, &objects(&model(version)?)?)?;
    Ok(foreign_objects.into_iter().map(|(kind, name)| format!("{kind} {name}")).collect())
}

/// Returns implausibly large ids, and last ids below an id in use: with either, inserts would fail or an id
/// would be given twice.
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
