//! Checks of the owner's key, settings, file permissions, clock and unit.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::auth::owner_key;
use crate::commands::check::{Findings, format_age};
use crate::config::{KeySource, Settings};
use crate::domain::time::{DAY, Timestamp};
use crate::fs::paths::folder_of;
use crate::fs::protected_paths::companions;
use crate::http::Capacity;

/// Age at which a key should be replaced, microseconds.
pub const MAX_KEY_AGE: i64 = 365 * DAY;
/// Minimum number of different characters in a random key.
const MIN_DISTINCT_CHARACTERS: usize = 8;
/// Paths where packages and administrators install the unit.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/coffee-tracker.service",
    "/usr/lib/systemd/system/coffee-tracker.service",
    "/lib/systemd/system/coffee-tracker.service",
];
/// Exposure of the unmodified unit in `systemd-analyze security`.
const MAX_EXPOSURE: f64 = 1.0;

/// File from which the unit loads the owner's key.
const CREDENTIAL: &str = "/etc/coffee-tracker/api_key";

/// Returns the source of the server's key, which may be a systemd credential that this process does not have.
fn source_of_server(settings: &Settings) -> KeySource {
    match &settings.initial.key {
        // An absolute path indicates the service.
        KeySource::Generated(path)
            if path.is_absolute() && !path.exists() && Path::new(CREDENTIAL).exists() =>
        {
            KeySource::File(CREDENTIAL.into())
        }
        source => source.clone(),
    }
}

/// Checks that the owner's key is strong, recent and private.
pub fn key(report: &mut Findings, settings: &Settings, now: Timestamp) {
    const ABOUT: &str = "API key";
    let key = source_of_server(settings);
    let (source, path): (_, Option<&PathBuf>) = match &key {
        KeySource::Generated(path) if !path.exists() => {
            return report
                .advice(ABOUT, "there is no key yet: the first start creates one and prints it once");
        }
        KeySource::Given(_) => ("API_KEY".to_owned(), None),
        KeySource::File(path) | KeySource::Generated(path) => (path.display().to_string(), Some(path)),
    };
    match (owner_key::load(&key, false), distinct_characters(&key)) {
        (Err(e), _) => report.must(ABOUT, format!("{e} ({source})")),
        (Ok(_), few) if few < MIN_DISTINCT_CHARACTERS => {
            report
                .must(ABOUT, format!("it has only {few} different characters: use a random key ({source})"));
        }
        (Ok(_), _) => report.ok(ABOUT, format!("strong ({source})")),
    }
    if settings.initial.debug {
        report.must(ABOUT, "DEBUG=true accepts weak keys: remove it");
    }
    let Some(path) = path else {
        return report.advice(
            ABOUT,
            "other programs of the same user can read it in the environment: use API_KEY_FILE or a systemd credential",
        );
    };
    let Ok(file) = fs::metadata(path) else { return };
    if file.mode() & 0o077 != 0 {
        report.must(ABOUT, format!("other users can read it: run `chmod 600 {}`", path.display()));
    }
    let age = file.modified().map_or(0, |at| now.micros() - Timestamp::from(at).micros());
    if age > MAX_KEY_AGE {
        report.advice(ABOUT, format!("it is {} old: replace it", format_age(age)));
    }
}

fn distinct_characters(source: &KeySource) -> usize {
    let text = match source {
        KeySource::Given(key) => key.clone(),
        KeySource::File(path) | KeySource::Generated(path) => fs::read_to_string(path).unwrap_or_default(),
    };
    text.trim().bytes().collect::<std::collections::HashSet<_>>().len()
}

/// Checks for settings that weaken security.
pub fn settings(report: &mut Findings, settings: &Settings) {
    let any = |names: &[String]| names.iter().any(|name| name == "*");
    for note in &settings.warnings {
        report.advice("settings", note.clone());
    }
    if any(&settings.cors_origins) {
        report.must("CORS", "CORS_ORIGINS=* allows every web page: list the origins that you need");
    } else if settings.cors_origins.is_empty() {
        report.ok("CORS", "pages of other origins are not allowed");
    } else {
        report.ok("CORS", format!("pages of {} are allowed", settings.cors_origins.join(", ")));
    }
    if any(&settings.initial.allowed_hosts) {
        report.must("hosts", "ALLOWED_HOSTS=* accepts any host name: list your own");
    } else if settings.initial.allowed_hosts.is_empty() {
        report.ok("hosts", "local names and private addresses");
    } else {
        let hosts = settings.initial.allowed_hosts.join(", ");
        report.ok("hosts", format!("local names, private addresses, {hosts}"));
    }
    let host = settings.host;
    if host.is_loopback() {
        report.ok("TLS", format!("{host} is reachable only from this machine"));
    } else if settings.trusted_proxies.is_empty() {
        let advice = "put a proxy with TLS in front (deploy/)";
        report.advice("TLS", format!("keys are sent unencrypted to {host}: {advice}"));
    } else {
        report.ok("TLS", "a proxy is trusted: make sure that only the proxy can reach the port");
    }
    if settings.rate_limits.is_none() {
        report.must("limits", "RATE_LIMIT_ENABLED=false allows unlimited requests: enable rate limits");
    }
    if settings.metrics_public {
        report.advice("metrics", "METRICS_PUBLIC=true shows your data in /metrics without a key");
    }
    if !settings.security_headers {
        report.must("headers", "SECURITY_HEADERS=false: enable them unless a proxy sends them");
    }
}

/// Compares `MAX_CONNECTIONS` with the descriptor limit of this process.
pub fn connections(report: &mut Findings, settings: &Settings) {
    const ABOUT: &str = "connections";
    let capacity = Capacity::of_process(settings);
    match capacity.reason() {
        Some(reason) => report.must(ABOUT, reason),
        None => report.ok(ABOUT, format!("at most {}", capacity.connections)),
    }
}

/// Checks that the files have one owner and are private.
pub fn files(report: &mut Findings, settings: &Settings) {
    const ABOUT: &str = "files";
    let database = &settings.common.database;
    let Ok(main) = fs::metadata(database) else { return };
    let before = report.list.len();
    for path in std::iter::once(database.clone()).chain(companions(database)) {
        let Ok(file) = fs::metadata(&path) else { continue };
        let name = path.display();
        if file.mode() & 0o077 != 0 {
            report.must(ABOUT, format!("other users can read {name}: run `chmod 600 {name}`"));
        }
        if file.uid() != main.uid() {
            report.must(ABOUT, format!("{name} has another owner than the database: change it with chown"));
        }
    }
    for folder in [folder_of(database), &settings.common.backups] {
        if fs::metadata(folder).is_ok_and(|m| m.mode() & 0o022 != 0 && m.mode() & 0o1000 == 0) {
            let name = folder.display();
            report.must(ABOUT, format!("other users can write to {name}: run `chmod go-w {name}`"));
        }
    }
    if report.list.len() == before {
        report.ok(ABOUT, "private to their owner");
    }
}

pub fn clock(report: &mut Findings) {
    const ABOUT: &str = "clock";
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return report.ok(ABOUT, "synchronized");
    }
    match output_of("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).as_deref() {
        Some("yes") => report.ok(ABOUT, "synchronized"),
        Some("no") => report
            .must(ABOUT, "not synchronized: run `timedatectl set-ntp true`, or add a clock with a battery"),
        _ => report.advice(ABOUT, "cannot detect whether it is synchronized: make sure that NTP is running"),
    }
}

/// Checks the sandbox of the systemd unit.
pub fn unit(report: &mut Findings) {
    const ABOUT: &str = "unit";
    let Some(unit) = UNITS.iter().find(|unit| Path::new(unit).exists()) else {
        return report.advice(ABOUT, "not installed as a service: run `sudo make install`");
    };
    let analysis = output_of("systemd-analyze", &["security", "--offline=true", "--no-pager", unit]);
    match analysis.as_deref().and_then(exposure) {
        Some(exposure) if exposure <= MAX_EXPOSURE => {
            report.ok(ABOUT, format!("{unit}: exposure {exposure:.1}"));
        }
        Some(exposure) => {
            let original = format!("above {MAX_EXPOSURE:.1} of the original unit");
            report.must(ABOUT, format!("{unit}: exposure {exposure:.1}, {original}: check its drop-ins"));
        }
        None => report.advice(ABOUT, format!("{unit}: systemd-analyze reports no exposure level")),
    }
}

/// Parses the number in the last line: `→ Overall exposure level for coffee-tracker.service: 1.1 OK :-)`.
fn exposure(report: &str) -> Option<f64> {
    let (_, rest) =
        report.lines().rev().find(|line| line.contains("Overall exposure level"))?.rsplit_once(": ")?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

fn output_of(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposure_is_read_from_the_report() {
        let report = "  NAME  DESCRIPTION\n\u{2192} Overall exposure level for coffee-tracker.service: 1.1 OK \u{1f642}\n";
        assert_eq!(exposure(report), Some(1.1));
        assert_eq!(exposure("nothing of the kind"), None);
    }
}
