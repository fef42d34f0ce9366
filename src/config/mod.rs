//! Every setting: its names, its default, its help, its check.
//!
//! One definition serves flags, environment and `.env`. Values arrive as text and are
//! checked together in `check`, so that all the wrong ones are reported at once.

mod check;
mod limits;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use crate::domain::advice::CaffeineProfile;
use crate::domain::calendar::Zone;
use crate::domain::limits::EntryLimits;

pub use crate::config::check::SettingError;
pub use crate::config::limits::{LimitClass, Rate};

/// Where the data lies and which days it has, as text: what every command needs.
#[derive(Args, Clone, Debug)]
pub struct RawPlace {
    /// The database file: sqlite:///relative/path, sqlite:////absolute/path, or a plain path
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, default_value = "sqlite:///data/coffee.db")]
    pub database_url: String,

    /// Folder for backups
    #[arg(long, env = "BACKUP_DIR", hide_env_values = true, default_value = "backups")]
    pub backup_dir: String,

    /// Time zone whose calendar days count, such as Europe/Berlin; empty: this machine's
    #[arg(long, env = "TZ", hide_env_values = true, default_value = "")]
    pub tz: String,
}

/// The limits for doses and pulses, as text: what the server and `import` accept.
#[derive(Args, Clone, Debug)]
pub struct RawRules {
    /// Largest dose accepted for one coffee, mg
    #[arg(long, env = "MAX_CAFFEINE_MG", hide_env_values = true, default_value = "1000")]
    pub max_caffeine_mg: String,

    /// Lowest pulse accepted, beats per minute
    #[arg(long, env = "MIN_HEART_RATE_BPM", hide_env_values = true, default_value = "30")]
    pub min_heart_rate_bpm: String,

    /// Highest pulse accepted, beats per minute
    #[arg(long, env = "MAX_HEART_RATE_BPM", hide_env_values = true, default_value = "250")]
    pub max_heart_rate_bpm: String,
}

/// Where the data lies and which days it has.
#[derive(Clone, Debug)]
pub struct Place {
    pub database: PathBuf,
    pub backups: PathBuf,
    pub zone: Zone,
}

/// The settings as text, from the command line, the environment or `.env`.
#[derive(Args, Clone, Debug)]
pub struct RawSettings {
    /// Address to listen on: 0.0.0.0 for every interface
    #[arg(long, env = "HOST", hide_env_values = true, default_value = "127.0.0.1")]
    pub host: String,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", hide_env_values = true, default_value = "8000")]
    pub port: String,

    #[command(flatten)]
    pub place: RawPlace,

    /// File that holds the API key. Without it: the variable API_KEY, then systemd's credential
    /// `api_key`, then a random key made on first start and kept beside the database
    #[arg(long, env = "API_KEY_FILE", hide_env_values = true, default_value = "")]
    pub api_key_file: String,

    /// Accept weak and published API keys: for development only
    ///
    /// In the environment, where other programs have their own `DEBUG`, a value other than true or
    /// false is ignored.
    #[arg(
        long,
        env = "DEBUG",
        hide_env_values = true,
        default_value = "false",
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub debug: String,

    /// Least important lines to log: debug, info, warning, error or critical
    #[arg(long, env = "LOG_LEVEL", hide_env_values = true, default_value = "info")]
    pub log_level: String,

    /// How to write log lines: auto (journald under systemd, else text), text, json or journald
    #[arg(long, env = "LOG_FORMAT", hide_env_values = true, default_value = "auto")]
    pub log_format: String,

    /// Queries that take longer are logged as warnings, milliseconds
    #[arg(long, env = "SLOW_QUERY_MS", hide_env_values = true, default_value = "250")]
    pub slow_query_ms: String,

    /// Names under which this server may be asked (Host header), comma-separated; `*.` matches any
    /// prefix, `*` any name. Local names and private addresses are always allowed
    #[arg(long, env = "ALLOWED_HOSTS", hide_env_values = true, default_value = "")]
    pub allowed_hosts: String,

    /// Origins whose pages may call the API from a browser, comma-separated, such as
    /// https://home.example; `*` for any
    #[arg(long, env = "CORS_ORIGINS", hide_env_values = true, default_value = "")]
    pub cors_origins: String,

    /// Networks of proxies whose X-Forwarded-For is believed, comma-separated, such as 127.0.0.0/8
    #[arg(long, env = "TRUSTED_PROXIES", hide_env_values = true, default_value = "")]
    pub trusted_proxies: String,

    /// Serve /metrics without a key
    #[arg(long, env = "METRICS_PUBLIC", hide_env_values = true, default_value = "false")]
    pub metrics_public: String,

    /// Send security headers with every answer
    #[arg(long, env = "SECURITY_HEADERS", hide_env_values = true, default_value = "true")]
    pub security_headers: String,

    /// Largest request body, bytes (a batch of readings may have 8 MiB)
    #[arg(long, env = "MAX_REQUEST_BODY_BYTES", hide_env_values = true, default_value = "1048576")]
    pub max_request_body_bytes: String,

    /// Longest time for a request to arrive, headers and body, seconds
    #[arg(long, env = "REQUEST_TIMEOUT_SECONDS", hide_env_values = true, default_value = "20")]
    pub request_timeout_seconds: String,

    /// Longest time for the headers of a request to arrive, seconds
    #[arg(long, env = "HEADER_TIMEOUT_SECONDS", hide_env_values = true, default_value = "10")]
    pub header_timeout_seconds: String,

    /// Longest silence of a connection between requests, seconds
    #[arg(long, env = "IDLE_TIMEOUT_SECONDS", hide_env_values = true, default_value = "30")]
    pub idle_timeout_seconds: String,

    /// Connections held at once; a new one closes the least used one beyond that
    #[arg(long, env = "MAX_CONNECTIONS", hide_env_values = true, default_value = "256")]
    pub max_connections: String,

    #[command(flatten)]
    pub rules: RawRules,

    /// Advised limit for a day, mg
    #[arg(long, env = "RECOMMENDED_DAILY_CAFFEINE_MG", hide_env_values = true, default_value = "400")]
    pub recommended_daily_caffeine_mg: String,

    /// When you go to bed, local time
    #[arg(long, env = "BEDTIME", hide_env_values = true, default_value = "23:00")]
    pub bedtime: String,

    /// Hours until half of the caffeine is gone: about 5 for an average adult, 3.5 for smokers, 8 in
    /// pregnancy or with oral contraceptives
    #[arg(long, env = "CAFFEINE_HALF_LIFE_HOURS", hide_env_values = true, default_value = "5")]
    pub caffeine_half_life_hours: String,

    /// Most caffeine in the body at bedtime that leaves sleep alone, mg; studies disagree
    #[arg(long, env = "SLEEP_THRESHOLD_MG", hide_env_values = true, default_value = "50")]
    pub sleep_threshold_mg: String,

    /// Your usual dose, mg; empty: the middle one of the latest 50 coffees
    #[arg(long, env = "USUAL_DOSE_MG", hide_env_values = true, default_value = "")]
    pub usual_dose_mg: String,

    #[command(flatten)]
    pub limits: limits::RawLimits,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// A priority before each line, as journald reads it.
    Journald,
}

/// Where the API key comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Given in the environment.
    Given(String),
    /// In a file that must exist.
    File(PathBuf),
    /// In this file, made with a random key when it is not there.
    Made(PathBuf),
}

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    pub host: IpAddr,
    pub port: u16,
    pub place: Place,
    pub key: KeySource,
    pub debug: bool,
    pub log: LogSettings,
    pub slow_query: Duration,
    pub allowed_hosts: Vec<String>,
    pub cors_origins: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
    pub metrics_public: bool,
    pub security_headers: bool,
    /// Bytes.
    pub max_body: u64,
    pub request_timeout: Duration,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub max_connections: usize,
    pub rules: EntryLimits,
    /// Whom the caffeine model advises.
    pub profile: CaffeineProfile,
    /// `None`: limits are off.
    pub rates: Option<[Rate; LimitClass::COUNT]>,
    /// What the operator should know about settings that no longer do anything.
    pub notes: Vec<String>,
}

/// What to log and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub level: tracing::Level,
    pub format: LogFormat,
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Made(path) => write!(f, "Made({})", path.display()),
        }
    }
}
