//! From text to settings: every bad value is named with what would be right, all at once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Command};

use crate::config::{
    KeySource, LimitClass, LogFormat, LogSettings, Place, Rate, RawPlace, RawRules, RawSettings, Settings,
};
use crate::domain::advice::CaffeineProfile;
use crate::domain::caffeine::{ABSORPTION_PER_HOUR, HALF_LIFE_RANGE, Kinetics};
use crate::domain::calendar::{LocalTime, Zone};
use crate::domain::heart_rate::Bpm;
use crate::domain::limits::EntryLimits;

/// One setting that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The setting's name in the environment.
    pub name: &'static str,
    pub value: String,
    /// What would be right.
    pub message: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}: {}", self.name, self.value, self.message)
    }
}

/// Gathers complaints; a bad value stands in as its type's default until the end.
struct Checker {
    errors: Vec<SettingError>,
}

impl Checker {
    fn take<T, M: Into<String>>(
        &mut self,
        name: &'static str,
        text: &str,
        parsed: Result<T, M>,
        instead: T,
    ) -> T {
        parsed.unwrap_or_else(|message| {
            self.errors.push(SettingError { name, value: text.to_owned(), message: message.into() });
            instead
        })
    }

    fn flag(&mut self, name: &'static str, text: &str) -> bool {
        self.take(name, text, boolean(text).ok_or("must be true or false"), false)
    }

    fn number<T: FromStr + PartialOrd + fmt::Display + Copy>(
        &mut self,
        name: &'static str,
        text: &str,
        min: T,
        max: T,
    ) -> T {
        let parsed = text.trim().parse().ok().filter(|n| (min..=max).contains(n));
        self.take(name, text, parsed.ok_or_else(|| format!("must be a number from {min} to {max}")), min)
    }

    fn list<T>(
        &mut self,
        name: &'static str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Vec<T> {
        let items: Result<Vec<T>, _> =
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect();
        self.take(name, text, items, Vec::new())
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// `DEBUG`. Many programs read a variable of that name, with values of their own: one that is not
/// ours must not stop the start.
fn debug(
    text: &str,
    c: &mut Checker,
    environment: &impl Fn(&str) -> Option<String>,
    notes: &mut Vec<String>,
) -> bool {
    let is_from_environment = environment("DEBUG").as_deref() == Some(text);
    if is_from_environment && boolean(text).is_none() {
        notes.push(format!("DEBUG={text} is ignored: it is neither true nor false"));
        return false;
    }
    c.flag("DEBUG", text)
}

/// The default of an argument, from its definition.
fn default_of(command: &Command, name: &str) -> String {
    let arg = command.get_arguments().find(|arg| arg.get_id() == name);
    let default = arg.and_then(|arg| arg.get_default_values().first()?.to_str());
    default.unwrap_or_default().to_owned()
}

impl RawPlace {
    fn or_defaults(mut self) -> Self {
        let command = Self::augment_args(Command::new("place"));
        for (name, value) in [("database_url", &mut self.database_url), ("backup_dir", &mut self.backup_dir)]
        {
            if value.trim().is_empty() {
                *value = default_of(&command, name);
            }
        }
        self
    }

    /// Checks it alone.
    ///
    /// # Errors
    /// Every setting that does not fit; never an empty list.
    pub fn check(self) -> Result<Place, Vec<SettingError>> {
        let mut check = Checker { errors: Vec::new() };
        let place = self.or_defaults().place(&mut check);
        if check.errors.is_empty() { Ok(place) } else { Err(check.errors) }
    }

    fn place(&self, c: &mut Checker) -> Place {
        let database_url = without_password(&self.database_url);
        let zone = if self.tz.trim().is_empty() { Ok(Zone::system()) } else { Zone::named(&self.tz) };
        Place {
            database: through_links(c.take(
                "DATABASE_URL",
                &database_url,
                database(&self.database_url),
                PathBuf::new(),
            )),
            backups: PathBuf::from(&self.backup_dir),
            zone: c.take("TZ", &self.tz, zone, Zone::utc()),
        }
    }
}

impl RawRules {
    fn or_defaults(mut self) -> Self {
        let command = Self::augment_args(Command::new("rules"));
        for (name, value) in [
            ("max_caffeine_mg", &mut self.max_caffeine_mg),
            ("min_heart_rate_bpm", &mut self.min_heart_rate_bpm),
            ("max_heart_rate_bpm", &mut self.max_heart_rate_bpm),
        ] {
            if value.trim().is_empty() {
                *value = default_of(&command, name);
            }
        }
        self
    }

    /// The limits; the advice for a day is not among them and has its default.
    fn rules(&self, c: &mut Checker) -> EntryLimits {
        let rules = EntryLimits {
            max_caffeine_mg: c.number("MAX_CAFFEINE_MG", &self.max_caffeine_mg, 1.0, 100_000.0),
            min_bpm: c.number("MIN_HEART_RATE_BPM", &self.min_heart_rate_bpm, 1, Bpm::MAX),
            max_bpm: c.number("MAX_HEART_RATE_BPM", &self.max_heart_rate_bpm, 1, Bpm::MAX),
            ..EntryLimits::default()
        };
        let both_fit = !c.errors.iter().any(|e| e.name.ends_with("_HEART_RATE_BPM"));
        if both_fit && rules.min_bpm > rules.max_bpm {
            let order = Err("must not exceed MAX_HEART_RATE_BPM");
            c.take("MIN_HEART_RATE_BPM", &self.min_heart_rate_bpm, order, ());
        }
        rules
    }

    /// Checks the limits together with the place they apply to.
    ///
    /// # Errors
    /// Every setting that does not fit; never an empty list.
    pub fn check_with(self, place: RawPlace) -> Result<(Place, EntryLimits), Vec<SettingError>> {
        let mut check = Checker { errors: Vec::new() };
        let checked = (place.or_defaults().place(&mut check), self.or_defaults().rules(&mut check));
        if check.errors.is_empty() { Ok(checked) } else { Err(check.errors) }
    }
}

impl RawSettings {
    /// A setting that is set to nothing, as compose files do, has its default.
    fn or_defaults(mut self) -> Self {
        let command = Self::augment_args(Command::new("settings"));
        self.place = self.place.or_defaults();
        self.rules = self.rules.or_defaults();
        for (name, value) in [
            ("host", &mut self.host),
            ("port", &mut self.port),
            ("debug", &mut self.debug),
            ("log_level", &mut self.log_level),
            ("log_format", &mut self.log_format),
            ("slow_query_ms", &mut self.slow_query_ms),
            ("metrics_public", &mut self.metrics_public),
            ("security_headers", &mut self.security_headers),
            ("max_request_body_bytes", &mut self.max_request_body_bytes),
            ("request_timeout_seconds", &mut self.request_timeout_seconds),
            ("header_timeout_seconds", &mut self.header_timeout_seconds),
            ("idle_timeout_seconds", &mut self.idle_timeout_seconds),
            ("max_connections", &mut self.max_connections),
            ("recommended_daily_caffeine_mg", &mut self.recommended_daily_caffeine_mg),
            ("bedtime", &mut self.bedtime),
            ("caffeine_half_life_hours", &mut self.caffeine_half_life_hours),
            ("sleep_threshold_mg", &mut self.sleep_threshold_mg),
            ("rate_limit_enabled", &mut self.limits.rate_limit_enabled),
            ("rate_limit_open", &mut self.limits.rate_limit_open),
            ("rate_limit_health", &mut self.limits.rate_limit_health),
            ("rate_limit_info", &mut self.limits.rate_limit_info),
            ("rate_limit_static", &mut self.limits.rate_limit_static),
            ("rate_limit_read", &mut self.limits.rate_limit_read),
            ("rate_limit_coffee_write", &mut self.limits.rate_limit_coffee_write),
            ("rate_limit_coffee_change", &mut self.limits.rate_limit_coffee_change),
            ("rate_limit_heartrate_write", &mut self.limits.rate_limit_heartrate_write),
            ("rate_limit_heartrate_change", &mut self.limits.rate_limit_heartrate_change),
            ("rate_limit_heartrate_batch", &mut self.limits.rate_limit_heartrate_batch),
            ("rate_limit_unauthenticated", &mut self.limits.rate_limit_unauthenticated),
        ] {
            if value.trim().is_empty() {
                *value = default_of(&command, name);
            }
        }
        self
    }

    /// Checks everything. `environment` looks up what has no flag.
    ///
    /// # Errors
    /// Every setting that does not fit; never an empty list.
    pub fn check(self, environment: impl Fn(&str) -> Option<String>) -> Result<Settings, Vec<SettingError>> {
        let raw = self.or_defaults();
        let mut check = Checker { errors: Vec::new() };
        let c = &mut check;
        let place = raw.place.place(c);
        let host = match raw.host.trim() {
            "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            text => text.parse().map_err(|_| "must be an IP address, such as 127.0.0.1 or 0.0.0.0"),
        };
        let mut notes = notes(&environment);
        let debug = debug(&raw.debug, c, &environment, &mut notes);
        let settings = Settings {
            host: c.take("HOST", &raw.host, host, IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: c.number("PORT", &raw.port, 0, u16::MAX),
            key: key_source(&raw, &place.database, &environment),
            place,
            debug,
            log: log_settings(&raw, c, &environment),
            slow_query: Duration::from_millis(c.number("SLOW_QUERY_MS", &raw.slow_query_ms, 1, 3_600_000)),
            allowed_hosts: c.list("ALLOWED_HOSTS", &raw.allowed_hosts, |host| Ok(host.to_ascii_lowercase())),
            cors_origins: c.list("CORS_ORIGINS", &raw.cors_origins, origin),
            trusted_proxies: c.list("TRUSTED_PROXIES", &raw.trusted_proxies, network),
            metrics_public: c.flag("METRICS_PUBLIC", &raw.metrics_public),
            security_headers: c.flag("SECURITY_HEADERS", &raw.security_headers),
            max_body: c.number("MAX_REQUEST_BODY_BYTES", &raw.max_request_body_bytes, 1024, 64 << 20),
            request_timeout: seconds(c, "REQUEST_TIMEOUT_SECONDS", &raw.request_timeout_seconds),
            header_timeout: seconds(c, "HEADER_TIMEOUT_SECONDS", &raw.header_timeout_seconds),
            idle_timeout: seconds(c, "IDLE_TIMEOUT_SECONDS", &raw.idle_timeout_seconds),
            max_connections: c.number("MAX_CONNECTIONS", &raw.max_connections, 16, 65_536),
            rules: rules(&raw, c),
            profile: profile(&raw, c),
            rates: rates(&raw, c),
            notes,
        };
        if check.errors.is_empty() { Ok(settings) } else { Err(check.errors) }
    }
}

fn seconds(c: &mut Checker, name: &'static str, text: &str) -> Duration {
    Duration::from_secs(c.number(name, text, 1, 3600))
}

fn rules(raw: &RawSettings, c: &mut Checker) -> EntryLimits {
    EntryLimits {
        recommended_daily_caffeine_mg: c.number(
            "RECOMMENDED_DAILY_CAFFEINE_MG",
            &raw.recommended_daily_caffeine_mg,
            1.0,
            100_000.0,
        ),
        ..raw.rules.rules(c)
    }
}

fn profile(raw: &RawSettings, c: &mut Checker) -> CaffeineProfile {
    let (shortest, longest) = (*HALF_LIFE_RANGE.start(), *HALF_LIFE_RANGE.end());
    let half_life = c.number("CAFFEINE_HALF_LIFE_HOURS", &raw.caffeine_half_life_hours, shortest, longest);
    let usual = raw.usual_dose_mg.trim();
    let daily_limit = raw.recommended_daily_caffeine_mg.trim();
    CaffeineProfile {
        kinetics: Kinetics::new(half_life, ABSORPTION_PER_HOUR).unwrap_or_default(),
        bedtime: c.take("BEDTIME", &raw.bedtime, LocalTime::parse(&raw.bedtime), LocalTime::default()),
        sleep_threshold_mg: c.number("SLEEP_THRESHOLD_MG", &raw.sleep_threshold_mg, 1.0, 1000.0),
        usual_dose_mg: (!usual.is_empty()).then(|| c.number("USUAL_DOSE_MG", usual, 1.0, 1000.0)),
        // Complained about, where it does not fit, among the rules.
        daily_limit_mg: daily_limit.parse().unwrap_or(1.0),
    }
}

fn rates(raw: &RawSettings, c: &mut Checker) -> Option<[Rate; LimitClass::COUNT]> {
    let enabled = c.flag("RATE_LIMIT_ENABLED", &raw.limits.rate_limit_enabled);
    let none = Rate { requests: 1, per: Duration::from_secs(1) };
    let rates = raw.limits.by_class().map(|(_, name, text)| c.take(name, text, Rate::parse(text), none));
    enabled.then_some(rates)
}

fn log_settings(
    raw: &RawSettings,
    c: &mut Checker,
    environment: &impl Fn(&str) -> Option<String>,
) -> LogSettings {
    let level = match raw.log_level.trim().to_ascii_lowercase().as_str() {
        "debug" => Ok(tracing::Level::DEBUG),
        "info" => Ok(tracing::Level::INFO),
        "warning" | "warn" => Ok(tracing::Level::WARN),
        "error" | "critical" => Ok(tracing::Level::ERROR),
        _ => Err("must be debug, info, warning, error or critical"),
    };
    let under_systemd = environment("JOURNAL_STREAM").is_some();
    let format = match raw.log_format.trim().to_ascii_lowercase().as_str() {
        "auto" if under_systemd => Ok(LogFormat::Journald),
        "auto" | "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        "journald" => Ok(LogFormat::Journald),
        _ => Err("must be auto, text, json or journald"),
    };
    LogSettings {
        level: c.take("LOG_LEVEL", &raw.log_level, level, tracing::Level::INFO),
        format: c.take("LOG_FORMAT", &raw.log_format, format, LogFormat::Text),
    }
}

/// `sqlite:///relative`, `sqlite:////absolute`, or a plain path.
fn database(url: &str) -> Result<PathBuf, &'static str> {
    let url = url.trim();
    let path = match url.split_once("://") {
        Some(("sqlite", rest)) => {
            rest.strip_prefix('/').ok_or("must have three slashes: sqlite:///data/coffee.db")?
        }
        Some(("postgresql" | "postgres" | "postgresql+asyncpg" | "postgresql+psycopg2", _)) => {
            return Err("PostgreSQL is not needed any more: one SQLite file took its place. \
                 Set sqlite:///data/coffee.db, and bring the old data over with `coffee-tracker import`");
        }
        Some(_) => return Err("must be sqlite:///data/coffee.db, sqlite:////absolute/path, or a path"),
        None => url,
    };
    if path.is_empty() || path.contains(":memory:") || path.ends_with('/') {
        return Err("must name a file: sqlite:///data/coffee.db, sqlite:////absolute/path, or a path");
    }
    Ok(PathBuf::from(path))
}

/// The file that a name leads to, also when it is not there yet: a lock and a log lie beside that
/// one, whichever name leads to it.
fn through_links(name: PathBuf) -> PathBuf {
    // As many as Linux follows.
    const LINKS: usize = 40;
    let follow = |path: &PathBuf| {
        let target = std::fs::read_link(path).ok()?;
        Some(path.parent().unwrap_or(Path::new("")).join(target))
    };
    std::iter::successors(Some(name.clone()), follow).take(LINKS).last().unwrap_or(name)
}

/// A URL as it may be shown: `postgresql://coffee:secret@db/x` has a password.
fn without_password(url: &str) -> String {
    let shown = || {
        let (scheme, rest) = url.split_once("://")?;
        let (account, place) = rest.rsplit_once('@')?;
        let (user, _) = account.split_once(':')?;
        Some(format!("{scheme}://{user}:…@{place}"))
    };
    shown().unwrap_or_else(|| url.to_owned())
}

/// An origin as browsers send it: scheme, host, perhaps a port, no path.
fn origin(text: &str) -> Result<String, &'static str> {
    let rest = text.split_once("://").map(|(_, rest)| rest.trim_end_matches('/'));
    match (text, rest) {
        ("*", _) => Ok(text.to_owned()),
        (_, Some(rest)) if !rest.is_empty() && !rest.contains('/') => {
            Ok(text.trim_end_matches('/').to_ascii_lowercase())
        }
        _ => Err("must be origins such as https://home.example or http://192.168.1.5:3000"),
    }
}

fn network(text: &str) -> Result<ipnet::IpNet, &'static str> {
    let single = || text.parse::<IpAddr>().map(ipnet::IpNet::from);
    text.parse().or_else(|_| single()).map_err(|_| "must be networks such as 127.0.0.0/8 or fd00::/8")
}

fn key_source(
    raw: &RawSettings,
    database: &Path,
    environment: &impl Fn(&str) -> Option<String>,
) -> KeySource {
    let given = environment("API_KEY").filter(|key| !key.trim().is_empty());
    let credential = environment("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join("api_key"));
    match (given, raw.api_key_file.trim(), credential) {
        (Some(key), _, _) => KeySource::Given(key.trim().to_owned()),
        (None, file, _) if !file.is_empty() => KeySource::File(PathBuf::from(file)),
        // The unit's credential is empty where there is no key file.
        (None, _, Some(file)) if holds_a_word(&file) => KeySource::File(file),
        _ => KeySource::Made(database.with_extension("key")),
    }
}

/// What cannot be read is taken for a key, so that its reader says why.
fn holds_a_word(credential: &Path) -> bool {
    match std::fs::read(credential) {
        Ok(text) => !text.trim_ascii().is_empty(),
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    }
}

fn notes(environment: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    let redis = environment("REDIS_URL").filter(|url| !url.trim().is_empty());
    redis
        .map(|_| "REDIS_URL is not used any more: limits are kept in this process".to_owned())
        .into_iter()
        .collect()
}
