//! Reload of the settings by a running server, on SIGHUP.

use std::collections::BTreeSet;
use std::io;
use std::io::{IsTerminal, stdin};
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::auth::owner_key;
use crate::commands::systemd;
use crate::config::{KeySource, RELOADABLE, ReloadedSettings, SettingSources, SettingTexts};
use crate::fs::privileges::Identity;
use crate::http::SharedApp;
use crate::people::registry::People;
use crate::telemetry::logging::MinLogLevel;

/// Name of the owner's key in the log.
const OWNER_KEY: &str = "the owner's key";

/// Receiver of SIGHUP.
#[derive(Debug)]
pub struct Hangups {
    signal: unix::Signal,
    /// The process was started on a terminal.
    has_terminal: bool,
}

impl Hangups {
    /// Receives the signal from now on; before, it ends the process. One that arrives during the start is kept.
    pub fn receive() -> io::Result<Self> {
        // The signal outlives this runtime, which has no threads.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let _context = runtime.enter();
        let signal = unix::signal(SignalKind::hangup())?;
        Ok(Self { signal, has_terminal: stdin().is_terminal() })
    }

    /// Waits for the next signal. A terminal that was closed ends the server as it ends other programs.
    async fn next(&mut self) -> Option<()> {
        self.signal.recv().await?;
        if self.has_terminal && !stdin().is_terminal() {
            tracing::info!("the terminal was closed");
            if let Err(e) = kill_process(getpid(), Signal::TERM) {
                tracing::error!("the server could not be stopped: {e}");
            }
            return None;
        }
        Some(())
    }
}

/// Inputs of a reload that are known before the server is open.
#[derive(Debug)]
pub struct Reloader {
    pub hangups: Hangups,
    pub sources: SettingSources,
    pub identity: Identity,
    pub min_log_level: MinLogLevel,
}

/// Inputs of a reload, and the state that it changes.
#[derive(Debug)]
struct Reload {
    sources: SettingSources,
    identity: Identity,
    min_log_level: MinLogLevel,
    app: SharedApp,
    people: Arc<People>,
}

impl Reloader {
    /// Reloads the settings on each signal, once the server listens.
    pub async fn run(self, app: SharedApp, people: Arc<People>, address: oneshot::Receiver<SocketAddr>) {
        let Self { mut hangups, sources, identity, min_log_level } = self;
        let Ok(address) = address.await else { return };
        let reload = Arc::new(Reload { sources, identity, min_log_level, app, people });
        while hangups.next().await.is_some() {
            systemd::reloading();
            let reload = Arc::clone(&reload);
            let done = spawn_blocking(move || reload.execute()).await;
            let done = done.unwrap_or_else(|e| Err(vec![e.to_string()]));
            if let Err(reasons) = &done {
                tracing::error!("settings not reloaded, those in force are kept: {}", reasons.join("; "));
            }
            systemd::reloaded(address, done.is_ok());
        }
    }
}

impl Reload {
    /// Reads all settings and applies those that a reload changes. Blocks on files.
    ///
    /// # Errors
    /// Every reason why the new settings are invalid. Nothing has changed then.
    fn execute(&self) -> Result<(), Vec<String>> {
        let reason = |e: &dyn std::fmt::Display| vec![e.to_string()];
        let read = self.identity.as_caller(|| self.sources.read()).map_err(|e| reason(&e))?;
        let ReloadedSettings { settings, without_effect, hidden_until_restart } = read?;
        let new = settings.initial;
        let load = || owner_key::load_existing(&new.key, new.debug);
        let loaded = match new.key {
            // A generated key belongs to the owner of the database.
            KeySource::Generated(_) => load(),
            _ => self.identity.as_caller(load).map_err(|e| reason(&e))?,
        };
        let (key, _) = loaded.map_err(|e| reason(&e))?;

        let old = self.app.current();
        let mut changed: Vec<&str> = different(&old.texts, &new.texts);
        changed.retain(|name| RELOADABLE.contains(name));
        let initial = &self.app.settings.initial.texts;
        let mut for_restart: BTreeSet<&str> = different(initial, &new.texts).into_iter().collect();
        for_restart.retain(|name| !RELOADABLE.contains(name));
        for_restart.extend(hidden_until_restart.iter().map(String::as_str));
        if self.people.replace_owner_key(&key) {
            changed.push(OWNER_KEY);
        }
        self.app.replace_current(new.clone());
        self.people.refresh_people();
        // The result is logged at the more verbose of both levels.
        self.min_log_level.set(old.log_level.max(new.log_level));
        if !without_effect.is_empty() {
            let names = Vec::from_iter(without_effect).join(", ");
            tracing::info!("without effect, because flags or the environment take precedence: {names}");
        }
        if !for_restart.is_empty() {
            let names = Vec::from_iter(for_restart).join(", ");
            tracing::warn!("restart the server to apply: {names}");
        }
        match changed.join(", ").as_str() {
            "" => tracing::info!("settings reloaded: nothing has changed"),
            changed => tracing::info!("settings reloaded: {changed}"),
        }
        self.min_log_level.set(new.log_level);
        Ok(())
    }
}

/// Returns the names of the settings whose texts differ.
fn different<'a>(old: &SettingTexts, new: &'a SettingTexts) -> Vec<&'a str> {
    new.iter().filter(|(name, text)| old.get(*name) != Some(*text)).map(|(name, _)| name.as_str()).collect()
}
