//! `import` of Apple Health exports as phones write them: zipped or not, with all their peculiarities.

use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::apple_export::AppleExport;
use crate::helpers::{database, number, temporary_folder};
use crate::import::{coffees, import, readings, summary};

/// Returns an export with these elements.
fn export(elements: impl FnOnce(&mut AppleExport<Vec<u8>>) -> std::io::Result<()>) -> Vec<u8> {
    let mut export = AppleExport::new(Vec::new(), "de_DE").unwrap();
    elements(&mut export).unwrap();
    export.finish().unwrap()
}

/// Returns a zip with these files.
fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        archive.start_file(*name, SimpleFileOptions::default()).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

const AT: &str = "2025-07-23 14:30:00 +0200";
const WATCH: &str = r#"Text("Ada’s Apple\u{a0}Watch")"#;

#[test]
fn units_number_formats_and_motion_contexts_are_converted() {
    let content = export(|export| {
        let motion =
            |n| format!("<MetadataEntry key=\"HKMetadataKeyHeartRateMotionContext\" value=\"{n}\"/>");
        export.record("HeartRate", "count/min", "72", AT, &motion(1))?;
        export.record("HeartRate", "count/min", "72,6", "2025-07-23 2:30:00\u{202f}PM +0200", &motion(2))?;
        export.record("HeartRate", "count/s", "1.25", "2025-07-23 2:30:00\u{a0}p.m. +0200", &motion(0))?;
        export.record("HeartRate", "count/min", "130", "2025-07-23 08:30:00 -0400", "")?;
        let twice = format!("<MetadataEntry key=\"HKTimeZone\" value=\"2\"/>\n  {}", motion(2));
        export.record("HeartRate", "count/min", "131", AT, &twice)?;
        export.record(
            "DietaryCaffeine",
            "mg",
            "95",
            AT,
            "<MetadataEntry key=\"HKFoodType\" value=\"Espresso\"/>",
        )?;
        export.record("DietaryCaffeine", "g", "0,0621", AT, "")?;
        export.record("DietaryCaffeine", "mcg", "500", AT, "")?;
        export.record("StepCount", "count", "11", AT, "")?;
        export.raw(
            " <Record type=\"HKCategoryTypeIdentifierSleepAnalysis\" sourceName=\"x\" startDate=\"?\"/>\n",
        )
    });
    let folder = temporary_folder();
    let result = import(folder.path(), &content, &[]);
    assert_eq!(
        summary(&result),
        "file: 3 coffees and 5 readings added, 0 duplicates skipped, 0 rows rejected, 2 records of an unsupported type ignored"
    );
    let reading = |n: u32, bpm: u32, context: &str| {
        format!("Integer({n})|Integer(1753273800000000)|Integer({bpm})|{context}|Null|{WATCH}")
    };
    let (resting, active) = ("Text(\"resting\")", "Text(\"active\")");
    assert_eq!(
        readings(folder.path()),
        [
            reading(1, 72, resting),
            reading(2, 73, active),
            reading(3, 75, "Null"),
            reading(4, 130, "Null"),
            reading(5, 131, active)
        ]
    );
    let coffee =
        |n: u32, mg: &str| format!("Integer({n})|Integer(1753273800000000)|Real({mg})|Null|Null|{WATCH}");
    assert_eq!(coffees(folder.path()), [coffee(1, "95.0"), coffee(2, "62.1"), coffee(3, "0.5")]);
}

#[test]
fn a_record_within_a_correlation_is_a_duplicate_of_the_one_outside() {
    let record = format!(
        "<Record type=\"HKQuantityTypeIdentifierDietaryCaffeine\" sourceName=\"Log &amp; &quot;Go&quot;&#10;&lt;3\" unit=\"mg\" startDate=\"{AT}\" value=\"80\"/>\n"
    );
    let content = export(|export| {
        export.raw(&format!(
            " <Correlation type=\"HKCorrelationTypeIdentifierFood\" sourceName=\"Log\" startDate=\"{AT}\">\n  \
             <MetadataEntry key=\"HKFoodType\" value=\"Coffee\"/>\n  {record} </Correlation>\n {record}"
        ))?;
        export.raw(" <Correlation type=\"HKCorrelationTypeIdentifierFood\"/>\n")?;
        export.record("HeartRate", "count/min", "72", AT, "")
    });
    let folder = temporary_folder();
    assert!(summary(&import(folder.path(), &content, &[])).contains("1 coffee and 1 reading added"));
    assert_eq!(
        coffees(folder.path()),
        [r#"Integer(1)|Integer(1753273800000000)|Real(80.0)|Null|Null|Text("Log & \"Go\"\n<3")"#]
    );
}

#[test]
fn an_invalid_record_is_reported_with_its_line_and_rejected_alone() {
    let mut content = export(|export| {
        export.record("HeartRate", "count/min", "60", AT, "")?;
        export.record("HeartRate", "count/h", "60", AT, "<MetadataEntry key=\"a\" value=\"b\"/>")?;
        export.record("HeartRate", "count/min", "many", AT, "")?;
        export.record("HeartRate", "count/min", "0.2", AT, "")?;
        export.record("HeartRate", "count/min", "60", "2025-02-30 14:30:00 +0200", "")?;
        export.record("DietaryCaffeine", "cup", "1", AT, "")?;
        export.record("HeartRate", "BROKEN", "61", AT, "")?;
        export.record("HeartRate", "count/min", "62", AT, "")
    });
    let position = content.windows(6).position(|w| w == b"BROKEN").unwrap();
    content[position] = 0xff;
    let folder = temporary_folder();
    let result = import(folder.path(), &content, &[]);
    assert!(
        summary(&result).contains("0 coffees and 2 readings added, 0 duplicates skipped, 6 rows rejected"),
        "{result:?}"
    );
    let reasons: Vec<&str> = result.err.lines().map(|line| line.split(": <").next().unwrap()).collect();
    assert_eq!(
        reasons,
        [
            r#"line 36: unit: must be count/min or count/s (got "count/h")"#,
            r#"line 39: value: must be a number (got "many")"#,
            r#"line 40: bpm: must be between 1 and 1000 (got "0.2")"#,
            r#"line 41: startDate: must be a date and time (got "2025-02-30 14:30:00 +0200")"#,
            r#"line 42: unit: must be mg, g or mcg (got "cup")"#,
            "line 43: unit: must be count/min or count/s (got \"\u{fffd}ROKEN\")",
        ]
    );
}

#[test]
fn the_export_is_found_in_its_zip_in_every_language() {
    let content = export(|export| export.heart_rates(1000));
    let clinical: &[u8] = b"<?xml version=\"1.0\"?>\n<ClinicalDocument/>";
    for files in [
        &[("apple_health_export/export_cda.xml", clinical), ("apple_health_export/export.xml", &content)][..],
        &[
            ("apple_health_export/export_cda.xml", clinical),
            ("apple_health_export/Exportaci\u{f3}n.xml", &content),
        ],
        &[("a/workout-routes/route.gpx", b"<gpx/>"), ("a/导出.xml", &content)],
    ] {
        let folder = temporary_folder();
        let result = import(folder.path(), zipped(files), &[]);
        assert!(
            summary(&result)
                .contains("1,000 readings added, 0 duplicates skipped, 0 rows rejected, 22 records of"),
            "{result:?}"
        );
        let again = import(folder.path(), &content, &[]);
        assert!(summary(&again).contains("0 readings added, 1,000 duplicates skipped"), "{again:?}");
        let sum = number(
            &database(folder.path()),
            "select sum(bpm) from heart_rate_logs where context = 'resting'",
        );
        assert_eq!(sum, (0..1000).filter(|n| n % 10 < 7).map(|n| 50 + (n * 7 + n / 40) % 70).sum::<i64>());
    }
    let folder = temporary_folder();
    let result = import(folder.path(), zipped(&[("export_cda.xml", clinical)]), &[]);
    assert_eq!(
        result.err,
        "coffee-tracker: file: the zip contains nothing that can be imported: neither an Apple Health export (an XML file with an element \
         HealthData), nor a database of Health Connect or Gadgetbridge, nor heart rates of Fitbit \
         (heart_rate-YYYY-MM-DD.json)\n"
    );
}

#[test]
fn a_truncated_export_is_reported_with_the_line_and_imported_up_to_there() {
    let content = export(|export| export.heart_rates(1000));
    let folder = temporary_folder();
    let result = import(folder.path(), &content[..content.len() / 2], &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.err.contains("file: reading stopped at line "), "{result:?}");
    let half = readings(folder.path()).len();
    assert!((300..700).contains(&half), "{half}");
    assert!(
        summary(&import(folder.path(), &content, &[]))
            .contains(&format!("{} readings added, {half} duplicates", 1000 - half))
    );
}

#[test]
fn an_element_without_end_does_not_accumulate_in_memory() {
    let content = export(|export| {
        export.record("HeartRate", "count/min", "60", AT, "")?;
        export.raw(&format!(" <Record type=\"{}", "x".repeat(5 << 20)))
    });
    let folder = temporary_folder();
    let result = import(folder.path(), &content, &[]);
    assert_eq!(result.code, Some(1), "{result:?}");
    assert!(result.out.contains("1 reading added"), "{result:?}");
    assert_eq!(
        result.err,
        "coffee-tracker: file: reading stopped at line 36: the element that begins there has no end\n"
    );
}

#[test]
fn invalid_utf_8_does_not_reject_a_record() {
    let mut content = export(|export| {
        export.record("HeartRate", "count/min", "60", AT, "<MetadataEntry key=\"HKNote\" value=\"#\"/>")?;
        export.raw(&format!(
            " <Record type=\"HKQuantityTypeIdentifierHeartRate\" sourceName=\"J#rg é\" unit=\"count/min\" \
             startDate=\"{AT}\" value=\"61\"/>\n"
        ))?;
        export.record("StepCount", "#", "11", AT, "")?;
        export.record("HeartRate", "count/min", "62", AT, "")
    });
    let begin = content.windows(11).position(|w| w == b"<HealthData").unwrap();
    content[begin..].iter_mut().filter(|byte| **byte == b'#').for_each(|byte| *byte = 0xfc);
    let folder = temporary_folder();
    let result = import(folder.path(), &content, &[]);
    assert_eq!(
        summary(&result),
        "file: 0 coffees and 3 readings added, 0 duplicates skipped, 0 rows rejected, 1 record of an unsupported type ignored"
    );
    assert_eq!(result.err, "");
    let reading = |n: u32, source: &str| {
        format!("Integer({n})|Integer(1753273800000000)|Integer({})|Null|Null|{source}", 59 + n)
    };
    let expected = [reading(1, WATCH), reading(2, "Text(\"J\u{fffd}rg é\")"), reading(3, WATCH)];
    assert_eq!(readings(folder.path()), expected);
}

#[test]
fn records_within_a_workout_are_ignored_at_any_depth() {
    let content = export(|export| {
        export.raw(" <Workout>\n <Workout>\n")?;
        export.record("HeartRate", "count/min", "60", AT, "")?;
        export.raw(" </Workout><Correlation/>\n")?;
        export.record("HeartRate", "count/min", "61", AT, "")?;
        export.raw(" </Workout>\n")?;
        export.record("HeartRate", "count/min", "62", AT, "")
    });
    let folder = temporary_folder();
    let result = import(folder.path(), &content, &[]);
    assert_eq!(
        summary(&result),
        "file: 0 coffees and 1 reading added, 0 duplicates skipped, 0 rows rejected, 2 records of an unsupported type ignored"
    );
}

#[test]
fn an_unclosed_element_around_records_stops_the_import() {
    for (name, is_cut) in [("Workout", false), ("Correlation", false), ("Workout", true)] {
        let mut content = export(|export| {
            export.record("HeartRate", "count/min", "60", AT, "")?;
            export.raw(&format!(" <{name}>\n"))?;
            export.record("HeartRate", "count/min", "61", AT, "")?;
            export.raw(&format!(" <{name}>\n </{name}>\n"))?;
            export.record("HeartRate", "count/min", "62", AT, "")
        });
        if is_cut {
            content.truncate(content.len() - "</HealthData>\n".len());
        }
        let folder = temporary_folder();
        let result = import(folder.path(), &content, &[]);
        assert_eq!(result.code, Some(1), "{result:?}");
        assert!(
            result.out.contains("1 reading added, 0 duplicates skipped, 0 rows rejected, 2 records of"),
            "{result:?}"
        );
        let message = format!(
            "coffee-tracker: file: reading stopped at line 36: the element {name} that begins there has no end\n"
        );
        assert_eq!(result.err, message);
    }
}

#[test]
fn the_last_record_is_imported_although_its_end_is_missing() {
    let content = export(|export| {
        export.raw(&format!(
            " <Record type=\"HKQuantityTypeIdentifierHeartRate\" unit=\"count/min\" startDate=\"{AT}\" \
             value=\"61\">\n"
        ))
    });
    let folder = temporary_folder();
    assert!(summary(&import(folder.path(), &content, &[])).contains("0 coffees and 1 reading added"));
}
