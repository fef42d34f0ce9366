//! Validated settings.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::config::rate_limits::{LimitClass, Rate};
use crate::domain::advice::CaffeineProfile;
use crate::domain::calendar::Zone;
use crate::domain::limits::EntryLimits;
use crate::domain::person::PersonName;
use crate::fs::paths::folder_of;

/// Validated settings that every command has. Database and backups are those of one person.
#[derive(Clone, Debug)]
pub struct CommonSettings {
    pub person: PersonName,
    pub database: PathBuf,
    pub backups: PathBuf,
    pub zone: Zone,
    /// Database of the owner, beside which the folders of the other people lie.
    pub owner_database: PathBuf,
    /// Backups of the owner, which contain the folders with the backups of the other people.
    pub owner_backups: PathBuf,
}

impl CommonSettings {
    /// Returns the settings of the owner.
    pub fn of_owner(database: PathBuf, backups: PathBuf, zone: Zone) -> Self {
        Self {
            person: PersonName::owner(),
            database: database.clone(),
            backups: backups.clone(),
            zone,
            owner_database: database,
            owner_backups: backups,
        }
    }

    /// Returns the same settings for another person.
    pub fn of_person(&self, person: &PersonName) -> Self {
        let (database, backups) = if person.is_owner() {
            (self.owner_database.clone(), self.owner_backups.clone())
        } else {
            (
                self.people_folder().join(person.as_str()).join("coffee.db"),
                self.owner_backups.join(person.as_str()),
            )
        };
        Self { person: person.clone(), database, backups, ..self.clone() }
    }

    /// Returns the folder with the database of the person.
    pub fn folder(&self) -> &Path {
        folder_of(&self.database)
    }

    /// Returns the folder with a folder for each person except the owner.
    pub fn people_folder(&self) -> PathBuf {
        self.owner_database.with_file_name("people")
    }

    /// Returns the folder to which removed people are moved.
    pub fn removed_folder(&self) -> PathBuf {
        self.owner_database.with_file_name("removed")
    }
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For humans.
    Text,
    /// One JSON object per line.
    Json,
    /// Each line begins with a priority that journald reads.
    Journald,
}

/// Source of the owner's API key.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Value of `API_KEY`.
    Given(String),
    /// File that must exist.
    File(PathBuf),
    /// File that is created with a random key when it is missing.
    Generated(PathBuf),
}

/// All settings, validated.
#[derive(Clone, Debug)]
pub struct Settings {
    pub host: IpAddr,
    pub port: u16,
    pub common: CommonSettings,
    pub log_format: LogFormat,
    pub slow_query: Duration,
    pub cors_origins: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
    /// Header in which a trusted proxy names the person who has signed in there.
    pub auth_proxy_header: Option<String>,
    pub metrics_public: bool,
    pub security_headers: bool,
    pub max_body_bytes: u64,
    /// Maximum size of the push of a health app.
    pub max_ingest_body_bytes: u64,
    pub request_timeout: Duration,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub max_connections: usize,
    pub max_open_people: usize,
    /// Days after which a removed person is deleted; `None` keeps removed people forever.
    pub removed_person_days: Option<u32>,
    pub entry_limits: EntryLimits,
    /// `None` when rate limits are disabled.
    pub rate_limits: Option<[Rate; LimitClass::COUNT]>,
    /// Warnings about variables that are ignored.
    pub warnings: Vec<String>,
    /// Values at the start of the settings that a reload changes.
    pub initial: ReloadableSettings,
}

/// Settings that a reload changes while the server runs.
#[derive(Clone, Debug)]
pub struct ReloadableSettings {
    pub key: KeySource,
    pub debug: bool,
    pub log_level: tracing::Level,
    pub allowed_hosts: Vec<String>,
    /// Defaults of the profile.
    pub profile: CaffeineProfile,
    /// Text of every setting that has a flag, for the commands that a server runs; empty when nobody needs it.
    pub texts: SettingTexts,
}

/// Variables that a reload applies; the others need a restart.
pub const RELOADABLE: [&str; 9] = [
    "ALLOWED_HOSTS",
    "API_KEY_FILE",
    "BEDTIME",
    "CAFFEINE_HALF_LIFE_HOURS",
    "DEBUG",
    "LOG_LEVEL",
    "RECOMMENDED_DAILY_CAFFEINE_MG",
    "SLEEP_THRESHOLD_MG",
    "USUAL_DOSE_MG",
];

/// Text of settings, by the name of the variable.
pub type SettingTexts = BTreeMap<String, String>;

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given(_) => f.write_str("Given(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Generated(path) => write!(f, "Generated({})", path.display()),
        }
    }
}
