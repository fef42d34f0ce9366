//! `import` of content that could exhaust the memory: such a record is rejected, and the rest of the file is imported where the
//! format allows it.

use std::fs::File;
use std::io;
use std::io::{BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rusqlite::Connection;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::helpers::{CommandResult, Process, peak_memory_kib, program, temporary_folder, wait_until};
use crate::import::{coffees, import, readings, summary};

/// Limit for the resident memory of an import, in KiB.
pub const MEMORY_LIMIT_KIB: u64 = 64 * 1024;
/// Size of content that exceeds [`MEMORY_LIMIT_KIB`], in bytes.
const HUGE: usize = 80 << 20;

/// Imports the file `file` and returns the result and the peak of the resident memory in KiB.
pub fn import_measured(folder: &Path) -> (CommandResult, u64) {
    let mut command = program(folder);
    command.args(["import", "file", "--database-url", "coffee.db"]).env("TZ", "UTC");
    let mut running = Process::spawn(&mut command);
    let mut peak = 0;
    wait_until("the import ends", || {
        peak = peak_memory_kib(&running).unwrap_or(peak);
        running.has_ended()
    });
    (running.wait(), peak)
}

/// Writes `file`, imports it, asserts that the memory is bounded, and runs `check` on the folder and the result.
#[track_caller]
fn import_bounded(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    check: impl FnOnce(&Path, &CommandResult),
) {
    let folder = temporary_folder();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.path().join("file")).unwrap());
    write(&mut file).unwrap();
    file.flush().unwrap();
    drop(file);
    let (mut result, mut peak) = import_measured(folder.path());
    // An import that fails at once may end before it is measured, and can be repeated.
    for _ in 0..50 {
        if peak > 1024 || result.code == Some(0) {
            break;
        }
        (result, peak) = import_measured(folder.path());
    }
    assert!(peak > 1024, "no memory was measured: {peak} KiB; {result:?}");
    assert!(peak < MEMORY_LIMIT_KIB, "{peak} KiB; {result:?}");
    check(folder.path(), &result);
}

/// Writes a byte `count` times.
fn fill(to: &mut dyn Write, byte: u8, count: usize) -> io::Result<()> {
    let chunk = vec![byte; 1 << 16];
    for _ in 0..count / chunk.len() {
        to.write_all(&chunk)?;
    }
    to.write_all(&chunk[..count % chunk.len()])
}

/// Asserts the counts in the summary.
#[track_caller]
pub fn assert_counts(result: &CommandResult, coffees: u32, readings: u32, rejected: u32, unsupported: u32) {
    let counted = |count: u32, noun: &str| match count {
        1 => format!("1 {noun}"),
        1000.. => format!("{},{:03} {noun}s", count / 1000, count % 1000),
        _ => format!("{count} {noun}s"),
    };
    let ignored = match unsupported {
        0 => String::new(),
        n => format!(", {} of an unsupported type ignored", counted(n, "record")),
    };
    let expected = format!(
        "file: {} and {} added, 0 duplicates skipped, {} rejected{ignored}",
        counted(coffees, "coffee"),
        counted(readings, "reading"),
        counted(rejected, "row"),
    );
    assert_eq!(summary(result), expected, "{}", result.err);
}

pub const AT: &str = "2025-07-23T14:30:00Z";

#[test]
fn a_huge_or_deeply_nested_json_line_is_rejected_alone() {
    let good = format!("{{\"timestamp\": \"{AT}\", \"bpm\": 61}}\n");
    import_bounded(
        |file| {
            file.write_all(good.as_bytes())?;
            write!(file, "{{\"timestamp\": \"{AT}\", \"bpm\": 62, \"notes\": \"")?;
            fill(file, b'x', HUGE)?;
            file.write_all(b"\"}\n{\"notes\": ")?;
            fill(file, b'[', 200_000)?;
            file.write_all(b"\n")?;
            file.write_all(good.replace("61", "63").as_bytes())
        },
        |folder, result| {
            assert_counts(result, 0, 2, 2, 0);
            assert_eq!(readings(folder).len(), 2);
        },
    );
}

#[test]
fn rejected_lines_do_not_accumulate_in_memory() {
    // 600 lines of 250 KiB that are not JSON, between valid lines; compressed, so that the file is small.
    import_bounded(
        |file| {
            let mut compressed = GzEncoder::new(file, Compression::fast());
            let bad = vec![b'{'; 250 * 1024];
            for n in 0..600 {
                writeln!(compressed, "{{\"timestamp\": \"{AT}\", \"bpm\": {}}}", 60 + n % 100)?;
                compressed.write_all(&bad)?;
                compressed.write_all(b"\n")?;
            }
            compressed.finish().map(drop)
        },
        |_, result| assert_counts(result, 0, 600, 600, 0),
    );
}

#[test]
fn rows_with_the_longest_texts_do_not_accumulate_in_memory() {
    let long = "\u{1f600}".repeat(1000);
    import_bounded(
        |file| {
            let mut compressed = GzEncoder::new(file, Compression::fast());
            for n in 0..12_000 {
                writeln!(
                    compressed,
                    "{{\"timestamp\": \"{AT}\", \"caffeine_mg\": {}, \"notes\": \"{long}\", \"source\": \"{}\"}}",
                    n % 900,
                    &long[..800]
                )?;
            }
            compressed.finish().map(drop)
        },
        |_, result| assert_counts(result, 12_000, 0, 0, 0),
    );
}

#[test]
fn a_huge_csv_field_is_rejected_alone() {
    for closing in ["\"", ""] {
        import_bounded(
            |file| {
                write!(file, "timestamp,bpm,notes\n{AT},61,\n{AT},62,\"")?;
                fill(file, b'x', HUGE)?;
                write!(file, "{closing}\n{AT},63,\n")
            },
            |folder, result| {
                assert_counts(result, 0, 2, 1, 0);
                assert_eq!(readings(folder).len(), 2);
            },
        );
    }
    // A huge header.
    import_bounded(|file| fill(file, b'x', HUGE), |_, result| assert_eq!(result.code, Some(1), "{result:?}"));
}

#[test]
fn huge_values_of_a_dump_are_rejected_alone() {
    import_bounded(
        |file| {
            file.write_all(
                b"COPY public.heart_rate_logs (id, \"timestamp\", bpm, context, notes) FROM stdin;\n",
            )?;
            writeln!(file, "1\t{AT}\t61\t\\N\t\\N")?;
            write!(file, "2\t{AT}\t62\t\\N\t")?;
            fill(file, b'x', HUGE)?;
            writeln!(file, "\n3\t{AT}\t63\t\\N\t\\N\n\\.")
        },
        |_, result| assert_counts(result, 0, 2, 1, 0),
    );
    // A huge statement, and a row with too many values.
    import_bounded(
        |file| {
            write!(file, "COMMENT ON TABLE other IS '")?;
            fill(file, b'x', HUGE)?;
            write!(file, "';\nCOPY heart_rate_logs FROM stdin;\n1\t{AT}\t61\t\\N\t\\N\n")?;
            fill(file, b'\t', 200_000)?;
            writeln!(file, "\n3\t{AT}\t63\t\\N\t\\N\n\\.")
        },
        |_, result| assert_counts(result, 0, 2, 1, 0),
    );
}

/// Writes an Apple Health export with the output of `between` between two records.
fn health(file: &mut dyn Write, between: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let record = "<Record type=\"HKQuantityTypeIdentifierHeartRate\" unit=\"count/min\" \
                  startDate=\"2025-07-23 14:30:00 +0000\" value=";
    write!(file, "<?xml version=\"1.0\"?>\n<HealthData>\n{record}\"61\"/>\n")?;
    between(file)?;
    write!(file, "\n{record}\"62\"/>\n</HealthData>\n")
}

/// Imports an Apple Health export with `open`, much text and `close` between two records.
#[track_caller]
fn import_with_huge_element(open: &str, close: &str, check: impl FnOnce(&Path, &CommandResult)) {
    import_bounded(
        |file| {
            health(file, |file| {
                file.write_all(open.as_bytes())?;
                fill(file, b'x', HUGE)?;
                file.write_all(close.as_bytes())
            })
        },
        check,
    );
}

#[test]
fn huge_xml_elements_do_not_affect_other_records() {
    for (open, close) in [
        ("<!-- <Record type=\"", " -->"),
        ("<![CDATA[<Record> ", "]]>"),
        ("<?target ", "?>"),
        ("some text ", " &amp; more"),
        ("<MetadataEntry key=\"a > b\" value='", "'/>"),
        ("<Other a=\"", "\"></Other>"),
    ] {
        import_with_huge_element(open, close, |folder, result| {
            assert_counts(result, 0, 2, 0, 0);
            assert_eq!(readings(folder).len(), 2, "{open}");
        });
    }
    import_with_huge_element(
        "<Record type=\"HKQuantityTypeIdentifierHeartRate\" sourceName=\"> ",
        "\" unit=\"count/min\" value=\"63\"/>",
        |_, result| {
            assert_counts(result, 0, 2, 1, 0);
            assert!(result.err.starts_with("line 4: is longer than 4 MiB: <Record type="), "{}", result.err);
        },
    );
    // The records in a correlation repeat others in the file.
    import_with_huge_element(
        "<Correlation a='",
        "'><Record type=\"HKQuantityTypeIdentifierHeartRate\"/></Correlation>",
        |_, result| assert_counts(result, 0, 2, 0, 1),
    );
    import_bounded(
        |file| {
            file.write_all(b"<?xml version=\"1.0\"?>\n<!DOCTYPE HealthData [\n<!-- ")?;
            fill(file, b'<', HUGE)?;
            file.write_all(b" -->\n]>\n<HealthData>\n</HealthData>\n")
        },
        |_, result| assert_eq!(result.code, Some(1), "the root element is too far into the file: {result:?}"),
    );
}

#[test]
fn xml_that_is_nested_too_deep_is_rejected() {
    for (depth, fits) in [(99, true), (100, false)] {
        let mut content = Vec::new();
        health(&mut content, |file| write!(file, "{}{}", "<a>".repeat(depth), "</a>".repeat(depth))).unwrap();
        let folder = temporary_folder();
        let result = import(folder.path(), &content, &[]);
        if fits {
            assert_counts(&result, 0, 2, 0, 0);
        } else {
            assert_eq!(result.code, Some(1), "{result:?}");
            let reason = "file: reading stopped at line 4: elements are nested more than 100 deep";
            assert!(result.err.contains(reason), "{}", result.err);
        }
    }
    import_bounded(
        |file| {
            health(file, |file| {
                let chunk = "<abcdefgh>".repeat(1000);
                (0..HUGE / chunk.len()).try_for_each(|_| file.write_all(chunk.as_bytes()))
            })
        },
        |_, result| assert_eq!(result.code, Some(1), "{result:?}"),
    );
}

#[test]
fn compressed_files_are_read_as_a_stream() {
    let unpacked = 4 * HUGE;
    import_bounded(
        |file| {
            let mut compressed = GzEncoder::new(file, Compression::fast());
            health(&mut compressed, |file| fill(file, b' ', unpacked))?;
            compressed.finish().map(drop)
        },
        |_, result| assert_counts(result, 0, 2, 0, 0),
    );
    import_bounded(
        |file| {
            let mut archive = ZipWriter::new(io::Cursor::new(Vec::new()));
            archive.start_file("apple_health_export/export.xml", SimpleFileOptions::default())?;
            health(&mut archive, |file| fill(file, b' ', unpacked))?;
            file.write_all(&archive.finish()?.into_inner())
        },
        |_, result| assert_counts(result, 0, 2, 0, 0),
    );
}

#[test]
fn a_zip_with_a_huge_directory_is_rejected() {
    import_bounded(
        |file| {
            // 400,000 directory entries of 70 bytes, without the files.
            let count = 400_000_u32;
            let mut directory = Vec::new();
            for n in 0..count {
                let name = format!("workout-routes/{n:09}");
                directory.extend(b"PK\x01\x02\x14\0\x14\0\0\0\0\0\0\0\x21\0");
                directory.extend([0; 12]);
                directory.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
                directory.extend([0; 16]);
                directory.extend(name.as_bytes());
            }
            let start = b"PK\x03\x04";
            file.write_all(start)?;
            file.write_all(&directory)?;
            let offset = u32::try_from(start.len()).unwrap();
            let end = u64::from(offset) + directory.len() as u64;
            // The ZIP64 end record, its locator, and the end record.
            file.write_all(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x2d\0\x2d\0\0\0\0\0\0\0\0\0")?;
            for number in [count.into(), count.into(), directory.len() as u64, offset.into()] {
                file.write_all(&u64::to_le_bytes(number))?;
            }
            file.write_all(b"PK\x06\x07\0\0\0\0")?;
            file.write_all(&end.to_le_bytes())?;
            file.write_all(&[1, 0, 0, 0])?;
            file.write_all(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0")
        },
        |_, result| {
            assert_eq!(result.code, Some(1), "{result:?}");
            assert!(
                result.err.contains("the zip has too many members, or its directory has no end"),
                "{}",
                result.err
            );
        },
    );
}

/// Creates an empty database of the Docker stack.
pub fn create_docker_stack_database(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "create table coffee_logs (id integer not null primary key, timestamp datetime, \
                 caffeine_mg float not null, coffee_type varchar(100), notes text);
             create table heart_rate_logs (id integer not null primary key, timestamp datetime, \
                 bpm integer not null, context varchar(50), notes text);",
        )
        .unwrap();
    connection
}

#[test]
fn huge_values_of_a_docker_stack_database_are_rejected_alone() {
    let folder = temporary_folder();
    create_docker_stack_database(&folder.path().join("file"))
        .execute_batch(&format!(
            "insert into coffee_logs values (1, '2025-10-02 10:30:15', 95, null, null);
             insert into coffee_logs values (2, '2025-10-02 10:30:16', 96, null, printf('%.*c', {HUGE}, 'x'));
             insert into coffee_logs values (3, '2025-10-02 10:30:17', 97, zeroblob({HUGE}), null);
             insert into coffee_logs values (4, '2025-10-02 10:30:18', 98, null, printf('%.*c', 60000, 'x'));
             insert into coffee_logs values (9, '2025-10-02 10:30:19', 99, null, 'kept');
             insert into heart_rate_logs values (-5, '2025-10-02 10:30:19', 60, null, zeroblob({HUGE}));
             insert into heart_rate_logs values (5, '2025-10-02 10:30:19', 61, null, null);
             insert into heart_rate_logs
                 values (9223372036854775807, '2025-10-02 10:30:19', 62, null, zeroblob({HUGE}));"
        ))
        .unwrap();
    let (result, peak) = import_measured(folder.path());
    assert!(peak > 1024 && peak < MEMORY_LIMIT_KIB, "{peak} KiB; {result:?}");
    assert_counts(&result, 2, 1, 5, 0);
    for line in [
        "coffee_logs, id 2: has a value longer than 65536 bytes: id 2",
        "coffee_logs, id 3: has a value longer than 65536 bytes: id 3",
        "heart_rate_logs, id -5: has a value longer than 65536 bytes: id -5",
        "heart_rate_logs, id 9223372036854775807: has a value longer than 65536 bytes: id 9223372036854775807",
    ] {
        assert!(result.err.lines().any(|found| found == line), "{line} in {}", result.err);
    }
    assert!(
        result.err.contains("coffee_logs, id 4: notes: must have at most 1000 characters"),
        "{}",
        result.err
    );
    assert_eq!(coffees(folder.path()).len(), 2);
}
