//! Growth of the response time with the data: ten years with ten thousand, a hundred thousand, a million and
//! five million readings, and coffees in proportion.
//!
//! Each route is compared with plain SQL over the same database and with bare Rocket and a response of the
//! same size: one client, after a warmup, the median of each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use coffee_tracker::domain::time::{DAY, Timestamp};

use crate::http::{Client, get};
use crate::numbers::{median, thousands};
use crate::plain_sql::PlainSql;
use crate::report::Report;
use crate::scale::RouteTimes;
use crate::server::{Demo, KEY, Limits, Server, Setup, TEN_YEARS, start_bare};
use crate::{plain_sql, scale};

/// Contents of each database.
const SIZES: [Demo; 4] = [
    Demo { days: 3650, coffees_per_day: 0.056, readings_per_day: 3 },
    Demo { days: 3650, coffees_per_day: 0.53, readings_per_day: 28 },
    Demo { days: 3650, coffees_per_day: 5.3, readings_per_day: 274 },
    TEN_YEARS,
];

/// Index of [`TEN_YEARS`].
const LARGEST: usize = SIZES.len() - 1;

/// A route of the server and the plain SQL with the same result.
struct Route {
    path: &'static str,
    sql: PlainSql,
    since: Since,
}

/// Value of the parameter `:since` of plain SQL.
#[derive(Clone, Copy)]
enum Since {
    /// Start of the period: so many days ago.
    Days(i64),
    /// Offset of a page: a fifth of all readings.
    Fifth,
}

#[rustfmt::skip]
const ROUTES: [Route; 10] = {
    use Since::{Days, Fifth};
    [
        Route { path: "/heartrate/stats?days=365", sql: plain_sql::STATISTICS, since: Days(365) },
        Route { path: "/heartrate/stats?days=3650", sql: plain_sql::STATISTICS, since: Days(3650) },
        Route { path: "/heartrate/range?start=YEAR&end=NOW&buckets=500", sql: plain_sql::RANGE, since: Days(365) },
        Route { path: "/heartrate/correlation?days=365", sql: plain_sql::CORRELATION, since: Days(365) },
        Route { path: "/coffee/stats?days=365", sql: plain_sql::COFFEES, since: Days(365) },
        Route { path: "/coffee/stats?days=3650", sql: plain_sql::COFFEES, since: Days(3650) },
        Route { path: "/coffee/today", sql: plain_sql::TODAY, since: Days(1) },
        Route { path: "/heartrate/current", sql: plain_sql::CURRENT, since: Days(0) },
        Route { path: "/heartrate/?limit=50", sql: plain_sql::PAGE, since: Days(0) },
        Route { path: "/heartrate/?limit=50&offset=FIFTH", sql: plain_sql::DEEP_PAGE, since: Fifth },
    ]
};

/// Columns of the table for one database: for each route the time of the server and that of plain SQL, in
/// milliseconds.
struct Column {
    readings: i64,
    cells: Vec<(f64, f64)>,
}

/// Measures all sizes, adds the table to the report and returns the largest database.
pub fn growth(setup: &Setup, report: &mut Report) -> Result<PathBuf> {
    let mut columns = Vec::new();
    let (mut trips, mut largest) = (Vec::new(), PathBuf::new());
    let sizes = if setup.length.is_quick() { SIZES.get(..2).unwrap_or_default() } else { &SIZES };
    for (number, size) in sizes.iter().enumerate() {
        eprintln!("  ten years of {} readings", thousands((size.days * size.readings_per_day) as f64));
        let name = format!("scale-{number}.db");
        let database = match number {
            LARGEST => setup.copy_of_ten_years(&name)?,
            _ => setup.make_demo(&name, *size)?,
        };
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
        let connection = plain_sql::open(database)?;
        let count = "select count(*) from heart_rate_logs";
        let readings: i64 = connection.query_one(count, [], |row| row.get(0))?;
        let mut cells = Vec::new();
        for route in &ROUTES {
            let now = scale::now()?;
            let server_millis =
                RouteTimes::of_server(server, &request(route, readings, now))?.process_millis();
            let since = match route.since {
                Since::Days(days) => now.minus(days * DAY).micros(),
                Since::Fifth => readings / 5,
            };
            let plain_sql_millis = measure_sql(|| route.sql.run(&connection, since, now.micros()))?;
            cells.push((server_millis, plain_sql_millis));
        }
        Ok(Self { readings, cells })
    }
}

fn request(route: &Route, readings: i64, now: Timestamp) -> Vec<u8> {
    let path = scale::with_times(route.path, now).replace("FIFTH", &(readings / 5).to_string());
    get(&path, KEY)
}

/// Returns the median of up to 101 runs within half a second, after one warmup run.
fn measure_sql(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    const TIME_LIMIT: Duration = Duration::from_millis(500);
    run()?;
    let (began, mut millis) = (Instant::now(), Vec::new());
    while millis.is_empty() || millis.len() < 101 && began.elapsed() < TIME_LIMIT {
        let start = Instant::now();
        run()?;
        millis.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(millis))
}

/// Returns for each route the round trip to the server and that to bare Rocket, in milliseconds.
fn compare_with_bare(server: &Server, readings: i64) -> Result<Vec<(f64, f64)>> {
    let mut trips = Vec::new();
    for route in &ROUTES {
        let request = request(route, readings, scale::now()?);
        let server_times = RouteTimes::of_server(server, &request)?;
        let (_process, bare) = start_bare(server_times.bytes)?;
        let bare_times = RouteTimes::measure(&mut Client::connect(bare)?, &request)?;
        trips.push((server_times.round_trip_millis(), bare_times.round_trip_millis()));
    }
    Ok(trips)
}

/// Formats the table: a row per route, and two columns per database.
fn table(columns: &[Column], trips: &[(f64, f64)]) -> String {
    let width = ROUTES.iter().map(|route| route.path.len()).max().unwrap_or(0);
    let mut text = format!("{:<width$}", "Ten years of readings, median ms");
    for column in columns {
        text.push_str(&format!("{:>20}", thousands(column.readings as f64)));
    }
    text.push_str(&format!("{:>20}\n{:<width$}", "round trips", ""));
    for _ in columns {
        text.push_str(&format!("{:>10}{:>10}", "server", "SQL"));
    }
    text.push_str(&format!("{:>10}{:>10}", "server", "bare"));
    for (row, route) in ROUTES.iter().enumerate() {
        text.push_str(&format!("\n{:<width$}", route.path));
        let cells = columns.iter().map(|column| column.cells.get(row)).chain([trips.get(row)]);
        for (server, other) in cells.flatten() {
            text.push_str(&format!("{:>10}{:>10}", format_millis(*server), format_millis(*other)));
        }
    }
    text.push_str(
        "\nserver: X-Process-Time; SQL: plain SQL over the rows of the same database;\n\
         round trips: of one client, with the largest database; bare Rocket returns as many bytes.",
    );
    text
}

fn format_millis(millis: f64) -> String {
    match millis {
        0.0..1.0 => format!("{millis:.3}"),
        1.0..100.0 => format!("{millis:.1}"),
        _ => thousands(millis),
    }
}
