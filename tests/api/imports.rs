//! Import of files over HTTP: received, previewed, imported or discarded.

use std::fs;
use std::path::Path;

use coffee_tracker::auth::key::Scope;
use coffee_tracker::db::lock_file::MaintenanceLock;
use rocket::http::Method;
use rocket::tokio;
use serde_json::{Value, json};

use super::helpers::{TestApp, TestRequest, invalid_field};

const CSV: &str = "timestamp,caffeine_mg,coffee_type,notes,source\n\
    2025-07-23T14:30:00Z,95,espresso,secret,\n\
    2025-07-24T08:00:00Z,80,,,Watch\n\
    2025-07-24T09:00:00Z,1100,,,\n\
    soon,80,,secret,\n";
const GONE: &str = "There is no such file: it was imported, replaced or removed. Send it again";

impl TestApp {
    /// Sends a file to import, and returns the job of the preview after its end.
    async fn preview_import(&self, content: &str) -> Value {
        let accepted = self.request(Method::Post, "/imports").body(content).send().await;
        self.finished(accepted).await
    }

    /// Returns the names of the temporary files beside the owner's database.
    fn received_files(&self) -> Vec<String> {
        temporary_files(self.database().parent().unwrap())
    }
}

fn temporary_files(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".tmp")).collect()
}

#[rocket::async_test]
async fn a_file_is_previewed_and_imported_and_a_second_import_adds_nothing() {
    let app = TestApp::new().await;
    app.add_coffee("2025-07-23T14:30:00Z", 70.0, None).await;
    let preview = app.preview_import(CSV).await;
    assert_eq!((&preview["kind"], &preview["state"]), (&json!("import-preview"), &json!("succeeded")));
    let id = preview["result"]["id"].as_str().unwrap().to_owned();
    let numbers = json!({
        "is_dry_run": true, "coffees_added": 2, "readings_added": 0, "updated": 0, "duplicates": 0,
        "rejected": 2, "out_of_range": 1, "unsupported": 0,
        "oldest": "2025-07-23T14:30:00.000000Z", "newest": "2025-07-24T08:00:00.000000Z",
        "sources": [{"name": "Watch", "entries": 1}],
        "rejections": [
            {"position": "line 4", "reason": "caffeine_mg: 1100 is above MAX_CAFFEINE_MG (1000)"},
            {"position": "line 5", "reason": "timestamp: must be a date and time such as 2025-07-23T14:30:00Z"},
        ],
    });
    let mut expected = numbers.clone();
    expected["id"] = json!(id);
    assert_eq!(preview["result"], expected);
    assert_eq!((app.ids("/coffee/").await.len(), app.received_files().len()), (1, 1));

    let imported = app.run_job(&format!("/imports/{id}"), Value::Null).await;
    assert_eq!(
        (&imported["kind"], &imported["state"]),
        (&json!("import"), &json!("succeeded")),
        "{imported}"
    );
    let mut expected = numbers;
    expected["is_dry_run"] = json!(false);
    assert_eq!(imported["result"], expected);
    assert_eq!((app.ids("/coffee/").await.len(), app.received_files()), (3, vec![]));
    app.post(&format!("/imports/{id}"), Value::Null).await.assert_problem(404, GONE);

    let again = app.preview_import(CSV).await["result"].clone();
    assert_eq!((&again["coffees_added"], &again["duplicates"]), (&json!(0), &json!(2)));
    let again = app.run_job(&format!("/imports/{}", again["id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(again["result"]["coffees_added"], 0);
    assert_eq!(app.ids("/coffee/").await.len(), 3);
}

#[rocket::async_test]
async fn the_limits_of_the_server_apply() {
    let flags = [("max-caffeine-mg", "1200.5"), ("min-heart-rate-bpm", "20"), ("max-heart-rate-bpm", "300")];
    let app = TestApp::with_flags(&flags).await;
    let rows = "timestamp,caffeine_mg,bpm\n2025-07-24T09:00:00Z,1200.5,\n2025-07-24T09:00:00Z,1200.6,\n\
        2025-07-24T09:00:00Z,,20\n2025-07-24T09:00:00Z,,19\n2025-07-24T09:00:00Z,,300\n2025-07-24T09:00:00Z,,301\n";
    let result = app.preview_import(rows).await["result"].clone();
    let counts = ["coffees_added", "readings_added", "out_of_range"].map(|field| result[field].clone());
    assert_eq!(counts, [json!(1), json!(2), json!(3)], "{result}");
}

#[rocket::async_test]
async fn a_file_that_cannot_be_imported_fails_with_the_reason_and_is_removed() {
    let app = TestApp::new().await;
    for (content, reason) in [
        ("not a table", "there is no column timestamp"),
        ("secret note,80\nsecret note,80\n", "there is no column timestamp"),
        (" \n\n", "the file contains only blanks"),
        ("<HealthData><Record type=\"x\">", "reading stopped at line 1"),
    ] {
        let failed = app.preview_import(content).await;
        assert_eq!(failed["state"], "failed", "{failed}");
        assert_eq!(failed["problem"]["title"], "The file cannot be imported");
        assert_eq!(failed["problem"]["status"], 422);
        let detail = failed["problem"]["detail"].as_str().unwrap();
        assert!(detail.starts_with(reason) && !detail.contains("secret"), "{detail}");
        assert_eq!(app.received_files(), [] as [&str; 0], "{detail}");
    }
    let rejected = app.preview_import("timestamp,bpm\n2025-07-24T09:00:00Z,0\n").await;
    let result = &rejected["result"];
    assert_eq!((&result["readings_added"], &result["rejected"]), (&json!(0), &json!(1)), "{rejected}");
    let empty = app.request(Method::Post, "/imports").send().await;
    empty.assert_invalid(&[invalid_field("body", "body", "must be a file to import, and not empty")]);
    let bomb = app.request(Method::Post, "/imports").header("Content-Length", "1000000000000000");
    let refused = bomb.body("x").send().await;
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert!(refused.text().contains("not enough space"), "{}", refused.text());
}

#[rocket::async_test]
async fn a_received_file_is_removed_when_it_is_discarded_replaced_or_unused_for_an_hour() {
    let app = TestApp::new().await;
    let first = app.preview_import(CSV).await["result"]["id"].as_str().unwrap().to_owned();
    let second = app.preview_import(CSV).await["result"]["id"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(app.received_files().len(), 1);
    app.post(&format!("/imports/{first}"), Value::Null).await.assert_problem(404, GONE);
    app.delete(&format!("/imports/{first}")).await.assert_problem(404, GONE);
    let discarded = app.delete(&format!("/imports/{second}")).await;
    discarded.assert_json(200, json!({"message": "File discarded", "id": second}));
    assert_eq!(app.received_files(), [] as [&str; 0]);

    let third = app.preview_import(CSV).await["result"]["id"].as_str().unwrap().to_owned();
    app.advance_clock(3599);
    app.shared.remove_idle_imports();
    assert_eq!(app.received_files().len(), 1);
    app.advance_clock(1);
    app.shared.remove_idle_imports();
    assert_eq!(app.received_files(), [] as [&str; 0]);
    app.post(&format!("/imports/{third}"), Value::Null).await.assert_problem(404, GONE);
    assert_eq!(app.ids("/coffee/").await, [] as [i64; 0]);
}

#[rocket::async_test]
async fn while_another_job_is_active_a_file_is_not_accepted() {
    let app = TestApp::new().await;
    let backup = app.post("/backups", Value::Null).await;
    let refused = app.request(Method::Post, "/imports").body(CSV).send().await;
    refused.assert_problem(409, "Another task is running: wait until it has finished");
    assert_eq!(app.received_files(), [] as [&str; 0]);
    app.finished(backup).await;
}

#[rocket::async_test]
async fn a_file_whose_import_failed_can_be_imported_again() {
    let app = TestApp::new().await;
    let path = format!("/imports/{}", app.preview_import(CSV).await["result"]["id"].as_str().unwrap());
    let lock = MaintenanceLock::acquire(app.database()).unwrap();
    let failed = app.run_job(&path, Value::Null).await;
    assert_eq!((&failed["state"], &failed["problem"]["status"]), (&json!("failed"), &json!(503)), "{failed}");
    assert_eq!(app.received_files().len(), 1);
    drop(lock);
    let imported = app.run_job(&path, Value::Null).await;
    assert_eq!((&imported["state"], &imported["result"]["coffees_added"]), (&json!("succeeded"), &json!(2)));
    assert_eq!(app.received_files(), [] as [&str; 0]);
}

#[rocket::async_test]
async fn everyone_imports_their_own_data_alone() {
    let app = TestApp::new().await;
    let anna = app.post("/people", json!({"name": "anna"})).await;
    let anna = anna.json()["key"]["key"].as_str().unwrap().to_owned();
    let request = |method, path: &str| -> TestRequest<'_> { app.request(method, path).key(&anna) };
    let finished = async |path: &str| loop {
        let job = request(Method::Get, path).send().await.json();
        if job["finished_at"].is_string() {
            break job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let accepted = request(Method::Post, "/imports").body(CSV).send().await;
    let folder = app.database_of("anna").parent().unwrap().to_owned();
    let preview = finished(accepted.header("location")).await;
    assert_eq!((temporary_files(&folder).len(), app.received_files()), (1, vec![]));
    let path = format!("/imports/{}", preview["result"]["id"].as_str().unwrap());
    // The owner's key does not reach the file of another person.
    app.post(&path, Value::Null).await.assert_problem(404, GONE);
    app.delete(&path).await.assert_problem(404, GONE);
    let accepted = request(Method::Post, &path).send().await;
    let imported = finished(accepted.header("location")).await;
    assert_eq!(imported["state"], "succeeded", "{imported}");
    let coffees = request(Method::Get, "/coffee/").send().await.json();
    assert_eq!(coffees.as_array().unwrap().len(), 2);
    assert_eq!(app.ids("/coffee/").await, [] as [i64; 0]);
    assert_eq!(temporary_files(&folder), [] as [&str; 0]);
}

#[rocket::async_test]
async fn only_keys_with_the_scope_manage_import() {
    let app = TestApp::new().await;
    let key = app.add_key("phone", &[Scope::Read, Scope::Write]);
    for (method, path) in
        [(Method::Post, "/imports"), (Method::Post, "/imports/1"), (Method::Delete, "/imports/1")]
    {
        let refused = app.request(method, path).key(&key).body("x").send().await;
        refused.assert_problem(403, "This API key lacks the scope manage");
    }
}
