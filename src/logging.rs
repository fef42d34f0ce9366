//! Log lines on standard error: text for people, JSON for collectors, or with journald's
//! priorities. Rocket's own lines come in here too; what it says about single requests is
//! left out, for the one line of ours says it.

use std::fmt;

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogSettings};
use crate::model::time::Timestamp;

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
        LogFormat::Text => base.event_format(Line { priorities: false }).boxed(),
        LogFormat::Journald => base.event_format(Line { priorities: true }).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(wanted(settings.level))).try_init()?;
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
        write!(w, "{}", Timestamp::from(std::time::SystemTime::now()))
    }
}

/// One line of text: time, level, fields, message. Under journald the priority comes
/// first and the time, which the journal keeps itself, is left out.
struct Line {
    priorities: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (priority, name) = match *event.metadata().level() {
            Level::ERROR => (3, "ERROR"),
            Level::WARN => (4, "WARNING"),
            Level::INFO => (6, "INFO"),
            _ => (7, "DEBUG"),
        };
        if self.priorities {
            write!(w, "<{priority}>")?;
        } else {
            Utc.format_time(&mut w)?;
            write!(w, " {name:7} ")?;
        }
        ctx.format_fields(w.by_ref(), event)?;
        writeln!(w)
    }
}
