//! Pushes of Health Auto Export, an app for iOS, in version 2 of its JSON: heart rate, resting heart rate and
//! caffeine.

use std::io::Read;
use std::sync::Arc;

use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::ValidationContext;
use crate::domain::sample::CoffeeSample;
use crate::domain::text;
use crate::domain::time::Timestamp;
use crate::transfer::formats::import_row::to_milligrams;
use crate::transfer::push::json::{
    CountItems, ItemMembers, List, ListItems, Object, ObjectMembers, read_document,
};
use crate::transfer::push::parsed_push::{
    MAX_LISTED_REJECTIONS, ParsedPush, PushError, SampleCheck, SourceNames, number, reading,
};

/// Source of samples that name none.
const SOURCE: &str = "Health Auto Export";
/// Maximum length of the name or the unit of a metric, in characters; the rest is cut.
const MAX_TEXT: usize = 60;
/// Members of a sample that are used. `Avg` is the mean of an interval, `qty` a single value.
const SAMPLE_MEMBERS: [&str; 5] = ["date", "Avg", "avg", "qty", "source"];

/// Reads a push.
///
/// # Errors
/// The body is not valid JSON, or not a push of this app.
pub fn read(input: impl Read, context: &ValidationContext<'_>) -> Result<ParsedPush, PushError> {
    let mut document = HealthAutoExportDocument {
        metrics: MetricList {
            push: ParsedPush::default(),
            check: SampleCheck(context),
            sources: SourceNames::of_app(SOURCE),
        },
        has_data: false,
    };
    read_document(input, &mut document)?;
    if !document.has_data {
        let message = "must be the JSON of Health Auto Export: an object with an object `data`";
        return Err(PushError::OtherContent(message.to_owned()));
    }
    Ok(document.metrics.push)
}

/// The whole document: `{"data": {…}}`.
struct HealthAutoExportDocument<'c> {
    metrics: MetricList<'c>,
    has_data: bool,
}

impl ObjectMembers for HealthAutoExportDocument<'_> {
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "data" => self.has_data |= map.next_value_seed(Object(&mut self.metrics))?,
            other => {
                let samples = map.next_value_seed(CountItems)?;
                self.metrics.push.ignore(other, samples);
            }
        }
        Ok(())
    }
}

/// The object `data` with its list of metrics, and what was read of it so far.
struct MetricList<'c> {
    push: ParsedPush,
    check: SampleCheck<'c>,
    sources: SourceNames,
}

impl ObjectMembers for MetricList<'_> {
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        if name == "metrics" {
            return map.next_value_seed(List(self)).map(drop);
        }
        let samples = map.next_value_seed(CountItems)?;
        self.push.ignore(name, samples);
        Ok(())
    }
}

impl ListItems for MetricList<'_> {
    fn item<'de, A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let mut metric =
            MetricReader { metrics: self, name: None, units: None, pending: Pending::default(), ignored: 0 };
        let is_item = list.next_element_seed(Object(&mut metric))?.is_some();
        metric.finish();
        Ok(is_item)
    }
}

/// Metric that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metric {
    HeartRate { is_resting: bool },
    Caffeine,
}

impl Metric {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "heart_rate" => Some(Self::HeartRate { is_resting: false }),
            "resting_heart_rate" => Some(Self::HeartRate { is_resting: true }),
            "dietary_caffeine" | "caffeine" => Some(Self::Caffeine),
            _ => None,
        }
    }
}

/// One metric. Its members come in any order, so the samples may precede their name and unit.
struct MetricReader<'m, 'c> {
    metrics: &'m mut MetricList<'c>,
    name: Option<String>,
    units: Option<String>,
    pending: Pending,
    /// Samples of a metric that is not stored.
    ignored: u64,
}

/// Samples that were read before the name and the unit of their metric.
#[derive(Default)]
struct Pending {
    samples: Vec<(u64, ParsedSample)>,
    /// The first [`MAX_LISTED_REJECTIONS`] samples that cannot be stored, with the reasons.
    rejected: Vec<(u64, String)>,
    rejected_count: u64,
}

/// Sample before the conversion of its unit.
struct ParsedSample {
    time: Timestamp,
    amount: f64,
    source: Arc<str>,
}

impl ObjectMembers for MetricReader<'_, '_> {
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        match name {
            "name" => self.name = text_of(map.next_value()?),
            "units" => self.units = text_of(map.next_value()?).map(|units| units.to_lowercase()),
            "data" if self.is_ignored() => self.ignored += map.next_value_seed(CountItems)?,
            "data" => {
                let mut samples =
                    ItemMembers::new(SAMPLE_MEMBERS, |index, members| self.sample(index, members));
                map.next_value_seed(List(&mut samples))?;
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// Returns the beginning of a text.
fn text_of(value: JsonScalar) -> Option<String> {
    if let JsonScalar::Text(text) = value {
        Some(text::shorten(text.trim(), MAX_TEXT).into_owned())
    } else {
        None
    }
}

impl MetricReader<'_, '_> {
    /// Reports whether the name is known and is that of a metric that is not stored.
    fn is_ignored(&self) -> bool {
        self.name.as_deref().is_some_and(|name| Metric::from_name(name).is_none())
    }

    fn sample(&mut self, index: u64, members: Option<[JsonScalar; SAMPLE_MEMBERS.len()]>) {
        let parsed = self.parse(members);
        match (self.name.as_deref().map(Metric::from_name), &self.units) {
            (Some(Some(metric)), Some(units)) => {
                let units = units.clone();
                self.store(metric, &units, index, parsed);
            }
            _ => match parsed {
                Ok(sample) => self.pending.samples.push((index, sample)),
                Err(reason) => {
                    self.pending.rejected_count += 1;
                    if self.pending.rejected.len() < MAX_LISTED_REJECTIONS {
                        self.pending.rejected.push((index, reason));
                    }
                }
            },
        }
    }

    fn parse(&mut self, members: Option<[JsonScalar; SAMPLE_MEMBERS.len()]>) -> Result<ParsedSample, String> {
        let [date, mean, mean_in_lower_case, single, source] = members.ok_or("must be an object")?;
        let time = self.metrics.check.time("date", &date)?;
        let mean = if mean.is_present() { mean } else { mean_in_lower_case };
        let amount = match (mean.as_number(), single.is_present()) {
            (Some(mean), _) => mean,
            (None, true) => number("qty", &single)?,
            (None, false) if mean.is_present() => return Err("Avg: must be a number".to_owned()),
            (None, false) => return Err("Avg or qty is missing".to_owned()),
        };
        Ok(ParsedSample { time, amount, source: self.metrics.sources.get(&source) })
    }

    /// Adds a sample to the push, or rejects it.
    fn store(&mut self, metric: Metric, units: &str, index: u64, parsed: Result<ParsedSample, String>) {
        let MetricList { push, check, .. } = &mut *self.metrics;
        let stored = parsed.and_then(|ParsedSample { time, amount, source }| {
            match metric {
                Metric::HeartRate { is_resting } => {
                    let bpm = check.bpm(beats_per_minute(amount, units)?)?;
                    push.samples.readings.push(reading(time, bpm, is_resting, source));
                }
                Metric::Caffeine => {
                    let units = if units.is_empty() { "mg" } else { units };
                    let caffeine_mg = check.dose(to_milligrams(amount, units)?)?;
                    push.samples.coffees.push(CoffeeSample { timestamp: time, caffeine_mg, source });
                }
            }
            Ok(())
        });
        if let Err(reason) = stored {
            push.reject(self.name.as_deref().unwrap_or_default(), index, reason);
        }
    }

    /// Adds the samples that were read before name and unit, or counts those of a metric that is not stored.
    fn finish(mut self) {
        let pending = std::mem::take(&mut self.pending);
        let units = self.units.take().unwrap_or_default();
        match self.name.as_deref().and_then(Metric::from_name) {
            Some(metric) => {
                self.metrics.push.rejected_count += pending.rejected_count - pending.rejected.len() as u64;
                let rejected = pending.rejected.into_iter().map(|(index, reason)| (index, Err(reason)));
                let samples = pending.samples.into_iter().map(|(index, sample)| (index, Ok(sample)));
                for (index, parsed) in rejected.chain(samples) {
                    self.store(metric, &units, index, parsed);
                }
            }
            None => {
                let name = self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or("unnamed");
                let samples = self.ignored + pending.samples.len() as u64 + pending.rejected_count;
                self.metrics.push.ignore(name, samples);
            }
        }
    }
}

/// Converts a heart rate to beats per minute. Without a unit, it is taken for that.
fn beats_per_minute(amount: f64, units: &str) -> Result<f64, String> {
    match units {
        "" | "bpm" | "count/min" => Ok(amount),
        "count/s" => Ok(amount * 60.0),
        other => Err(format!("unit: must be bpm, count/min or count/s (got {other:?})")),
    }
}
