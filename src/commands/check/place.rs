//! The key, the settings, who may read the files, the clock, and the unit.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::auth::owner_key::ApiKeys;
use crate::commands::check::{Finding, advice, ago, must, ok};
use crate::config::{KeySource, Settings};
use crate::domain::time::{DAY, Timestamp};
use crate::fs::protected_paths::companions;
use crate::http::Capacity;

/// A key that is older should be changed.
pub const OLD_KEY: i64 = 365 * DAY;
/// Different characters that a key has which was not typed in by a cat.
const VARIETY: usize = 8;
/// Where packages and administrators put the unit.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/coffee-tracker.service",
    "/usr/lib/systemd/system/coffee-tracker.service",
    "/lib/systemd/system/coffee-tracker.service",
];
/// The exposure that our unit has at most, in `systemd-analyze security`.
const EXPOSURE: f64 = 1.0;

/// Where the unit has the owner's key from.
const CREDENTIAL: &str = "/etc/coffee-tracker/api_key";

/// Where the server has its key from: systemd hands it one, which this process is not handed.
fn source_of_server(settings: &Settings) -> KeySource {
    match &settings.key {
        // A service does not depend on a working folder.
        KeySource::Made(path) if path.is_absolute() && !path.exists() && Path::new(CREDENTIAL).exists() => {
            KeySource::File(CREDENTIAL.into())
        }
        source => source.clone(),
    }
}

/// Is the owner's key strong, young, and nobody else's to read?
pub fn key(settings: &Settings, now: Timestamp) -> Vec<Finding> {
    const ABOUT: &str = "API key";
    let key = source_of_server(settings);
    let (source, path): (_, Option<&PathBuf>) = match &key {
        KeySource::Made(path) if !path.exists() => {
            return vec![advice(ABOUT, "there is none yet: the first start makes one, and shows it once")];
        }
        KeySource::Given(_) => ("API_KEY".to_owned(), None),
        KeySource::File(path) | KeySource::Made(path) => (path.display().to_string(), Some(path)),
    };
    let mut findings = vec![match (ApiKeys::load(&key, false), variety(&key)) {
        (Err(e), _) => must(ABOUT, format!("{e} ({source})")),
        (Ok(_), few) if few < VARIETY => {
            must(ABOUT, format!("it has few different characters ({few}): make a random one ({source})"))
        }
        (Ok(_), _) => ok(ABOUT, format!("strong enough ({source})")),
    }];
    if settings.debug {
        findings.push(must(ABOUT, "DEBUG=true lets weak keys in: take it out"));
    }
    let Some(path) = path else {
        let sentence =
            "in the environment, other programs of its user may read it: API_KEY_FILE, or a credential";
        findings.push(advice(ABOUT, sentence));
        return findings;
    };
    let Ok(file) = fs::metadata(path) else { return findings };
    if file.mode() & 0o077 != 0 {
        findings.push(must(ABOUT, format!("others may read it: chmod 600 {}", path.display())));
    }
    let age = file.modified().map_or(0, |at| now.micros() - Timestamp::from(at).micros());
    if age > OLD_KEY {
        findings.push(advice(ABOUT, format!("it is {} old: change it", ago(age))));
    }
    findings
}

/// How many different characters it has.
fn variety(source: &KeySource) -> usize {
    let text = match source {
        KeySource::Given(key) => key.clone(),
        KeySource::File(path) | KeySource::Made(path) => fs::read_to_string(path).unwrap_or_default(),
    };
    text.trim().bytes().collect::<std::collections::HashSet<_>>().len()
}

/// Settings that open more than they need to.
pub fn settings(settings: &Settings) -> Vec<Finding> {
    let any = |names: &[String]| names.iter().any(|name| name == "*");
    let mut findings: Vec<Finding> =
        settings.notes.iter().map(|note| advice("settings", note.clone())).collect();
    findings.push(match () {
        () if any(&settings.cors_origins) => {
            must("CORS", "CORS_ORIGINS=* lets every web page ask: name those that should")
        }
        () if settings.cors_origins.is_empty() => ok("CORS", "no other site's pages may ask"),
        () => ok("CORS", format!("pages of {} may ask", settings.cors_origins.join(", "))),
    });
    findings.push(match () {
        () if any(&settings.allowed_hosts) => {
            must("hosts", "ALLOWED_HOSTS=* answers under any name: name those that are yours")
        }
        () if settings.allowed_hosts.is_empty() => ok("hosts", "local names and private addresses"),
        () => ok("hosts", format!("local names, private addresses, {}", settings.allowed_hosts.join(", "))),
    });
    findings.push(match (settings.host.is_loopback(), settings.trusted_proxies.is_empty()) {
        (true, _) => ok("TLS", format!("only this machine reaches {}", settings.host)),
        (false, false) => ok("TLS", "a proxy is trusted; see that it alone reaches the port"),
        (false, true) => advice(
            "TLS",
            format!(
                "keys cross the network in clear to {}: a proxy with TLS in front (deploy/)",
                settings.host
            ),
        ),
    });
    if settings.rates.is_none() {
        findings.push(must("limits", "RATE_LIMIT_ENABLED=false: anybody may ask without end"));
    }
    if settings.metrics_public {
        findings.push(advice("metrics", "METRICS_PUBLIC=true shows everybody what is drunk"));
    }
    if !settings.security_headers {
        findings.push(must("headers", "SECURITY_HEADERS=false: leave that to a proxy, or switch them on"));
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

/// May nobody else read or replace the files, and do they have one owner?
pub fn files(settings: &Settings) -> Vec<Finding> {
    const ABOUT: &str = "files";
    let database = &settings.place.database;
    let Ok(main) = fs::metadata(database) else { return Vec::new() };
    let mut findings = Vec::new();
    for path in std::iter::once(database.clone()).chain(companions(database)) {
        let Ok(file) = fs::metadata(&path) else { continue };
        if file.mode() & 0o077 != 0 {
            findings.push(must(ABOUT, format!("others may read {0}: chmod 600 {0}", path.display())));
        }
        if file.uid() != main.uid() {
            let sentence = format!("{} has another owner than the database: chown it", path.display());
            findings.push(must(ABOUT, sentence));
        }
    }
    let folder = database.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for folder in [folder, &settings.place.backups] {
        if fs::metadata(folder).is_ok_and(|m| m.mode() & 0o022 != 0 && m.mode() & 0o1000 == 0) {
            findings.push(must(ABOUT, format!("others may write in {0}: chmod go-w {0}", folder.display())));
        }
    }
    if findings.is_empty() {
        findings.push(ok(ABOUT, "their owner's alone"));
    }
    findings
}

/// Is it kept right?
pub fn clock() -> Finding {
    const ABOUT: &str = "clock";
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return ok(ABOUT, "synchronised");
    }
    match said("timedatectl", &["show", "--property=NTPSynchronized", "--value"]).as_deref() {
        Some("yes") => ok(ABOUT, "synchronised"),
        Some("no") => {
            must(ABOUT, "nobody keeps it right: timedatectl set-ntp true, or a clock with a battery")
        }
        _ => advice(ABOUT, "whether it is kept right cannot be told here: see that NTP runs"),
    }
}

/// How well does the unit shut the service in?
pub fn unit() -> Finding {
    const ABOUT: &str = "unit";
    let Some(unit) = UNITS.iter().find(|unit| Path::new(unit).exists()) else {
        return advice(ABOUT, "not installed as a service: sudo make install");
    };
    let report = said("systemd-analyze", &["security", "--offline=true", "--no-pager", unit]);
    let exposure = report.as_deref().and_then(exposure);
    match exposure {
        Some(exposure) if exposure <= EXPOSURE => ok(ABOUT, format!("{unit}: exposure {exposure:.1}")),
        Some(exposure) => must(
            ABOUT,
            format!(
                "{unit}: exposure {exposure:.1}, {EXPOSURE:.1} as it was delivered: look at its drop-ins"
            ),
        ),
        None => advice(ABOUT, format!("{unit}: systemd-analyze does not say how exposed it is")),
    }
}

/// The number in the last line: `→ Overall exposure level for coffee-tracker.service: 1.1 OK :-)`.
fn exposure(report: &str) -> Option<f64> {
    let (_, rest) =
        report.lines().rev().find(|line| line.contains("Overall exposure level"))?.rsplit_once(": ")?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// What a program of the system says.
fn said(program: &str, args: &[&str]) -> Option<String> {
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
