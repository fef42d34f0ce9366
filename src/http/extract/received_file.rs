//! Body that is a file: written to a temporary file as it arrives.

use std::path::{Path, PathBuf};

use rocket::data::{Data, FromData, Outcome};
use rocket::http::Status;
use rocket::outcome::Outcome as RocketOutcome;
use rocket::request::Request;
use rocket::tokio;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::http::app::App;
use crate::http::error::ApiError;
use crate::http::extract::body_source::BodySource;
use crate::http::middleware::guard::own_files;
use crate::http::request_context::RequestContext;
use crate::http::validation::{FieldError, Location};
use crate::jobs::received_file::{ReceiveError, ReceivedFile};

/// Number of bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;
/// Maximum size of a body without a connection, in tests.
const MAX_LOCAL_BYTES: u64 = 1 << 30;

/// Received backup, which is not verified yet, in the folder of backups.
pub struct ReceivedBackup(pub ReceivedFile);

/// Received file to import, in the folder of the person's database.
pub struct ReceivedImport(pub ReceivedFile);

/// Creates an empty file in a folder, if the number of bytes has room.
type CreateFile = fn(&Path, u64) -> Result<ReceivedFile, ReceiveError>;

#[rocket::async_trait]
impl<'r> FromData<'r> for ReceivedBackup {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        let received = async {
            let folder = own_files(request)?.0.backups;
            receive(request, data, folder, ReceivedFile::create, "must be a backup, and not empty").await
        };
        outcome(request, received.await.map(Self))
    }
}

#[rocket::async_trait]
impl<'r> FromData<'r> for ReceivedImport {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        let received = async {
            let settings = own_files(request)?.0;
            let app = App::of(request)?;
            app.jobs.ensure_none_active(&settings).await?;
            // Makes room for the new one.
            app.imports.remove_of(&settings.person);
            let create = ReceivedFile::create_in_existing;
            let folder = settings.folder().to_owned();
            receive(request, data, folder, create, "must be a file to import, and not empty").await
        };
        outcome(request, received.await.map(Self))
    }
}

fn outcome<'r, T>(request: &Request<'_>, received: Result<T, ApiError>) -> Outcome<'r, T, ()> {
    match received {
        Ok(file) => RocketOutcome::Success(file),
        Err(error) => {
            RequestContext::of(request).set_error(error);
            RocketOutcome::Error((Status::UnprocessableEntity, ()))
        }
    }
}

/// Receives a body of any size that the disk has room for. There is no deadline for the whole, but the client must
/// not pause for longer than the idle timeout. `if_empty` is the error of an empty body.
async fn receive<'r>(
    request: &'r Request<'_>,
    data: Data<'r>,
    folder: PathBuf,
    create: CreateFile,
    if_empty: &'static str,
) -> Result<ReceivedFile, ApiError> {
    let app = App::of(request)?;
    let declared = request.headers().get_one("Content-Length").and_then(|length| length.parse::<u64>().ok());
    let mut file = in_background(move || create(&folder, declared.unwrap_or(0))).await?;
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
            (file, buffer) = in_background(move || {
                file.write(&buffer)?;
                buffer.clear();
                Ok((file, buffer))
            })
            .await?;
        }
        if is_end && file.size_bytes() == 0 {
            return Err(FieldError::new(Location::Body, "body", if_empty).into());
        }
        if is_end {
            return Ok(file);
        }
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReceiveError> + Send + 'static,
) -> Result<T, ApiError> {
    let result = spawn_blocking(work).await.map_err(|_| ApiError::Internal)?;
    result.map_err(|error| match error {
        ReceiveError::NoRoom { .. } => ApiError::NoRoom(error.to_string()),
        ReceiveError::Unwritable(_) => {
            tracing::error!("a file could not be received: {error}");
            ApiError::Internal
        }
    })
}
