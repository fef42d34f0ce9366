//! Validation: turns the text of settings into values and collects every invalid setting.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Command};
use ipnet::IpNet;

use crate::config::args::{
    AddressArgs, CommonArgs, EntryLimitArgs, PersonArgs, ProfileDefaultArgs, RemovalArgs, SettingsArgs,
    parse_bool,
};
use crate::config::rate_limits::{LimitClass, Rate};
use crate::config::settings::{
    CommonSettings, KeySource, LogFormat, ReloadableSettings, SettingTexts, Settings,
};
use crate::domain::advice::CaffeineProfile;
use crate::domain::bedtimes::Bedtimes;
use crate::domain::caffeine::{ABSORPTION_PER_HOUR, HALF_LIFE_RANGE, Kinetics};
use crate::domain::calendar::{LocalTime, Zone};
use crate::domain::heart_rate::Bpm;
use crate::domain::limits::EntryLimits;
use crate::domain::profile::{DAILY_LIMIT_RANGE, SLEEP_THRESHOLD_RANGE, USUAL_DOSE_RANGE};
use crate::fs::paths::folder_of;

/// Invalid setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// Name of the variable.
    pub name: &'static str,
    pub value: String,
    /// Description of the valid values.
    pub message: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}: {}", self.name, self.value, self.message)
    }
}

/// Returns the default of a setting, which also applies when its value is blank: compose files pass unset variables
/// as blank ones.
pub fn default_value(definition: &Command, variable: &str) -> String {
    let id = variable.to_ascii_lowercase();
    let arg = definition.get_arguments().find(|arg| arg.get_id() == id.as_str());
    let default = arg.and_then(|arg| arg.get_default_values().first()?.to_str());
    default.unwrap_or_default().to_owned()
}

/// Parser of settings that collects errors. An invalid setting has a placeholder value until the end.
struct SettingParser {
    definition: Command,
    errors: Vec<SettingError>,
}

impl SettingParser {
    fn new() -> Self {
        Self { definition: SettingsArgs::augment_args(Command::new("settings")), errors: Vec::new() }
    }

    fn finish<T>(self, value: T) -> Result<T, Vec<SettingError>> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.errors) }
    }

    fn parse<T, M: Into<String>>(
        &mut self,
        name: &'static str,
        text: &str,
        placeholder: T,
        parse: impl FnOnce(&str) -> Result<T, M>,
    ) -> T {
        let text = match text.trim() {
            "" => default_value(&self.definition, name),
            text => text.to_owned(),
        };
        parse(&text).unwrap_or_else(|message| {
            self.errors.push(SettingError { name, value: without_password(&text), message: message.into() });
            placeholder
        })
    }

    fn bool(&mut self, name: &'static str, text: &str) -> bool {
        self.parse(name, text, false, |text| parse_bool(text).ok_or("must be true or false"))
    }

    fn number<T: FromStr + PartialOrd + fmt::Display + Copy>(
        &mut self,
        name: &'static str,
        text: &str,
        min: T,
        max: T,
    ) -> T {
        self.parse(name, text, min, |text| {
            let number = text.parse().ok().filter(|n| (min..=max).contains(n));
            number.ok_or_else(|| format!("must be a number from {min} to {max}"))
        })
    }

    fn seconds(&mut self, name: &'static str, text: &str) -> Duration {
        Duration::from_secs(self.number(name, text, 1, 3600))
    }

    fn list<T>(
        &mut self,
        name: &'static str,
        text: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Vec<T> {
        self.parse(name, text, Vec::new(), |text| {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
        })
    }

    fn address(&mut self, args: &AddressArgs) -> SocketAddr {
        let host = self.parse("HOST", &args.host, IpAddr::V4(Ipv4Addr::LOCALHOST), |text| match text {
            "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            text => text.parse().map_err(|_| "must be an IP address, such as 127.0.0.1 or 0.0.0.0"),
        });
        SocketAddr::new(host, self.number("PORT", &args.port, 0, u16::MAX))
    }

    fn common(&mut self, args: &CommonArgs) -> CommonSettings {
        CommonSettings::of_owner(
            resolve_links(self.parse("DATABASE_URL", &args.database_url, PathBuf::new(), database)),
            self.parse("BACKUP_DIR", &args.backup_dir, PathBuf::new(), |path| Ok::<_, String>(path.into())),
            self.parse("TZ", &args.tz, Zone::utc(), |name| {
                if name.is_empty() { Ok(Zone::system()) } else { Zone::named(name) }
            }),
        )
    }

    /// Returns the settings of the person, who must exist.
    fn of_person(&mut self, args: &PersonArgs) -> CommonSettings {
        let common = self.common(&args.common);
        let Some(name) = &args.person else { return common };
        let settings = common.of_person(name);
        // A folder that may not be looked into counts as present, so that the error is the one of its use.
        if !name.is_owner() && matches!(folder_of(&settings.database).try_exists(), Ok(false)) {
            self.errors.push(SettingError {
                name: "--person",
                value: name.to_string(),
                message: "there is no such person; see `coffee-tracker person list`".to_owned(),
            });
        }
        settings
    }

    fn removed_person_days(&mut self, args: &RemovalArgs) -> Option<u32> {
        let days = self.number("REMOVED_PERSON_DAYS", &args.removed_person_days, 0, 36_500);
        (days > 0).then_some(days)
    }

    fn entry_limits(&mut self, args: &EntryLimitArgs) -> EntryLimits {
        let limits = EntryLimits {
            max_caffeine_mg: self.number("MAX_CAFFEINE_MG", &args.max_caffeine_mg, 1.0, 100_000.0),
            min_bpm: self.number("MIN_HEART_RATE_BPM", &args.min_heart_rate_bpm, 1, Bpm::MAX),
            max_bpm: self.number("MAX_HEART_RATE_BPM", &args.max_heart_rate_bpm, 1, Bpm::MAX),
        };
        let are_valid = !self.errors.iter().any(|e| e.name.ends_with("_HEART_RATE_BPM"));
        if are_valid && limits.min_bpm > limits.max_bpm {
            let too_high = |_: &str| Err("must not exceed MAX_HEART_RATE_BPM");
            self.parse("MIN_HEART_RATE_BPM", &args.min_heart_rate_bpm, (), too_high);
        }
        limits
    }

    fn profile(&mut self, args: &ProfileDefaultArgs) -> CaffeineProfile {
        let half_life =
            self.in_range("CAFFEINE_HALF_LIFE_HOURS", &args.caffeine_half_life_hours, &HALF_LIFE_RANGE);
        let usual_dose = args.usual_dose_mg.trim();
        CaffeineProfile {
            kinetics: Kinetics::new(half_life, ABSORPTION_PER_HOUR).unwrap_or_default(),
            bedtimes: Bedtimes::every_day(self.parse(
                "BEDTIME",
                &args.bedtime,
                LocalTime::default(),
                LocalTime::parse,
            )),
            sleep_threshold_mg: self.in_range(
                "SLEEP_THRESHOLD_MG",
                &args.sleep_threshold_mg,
                &SLEEP_THRESHOLD_RANGE,
            ),
            usual_dose_mg: (!usual_dose.is_empty())
                .then(|| self.in_range("USUAL_DOSE_MG", usual_dose, &USUAL_DOSE_RANGE)),
            daily_limit_mg: self.in_range(
                "RECOMMENDED_DAILY_CAFFEINE_MG",
                &args.recommended_daily_caffeine_mg,
                &DAILY_LIMIT_RANGE,
            ),
        }
    }

    fn in_range(&mut self, name: &'static str, text: &str, range: &RangeInclusive<f64>) -> f64 {
        self.number(name, text, *range.start(), *range.end())
    }

    fn rate_limits(&mut self, args: &SettingsArgs) -> Option<[Rate; LimitClass::COUNT]> {
        let is_enabled = self.bool("RATE_LIMIT_ENABLED", &args.rate_limits.rate_limit_enabled);
        let placeholder = Rate { requests: 1, per: Duration::from_secs(1) };
        let rates =
            args.rate_limits.by_class().map(|(name, text)| self.parse(name, text, placeholder, Rate::parse));
        is_enabled.then_some(rates)
    }

    /// Parses the name of a header. Without a trusted proxy, nobody could set it. The proxy also signs in requests of
    /// pages of other origins, whose responses `*` would let them read.
    fn auth_proxy_header(&mut self, name: &str, trusted_proxies: &str, cors_origins: &str) -> Option<String> {
        self.parse("AUTH_PROXY_HEADER", name, None, |name| {
            let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            match name {
                "" => Ok(None),
                _ if !name.bytes().all(is_allowed) => {
                    Err("must be the name of a header, such as Remote-User")
                }
                _ if trusted_proxies.trim().is_empty() => {
                    Err("needs TRUSTED_PROXIES: the header counts from these proxies only")
                }
                _ if cors_origins.split(',').any(|origin| origin.trim() == "*") => {
                    Err("needs CORS_ORIGINS without *: otherwise any web page could read everyone's data")
                }
                _ if ["authorization", "host", "cookie", "x-forwarded-for"]
                    .contains(&name.to_ascii_lowercase().as_str()) =>
                {
                    Err("must be a header that only the proxy sets, such as Remote-User")
                }
                _ => Ok(Some(name.to_owned())),
            }
        })
    }

    fn log_level(&mut self, text: &str) -> tracing::Level {
        let level = |text: &str| match text.to_ascii_lowercase().as_str() {
            "debug" => Ok(tracing::Level::DEBUG),
            "info" => Ok(tracing::Level::INFO),
            "warning" | "warn" => Ok(tracing::Level::WARN),
            "error" | "critical" => Ok(tracing::Level::ERROR),
            _ => Err("must be debug, info, warning, error or critical"),
        };
        self.parse("LOG_LEVEL", text, tracing::Level::INFO, level)
    }

    fn log_format(&mut self, text: &str, is_under_systemd: bool) -> LogFormat {
        let format = |text: &str| match text.to_ascii_lowercase().as_str() {
            "auto" if is_under_systemd => Ok(LogFormat::Journald),
            "auto" | "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            "journald" => Ok(LogFormat::Journald),
            _ => Err("must be auto, text, json or journald"),
        };
        self.parse("LOG_FORMAT", text, LogFormat::Text, format)
    }

    fn reloadable(&mut self, args: &SettingsArgs, key: KeySource) -> ReloadableSettings {
        ReloadableSettings {
            key,
            debug: args.debug,
            log_level: self.log_level(&args.log_level),
            allowed_hosts: self
                .list("ALLOWED_HOSTS", &args.allowed_hosts, |host| Ok(host.to_ascii_lowercase())),
            profile: self.profile(&args.profile),
            texts: SettingTexts::new(),
        }
    }
}

impl AddressArgs {
    /// Validates these settings alone. The list of errors is never empty.
    pub fn validate(&self) -> Result<SocketAddr, Vec<SettingError>> {
        let mut parser = SettingParser::new();
        let address = parser.address(self);
        parser.finish(address)
    }
}

impl CommonArgs {
    /// Validates these settings alone. The list of errors is never empty.
    pub fn validate(&self) -> Result<CommonSettings, Vec<SettingError>> {
        let mut parser = SettingParser::new();
        let common = parser.common(self);
        parser.finish(common)
    }
}

impl RemovalArgs {
    /// Validates the setting together with those that every command has. The list of errors is never empty.
    pub fn validate_with(
        &self,
        common: &CommonArgs,
    ) -> Result<(CommonSettings, Option<u32>), Vec<SettingError>> {
        let mut parser = SettingParser::new();
        let validated = (parser.common(common), parser.removed_person_days(self));
        parser.finish(validated)
    }
}

impl PersonArgs {
    /// Validates these settings alone. The list of errors is never empty.
    pub fn validate(&self) -> Result<CommonSettings, Vec<SettingError>> {
        let mut parser = SettingParser::new();
        let settings = parser.of_person(self);
        parser.finish(settings)
    }
}

impl EntryLimitArgs {
    /// Validates the limits together with the settings of a person. The list of errors is never empty.
    pub fn validate_with(
        &self,
        person: &PersonArgs,
    ) -> Result<(CommonSettings, EntryLimits), Vec<SettingError>> {
        let mut parser = SettingParser::new();
        let validated = (parser.of_person(person), parser.entry_limits(self));
        parser.finish(validated)
    }
}

impl ProfileDefaultArgs {
    /// Validates the defaults together with the settings of a person. The list of errors is never empty.
    pub fn validate_with(
        &self,
        person: &PersonArgs,
    ) -> Result<(CommonSettings, CaffeineProfile), Vec<SettingError>> {
        let mut parser = SettingParser::new();
        let validated = (parser.of_person(person), parser.profile(self));
        parser.finish(validated)
    }
}

impl SettingsArgs {
    /// Validates all settings. `environment` looks up variables that have no flag. The list of errors is never empty.
    pub fn validate(
        &self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, Vec<SettingError>> {
        let mut parser = SettingParser::new();
        let p = &mut parser;
        let common = p.common(&self.common);
        let address = p.address(&self.address);
        let settings = Settings {
            host: address.ip(),
            port: address.port(),
            initial: p.reloadable(self, key_source(&self.api_key_file, &common.database, &environment)),
            common,
            log_format: p.log_format(&self.log_format, environment("JOURNAL_STREAM").is_some()),
            slow_query: Duration::from_millis(p.number("SLOW_QUERY_MS", &self.slow_query_ms, 1, 3_600_000)),
            cors_origins: p.list("CORS_ORIGINS", &self.cors_origins, origin),
            auth_proxy_header: p.auth_proxy_header(
                &self.auth_proxy_header,
                &self.trusted_proxies,
                &self.cors_origins,
            ),
            trusted_proxies: p.list("TRUSTED_PROXIES", &self.trusted_proxies, network),
            metrics_public: p.bool("METRICS_PUBLIC", &self.metrics_public),
            security_headers: p.bool("SECURITY_HEADERS", &self.security_headers),
            max_body_bytes: p.number("MAX_REQUEST_BODY_BYTES", &self.max_request_body_bytes, 1024, 64 << 20),
            max_ingest_body_bytes: p.number(
                "MAX_INGEST_BODY_BYTES",
                &self.max_ingest_body_bytes,
                1024,
                256 << 20,
            ),
            request_timeout: p.seconds("REQUEST_TIMEOUT_SECONDS", &self.request_timeout_seconds),
            header_timeout: p.seconds("HEADER_TIMEOUT_SECONDS", &self.header_timeout_seconds),
            idle_timeout: p.seconds("IDLE_TIMEOUT_SECONDS", &self.idle_timeout_seconds),
            max_connections: p.number("MAX_CONNECTIONS", &self.max_connections, 16, 65_536),
            max_open_people: p.number("MAX_OPEN_PEOPLE", &self.max_open_people, 1, 10_000),
            removed_person_days: p.removed_person_days(&self.removal),
            entry_limits: p.entry_limits(&self.entry_limits),
            rate_limits: p.rate_limits(self),
            warnings: warnings(&environment),
        };
        parser.finish(settings)
    }
}

/// Parses `sqlite:///relative`, `sqlite:////absolute`, or a plain path.
fn database(url: &str) -> Result<PathBuf, &'static str> {
    let path = match url.split_once("://") {
        Some(("sqlite", rest)) => {
            rest.strip_prefix('/').ok_or("must have three slashes: sqlite:///data/coffee.db")?
        }
        Some(("postgresql" | "postgres" | "postgresql+asyncpg" | "postgresql+psycopg2", _)) => {
            return Err("PostgreSQL is no longer supported, SQLite has replaced it: set \
                 sqlite:///data/coffee.db and import the old data with `coffee-tracker import`");
        }
        Some(_) => return Err("must be sqlite:///data/coffee.db, sqlite:////absolute/path, or a path"),
        None => url,
    };
    if path.is_empty() || path.contains(":memory:") || path.ends_with('/') {
        return Err("must name a file: sqlite:///data/coffee.db, sqlite:////absolute/path, or a path");
    }
    Ok(PathBuf::from(path))
}

/// Follows symbolic links, also to a file that does not exist yet, because the lock and the log lie beside the target.
fn resolve_links(name: PathBuf) -> PathBuf {
    // The limit of Linux.
    const MAX_LINKS: usize = 40;
    let follow = |path: &PathBuf| {
        let target = std::fs::read_link(path).ok()?;
        Some(path.parent().unwrap_or(Path::new("")).join(target))
    };
    std::iter::successors(Some(name.clone()), follow).take(MAX_LINKS).last().unwrap_or(name)
}

/// Redacts the password of a URL such as `postgresql://coffee:secret@db/x`.
fn without_password(url: &str) -> String {
    let shown = || {
        let (scheme, rest) = url.split_once("://")?;
        let (account, place) = rest.rsplit_once('@')?;
        let (user, _) = account.split_once(':')?;
        Some(format!("{scheme}://{user}:…@{place}"))
    };
    shown().unwrap_or_else(|| url.to_owned())
}

/// Parses an origin as browsers send it: scheme, host and optional port.
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

fn network(text: &str) -> Result<IpNet, &'static str> {
    let single = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| single()).map_err(|_| "must be networks such as 127.0.0.0/8 or fd00::/8")
}

fn key_source(
    api_key_file: &str,
    database: &Path,
    environment: &impl Fn(&str) -> Option<String>,
) -> KeySource {
    let given = environment("API_KEY").filter(|key| !key.trim().is_empty());
    let credential = environment("CREDENTIALS_DIRECTORY").map(|folder| Path::new(&folder).join("api_key"));
    match (given, api_key_file.trim(), credential) {
        (Some(key), _, _) => KeySource::Given(key.trim().to_owned()),
        (None, file, _) if !file.is_empty() => KeySource::File(PathBuf::from(file)),
        // The credential of the unit is empty when there is no key file.
        (None, _, Some(file)) if !is_blank(&file) => KeySource::File(file),
        _ => KeySource::Generated(database.with_extension("key")),
    }
}

/// Reports whether a credential is missing or blank. An unreadable one is not blank, so that reading the key fails.
fn is_blank(credential: &Path) -> bool {
    match std::fs::read(credential) {
        Ok(text) => text.trim_ascii().is_empty(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

fn warnings(environment: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    let variable = |name| environment(name).filter(|value| !value.trim().is_empty());
    let redis = variable("REDIS_URL")
        .map(|_| "REDIS_URL is ignored: rate limits are kept in this process".to_owned());
    let debug = variable("DEBUG")
        .filter(|value| parse_bool(value).is_none())
        .map(|value| format!("DEBUG={value} is ignored: it is neither true nor false"));
    redis.into_iter().chain(debug).collect()
}
