//! `check`: every problem is reported with its fix, and nothing is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use serde_json::Value;

use crate::fixtures::{command_in, files, make_database, run_ok};
use crate::helpers::{CommandResult, run, temporary_folder};

const STRONG: &str = "ct_0123456789abcdef0123456789abcdef";

/// Runs `check` in `folder` with a key file and these variables.
fn check(folder: &Path, variables: &[(&str, &str)]) -> CommandResult {
    let mut command = command_in(folder, &["check"]);
    run(command.env("API_KEY_FILE", "key").envs(variables.iter().copied()))
}

/// Creates a folder with a key, a database and a new backup.
fn prepare_installation() -> tempfile::TempDir {
    let folder = temporary_folder();
    make_database(folder.path(), "now", 5);
    let key = folder.path().join("key");
    fs::write(&key, STRONG).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    run_ok(folder.path(), &["backup"]);
    folder
}

/// Returns the lines with this state, without those that depend on the machine.
fn lines(result: &CommandResult, state: &str) -> Vec<String> {
    let machine_checks = ["disk", "clock", "unit"];
    let is_tested =
        |line: &&str| !machine_checks.contains(&line.split_ascii_whitespace().nth(1).unwrap_or_default());
    let lines = result.out.lines().filter(|line| line.starts_with(state)).filter(is_tested);
    lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_healthy_installation_has_no_problems_and_nothing_is_changed() {
    let folder = prepare_installation();
    let before = files(folder.path());
    let result = check(folder.path(), &[]);
    assert_eq!(lines(&result, "FAIL:"), [""; 0], "{result:?}");
    let fine = lines(&result, "OK:");
    for line in [
        "OK: API key strong (key)",
        "OK: CORS pages of other origins are not allowed",
        "OK: hosts local names and private addresses",
        "OK: TLS 127.0.0.1 is reachable only from this machine",
        "OK: files private to their owner",
        "OK: connections at most 256",
    ] {
        assert!(fine.contains(&line.to_owned()), "{line:?} in {fine:?}");
    }
    assert!(fine.iter().any(|line| line.starts_with("OK: database coffee.db is intact: ")), "{fine:?}");
    assert!(fine.iter().any(|line| line.contains(".db can be restored, ")), "{fine:?}");
    for about in ["disk", "clock", "unit"] {
        assert!(
            result.out.lines().any(|line| line.contains(&format!(" {about} "))),
            "{about}: {}",
            result.out
        );
    }
    assert!(files(folder.path()) == before);
    let mut command = command_in(folder.path(), &["check", "--json"]);
    let json = run(command.env("API_KEY_FILE", "key"));
    let all: Vec<Value> = serde_json::from_str(&json.out).unwrap();
    assert_eq!(all.len(), result.out.lines().count());
    assert!(all.iter().all(|f| f["about"].is_string() && f["finding"].is_string()), "{json:?}");
    assert_eq!(all[0]["state"], "ok");
}

#[test]
fn settings_that_weaken_security_are_reported() {
    let folder = prepare_installation();
    let result = check(
        folder.path(),
        &[
            ("CORS_ORIGINS", "*"),
            ("ALLOWED_HOSTS", "*"),
            ("RATE_LIMIT_ENABLED", "false"),
            ("SECURITY_HEADERS", "false"),
            ("DEBUG", "true"),
            ("METRICS_PUBLIC", "true"),
            ("HOST", "0.0.0.0"),
        ],
    );
    assert_eq!(result.code, Some(1));
    let failures: Vec<String> =
        lines(&result, "FAIL:").iter().filter_map(|l| l.split(' ').nth(1).map(str::to_owned)).collect();
    assert_eq!(failures, ["API", "CORS", "hosts", "limits", "headers"], "{}", result.out);
    let warnings = lines(&result, "WARN:").join("\n");
    assert!(warnings.contains("TLS keys are sent unencrypted to 0.0.0.0"), "{warnings}");
    assert!(warnings.contains("metrics METRICS_PUBLIC=true"), "{warnings}");
    assert!(result.err.contains("found "), "{}", result.err);
}

#[test]
fn weak_keys_and_files_that_other_users_can_read_are_problems() {
    for (key, message) in [
        ("coffee-addict-secret-key-2025", "published default"),
        ("espresso", "the API key has 8 characters"),
        ("aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb", "it has only 2 different characters: use a random key"),
    ] {
        let folder = prepare_installation();
        fs::write(folder.path().join("key"), key).unwrap();
        let failures = lines(&check(folder.path(), &[]), "FAIL:").join("\n");
        assert!(failures.starts_with("FAIL: API key ") && failures.contains(message), "{failures}");
    }
    let folder = prepare_installation();
    run_ok(folder.path(), &["key", "add", "phone"]);
    for (name, mode) in [("key", 0o644), ("coffee.db", 0o640), ("coffee.db.keys", 0o604), ("backups", 0o777)]
    {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let failures = lines(&check(folder.path(), &[]), "FAIL:");
    let expected = [
        "FAIL: API key other users can read it: run `chmod 600 key`",
        "FAIL: files other users can read coffee.db: run `chmod 600 coffee.db`",
        "FAIL: files other users can read coffee.db.keys: run `chmod 600 coffee.db.keys`",
        "FAIL: files other users can write to backups: run `chmod go-w backups`",
    ];
    assert_eq!(failures, expected);
}

#[test]
fn a_missing_stale_or_broken_backup_and_a_damaged_database_are_problems() {
    let folder = prepare_installation();
    let backup = crate::fixtures::backups(folder.path())[0].clone();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 3600);
    fs::File::options().write(true).open(&backup).unwrap().set_modified(old).unwrap();
    let failures = |folder: &Path| lines(&check(folder, &[]), "FAIL:").join("\n");
    assert!(
        failures(folder.path()).ends_with(".db is 30 hours old: check the timer of the backups"),
        "{}",
        failures(folder.path())
    );
    fs::write(&backup, "not much").unwrap();
    assert!(failures(folder.path()).contains("cannot be restored: it is not a SQLite database"));
    fs::remove_file(&backup).unwrap();
    assert_eq!(
        failures(folder.path()),
        "FAIL: backups there is no backup of this database in backups: run `coffee-tracker backup` every night"
    );
    crate::restore_replace::damage(&folder.path().join("coffee.db"));
    assert!(
        failures(folder.path()).contains("FAIL: database coffee.db: it is damaged: "),
        "{}",
        failures(folder.path())
    );
}

#[test]
fn a_backup_that_other_users_can_read_and_a_failed_backup_are_problems() {
    let folder = prepare_installation();
    let backup = crate::fixtures::backups(folder.path())[0].clone();
    fs::set_permissions(&backup, fs::Permissions::from_mode(0o644)).unwrap();
    let failed = run(&mut command_in(folder.path(), &["backup", "--to", "key/file.db"]));
    assert_ne!(failed.code, Some(0));
    let failures = lines(&check(folder.path(), &[]), "FAIL:");
    let name = backup.strip_prefix(folder.path()).unwrap().display().to_string();
    assert_eq!(failures[0], format!("FAIL: backups other users can read {name}: run `chmod 600 {name}`"));
    assert!(failures[1].starts_with("FAIL: backups the last backup failed: "), "{failures:?}");
    assert_eq!(failures.len(), 2, "{failures:?}");
}

#[test]
fn an_old_key_is_a_warning_and_a_damaged_key_file_a_problem() {
    let folder = prepare_installation();
    run_ok(folder.path(), &["key", "add", "phone"]);
    run_ok(folder.path(), &["key", "add", "watch"]);
    assert!(lines(&check(folder.path(), &[]), "OK:").contains(&"OK: named keys 2 keys".to_owned()));
    let file = folder.path().join("coffee.db.keys");
    let mut page: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    page["keys"][0]["created"] = "2024-01-01T00:00:00Z".into();
    fs::write(&file, page.to_string()).unwrap();
    let warnings = lines(&check(folder.path(), &[]), "WARN:").join("\n");
    assert!(
        warnings.contains(" days old: run `coffee-tracker key rotate phone`") && !warnings.contains("watch"),
        "{warnings}"
    );
    run_ok(folder.path(), &["key", "rotate", "phone"]);
    assert!(
        !lines(&check(folder.path(), &[]), "WARN:").join("\n").contains("rotate"),
        "a rotated key is not old"
    );
    fs::write(&file, "{").unwrap();
    let result = check(folder.path(), &[]);
    assert_eq!(result.code, Some(1));
    assert!(lines(&result, "FAIL:").join("\n").starts_with("FAIL: named keys coffee.db.keys is damaged: "));
}

#[test]
fn a_key_in_a_settings_file_that_other_users_can_read_is_a_problem() {
    let folder = prepare_installation();
    for (name, args) in [(".env", &["check"][..]), ("settings", &["check", "--config", "settings"][..])] {
        let file = folder.path().join(name);
        fs::write(&file, format!("API_KEY={STRONG}\n")).unwrap();
        for (mode, sentences) in [
            (
                0o644,
                &[format!("FAIL: API key other users can read it in {name}: run `chmod 600 {name}`")][..],
            ),
            (0o640, &[]),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(lines(&run(&mut command_in(folder.path(), args)), "FAIL:"), sentences);
        }
    }
    fs::set_permissions(folder.path().join(".env"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut elsewhere = command_in(folder.path(), &["check"]);
    let result = run(elsewhere.env("API_KEY", "another-key-0123456789abcdef"));
    assert_eq!(lines(&result, "FAIL:"), [""; 0], "the key in the file is not used");
}

#[test]
#[ignore = "requires root"]
fn missing_access_is_reported_instead_of_missing_files() {
    let folder = prepare_installation();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = command_in(Path::new("/"), &["check", "--database-url"]);
    let result = run(command.arg(folder.path().join("coffee.db")).uid(4321).gid(4321));
    assert_eq!(result.code, Some(1), "{result:?}");
    let failures = lines(&result, "FAIL:").join("\n");
    assert!(
        failures.ends_with(": Permission denied (os error 13): run this command with sudo"),
        "{failures}"
    );
    assert!(
        !result.out.contains("does not exist yet") && !result.out.contains("there is no key"),
        "{}",
        result.out
    );
}
