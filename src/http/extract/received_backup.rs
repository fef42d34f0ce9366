//! Body that is a backup: written to a temporary file as it arrives.

use rocket::data::{Data, FromData, Outcome};
use rocket::http::Status;
use rocket::outcome::Outcome as RocketOutcome;
use rocket::request::Request;
use rocket::tokio;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::backup::upload::{Upload, UploadError};
use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::extract::body_source::BodySource;
use crate::http::middleware::guard::own_files;
use crate::http::request_context::RequestContext;
use crate::http::validation::{FieldError, Location};

/// Number of bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// Maximum size of a body without a connection, in tests.
const MAX_LOCAL_BYTES: u64 = 1 << 30;

/// Received backup, which is not verified yet.
pub struct ReceivedBackup(pub Upload);

#[rocket::async_trait]
impl<'r> FromData<'r> for ReceivedBackup {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        match receive(request, data).await {
            Ok(upload) => RocketOutcome::Success(Self(upload)),
            Err(error) => {
                RequestContext::of(request).set_error(error);
                RocketOutcome::Error((Status::UnprocessableEntity, ()))
            }
        }
    }
}

/// Receives a body of any size that the disk has room for. There is no deadline for the whole, but the client must
/// not pause for longer than the idle timeout.
async fn receive<'r>(request: &'r Request<'_>, data: Data<'r>) -> Result<Upload, ApiError> {
    let app = App::of(request)?;
    let folder = own_files(request)?.0.backups;
    let declared = request.headers().get_one("Content-Length").and_then(|length| length.parse::<u64>().ok());
    let mut upload = in_background(move || Upload::create(&folder, declared.unwrap_or(0))).await?;
    let mut source = BodySource::of(request, data, MAX_LOCAL_BYTES);
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let chunk = match timeout(app.settings.idle_timeout, source.next_chunk()).await {
            Err(_) => return Err(ApiError::RequestTimeout),
            Ok(Err(_)) => return Err(ApiError::BadRequest("The body is incomplete")),
            Ok(Ok(chunk)) => chunk,
        };
        let is_end = chunk.is_none();
        buffer.extend_from_slice(&chunk.unwrap_or_default());
        if is_end || buffer.len() >= BUFFER_BYTES {
            (upload, buffer) = in_background(move || {
                upload.write(&buffer)?;
                buffer.clear();
                Ok((upload, buffer))
            })
            .await?;
        }
        if is_end && upload.size_bytes() == 0 {
            return Err(FieldError::new(Location::Body, "body", "must be a backup, and not empty").into());
        }
        if is_end {
            return Ok(upload);
        }
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> Result<T, ApiError> {
    let result = spawn_blocking(work).await.map_err(|_| ApiError::Internal)?;
    result.map_err(|error| match error {
        UploadError::NoRoom { .. } => ApiError::NoRoom(error.to_string()),
        UploadError::Unwritable(_) => {
            tracing::error!("a backup could not be received: {error}");
            ApiError::Internal
        }
    })
}
