//! Log output on standard error: text, JSON, or text with journald's priorities.
//!
//! Other crates log through here, too. Rocket's lines about single requests are dropped, because every request
//! has a line of our own.

use std::fmt;
use std::fmt::Write;
use std::os::fd::AsFd;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;
use crate::domain::time::Timestamp;
use crate::telemetry::recent_log::RecentLog;

/// Reports whether a stream goes to systemd's journal, whose device and inode are in `JOURNAL_STREAM`.
pub fn is_journal(stream: impl AsFd) -> bool {
    let (Ok(journal), Ok(file)) = (std::env::var("JOURNAL_STREAM"), rustix::fs::fstat(stream)) else {
        return false;
    };
    journal == format!("{}:{}", file.st_dev, file.st_ino)
}

/// Prints the error that ends the program. In the journal, every line of it has the priority of an error.
pub fn print_failure(failure: &impl fmt::Display) {
    let prefix = if is_journal(std::io::stderr()) { "<3>" } else { "" };
    for line in format!("coffee-tracker: {failure}").lines() {
        eprintln!("{prefix}{line}");
    }
}

/// Starts logging of warnings for every command but `serve`.
pub fn start_for_command() {
    let prefix = if is_journal(std::io::stderr()) { LinePrefix::Priority } else { LinePrefix::Command };
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(LineFormat { prefix });
    // Fails only when logging has been started before.
    drop(tracing_subscriber::registry().with(level_filter(Level::WARN)).with(lines).try_init());
}

/// Minimum level of the lines that are logged, which can be changed at any time.
#[derive(Clone, Debug)]
pub struct MinLogLevel(reload::Handle<LevelFilter, Registry>);

impl MinLogLevel {
    pub fn set(&self, level: Level) {
        if let Err(e) = self.0.reload(level_filter(level)) {
            tracing::warn!("the log level could not be changed: {e}");
        }
        tracing_log::log::set_max_level(log_level(level));
    }
}

/// Starts logging for `serve`, and returns the layer that keeps the last warnings. Fails when logging has been started
/// before.
pub fn start(
    level: Level,
    format: LogFormat,
) -> Result<(RecentLog, MinLogLevel), Box<dyn std::error::Error + Send + Sync>> {
    let recent = RecentLog::default();
    let (filter, handle) = reload::Layer::new(level_filter(level));
    let base = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Json => base
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_timer(UtcTime)
            .boxed(),
        LogFormat::Text => base.event_format(LineFormat { prefix: LinePrefix::Time }).boxed(),
        LogFormat::Journald => base.event_format(LineFormat { prefix: LinePrefix::Priority }).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(layer).with(recent.clone()).try_init()?;
    tracing_log::LogTracer::builder().with_max_level(log_level(level)).init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(place, "panic: {}", text.unwrap_or("(no message)"));
    }));
    Ok((recent, MinLogLevel(handle)))
}

type LevelFilter = FilterFn<Box<dyn Fn(&Metadata<'_>) -> bool + Send + Sync>>;

fn level_filter(level: Level) -> LevelFilter {
    FilterFn::new(Box::new(move |metadata: &Metadata<'_>| {
        let target = metadata.target();
        // Lines of this program, and errors of other crates.
        *metadata.level() <= level
            && (target.starts_with("coffee_tracker")
                || target == "request"
                || (*metadata.level() == Level::ERROR && !target.starts_with("rocket")))
    }))
}

/// Returns the maximum level of the `log` crate, so that other crates do not format lines that are dropped.
fn log_level(level: Level) -> tracing_log::log::LevelFilter {
    match level {
        Level::TRACE | Level::DEBUG => tracing_log::log::LevelFilter::Warn,
        _ => tracing_log::log::LevelFilter::Error,
    }
}

/// Formatter of the time in UTC with microseconds.
struct UtcTime;

impl FormatTime for UtcTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(Timestamp::from(std::time::SystemTime::now()).text().as_str())
    }
}

/// Start of a line.
#[derive(Clone, Copy)]
enum LinePrefix {
    Time,
    /// Priority for the journal, which records the time itself.
    Priority,
    /// Program and level, like other messages of commands.
    Command,
}

/// Formatter of an event as one line of text.
struct LineFormat {
    prefix: LinePrefix,
}

impl<S, N> FormatEvent<S, N> for LineFormat
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
        match self.prefix {
            LinePrefix::Priority => write!(w, "<{priority}>")?,
            LinePrefix::Command => write!(w, "coffee-tracker: {}: ", name.to_ascii_lowercase())?,
            LinePrefix::Time => {
                UtcTime.format_time(&mut w)?;
                write!(w, " {name:7} ")?;
            }
        }
        let mut fields = FieldWriter { line: ControlEscaper(w.by_ref()), result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        writeln!(w)
    }
}

/// Writer of an event's message, and of its fields as ` name=value`. Ambiguous values are quoted.
struct FieldWriter<'w> {
    line: ControlEscaper<'w>,
    result: fmt::Result,
}

impl FieldWriter<'_> {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let line = &mut self.line;
        self.result = self.result.and_then(|()| match field.name() {
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

impl Visit for FieldWriter<'_> {
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

/// Writer that escapes control characters, so that an event stays on one line.
struct ControlEscaper<'w>(Writer<'w>);

impl Write for ControlEscaper<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().any(|b| b.is_ascii_control()) {
            write!(self.0, "{}", text.escape_debug())
        } else {
            self.0.write_str(text)
        }
    }
}
