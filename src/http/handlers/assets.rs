//! Files of `static/`, inside the binary: packed by `build.rs`, sent as they are packed to whoever
//! takes gzip, and kept by browsers for as long as they hold.

use std::borrow::Cow;
use std::io;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use rocket::http::{ContentType, Status};
use rocket::request::Request;
use rocket::response;
use rocket::response::{Responder, Response};
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest, Sha256};

use crate::http::error::ApiError;

/// What gzip makes smaller.
#[derive(RustEmbed)]
#[folder = "$OUT_DIR/packed"]
struct Packed;

/// What it does not: pictures, fonts.
#[derive(RustEmbed)]
#[folder = "$OUT_DIR/plain"]
struct Plain;

const MISSING: ApiError = ApiError::NotFound("No such file");

/// A browser asks each time whether it changed, and hears 304 when not.
const ASK_AGAIN: &str = "no-cache";
/// A year, and never asked about: another version has another path.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// A file with its digest, by which a browser knows whether it has it already.
pub struct Asset {
    content: Cow<'static, [u8]>,
    /// Is `content` gzip?
    is_packed: bool,
    content_type: ContentType,
    /// Of the content, in hexadecimal.
    digest: String,
    cache: &'static str,
}

impl Asset {
    /// The file at `path` below `static/`.
    ///
    /// # Errors
    /// 404 when there is none.
    pub fn at(path: &str) -> Result<Self, ApiError> {
        let packed = Packed::get(path);
        let is_packed = packed.is_some();
        let EmbeddedFile { data, metadata, .. } = packed.or_else(|| Plain::get(path)).ok_or(MISSING)?;
        Ok(Self {
            content: data,
            is_packed,
            content_type: content_type(path),
            digest: short(&metadata.sha256_hash()),
            cache: if path.starts_with("vendor/") { FOR_GOOD } else { ASK_AGAIN },
        })
    }

    /// What was made while this program runs, packed by [`pack`].
    pub fn made(packed: &'static [u8], content_type: ContentType) -> Self {
        let digest = short(&Sha256::digest(packed));
        Self { content: Cow::Borrowed(packed), is_packed: true, content_type, digest, cache: ASK_AGAIN }
    }
}

/// `text` as gzip.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn pack(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(text)?;
    packed.finish()
}

/// Enough of a digest to tell two versions of a file apart.
fn short(digest: &[u8]) -> String {
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn content_type(path: &str) -> ContentType {
    let Some(extension) = Path::new(path).extension().and_then(|extension| extension.to_str()) else {
        // LICENSE, NOTICE, SHA256SUMS.
        return ContentType::Plain;
    };
    match extension {
        "webmanifest" => ContentType::new("application", "manifest+json"),
        "js" => ContentType::new("text", "javascript").with_params(("charset", "utf-8")),
        _ => ContentType::from_extension(extension).unwrap_or(ContentType::Binary),
    }
}

/// A static file
#[utoipa::path(get, path = "/static/{path}", operation_id = "static_file", tag = "open", params(("path" = String, Path, description = "The file's name", example = "icon.svg")),
    responses((status = 200, description = "The file", content_type = "*/*", body = String, headers(("ETag" = String, description = "The content's digest, for `If-None-Match`"))), (status = 304, description = "The file is as the client has it")))]
#[rocket::get("/static/<path..>")]
pub fn asset(path: Option<PathBuf>) -> Result<Asset, ApiError> {
    // A path that climbs, or that no file system should see, leads to no file either.
    let path = path.ok_or(MISSING)?;
    Asset::at(path.to_str().ok_or(MISSING)?)
}

/// The service worker
///
/// At the root, because it may look after no more than what lies below its own path.
#[utoipa::path(get, path = "/sw.js", operation_id = "service_worker", tag = "open", responses((status = 200, description = "The script", content_type = "text/javascript", body = String), (status = 304, description = "The script is as the client has it")))]
#[rocket::get("/sw.js")]
pub fn service_worker() -> Result<Asset, ApiError> {
    Asset::at("sw.js")
}

/// The web app manifest
#[utoipa::path(get, path = "/manifest.webmanifest", operation_id = "manifest", tag = "open", responses((status = 200, description = "The manifest", content_type = "application/manifest+json", body = serde_json::Value), (status = 304, description = "The manifest is as the client has it")))]
#[rocket::get("/manifest.webmanifest")]
pub fn manifest() -> Result<Asset, ApiError> {
    Asset::at("manifest.webmanifest")
}

/// The icon
///
/// Where browsers look for one when a page names none.
#[utoipa::path(get, path = "/favicon.ico", operation_id = "icon", tag = "open", responses((status = 200, description = "The icon", content_type = "image/svg+xml", body = String), (status = 304, description = "The icon is as the client has it")))]
#[rocket::get("/favicon.ico")]
pub fn icon() -> Result<Asset, ApiError> {
    Asset::at("icon.svg")
}

/// Does the client take gzip? It says so by name, or takes anything.
fn takes_gzip(request: &Request<'_>) -> bool {
    let mut anything = false;
    for coding in request.headers().get("Accept-Encoding").flat_map(|list| list.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        let is_wanted = weight.is_none_or(|weight| weight > 0.0);
        if name.eq_ignore_ascii_case("gzip") {
            return is_wanted;
        }
        anything |= name == "*" && is_wanted;
    }
    anything
}

impl<'r> Responder<'r, 'static> for Asset {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let sends_gzip = self.is_packed && takes_gzip(request);
        // The same content in two codings is two things to a cache.
        let tag = format!("\"{}{}\"", self.digest, if sends_gzip { "-gz" } else { "" });
        let known = request.headers().get("If-None-Match").flat_map(|list| list.split(',')).map(str::trim);
        let is_known = known.into_iter().any(|known| known == "*" || known.trim_start_matches("W/") == tag);
        let mut response = Response::build();
        // With a 304 too: by its type a page gets its policy, and a browser puts the headers of a 304
        // in the place of those that it kept.
        response.header(self.content_type);
        response.raw_header("ETag", tag).raw_header("Cache-Control", self.cache);
        if self.is_packed {
            response.raw_header("Vary", "Accept-Encoding");
        }
        if is_known {
            return response.status(Status::NotModified).ok();
        }
        let mut content = self.content;
        if sends_gzip {
            response.raw_header("Content-Encoding", "gzip");
        } else if self.is_packed {
            let mut unpacked = Vec::new();
            GzDecoder::new(&*content).read_to_end(&mut unpacked).map_err(|e| {
                tracing::error!("a static file could not be unpacked: {e}");
                Status::InternalServerError
            })?;
            content = Cow::Owned(unpacked);
        }
        response
            .max_chunk_size(content.len().clamp(1, 64 << 10))
            .sized_body(content.len(), Cursor::new(content))
            .ok()
    }
}
