//! Backups over HTTP: made, listed, downloaded, verified, restored, received, each by a job.

use std::fs;
use std::path::{Path, PathBuf};

use coffee_tracker::auth::key::{KeyName, Scope, Scopes};
use coffee_tracker::auth::key_file::KeyFile;
use rocket::http::Method;
use rocket::tokio;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::helpers::{TestApp, TestResponse, invalid_field, invalid_value};

impl TestApp {
    fn backups_folder(&self) -> PathBuf {
        self.shared.settings.common.backups.clone()
    }

    /// Sends a request that starts a job, and returns the job after its end.
    pub async fn run_job(&self, path: &str, body: Value) -> Value {
        let accepted = self.post(path, body).await;
        self.finished(accepted).await
    }

    /// Returns the job of this response after its end.
    pub async fn finished(&self, accepted: TestResponse) -> Value {
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        let job = accepted.json();
        let path = accepted.header("location").to_owned();
        assert_eq!(path, format!("/jobs/{}", job["id"].as_str().unwrap()));
        loop {
            let job = self.get(&path).await.json();
            if !["queued", "running"].contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Makes a backup and returns its name.
    async fn back_up(&self) -> String {
        let job = self.run_job("/backups", Value::Null).await;
        assert_eq!(job["state"], "succeeded", "{job}");
        job["result"]["file"].as_str().unwrap().to_owned()
    }

    async fn listed_backups(&self) -> Vec<Value> {
        self.get("/backups").await.json()["backups"].as_array().unwrap().clone()
    }

    async fn upload(&self, bytes: &[u8]) -> Value {
        let accepted = self.request(Method::Post, "/backups/upload").body(bytes).send().await;
        self.finished(accepted).await
    }

    /// Returns the names of the files in the folder of backups that are or may become backups.
    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.backups_folder()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> =
            names.filter(|name| name.starts_with("coffee_") || name.ends_with(".tmp")).collect();
        names.sort();
        names
    }
}

#[rocket::async_test]
async fn a_backup_is_made_listed_verified_and_downloaded() {
    let app = TestApp::new().await;
    let empty = app.get("/backups").await;
    empty.assert_json(
        200,
        json!({"backups": [], "last": {"success_at": null, "error": null}, "is_on_same_disk": true}),
    );
    app.add_coffee("2026-06-01T08:00:00Z", 95.0, Some("espresso")).await;
    app.add_readings("resting", &[("2026-06-01T08:30:00Z", 70)]).await;
    let job = app.run_job("/backups", Value::Null).await;
    let file = job["result"]["file"].as_str().unwrap().to_owned();
    let on_disk = fs::read(app.backups_folder().join(&file)).unwrap();
    assert_eq!(job["kind"], "backup");
    assert_eq!((&job["state"], &job["progress"]), (&json!("succeeded"), &json!(1.0)));
    assert_eq!(
        job["result"],
        json!({"file": file, "size_bytes": on_disk.len(), "coffees": 1, "readings": 1})
    );
    let list = app.get("/backups").await.json();
    let listed = list["backups"][0].clone();
    assert!(listed["verified_at"].is_string() && list["last"]["success_at"].is_string(), "{list}");
    assert_eq!(
        listed,
        json!({"file": file, "created_at": listed["created_at"], "size_bytes": on_disk.len(), "coffees": 1,
               "readings": 1, "newest_entry_at": "2026-06-01T08:30:00.000000Z",
               "verified_at": listed["verified_at"], "kind": "manual", "origin": "own"})
    );

    let verified = app.run_job(&format!("/backups/{file}/verify"), Value::Null).await;
    assert_eq!(
        verified["result"],
        json!({"file": file, "is_restorable": true, "reasons": [], "coffees": 1, "readings": 1})
    );
    assert_eq!(app.listed_backups().await[0]["verified_at"], "2026-06-01T12:00:00.000000Z");

    let download = app.get(&format!("/backups/{file}")).await;
    assert_eq!((download.status, &download.body), (200, &on_disk));
    assert_eq!(download.header("content-type"), "application/vnd.sqlite3");
    assert_eq!(download.header("content-disposition"), format!("attachment; filename=\"{file}\""));
    let head = app.request(Method::Head, &format!("/backups/{file}")).send().await;
    assert_eq!((head.status, head.content_length, head.body.len()), (200, Some(on_disk.len()), 0));
    let jobs = app.get("/jobs").await.json();
    let kinds: Vec<_> = jobs["jobs"].as_array().unwrap().iter().map(|job| job["kind"].clone()).collect();
    assert_eq!(kinds, ["verify", "backup"]);
    app.get("/jobs/0123456789abcdef").await.assert_problem(404, "Job not found");
}

#[rocket::async_test]
async fn an_interrupted_download_is_resumed_unless_the_file_has_changed() {
    let app = TestApp::new().await;
    let file = app.back_up().await;
    let path = format!("/backups/{file}");
    let whole = app.get(&path).await;
    let (size, tag) = (whole.body.len(), whole.header("etag").to_owned());
    let range = |range: &str| app.request(Method::Get, &path).header("Range", range);
    let part = range("bytes=1000-").header("If-Range", tag.as_str()).send().await;
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[1000..]));
    assert_eq!(part.header("content-range"), format!("bytes 1000-{}/{size}", size - 1));
    let tail = range("bytes=-16").send().await;
    assert_eq!((tail.status, &tail.body[..]), (206, &whole.body[size - 16..]));
    let other = range("bytes=1000-").header("If-Range", "\"other\"").send().await;
    assert_eq!((other.status, other.body.len()), (200, size));
    let after = range(&format!("bytes={size}-")).send().await;
    assert_eq!((after.status, after.header("content-range")), (416, format!("bytes */{size}").as_str()));
    for name in ["coffee.db", "coffee_20200101_000000.db", "..", "coffee.db.keys", "%2e%2e%2fcoffee.db"] {
        let missing = app.get(&format!("/backups/{name}")).await;
        assert_eq!(missing.status, 404, "{name}: {}", missing.text());
    }
}

#[rocket::async_test]
async fn a_restore_shows_what_it_loses_and_can_be_undone() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T08:00:00Z", 95.0, None).await;
    let file = app.back_up().await;
    app.add_coffee("2026-06-01T09:00:00Z", 50.0, None).await;
    app.add_readings("resting", &[("2026-06-01T09:30:00Z", 70)]).await;
    let path = format!("/backups/{file}/restore");
    let preview = app.run_job(&path, json!({"dry_run": true})).await;
    assert_eq!(preview["kind"], "restore-preview");
    let newest = "2026-06-01T09:30:00.000000Z";
    assert_eq!(
        preview["result"],
        json!({"file": file,
               "before": {"coffees": 2, "readings": 1, "newest_entry_at": newest},
               "after": {"coffees": 1, "readings": 0, "newest_entry_at": "2026-06-01T08:00:00.000000Z"},
               "loses": {"coffees": 1, "readings": 1, "since": "2026-06-01T09:00:00.000000Z"},
               "origin": "own", "is_served": true})
    );
    assert_eq!(app.ids("/coffee/").await.len(), 2);

    let restored = app.run_job(&path, json!({})).await;
    assert_eq!(restored["state"], "succeeded", "{restored}");
    let safety = restored["result"]["safety"].as_str().unwrap().to_owned();
    assert_eq!(restored["result"], json!({"file": file, "safety": safety, "coffees": 1, "readings": 0}));
    assert_eq!(app.ids("/coffee/").await.len(), 1);
    let kinds: Vec<_> = app.listed_backups().await.iter().map(|backup| backup["kind"].clone()).collect();
    assert!(kinds.contains(&json!("safety")), "{kinds:?}");

    let undone = app.run_job(&format!("/backups/{safety}/restore"), json!({})).await;
    assert_eq!(undone["state"], "succeeded", "{undone}");
    assert_eq!(app.ids("/coffee/").await.len(), 2);
    app.post(&path, json!({"dry_run": "yes"})).await.assert_invalid(&[invalid_value(
        "body",
        "dry_run",
        "must be true or false",
        "yes",
    )]);
}

/// Writes a copy of a backup, changed by a statement.
fn changed(backup: &Path, statement: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    fs::copy(backup, &copy).unwrap();
    let connection = Connection::open(&copy).unwrap();
    connection.execute_batch(statement).unwrap();
    connection.close().unwrap();
    fs::read(&copy).unwrap()
}

#[rocket::async_test]
async fn an_uploaded_backup_is_verified_before_it_is_listed() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T08:00:00Z", 95.0, None).await;
    let file = app.back_up().await;
    let path = app.backups_folder().join(&file);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let uploaded = app.upload(&bytes).await;
    assert_eq!(
        (&uploaded["kind"], &uploaded["state"]),
        (&json!("upload"), &json!("succeeded")),
        "{uploaded}"
    );
    assert_eq!(app.listed_backups().await, [uploaded["result"].clone()]);
    assert_eq!(uploaded["result"]["verified_at"], "2026-06-01T12:00:00.000000Z");
    let name = uploaded["result"]["file"].as_str().unwrap().to_owned();
    assert_eq!(fs::read(app.backups_folder().join(&name)).unwrap(), bytes);
    app.add_coffee("2026-06-01T09:00:00Z", 50.0, None).await;
    let restored = app.run_job(&format!("/backups/{name}/restore"), json!({})).await;
    assert_eq!(restored["state"], "succeeded", "{restored}");
    assert_eq!(app.ids("/coffee/").await.len(), 1);
}

#[rocket::async_test]
async fn an_upload_that_cannot_be_restored_is_refused_and_leaves_nothing() {
    let app = TestApp::new().await;
    let file = app.back_up().await;
    let path = app.backups_folder().join(&file);
    let good = fs::read(&path).unwrap();
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0x55);
    let cases = [
        (b"flat white".repeat(1000), "is not a SQLite database"),
        (good[..good.len() / 2].to_vec(), ""),
        (damaged, ""),
        (changed(&path, "pragma application_id = 7"), "of another program"),
        (changed(&path, "pragma user_version = 4711"), "schema version 4711"),
    ];
    let before = app.files();
    for (bytes, reason) in cases {
        let refused = app.upload(&bytes).await;
        assert_eq!(refused["state"], "failed", "{reason}: {refused}");
        assert_eq!(refused["problem"]["title"], "The backup cannot be used");
        assert_eq!(refused["problem"]["status"], 422);
        let detail = refused["problem"]["detail"].as_str().unwrap();
        assert!(detail.starts_with("The file is not kept: ") && detail.contains(reason), "{detail}");
        assert_eq!(app.files(), before, "{detail}");
    }
    let empty = app.request(Method::Post, "/backups/upload").send().await;
    empty.assert_invalid(&[invalid_field("body", "body", "must be a backup, and not empty")]);
    // A length that no disk has room for is refused before anything is received.
    let bomb = app.request(Method::Post, "/backups/upload").header("Content-Length", "1000000000000000");
    let refused = bomb.body("x").send().await;
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(refused.text().contains("not enough space"), "{}", refused.text());
    assert_eq!(app.files(), before);
}

#[rocket::async_test]
async fn a_backup_of_another_person_is_refused_on_upload() {
    let app = TestApp::new().await;
    let anna = app.post("/people", json!({"name": "anna"})).await;
    assert_eq!(anna.status, 201, "{}", anna.text());
    let key = anna.json()["key"]["key"].as_str().unwrap().to_owned();
    let with_key = |method, path: &str| app.request(method, path).key(&key);
    assert_eq!(with_key(Method::Post, "/coffee/").json(&json!({"caffeine_mg": 1})).send().await.status, 201);
    let made = with_key(Method::Post, "/backups").send().await;
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let job = loop {
        let job = with_key(Method::Get, &format!("/jobs/{id}")).send().await.json();
        if job["finished_at"].is_string() {
            break job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let file = job["result"]["file"].as_str().unwrap();
    // Neither the job nor the backup is the owner's.
    assert_eq!(app.get(&format!("/jobs/{id}")).await.status, 404);
    assert_eq!(app.get(&format!("/backups/{file}")).await.status, 404);
    let bytes = with_key(Method::Get, &format!("/backups/{file}")).send().await.body;
    let refused = app.upload(&bytes).await;
    assert_eq!(refused["problem"]["detail"], "The file is not kept: it is a backup of the person anna");
    let listed = app.get("/people/anna/backups").await.json();
    assert_eq!(listed["backups"][0]["file"], file);
}

#[rocket::async_test]
async fn old_entries_are_deleted_after_a_backup() {
    let app = TestApp::new().await;
    app.add_coffee("2026-01-01T08:00:00Z", 95.0, None).await;
    app.add_coffee("2026-06-01T08:00:00Z", 50.0, None).await;
    app.add_readings("resting", &[("2026-01-01T08:30:00Z", 70)]).await;
    let nothing = app.run_job("/prune", json!({"before": "2020-01-01"})).await;
    assert_eq!(nothing["result"], json!({"file": null, "coffees": 0, "readings": 0}));
    let pruned = app.run_job("/prune", json!({"before": "2026-06-01", "kind": "coffee"})).await;
    let file = pruned["result"]["file"].clone();
    assert_eq!(pruned["result"], json!({"file": file, "coffees": 1, "readings": 0}), "{pruned}");
    assert_eq!((app.ids("/coffee/").await.len(), app.ids("/heartrate/").await.len()), (1, 1));
    let undone = app.run_job(&format!("/backups/{}/restore", file.as_str().unwrap()), json!({})).await;
    assert_eq!(undone["state"], "succeeded", "{undone}");
    assert_eq!(app.ids("/coffee/").await.len(), 2);
    let part = json!({"since": "2026-01-01T08:00:00Z", "before": "2026-01-01T08:30:00Z"});
    let pruned = app.run_job("/prune", part).await;
    let file = pruned["result"]["file"].clone();
    assert_eq!(pruned["result"], json!({"file": file, "coffees": 1, "readings": 0}), "{pruned}");
    assert_eq!((app.ids("/coffee/").await, app.ids("/heartrate/").await.len()), (vec![2], 1));
    let later = app.run_job("/prune", json!({"since": "2026-01-02", "before": "2026-06-01"})).await;
    assert_eq!(later["result"], json!({"file": null, "coffees": 0, "readings": 0}), "{later}");
    let reversed = json!({"since": "2026-01-03", "before": "2026-01-02"});
    let message = "must not be after before";
    app.post("/prune", reversed).await.assert_invalid(&[invalid_value(
        "body",
        "since",
        message,
        "2026-01-03",
    )]);
    let unreadable = json!({"since": "soon", "before": "2026-01-02"});
    let message = "must be a date and time such as 2025-07-23T14:30:00Z";
    app.post("/prune", unreadable).await.assert_invalid(&[invalid_value("body", "since", message, "soon")]);
    app.post("/prune", json!({"before": "2027-01-01", "kind": "tea"})).await.assert_invalid(&[
        invalid_value("body", "before", "must not be in the future", "2027-01-01"),
        invalid_value("body", "kind", "must be all, coffee or heartrate", "tea"),
    ]);
}

#[rocket::async_test]
async fn one_job_of_a_person_runs_at_a_time() {
    let app = TestApp::new().await;
    let first = app.post("/backups", Value::Null).await;
    let second = app.post("/backups", Value::Null).await;
    if app.finished(first).await["state"] != "succeeded" {
        panic!("the first backup failed");
    }
    second.assert_problem(409, "Another task is running: wait until it has finished");
    app.back_up().await;
}

#[rocket::async_test]
async fn only_keys_with_the_scope_manage_reach_the_backups() {
    let app = TestApp::new().await;
    let file = app.back_up().await;
    let key = app.add_key("phone", &[Scope::Read, Scope::Write]);
    let manage = app.add_key("laptop", &[Scope::Manage]);
    for (method, path) in [
        (Method::Get, "/backups".to_owned()),
        (Method::Post, "/backups".to_owned()),
        (Method::Get, format!("/backups/{file}")),
        (Method::Post, format!("/backups/{file}/verify")),
        (Method::Post, format!("/backups/{file}/restore")),
        (Method::Post, "/backups/upload".to_owned()),
        (Method::Post, "/prune".to_owned()),
        (Method::Get, "/jobs".to_owned()),
    ] {
        let refused = app.request(method, &path).key(&key).send().await;
        refused.assert_problem(403, "This API key lacks the scope manage");
    }
    assert_eq!(app.request(Method::Get, "/backups").key(&manage).send().await.status, 200);
    assert_eq!(app.files().len(), 1);
}

#[rocket::async_test]
async fn a_failed_backup_names_its_reason() {
    let app = TestApp::new().await;
    app.add_coffee("2026-06-01T08:00:00Z", 95.0, None).await;
    let missing = app.people_folder_of("anna");
    fs::create_dir_all(&missing).unwrap();
    let database = missing.join("coffee.db");
    let name = KeyName::parse("first").unwrap();
    let scopes = Scopes::from(vec![Scope::Manage]);
    let key = KeyFile::of(&database).add(&name, scopes, None, app.clock.now()).unwrap();
    app.people.refresh_people();
    let accepted = app.request(Method::Post, "/backups").key(&key).send().await;
    let path = accepted.header("location").to_owned();
    let job = loop {
        let job = app.request(Method::Get, &path).key(&key).send().await.json();
        if job["finished_at"].is_string() {
            break job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!((&job["state"], &job["problem"]["title"]), (&json!("failed"), &json!("The task failed")));
    let detail = job["problem"]["detail"].as_str().unwrap();
    assert!(detail.contains("there is no database at"), "{detail}");
}

impl TestApp {
    fn people_folder_of(&self, person: &str) -> PathBuf {
        self.shared.settings.common.people_folder().join(person)
    }
}
