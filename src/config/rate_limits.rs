//! Rate limits: the classes of requests and their settings.

use std::time::Duration;

use clap::Args;

/// Class of requests that share a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitClass {
    Open,
    Health,
    Info,
    Static,
    Read,
    CoffeeWrite,
    CoffeeChange,
    HeartrateWrite,
    HeartrateChange,
    HeartrateBatch,
    /// Requests that need a key and have no valid one, whatever their route.
    Unauthenticated,
}

/// Number of requests allowed in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub requests: u32,
    pub per: Duration,
}

/// Rate limits as text.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Rate limits, per client and key (N/second, N/minute, N/hour or N/day)")]
pub struct RateLimitArgs {
    /// Enable rate limits
    #[arg(long, env = "RATE_LIMIT_ENABLED", hide_env_values = true, default_value = "true")]
    pub rate_limit_enabled: String,

    /// Limit for public pages and unknown paths
    #[arg(long, env = "RATE_LIMIT_OPEN", hide_env_values = true, default_value = "30/minute")]
    pub rate_limit_open: String,

    /// Limit for /health
    #[arg(long, env = "RATE_LIMIT_HEALTH", hide_env_values = true, default_value = "60/minute")]
    pub rate_limit_health: String,

    /// Limit for /info
    #[arg(long, env = "RATE_LIMIT_INFO", hide_env_values = true, default_value = "10/minute")]
    pub rate_limit_info: String,

    /// Limit for static files
    #[arg(long, env = "RATE_LIMIT_STATIC", hide_env_values = true, default_value = "600/minute")]
    pub rate_limit_static: String,

    /// Limit for reading coffees, heart rates and metrics
    #[arg(long, env = "RATE_LIMIT_READ", hide_env_values = true, default_value = "600/minute")]
    pub rate_limit_read: String,

    /// Limit for logging coffees
    #[arg(long, env = "RATE_LIMIT_COFFEE_WRITE", hide_env_values = true, default_value = "100/hour")]
    pub rate_limit_coffee_write: String,

    /// Limit for changing and deleting coffees
    #[arg(long, env = "RATE_LIMIT_COFFEE_CHANGE", hide_env_values = true, default_value = "60/hour")]
    pub rate_limit_coffee_change: String,

    /// Limit for logging heart rates
    #[arg(long, env = "RATE_LIMIT_HEARTRATE_WRITE", hide_env_values = true, default_value = "200/hour")]
    pub rate_limit_heartrate_write: String,

    /// Limit for changing and deleting heart rates
    #[arg(long, env = "RATE_LIMIT_HEARTRATE_CHANGE", hide_env_values = true, default_value = "120/hour")]
    pub rate_limit_heartrate_change: String,

    /// Limit for batches of heart rates
    #[arg(long, env = "RATE_LIMIT_HEARTRATE_BATCH", hide_env_values = true, default_value = "60/hour")]
    pub rate_limit_heartrate_batch: String,

    /// Limit for requests that need a key and have no valid one
    #[arg(long, env = "RATE_LIMIT_UNAUTHENTICATED", hide_env_values = true, default_value = "120/minute")]
    pub rate_limit_unauthenticated: String,
}

impl LimitClass {
    pub const COUNT: usize = 11;

    /// Every class, in the order of its index.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Open,
        Self::Health,
        Self::Info,
        Self::Static,
        Self::Read,
        Self::CoffeeWrite,
        Self::CoffeeChange,
        Self::HeartrateWrite,
        Self::HeartrateChange,
        Self::HeartrateBatch,
        Self::Unauthenticated,
    ];

    /// Returns the position in [`LimitClass::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the name used in headers, metrics and `/info`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Health => "health",
            Self::Info => "info",
            Self::Static => "static",
            Self::Read => "read",
            Self::CoffeeWrite => "coffee-write",
            Self::CoffeeChange => "coffee-change",
            Self::HeartrateWrite => "heartrate-write",
            Self::HeartrateChange => "heartrate-change",
            Self::HeartrateBatch => "heartrate-batch",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

impl RateLimitArgs {
    /// Returns each class with the name and text of its setting.
    pub fn by_class(&self) -> [(LimitClass, &'static str, &str); LimitClass::COUNT] {
        [
            (LimitClass::Open, "RATE_LIMIT_OPEN", &self.rate_limit_open),
            (LimitClass::Health, "RATE_LIMIT_HEALTH", &self.rate_limit_health),
            (LimitClass::Info, "RATE_LIMIT_INFO", &self.rate_limit_info),
            (LimitClass::Static, "RATE_LIMIT_STATIC", &self.rate_limit_static),
            (LimitClass::Read, "RATE_LIMIT_READ", &self.rate_limit_read),
            (LimitClass::CoffeeWrite, "RATE_LIMIT_COFFEE_WRITE", &self.rate_limit_coffee_write),
            (LimitClass::CoffeeChange, "RATE_LIMIT_COFFEE_CHANGE", &self.rate_limit_coffee_change),
            (LimitClass::HeartrateWrite, "RATE_LIMIT_HEARTRATE_WRITE", &self.rate_limit_heartrate_write),
            (LimitClass::HeartrateChange, "RATE_LIMIT_HEARTRATE_CHANGE", &self.rate_limit_heartrate_change),
            (LimitClass::HeartrateBatch, "RATE_LIMIT_HEARTRATE_BATCH", &self.rate_limit_heartrate_batch),
            (LimitClass::Unauthenticated, "RATE_LIMIT_UNAUTHENTICATED", &self.rate_limit_unauthenticated),
        ]
    }
}

impl Rate {
    /// Parses a rate such as `100/hour`. The error describes the valid form.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must be a rate such as 100/hour (or /second, /minute, /day)";
        let (requests, unit) = text.split_once('/').ok_or(FORM)?;
        let seconds = match unit.trim() {
            "second" | "s" => 1,
            "minute" | "min" | "m" => 60,
            "hour" | "h" => 3600,
            "day" | "d" => 86_400,
            _ => return Err(FORM),
        };
        let requests = requests.trim().parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or(FORM)?;
        Ok(Self { requests, per: Duration::from_secs(seconds) })
    }

    /// Formats the rate as in a setting.
    pub fn text(self) -> String {
        let unit = match self.per.as_secs() {
            1 => "second",
            60 => "minute",
            3600 => "hour",
            _ => "day",
        };
        format!("{}/{unit}", self.requests)
    }
}
