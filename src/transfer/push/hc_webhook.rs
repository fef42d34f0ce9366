//! Pushes of HC Webhook, an Android app that reads Health Connect: heart rates and resting heart rates.

use std::io::Read;

use serde::de::MapAccess;

use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::ValidationContext;
use crate::transfer::push::json::{CountItems, ItemMembers, List, ObjectMembers, read_document};
use crate::transfer::push::parsed_push::{ParsedPush, PushError, SampleCheck, SourceNames, number, reading};

/// Source of the samples; the app names none.
const SOURCE: &str = "HC Webhook";
/// Members of which at least one is in every push.
const MARKS: [&str; 5] = ["timestamp", "app_version", "test", HEART_RATE, RESTING_HEART_RATE];
const HEART_RATE: &str = "heart_rate";
const RESTING_HEART_RATE: &str = "resting_heart_rate";
/// Members of a sample that are used. `avg` is the mean of an interval, which the app sends at a lower resolution.
const SAMPLE_MEMBERS: [&str; 3] = ["time", "bpm", "avg"];

/// Reads a push.
///
/// # Errors
/// The body is not valid JSON, or not a push of this app.
pub fn read(input: impl Read, context: &ValidationContext<'_>) -> Result<ParsedPush, PushError> {
    let mut document = HcWebhookDocument {
        push: ParsedPush::default(),
        check: SampleCheck(context),
        sources: SourceNames::of_app(SOURCE),
        is_recognized: false,
    };
    read_document(input, &mut document)?;
    if !document.is_recognized {
        let message = "must be the JSON of HC Webhook: an object with timestamp, app_version or heart_rate";
        return Err(PushError::OtherContent(message.to_owned()));
    }
    Ok(if document.push.is_test {
        ParsedPush { is_test: true, ..ParsedPush::default() }
    } else {
        document.push
    })
}

struct HcWebhookDocument<'c> {
    push: ParsedPush,
    check: SampleCheck<'c>,
    sources: SourceNames,
    is_recognized: bool,
}

impl ObjectMembers for HcWebhookDocument<'_> {
    fn member<'de, M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        self.is_recognized |= MARKS.contains(&name);
        match name {
            HEART_RATE | RESTING_HEART_RATE => {
                let mut samples =
                    ItemMembers::new(SAMPLE_MEMBERS, |index, members| self.sample(name, index, members));
                map.next_value_seed(List(&mut samples)).map(drop)
            }
            "test" => {
                let value: JsonScalar = map.next_value()?;
                self.push.is_test =
                    value == JsonScalar::Bool(true) || value == JsonScalar::Text("true".to_owned());
                Ok(())
            }
            other => {
                let samples = map.next_value_seed(CountItems)?;
                self.push.ignore(other, samples);
                Ok(())
            }
        }
    }
}

impl HcWebhookDocument<'_> {
    fn sample(&mut self, metric: &str, index: u64, members: Option<[JsonScalar; SAMPLE_MEMBERS.len()]>) {
        let parsed =
            members.ok_or_else(|| "must be an object".to_owned()).and_then(|[time, single, mean]| {
                let bpm = if single.is_present() { single } else { mean };
                Ok((self.check.time("time", &time)?, self.check.bpm(number("bpm", &bpm)?)?))
            });
        match parsed {
            Ok((time, bpm)) => {
                let source = self.sources.get(&JsonScalar::Absent);
                self.push.samples.readings.push(reading(time, bpm, metric == RESTING_HEART_RATE, source));
            }
            Err(reason) => self.push.reject(metric, index, reason),
        }
    }
}
