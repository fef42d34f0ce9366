//! `GET /sources`: apps and devices that entries come from.

use rocket::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::db::sources::EntrySource;
use crate::domain::time::{MINUTE, Timestamp};
use crate::http::app::SharedApp;
use crate::http::extract::headers::PersonOfRequest;
use crate::http::response::{JsonResponse, JsonResult};

/// Maximum number of sources of each kind in a response.
const MAX_LISTED: u32 = 50;

/// Response body of `GET /sources`.
#[derive(Serialize, ToSchema)]
pub struct SourceList {
    /// The source with the newest entry first.
    #[schema(max_items = 100)]
    sources: Vec<ListedSource>,
}

/// App or device.
#[derive(Serialize, ToSchema)]
pub struct ListedSource {
    /// Name that the app or the device has in the pushes and files that it came from.
    name: String,
    #[schema(value_type = String, pattern = "^(coffee|heartrate)$")]
    kind: &'static str,
    /// Time of its newest entry.
    #[schema(value_type = String, format = DateTime)]
    newest_at: Timestamp,
    /// Whole minutes since then.
    minutes_ago: i64,
}

impl ListedSource {
    fn new(source: EntrySource, now: Timestamp) -> Self {
        let kind = source.kind.name();
        let minutes_ago = (now.micros() - source.newest_at.micros()).max(0) / MINUTE;
        Self { name: source.name, kind, newest_at: source.newest_at, minutes_ago }
    }
}

/// List sources
///
/// Apps and devices that have delivered entries by a push or in a file, with the time of their newest entry: a device
/// whose readings have stopped is seen here. Entries that were logged on this server have no source.
#[utoipa::path(get, path = "/sources", operation_id = "list_sources", tag = "apps",
    responses((status = 200, description = "Sources, the one with the newest entry first", body = SourceList)))]
#[rocket::get("/sources")]
pub async fn list(app: &State<SharedApp>, person: PersonOfRequest) -> JsonResult {
    let now = app.clock.now();
    let sources = person.store.sources(MAX_LISTED).await?;
    JsonResponse::ok(&SourceList {
        sources: sources.into_iter().map(|source| ListedSource::new(source, now)).collect(),
    })
}
