//! What a file is, told from its beginning: never from its name.

use crate::transfer::formats::apple_health::ROOT;
use crate::transfer::formats::json_lines::without_mark;

/// What can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `export.xml`, or the zip it comes in.
    AppleHealth,
    /// The Docker stack's database file.
    DockerSqlite,
    /// The Docker stack's PostgreSQL dump, plain SQL.
    PostgresDump,
    Csv,
    JsonLines,
}

/// What a beginning looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    Zip,
    Gzip,
    Sqlite,
    Like(Format),
    /// A sentence on what it is instead.
    Unusable(&'static str),
}

/// Beginnings that are not imported, and what to do with such a file.
const OTHERS: [(&[u8], &str); 9] = [
    (
        b"PGDMP",
        "it is a PostgreSQL dump in the custom format: make a plain one with `pg_restore -f plain.sql FILE`, \
         and import that",
    ),
    (b"%PDF", "it is a PDF: import the file that it was made from"),
    (b"\x89PNG", "it is a picture"),
    (b"\xff\xd8\xff", "it is a picture"),
    (b"\x28\xb5\x2f\xfd", "it is packed with zstd: unpack it first"),
    (b"\xfd7zXZ\0", "it is packed with xz: unpack it first"),
    (b"BZh", "it is packed with bzip2: unpack it first"),
    (b"\xff\xfe", "it is text in UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "it is text in UTF-16: save it as UTF-8"),
];

/// Words that begin a statement in a dump and end it in the same line.
const SHORT_STATEMENTS: [&str; 5] = ["set", "copy", "begin", "pragma", "select"];
/// Words that begin a longer one, and what follows them.
const LONG_STATEMENTS: [(&str, &[&str]); 5] =
    [("insert", &["into", "or"]), ("replace", &["into"]), ("create", MADE), ("alter", MADE), ("drop", MADE)];
/// What statements make.
const MADE: &[&str] = &[
    "table",
    "function",
    "sequence",
    "index",
    "unique",
    "type",
    "schema",
    "extension",
    "view",
    "trigger",
    "temporary",
    "temp",
    "or",
];

/// Tells what a beginning looks like.
pub fn looks_of(head: &[u8]) -> Looks {
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Looks::Zip;
    }
    if head.starts_with(b"\x1f\x8b") {
        return Looks::Gzip;
    }
    if head.starts_with(b"SQLite format 3\0") {
        return Looks::Sqlite;
    }
    if let Some((_, what)) = OTHERS.iter().find(|(start, _)| head.starts_with(start)) {
        return Looks::Unusable(what);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Looks::Unusable("it is a tar archive: unpack it first");
    }
    if head.contains(&0) {
        return Looks::Unusable("it is no text and nothing that is known here");
    }
    looks_of_text(without_mark(head).trim_ascii_start())
}

fn looks_of_text(text: &[u8]) -> Looks {
    match text.first() {
        None => Looks::Unusable("there is nothing in it"),
        Some(b'<') if contains(text, ROOT) => Looks::Like(Format::AppleHealth),
        Some(b'<') if contains(text, b"<ClinicalDocument") => {
            Looks::Unusable("it is the clinical part of a health export: import its export.xml, or the zip")
        }
        Some(b'<') => Looks::Unusable("it is XML, but no Apple Health export"),
        Some(b'{') => Looks::Like(Format::JsonLines),
        Some(b'[') => Looks::Unusable(
            "it is a JSON list: one object a line is wanted, as `jq -c '.[]' FILE` writes them",
        ),
        _ if is_dump(text) => Looks::Like(Format::PostgresDump),
        _ => Looks::Like(Format::Csv),
    }
}

/// A comment, a command for psql, or a statement: more of it than one word, for a CSV's first
/// column may be called `Begin`.
fn is_dump(text: &[u8]) -> bool {
    let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    if [&b"--"[..], b"/*", b"\\restrict", b"\\connect"].iter().any(|start| line.starts_with(start)) {
        return true;
    }
    for statement in line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|s| !s.is_empty()) {
        let mut words = statement.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let is_one =
            |word: &[u8], of: &[&str]| of.iter().any(|one| word.eq_ignore_ascii_case(one.as_bytes()));
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let is_long = |(verb, what): &(&str, &[&str])| is_one(first, &[verb]) && is_one(second, what);
        if words.next().is_some() && LONG_STATEMENTS.iter().any(is_long) {
            return true;
        }
        if !is_one(first, &SHORT_STATEMENTS) {
            return false;
        }
    }
    line.trim_ascii_end().ends_with(b";")
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_tells_what_a_file_is() {
        for (head, looks) in [
            (&b"PK\x03\x04"[..], Looks::Zip),
            (b"\x1f\x8b\x08", Looks::Gzip),
            (b"SQLite format 3\0", Looks::Sqlite),
            (b"<?xml version=\"1.0\"?>\n<HealthData locale=\"de_DE\">", Looks::Like(Format::AppleHealth)),
            (b"\xef\xbb\xbf\n{\"bpm\": 60}", Looks::Like(Format::JsonLines)),
            (b"--\n-- PostgreSQL database dump\n--\n", Looks::Like(Format::PostgresDump)),
            (b"\\restrict abc\n", Looks::Like(Format::PostgresDump)),
            (b"INSERT INTO coffee_logs VALUES (1);", Looks::Like(Format::PostgresDump)),
            (b"BEGIN;\n", Looks::Like(Format::PostgresDump)),
            (b"\xef\xbb\xbfid,timestamp,bpm\n", Looks::Like(Format::Csv)),
            (b"set,timestamp,bpm\n", Looks::Like(Format::Csv)),
            (b"Begin;timestamp;bpm;\n", Looks::Like(Format::Csv)),
            (b"Select device,timestamp,bpm\n", Looks::Like(Format::Csv)),
            (b"Create table;timestamp;bpm\n", Looks::Like(Format::Csv)),
            (b"PRAGMA foreign_keys=OFF;\r\n", Looks::Like(Format::PostgresDump)),
            (b"COPY public.coffee_logs (id, notes) FROM stdin;\n", Looks::Like(Format::PostgresDump)),
            (b"begin; select 1; REPLACE INTO coffee_logs VALUES\n", Looks::Like(Format::PostgresDump)),
            (b"create table coffee_logs (\n", Looks::Like(Format::PostgresDump)),
        ] {
            assert_eq!(looks_of(head), looks, "{}", String::from_utf8_lossy(head));
        }
        for head in [&b"PGDMP\x01"[..], b"%PDF-1.7", b"\x00\x01", b"<html>", b"[{}]", b" \n", b"\xff\xfea\0"]
        {
            assert!(matches!(looks_of(head), Looks::Unusable(_)), "{}", String::from_utf8_lossy(head));
        }
    }
}
