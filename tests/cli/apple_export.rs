//! Writer of Apple Health exports: document type, devices with escaped angle brackets, records with metadata, correlations that
//! repeat records, and records of unrelated types. It streams, so that exports of any size can be written.

use std::io;
use std::io::Write;

/// Text before the records, with the document type of a real export, including the stray line of some iOS versions.
const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE HealthData [
<!-- HealthKit Export Version: 14 -->
<!ELEMENT HealthData (ExportDate,Me,(Record|Correlation|Workout|ActivitySummary|ClinicalRecord|Audiogram|VisionPrescription)*)>
<!ATTLIST HealthData
  locale CDATA #REQUIRED
>
<!ELEMENT ExportDate EMPTY>
<!ATTLIST ExportDate
  value CDATA #REQUIRED
>
<!ELEMENT Record ((MetadataEntry|HeartRateVariabilityMetadataList)*)>
<!ATTLIST Record
  type          CDATA #REQUIRED
  unit          CDATA #IMPLIED
  value         CDATA #IMPLIED
  sourceName    CDATA #REQUIRED
  sourceVersion CDATA #IMPLIED
  device        CDATA #IMPLIED
  creationDate  CDATA #IMPLIED
  startDate     CDATA #REQUIRED
  endDate       CDATA #REQUIRED
>
  device        CDATA #IMPLIED
<!ELEMENT Correlation ((MetadataEntry|Record)*)>
<!ELEMENT MetadataEntry EMPTY>
<!ATTLIST MetadataEntry
  key   CDATA #REQUIRED
  value CDATA #REQUIRED
>
]>
"#;

/// Device attribute of a watch's records.
const WATCH: &str = "&lt;&lt;HKDevice: 0x282d5a3c0&gt;, name:Apple Watch, manufacturer:Apple Inc., model:Watch, hardware:Watch6,2, software:10.1&gt;";

/// Timestamp of the first heart rate, in seconds: 2020-01-01T00:00:00Z.
pub const BEGIN: i64 = 1_577_836_800;

/// Writes an export one element at a time.
pub struct AppleExport<W: Write> {
    output: W,
}

impl<W: Write> AppleExport<W> {
    /// Writes the start of the document.
    pub fn new(mut output: W, locale: &str) -> io::Result<Self> {
        output.write_all(HEAD.as_bytes())?;
        write!(
            output,
            "<HealthData locale=\"{locale}\">\n <ExportDate value=\"2025-11-24 10:00:00 +0100\"/>\n \
             <Me HKCharacteristicTypeIdentifierDateOfBirth=\"1980-01-01\" \
             HKCharacteristicTypeIdentifierBiologicalSex=\"HKBiologicalSexNotSet\"/>\n"
        )?;
        Ok(Self { output })
    }

    /// Writes text unchanged.
    pub fn raw(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())
    }

    /// Writes a record with these attributes, unescaped, and `inner` as its content.
    pub fn record(
        &mut self,
        r#type: &str,
        unit: &str,
        value: &str,
        start: &str,
        inner: &str,
    ) -> io::Result<()> {
        write!(
            self.output,
            " <Record type=\"HKQuantityTypeIdentifier{type}\" sourceName=\"Ada’s Apple\u{a0}Watch\" \
             sourceVersion=\"10.1\" device=\"{WATCH}\" unit=\"{unit}\" creationDate=\"{start}\" \
             startDate=\"{start}\" endDate=\"{start}\" value=\"{value}\""
        )?;
        match inner {
            "" => self.output.write_all(b"/>\n"),
            inner => writeln!(self.output, ">\n  {inner}\n </Record>"),
        }
    }

    /// Writes `count` heart rates, one every five seconds from [`BEGIN`] on, mixed with steps and heart rate variabilities.
    pub fn heart_rates(&mut self, count: u64) -> io::Result<()> {
        for n in 0..count {
            let start = local_text(BEGIN + 5 * n.cast_signed());
            let bpm = 50 + (n * 7 + n / 40) % 70;
            let motion = match n % 10 {
                0..7 => r#"<MetadataEntry key="HKMetadataKeyHeartRateMotionContext" value="1"/>"#,
                7 | 8 => r#"<MetadataEntry key="HKMetadataKeyHeartRateMotionContext" value="2"/>"#,
                _ => "",
            };
            self.record("HeartRate", "count/min", &bpm.to_string(), &start, motion)?;
            if n % 50 == 0 {
                self.record("StepCount", "count", "11", &start, "")?;
            }
            if n % 500 == 0 {
                let list = format!(
                    "<HeartRateVariabilityMetadataList>\n   <InstantaneousBeatsPerMinute bpm=\"{bpm}\" \
                     time=\"2:30:00,12\u{202f}PM\"/>\n  </HeartRateVariabilityMetadataList>"
                );
                self.record("HeartRateVariabilitySDNN", "ms", "41.5", &start, &list)?;
            }
        }
        Ok(())
    }

    /// Writes the end of the document.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(
            b" <ActivitySummary dateComponents=\"2025-07-23\" activeEnergyBurned=\"512\"/>\n</HealthData>\n",
        )?;
        self.output.flush()?;
        Ok(self.output)
    }
}

/// Formats seconds since 1970 as in `2020-01-01 01:00:00 +0100`.
pub fn local_text(seconds: i64) -> String {
    let local = seconds + 3600;
    let (day, within) = (local.div_euclid(86_400), local.rem_euclid(86_400));
    let (mut year, mut rest) = (1970, day);
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    while rest >= 365 + i64::from(is_leap(year)) {
        rest -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    let (hour, minute, second) = (within / 3600, within / 60 % 60, within % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} +0100", rest + 1)
}
