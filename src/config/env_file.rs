//! The `.env` file, which sets the variables that the environment does not have.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Variable with the path of the settings file that systemd has loaded into the environment (`EnvironmentFile=`).
const SYSTEMD_FILE: &str = "COFFEE_TRACKER_SETTINGS_FILE";

/// Settings file that was loaded into the environment.
#[derive(Debug)]
pub struct EnvFile {
    pub path: PathBuf,
    loader: Loader,
    variables: HashSet<OsString>,
}

/// Program that has loaded a settings file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    /// This one, from `.env`, which need not exist. Of a repeated variable, the first value counts.
    DotEnv,
    /// This one, from the file that `--config` names.
    Config,
    /// systemd, from a file that need not exist. Of a repeated variable, the last value counts.
    Systemd,
}

impl EnvFile {
    /// Loads `.env`, or the file that `--config` names. Only a missing `.env` is no error.
    ///
    /// clap reads the environment while it parses the arguments, so the file is loaded before that.
    pub fn load() -> Result<Self, String> {
        let mut args = env::args_os().skip_while(|arg| arg != "--config").skip(1);
        let named = args
            .next()
            .or_else(|| env::args_os().find_map(|arg| Some(arg.to_str()?.strip_prefix("--config=")?.into())));
        let path = PathBuf::from(named.as_deref().unwrap_or(".env".as_ref()));
        let loader = if named.is_some() { Loader::Config } else { Loader::DotEnv };
        let names = || env::vars_os().map(|(name, _)| name).collect::<HashSet<_>>();
        let before = names();
        match dotenvy::from_path(&path) {
            Err(e) if named.is_some() || !e.not_found() => Err(describe(&path, &e)),
            _ => Ok(Self { path, loader, variables: names().difference(&before).cloned().collect() }),
        }
    }

    /// Returns the file that a reload reads: the one that systemd has loaded, if it names one, otherwise this one.
    ///
    /// A variable counts as set by systemd's file when the environment has the value of the file. The others are
    /// left to the environment, also those that systemd reads in another way.
    pub fn for_reload(self) -> Self {
        let Some(path) = env::var_os(SYSTEMD_FILE).filter(|path| !path.is_empty()) else { return self };
        let file = Self { path: path.into(), loader: Loader::Systemd, variables: HashSet::new() };
        let values = file.read().unwrap_or_else(|e| {
            tracing::warn!("{e}; correct it before a reload");
            HashMap::new()
        });
        let loaded = values.into_iter().filter(|(name, value)| env::var(name).as_ref() == Ok(value));
        Self { variables: loaded.map(|(name, _)| name.into()).collect(), ..file }
    }

    /// Reads the variables of the file as it is now.
    pub fn read(&self) -> Result<HashMap<String, String>, String> {
        let error = |e: &dotenvy::Error| describe(&self.path, e);
        let text = match fs::read_to_string(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && self.loader != Loader::Config => {
                String::new()
            }
            text => text.map_err(|e| error(&dotenvy::Error::Io(e)))?,
        };
        let mut variables = HashMap::new();
        for line in dotenvy::from_read_iter(text.trim_start_matches('\u{feff}').as_bytes()) {
            let (name, value) = line.map_err(|e| error(&e))?;
            if self.loader == Loader::Systemd || !variables.contains_key(&name) {
                variables.insert(name, value);
            }
        }
        Ok(variables)
    }

    /// Reports whether this file set the variable.
    pub fn has_set(&self, variable: &str) -> bool {
        self.variables.contains(Path::new(variable).as_os_str())
    }

    /// Reports whether a value in the file takes precedence over one of the environment after a restart.
    pub fn overrides_environment(&self) -> bool {
        self.loader == Loader::Systemd
    }
}

/// Describes an error without the text of the line, which may contain the API key.
fn describe(path: &Path, error: &dotenvy::Error) -> String {
    let name = path.display();
    let dotenvy::Error::LineParse(line, _) = error else { return format!("cannot read {name}: {error}") };
    // A pipe can be read only once.
    let text = if path.is_file() { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let place = text.find(line.trim_end()).map(|at| text[..at].matches('\n').count() + 1);
    let place = place.map_or_else(|| "a line".to_owned(), |number| format!("line {number}"));
    format!("cannot read {name}: {place} is not of the form NAME=VALUE; quote a value that contains spaces")
}
