//! `/openapi.json`: the document that describes this API.

use std::io;
use std::sync::OnceLock;

use rocket::State;
use rocket::http::ContentType;

use crate::http::error::ApiError;
use crate::http::handlers::assets;
use crate::http::handlers::assets::Asset;
use crate::http::schemas::OpenApiDocument;

/// Function that returns the text of the document.
pub struct DocumentSource(pub fn() -> &'static str);

/// OpenAPI document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "open", responses(
    (status = 200, description = "This document", body = OpenApiDocument, headers(("ETag" = String, description = "Digest of the document, for `If-None-Match`"))),
    (status = 304, description = "The client's copy is current")))]
#[rocket::get("/openapi.json")]
pub fn openapi(source: &State<DocumentSource>) -> Result<Asset, ApiError> {
    static COMPRESSED: OnceLock<io::Result<Vec<u8>>> = OnceLock::new();
    let compressed = COMPRESSED.get_or_init(|| assets::gzip((source.0)().as_bytes()));
    let compressed = compressed.as_ref().map_err(|_| ApiError::Internal)?;
    Ok(Asset::generated(compressed, ContentType::JSON))
}
