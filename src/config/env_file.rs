//! The `.env` file, which sets the variables that the environment does not have.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Settings file that was loaded into the environment.
#[derive(Debug)]
pub struct EnvFile {
    pub path: PathBuf,
    variables: HashSet<OsString>,
}

impl EnvFile {
    /// Loads `.env`, or the file that `--config` names. Only a missing `.env` is no error.
    ///
    /// clap reads the environment while it parses the arguments, so the file is loaded before that.
    pub fn load() -> Result<Self, String> {
        let mut args = std::env::args_os().skip_while(|arg| arg != "--config").skip(1);
        let named = args.next().or_else(|| {
            std::env::args_os().find_map(|arg| Some(arg.to_str()?.strip_prefix("--config=")?.into()))
        });
        let path = PathBuf::from(named.as_deref().unwrap_or(".env".as_ref()));
        let names = || std::env::vars_os().map(|(name, _)| name).collect::<HashSet<_>>();
        let before = names();
        match dotenvy::from_path(&path) {
            Err(e) if named.is_some() || !e.not_found() => {
                Err(format!("cannot read {}: {e}", path.display()))
            }
            _ => Ok(Self { path, variables: names().difference(&before).cloned().collect() }),
        }
    }

    /// Reports whether this file set the variable.
    pub fn has_set(&self, variable: &str) -> bool {
        self.variables.contains(Path::new(variable).as_os_str())
    }
}
