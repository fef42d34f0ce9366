//! Detection of the format of a file from its beginning, never from its name.

use clap::ValueEnum;

use crate::transfer::formats::apple_health::ROOT;
use crate::transfer::formats::lines::strip_bom;

/// Size of the beginning from which the format is detected; Apple's document type takes about 8 KiB.
pub const HEAD: usize = 64 * 1024;

/// Format that can be imported, and its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    // `export.xml`, alone or in a zip.
    AppleHealth,
    // Database file of Health Connect, alone or in a zip.
    HealthConnect,
    // Database file of Gadgetbridge, alone or in a zip.
    Gadgetbridge,
    // `heart_rate-….json` files of a Google Takeout: one, a folder or a zip of them.
    Fitbit,
    // Database file of the Docker stack.
    DockerSqlite,
    // Plain SQL dump of the Docker stack's PostgreSQL database.
    PostgresDump,
    Csv,
    #[value(name = "jsonl")]
    JsonLines,
}

impl ImportFormat {
    /// Returns whether the format is a SQLite database.
    pub fn is_database(self) -> bool {
        matches!(self, Self::DockerSqlite | Self::HealthConnect | Self::Gadgetbridge)
    }

    /// Returns the name of the program that makes such files.
    pub fn program(self) -> &'static str {
        match self {
            Self::AppleHealth => "Apple Health",
            Self::HealthConnect => "Health Connect",
            Self::Gadgetbridge => "Gadgetbridge",
            Self::Fitbit => "Fitbit",
            Self::DockerSqlite | Self::PostgresDump => "the Docker stack",
            Self::Csv => "a spreadsheet",
            Self::JsonLines => "a JSON program",
        }
    }
}

/// Result of [`detect_format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detected {
    Zip,
    Gzip,
    Sqlite,
    Text(ImportFormat),
    /// Cannot be imported; holds the reason and what to do.
    Unusable(&'static str),
}

/// Beginnings of files that cannot be imported, and what to do with them.
const UNUSABLE: [(&[u8], &str); 9] = [
    (
        b"PGDMP",
        "PostgreSQL dumps in the custom format cannot be imported: make a plain one with \
         `pg_restore -f plain.sql FILE`, and import that",
    ),
    (b"%PDF", "PDF files cannot be imported: import the file that it was made from"),
    (b"\x89PNG", "pictures cannot be imported"),
    (b"\xff\xd8\xff", "pictures cannot be imported"),
    (b"\x28\xb5\x2f\xfd", "zstd is not supported: unpack the file first"),
    (b"\xfd7zXZ\0", "xz is not supported: unpack the file first"),
    (b"BZh", "bzip2 is not supported: unpack the file first"),
    (b"\xff\xfe", "UTF-16 is not supported: save the file as UTF-8"),
    (b"\xfe\xff", "UTF-16 is not supported: save the file as UTF-8"),
];

/// Beginnings of the first line of a dump.
const DUMP_COMMENTS: [&str; 4] = ["--", "/*", "\\restrict", "\\connect"];
/// Beginnings of statements that end on the line on which they begin.
const DUMP_LINES: [&str; 5] = ["set ", "copy ", "select ", "pragma ", "begin"];
/// Beginnings of statements that may continue on the next line.
const DUMP_STATEMENTS: [&str; 6] =
    ["comment on ", "insert into ", "insert or ", "replace into ", "create table ", "alter table "];

pub fn detect_format(head: &[u8]) -> Detected {
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Detected::Zip;
    }
    if head.starts_with(b"\x1f\x8b") {
        return Detected::Gzip;
    }
    if head.starts_with(b"SQLite format 3\0") {
        return Detected::Sqlite;
    }
    if let Some((_, reason)) = UNUSABLE.iter().find(|(start, _)| head.starts_with(start)) {
        return Detected::Unusable(reason);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Detected::Unusable("tar archives are not supported: unpack the file first");
    }
    if head.contains(&0) {
        return Detected::Unusable("the format is unknown, and it is not text");
    }
    detect_text_format(strip_bom(head).trim_ascii_start())
}

fn detect_text_format(text: &[u8]) -> Detected {
    match text.first() {
        None => Detected::Unusable("the file contains only blanks"),
        Some(b'<') if contains(text, ROOT) => Detected::Text(ImportFormat::AppleHealth),
        Some(b'<') if contains(text, b"<ClinicalDocument") => Detected::Unusable(
            "this is the clinical document of a health export: import export.xml or the zip instead",
        ),
        Some(b'<') => Detected::Unusable("XML other than an Apple Health export cannot be imported"),
        Some(b'{') => Detected::Text(ImportFormat::JsonLines),
        Some(b'[') if contains(text, b"\"dateTime\"") && contains(text, b"\"bpm\"") => {
            Detected::Text(ImportFormat::Fitbit)
        }
        Some(b'[') => Detected::Unusable(
            "JSON lists other than Fitbit's heart rates cannot be imported: write one object per line with `jq -c \
             '.[]' FILE`",
        ),
        _ if is_dump(text) => Detected::Text(ImportFormat::PostgresDump),
        _ => Detected::Text(ImportFormat::Csv),
    }
}

/// Returns whether the first line is a comment, a psql command or a statement. The name of the first column of a CSV
/// may begin like a statement.
fn is_dump(text: &[u8]) -> bool {
    let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).trim_end().to_ascii_lowercase();
    let starts_with = |beginnings: &[&str]| beginnings.iter().any(|beginning| line.starts_with(beginning));
    starts_with(&DUMP_COMMENTS)
        || starts_with(&DUMP_STATEMENTS)
        || starts_with(&DUMP_LINES) && line.find(';') == Some(line.len() - 1)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_detected_from_the_beginning_of_a_file() {
        for (head, expected) in [
            (&b"PK\x03\x04"[..], Detected::Zip),
            (b"\x1f\x8b\x08", Detected::Gzip),
            (b"SQLite format 3\0", Detected::Sqlite),
            (
                b"<?xml version=\"1.0\"?>\n<HealthData locale=\"de_DE\">",
                Detected::Text(ImportFormat::AppleHealth),
            ),
            (b"\xef\xbb\xbf\n{\"bpm\": 60}", Detected::Text(ImportFormat::JsonLines)),
            (
                b"[{\n  \"dateTime\" : \"02/06/24 14:30:05\",\n  \"value\" : {\n    \"bpm\" : 62",
                Detected::Text(ImportFormat::Fitbit),
            ),
            (b"--\n-- PostgreSQL database dump\n--\n", Detected::Text(ImportFormat::PostgresDump)),
            (b"\\restrict abc\n", Detected::Text(ImportFormat::PostgresDump)),
            (b"INSERT INTO coffee_logs VALUES (1);", Detected::Text(ImportFormat::PostgresDump)),
            (b"BEGIN;\n", Detected::Text(ImportFormat::PostgresDump)),
            (b"\xef\xbb\xbfid,timestamp,bpm\n", Detected::Text(ImportFormat::Csv)),
            (b"set,timestamp,bpm\n", Detected::Text(ImportFormat::Csv)),
            (b"Begin;timestamp;bpm;\n", Detected::Text(ImportFormat::Csv)),
            (b"Select device,timestamp,bpm\n", Detected::Text(ImportFormat::Csv)),
            (b"Create table;timestamp;bpm\n", Detected::Text(ImportFormat::Csv)),
            (b"PRAGMA foreign_keys=OFF;\r\n", Detected::Text(ImportFormat::PostgresDump)),
            (
                b"COPY public.coffee_logs (id, notes) FROM stdin;\n",
                Detected::Text(ImportFormat::PostgresDump),
            ),
            (b"REPLACE INTO coffee_logs VALUES\n", Detected::Text(ImportFormat::PostgresDump)),
            (b"create table coffee_logs (\n", Detected::Text(ImportFormat::PostgresDump)),
        ] {
            assert_eq!(detect_format(head), expected, "{}", String::from_utf8_lossy(head));
        }
        for head in [&b"PGDMP\x01"[..], b"%PDF-1.7", b"\x00\x01", b"<html>", b"[{}]", b" \n", b"\xff\xfea\0"]
        {
            assert!(
                matches!(detect_format(head), Detected::Unusable(_)),
                "{}",
                String::from_utf8_lossy(head)
            );
        }
    }
}
