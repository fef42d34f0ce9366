//! `GET /check`: findings of `coffee-tracker check`.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use rocket::State;
use rocket::tokio;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::config::{KeySource, ReloadableSettings};
use crate::domain::time::Timestamp;
use crate::http::app::{App, SharedApp};
use crate::http::error::ApiError;
use crate::http::middleware::guard::OwnFiles;
use crate::http::response::{JsonResponse, JsonResult};
use crate::jobs::program::{CommandEnvironment, CommandFailure};
use crate::telemetry::recent_log::RecentLine;

/// Age up to which findings are not renewed: a check reads every database and newest backup.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Findings of the last check. Only one runs at a time.
#[derive(Debug, Default)]
pub struct LastCheck(Mutex<Option<CheckResult>>);

#[derive(Clone, Debug)]
struct CheckResult {
    at: Timestamp,
    elapsed: Duration,
    /// Settings that were checked.
    settings: Arc<ReloadableSettings>,
    findings: Vec<ReportedFinding>,
}

/// Response body of `GET /check`.
#[derive(Serialize, ToSchema)]
pub struct CheckReport {
    #[schema(value_type = String, format = DateTime)]
    checked_at: Timestamp,
    disk: DiskSpace,
    findings: Vec<ReportedFinding>,
    /// The last warnings and errors in the log of the server, newest first.
    warnings: Vec<RecentLine>,
}

/// Disk that holds the owner's database.
#[derive(Serialize, ToSchema)]
struct DiskSpace {
    /// `ok`, `low` (over 80% used) or `unknown` (the disk cannot be read or hangs; the figures are the last known ones).
    status: &'static str,
    #[schema(required)]
    free_bytes: Option<u64>,
    #[schema(required)]
    size_bytes: Option<u64>,
}

/// Result of one check.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReportedFinding {
    /// `ok`, `advice` (a setting that may be intentional) or `must` (a problem to fix).
    state: String,
    /// Subject, such as `backups`.
    about: String,
    /// Person whose data was checked, except the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    person: Option<String>,
    /// Finding, and the action to take.
    finding: String,
}

/// Check the installation
///
/// The findings of `coffee-tracker check`: whether the installation is secure and reliable, and how to fix what is not.
/// They are at most a minute old. The space on the disk is at most a second old.
#[utoipa::path(get, path = "/check", operation_id = "check", tag = "people", responses((status = 200, description = "Findings", body = CheckReport)))]
#[rocket::get("/check")]
pub async fn check(app: &State<SharedApp>, last_check: &State<LastCheck>, files: OwnFiles) -> JsonResult {
    let mut last = last_check.0.lock().await;
    let settings = app.current();
    let is_current = |result: &CheckResult| {
        app.clock.elapsed() < result.elapsed + MAX_AGE && Arc::ptr_eq(&result.settings, &settings)
    };
    let result = match last.take().filter(is_current) {
        Some(result) => result,
        None => CheckResult {
            findings: run(app, &settings, &files).await?,
            settings,
            at: app.clock.now(),
            elapsed: app.clock.elapsed(),
        },
    };
    let (host, _) = app.host_stats.current().await;
    let report = CheckReport {
        checked_at: result.at,
        disk: DiskSpace {
            status: host.disk.status,
            free_bytes: host.disk.free_bytes,
            size_bytes: host.disk.free_bytes.map(|_| host.disk.size_bytes),
        },
        findings: result.findings.clone(),
        warnings: app.recent_log.lines(),
    };
    *last = Some(result);
    JsonResponse::ok(&report)
}

async fn run(
    app: &App,
    settings: &ReloadableSettings,
    files: &OwnFiles,
) -> Result<Vec<ReportedFinding>, ApiError> {
    let args = ["check", "--json"].map(OsStr::new);
    let environment = CommandEnvironment::Server(&settings.texts);
    let printed = match app.jobs.installation_command(&files.0, environment, &args).await {
        // Problems were found.
        Err(failure) if failure.output.is_array() => failure.output,
        printed => printed?,
    };
    let mut findings: Vec<ReportedFinding> =
        serde_json::from_value(printed).map_err(|e| CommandFailure::of(e.to_string()))?;
    // The command does not get the key; a server does not start with a weak one, except for debugging.
    if matches!(settings.key, KeySource::Given(_)) {
        findings.retain(|finding| finding.about != "API key");
    }
    Ok(findings)
}
