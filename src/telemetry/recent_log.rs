//! The last warnings and errors of this process, for the owner to read in the browser.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use utoipa::ToSchema;

use crate::domain::text;
use crate::domain::time::Timestamp;

/// Maximum number of lines that are kept.
const MAX_LINES: usize = 50;
/// Maximum length of a line in characters.
const MAX_LENGTH: usize = 500;

/// Line of the log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RecentLine {
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `warning` or `error`.
    pub level: &'static str,
    pub message: String,
}

/// Layer that keeps warnings and errors.
#[derive(Clone, Debug, Default)]
pub struct RecentLog(Arc<Mutex<VecDeque<RecentLine>>>);

impl RecentLog {
    /// Returns the last warnings and errors, newest first.
    pub fn lines(&self) -> Vec<RecentLine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl<S: Subscriber> Layer<S> for RecentLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => return,
        };
        let mut message = Message::default();
        event.record(&mut message);
        let message = text::shorten(message.0.trim(), MAX_LENGTH).into_owned();
        let line = RecentLine { at: Timestamp::from(SystemTime::now()), level, message };
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_front(line);
        lines.truncate(MAX_LINES);
    }
}

/// Text of an event: the message, then the fields.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 = match field.name() {
            "message" => format!("{value:?}{}", self.0),
            name => format!("{} {name}={value:?}", self.0),
        };
    }
}
