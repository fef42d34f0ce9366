//! Apple Health's `export.xml`: heart rates and dietary caffeine; everything else is passed
//! over. So is a record that stands inside another element: it repeats one beside it.
//!
//! The document type in front is skipped by hand: some versions of the phone write one that
//! is not well-formed.

use std::borrow::Cow;
use std::io::BufRead;

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use quick_xml::{Error as XmlError, XmlVersion};

use crate::domain::calendar::Zone;
use crate::domain::entry::{CoffeeEntry, Entry, EntryKind, ReadingEntry};
use crate::domain::time::Timestamp;
use crate::transfer::formats::import_row;
use crate::transfer::formats::lines::Counted;
use crate::transfer::formats::lossy::Lossy;
use crate::transfer::formats::rows::{ReadError, Rejection, Sink};

const HEART_RATE: &str = "HKQuantityTypeIdentifierHeartRate";
const CAFFEINE: &str = "HKQuantityTypeIdentifierDietaryCaffeine";
const MOTION: &str = "HKMetadataKeyHeartRateMotionContext";
/// What the whole document is called.
pub const ROOT: &[u8] = b"<HealthData";

/// Deepest nesting of elements that is read; an export has five. The XML reader remembers the name
/// of each open element.
const MAX_DEPTH: usize = 100;

/// Length to which an overlong record is cut in messages, bytes.
const MAX_SHOWN: usize = 8 * 1024;

/// Reads every record.
///
/// # Errors
/// Why it was not read to its end.
pub fn read(input: &mut dyn BufRead, zone: &Zone, sink: &mut Sink<'_>) -> Result<(), ReadError> {
    let mut input = Lossy::new(input);
    let mut input = Counted::new(&mut input);
    skip_to_root(&mut input)?;
    let mut export = Export { zone, open: None, other: None, has_ended: false };
    let mut reader = tolerant(input);
    let mut buffer = Vec::new();
    let mut depth = 0_usize;
    loop {
        buffer.clear();
        reader.get_mut().begin_piece();
        let line = reader.get_ref().line();
        match reader.read_event_into(&mut buffer) {
            Ok(Event::Eof) if export.has_ended => return Ok(()),
            Ok(Event::Eof) => {
                export.check_others()?;
                return Err(ReadError::Broken { line, why: "the end of the file is missing".to_owned() });
            }
            Ok(event) => {
                match event {
                    Event::Start(_) => depth += 1,
                    Event::End(_) => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth > MAX_DEPTH {
                    let why = format!("elements are nested more than {MAX_DEPTH} deep");
                    return Err(ReadError::Broken { line, why });
                }
                export.take(line, &event, sink)?;
            }
            Err(XmlError::Io(_)) if reader.get_ref().is_piece_too_long() => {
                let mut input = reader.into_inner();
                let is_empty = skip_rest(&mut input, line, &buffer)?;
                export.skipped(line, &buffer, is_empty, sink)?;
                reader = tolerant(input);
            }
            Err(XmlError::Io(e)) => return Err(ReadError::Broken { line, why: e.to_string() }),
            Err(XmlError::IllFormed(_)) => {}
            Err(e) => return Err(ReadError::Broken { line, why: e.to_string() }),
        }
    }
}

/// Element names are not checked against each other: a broken one must not cost the rest.
fn tolerant(input: Counted<'_>) -> Reader<Counted<'_>> {
    let mut reader = Reader::from_reader(input);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    config.allow_dangling_amp = true;
    reader
}

/// Reads up to the root element, whatever stands before it.
fn skip_to_root(input: &mut Counted<'_>) -> Result<(), ReadError> {
    loop {
        let available = input.fill_buf()?;
        if available.starts_with(ROOT) {
            return Ok(());
        }
        let skipped = match available {
            [] => {
                let why = "it is no Apple Health export: there is no element HealthData in it";
                return Err(ReadError::Unusable(why.to_owned()));
            }
            // The root may lie across two buffers: what might be its beginning is read byte by byte.
            [b'<', rest @ ..] if rest.len() + 1 < ROOT.len() && ROOT.starts_with(available) => {
                return skip_split_root(input);
            }
            [_, rest @ ..] => 1 + rest.iter().position(|byte| *byte == b'<').unwrap_or(rest.len()),
        };
        input.consume(skipped);
        input.begin_piece();
    }
}

/// The root began in the last bytes of a buffer. Nothing of it is needed.
fn skip_split_root(input: &mut Counted<'_>) -> Result<(), ReadError> {
    let mut matched = 0;
    while matched < ROOT.len() {
        match input.fill_buf()?.first() {
            Some(byte) if ROOT.get(matched) == Some(byte) => {
                input.consume(1);
                matched += 1;
            }
            _ => return skip_to_root(input),
        }
    }
    let mut rest = Vec::new();
    input.read_until(b'>', &mut rest)?;
    Ok(())
}

/// Terminator of a piece of XML.
#[derive(Clone, Copy)]
enum PieceEnd {
    /// Text ends before the next markup.
    Text,
    /// A tag ends with the first `>` outside of this quote.
    Tag { quote: Option<u8> },
    /// Comments, CDATA sections and processing instructions have an end of their own.
    Mark(&'static [u8]),
}

impl PieceEnd {
    /// The end of a piece, from its beginning.
    fn of(begun: &[u8]) -> Self {
        match begun {
            [b'<', b'!', b'-', ..] => Self::Mark(b"-->"),
            [b'<', b'!', b'[', ..] => Self::Mark(b"]]>"),
            [b'<', b'?', ..] => Self::Mark(b"?>"),
            [b'<', ..] => {
                let mut end = Self::Tag { quote: None };
                for byte in begun {
                    end.is_at(*byte, [0; 2]);
                }
                end
            }
            _ => Self::Text,
        }
    }

    /// Reports whether this byte ends the piece; `last` are the two before it.
    fn is_at(&mut self, byte: u8, last: [u8; 2]) -> bool {
        match self {
            Self::Text => byte == b'<',
            Self::Mark(mark) => [last[0], last[1], byte].ends_with(mark),
            Self::Tag { quote: open @ Some(_) } if *open == Some(byte) => {
                *open = None;
                false
            }
            Self::Tag { quote: quote @ None } if matches!(byte, b'"' | b'\'') => {
                *quote = Some(byte);
                false
            }
            Self::Tag { quote } => quote.is_none() && byte == b'>',
        }
    }
}

/// Reads to the end of a piece that is too long to be kept, of which this much was read. Returns
/// whether it was an empty element.
fn skip_rest(input: &mut Counted<'_>, line: u64, begun: &[u8]) -> Result<bool, ReadError> {
    let mut end = PieceEnd::of(begun);
    let mut last = begun.last_chunk().copied().unwrap_or_default();
    loop {
        input.begin_piece();
        let available = input.fill_buf()?;
        if available.is_empty() {
            return Err(ReadError::Broken { line, why: "what begins there has no end".to_owned() });
        }
        let mut used = 0;
        let mut is_over = false;
        for byte in available {
            is_over = end.is_at(*byte, last);
            if is_over {
                used += usize::from(!matches!(end, PieceEnd::Text));
                break;
            }
            used += 1;
            last = [last[1], *byte];
        }
        input.consume(used);
        if is_over {
            return Ok(last[1] == b'/');
        }
    }
}

struct Export<'z> {
    zone: &'z Zone,
    /// A record of ours whose end has not come yet: its line, what stood there, and itself.
    open: Option<Open>,
    /// The outermost element that repeats records, while inside of one.
    other: Option<Other>,
    has_ended: bool,
}

struct Other {
    line: u64,
    name: String,
    /// How many of them are open.
    depth: u64,
}

struct Open {
    line: u64,
    content: String,
    entry: Result<Entry, String>,
}

impl Export<'_> {
    fn take(&mut self, line: u64, event: &Event<'_>, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                let is_empty = matches!(event, Event::Empty(_));
                match tag.name().as_ref() {
                    "Record" => self.record(line, tag, is_empty, sink)?,
                    "MetadataEntry" => self.metadata(tag),
                    name @ ("Correlation" | "Workout") if !is_empty => self.enter(line, name),
                    _ => {}
                }
            }
            Event::End(tag) => match tag.name().as_ref() {
                "Record" => self.close(sink)?,
                "Correlation" | "Workout" => self.leave(),
                "HealthData" => {
                    self.close(sink)?;
                    self.check_others()?;
                    self.has_ended = true;
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    /// A piece that began like this was too long to be kept.
    fn skipped(
        &mut self,
        line: u64,
        begun: &[u8],
        is_empty: bool,
        sink: &mut Sink<'_>,
    ) -> Result<(), ReadError> {
        let tag = begun.strip_prefix(b"<").unwrap_or_default();
        match tag.split(|byte| byte.is_ascii_whitespace()).next() {
            Some(b"Record") => {
                self.close(sink)?;
                if self.other.is_some() {
                    return Ok(sink.pass_over()?);
                }
                let shown = begun.get(..MAX_SHOWN).unwrap_or(begun);
                let content = String::from_utf8_lossy(shown).into_owned();
                Ok(sink.reject(Rejection::new(line, "is longer than 4 MiB".to_owned(), content))?)
            }
            Some(name @ (b"Correlation" | b"Workout")) if !is_empty => {
                self.enter(line, &String::from_utf8_lossy(name));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, line: u64, name: &str) {
        self.other.get_or_insert_with(|| Other { line, name: name.to_owned(), depth: 0 }).depth += 1;
    }

    fn leave(&mut self) {
        let Some(other) = &mut self.other else { return };
        other.depth -= 1;
        if other.depth == 0 {
            self.other = None;
        }
    }

    /// Whether all of them were closed: what followed one that was not may have been ours.
    fn check_others(&self) -> Result<(), ReadError> {
        match &self.other {
            Some(Other { line, name, .. }) => {
                let why = format!("the element {name} that begins there has no end");
                Err(ReadError::Broken { line: *line, why })
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
        self.close(sink)?;
        if self.other.is_some() {
            return Ok(sink.pass_over()?);
        }
        let mut record = Record::default();
        let read = record.read(tag);
        let kind = match record.r#type.as_deref() {
            Some(HEART_RATE) => EntryKind::HeartRate,
            Some(CAFFEINE) => EntryKind::Coffee,
            // What cannot be read may have been ours.
            None if read.is_err() => EntryKind::HeartRate,
            _ => return Ok(sink.pass_over()?),
        };
        let entry = read.and_then(|()| record.entry(kind, self.zone));
        if is_empty {
            return Ok(sink.entry(line, entry, || shown(tag))?);
        }
        let content = if entry.is_err() { shown(tag) } else { String::new() };
        self.open = Some(Open { line, content, entry });
        Ok(())
    }

    fn close(&mut self, sink: &mut Sink<'_>) -> Result<(), ReadError> {
        match self.open.take() {
            Some(open) => Ok(sink.entry(open.line, open.entry, || open.content)?),
            None => Ok(()),
        }
    }

    /// The motion context of a heart rate: 1 is sedentary, 2 is active, 0 is not set.
    fn metadata(&mut self, tag: &BytesStart<'_>) {
        let Some(Open { entry: Ok(Entry::Reading(reading)), .. }) = &mut self.open else { return };
        let (mut is_motion, mut context) = (false, None);
        for attribute in tag.attributes().with_checks(false).flatten() {
            match attribute.key.as_ref() {
                "key" => is_motion = attribute.value == MOTION,
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
            reading.context = context.map(str::to_owned);
        }
    }
}

fn shown(tag: &BytesStart<'_>) -> String {
    format!("<{}>", &**tag)
}

/// The attributes of a record that matter.
#[derive(Default)]
struct Record<'t> {
    r#type: Option<Cow<'t, str>>,
    source: Option<Cow<'t, str>>,
    unit: Option<Cow<'t, str>>,
    start: Option<Cow<'t, str>>,
    value: Option<Cow<'t, str>>,
}

impl<'t> Record<'t> {
    fn read(&mut self, tag: &'t BytesStart<'_>) -> Result<(), String> {
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
            // The type comes first; most records are of no interest.
            if !matches!(self.r#type.as_deref(), None | Some(HEART_RATE | CAFFEINE)) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn entry(&self, kind: EntryKind, zone: &Zone) -> Result<Entry, String> {
        let start = self.start.as_deref().ok_or("startDate is missing")?;
        let timestamp = Timestamp::parse_lenient(start, zone)
            .or_else(|| zone.parse(start).ok())
            .ok_or_else(|| format!("startDate: must be a date and time (got {start:?})"))?;
        let value = self.value.as_deref().ok_or("value is missing")?;
        let number =
            import_row::number(value).ok_or_else(|| format!("value: must be a number (got {value:?})"))?;
        let source = self.source.as_deref().and_then(import_row::source);
        let unit = self.unit.as_deref().unwrap_or_default();
        Ok(match kind {
            EntryKind::HeartRate => {
                let beats = match unit {
                    "count/min" => number,
                    "count/s" => number * 60.0,
                    other => return Err(format!("unit: must be count/min or count/s (got {other:?})")),
                };
                let bpm = import_row::pulse(beats)?;
                Entry::Reading(ReadingEntry { id: None, timestamp, bpm, context: None, notes: None, source })
            }
            EntryKind::Coffee => {
                let mg = match unit {
                    "mg" => number,
                    "g" => to_micrograms(number * 1000.0),
                    "mcg" | "\u{b5}g" | "\u{3bc}g" => to_micrograms(number / 1000.0),
                    other => return Err(format!("unit: must be mg, g or mcg (got {other:?})")),
                };
                let caffeine_mg = import_row::dose(mg)?;
                Entry::Coffee(CoffeeEntry {
                    id: None,
                    timestamp,
                    caffeine_mg,
                    coffee_type: None,
                    notes: None,
                    source,
                })
            }
        })
    }
}

/// Without the last binary digits of a conversion: 0.0621 g are 62.1 mg.
fn to_micrograms(mg: f64) -> f64 {
    (mg * 1000.0).round() / 1000.0
}
