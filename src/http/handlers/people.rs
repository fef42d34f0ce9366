//! `/people`: everyone on this server, for the owner.

use std::ffi::OsStr;
use std::sync::Arc;

use rocket::State;
use rocket::http::Status;
use rocket::http::uri::Origin;
use rocket::tokio;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use crate::auth::key::KeyRequest;
use crate::auth::key_file::KeyFile;
use crate::config::CommonSettings;
use crate::domain::json_scalar::JsonScalar;
use crate::domain::limits::ValidationContext;
use crate::domain::person::{DisplayName, PersonName};
use crate::domain::time::Timestamp;
use crate::http::app::{App, SharedApp};
use crate::http::error::ApiError;
use crate::http::extract::json_body::{FromBody, JsonBody};
use crate::http::extract::query::parse_key_name;
use crate::http::handlers::backups::{back_up, listed};
use crate::http::handlers::jobs::accepted;
use crate::http::handlers::keys::{add_key, list_keys, revoke_key};
use crate::http::middleware::guard::{Everyone, OwnFiles};
use crate::http::response::{JsonResponse, JsonResult};
use crate::http::validation::{FieldValidator, Location, ValidationErrors, parse_object};
use crate::jobs::job::{BackgroundJob, JobKind};
use crate::jobs::program::{CommandEnvironment, CommandFailure};
use crate::jobs::queue::JobContext;
use crate::people::keys::PersonKeys;
use crate::people::moving::{MoveDirection, MoveId, current_move};
use crate::people::person::Person;
use crate::people::registry::{People, ValidKey};
use crate::people::removed::{DeletionSchedule, RemovedFolder, list_removed};

/// Response body of `GET /people`.
#[derive(Serialize, ToSchema)]
pub struct PeopleList {
    /// The owner first, the others by name.
    people: Vec<PersonSummary>,
    /// Removed people, the last one first.
    removed: Vec<RemovedPerson>,
}

/// Person of this server.
#[derive(Serialize, ToSchema)]
pub struct PersonSummary {
    name: String,
    #[schema(required)]
    display_name: Option<String>,
    is_owner: bool,
    /// Null also for a person whose database was not opened since the server started.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    newest_entry_at: Option<Timestamp>,
    /// Number of valid keys, not counting the owner's configured one.
    keys: usize,
    state: PersonState,
    /// Reason why the database cannot be used, or why the move of a frozen person cannot be read.
    #[schema(required)]
    problem: Option<String>,
    /// Time since which changes are rejected, because the person is being moved to another machine. Null otherwise, and
    /// when the move cannot be read (see `problem`).
    #[schema(value_type = Option<String>, format = DateTime, required)]
    frozen_since: Option<Timestamp>,
    /// Null unless the person is being moved to another machine.
    #[serde(rename = "move")]
    #[schema(required)]
    current_move: Option<MoveOfPerson>,
    backup: BackupOfPerson,
}

/// Move of a person to another machine.
#[derive(Serialize, ToSchema)]
struct MoveOfPerson {
    /// The same on both machines.
    #[schema(value_type = String, pattern = "^[0-9a-f]{32}$")]
    id: MoveId,
    /// `leaving` on the old machine, `arriving` on the new one.
    #[schema(value_type = String, pattern = "^(leaving|arriving)$")]
    direction: MoveDirection,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum PersonState {
    Ok,
    Unavailable,
}

/// Outcome of the last backup of a person.
#[derive(Serialize, ToSchema)]
struct BackupOfPerson {
    #[schema(value_type = Option<String>, format = DateTime, required)]
    success_at: Option<Timestamp>,
    #[schema(required)]
    error: Option<String>,
}

/// Person whose folder was moved to `removed/`.
#[derive(Serialize, ToSchema)]
struct RemovedPerson {
    folder: String,
    name: String,
    #[schema(value_type = String, format = DateTime)]
    removed_at: Timestamp,
    /// Time from which the server deletes the folder for good. Null when it is kept, as without a backup of it.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    deletion_at: Option<Timestamp>,
}

/// Response body of `POST /people`.
#[derive(Serialize, ToSchema)]
pub struct AddedPerson {
    person: PersonSummary,
    /// First key of a new person. A person who was brought back has the former keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key: Option<FirstKey>,
}

/// First key of a person, which is shown only here.
#[derive(Serialize, Deserialize, ToSchema)]
struct FirstKey {
    name: String,
    scopes: Vec<String>,
    key: String,
}

/// Output of `person add --json`.
#[derive(Deserialize)]
struct PrintedPerson {
    first_key: FirstKey,
}

impl PersonSummary {
    fn of(person: &Person, settings: &CommonSettings, now: Timestamp) -> Self {
        let (problem, backup) = (person.failure(), person.backup());
        // A damaged file is reported when it is read for a request with a key.
        let keys = KeyFile::of(&settings.database).read().map(|(keys, _)| keys).unwrap_or_default();
        let (current_move, damaged_move) = match current_move(&settings.database) {
            Ok(found) => (found, None),
            Err(e) => {
                tracing::error!("{e}");
                (None, Some(format!("changes are rejected, because the person is frozen: {e}")))
            }
        };
        Self {
            name: person.name().to_string(),
            display_name: person.display_name(),
            is_owner: person.name().is_owner(),
            newest_entry_at: person.overview().and_then(|overview| overview.newest()),
            keys: keys.iter().filter(|key| key.is_valid_at(now)).count(),
            state: if problem.is_some() { PersonState::Unavailable } else { PersonState::Ok },
            problem: problem.or(damaged_move),
            frozen_since: current_move.as_ref().map(|current| current.frozen_since),
            current_move: current_move
                .map(|current| MoveOfPerson { id: current.id, direction: current.direction }),
            backup: BackupOfPerson {
                success_at: backup.last_success.map(Timestamp::clamped),
                error: backup.error,
            },
        }
    }
}

/// List people
///
/// Everyone on this server with the state of their database and backups, and removed people, who can be brought back.
#[utoipa::path(get, path = "/people", operation_id = "list_people", tag = "people", responses((status = 200, description = "People", body = PeopleList)))]
#[rocket::get("/people")]
pub async fn list(app: &State<SharedApp>, everyone: Everyone) -> JsonResult {
    let (settings, now) = (app.settings.common.clone(), app.clock.now());
    let days = app.settings.removed_person_days;
    let read = move || -> std::io::Result<PeopleList> {
        let people = std::iter::once(Arc::clone(everyone.0.owner())).chain(everyone.0.others());
        let schedule = DeletionSchedule::read(&settings, days);
        let removed = list_removed(&settings)?.into_iter().map(|removed| RemovedPerson {
            deletion_at: schedule.deletion_time(&removed, now),
            name: removed.name.to_string(),
            removed_at: removed.removed_at,
            folder: removed.folder,
        });
        Ok(PeopleList {
            people: people
                .map(|person| PersonSummary::of(&person, &settings.of_person(person.name()), now))
                .collect(),
            removed: removed.collect(),
        })
    };
    let found = spawn_blocking(read).await.map_err(|_| ApiError::Internal)?;
    JsonResponse::ok(&found.map_err(|e| {
        tracing::error!("the removed people cannot be listed: {e}");
        ApiError::Internal
    })?)
}

/// Returns a person by name.
fn find(people: &People, name: &str) -> Result<Arc<Person>, ApiError> {
    let person = name.parse().ok().and_then(|name| people.find(&name));
    person.ok_or(ApiError::NotFound("Person not found"))
}

async fn described(app: &App, everyone: &Everyone, name: &str) -> Result<PersonSummary, ApiError> {
    let person = find(&everyone.0, name)?;
    let (settings, now) = (app.settings.common.of_person(person.name()), app.clock.now());
    spawn_blocking(move || PersonSummary::of(&person, &settings, now)).await.map_err(|_| ApiError::Internal)
}

/// Get a person
#[utoipa::path(get, path = "/people/{name}", operation_id = "get_person", tag = "people",
    params(("name" = String, Path, description = "Name of the person; `owner` for the owner", example = "anna")),
    responses((status = 200, description = "The person", body = PersonSummary)))]
#[rocket::get("/people/<name>")]
pub async fn get(app: &State<SharedApp>, everyone: Everyone, name: &str) -> JsonResult {
    JsonResponse::ok(&described(app, &everyone, name).await?)
}

/// Runs a `person` command, and loads its changes.
async fn run(app: &App, everyone: &Everyone, args: &[&OsStr]) -> Result<Value, ApiError> {
    let settings = &app.settings.common;
    let result = app.jobs.installation_command(settings, CommandEnvironment::Person, args).await;
    refresh(&everyone.0).await;
    Ok(result?)
}

/// Loads the changes that a command has made to the people.
async fn refresh(people: &Arc<People>) {
    let people = Arc::clone(people);
    drop(spawn_blocking(move || people.refresh_people()).await);
}

/// Request body of `POST /people`. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct NewPersonInput {
    /// 1 to 32 lower-case letters, digits or hyphens, starting with a letter or digit. With `removed`, the default is the
    /// former name.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9-]{0,31}$", nullable = false)]
    #[serde(default)]
    name: JsonScalar,
    /// Name that pages show.
    #[schema(value_type = Option<String>, pattern = r"\S", max_length = 100)]
    #[serde(default)]
    display_name: JsonScalar,
    /// Folder of a removed person to bring back.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9-]{0,31}-[0-9]{8}_[0-9]{6}(_[0-9]{1,9})?$", nullable = false, example = "anna-20260620_120000")]
    #[serde(default)]
    removed: JsonScalar,
}

/// Parsed body of `POST /people`.
#[derive(Debug)]
pub enum NewPerson {
    Added { name: PersonName, display_name: Option<DisplayName> },
    BroughtBack { folder: String, name: PersonName },
}

impl FromBody for NewPerson {
    fn from_body(body: &[u8], _: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: NewPersonInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let folder = match &input.removed {
            JsonScalar::Absent => None,
            folder => v.parse("removed", folder, |folder| {
                RemovedFolder::parse(folder).ok_or("must be a folder of a removed person")
            }),
        };
        let name = match (&input.name, &folder) {
            (JsonScalar::Absent, Some(removed)) => Some(removed.name.clone()),
            (name, _) => v.parse("name", name, parse_new_name),
        };
        let display_name = optional(&mut v, "display_name", &input.display_name, str::parse);
        v.finish(name.map(|name| match folder {
            Some(removed) => Self::BroughtBack { folder: removed.folder, name },
            None => Self::Added { name, display_name },
        }))
    }
}

fn parse_new_name(text: &str) -> Result<PersonName, &'static str> {
    let name: PersonName = text.parse()?;
    if name.is_owner() { Err("must not be owner") } else { Ok(name) }
}

fn optional<T>(
    v: &mut FieldValidator,
    name: &str,
    field: &JsonScalar,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Option<T> {
    match field {
        JsonScalar::Absent | JsonScalar::Null => None,
        field => v.parse(name, field, parse),
    }
}

/// Fails with 409 when there is a person of this name.
fn ensure_free(everyone: &Everyone, name: &PersonName) -> Result<(), ApiError> {
    match find(&everyone.0, name.as_str()) {
        Ok(_) => {
            Err(ApiError::Conflict(format!("There is a person named {name} already: choose another name")))
        }
        Err(_) => Ok(()),
    }
}

/// Add a person
///
/// Creates a person with a first key, which is in this response alone. With `removed`, brings a removed person back, whose
/// former keys then work again.
#[utoipa::path(post, path = "/people", operation_id = "add_person", tag = "people",
    request_body(content = NewPersonInput, example = json!({"name": "anna", "display_name": "Anna"})),
    responses((status = 201, description = "The person", body = AddedPerson, headers(("Location" = String, description = "Path of the person")))))]
#[rocket::post("/people", data = "<new>")]
pub async fn add(app: &State<SharedApp>, everyone: Everyone, new: JsonBody<NewPerson>) -> JsonResult {
    let (name, key) = match new.0 {
        NewPerson::Added { name, display_name } => {
            ensure_free(&everyone, &name)?;
            let mut args = vec!["person", "add", name.as_str(), "--json"];
            let shown = display_name.as_ref().map(|shown| format!("--display-name={}", shown.as_str()));
            args.extend(shown.as_deref());
            let args: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
            let printed = run(app, &everyone, &args).await?;
            let key = first_key(printed)?;
            (name, Some(key))
        }
        NewPerson::BroughtBack { folder, name } => {
            ensure_free(&everyone, &name)?;
            let path = app.settings.common.removed_folder().join(&folder);
            let args = ["person", "adopt", "--name", name.as_str()].map(OsStr::new);
            let args: Vec<&OsStr> = args.into_iter().chain([path.as_os_str()]).collect();
            if !exists(&path).await {
                return Err(ApiError::NotFound("There is no such folder of a removed person"));
            }
            run(app, &everyone, &args).await?;
            (name, None)
        }
    };
    let person = described(app, &everyone, name.as_str()).await?;
    let response = JsonResponse::ok(&AddedPerson { person, key })?.with_status(Status::Created);
    Ok(response.with_header("Location", format!("/people/{name}")))
}

fn first_key(printed: Value) -> Result<FirstKey, ApiError> {
    // The error could quote the key.
    let printed: Result<PrintedPerson, _> = serde_json::from_value(printed);
    printed
        .map(|person| person.first_key)
        .map_err(|_| CommandFailure::of("the new key could not be read").into())
}

async fn exists(path: &std::path::Path) -> bool {
    let path = path.to_owned();
    spawn_blocking(move || path.is_dir()).await.unwrap_or(false)
}

/// Request body of `PATCH /people/{name}`: at least one field. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub struct PersonChangeInput {
    /// 1 to 32 lower-case letters, digits or hyphens, starting with a letter or digit.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9-]{0,31}$", nullable = false)]
    #[serde(default)]
    name: JsonScalar,
    /// Name that pages show; null removes it.
    #[schema(value_type = Option<String>, pattern = r"\S", max_length = 100)]
    #[serde(default)]
    display_name: JsonScalar,
}

/// Parsed body of `PATCH /people/{name}`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PersonChange {
    name: Option<PersonName>,
    display_name: Option<Option<DisplayName>>,
}

impl FromBody for PersonChange {
    fn from_body(body: &[u8], _: &ValidationContext<'_>) -> Result<Self, ValidationErrors> {
        let input: PersonChangeInput = parse_object(body)?;
        let mut v = FieldValidator::new(Location::Body);
        let name = match &input.name {
            JsonScalar::Absent => None,
            name => v.parse("name", name, parse_new_name),
        };
        let display_name = match &input.display_name {
            JsonScalar::Absent => None,
            JsonScalar::Null => Some(None),
            shown => Some(v.parse("display_name", shown, str::parse)),
        };
        v.finish_change(Self { name, display_name }, "name, display_name")
    }
}

/// Rename a person
///
/// Changes the name or the display name. Keys stay valid. The name of the owner is fixed.
#[utoipa::path(patch, path = "/people/{name}", operation_id = "change_person", tag = "people",
    params(("name" = String, Path, description = "Name of the person; `owner` for the owner", example = "anna")),
    request_body(content = PersonChangeInput, example = json!({"display_name": "Anna"})),
    responses((status = 200, description = "The person", body = PersonSummary)))]
#[rocket::patch("/people/<name>", data = "<change>")]
pub async fn change(
    app: &State<SharedApp>,
    everyone: Everyone,
    name: &str,
    change: JsonBody<PersonChange>,
) -> JsonResult {
    let person = find(&everyone.0, name)?;
    let PersonChange { name: new, display_name } = change.0;
    let mut args = vec!["person", "rename", person.name().as_str()];
    if let Some(new) = new.as_ref().filter(|new| *new != person.name()) {
        if person.name().is_owner() {
            return Err(ApiError::Conflict("The name of the owner is fixed".to_owned()));
        }
        ensure_free(&everyone, new)?;
        if exists(&app.settings.common.of_person(new).backups).await {
            return Err(ApiError::Conflict(format!(
                "There are backups of a former person named {new}: choose another name"
            )));
        }
        args.push(new.as_str());
    }
    let shown =
        display_name.map(|shown| format!("--display-name={}", shown.map_or(String::new(), String::from)));
    args.extend(shown.as_deref());
    if args.len() > 3 {
        let args: Vec<&OsStr> = args.into_iter().map(OsStr::new).collect();
        if let Err(error) = run(app, &everyone, &args).await {
            // Another request may have removed the person.
            find(&everyone.0, person.name().as_str())?;
            return Err(error);
        }
    }
    let present = new.as_ref().unwrap_or(person.name());
    let refreshed = find(&everyone.0, present.as_str())?;
    drop(spawn_blocking(move || refreshed.refresh_details()).await);
    JsonResponse::ok(&described(app, &everyone, present.as_str()).await?)
}

/// Remove a person
///
/// Starts a job that makes a last backup and moves the person's folder to `removed/`. Their keys stop working. The result
/// has `backup`, and `folder`, with which `POST /people` brings the person back until the folder is deleted (see
/// `deletion_at` in the list of people).
#[utoipa::path(delete, path = "/people/{name}", operation_id = "remove_person", tag = "people",
    params(("name" = String, Path, description = "Name of the person", example = "anna")),
    responses((status = 202, description = "The job", body = BackgroundJob, headers(("Location" = String, description = "Path of the job")))))]
#[rocket::delete("/people/<name>")]
pub async fn remove(
    app: &State<SharedApp>,
    everyone: Everyone,
    files: OwnFiles,
    name: &str,
    uri: &Origin<'_>,
) -> JsonResult {
    // HTTP clients turn the path `/people/anna/keys/..` into `/people/anna/`.
    if uri.path().ends_with('/') {
        return Err(ApiError::NotFound("Person not found"));
    }
    let person = find(&everyone.0, name)?;
    if person.name().is_owner() {
        return Err(ApiError::Conflict("The owner cannot be removed".to_owned()));
    }
    let (people, name, shared) = (everyone.0, person.name().clone(), Arc::clone(app));
    let work = |job: JobContext| async move {
        let args = ["person", "remove", name.as_str(), "--yes", "--json"].map(OsStr::new);
        let environment = CommandEnvironment::Person;
        let removed = shared.jobs.installation_command(&job.settings, environment, &args).await;
        refresh(&people).await;
        let removed = removed?;
        let last = |field: &str| {
            let path = removed.get(field).and_then(Value::as_str)?;
            Some(path.rsplit('/').next().unwrap_or(path).to_owned())
        };
        Ok(json!({"folder": last("folder"), "backup": last("backup")}))
    };
    accepted(&app.jobs.start(&files.0, JobKind::RemovePerson, work).await?)
}

/// List the backups of a person
#[utoipa::path(get, path = "/people/{name}/backups", operation_id = "list_backups_of_person", tag = "people",
    params(("name" = String, Path, description = "Name of the person; `owner` for the owner", example = "anna")),
    responses((status = 200, description = "Backups, newest first", body = crate::http::handlers::backups::BackupList)))]
#[rocket::get("/people/<name>/backups")]
pub async fn backups(app: &State<SharedApp>, everyone: Everyone, name: &str) -> JsonResult {
    let person = find(&everyone.0, name)?;
    listed(app, app.settings.common.of_person(person.name())).await
}

/// Make a backup of a person
///
/// Starts a job of the owner.
#[utoipa::path(post, path = "/people/{name}/backups", operation_id = "create_backup_of_person", tag = "people",
    params(("name" = String, Path, description = "Name of the person; `owner` for the owner", example = "anna")),
    responses((status = 202, description = "The job", body = BackgroundJob)))]
#[rocket::post("/people/<name>/backups")]
pub async fn create_backup(
    app: &State<SharedApp>,
    everyone: Everyone,
    files: OwnFiles,
    name: &str,
) -> JsonResult {
    let person = find(&everyone.0, name)?;
    accepted(&back_up(app, &files.0, app.settings.common.of_person(person.name())).await?)
}

/// Returns the keys of a person by name.
fn keys_of(everyone: Everyone, name: &str) -> Result<PersonKeys, ApiError> {
    let person = find(&everyone.0, name)?;
    Ok(PersonKeys::new(everyone.0, person))
}

/// List the keys of a person
///
/// The valid named keys. The owner's key and the sign-in by a proxy are not among them.
#[utoipa::path(get, path = "/people/{name}/keys", operation_id = "list_keys_of_person", tag = "people",
    params(("name" = String, Path, description = "Name of the person; `owner` for the owner", example = "anna")),
    responses((status = 200, description = "The keys, newest first", body = crate::http::handlers::keys::KeyList)))]
#[rocket::get("/people/<name>/keys")]
#[expect(clippy::needless_pass_by_value, reason = "Rocket passes extractors by value")]
pub fn keys(everyone: Everyone, caller: ValidKey, name: &str) -> JsonResult {
    list_keys(&keys_of(everyone, name)?, caller.id)
}

/// Create a key of a person
///
/// The response is the only one that contains the text of the key. Only keys of the owner can have `metrics`.
#[utoipa::path(post, path = "/people/{name}/keys", operation_id = "add_key_of_person", tag = "people",
    params(("name" = String, Path, description = "Name of the person; `owner` for the owner", example = "anna")),
    request_body(content = crate::http::handlers::keys::KeyInput, example = json!({"name": "phone", "scopes": ["read", "write"], "expires_at": null})),
    responses((status = 201, description = "The new key", body = crate::http::handlers::keys::NewApiKey, headers(("Location" = String, description = "Path of the key, such as `/people/anna/keys/phone`")))))]
#[rocket::post("/people/<name>/keys", data = "<request>")]
pub async fn add_key_of(
    everyone: Everyone,
    caller: ValidKey,
    name: &str,
    request: JsonBody<KeyRequest>,
) -> JsonResult {
    let keys = keys_of(everyone, name)?;
    add_key(keys, caller.id, request.0, &format!("/people/{name}/keys")).await
}

/// Revoke a key of a person
///
/// Takes effect with the response, also for a former key that a rotation left valid. The person can undo it for 10
/// minutes.
#[utoipa::path(delete, path = "/people/{name}/keys/{key}", operation_id = "revoke_key_of_person", tag = "people",
    params(
        ("name" = String, Path, description = "Name of the person; `owner` for the owner", example = "anna"),
        ("key" = String, Path, description = "Name of the key", pattern = "^[A-Za-z0-9._-]{1,50}$", example = "phone")),
    responses((status = 200, description = "The key was revoked", body = crate::http::handlers::keys::KeyRevoked)))]
#[rocket::delete("/people/<name>/keys/<key>")]
pub async fn revoke_key_of(everyone: Everyone, name: &str, key: &str) -> JsonResult {
    let keys = keys_of(everyone, name)?;
    revoke_key(keys, parse_key_name("key", key)?).await
}
