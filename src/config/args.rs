//! Definition of every setting: flag, variable, default and help. Values stay text until they are validated.

use std::convert::Infallible;

use clap::Args;

use crate::config::rate_limits::RateLimitArgs;
use crate::domain::person::PersonName;

// Headings in the help of `serve`, `check` and `config`.
const NETWORK: &str = "Network";
const SECURITY: &str = "Security";
const LIMITS: &str = "Limits";
const LOGGING: &str = "Logging";

/// Settings that every command has, as text.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Database file: sqlite:///relative/path, sqlite:////absolute/path, or a plain path
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, default_value = "sqlite:///data/coffee.db")]
    #[arg(value_name = "FILE")]
    pub database_url: String,

    /// Backup folder
    #[arg(long, env = "BACKUP_DIR", hide_env_values = true, default_value = "backups")]
    #[arg(value_name = "DIR")]
    pub backup_dir: String,

    /// Time zone for calendar days, such as Europe/Berlin [default: that of this machine]
    #[arg(long, env = "TZ", hide_env_values = true, default_value = "", hide_default_value = true)]
    #[arg(value_name = "ZONE")]
    pub tz: String,
}

/// Setting of how long removed people are kept, as text.
#[derive(Args, Clone, Debug)]
pub struct RemovalArgs {
    /// Days after which a running server deletes a removed person for good; 0 keeps removed people forever
    #[arg(long, env = "REMOVED_PERSON_DAYS", hide_env_values = true, default_value = "30")]
    #[arg(value_name = "DAYS")]
    pub removed_person_days: String,
}

/// Settings of a command that works on the data of one person.
#[derive(Args, Clone, Debug)]
pub struct PersonArgs {
    /// Person whose data the command uses [default: the owner]
    #[arg(long, value_name = "NAME")]
    pub person: Option<PersonName>,

    #[command(flatten)]
    pub common: CommonArgs,
}

/// Limits for entries that the server and `import` accept, as text.
#[derive(Args, Clone, Debug)]
pub struct EntryLimitArgs {
    /// Maximum dose of one drink, mg
    #[arg(long, env = "MAX_CAFFEINE_MG", hide_env_values = true, default_value = "1000")]
    #[arg(value_name = "MG")]
    pub max_caffeine_mg: String,

    /// Minimum heart rate, bpm
    #[arg(long, env = "MIN_HEART_RATE_BPM", hide_env_values = true, default_value = "30")]
    #[arg(value_name = "BPM")]
    pub min_heart_rate_bpm: String,

    /// Maximum heart rate, bpm
    #[arg(long, env = "MAX_HEART_RATE_BPM", hide_env_values = true, default_value = "250")]
    #[arg(value_name = "BPM")]
    pub max_heart_rate_bpm: String,
}

/// Defaults of the profile, as text.
#[derive(Args, Clone, Debug)]
pub struct ProfileDefaultArgs {
    /// Recommended daily caffeine limit, mg
    #[arg(long, env = "RECOMMENDED_DAILY_CAFFEINE_MG", hide_env_values = true, default_value = "400")]
    #[arg(value_name = "MG")]
    pub recommended_daily_caffeine_mg: String,

    /// Your bedtime, local time
    #[arg(long, env = "BEDTIME", hide_env_values = true, default_value = "23:00")]
    #[arg(value_name = "HH:MM")]
    pub bedtime: String,

    /// Caffeine half-life, hours: about 5 for an average adult, 3.5 for smokers, 8 in pregnancy or with oral
    /// contraceptives
    #[arg(long, env = "CAFFEINE_HALF_LIFE_HOURS", hide_env_values = true, default_value = "5")]
    #[arg(value_name = "HOURS")]
    pub caffeine_half_life_hours: String,

    /// Caffeine in the body at bedtime up to which your sleep counts as undisturbed, mg (studies disagree)
    #[arg(long, env = "SLEEP_THRESHOLD_MG", hide_env_values = true, default_value = "50")]
    #[arg(value_name = "MG")]
    pub sleep_threshold_mg: String,

    /// Your usual dose, mg [default: the median of the latest 50 drinks]
    #[arg(
        long,
        env = "USUAL_DOSE_MG",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    #[arg(value_name = "MG")]
    pub usual_dose_mg: String,
}

/// Address of the server, as text.
#[derive(Args, Clone, Debug)]
pub struct AddressArgs {
    /// Address to listen on; 0.0.0.0 for all interfaces
    #[arg(long, env = "HOST", hide_env_values = true, default_value = "127.0.0.1")]
    #[arg(value_name = "ADDRESS", help_heading = NETWORK)]
    pub host: String,

    /// Port to listen on; 0 for any free port
    #[arg(long, env = "PORT", hide_env_values = true, default_value = "8000")]
    #[arg(help_heading = NETWORK)]
    pub port: String,
}

/// All settings as text, from flags, the environment or `.env`.
#[derive(Args, Clone, Debug)]
pub struct SettingsArgs {
    #[command(flatten)]
    pub address: AddressArgs,

    /// Host names to accept, comma-separated; `*.` matches any prefix, `*` any name
    ///
    /// Local names and private addresses are always accepted. The check protects against DNS rebinding.
    #[arg(
        long,
        env = "ALLOWED_HOSTS",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    #[arg(value_name = "NAMES", help_heading = NETWORK)]
    pub allowed_hosts: String,

    /// Proxies whose X-Forwarded-For header is trusted, comma-separated, such as 127.0.0.0/8
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    #[arg(value_name = "NETWORKS", help_heading = NETWORK)]
    pub trusted_proxies: String,

    #[command(flatten, next_help_heading = "Data")]
    pub common: CommonArgs,

    #[command(flatten, next_help_heading = "Data")]
    pub removal: RemovalArgs,

    /// File with the API key
    ///
    /// API_KEY takes precedence over it. Without either, the systemd credential `api_key` is used, or else a
    /// random key, which the first start creates beside the database.
    #[arg(long, env = "API_KEY_FILE", hide_env_values = true, default_value = "", hide_default_value = true)]
    #[arg(value_name = "FILE", help_heading = SECURITY)]
    pub api_key_file: String,

    /// Accept weak and published API keys (for development only)
    ///
    /// The flag takes no value. The variable enables it with true, 1, yes or on. Because other programs use the
    /// variable DEBUG as well, a value that is neither true nor false is ignored with a warning.
    #[arg(long, env = "DEBUG", hide_env_values = true, value_parser = debug_switch)]
    #[arg(help_heading = SECURITY)]
    pub debug: bool,

    /// Origins allowed to call the API from a browser, comma-separated, such as https://home.example; `*` for any
    #[arg(long, env = "CORS_ORIGINS", hide_env_values = true, default_value = "", hide_default_value = true)]
    #[arg(value_name = "ORIGINS", help_heading = SECURITY)]
    pub cors_origins: String,

    /// Header in which a trusted proxy names the person who has signed in there, such as Remote-User
    #[arg(long, env = "AUTH_PROXY_HEADER", hide_env_values = true, default_value = "")]
    #[arg(value_name = "NAME", help_heading = SECURITY)]
    pub auth_proxy_header: String,

    /// Serve /metrics without a key
    #[arg(long, env = "METRICS_PUBLIC", hide_env_values = true, default_value = "false")]
    #[arg(value_name = "true|false", help_heading = SECURITY)]
    pub metrics_public: String,

    /// Send security headers with every response
    #[arg(long, env = "SECURITY_HEADERS", hide_env_values = true, default_value = "true")]
    #[arg(value_name = "true|false", help_heading = SECURITY)]
    pub security_headers: String,

    /// Minimum log level: debug, info, warning or error (critical is the same as error)
    #[arg(long, env = "LOG_LEVEL", hide_env_values = true, default_value = "info")]
    #[arg(value_name = "LEVEL", help_heading = LOGGING)]
    pub log_level: String,

    /// Log format: auto (journald under systemd, otherwise text), text, json or journald
    #[arg(long, env = "LOG_FORMAT", hide_env_values = true, default_value = "auto")]
    #[arg(value_name = "FORMAT", help_heading = LOGGING)]
    pub log_format: String,

    /// Warn about queries slower than this, ms
    #[arg(long, env = "SLOW_QUERY_MS", hide_env_values = true, default_value = "250")]
    #[arg(value_name = "MS", help_heading = LOGGING)]
    pub slow_query_ms: String,

    /// Maximum size of a request body, bytes (8 MiB for a batch of heart rates)
    #[arg(long, env = "MAX_REQUEST_BODY_BYTES", hide_env_values = true, default_value = "1048576")]
    #[arg(value_name = "BYTES", help_heading = LIMITS)]
    pub max_request_body_bytes: String,

    /// Maximum size of the push of a health app, bytes
    #[arg(long, env = "MAX_INGEST_BODY_BYTES", hide_env_values = true, default_value = "33554432")]
    #[arg(value_name = "BYTES", help_heading = LIMITS)]
    pub max_ingest_body_bytes: String,

    /// Time limit for receiving a request (headers and body), seconds
    #[arg(long, env = "REQUEST_TIMEOUT_SECONDS", hide_env_values = true, default_value = "20")]
    #[arg(value_name = "SECONDS", help_heading = LIMITS)]
    pub request_timeout_seconds: String,

    /// Time limit for receiving the headers of a request, seconds
    #[arg(long, env = "HEADER_TIMEOUT_SECONDS", hide_env_values = true, default_value = "10")]
    #[arg(value_name = "SECONDS", help_heading = LIMITS)]
    pub header_timeout_seconds: String,

    /// Time limit for an idle connection, seconds
    #[arg(long, env = "IDLE_TIMEOUT_SECONDS", hide_env_values = true, default_value = "30")]
    #[arg(value_name = "SECONDS", help_heading = LIMITS)]
    pub idle_timeout_seconds: String,

    /// Maximum number of connections; beyond it, a new connection closes the least recently used one
    #[arg(long, env = "MAX_CONNECTIONS", hide_env_values = true, default_value = "256")]
    #[arg(value_name = "N", help_heading = LIMITS)]
    pub max_connections: String,

    /// Maximum number of open databases of people other than the owner; further ones are closed when unused
    #[arg(long, env = "MAX_OPEN_PEOPLE", hide_env_values = true, default_value = "64")]
    #[arg(value_name = "N", help_heading = LIMITS)]
    pub max_open_people: String,

    #[command(flatten, next_help_heading = LIMITS)]
    pub entry_limits: EntryLimitArgs,

    #[command(flatten, next_help_heading = "Caffeine model")]
    pub profile: ProfileDefaultArgs,

    #[command(flatten)]
    pub rate_limits: RateLimitArgs,
}

/// Parses a boolean as settings write it.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap expects a `Result`")]
fn debug_switch(text: &str) -> Result<bool, Infallible> {
    Ok(parse_bool(text) == Some(true))
}
