//! Starts the application on a fresh database and asks it things.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use coffee_tracker::auth::owner_key::ApiKeys;
use coffee_tracker::backup::open::open_store;
use coffee_tracker::clock::Clock;
use coffee_tracker::config::SettingsArgs;
use coffee_tracker::db::store::Options;
use coffee_tracker::domain::calendar::Zone;
use coffee_tracker::domain::time::Timestamp;
use coffee_tracker::http::{App, SharedApp, rocket};
use rocket::http::{Header, Method};
use rocket::local::asynchronous::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The right key.
pub const KEY: &str = "the-right-key-of-these-tests";
/// The id that every request carries, so that whole answers can be compared.
pub const REQUEST_ID: &str = "test-1";
/// Where the clock stands at first, a Monday: 14:00 in Berlin.
pub const NOW: &str = "2026-06-01T12:00:00Z";

/// How an application is to be started.
pub struct Setup<'a> {
    pub now: &'a str,
    pub flags: &'a [(&'a str, &'a str)],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { now: NOW, flags: &[] }
    }
}

/// A running application.
pub struct TestApp {
    pub shared: SharedApp,
    pub clock: Clock,
    // The database goes with it.
    _folder: TempDir,
    client: Client,
}

/// An instant.
pub fn at(text: &str) -> Timestamp {
    Zone::utc().parse(text).unwrap_or_else(|why| panic!("{text} {why}"))
}

/// Every setting that somebody's environment might disturb.
const SETTINGS: [(&str, &str); 28] = [
    ("host", "127.0.0.1"),
    ("port", "0"),
    ("tz", "Europe/Berlin"),
    ("api-key-file", ""),
    ("log-level", "error"),
    ("allowed-hosts", ""),
    ("cors-origins", ""),
    ("trusted-proxies", ""),
    ("metrics-public", "false"),
    ("security-headers", "true"),
    ("max-request-body-bytes", "1048576"),
    ("request-timeout-seconds", "20"),
    ("max-caffeine-mg", "1000"),
    ("recommended-daily-caffeine-mg", "400"),
    ("bedtime", "23:00"),
    ("caffeine-half-life-hours", "5"),
    ("sleep-threshold-mg", "50"),
    ("usual-dose-mg", ""),
    ("min-heart-rate-bpm", "30"),
    ("max-heart-rate-bpm", "250"),
    ("rate-limit-enabled", "false"),
    ("rate-limit-open", "30/minute"),
    ("rate-limit-health", "60/minute"),
    ("rate-limit-info", "10/minute"),
    ("rate-limit-read", "600/minute"),
    ("rate-limit-coffee-write", "100/hour"),
    ("rate-limit-heartrate-write", "200/hour"),
    ("slow-query-ms", "60000"),
];

impl TestApp {
    /// Without limits, in Berlin, at [`NOW`].
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    /// With these flags as well.
    pub async fn flagged(flags: &[(&str, &str)]) -> Self {
        Self::with(Setup { flags, ..Setup::default() }).await
    }

    /// In this zone, at this time.
    pub async fn in_zone(zone: &str, now: &str) -> Self {
        Self::with(Setup { now, flags: &[("tz", zone)] }).await
    }

    pub async fn with(setup: Setup<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coffee.db");
        let mut flags = BTreeMap::from(SETTINGS);
        let (database, backups) = (path.to_str().unwrap(), folder.path().to_str().unwrap());
        flags.extend([("database-url", database), ("backup-dir", backups)]);
        flags.extend(setup.flags.iter().copied());
        let flags = flags.iter().map(|(name, value)| format!("--{name}={value}"));
        let definition = SettingsArgs::augment_args(Command::new("settings")).no_binary_name(true);
        let matches = definition.try_get_matches_from(flags).unwrap();
        let args = SettingsArgs::from_arg_matches(&matches).unwrap();
        let settings = args.validate(|_| None).unwrap();
        let store = open_store(&Options {
            path,
            backups: settings.common.backups.clone(),
            quick_readers: 2,
            slow_readers: 1,
            slow_query: settings.slow_query,
        });
        let clock = Clock::manual(at(setup.now));
        let built_at = at("2020-01-01T00:00:00Z");
        let shared =
            App::new(settings, store.unwrap(), ApiKeys::new(KEY), clock.clone(), built_at).await.unwrap();
        let client = Client::untracked(rocket(shared.clone())).await.unwrap();
        Self { shared, clock, _folder: folder, client }
    }

    /// A request with the right key, not yet sent.
    pub fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        let headers =
            [("Host", "localhost"), ("X-Request-ID", REQUEST_ID)].map(|(n, v)| (n.into(), v.into()));
        let ask = Ask {
            app: self,
            method,
            path: path.to_owned(),
            headers: headers.into(),
            body: Vec::new(),
            remote: "192.168.1.20:5000".to_owned(),
        };
        ask.header("Authorization", format!("Bearer {KEY}"))
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask(Method::Get, path).send().await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.ask(Method::Post, path).json(&body).send().await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.ask(Method::Put, path).json(&body).send().await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.ask(Method::Patch, path).json(&body).send().await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.ask(Method::Delete, path).send().await
    }

    /// Stores a coffee drunk then.
    pub async fn coffee(&self, timestamp: &str, mg: f64, coffee_type: Option<&str>) {
        let body = json!({"timestamp": timestamp, "caffeine_mg": mg, "coffee_type": coffee_type});
        assert_eq!(self.post("/coffee/", body).await.status, 201, "{timestamp}");
    }

    /// Stores readings of one context: instant and pulse.
    pub async fn readings(&self, context: &str, readings: &[(&str, u16)]) {
        let readings: Vec<Value> = readings
            .iter()
            .map(|(at, bpm)| json!({"timestamp": at, "bpm": bpm, "context": context}))
            .collect();
        let reply = self.post("/heartrate/batch", json!({"readings": readings})).await;
        reply.is(201, json!({"inserted": readings.len(), "duplicates": 0}));
    }

    /// The ids of a list.
    pub async fn ids(&self, path: &str) -> Vec<i64> {
        let reply = self.get(path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json().as_array().unwrap().iter().map(|entry| entry["id"].as_i64().unwrap()).collect()
    }

    /// The value of one series; 0 when it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.text().to_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub fn wait(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// A request on its way.
#[derive(Clone)]
pub struct Ask<'a> {
    app: &'a TestApp,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    remote: String,
}

impl Ask<'_> {
    /// Sets a header, instead of the one there was.
    pub fn header(self, name: &str, value: impl Into<String>) -> Self {
        self.without(name).also(name, value)
    }

    /// Adds a header to the ones there are.
    pub fn also(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| other != name);
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.header("Authorization", format!("Bearer {key}"))
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body(body.to_string()).header("Content-Type", "application/json")
    }

    pub fn remote(mut self, address: &str) -> Self {
        self.remote = address.to_owned();
        self
    }

    pub async fn send(self) -> Reply {
        let mut request = self.app.client.req(self.method, self.path).remote(self.remote.parse().unwrap());
        for (name, value) in self.headers {
            request.add_header(Header::new(name, value));
        }
        let response = request.body(self.body).dispatch().await;
        let headers = response.headers().iter();
        Reply {
            status: response.status().code,
            headers: headers.map(|h| (h.name().as_str().to_lowercase(), h.value().to_owned())).collect(),
            declared: response.body().preset_size(),
            body: response.into_bytes().await.unwrap_or_default(),
        }
    }
}

/// What came back.
pub struct Reply {
    pub status: u16,
    /// By name in lower case.
    pub headers: BTreeMap<String, String>,
    /// The length of the body as GET would have it.
    pub declared: Option<usize>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Exactly this answer. Gives it back for a look at its headers.
    #[track_caller]
    pub fn is(self, status: u16, expected: Value) -> Self {
        assert_eq!((self.status, self.json()), (status, expected));
        let kind =
            if status < 400 || status == 503 { "application/json" } else { "application/problem+json" };
        assert_eq!(self.header("content-type"), kind);
        self
    }

    /// Exactly this problem.
    #[track_caller]
    pub fn refused(self, status: u16, detail: &str) -> Self {
        let title = title(status);
        self.is(
            status,
            json!({"type": "about:blank", "title": title, "status": status, "detail": detail,
                   "request_id": REQUEST_ID}),
        )
    }

    /// A 422 with exactly these complaints.
    #[track_caller]
    pub fn unfit(self, errors: &[Value]) -> Self {
        let text = |error: &Value| {
            let (field, message) = (error["field"].as_str().unwrap(), error["message"].as_str().unwrap());
            let got = error.get("value").map_or(String::new(), |value| format!(" (got {value})"));
            format!("{field}: {message}{got}")
        };
        let detail: Vec<String> = errors.iter().map(text).collect();
        self.is(
            422,
            json!({"type": "about:blank", "title": title(422), "status": 422, "detail": detail.join("; "),
                   "errors": errors, "request_id": REQUEST_ID}),
        )
    }
}

fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        other => panic!("{other} has no title"),
    }
}

/// A complaint about a field whose value is repeated.
pub fn bad(location: &str, field: &str, message: &str, value: impl Into<Value>) -> Value {
    json!({"location": location, "field": field, "message": message, "value": value.into()})
}

/// A complaint about a field without a value to repeat.
pub fn lacking(location: &str, field: &str, message: &str) -> Value {
    json!({"location": location, "field": field, "message": message})
}

/// Returns the seed of a random test: `TEST_SEED`, or a fixed one.
pub fn test_seed() -> u64 {
    std::env::var("TEST_SEED").map_or(20_261_126, |text| text.parse().unwrap())
}
