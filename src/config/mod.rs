//! Settings: their definition as flags and variables, the `.env` file, and validation that reports every invalid setting at once.

mod args;
mod env_file;
mod rate_limits;
mod settings;
mod sources;
mod validate;

pub use crate::config::args::{
    AddressArgs, CommonArgs, EntryLimitArgs, PersonArgs, ProfileDefaultArgs, RemovalArgs, SettingsArgs,
};
pub use crate::config::env_file::EnvFile;
pub use crate::config::rate_limits::{LimitClass, Rate};
pub use crate::config::settings::{
    CommonSettings, KeySource, LogFormat, RELOADABLE, ReloadableSettings, SettingTexts, Settings,
};
pub use crate::config::sources::{ReloadedSettings, SettingSources};
pub use crate::config::validate::{SettingError, default_value};
