//! Files of `static/`, inside the binary.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::PathBuf;

use rocket::http::{ContentType, Status};
use rocket::request::Request;
use rocket::response::{self, Responder, Response};
use rust_embed::RustEmbed;

use super::error::ApiError;

#[derive(RustEmbed)]
#[folder = "static/"]
struct Files;

/// A file with its digest, by which a browser knows whether it has it already.
pub struct Asset {
    content: Cow<'static, [u8]>,
    content_type: ContentType,
    etag: String,
}

/// A static file
#[utoipa::path(get, path = "/static/{path}", operation_id = "static_file", tag = "open", params(("path" = String, Path, description = "The file's name", example = "icon.svg")),
    responses((status = 200, description = "The file", content_type = "*/*", body = String, headers(("ETag" = String, description = "The content's digest, for `If-None-Match`"))), (status = 304, description = "The file is as the client has it")))]
#[rocket::get("/static/<path..>")]
pub fn asset(path: Option<PathBuf>) -> Result<Asset, ApiError> {
    const MISSING: ApiError = ApiError::NotFound("No such file");
    // A path that climbs, or that no file system should see, leads to no file either.
    let path = path.ok_or(MISSING)?;
    let file = Files::get(&path.to_string_lossy()).ok_or(MISSING)?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let content_type = extension.and_then(ContentType::from_extension).unwrap_or(ContentType::Binary);
    let digest = file.metadata.sha256_hash();
    let etag = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(Asset { content: file.data, content_type, etag: format!("\"{etag}\"") })
}

impl<'r> Responder<'r, 'static> for Asset {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let known = request.headers().get("If-None-Match").flat_map(|list| list.split(','));
        let is_known = known.into_iter().any(|tag| tag.trim().trim_start_matches("W/") == self.etag);
        let mut response = Response::build();
        response.raw_header("ETag", self.etag).raw_header("Cache-Control", "public, max-age=3600");
        if is_known {
            return response.status(Status::NotModified).ok();
        }
        response.header(self.content_type).sized_body(self.content.len(), Cursor::new(self.content)).ok()
    }
}
