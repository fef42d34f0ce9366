//! Runs commands of this program in processes of their own.
//!
//! A backup or a restore must not run within the server: SQLite's locks belong to a process, and closing any other
//! descriptor of a database, as a verification does, would drop those of the server.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, io};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::config::{CommonSettings, SettingTexts};

/// Environment variable of a command that a server runs. The command then prints its progress as JSON lines on
/// standard error, and ends together with the server.
pub const RUN_BY_SERVER: &str = "COFFEE_TRACKER_RUN_BY_SERVER";
/// This program, even after its file was replaced by a newer version.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Prefix of the messages of a command.
const PREFIX: &str = "coffee-tracker: ";
/// Prefixes of its log lines, after that one. Any other message is the reason why it failed.
const LOG_LEVELS: [&str; 2] = ["warning: ", "error: "];
/// Maximum size of the output that is read, bytes.
const MAX_OUTPUT_BYTES: u64 = 4 << 20;
/// Exit code of a command that may succeed later.
const BUSY: i32 = 75;

/// Line that a command prints on standard error when a server runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "lowercase")]
pub enum ProgressLine {
    /// Bytes written, and their approximate total.
    Copying {
        done: u64,
        total: u64,
    },
    Checking,
    /// Bytes or rows of the file that were read, and their total.
    Importing {
        done: u64,
        total: u64,
    },
}

impl ProgressLine {
    pub fn to_json(self) -> String {
        serde_json::to_string(&self).unwrap_or_default()
    }
}

/// Reason why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandFailure {
    pub message: String,
    /// The command may succeed later.
    pub is_transient: bool,
    /// Output of the command before it failed, if it is JSON.
    pub output: Value,
}

/// Environment of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnvironment<'a> {
    /// The settings of a person alone.
    Person,
    /// Also the environment of the server without its key, and these settings, which are in force.
    Server(&'a SettingTexts),
}

/// Program whose commands are run.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Default for Program {
    fn default() -> Self {
        Self(PathBuf::from(THIS_PROGRAM))
    }
}

impl Program {
    /// Runs another program, in tests.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Runs a command and returns what it prints as JSON; null when it prints something else. The command ends when
    /// the future is dropped.
    pub async fn run(
        &self,
        settings: &CommonSettings,
        environment: CommandEnvironment<'_>,
        args: &[&OsStr],
        mut on_progress: impl FnMut(ProgressLine),
    ) -> Result<Value, CommandFailure> {
        let mut command = Command::new(&self.0);
        match environment {
            CommandEnvironment::Person => {
                command.env_clear();
                command.envs(env::var_os("PATH").map(|path| ("PATH", path)));
            }
            CommandEnvironment::Server(settings) => drop(command.envs(settings)),
        }
        command
            .arg0("coffee-tracker")
            .args(args)
            .env_remove("API_KEY")
            .env("DATABASE_URL", &settings.owner_database)
            .env("BACKUP_DIR", &settings.owner_backups)
            .env("TZ", settings.zone.name())
            .env(RUN_BY_SERVER, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let unstarted = |e: io::Error| CommandFailure::of(format!("the command could not be started: {e}"));
        let mut child = command.spawn().map_err(unstarted)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (output, message) = tokio::join!(read_output(stdout), read_messages(stderr, &mut on_progress));
        let status = child.wait().await.map_err(unstarted)?;
        if status.success() {
            return Ok(output);
        }
        let message = if message.is_empty() { format!("the command ended with {status}") } else { message };
        Err(CommandFailure { message, is_transient: status.code() == Some(BUSY), output })
    }
}

impl CommandFailure {
    /// Creates a failure that a retry does not help.
    pub fn of(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_transient: false, output: Value::Null }
    }
}

/// Reads the output of a command. Of several lines, the last one is parsed.
async fn read_output(stdout: Option<impl AsyncRead + Unpin>) -> Value {
    let mut text = String::new();
    if let Some(stdout) = stdout {
        drop(stdout.take(MAX_OUTPUT_BYTES).read_to_string(&mut text).await);
    }
    text.lines().next_back().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}

/// Reads progress and log lines until the end, and returns the message of a failure; empty when there is none.
async fn read_messages(
    stderr: Option<impl AsyncRead + Unpin>,
    on_progress: &mut impl FnMut(ProgressLine),
) -> String {
    let mut failure = Vec::new();
    let Some(stderr) = stderr else { return String::new() };
    let mut lines = BufReader::new(stderr.take(MAX_OUTPUT_BYTES)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let message = line.strip_prefix(PREFIX);
        let logged = message.filter(|text| LOG_LEVELS.iter().any(|level| text.starts_with(level)));
        match (serde_json::from_str(&line), logged, message) {
            (Ok(progress), ..) => on_progress(progress),
            (_, Some(logged), _) => tracing::warn!("{logged}"),
            (_, None, Some(message)) => failure.push(message.to_owned()),
            // Further lines of the message.
            (_, None, None) if !failure.is_empty() => failure.push(line),
            (_, None, None) => tracing::warn!("{line}"),
        }
    }
    failure.join("\n")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;
    use crate::domain::calendar::Zone;

    async fn run(script: &str) -> (Result<Value, CommandFailure>, Vec<ProgressLine>) {
        let settings = CommonSettings::of_owner("data/coffee.db".into(), "backups".into(), Zone::utc());
        let args = ["-c", script].map(OsStr::new);
        let mut progress = Vec::new();
        let shell = Program::at(Path::new("/bin/sh"));
        let result =
            shell.run(&settings, CommandEnvironment::Person, &args, |line| progress.push(line)).await;
        (result, progress)
    }

    #[tokio::test]
    async fn the_last_line_of_the_output_is_the_result() {
        let (result, progress) = run(r#"echo text; echo '{"a": 1}'"#).await;
        assert_eq!(result.unwrap(), serde_json::json!({"a": 1}));
        assert_eq!(progress, []);
    }

    #[tokio::test]
    async fn progress_is_reported_and_a_failure_has_its_message() {
        let script = r#"
            echo '{"stage":"copying","done":1,"total":2}' >&2; echo '{"stage":"checking"}' >&2
            echo '{"stage":"importing","done":3,"total":4}' >&2
            echo 'coffee-tracker: warning: old files' >&2
            printf 'coffee-tracker: it failed:\n  because\n' >&2; exit 75"#;
        let (result, progress) = run(script).await;
        let failure = result.unwrap_err();
        assert_eq!((failure.message.as_str(), failure.is_transient), ("it failed:\n  because", true));
        let expected = [
            ProgressLine::Copying { done: 1, total: 2 },
            ProgressLine::Checking,
            ProgressLine::Importing { done: 3, total: 4 },
        ];
        assert_eq!(progress, expected);
    }

    #[tokio::test]
    async fn a_command_gets_the_settings_and_nothing_else() {
        let script = r#"printf '"%s %s %s %s"' "$DATABASE_URL" "$BACKUP_DIR" "$TZ" "${HOME-none}""#;
        let (result, _) = run(script).await;
        assert_eq!(result.unwrap(), "data/coffee.db backups UTC none");
    }

    #[tokio::test]
    async fn a_killed_command_fails() {
        let (result, _) = run("kill -9 $$").await;
        assert!(result.unwrap_err().message.contains("signal: 9"));
    }
}
