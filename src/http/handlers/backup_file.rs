//! `GET /backups/{file}`: download of a backup, whole or in part.
//!
//! The file is open before the response begins, so that retention may remove it meanwhile.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use rocket::http::Status;
use rocket::outcome::Outcome;
use rocket::request::{FromRequest, Request};
use rocket::response::{Responder, Response};
use rocket::tokio;
use rocket::{request, response};
use rustix::fs::OFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, ReadBuf, Take};
use tokio::task::spawn_blocking;

use crate::http::error::ApiError;
use crate::http::handlers::backups::path_of;
use crate::http::middleware::guard::OwnFiles;

/// Size of a chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// Headers that select a part of a file.
pub struct RangeHeaders {
    range: Option<String>,
    /// The part is wanted only of this version of the file; otherwise, the whole file.
    if_range: Option<String>,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for RangeHeaders {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> request::Outcome<Self, Self::Error> {
        let header = |name| request.headers().get_one(name).map(str::to_owned);
        Outcome::Success(Self { range: header("Range"), if_range: header("If-Range") })
    }
}

/// Response with a file or a part of it.
pub struct FileResponse {
    file: File,
    name: String,
    size: u64,
    entity_tag: String,
    /// Wanted bytes; `None` for the whole file.
    part: Option<Range<u64>>,
}

/// Download a backup
///
/// Supports `Range` with one range, and `If-Range` with the `ETag` of an earlier response, so that an
/// interrupted download can be resumed.
#[utoipa::path(get, path = "/backups/{file}", operation_id = "download_backup", tag = "backups",
    params(("file" = String, Path, description = "Name of the backup", example = "coffee_20250723_020000.db"),
        ("Range" = Option<String>, Header, description = "Wanted bytes: `bytes=1000-`"),
        ("If-Range" = Option<String>, Header, description = "Version of which the part is wanted")),
    responses((status = 200, description = "The file", content_type = "application/vnd.sqlite3", body = String, headers(("ETag" = String, description = "Version of the file, for `If-Range`"))),
        (status = 206, description = "A part of the file", content_type = "application/vnd.sqlite3", body = String, headers(("Content-Range" = String, description = "Bytes of this part, and the size of the file")))))]
#[rocket::get("/backups/<file>")]
pub async fn download(files: OwnFiles, file: &str, headers: RangeHeaders) -> Result<FileResponse, ApiError> {
    let path = path_of(&files, file).await?;
    let name = file.to_owned();
    let opened = spawn_blocking(move || FileResponse::open(&path, name)).await;
    let mut response = match opened.map_err(|_| ApiError::Internal)? {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(ApiError::NotFound("Backup not found")),
        Err(e) => {
            tracing::error!("a backup cannot be read: {e}");
            return Err(ApiError::Internal);
        }
        Ok(response) => response,
    };
    response.part = response.wanted_part(&headers)?;
    Ok(response)
}

impl FileResponse {
    fn open(path: &Path, name: String) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        let entity_tag = format!(
            "\"{:x}-{:x}-{:x}.{:x}\"",
            metadata.ino(),
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        Ok(Self { file, name, size: metadata.size(), entity_tag, part: None })
    }

    /// Returns the part of the file that the headers select; `None` for the whole file.
    ///
    /// # Errors
    /// [`ApiError::RangeNotSatisfiable`] when the file ends before it.
    fn wanted_part(&self, headers: &RangeHeaders) -> Result<Option<Range<u64>>, ApiError> {
        let is_current = |version: &String| *version == self.entity_tag;
        match (&headers.range, &headers.if_range) {
            (Some(range), version) if version.as_ref().is_none_or(is_current) => {
                match parse_range(range, self.size) {
                    ParsedRange::Part(part) => Ok(Some(part)),
                    ParsedRange::Outside => Err(ApiError::RangeNotSatisfiable(self.size)),
                    ParsedRange::Ignored => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }
}

/// Result of parsing `Range`.
#[derive(Debug, PartialEq, Eq)]
enum ParsedRange {
    Part(Range<u64>),
    /// The range begins after the end of the file.
    Outside,
    /// The header is malformed, has several ranges or another unit: the whole file is sent (RFC 9110, section 14.2).
    Ignored,
}

fn parse_range(header: &str, size: u64) -> ParsedRange {
    let parsed = || {
        let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
        let number =
            |text: &str| if text.is_empty() { Some(None) } else { text.parse::<u64>().ok().map(Some) };
        match (number(first.trim())?, number(last.trim())?) {
            (None, None) => None,
            // The last bytes.
            (None, Some(count)) => Some(size.saturating_sub(count)..size),
            (Some(first), None) => Some(first..size),
            (Some(first), Some(last)) if last < first => None,
            (Some(first), Some(last)) => Some(first..last.saturating_add(1).min(size)),
        }
    };
    match parsed() {
        None => ParsedRange::Ignored,
        Some(part) if part.start >= part.end => ParsedRange::Outside,
        Some(part) => ParsedRange::Part(part),
    }
}

impl<'r> Responder<'r, 'static> for FileResponse {
    fn respond_to(mut self, _: &'r Request<'_>) -> response::Result<'static> {
        let mut response = Response::build();
        response
            .raw_header("Content-Type", "application/vnd.sqlite3")
            .raw_header("Content-Disposition", format!("attachment; filename=\"{}\"", self.name))
            .raw_header("Accept-Ranges", "bytes")
            .raw_header("Cache-Control", "no-store")
            .raw_header("ETag", self.entity_tag);
        let part = match self.part {
            None => 0..self.size,
            Some(part) => {
                let content_range = format!("bytes {}-{}/{}", part.start, part.end - 1, self.size);
                response.status(Status::PartialContent).raw_header("Content-Range", content_range);
                part
            }
        };
        self.file.seek(SeekFrom::Start(part.start)).map_err(|_| Status::InternalServerError)?;
        let length = part.end - part.start;
        let body = FilePart(tokio::fs::File::from_std(self.file).take(length));
        let size = usize::try_from(length).map_err(|_| Status::InternalServerError)?;
        response.max_chunk_size(CHUNK_BYTES).sized_body(size, body);
        response.ok()
    }
}

/// Body with a part of a file.
struct FilePart(Take<tokio::fs::File>);

impl AsyncRead for FilePart {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

/// Rocket seeks only in a body whose size it does not know.
impl AsyncSeek for FilePart {
    fn start_seek(self: Pin<&mut Self>, _: SeekFrom) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_part_of_the_file_or_ignored() {
        use ParsedRange::{Ignored, Outside, Part};
        for (header, expected) in [
            ("bytes=0-", Part(0..100)),
            ("bytes=10-19", Part(10..20)),
            ("bytes=90-1000", Part(90..100)),
            ("bytes=-7", Part(93..100)),
            ("bytes=-1000", Part(0..100)),
            ("bytes=99-99", Part(99..100)),
            ("bytes=100-", Outside),
            ("bytes=-0", Outside),
            ("bytes=20-10", Ignored),
            ("bytes=-", Ignored),
            ("bytes=0-1,5-6", Ignored),
            ("items=0-1", Ignored),
            ("bytes=a-b", Ignored),
            ("", Ignored),
        ] {
            assert_eq!(parse_range(header, 100), expected, "{header}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Outside);
    }
}
