//! `/backups`: list, create, verify, restore and receive the backups of a person.
//!
//! Whatever copies or verifies a database is a job, which runs the command of the same name.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rocket::State;
use rocket::tokio;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use crate::backup::catalog;
use crate::backup::catalog::Catalog;
use crate::backup::origin::{BackupOrigin, count_backup};
use crate::backup::retention::{BackupFile, BackupKind, find_backup, list_backups};
use crate::backup::snapshot::BackupTarget;
use crate::config::CommonSettings;
use crate::db::health::BackupRecord;
use crate::db::lock_file::recorded_id;
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::ValidationContext;
use crate::domain::person::PersonName;
use crate::domain::time::Timestamp;
use crate::http::app::{App, SharedApp};
use crate::http::error::ApiError;
use crate::http::extract::json_body::{FromBody, JsonBody};
use crate::http::extract::received_file::ReceivedBackup;
use crate::http::handlers::jobs::accepted;
use crate::http::middleware::guard::OwnFiles;
use crate::http::response::{JsonResponse, JsonResult};
use crate::http::validation::{FieldValidator, Location, ValidationErrors, parse_object};
use crate::jobs::job::{BackgroundJob, JobKind, JobProblem};
use crate::jobs::program::CommandFailure;
use crate::jobs::queue::{JobActive, JobContext};
use crate::jobs::received_file::ReceivedFile;
use crate::people::folder;

/// Response body of `GET /backups`.
#[derive(Serialize, ToSchema)]
pub struct BackupList {
    /// Newest first.
    backups: Vec<ListedBackup>,
    last: LastBackup,
    /// The backups are on the same disk as the data. Null when there is no folder of backups yet.
    #[schema(required)]
    is_on_same_disk: Option<bool>,
}

/// Backup of a person.
#[derive(Serialize, ToSchema)]
pub struct ListedBackup {
    /// Name of the file.
    file: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    size_bytes: u64,
    /// Null when the file cannot be read.
    #[schema(required)]
    coffees: Option<u64>,
    #[schema(required)]
    readings: Option<u64>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    newest_entry_at: Option<Timestamp>,
    /// Time of the last verification that is known.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    verified_at: Option<Timestamp>,
    kind: ListedKind,
    origin: ListedOrigin,
}

/// Reason why a backup was made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ListedKind {
    /// Made by a timer, a migration or an import.
    Scheduled,
    /// Requested by a person.
    Manual,
    /// Made by a restore, of the state before it.
    Safety,
}

/// Database that a backup is of.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ListedOrigin {
    Own,
    Other,
    Unknown,
}

/// Outcome of the last backup.
#[derive(Serialize, ToSchema)]
struct LastBackup {
    #[schema(value_type = Option<String>, format = DateTime, required)]
    success_at: Option<Timestamp>,
    /// Reason why the last attempt failed.
    #[schema(required)]
    error: Option<String>,
}

/// List backups
///
/// The backups of the person, with the entries that they contain. Safety copies are made by a restore.
#[utoipa::path(get, path = "/backups", operation_id = "list_backups", tag = "backups", responses((status = 200, description = "Backups, newest first", body = BackupList)))]
#[rocket::get("/backups")]
pub async fn list(app: &State<SharedApp>, files: OwnFiles) -> JsonResult {
    listed(app, files.0).await
}

/// Returns the backups of a person.
pub async fn listed(app: &App, settings: CommonSettings) -> JsonResult {
    let now = app.clock.now();
    let found = spawn_blocking(move || BackupList::read(&settings, now)).await;
    JsonResponse::ok(&found.map_err(|_| ApiError::Internal)??)
}

impl BackupList {
    fn read(settings: &CommonSettings, now: Timestamp) -> Result<Self, ApiError> {
        // From the lock file: opening the database would drop the locks of this process on it.
        let own = recorded_id(&settings.database).map_or(BackupOrigin::Unknown, BackupOrigin::Known);
        let files = match list_backups(&settings.backups, &settings.database, &own, now) {
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            Err(e) => {
                tracing::error!("{} cannot be listed: {e}", settings.backups.display());
                return Err(ApiError::Internal);
            }
            Ok(files) => files,
        };
        let catalog = Catalog::read(&settings.database);
        let last = BackupRecord::read(&settings.database);
        let device = |path: &Path| fs::metadata(path).map(|file| file.dev()).ok();
        let (of_backups, of_database) = (device(&settings.backups), device(&settings.database));
        Ok(Self {
            backups: files.iter().map(|file| ListedBackup::of(file, &catalog)).collect(),
            last: LastBackup { success_at: last.last_success.map(Timestamp::clamped), error: last.error },
            is_on_same_disk: of_backups.map(|device| Some(device) == of_database),
        })
    }
}

impl ListedBackup {
    fn of(file: &BackupFile, catalog: &Catalog) -> Self {
        let contents = count_backup(&file.path).ok();
        let record = catalog.entry(&file.path);
        Self {
            file: name_of(&file.path),
            created_at: file.made_at(),
            size_bytes: fs::metadata(&file.path).map_or(0, |file| file.len()),
            coffees: contents.map(|c| c.coffees),
            readings: contents.map(|c| c.readings),
            newest_entry_at: contents.and_then(|c| c.newest),
            verified_at: record.verified_at,
            kind: match file.kind {
                BackupKind::Safety => ListedKind::Safety,
                BackupKind::Regular if record.is_manual => ListedKind::Manual,
                BackupKind::Regular => ListedKind::Scheduled,
            },
            origin: match &file.origin {
                _ if file.is_own => ListedOrigin::Own,
                BackupOrigin::Known(_) => ListedOrigin::Other,
                BackupOrigin::Unmarked | BackupOrigin::Unknown => ListedOrigin::Unknown,
            },
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns the path of a backup of the person.
pub async fn path_of(files: &OwnFiles, file: &str) -> Result<PathBuf, ApiError> {
    let (folder, file) = (files.0.backups.clone(), file.to_owned());
    let found = spawn_blocking(move || find_backup(&folder, &file)).await.map_err(|_| ApiError::Internal)?;
    found.ok_or(ApiError::NotFound("Backup not found"))
}

/// Make a backup
///
/// Starts a job that makes a verified backup and removes old ones, as `coffee-tracker backup` does. Its result has
/// `file`, `size_bytes`, `coffees` and `readings`.
#[utoipa::path(post, path = "/backups", operation_id = "create_backup", tag = "backups", responses((status = 202, description = "The job", body = BackgroundJob, headers(("Location" = String, description = "Path of the job")))))]
#[rocket::post("/backups")]
pub async fn create(app: &State<SharedApp>, files: OwnFiles) -> JsonResult {
    accepted(&back_up(app, &files.0, files.0.clone()).await?)
}

/// Starts a job of `caller` that makes a backup of a person.
pub async fn back_up(
    app: &App,
    caller: &CommonSettings,
    person: CommonSettings,
) -> Result<BackgroundJob, JobActive> {
    let work = |job: JobContext| async move {
        let made = job.run_for(&person, &["backup", "--json"].map(OsStr::new)).await?;
        Ok(json!({
            "file": file_in(&made, "path"),
            "size_bytes": made["size_bytes"],
            "coffees": made["coffees"],
            "readings": made["readings"],
        }))
    };
    app.jobs.start(caller, JobKind::Backup, work).await
}

/// Returns the name of the file whose path a command printed.
fn file_in(printed: &Value, field: &str) -> Option<String> {
    printed.get(field)?.as_str().map(|path| name_of(Path::new(path)))
}

/// Verify a backup
///
/// Starts a job that checks whether the backup can be restored. Its result has `is_restorable`, and the `reasons` if it
/// is not.
#[utoipa::path(post, path = "/backups/{file}/verify", operation_id = "verify_backup", tag = "backups",
    params(("file" = String, Path, description = "Name of the backup", example = "coffee_20250723_020000.db")),
    responses((status = 202, description = "The job", body = BackgroundJob, headers(("Location" = String, description = "Path of the job")))))]
#[rocket::post("/backups/<file>/verify")]
pub async fn verify(app: &State<SharedApp>, files: OwnFiles, file: &str) -> JsonResult {
    let path = path_of(&files, file).await?;
    let clock = app.clock.clone();
    let work = |job: JobContext| async move {
        let report = verification(&job, &path).await?;
        let is_restorable = report["restorable"] == true;
        if is_restorable {
            record(&job.settings, &path, move |entry| entry.verified_at = Some(clock.now())).await;
        }
        Ok(json!({
            "file": name_of(&path),
            "is_restorable": is_restorable,
            "reasons": report["reasons"],
            "coffees": report["coffees"],
            "readings": report["readings"],
        }))
    };
    accepted(&app.jobs.start(&files.0, JobKind::Verify, work).await?)
}

/// Verifies a file, and returns the report whether it is restorable or not.
async fn verification(job: &JobContext, path: &Path) -> Result<Value, CommandFailure> {
    let args = [OsStr::new("verify"), OsStr::new("--json"), path.as_os_str()];
    match job.run(&args).await {
        Err(failure) if failure.output.is_object() => Ok(failure.output),
        report => report,
    }
}

/// Changes the record of a backup. A failure is logged, since the backup itself is complete.
async fn record(
    settings: &CommonSettings,
    path: &Path,
    change: impl FnOnce(&mut catalog::CatalogEntry) + Send + 'static,
) {
    let (database, path) = (settings.database.clone(), path.to_owned());
    let recorded = spawn_blocking(move || catalog::record(&database, &path, change)).await;
    if let Ok(Err(e)) = recorded {
        tracing::warn!("the list of verified backups could not be written: {e}");
    }
}

/// Request body of a restore. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct RestoreInput {
    /// Only find out what would change.
    #[schema(value_type = Option<bool>, default = false)]
    #[serde(default)]
    dry_run: JsonScalar,
    /// Restore a backup of another database, too.
    #[schema(value_type = Option<bool>, default = false)]
    #[serde(default)]
    force: JsonScalar,
}

/// Parsed body of a restore.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions {
    dry_run: bool,
    force: bool,
}

impl FromBody for RestoreOptions {
    fn from_body(body: &[u8], _: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: RestoreInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let options =
            Self { dry_run: v.flag("dry_run", &input.dry_run), force: v.flag("force", &input.force) };
        v.finish(Some(options))
    }
}

/// Restore a backup
///
/// Starts a job that verifies the backup, makes a safety copy of the present state and replaces it in one transaction;
/// requests are served meanwhile. The result has `safety`, the name of the safety copy, whose restore undoes this one.
/// With `dry_run`, the result of the job has the entries `before` and `after`, and those that the person `loses`. A
/// backup of another database needs `force`.
#[utoipa::path(post, path = "/backups/{file}/restore", operation_id = "restore_backup", tag = "backups",
    params(("file" = String, Path, description = "Name of the backup", example = "coffee_20250723_020000.db")),
    request_body(content = RestoreInput, example = json!({"dry_run": true})),
    responses((status = 202, description = "The job", body = BackgroundJob, headers(("Location" = String, description = "Path of the job")))))]
#[rocket::post("/backups/<file>/restore", data = "<options>")]
pub async fn restore(
    app: &State<SharedApp>,
    files: OwnFiles,
    file: &str,
    options: JsonBody<RestoreOptions>,
) -> JsonResult {
    let path = path_of(&files, file).await?;
    let RestoreOptions { dry_run, force } = options.0;
    let work = move |job: JobContext| async move {
        let mut args = vec![OsStr::new("restore"), path.as_os_str(), OsStr::new("--json")];
        args.push(OsStr::new(if dry_run { "--dry-run" } else { "--yes" }));
        if force && !dry_run {
            args.push(OsStr::new("--force"));
        }
        let mut result = job.run(&args).await?;
        let (file, safety) = (file_in(&result, "file"), file_in(&result, "safety"));
        result["file"] = json!(file);
        if !dry_run {
            result["safety"] = json!(safety);
        }
        if let Some(fields) = result.as_object_mut() {
            fields.retain(|name, _| !["person", "kept_files"].contains(&name.as_str()));
        }
        Ok(result)
    };
    let kind = if dry_run { JobKind::RestorePreview } else { JobKind::Restore };
    accepted(&app.jobs.start(&files.0, kind, work).await?)
}

/// Upload a backup
///
/// Receives a backup from elsewhere: the body is the file. Starts a job that verifies it; the result is the backup as
/// in the list. A file that cannot be restored, or is a backup of another person of this server, is not kept. There is
/// no limit of size but the free space of the disk.
#[utoipa::path(post, path = "/backups/upload", operation_id = "upload_backup", tag = "backups",
    request_body(content = String, content_type = "application/octet-stream", description = "The file"),
    responses((status = 202, description = "The job", body = BackgroundJob, headers(("Location" = String, description = "Path of the job")))))]
#[rocket::post("/backups/upload", data = "<received>")]
pub async fn upload(app: &State<SharedApp>, files: OwnFiles, received: ReceivedBackup) -> JsonResult {
    let clock = app.clock.clone();
    let work = |job: JobContext| async move {
        let report = verification(&job, received.0.path()).await?;
        if report["restorable"] != true {
            return Err(refused(&reasons(&report)));
        }
        let (settings, now) = (job.settings.clone(), clock.now());
        let published = spawn_blocking(move || publish(&settings, received.0, now)).await;
        published.unwrap_or_else(|e| Err(CommandFailure::of(e.to_string()).into()))
    };
    accepted(&app.jobs.start(&files.0, JobKind::Upload, work).await?)
}

fn refused(reason: &str) -> JobProblem {
    let detail = format!("The file is not kept: {reason}");
    JobProblem { title: "The backup cannot be used".to_owned(), status: 422, detail }
}

fn reasons(report: &Value) -> String {
    let reasons = report["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    reasons.collect::<Vec<_>>().join("; ")
}

/// Publishes a verified upload and returns it as in the list.
fn publish(settings: &CommonSettings, upload: ReceivedFile, now: Timestamp) -> Result<Value, JobProblem> {
    let failed = |what: &str, e: std::io::Error| JobProblem::from(CommandFailure::of(format!("{what}: {e}")));
    if let Some(person) = other_person(settings, &BackupOrigin::of_backup(upload.path()))
        .map_err(|e| failed("the people cannot be listed", e))?
    {
        return Err(refused(&format!("it is a backup of the person {person}")));
    }
    let target = BackupTarget::Folder(settings.backups.clone());
    let path = upload.publish(target.names()).map_err(|e| failed("the backup cannot be stored", e))?;
    let recorded = catalog::record(&settings.database, &path, |entry| {
        (entry.is_manual, entry.verified_at) = (true, Some(now));
    });
    if let Err(e) = recorded {
        tracing::warn!("the list of verified backups could not be written: {e}");
    }
    let list = BackupList::read(settings, now);
    let name = name_of(&path);
    let listed = list.ok().and_then(|list| list.backups.into_iter().find(|backup| backup.file == name));
    Ok(serde_json::to_value(listed).unwrap_or_default())
}

/// Returns the person of this server, other than the one of `settings`, whose database the backup is of.
fn other_person(settings: &CommonSettings, origin: &BackupOrigin) -> std::io::Result<Option<PersonName>> {
    let BackupOrigin::Known(id) = origin else { return Ok(None) };
    let others = folder::list(settings)?;
    let mut everyone = std::iter::once(PersonName::owner()).chain(others);
    Ok(everyone.find(|person| {
        *person != settings.person && recorded_id(&settings.of_person(person).database).as_ref() == Some(id)
    }))
}

/// Request body of `POST /prune`. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct PruneInput {
    /// Entries before this time are deleted. A date, such as `2024-01-01`, is the start of that day.
    #[schema(value_type = String, format = DateTime, required, example = "2024-01-01T00:00:00Z")]
    #[serde(default)]
    before: JsonScalar,
    /// Earlier entries are kept; default: the deletion starts with the first entry. A date is the start of that day.
    #[schema(value_type = Option<String>, format = DateTime, example = "2023-01-01T00:00:00Z")]
    #[serde(default)]
    since: JsonScalar,
    /// Kind of entries: `all`, `coffee` or `heartrate`.
    #[schema(value_type = Option<String>, pattern = "^(all|coffee|heartrate)$", default = "all")]
    #[serde(default)]
    kind: JsonScalar,
}

/// Parsed body of `POST /prune`.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    before: Timestamp,
    /// `None` for the beginning.
    since: Option<Timestamp>,
    /// Flag of the command that selects the kind of entries.
    flag: Option<&'static str>,
}

impl FromBody for PruneOptions {
    fn from_body(body: &[u8], check: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: PruneInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let before = v.parse("before", &input.before, |text| {
            let before = check.zone.parse(text)?;
            if before > check.latest { Err("must not be in the future") } else { Ok(before) }
        });
        let since = match &input.since {
            JsonScalar::Absent | JsonScalar::Null => None,
            since => v.parse("since", since, |text| match (check.zone.parse(text), before) {
                (Ok(since), Some(before)) if since > before => Err("must not be after before"),
                (parsed, _) => parsed,
            }),
        };
        let kind = match &input.kind {
            JsonScalar::Absent | JsonScalar::Null => Some(None),
            kind => v.parse("kind", kind, |text| match text {
                "all" => Ok(None),
                "coffee" => Ok(Some("--coffee")),
                "heartrate" => Ok(Some("--heartrate")),
                _ => Err("must be all, coffee or heartrate"),
            }),
        };
        v.finish(before.zip(kind).map(|(before, flag)| Self { before, since, flag }))
    }
}

/// Delete entries
///
/// Starts a job that makes a backup and then deletes the entries before a date, from `since` on if it is given. Its
/// result has the number of deleted `coffees` and `readings`, and the `file` of the backup, whose restore undoes this;
/// null when there was nothing to delete.
#[utoipa::path(post, path = "/prune", operation_id = "prune", tag = "backups",
    request_body(content = PruneInput, example = json!({"before": "2024-01-01T00:00:00Z", "kind": "heartrate"})),
    responses((status = 202, description = "The job", body = BackgroundJob, headers(("Location" = String, description = "Path of the job")))))]
#[rocket::post("/prune", data = "<options>")]
pub async fn prune(app: &State<SharedApp>, files: OwnFiles, options: JsonBody<PruneOptions>) -> JsonResult {
    let PruneOptions { before, since, flag } = options.0;
    let work = move |job: JobContext| async move {
        let before = format!("--before={before}");
        let since = since.map(|since| format!("--since={since}"));
        let mut args: Vec<&OsStr> = ["prune", "--yes", "--json", &before].map(OsStr::new).to_vec();
        args.extend(since.as_deref().into_iter().chain(flag).map(OsStr::new));
        let pruned = job.run(&args).await?;
        Ok(json!({
            "file": file_in(&pruned, "backup"),
            "coffees": pruned["coffees"],
            "readings": pruned["readings"],
        }))
    };
    accepted(&app.jobs.start(&files.0, JobKind::Prune, work).await?)
}
