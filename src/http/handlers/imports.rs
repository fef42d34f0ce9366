//! `/imports`: receives a file, previews what its import would add, and imports or discards it.
//!
//! Reading the file is a job, which runs `coffee-tracker import`.

use std::ffi::OsStr;
use std::sync::Arc;

use rocket::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::domain::limits::EntryLimits;
use crate::http::app::SharedApp;
use crate::http::error::ApiError;
use crate::http::extract::received_file::ReceivedImport;
use crate::http::handlers::jobs::accepted;
use crate::http::middleware::guard::OwnFiles;
use crate::http::response::{JsonResponse, JsonResult};
use crate::jobs::job::{BackgroundJob, JobKind, JobProblem};
use crate::jobs::program::CommandFailure;
use crate::jobs::queue::JobContext;
use crate::jobs::received_file::ReceivedFile;

const NOT_FOUND: &str = "There is no such file: it was imported, replaced or removed. Send it again";

/// Start an import
///
/// Receives a file that `coffee-tracker import` reads: the body is the file. Starts a job that finds out what an import
/// would add; nothing is stored yet. Its result has the `id` of the file for `POST /imports/{id}`, the numbers of
/// `coffees_added`, `readings_added`, `updated`, `duplicates`, `rejected` and `unsupported` rows, the times of the `oldest` and
/// the `newest` entry of the file, its main `sources`, and the first `rejections`. The file is removed when the job
/// fails, when another one is sent, after an hour without use, and when the server stops. There is no limit of size but
/// the free space of the disk.
#[utoipa::path(post, path = "/imports", operation_id = "preview_import", tag = "imports",
    request_body(content = String, content_type = "application/octet-stream", description = "The file"),
    responses((status = 202, description = "The job", body = BackgroundJob, headers(("Location" = String, description = "Path of the job")))))]
#[rocket::post("/imports", data = "<received>")]
pub async fn preview(app: &State<SharedApp>, files: OwnFiles, received: ReceivedImport) -> JsonResult {
    let (person, file) = (files.0.person.clone(), Arc::new(received.0));
    let id = app.imports.keep(&person, Arc::clone(&file), app.clock.elapsed());
    let limits = app.settings.entry_limits.clone();
    let (imports, kept_id) = (Arc::clone(&app.imports), id.clone());
    let work = move |job: JobContext| async move {
        let previewed = run_import(&job, &file, &limits, &["--dry-run"]).await;
        match previewed {
            Ok(mut result) => {
                result["id"] = json!(kept_id);
                Ok(result)
            }
            Err(failure) => {
                imports.remove(&job.settings.person, &kept_id);
                Err(unusable(failure))
            }
        }
    };
    let started = app.jobs.start(&files.0, JobKind::ImportPreview, work).await;
    if started.is_err() {
        app.imports.remove(&person, &id);
    }
    accepted(&started?)
}

/// Import a file
///
/// Starts a job that stores the entries of a file that `POST /imports` received, for the person of the key. Its result
/// has the same numbers as the preview. The file is removed when the job succeeds. After a failure, the import can be
/// repeated: entries that are stored already are skipped.
#[utoipa::path(post, path = "/imports/{id}", operation_id = "import", tag = "imports",
    params(("id" = String, Path, description = "Id of the file", pattern = "^[0-9a-f]{16}$")),
    responses((status = 202, description = "The job", body = BackgroundJob, headers(("Location" = String, description = "Path of the job")))))]
#[rocket::post("/imports/<id>")]
pub async fn import(app: &State<SharedApp>, files: OwnFiles, id: &str) -> JsonResult {
    let found = app.imports.find(&files.0.person, id, app.clock.elapsed());
    let file = found.ok_or(ApiError::NotFound(NOT_FOUND))?;
    let limits = app.settings.entry_limits.clone();
    let (imports, id) = (Arc::clone(&app.imports), id.to_owned());
    let work = move |job: JobContext| async move {
        let result = run_import(&job, &file, &limits, &[]).await?;
        imports.remove(&job.settings.person, &id);
        Ok(result)
    };
    accepted(&app.jobs.start(&files.0, JobKind::Import, work).await?)
}

/// Response body of `DELETE /imports/{id}`.
#[derive(Serialize, ToSchema)]
pub struct ImportDiscarded {
    message: &'static str,
    id: String,
}

/// Discard a file
///
/// Removes a file that `POST /imports` received. An import of it that is running completes.
#[utoipa::path(delete, path = "/imports/{id}", operation_id = "discard_import", tag = "imports",
    params(("id" = String, Path, description = "Id of the file", pattern = "^[0-9a-f]{16}$")),
    responses((status = 200, description = "The file was removed", body = ImportDiscarded)))]
#[rocket::delete("/imports/<id>")]
pub async fn discard(app: &State<SharedApp>, files: OwnFiles, id: &str) -> JsonResult {
    let is_removed = app.imports.remove(&files.0.person, id);
    let discarded = is_removed.then(|| ImportDiscarded { message: "File discarded", id: id.to_owned() });
    JsonResponse::found(discarded, NOT_FOUND)
}

/// Runs `import` on a file, within the server's limits for new entries.
async fn run_import(
    job: &JobContext,
    file: &ReceivedFile,
    limits: &EntryLimits,
    flags: &[&str],
) -> Result<Value, CommandFailure> {
    let limits = [
        format!("--max-caffeine-mg={}", limits.max_caffeine_mg),
        format!("--min-heart-rate-bpm={}", limits.min_bpm),
        format!("--max-heart-rate-bpm={}", limits.max_bpm),
    ];
    let mut args = vec![OsStr::new("import"), file.path().as_os_str(), OsStr::new("--json")];
    args.extend(limits.iter().map(OsStr::new));
    args.extend(flags.iter().map(OsStr::new));
    match job.run(&args).await {
        // Every row was rejected.
        Err(failure) if failure.output.is_object() => Ok(failure.output),
        Err(failure) => Err(of_file(failure, file)),
        printed => printed,
    }
}

/// Returns a failure without the name of the temporary file, and without the columns of a CSV file: where it has no
/// header, these are the values of an entry.
fn of_file(mut failure: CommandFailure, file: &ReceivedFile) -> CommandFailure {
    let prefix = format!("{}: ", file.path().display());
    let message = failure.message.strip_prefix(&prefix).unwrap_or(&failure.message);
    let message = message.split("; the columns are: ").next().unwrap_or_default();
    failure.message = message.to_owned();
    failure
}

fn unusable(failure: CommandFailure) -> JobProblem {
    if failure.is_transient {
        return failure.into();
    }
    JobProblem { title: "The file cannot be imported".to_owned(), status: 422, detail: failure.message }
}
