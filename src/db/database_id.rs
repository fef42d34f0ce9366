//! Random id of a database, which its backups carry.

use std::fmt;

use rusqlite::{Connection, OptionalExtension};

/// Random id of a database: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DatabaseId(String);

impl fmt::Display for DatabaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl DatabaseId {
    /// Parses an id; `None` when the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| Self(text.to_owned()))
    }

    /// Returns the id of an open database, or `None` when its schema predates ids.
    pub fn of(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        // A view of that name could compute anything for any time.
        let is_there =
            "select exists (select 1 from sqlite_schema where type = 'table' and name = 'database_identity')";
        if !connection.query_row(is_there, [], |row| row.get::<_, bool>(0))? {
            return Ok(None);
        }
        let id = connection.query_row("select id from database_identity", [], |row| row.get::<_, String>(0));
        Ok(id.optional()?.and_then(|id| Self::parse(&id)))
    }

    /// Gives a database a new random id.
    pub fn renew(connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("update database_identity set id = lower(hex(randomblob(16)))", []).map(drop)
    }

    pub fn put_into(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("update database_identity set id = ?", [&self.0]).map(drop)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_hexadecimal_digits() {
        let id = "0123456789abcdef0123456789abcdef";
        assert_eq!(DatabaseId::parse(id).unwrap().to_string(), id);
        for other in ["", "0123", &id[1..], &format!("{id}0"), "0123456789abcdef0123456789abcdeg"] {
            assert_eq!(DatabaseId::parse(other), None, "{other}");
        }
    }
}
