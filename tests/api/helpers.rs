//! Starts the application on a new database, sends it requests and asserts its responses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use coffee_tracker::auth::key::{KeyName, Scope, Scopes};
use coffee_tracker::auth::key_file::KeyFile;
use coffee_tracker::backup::open::open_store;
use coffee_tracker::clock::Clock;
use coffee_tracker::config::SettingsArgs;
use coffee_tracker::db::store::StoreResources;
use coffee_tracker::domain::calendar::Zone;
use coffee_tracker::domain::time::Timestamp;
use coffee_tracker::http::{App, AppOptions, SharedApp, rocket};
use coffee_tracker::jobs::program::Program;
use coffee_tracker::people::registry::{People, PeopleOptions};
use coffee_tracker::telemetry::recent_log::RecentLog;
use rocket::http::{Header, Method};
use rocket::local::asynchronous::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The owner's API key.
pub const KEY: &str = "the-right-key-of-these-tests";
/// `X-Request-ID` of every request, so that whole responses can be compared.
pub const REQUEST_ID: &str = "test-1";
/// Start time of the manual clock: Monday, 14:00 in Berlin.
pub const NOW: &str = "2026-06-01T12:00:00Z";

/// Start time and flags of an application.
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
    pub people: Arc<People>,
    pub clock: Clock,
    // Dropping it removes the database.
    _folder: TempDir,
    client: Client,
}

/// Parses a timestamp.
pub fn at(text: &str) -> Timestamp {
    Zone::utc().parse(text).unwrap_or_else(|reason| panic!("{text} {reason}"))
}

/// A value for every setting, so that none depends on the environment.
const SETTINGS: [(&str, &str); 29] = [
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
    ("removed-person-days", "30"),
];

impl TestApp {
    /// Starts without rate limits, in the time zone of Berlin, at [`NOW`].
    pub async fn new() -> Self {
        Self::with_setup(Setup::default()).await
    }

    /// Starts with these flags in addition to the defaults.
    pub async fn with_flags(flags: &[(&str, &str)]) -> Self {
        Self::with_setup(Setup { flags, ..Setup::default() }).await
    }

    /// Starts in this time zone, at this time.
    pub async fn in_zone(zone: &str, now: &str) -> Self {
        Self::with_setup(Setup { now, flags: &[("tz", zone)] }).await
    }

    pub async fn with_setup(setup: Setup<'_>) -> Self {
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
        let people_options = PeopleOptions {
            settings: settings.common.clone(),
            owner_key: KEY.to_owned(),
            max_open: settings.max_open_people,
            removed_person_days: settings.removed_person_days,
            slow_query: settings.slow_query,
            resources: StoreResources::new(2, 1),
        };
        let store = open_store(&people_options.of_owner(2, 1)).unwrap();
        let clock = Clock::manual(at(setup.now));
        let built_at = at("2020-01-01T00:00:00Z");
        let people = Arc::new(People::new(people_options, store, clock.clone()).await.unwrap());
        let program = Program::at(Path::new(env!("CARGO_BIN_EXE_coffee-tracker")));
        let options = AppOptions { built_at, program, recent_log: RecentLog::default() };
        let shared = App::new(settings, clock.clone(), options).unwrap();
        let client = Client::untracked(rocket(shared.clone(), Arc::clone(&people))).await.unwrap();
        Self { shared, people, clock, _folder: folder, client }
    }

    /// Returns the path of the owner's database.
    pub fn database(&self) -> &Path {
        &self.shared.settings.common.database
    }

    /// Builds a request with the owner's key.
    pub fn request(&self, method: Method, path: &str) -> TestRequest<'_> {
        let headers =
            [("Host", "localhost"), ("X-Request-ID", REQUEST_ID)].map(|(n, v)| (n.into(), v.into()));
        let request = TestRequest {
            app: self,
            method,
            path: path.to_owned(),
            headers: headers.into(),
            body: Vec::new(),
            remote: "192.168.1.20:5000".to_owned(),
        };
        request.header("Authorization", format!("Bearer {KEY}"))
    }

    pub async fn get(&self, path: &str) -> TestResponse {
        self.request(Method::Get, path).send().await
    }

    pub async fn post(&self, path: &str, body: Value) -> TestResponse {
        self.request(Method::Post, path).json(&body).send().await
    }

    pub async fn put(&self, path: &str, body: Value) -> TestResponse {
        self.request(Method::Put, path).json(&body).send().await
    }

    pub async fn patch(&self, path: &str, body: Value) -> TestResponse {
        self.request(Method::Patch, path).json(&body).send().await
    }

    pub async fn delete(&self, path: &str) -> TestResponse {
        self.request(Method::Delete, path).send().await
    }

    /// Stores a coffee.
    pub async fn add_coffee(&self, timestamp: &str, mg: f64, coffee_type: Option<&str>) {
        let body = json!({"timestamp": timestamp, "caffeine_mg": mg, "coffee_type": coffee_type});
        assert_eq!(self.post("/coffee/", body).await.status, 201, "{timestamp}");
    }

    /// Stores readings of one context: timestamp and bpm.
    pub async fn add_readings(&self, context: &str, readings: &[(&str, u16)]) {
        let readings: Vec<Value> = readings
            .iter()
            .map(|(at, bpm)| json!({"timestamp": at, "bpm": bpm, "context": context}))
            .collect();
        let response = self.post("/heartrate/batch", json!({"readings": readings})).await;
        response.assert_json(201, json!({"inserted": readings.len(), "duplicates": 0}));
    }

    /// Adds a named key and reloads the key file.
    pub fn add_key(&self, name: &str, scopes: &[Scope]) -> String {
        let file = KeyFile::of(self.database());
        let name = KeyName::parse(name).unwrap();
        let key = file.add(&name, Scopes::from(scopes.to_vec()), None, self.clock.now()).unwrap();
        self.people.refresh_people();
        key
    }

    /// Returns the path of a person's database.
    pub fn database_of(&self, person: &str) -> PathBuf {
        self.shared.settings.common.of_person(&person.parse().unwrap()).database
    }

    /// Adds a person with a key that has these scopes.
    pub fn add_person(&self, name: &'static str, scopes: &[Scope]) -> Caller {
        let database = self.database_of(name);
        std::fs::create_dir_all(database.parent().unwrap()).unwrap();
        let key_name = KeyName::parse("first").unwrap();
        let key =
            KeyFile::of(&database).add(&key_name, Scopes::from(scopes.to_vec()), None, self.clock.now());
        self.people.refresh_people();
        Caller { name, key: key.unwrap() }
    }

    /// Returns the ids in a list.
    pub async fn ids(&self, path: &str) -> Vec<i64> {
        let response = self.get(path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json().as_array().unwrap().iter().map(|entry| entry["id"].as_i64().unwrap()).collect()
    }

    /// Returns the value of a series in `/metrics`, or 0 when it is missing.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").await.text().to_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub fn advance_clock(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// A person and their first key.
pub struct Caller {
    pub name: &'static str,
    pub key: String,
}

impl Caller {
    pub fn request<'a>(&self, app: &'a TestApp, method: Method, path: &str) -> TestRequest<'a> {
        app.request(method, path).key(&self.key)
    }

    pub async fn get(&self, app: &TestApp, path: &str) -> TestResponse {
        self.request(app, Method::Get, path).send().await
    }

    pub async fn post(&self, app: &TestApp, path: &str, body: &Value) -> TestResponse {
        self.request(app, Method::Post, path).json(body).send().await
    }
}

/// A request that is being built.
#[derive(Clone)]
pub struct TestRequest<'a> {
    app: &'a TestApp,
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    remote: String,
}

impl TestRequest<'_> {
    /// Sets a header and replaces those of the same name.
    pub fn header(self, name: &str, value: impl Into<String>) -> Self {
        self.without_header(name).add_header(name, value)
    }

    /// Adds a header and keeps those of the same name.
    pub fn add_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn without_header(mut self, name: &str) -> Self {
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

    pub async fn send(self) -> TestResponse {
        let mut request = self.app.client.req(self.method, self.path).remote(self.remote.parse().unwrap());
        for (name, value) in self.headers {
            request.add_header(Header::new(name, value));
        }
        let response = request.body(self.body).dispatch().await;
        let headers = response.headers().iter();
        TestResponse {
            status: response.status().code,
            headers: headers.map(|h| (h.name().as_str().to_lowercase(), h.value().to_owned())).collect(),
            content_length: response.body().preset_size(),
            body: response.into_bytes().await.unwrap_or_default(),
        }
    }
}

/// A response that has been read to its end.
pub struct TestResponse {
    pub status: u16,
    /// Values by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// Length of the body; for HEAD that of the corresponding GET.
    pub content_length: Option<usize>,
    pub body: Vec<u8>,
}

impl TestResponse {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Returns the value of a header, or an empty string.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Asserts the status and the whole body, and returns the response for assertions about its headers.
    #[track_caller]
    pub fn assert_json(self, status: u16, expected: Value) -> Self {
        assert_eq!((self.status, self.json()), (status, expected));
        let content_type =
            if status < 400 || status == 503 { "application/json" } else { "application/problem+json" };
        assert_eq!(self.header("content-type"), content_type);
        self
    }

    /// Asserts a problem document with this detail.
    #[track_caller]
    pub fn assert_problem(self, status: u16, detail: &str) -> Self {
        let title = title(status);
        self.assert_json(
            status,
            json!({"type": "about:blank", "title": title, "status": status, "detail": detail,
                   "request_id": REQUEST_ID}),
        )
    }

    /// Asserts status 422 with exactly these validation errors.
    #[track_caller]
    pub fn assert_invalid(self, errors: &[Value]) -> Self {
        let text = |error: &Value| {
            let (field, message) = (error["field"].as_str().unwrap(), error["message"].as_str().unwrap());
            let got = error.get("value").map_or(String::new(), |value| format!(" (got {value})"));
            format!("{field}: {message}{got}")
        };
        let detail: Vec<String> = errors.iter().map(text).collect();
        self.assert_json(
            422,
            json!({"type": "about:blank", "title": title(422), "status": 422, "detail": detail.join("; "),
                   "errors": errors, "request_id": REQUEST_ID}),
        )
    }
}

/// Title of the problem documents of a status.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        other => panic!("{other} has no title"),
    }
}

/// A validation error that includes the rejected value.
pub fn invalid_value(location: &str, field: &str, message: &str, value: impl Into<Value>) -> Value {
    json!({"location": location, "field": field, "message": message, "value": value.into()})
}

/// A validation error without a value.
pub fn invalid_field(location: &str, field: &str, message: &str) -> Value {
    json!({"location": location, "field": field, "message": message})
}

/// Returns the seed of a random test: `TEST_SEED`, or a fixed one.
pub fn test_seed() -> u64 {
    std::env::var("TEST_SEED").map_or(20_261_126, |text| text.parse().unwrap())
}
