//! `check`: every thing that is wrong is said with what to do, and nothing is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use serde_json::Value;

use crate::fixtures::{command_in, files, make_database, run_ok};
use crate::helpers::{CommandResult, folder, run};

const STRONG: &str = "ct_0123456789abcdef0123456789abcdef";

/// What it says in `folder` with these variables besides its key.
fn check(folder: &Path, variables: &[(&str, &str)]) -> CommandResult {
    let mut command = command_in(folder, &["check"]);
    run(command.env("API_KEY_FILE", "key").envs(variables.iter().copied()))
}

/// A folder with a key, a database and a fresh backup.
fn healthy() -> tempfile::TempDir {
    let folder = folder();
    make_database(folder.path(), "now", 5);
    let key = folder.path().join("key");
    fs::write(&key, STRONG).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    run_ok(folder.path(), &["backup"]);
    folder
}

/// The lines that begin with this word, without what the machine itself has to do with.
fn lines(ended: &CommandResult, state: &str) -> Vec<String> {
    let of_machine = ["disk", "clock", "unit"];
    let is_ours =
        |line: &&str| !of_machine.contains(&line.split_ascii_whitespace().nth(1).unwrap_or_default());
    let lines = ended.out.lines().filter(|line| line.starts_with(state)).filter(is_ours);
    lines.map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn where_all_is_well_nothing_must_be_done_and_nothing_is_changed() {
    let folder = healthy();
    let before = files(folder.path());
    let ended = check(folder.path(), &[]);
    assert_eq!(lines(&ended, "MUST"), [""; 0], "{ended:?}");
    let fine = lines(&ended, "ok");
    for line in [
        "ok API key strong enough (key)",
        "ok CORS no other site's pages may ask",
        "ok hosts local names and private addresses",
        "ok TLS only this machine reaches 127.0.0.1",
        "ok files their owner's alone",
        "ok connections at most 256",
    ] {
        assert!(fine.contains(&line.to_owned()), "{line:?} in {fine:?}");
    }
    assert!(fine.iter().any(|line| line.starts_with("ok database coffee.db: sound, ")), "{fine:?}");
    assert!(fine.iter().any(|line| line.contains(".db can be restored, ")), "{fine:?}");
    for about in ["disk", "clock", "unit"] {
        assert!(ended.out.lines().any(|line| line.contains(&format!(" {about} "))), "{about}: {}", ended.out);
    }
    assert!(files(folder.path()) == before);
    let mut command = command_in(folder.path(), &["check", "--json"]);
    let json = run(command.env("API_KEY_FILE", "key"));
    let all: Vec<Value> = serde_json::from_str(&json.out).unwrap();
    assert_eq!(all.len(), ended.out.lines().count());
    assert!(all.iter().all(|f| f["about"].is_string() && f["finding"].is_string()), "{json:?}");
    assert_eq!(all[0]["state"], "ok");
}

#[test]
fn settings_that_open_too_much_must_be_seen_to() {
    let folder = healthy();
    let ended = check(
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
    assert_eq!(ended.code, Some(1));
    let must: Vec<String> =
        lines(&ended, "MUST").iter().filter_map(|l| l.split(' ').nth(1).map(str::to_owned)).collect();
    assert_eq!(must, ["API", "CORS", "hosts", "limits", "headers"], "{}", ended.out);
    let advice = lines(&ended, "advice").join("\n");
    assert!(advice.contains("TLS keys cross the network in clear to 0.0.0.0"), "{advice}");
    assert!(advice.contains("metrics METRICS_PUBLIC=true"), "{advice}");
    assert!(ended.err.contains(" things must be seen to"), "{}", ended.err);
}

#[test]
fn weak_keys_and_files_that_others_may_read_must_be_seen_to() {
    for (key, sentence) in [
        ("coffee-addict-secret-key-2025", "published default"),
        ("espresso", "the API key has 8 characters"),
        ("aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbb", "it has few different characters (2): make a random one"),
    ] {
        let folder = healthy();
        fs::write(folder.path().join("key"), key).unwrap();
        let must = lines(&check(folder.path(), &[]), "MUST").join("\n");
        assert!(must.starts_with("MUST API key ") && must.contains(sentence), "{must}");
    }
    let folder = healthy();
    run_ok(folder.path(), &["key", "add", "phone"]);
    for (name, mode) in [("key", 0o644), ("coffee.db", 0o640), ("coffee.db.keys", 0o604), ("backups", 0o777)]
    {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let must = lines(&check(folder.path(), &[]), "MUST");
    let expected = [
        "MUST API key others may read it: chmod 600 key",
        "MUST files others may read coffee.db: chmod 600 coffee.db",
        "MUST files others may read coffee.db.keys: chmod 600 coffee.db.keys",
        "MUST files others may write in backups: chmod go-w backups",
    ];
    assert_eq!(must, expected);
}

#[test]
fn a_missing_a_stale_and_a_broken_backup_and_a_damaged_database_must_be_seen_to() {
    let folder = healthy();
    let backup = crate::fixtures::backups(folder.path())[0].clone();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 3600);
    fs::File::options().write(true).open(&backup).unwrap().set_modified(old).unwrap();
    let must = |folder: &Path| lines(&check(folder, &[]), "MUST").join("\n");
    assert!(
        must(folder.path()).ends_with(".db is 30 hours old: is the timer at work?"),
        "{}",
        must(folder.path())
    );
    fs::write(&backup, "not much").unwrap();
    assert!(must(folder.path()).contains("cannot be restored: it is not a SQLite database"));
    fs::remove_file(&backup).unwrap();
    assert_eq!(
        must(folder.path()),
        "MUST backups none of this database in backups: coffee-tracker backup, each night"
    );
    crate::replacing::damage(&folder.path().join("coffee.db"));
    assert!(
        must(folder.path()).contains("MUST database coffee.db: it is damaged: "),
        "{}",
        must(folder.path())
    );
}

#[test]
fn a_backup_that_others_may_read_and_a_failed_attempt_must_be_seen_to() {
    let folder = healthy();
    let backup = crate::fixtures::backups(folder.path())[0].clone();
    fs::set_permissions(&backup, fs::Permissions::from_mode(0o644)).unwrap();
    let failed = run(&mut command_in(folder.path(), &["backup", "--to", "key/file.db"]));
    assert_ne!(failed.code, Some(0));
    let must = lines(&check(folder.path(), &[]), "MUST");
    let name = backup.strip_prefix(folder.path()).unwrap().display().to_string();
    assert_eq!(must[0], format!("MUST backups others may read {name}: chmod 600 {name}"));
    assert!(must[1].starts_with("MUST backups the last attempt failed: "), "{must:?}");
    assert_eq!(must.len(), 2, "{must:?}");
}

#[test]
fn an_old_key_is_to_be_rotated_and_a_damaged_file_of_keys_must_be_seen_to() {
    let folder = healthy();
    run_ok(folder.path(), &["key", "add", "phone"]);
    run_ok(folder.path(), &["key", "add", "watch"]);
    assert!(lines(&check(folder.path(), &[]), "ok").contains(&"ok named keys 2 keys".to_owned()));
    let file = folder.path().join("coffee.db.keys");
    let mut page: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    page["keys"][0]["created"] = "2024-01-01T00:00:00Z".into();
    fs::write(&file, page.to_string()).unwrap();
    let advice = lines(&check(folder.path(), &[]), "advice").join("\n");
    assert!(
        advice.contains(" days old: coffee-tracker key rotate phone") && !advice.contains("watch"),
        "{advice}"
    );
    run_ok(folder.path(), &["key", "rotate", "phone"]);
    assert!(!lines(&check(folder.path(), &[]), "advice").join("\n").contains("rotate"), "it ends by itself");
    fs::write(&file, "{").unwrap();
    let ended = check(folder.path(), &[]);
    assert_eq!(ended.code, Some(1));
    assert!(lines(&ended, "MUST").join("\n").starts_with("MUST named keys coffee.db.keys is damaged: "));
}

#[test]
fn a_key_in_a_settings_file_that_others_may_read_must_be_seen_to() {
    let folder = healthy();
    for (name, args) in [(".env", &["check"][..]), ("settings", &["check", "--config", "settings"][..])] {
        let file = folder.path().join(name);
        fs::write(&file, format!("API_KEY={STRONG}\n")).unwrap();
        for (mode, sentences) in [
            (0o644, &[format!("MUST API key others may read it in {name}: chmod 600 {name}")][..]),
            (0o640, &[]),
        ] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(lines(&run(&mut command_in(folder.path(), args)), "MUST"), sentences);
        }
    }
    fs::set_permissions(folder.path().join(".env"), fs::Permissions::from_mode(0o644)).unwrap();
    let mut elsewhere = command_in(folder.path(), &["check"]);
    let ended = run(elsewhere.env("API_KEY", "another-key-0123456789abcdef"));
    assert_eq!(lines(&ended, "MUST"), [""; 0], "the key in the file is not the one that counts");
}

#[test]
#[ignore = "requires root"]
fn whoever_may_not_look_is_told_so_instead_of_nothing_being_there() {
    let folder = healthy();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = command_in(Path::new("/"), &["check", "--database-url"]);
    let ended = run(command.arg(folder.path().join("coffee.db")).uid(4321).gid(4321));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let must = lines(&ended, "MUST").join("\n");
    assert!(
        must.ends_with("cannot be looked at: Permission denied (os error 13): run this with sudo"),
        "{must}"
    );
    assert!(!ended.out.contains("not there yet") && !ended.out.contains("there is none"), "{}", ended.out);
}
