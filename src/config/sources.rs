//! Sources of the settings of a running server: flags, environment and settings file, of which a reload reads the file
//! again. The environment of a process does not change.

use std::collections::{BTreeSet, HashMap};

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::config::args::{SettingsArgs, parse_bool};
use crate::config::env_file::EnvFile;
use crate::config::settings::{SettingTexts, Settings};
use crate::config::validate::default_value;

/// Sources of the settings.
#[derive(Debug)]
pub struct SettingSources {
    flags: SettingTexts,
    /// Environment without the variables of the file.
    environment: HashMap<String, String>,
    file: EnvFile,
}

/// Settings that were read again.
#[derive(Debug)]
pub struct ReloadedSettings {
    pub settings: Settings,
    /// Variables in the file to which a flag or the environment gives another value.
    pub without_effect: BTreeSet<String>,
    /// Variables in the file to which the environment gives another value until the next start.
    pub hidden_until_restart: BTreeSet<String>,
}

impl SettingSources {
    /// Records the sources of this process. `matches` are the arguments of `serve`.
    pub fn of_process(matches: &ArgMatches, file: EnvFile) -> Self {
        let file = file.for_reload();
        let flags = texts(matches).into_iter().filter(|(name, _)| {
            matches.value_source(&name.to_ascii_lowercase()) == Some(ValueSource::CommandLine)
        });
        let flags = flags.collect();
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !file.has_set(name))
            .collect();
        Self { flags, environment, file }
    }

    /// Reads all settings again, with the present content of the file.
    ///
    /// # Errors
    /// Every reason why they are invalid.
    pub fn read(&self) -> Result<ReloadedSettings, Vec<String>> {
        let in_file = self.file.read().map_err(|e| vec![e])?;
        let variable = |name: &str| self.environment.get(name).or_else(|| in_file.get(name)).cloned();
        let definition = definition().no_binary_name(true).mut_args(|arg| arg.env(None::<&str>));
        let names = definition.get_arguments().map(|arg| arg.get_id().as_str().to_ascii_uppercase());
        let args = names.filter_map(|name| {
            let text = self.flags.get(&name).cloned().or_else(|| variable(&name))?;
            let flag = name.to_ascii_lowercase().replace('_', "-");
            match name.as_str() {
                "DEBUG" => (parse_bool(&text) == Some(true)).then(|| "--debug".to_owned()),
                _ => Some(format!("--{flag}={text}")),
            }
        });
        let args: Vec<String> = args.collect();
        let parsed = definition.try_get_matches_from(args);
        let parsed = parsed.and_then(|matches| Ok((SettingsArgs::from_arg_matches(&matches)?, matches)));
        let (raw, matches) = parsed.map_err(|e| vec![e.to_string()])?;
        let validated = raw.validate(variable);
        let mut settings =
            validated.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        settings.initial.texts = texts(&matches);

        let known = |name: &str| name == "API_KEY" || settings.initial.texts.contains_key(name);
        let (mut without_effect, mut hidden_until_restart) = (BTreeSet::new(), BTreeSet::new());
        for (name, value) in in_file.iter().filter(|(name, _)| known(name)) {
            let differs = |other: Option<&String>| other.is_some_and(|other| other != value);
            if differs(self.flags.get(name)) {
                without_effect.insert(name.clone());
            } else if differs(self.environment.get(name)) && self.file.overrides_environment() {
                hidden_until_restart.insert(name.clone());
            } else if differs(self.environment.get(name)) {
                without_effect.insert(name.clone());
            }
        }
        Ok(ReloadedSettings { settings, without_effect, hidden_until_restart })
    }

    /// Returns the text of every setting that has a flag. `matches` are the arguments of `serve`.
    pub fn texts_at_start(matches: &ArgMatches) -> SettingTexts {
        texts(matches)
    }
}

fn definition() -> Command {
    SettingsArgs::augment_args(Command::new("settings"))
}

/// Returns the text of every setting; a blank one has its default.
fn texts(matches: &ArgMatches) -> SettingTexts {
    let definition = definition();
    let text = |id: &str, name: &str| match id {
        "debug" => matches.get_flag(id).to_string(),
        id => {
            let text = matches.get_one::<String>(id).map(|text| text.trim().to_owned());
            text.filter(|text| !text.is_empty()).unwrap_or_else(|| default_value(&definition, name))
        }
    };
    let ids = definition.get_arguments().map(|arg| arg.get_id().as_str());
    ids.map(|id| (id.to_ascii_uppercase(), text(id, &id.to_ascii_uppercase()))).collect()
}
