//! Apple Health's `export.xml`: heart rates and dietary caffeine. Other records are counted as unsupported, and so are
//! records inside a correlation or a workout, which repeat records outside of it.
//!
//! The document type is skipped without parsing, because some versions of iOS write one that is not well-formed.

use std::borrow::Cow;
use std::io::{BufRead, BufReader};

use encoding_rs_io::DecodeReaderBytesBuilder;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use quick_xml::{Error as XmlError, XmlVersion};

use crate::domain::calendar::Zone;
use crate::domain::entry::{Amount, Entry, EntryKind};
use crate::domain::time::Timestamp;
use crate::transfer::formats::import_row::{
    parse_bpm, parse_decimal, parse_dose, parse_source, to_milligrams,
};
use crate::transfer::formats::lines::PieceReader;
use crate::transfer::formats::sink::{MAX_CONTENT, ReadError, RowPosition, Sink};

const HEART_RATE: &str = "HKQuantityTypeIdentifierHeartRate";
const CAFFEINE: &str = "HKQuantityTypeIdentifierDietaryCaffeine";
const MOTION_CONTEXT: &str = "HKMetadataKeyHeartRateMotionContext";
/// Beginning of the root element.
pub const ROOT: &[u8] = b"<HealthData";
/// Maximum nesting of elements; an export has five. The XML reader stores the name of each open element.
const MAX_DEPTH: usize = 100;
/// Size of the decoded text that is read at once, in bytes.
const BUFFER: usize = 64 * 1024;

pub fn read(input: &mut dyn BufRead, zone: &Zone, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    // A stray byte in a name must cost a character and not the record.
    let utf8 = DecodeReaderBytesBuilder::new().encoding(Some(encoding_rs::UTF_8)).build(input);
    let mut input = PieceReader::new(BufReader::with_capacity(BUFFER, utf8));
    skip_to_content(&mut input)?;
    let mut export = ExportReader { zone, open_record: None, container: None, has_ended: false };
    let mut reader = tolerant_reader(input);
    let mut buffer = Vec::new();
    // The root element is open.
    let mut depth = 1_usize;
    loop {
        buffer.clear();
        reader.get_mut().begin_piece();
        let line = reader.get_ref().line();
        match reader.read_event_into(&mut buffer) {
            Ok(Event::Eof) if export.has_ended => return Ok(()),
            Ok(Event::Eof) => {
                export.check_containers()?;
                return Err(broken(line, "the end of the file is missing"));
            }
            Ok(event) => {
                match event {
                    Event::Start(_) => depth += 1,
                    Event::End(_) => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth > MAX_DEPTH {
                    return Err(broken(line, format!("elements are nested more than {MAX_DEPTH} deep")));
                }
                export.event(line, &event, sink)?;
            }
            Err(XmlError::Io(_)) if reader.get_ref().is_piece_too_long() => {
                let mut input = reader.into_inner();
                let is_empty = skip_piece(&mut input, line, &buffer)?;
                export.skipped_piece(line, &buffer, is_empty, sink)?;
                reader = tolerant_reader(input);
            }
            Err(XmlError::IllFormed(_)) => {}
            Err(XmlError::Io(e)) => return Err(broken(line, e.to_string())),
            Err(e) => return Err(broken(line, e.to_string())),
        }
    }
}

fn broken(line: u64, reason: impl Into<String>) -> ReadError {
    ReadError::Broken { line, reason: reason.into() }
}

/// Creates a reader that does not match end tags to start tags: a broken element must not cost the rest.
fn tolerant_reader<R: BufRead>(input: PieceReader<R>) -> Reader<PieceReader<R>> {
    let mut reader = Reader::from_reader(input);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    config.allow_dangling_amp = true;
    reader
}

/// Skips everything up to the end of the root element's start tag.
fn skip_to_content(input: &mut PieceReader<impl BufRead>) -> Result<(), ReadError> {
    let mut matched = 0;
    while matched < ROOT.len() {
        let Some(byte) = input.fill_buf()?.first().copied() else {
            return Err(ReadError::unusable("not an Apple Health export: there is no element HealthData"));
        };
        matched = match ROOT.get(matched) {
            Some(expected) if *expected == byte => matched + 1,
            _ => usize::from(byte == b'<'),
        };
        input.consume(1);
        input.begin_piece();
    }
    input.skip_until(b'>')?;
    Ok(())
}

/// End of a piece of XML, and the state of looking for it.
#[derive(Clone, Copy)]
enum PieceEnd {
    /// Text ends before the next markup.
    Text,
    /// A tag ends with the first `>` outside of this quote.
    Tag { quote: Option<u8> },
    /// Comments, CDATA sections and processing instructions end with a sequence of their own.
    Sequence(&'static [u8]),
}

impl PieceEnd {
    /// Returns the end of a piece from its beginning.
    fn of(beginning: &[u8]) -> Self {
        match beginning {
            [b'<', b'!', b'-', ..] => Self::Sequence(b"-->"),
            [b'<', b'!', b'[', ..] => Self::Sequence(b"]]>"),
            [b'<', b'?', ..] => Self::Sequence(b"?>"),
            [b'<', ..] => {
                let mut end = Self::Tag { quote: None };
                for byte in beginning {
                    end.matches(*byte, [0; 2]);
                }
                end
            }
            _ => Self::Text,
        }
    }

    /// Returns whether the piece ends at this byte; `last` are the two bytes before it.
    fn matches(&mut self, byte: u8, last: [u8; 2]) -> bool {
        match self {
            Self::Text => byte == b'<',
            Self::Sequence(sequence) => [last[0], last[1], byte].ends_with(sequence),
            Self::Tag { quote: Some(open) } if *open != byte => false,
            Self::Tag { quote: quote @ Some(_) } => {
                *quote = None;
                false
            }
            Self::Tag { quote } if matches!(byte, b'"' | b'\'') => {
                *quote = Some(byte);
                false
            }
            Self::Tag { .. } => byte == b'>',
        }
    }
}

/// Skips the rest of a piece that is too long to be kept. Returns whether it was an empty element.
fn skip_piece(input: &mut PieceReader<impl BufRead>, line: u64, beginning: &[u8]) -> Result<bool, ReadError> {
    let mut end = PieceEnd::of(beginning);
    let mut last = beginning.last_chunk().copied().unwrap_or_default();
    loop {
        input.begin_piece();
        let available = input.fill_buf()?;
        if available.is_empty() {
            return Err(broken(line, "the element that begins there has no end"));
        }
        let end_index = available.iter().position(|byte| {
            let is_end = end.matches(*byte, last);
            if !is_end {
                last = [last[1], *byte];
            }
            is_end
        });
        let length = match (end_index, end) {
            (Some(index), PieceEnd::Text) => index,
            (Some(index), _) => index + 1,
            (None, _) => available.len(),
        };
        input.consume(length);
        if end_index.is_some() {
            return Ok(last[1] == b'/');
        }
    }
}

/// State of reading an export.
struct ExportReader<'z> {
    zone: &'z Zone,
    /// A supported record whose end tag has not been read.
    open_record: Option<OpenRecord>,
    /// The outermost correlation or workout, while inside of one.
    container: Option<Container>,
    has_ended: bool,
}

struct OpenRecord {
    line: u64,
    entry: Result<Entry, String>,
    /// The start tag, when the record will be rejected.
    content: String,
}

struct Container {
    line: u64,
    name: String,
    /// Number of open containers, with those inside.
    depth: u64,
}

impl ExportReader<'_> {
    fn event(&mut self, line: u64, event: &Event<'_>, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                let is_empty = matches!(event, Event::Empty(_));
                match tag.name().as_ref() {
                    "Record" => self.record(line, tag, is_empty, sink)?,
                    "MetadataEntry" => self.metadata(tag),
                    name @ ("Correlation" | "Workout") if !is_empty => self.enter_container(line, name),
                    _ => {}
                }
            }
            Event::End(tag) => match tag.name().as_ref() {
                "Record" => self.close_record(sink)?,
                "Correlation" | "Workout" => self.leave_container(),
                "HealthData" => {
                    self.close_record(sink)?;
                    self.check_containers()?;
                    self.has_ended = true;
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// Handles a piece that was too long to be kept, from its beginning.
    fn skipped_piece(
        &mut self,
        line: u64,
        beginning: &[u8],
        is_empty: bool,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        let tag = beginning.strip_prefix(b"<").unwrap_or_default();
        match tag.split(|byte| byte.is_ascii_whitespace()).next() {
            Some(b"Record") => {
                self.close_record(sink)?;
                if self.container.is_some() {
                    return Ok(sink.skip_unsupported()?);
                }
                let content = beginning.get(..MAX_CONTENT).unwrap_or(beginning);
                sink.reject(line, "is longer than 4 MiB".to_owned(), content)?;
            }
            Some(name @ (b"Correlation" | b"Workout")) if !is_empty => {
                self.enter_container(line, &String::from_utf8_lossy(name));
            }
            _ => {}
        }
        Ok(())
    }

    fn enter_container(&mut self, line: u64, name: &str) {
        let new = || Container { line, name: name.to_owned(), depth: 0 };
        self.container.get_or_insert_with(new).depth += 1;
    }

    fn leave_container(&mut self) {
        if let Some(container) = &mut self.container {
            container.depth -= 1;
        }
        self.container.take_if(|container| container.depth == 0);
    }

    /// Fails when a container is open at the end: the records behind its beginning were skipped.
    fn check_containers(&self) -> Result<(), ReadError> {
        match &self.container {
            Some(Container { line, name, .. }) => {
                Err(broken(*line, format!("the element {name} that begins there has no end")))
            }
            None => Ok(()),
        }
    }

    fn record(
        &mut self,
        line: u64,
        tag: &BytesStart<'_>,
        is_empty: bool,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        self.close_record(sink)?;
        if self.container.is_some() {
            return Ok(sink.skip_unsupported()?);
        }
        let mut record = RecordAttributes::default();
        let parsed = record.parse(tag);
        let kind = match record.r#type.as_deref() {
            Some(HEART_RATE) => EntryKind::HeartRate,
            Some(CAFFEINE) => EntryKind::Coffee,
            // A record that cannot be parsed may be of a supported type.
            None if parsed.is_err() => EntryKind::HeartRate,
            _ => return Ok(sink.skip_unsupported()?),
        };
        let entry = parsed.and_then(|()| record.to_entry(kind, self.zone));
        let start_tag = || format!("<{}>", &**tag);
        if is_empty {
            return Ok(sink.sample(RowPosition::Line(line), entry, start_tag)?);
        }
        let content = if entry.is_err() { start_tag() } else { String::new() };
        self.open_record = Some(OpenRecord { line, content, entry });
        Ok(())
    }

    fn close_record(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        match self.open_record.take() {
            Some(record) => Ok(sink.sample(RowPosition::Line(record.line), record.entry, || record.content)?),
            None => Ok(()),
        }
    }

    /// Sets the context of a heart rate from its motion context: 1 is sedentary, 2 is active, 0 is not set.
    fn metadata(&mut self, tag: &BytesStart<'_>) {
        let Some(OpenRecord { entry: Ok(entry), .. }) = &mut self.open_record else { return };
        if entry.kind() != EntryKind::HeartRate {
            return;
        }
        let (mut is_motion, mut context) = (false, None);
        for attribute in tag.attributes().with_checks(false).flatten() {
            match attribute.key.as_ref() {
                "key" => is_motion = attribute.value == MOTION_CONTEXT,
                "value" => {
                    context = match attribute.value.trim() {
                        "1" => Some("resting"),
                        "2" => Some("active"),
                        _ => None,
                    };
                }
                _ => {}
            }
        }
        if is_motion {
            entry.label = context.map(str::to_owned);
        }
    }
}

/// Attributes of a record that are imported.
#[derive(Default)]
struct RecordAttributes<'t> {
    r#type: Option<Cow<'t, str>>,
    source: Option<Cow<'t, str>>,
    unit: Option<Cow<'t, str>>,
    start: Option<Cow<'t, str>>,
    value: Option<Cow<'t, str>>,
}

impl<'t> RecordAttributes<'t> {
    /// Parses the attributes, of an unsupported type only the first ones.
    fn parse(&mut self, tag: &'t BytesStart<'_>) -> Result<(), String> {
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(|e| format!("is not well-formed: {e}"))?;
            let slot = match attribute.key.as_ref() {
                "type" => &mut self.r#type,
                "sourceName" => &mut self.source,
                "unit" => &mut self.unit,
                "startDate" => &mut self.start,
                "value" => &mut self.value,
                _ => continue,
            };
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|e| format!("is not well-formed: {e}"))?;
            *slot = Some(value);
            // The type comes first, and most records are of another one.
            if !matches!(self.r#type.as_deref(), None | Some(HEART_RATE | CAFFEINE)) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn to_entry(&self, kind: EntryKind, zone: &Zone) -> Result<Entry, String> {
        let start = self.start.as_deref().ok_or("startDate is missing")?;
        let timestamp = Timestamp::parse_lenient(start, zone)
            .or_else(|| zone.parse(start).ok())
            .ok_or_else(|| format!("startDate: must be a date and time (got {start:?})"))?;
        let value = self.value.as_deref().ok_or("value is missing")?;
        let number =
            parse_decimal(value).ok_or_else(|| format!("value: must be a number (got {value:?})"))?;
        let source = self.source.as_deref().and_then(parse_source);
        let unit = self.unit.as_deref().unwrap_or_default();
        let amount = match (kind, unit) {
            (EntryKind::HeartRate, "count/min") => Amount::HeartRate(parse_bpm(number)?),
            (EntryKind::HeartRate, "count/s") => Amount::HeartRate(parse_bpm(number * 60.0)?),
            (EntryKind::HeartRate, other) => {
                return Err(format!("unit: must be count/min or count/s (got {other:?})"));
            }
            (EntryKind::Coffee, unit) => Amount::Caffeine(parse_dose(to_milligrams(number, unit)?)?),
        };
        Ok(Entry { id: None, timestamp, amount, label: None, notes: None, source })
    }
}
