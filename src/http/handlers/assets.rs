//! Static files (`static/`), embedded in the binary as gzip by `build.rs`, with `ETag` and `Cache-Control`.

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

/// The files of `static/`, each compressed with gzip.
#[derive(RustEmbed)]
#[folder = "$OUT_DIR/static"]
struct Files;

const FILE_NOT_FOUND: ApiError = ApiError::NotFound("File not found");

/// `Cache-Control` of files that may change: browsers revalidate them on each use.
const REVALIDATE: &str = "no-cache";
/// `Cache-Control` of vendored files: each version has its own path.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Response body from a static or generated file.
pub struct Asset {
    /// Content, compressed with gzip.
    gzip: Cow<'static, [u8]>,
    content_type: ContentType,
    /// Start of the SHA-256 of `gzip` in hexadecimal, for the `ETag`.
    digest: String,
    cache_control: &'static str,
}

impl Asset {
    /// Returns the file at `path` below `static/`, or 404.
    pub fn file(path: &str) -> Result<Self, ApiError> {
        let EmbeddedFile { data, metadata, .. } = Files::get(path).ok_or(FILE_NOT_FOUND)?;
        Ok(Self {
            gzip: data,
            content_type: content_type(path),
            digest: short_digest(&metadata.sha256_hash()),
            cache_control: if path.starts_with("vendor/") { IMMUTABLE } else { REVALIDATE },
        })
    }

    /// Returns an asset generated at run time and compressed with [`gzip`].
    pub fn generated(gzip: &'static [u8], content_type: ContentType) -> Self {
        let digest = short_digest(&Sha256::digest(gzip));
        Self { gzip: Cow::Borrowed(gzip), content_type, digest, cache_control: REVALIDATE }
    }
}

/// Compresses `content` with gzip.
pub fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

/// Returns the first 8 bytes of a digest in hexadecimal, enough to tell versions of a file apart.
fn short_digest(digest: &[u8]) -> String {
    hex::encode(&digest[..digest.len().min(8)])
}

fn content_type(path: &str) -> ContentType {
    let Some(extension) = Path::new(path).extension().and_then(|extension| extension.to_str()) else {
        // LICENSE, NOTICE and SHA256SUMS.
        return ContentType::Plain;
    };
    match extension {
        "webmanifest" => ContentType::new("application", "manifest+json"),
        "js" => ContentType::new("text", "javascript").with_params(("charset", "utf-8")),
        _ => ContentType::from_extension(extension).unwrap_or(ContentType::Binary),
    }
}

/// Returns a static file.
#[rocket::get("/static/<path..>")]
pub fn asset(path: Option<PathBuf>) -> Result<Asset, ApiError> {
    // `None` is an unsafe path, such as one with `..`.
    let path = path.ok_or(FILE_NOT_FOUND)?;
    Asset::file(path.to_str().ok_or(FILE_NOT_FOUND)?)
}

/// Returns the service worker, from the root because its scope is limited to its own path.
#[rocket::get("/sw.js")]
pub fn service_worker() -> Result<Asset, ApiError> {
    Asset::file("sw.js")
}

/// Returns the web app manifest.
#[rocket::get("/manifest.webmanifest")]
pub fn manifest() -> Result<Asset, ApiError> {
    Asset::file("manifest.webmanifest")
}

/// Returns the icon, from the path that browsers request when a page declares none.
#[rocket::get("/favicon.ico")]
pub fn icon() -> Result<Asset, ApiError> {
    Asset::file("icon.svg")
}

/// Reports whether `Accept-Encoding` allows gzip, by name or through `*`.
fn accepts_gzip(request: &Request<'_>) -> bool {
    let mut accepts_any = false;
    for coding in request.headers().get("Accept-Encoding").flat_map(|list| list.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        let is_accepted = weight.is_none_or(|weight| weight > 0.0);
        if name.eq_ignore_ascii_case("gzip") {
            return is_accepted;
        }
        accepts_any |= name == "*" && is_accepted;
    }
    accepts_any
}

impl<'r> Responder<'r, 'static> for Asset {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let sends_gzip = accepts_gzip(request);
        // Caches must be able to tell the two encodings apart.
        let tag = format!("\"{}{}\"", self.digest, if sends_gzip { "-gz" } else { "" });
        let mut known_tags =
            request.headers().get("If-None-Match").flat_map(|list| list.split(',')).map(str::trim);
        let is_unchanged = known_tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag);
        let mut response = Response::build();
        // A 304 has the type too: the security headers depend on it, and browsers replace the stored
        // headers with those of the 304.
        response.header(self.content_type);
        response.raw_header("ETag", tag).raw_header("Cache-Control", self.cache_control);
        response.raw_header("Vary", "Accept-Encoding");
        if is_unchanged {
            return response.status(Status::NotModified).ok();
        }
        let mut content = self.gzip;
        if sends_gzip {
            response.raw_header("Content-Encoding", "gzip");
        } else {
            let mut decompressed = Vec::new();
            GzDecoder::new(&*content).read_to_end(&mut decompressed).map_err(|error| {
                tracing::error!("cannot decompress a static file: {error}");
                Status::InternalServerError
            })?;
            content = Cow::Owned(decompressed);
        }
        response
            .max_chunk_size(content.len().clamp(1, 64 << 10))
            .sized_body(content.len(), Cursor::new(content))
            .ok()
    }
}
