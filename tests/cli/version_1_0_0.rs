//! Files made by version 1.0.0 work unchanged: database, backup, keys, settings and exports.
//!
//! The folder `version_1_0_0` holds them as that version wrote them; `.gz` files are compressed.

use std::fs;
use std::fs::File;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::client::Response;
use crate::fixtures::{backups, command_in, run_ok};
use crate::helpers::{Server, program, run, temporary_folder};

const OWNER_KEY: &str = "a-key-of-the-version-before-0123456789";
const PHONE_KEY: &str = "ct_12a0f352f654feec450e06fbb0300c449372f98ba92ecfdc0141fd2d2ac9ac45";
const GRAFANA_KEY: &str = "ct_6f478d0fc5280400ae6cad2f2705ba8a49f84e21e73933b8ac8fce1ff6b8b93c";
const EXPORTS: [&str; 4] = ["coffee.csv", "coffee.jsonl", "heartrate.csv", "heartrate.jsonl"];

/// Returns the path of a file that version 1.0.0 wrote.
fn original(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/version_1_0_0").join(name)
}

/// Copies a file of version 1.0.0 into `folder`, decompressed.
fn copy_original(name: &str, folder: &Path) {
    match original(&format!("{name}.gz")) {
        packed if packed.exists() => {
            let mut reader = GzDecoder::new(File::open(packed).unwrap());
            std::io::copy(&mut reader, &mut File::create(folder.join(name)).unwrap()).unwrap();
        }
        _ => {
            fs::copy(original(name), folder.join(name)).unwrap();
        }
    }
}

/// Asserts that every export of the database in `folder` equals the one of version 1.0.0.
fn assert_exports_are_the_same(folder: &Path) {
    for name in EXPORTS {
        let (kind, format) = name.split_once('.').unwrap();
        run_ok(folder, &["export", kind, "--format", format, "-o", name, "--force"]);
        assert!(fs::read(folder.join(name)).unwrap() == fs::read(original(name)).unwrap(), "{name} differs");
    }
}

fn request(server: &Server, key: &str, method: &str, path: &str, more: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n");
    let mut client = server.client();
    client.send(format!("{head}{more}Content-Length: {length}\r\n\r\n{body}")).unwrap();
    client.read_response().unwrap()
}

#[test]
fn a_server_starts_with_database_keys_and_settings_of_version_1_0_0() {
    let folder = temporary_folder();
    for name in ["coffee.db", "coffee.db.keys", "settings.env"] {
        copy_original(name, folder.path());
    }
    let server = Server::spawn(program(folder.path()).args(["serve", "--config", "settings.env"]));
    assert_eq!(backups(folder.path()).len(), 1, "the migration made a backup first");

    let info = request(&server, OWNER_KEY, "GET", "/info", "", "").json();
    assert_eq!(info["timezone"], "Europe/Berlin", "{info}");
    let statuses = |key| {
        ["/coffee/", "/heartrate/current", "/metrics"]
            .map(|path| request(&server, key, "GET", path, "", "").status)
    };
    assert_eq!(statuses(OWNER_KEY), [200, 200, 200]);
    assert_eq!(statuses(PHONE_KEY), [200, 200, 403]);
    assert_eq!(statuses(GRAFANA_KEY), [403, 403, 200]);

    let too_much = request(&server, OWNER_KEY, "POST", "/coffee/", "", r#"{"caffeine_mg": 801}"#);
    assert_eq!(too_much.status, 422);
    assert!(too_much.json()["detail"].as_str().unwrap().contains("800"), "{}", too_much.json());
    let breakfast = r#"{"caffeine_mg":95,"coffee_type":"Espresso","notes":"with „quotes“, a comma, and 5 µg\nof Ünïcode ☕","timestamp":"2026-03-28T07:15:00.123456+01:00"}"#;
    let repeated =
        request(&server, OWNER_KEY, "POST", "/coffee/", "Idempotency-Key: breakfast-1\r\n", breakfast);
    assert_eq!((repeated.status, &repeated.json()["id"]), (201, &1.into()), "the first response again");

    server.stop_cleanly();
    assert_exports_are_the_same(folder.path());
}

#[test]
fn a_backup_of_version_1_0_0_is_verified_and_restored() {
    let folder = temporary_folder();
    copy_original("backup.db", folder.path());
    let verified = run_ok(folder.path(), &["verify", "backup.db"]);
    assert!(verified.out.contains("4 coffees"), "{}", verified.out);
    run_ok(folder.path(), &["restore", "backup.db", "--yes"]);
    assert_exports_are_the_same(folder.path());
    Server::start(folder.path()).stop_cleanly();
    assert_exports_are_the_same(folder.path());
}

#[test]
fn exports_of_version_1_0_0_are_imported() {
    for format in ["csv", "jsonl"] {
        let folder = temporary_folder();
        for kind in ["coffee", "heartrate"] {
            let name = format!("{kind}.{format}");
            let file = original(&name);
            let result = run(command_in(folder.path(), &["import"]).arg(&file));
            assert_eq!(result.code, Some(0), "{name}: {result:?}");
        }
        assert_exports_are_the_same(folder.path());
    }
}
