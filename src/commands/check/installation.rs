//! Checks of the owner's key, settings, file permissions, clock and unit.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::auth::owner_key::ApiKeys;
use crate::commands::check::{Finding, advice, format_age, must, ok};
use crate::config::{KeySource, Settings};
use crate::domain::time::{DAY, Timestamp};
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
    match &settings.key {
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
pub fn key(settings: &Settings, now: Timestamp) -> Vec<Finding> {
    const ABOUT: &str = "API key";
    let key = source_of_server(settings);
    let (source, path): (_, Option<&PathBuf>) = match &key {
        KeySource::Generated(path) if !path.exists() => {
            return vec![advice(
                ABOUT,
                "there is no key yet: the first start creates one and prints it once",
            )];
        }
        KeySource::Given(_) => ("API_KEY".to_owned(), None),
        KeySource::File(path) | KeySource::Generated(path) => (path.display().to_string(), Some(path)),
    };
    let mut findings = vec![match (ApiKeys::load(&key, false), distinct_characters(&key)) {
        (Err(e), _) => must(ABOUT, format!("{e} ({source})")),
        (Ok(_), few) if few < MIN_DISTINCT_CHARACTERS => {
            must(ABOUT, format!("it has only {few} different characters: use a random key ({source})"))
        }
        (Ok(_), _) => ok(ABOUT, format!("strong ({source})")),
    }];
    if settings.debug {
        findings.push(must(ABOUT, "DEBUG=true accepts weak keys: remove it"));
    }
    let Some(path) = path else {
        let sentence = "other programs of the same user can read it in the environment: use API_KEY_FILE or a systemd credential";
        findings.push(advice(ABOUT, sentence));
        return findings;
    };
    let Ok(file) = fs::metadata(path) else { return findings };
    if file.mode() & 0o077 != 0 {
        findings.push(must(ABOUT, format!("other users can read it: run `chmod 600 {}`", path.display())));
    }
    let age = file.modified().map_or(0, |at| now.micros() - Timestamp::from(at).micros());
    if age > MAX_KEY_AGE {
        findings.push(advice(ABOUT, format!("it is {} old: replace it", format_age(age))));
    }
    findings
}

/// Counts the different characters of the key.
fn distinct_characters(source: &KeySource) -> usize {
    let text = match source {
        KeySource::Given(key) => key.clone(),
        KeySource::File(path) | KeySource::Generated(path) => fs::read_to_string(path).unwrap_or_default(),
    };
    text.trim().bytes().collect::<std::collections::HashSet<_>>().len()
}

/// Checks for settings that weaken security.
pub fn settings(settings: &Settings) -> Vec<Finding> {
    let any = |names: &[String]| names.iter().any(|name| name == "*");
    let mut findings: Vec<Finding> =
        settings.warnings.iter().map(|note| advice("settings", note.clone())).collect();
    findings.push(match () {
        () if any(&settings.cors_origins) => {
            must("CORS", "CORS_ORIGINS=* allows every web page: list the origins that you need")
        }
        () if settings.cors_origins.is_empty() => ok("CORS", "pages of other origins are not allowed"),
        () => ok("CORS", format!("pages of {} are allowed", settings.cors_origins.join(", "))),
    });
    findings.push(match () {
        () if any(&settings.allowed_hosts) => {
            must("hosts", "ALLOWED_HOSTS=* accepts any host name: list your own")
        }
        () if settings.allowed_hosts.is_empty() => ok("hosts", "local names and private addresses"),
        () => ok("hosts", format!("local names, private addresses, {}", settings.allowed_hosts.join(", "))),
    });
    findings.push(match (settings.host.is_loopback(), settings.trusted_proxies.is_empty()) {
        (true, _) => ok("TLS", format!("{} is reachable only from this machine", settings.host)),
        (false, false) => ok("TLS", "a proxy is trusted: make sure that only the proxy can reach the port"),
        (false, true) => advice(
            "TLS",
            format!(
                "keys are sent unencrypted to {}: put a proxy with TLS in front (deploy/)",
                settings.host
            ),
        ),
    });
    if settings.rate_limits.is_none() {
        findings
            .push(must("limits", "RATE_LIMIT_ENABLED=false allows unlimited requests: enable rate limits"));
    }
    if settings.metrics_public {
        findings.push(advice("metrics", "METRICS_PUBLIC=true shows your data in /metrics without a key"));
    }
    if !settings.security_headers {
        findings.push(must("headers", "SECURITY_HEADERS=false: enable them unless a proxy sends them"));
    }
    findings
}

/// Compares `MAX_CONNECTIONS` with the descriptor limit of this process.
pub fn connections(settings: &Settings) -> Finding {
    const ABOUT: &str = "connections";
    let capacity = Capacity::of_process(settings.max_connections);
    match capacity.reason() {
        Some(reason) => must(ABOUT, reason),
        None => ok(ABOUT, format!("at most {}", capacity.connections)),
    }
}

/// Checks that the files have one owner and are private.
pub fn files(settings: &Settings) -> Vec<Finding> {
    const ABOUT: &str = "files";
    let database = &settings.common.database;
    let Ok(main) = fs::metadata(database) else { return Vec::new() };
    let mut findings = Vec::new();
    for path in std::iter::once(database.clone()).chain(companions(database)) {
        let Ok(file) = fs::metadata(&path) else { continue };
        if file.mode() & 0o077 != 0 {
            findings
                .push(must(ABOUT, format!("other users can read {0}: run `chmod 600 {0}`", path.display())));
        }
        if file.uid() != main.uid() {
            let sentence =
                format!("{} has another owner than the database: change it with chown", path.display());
            findings.push(must(ABOUT, sentence));
        }
    }
    let folder = database.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for folder in [folder, &settings.common.backups] {
        if fs::metadata(folder).is_ok_and(|m| m.mode() & 0o022 != 0 && m.mode() & 0o1000 == 0) {
            findings.push(must(
                ABOUT,
                format!("other users can write to {0}: run `chmod go-w {0}`", folder.display()),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(ok(ABOUT, "private to their owner"));
    }
    findings
}

/// Checks that the clock is synchronized.
pub fn clock() -> Finding {
    const ABOUT: &str = "clock";
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return ok(ABOUT, "synchronized");
    }
    match output_of("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).as_deref() {
        Some("yes") => ok(ABOUT, "synchronized"),
        Some("no") => {
            must(ABOUT, "not synchronized: run `timedatectl set-ntp true`, or add a clock with a battery")
        }
        _ => advice(ABOUT, "cannot detect whether it is synchronized: make sure that NTP is running"),
    }
}

/// Checks the sandbox of the systemd unit.
pub fn unit() -> Finding {
    const ABOUT: &str = "unit";
    let Some(unit) = UNITS.iter().find(|unit| Path::new(unit).exists()) else {
        return advice(ABOUT, "not installed as a service: run `sudo make install`");
    };
    let report = output_of("systemd-analyze", &["security", "--offline=true", "--no-pager", unit]);
    let exposure = report.as_deref().and_then(exposure);
    match exposure {
        Some(exposure) if exposure <= MAX_EXPOSURE => ok(ABOUT, format!("{unit}: exposure {exposure:.1}")),
        Some(exposure) => must(
            ABOUT,
            format!(
                "{unit}: exposure {exposure:.1}, above {MAX_EXPOSURE:.1} of the original unit: check its drop-ins"
            ),
        ),
        None => advice(ABOUT, format!("{unit}: systemd-analyze reports no exposure level")),
    }
}

/// Parses the number in the last line: `→ Overall exposure level for coffee-tracker.service: 1.1 OK :-)`.
fn exposure(report: &str) -> Option<f64> {
    let (_, rest) =
        report.lines().rev().find(|line| line.contains("Overall exposure level"))?.rsplit_once(": ")?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Runs a program and returns its output.
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
