//! `/jobs`: work in the background and its outcome.

use rocket::State;
use rocket::http::Status;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::app::SharedApp;
use crate::http::error::ApiError;
use crate::http::middleware::guard::OwnFiles;
use crate::http::response::{JsonResponse, JsonResult};
use crate::jobs::job::BackgroundJob;

/// Response body of `GET /jobs`.
#[derive(Serialize, ToSchema)]
pub struct JobList {
    /// The last jobs, newest first.
    jobs: Vec<BackgroundJob>,
}

/// Returns 202 with a job that was started.
pub fn accepted(job: &BackgroundJob) -> JsonResult {
    let response = JsonResponse::ok(job)?.with_status(Status::Accepted);
    Ok(response.with_header("Location", format!("/jobs/{}", job.id)))
}

/// List jobs
///
/// The last jobs of the person. At most one of them is queued or running. A job that was running when the server
/// stopped is `interrupted`: nothing was changed, or the change is complete. Only an import may have stored some entries;
/// importing the file again adds the others.
#[utoipa::path(get, path = "/jobs", operation_id = "list_jobs", tag = "backups", responses((status = 200, description = "Jobs, newest first", body = JobList)))]
#[rocket::get("/jobs")]
pub async fn list(app: &State<SharedApp>, files: OwnFiles) -> JsonResult {
    JsonResponse::ok(&JobList { jobs: app.jobs.list(&files.0).await })
}

/// Get a job
#[utoipa::path(get, path = "/jobs/{id}", operation_id = "get_job", tag = "backups",
    params(("id" = String, Path, description = "Id of the job", pattern = "^[0-9a-f]{16}$")),
    responses((status = 200, description = "The job", body = BackgroundJob)))]
#[rocket::get("/jobs/<id>")]
pub async fn get(app: &State<SharedApp>, files: OwnFiles, id: &str) -> JsonResult {
    let jobs = app.jobs.list(&files.0).await;
    let job = jobs.iter().find(|job| job.id.as_str() == id).ok_or(ApiError::NotFound("Job not found"))?;
    JsonResponse::ok(job)
}
