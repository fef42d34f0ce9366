//! How cost grows with the file: ten years of ten thousand, a hundred thousand, a million and five million
//! readings, and coffees in proportion. Each question goes to the server, to naive SQL over the same
//! file, and to bare Rocket with an answer of as many bytes; one client, warm, the median of each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use coffee_tracker::domain::time::{DAY, Timestamp};

use crate::http::{Client, get};
use crate::naive::Naive;
use crate::report::{Report, median, thousands};
use crate::scale::Answers;
use crate::server::{Demo, KEY, Limits, Server, Setup, start_bare};
use crate::{naive, scale};

/// Days, coffees a day and readings a day of each file.
const SIZES: [Demo; 4] = [
    Demo { days: 3650, coffees_per_day: 0.056, readings_per_day: 3 },
    Demo { days: 3650, coffees_per_day: 0.53, readings_per_day: 28 },
    Demo { days: 3650, coffees_per_day: 5.3, readings_per_day: 274 },
    scale::LARGE,
];

/// What is asked of both.
struct Question {
    path: &'static str,
    naive: Naive,
    since: Since,
}

/// Where the naive question begins.
#[derive(Clone, Copy)]
enum Since {
    Days(i64),
    /// A fifth of all readings come first.
    Fifth,
}

#[rustfmt::skip]
const QUESTIONS: [Question; 10] = {
    use Since::{Days, Fifth};
    [
        Question { path: "/heartrate/stats?days=365", naive: naive::STATISTICS, since: Days(365) },
        Question { path: "/heartrate/stats?days=3650", naive: naive::STATISTICS, since: Days(3650) },
        Question { path: "/heartrate/range?start=YEAR&end=NOW&buckets=500", naive: naive::RANGE, since: Days(365) },
        Question { path: "/heartrate/correlation?days=365", naive: naive::CORRELATION, since: Days(365) },
        Question { path: "/coffee/stats?days=365", naive: naive::COFFEES, since: Days(365) },
        Question { path: "/coffee/stats?days=3650", naive: naive::COFFEES, since: Days(3650) },
        Question { path: "/coffee/today", naive: naive::TODAY, since: Days(1) },
        Question { path: "/heartrate/current", naive: naive::CURRENT, since: Days(0) },
        Question { path: "/heartrate/?limit=50", naive: naive::PAGE, since: Days(0) },
        Question { path: "/heartrate/?limit=50&offset=FIFTH", naive: naive::DEEP_PAGE, since: Fifth },
    ]
};

/// One file's part of the table: for each question our own time, naive's, in milliseconds.
struct Column {
    readings: i64,
    cells: Vec<(f64, f64)>,
}

/// Measures all sizes and notes the table; gives the largest file, and what its server answered.
///
/// # Errors
/// A file cannot be made, or a server does not come up or answer.
pub fn growth(setup: &Setup, report: &mut Report) -> Result<PathBuf> {
    let mut columns = Vec::new();
    let (mut trips, mut largest) = (Vec::new(), PathBuf::new());
    let sizes = if setup.quick { SIZES.get(..2).unwrap_or_default() } else { &SIZES };
    for (number, size) in sizes.iter().enumerate() {
        eprintln!("  ten years of {} readings", thousands((size.days * size.readings_per_day) as f64));
        let database = setup.make_demo(&format!("scale-{number}.db"), *size)?;
        let server = Server::start(setup, &database, Limits::Off)?;
        let column = Column::measure(&server, &database)?;
        if number + 1 == sizes.len() {
            trips = compare_with_bare(&server, column.readings)?;
        }
        server.stop()?;
        columns.push(column);
        if number > 0 {
            setup.remove(&largest)?;
        }
        largest = database;
    }
    report.note(table(&columns, &trips));
    Ok(largest)
}

impl Column {
    fn measure(server: &Server, database: &Path) -> Result<Self> {
        let connection = naive::open(database)?;
        let count = "select count(*) from heart_rate_logs";
        let readings: i64 = connection.query_one(count, [], |row| row.get(0))?;
        let mut cells = Vec::new();
        for question in &QUESTIONS {
            let now = scale::now()?;
            let ours = Answers::of(server, &request(question, readings, now))?.own_millis();
            let since = match question.since {
                Since::Days(days) => now.minus(days * DAY).micros(),
                Since::Fifth => readings / 5,
            };
            let theirs = naive_millis(|| question.naive.ask(&connection, since, now.micros()))?;
            cells.push((ours, theirs));
        }
        Ok(Self { readings, cells })
    }
}

fn request(question: &Question, readings: i64, now: Timestamp) -> Vec<u8> {
    let path = scale::with_times(question.path, now).replace("FIFTH", &(readings / 5).to_string());
    get(&path, KEY)
}

/// The median of several calls, after one that warms up; few when they are long.
fn naive_millis(mut ask: impl FnMut() -> Result<()>) -> Result<f64> {
    const ENOUGH: Duration = Duration::from_millis(500);
    ask()?;
    let (began, mut millis) = (Instant::now(), Vec::new());
    while millis.is_empty() || millis.len() < 101 && began.elapsed() < ENOUGH {
        let own = Instant::now();
        ask()?;
        millis.push(own.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(millis))
}

/// For each question: the round trip to us, and to bare with as many bytes, in milliseconds.
fn compare_with_bare(server: &Server, readings: i64) -> Result<Vec<(f64, f64)>> {
    let mut trips = Vec::new();
    for question in &QUESTIONS {
        let request = request(question, readings, scale::now()?);
        let ours = Answers::of(server, &request)?;
        let (_process, bare) = start_bare(ours.bytes)?;
        let bare = Answers::from(&mut Client::connect(bare)?, &request)?;
        trips.push((ours.trip_millis(), bare.trip_millis()));
    }
    Ok(trips)
}

/// Lines of questions, columns of sizes; ours and naive side by side.
fn table(columns: &[Column], trips: &[(f64, f64)]) -> String {
    let width = QUESTIONS.iter().map(|question| question.path.len()).max().unwrap_or(0);
    let mut text = format!("{:<width$}", "Ten years of readings, median ms");
    for column in columns {
        text.push_str(&format!("{:>20}", thousands(column.readings as f64)));
    }
    text.push_str(&format!("{:>20}\n{:<width$}", "round trips", ""));
    for _ in columns {
        text.push_str(&format!("{:>10}{:>10}", "ours", "naive"));
    }
    text.push_str(&format!("{:>10}{:>10}", "ours", "bare"));
    for (row, question) in QUESTIONS.iter().enumerate() {
        text.push_str(&format!("\n{:<width$}", question.path));
        let cells = columns.iter().map(|column| column.cells.get(row)).chain([trips.get(row)]);
        for (ours, other) in cells.flatten() {
            text.push_str(&format!("{:>10}{:>10}", shown(*ours), shown(*other)));
        }
    }
    text.push_str(
        "\nours: the answer's own time (X-Process-Time); naive: plain SQL over the raw rows of the same file;\n\
         round trips: of one client, to us with the largest file, and to bare Rocket with an answer as long.",
    );
    text
}

fn shown(millis: f64) -> String {
    match millis {
        0.0..1.0 => format!("{millis:.3}"),
        1.0..100.0 => format!("{millis:.1}"),
        _ => thousands(millis),
    }
}
