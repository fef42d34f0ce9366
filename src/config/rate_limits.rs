//! Rate limits: the classes of requests and their settings.

use std::time::Duration;

use clap::Args;

/// Number of requests allowed in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub requests: u32,
    pub per: Duration,
}

macro_rules! limit_classes {
    ($($(#[doc = $help:literal])+ $class:ident: $name:literal, $setting:ident, $variable:literal, $default:literal;)+) => {
        /// Class of requests that share a rate limit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum LimitClass {
            $($(#[doc = $help])+ $class,)+
        }

        impl LimitClass {
            /// Every class, in the order of its index.
            pub const ALL: [Self; Self::COUNT] = [$(Self::$class),+];

            /// Returns the name used in headers, metrics and `/info`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$class => $name),+ }
            }
        }

        /// Rate limits as text.
        #[derive(Args, Clone, Debug)]
        #[command(next_help_heading = "Rate limits, per client and key (RATE: N/second, N/minute, N/hour or N/day)")]
        pub struct RateLimitArgs {
            /// Enable rate limits
            #[arg(long, env = "RATE_LIMIT_ENABLED", hide_env_values = true, default_value = "true")]
            #[arg(value_name = "true|false")]
            pub rate_limit_enabled: String,

            $($(#[doc = $help])+
            #[arg(long, env = $variable, hide_env_values = true, default_value = $default)]
            #[arg(value_name = "RATE")]
            $setting: String,)+
        }

        impl RateLimitArgs {
            /// Returns the name and text of the setting of each class.
            pub fn by_class(&self) -> [(&'static str, &str); LimitClass::COUNT] {
                [$(($variable, &self.$setting)),+]
            }
        }
    };
}

limit_classes! {
    /// Limit for public pages and unknown paths
    Open: "open", rate_limit_open, "RATE_LIMIT_OPEN", "30/minute";
    /// Limit for /health
    Health: "health", rate_limit_health, "RATE_LIMIT_HEALTH", "60/minute";
    /// Limit for /info
    Info: "info", rate_limit_info, "RATE_LIMIT_INFO", "10/minute";
    /// Limit for static files
    Static: "static", rate_limit_static, "RATE_LIMIT_STATIC", "600/minute";
    /// Limit for reading coffees, heart rates and metrics
    Read: "read", rate_limit_read, "RATE_LIMIT_READ", "600/minute";
    /// Limit for logging coffees
    CoffeeWrite: "coffee-write", rate_limit_coffee_write, "RATE_LIMIT_COFFEE_WRITE", "100/hour";
    /// Limit for changing and deleting coffees
    CoffeeChange: "coffee-change", rate_limit_coffee_change, "RATE_LIMIT_COFFEE_CHANGE", "60/hour";
    /// Limit for logging heart rates
    HeartrateWrite: "heartrate-write", rate_limit_heartrate_write, "RATE_LIMIT_HEARTRATE_WRITE", "200/hour";
    /// Limit for changing and deleting heart rates
    HeartrateChange: "heartrate-change", rate_limit_heartrate_change, "RATE_LIMIT_HEARTRATE_CHANGE", "120/hour";
    /// Limit for batches of heart rates
    HeartrateBatch: "heartrate-batch", rate_limit_heartrate_batch, "RATE_LIMIT_HEARTRATE_BATCH", "60/hour";
    /// Limit for pushes of health apps
    Ingest: "ingest", rate_limit_ingest, "RATE_LIMIT_INGEST", "120/hour";
    /// Limit for managing keys, backups and people
    Manage: "manage", rate_limit_manage, "RATE_LIMIT_MANAGE", "120/minute";
    /// Limit for exchanging pairing codes for keys
    Pair: "pair", rate_limit_pair, "RATE_LIMIT_PAIR", "10/minute";
    /// Limit for requests that need a key and have no valid one
    Unauthenticated: "unauthenticated", rate_limit_unauthenticated, "RATE_LIMIT_UNAUTHENTICATED", "120/minute";
}

impl LimitClass {
    pub const COUNT: usize = 14;
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
