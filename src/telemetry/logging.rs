//! Log lines on standard error: text for people, JSON for collectors, or with journald's
//! priorities. Rocket's own lines come in here too; what it says about single requests is
//! left out, for the one line of ours says it.

use std::fmt;
use std::fmt::Write;
use std::os::fd::AsFd;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogSettings};
use crate::domain::time::Timestamp;

/// Does this stream go to systemd's journal? `JOURNAL_STREAM` holds its device and inode.
pub fn is_journal(stream: impl AsFd) -> bool {
    let (Ok(journal), Ok(file)) = (std::env::var("JOURNAL_STREAM"), rustix::fs::fstat(stream)) else {
        return false;
    };
    journal == format!("{}:{}", file.st_dev, file.st_ino)
}

/// Says why the program failed, at the end of it. In the journal every line of it is an error.
pub fn last_words(failure: &impl fmt::Display) {
    let start = if is_journal(std::io::stderr()) { "<3>" } else { "" };
    for line in format!("coffee-tracker: {failure}").lines() {
        eprintln!("{start}{line}");
    }
}

/// Lets commands say what is wrong, as they say everything else. Called once, for all but `serve`.
pub fn start_for_command() {
    let start = if is_journal(std::io::stderr()) { Start::Priority } else { Start::Command };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(Line { start });
    // Only a second call could fail.
    drop(tracing_subscriber::registry().with(wanted(Level::WARN)).with(lines).try_init());
}

/// Starts logging. Called once, before anything logs.
///
/// # Errors
/// When logging was started before.
pub fn start(settings: LogSettings) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let base = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match settings.format {
        LogFormat::Json => base
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_timer(Utc)
            .boxed(),
        LogFormat::Text => base.event_format(Line { start: Start::Time }).boxed(),
        LogFormat::Journald => base.event_format(Line { start: Start::Priority }).boxed(),
    };
    tracing_subscriber::registry().with(wanted(settings.level)).with(layer).try_init()?;
    tracing_log::LogTracer::builder().with_max_level(log_level(settings.level)).init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(place, "panic: {}", text.unwrap_or("(no message)"));
    }));
    Ok(())
}

fn wanted(level: Level) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |metadata| {
        let target = metadata.target();
        // Our own; of the others (through `log`) what is worse than a warning.
        *metadata.level() <= level
            && (target.starts_with("coffee_tracker")
                || target == "request"
                || (*metadata.level() == Level::ERROR && !target.starts_with("rocket")))
    })
}

/// The `log` crate's ceiling: other crates' chatter costs nothing below it.
fn log_level(level: Level) -> tracing_log::log::LevelFilter {
    match level {
        Level::TRACE | Level::DEBUG => tracing_log::log::LevelFilter::Warn,
        _ => tracing_log::log::LevelFilter::Error,
    }
}

/// The time in UTC with microseconds.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(Timestamp::from(std::time::SystemTime::now()).text().as_str())
    }
}

/// How a line begins.
#[derive(Clone, Copy)]
enum Start {
    Time,
    /// The journal keeps the time itself.
    Priority,
    /// As commands begin what they say on standard error.
    Command,
}

/// One line of text: its start, level, fields, message.
struct Line {
    start: Start,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (priority, name) = match *event.metadata().level() {
            Level::ERROR => (3, "ERROR"),
            Level::WARN => (4, "WARNING"),
            Level::INFO => (6, "INFO"),
            _ => (7, "DEBUG"),
        };
        match self.start {
            Start::Priority => write!(w, "<{priority}>")?,
            Start::Command => write!(w, "coffee-tracker: {}: ", name.to_ascii_lowercase())?,
            Start::Time => {
                Utc.format_time(&mut w)?;
                write!(w, " {name:7} ")?;
            }
        }
        let mut fields = Fields { line: OneLine(w.by_ref()), outcome: Ok(()) };
        event.record(&mut fields);
        fields.outcome?;
        writeln!(w)
    }
}

/// Writes an event's message and its fields as ` name=value`. A value that could be
/// mistaken for something else is quoted.
struct Fields<'w> {
    line: OneLine<'w>,
    outcome: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let line = &mut self.line;
        self.outcome = self.outcome.and_then(|()| match field.name() {
            "message" => line.write_fmt(value),
            name => {
                line.write_str(" ")?;
                line.write_str(name)?;
                line.write_str("=")?;
                line.write_fmt(value)
            }
        });
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain =
            !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'='));
        if is_plain || field.name() == "message" {
            self.write(field, format_args!("{value}"));
        } else {
            self.write(field, format_args!("{value:?}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, format_args!("{value:?}"));
    }
}

/// Keeps an event on its line: what would end it is escaped.
struct OneLine<'w>(Writer<'w>);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().any(|b| b.is_ascii_control()) {
            write!(self.0, "{}", text.escape_debug())
        } else {
            self.0.write_str(text)
        }
    }
}
