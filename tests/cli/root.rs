//! Commands that root runs on the database of another user: every new file belongs to the owner, whose server keeps working.
//!
//! These tests require root. `cargo test` lists them as ignored; `make test` runs them when it is run as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::fixtures::{add_entries, assert_fails_with, backups, command_in, names, run_in, run_ok, state};
use crate::helpers::{KEY, Process, Server, program_path, run, wait_until};

/// User and group id of the service. They need not exist.
const OWNER: u32 = 1234;

/// Folder that every user may enter, with the program and the owner's `data` folder.
struct Installation {
    folder: TempDir,
}

impl Installation {
    fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let this = Self { folder };
        let program = this.at("program");
        // Copied by another process: a process that another test spawns meanwhile could inherit a descriptor that writes the
        // program, which prevents its execution.
        let copied = Command::new("cp").arg(program_path()).arg(&program).status();
        assert!(copied.unwrap().success());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(this.data()).unwrap();
        chown(this.data(), Some(OWNER), Some(OWNER)).unwrap();
        fs::set_permissions(this.data(), fs::Permissions::from_mode(0o700)).unwrap();
        this
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.at("data")
    }

    /// Returns a server that runs as the owner.
    fn owner_server(&self) -> Command {
        let mut command = Command::new(self.at("program"));
        command.args(["serve", "--port", "0"]).env_clear().current_dir(self.data()).uid(OWNER).gid(OWNER);
        command.envs([("DATABASE_URL", "coffee.db"), ("API_KEY", KEY), ("RATE_LIMIT_ENABLED", "false")]);
        command
    }

    /// Creates the owner's database with 20 coffees, with or without a WAL.
    fn create_database(&self, with_wal: bool) {
        let server = Server::spawn(&mut self.owner_server());
        add_entries(&self.data().join("coffee.db"), "now", 20);
        if with_wal {
            server.signal(Signal::KILL);
            drop(server.process.wait());
        } else {
            server.stop_cleanly();
        }
        assert_eq!(self.data().join("coffee.db-wal").exists(), with_wal);
        self.assert_owned();
    }

    /// Asserts that every file below `data` belongs to the owner.
    #[track_caller]
    fn assert_owned(&self) {
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for name in names(&folder) {
                let path = folder.join(name);
                let found = fs::symlink_metadata(&path).unwrap();
                assert_eq!((found.uid(), found.gid()), (OWNER, OWNER), "{}", path.display());
                if found.is_dir() {
                    folders.push(path);
                }
            }
        }
    }

    /// Asserts that the owner's server starts, writes and stops, and that its files belong to the owner.
    #[track_caller]
    fn assert_serves(&self) {
        self.assert_owned();
        let server = Server::spawn(&mut self.owner_server());
        assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
        server.stop_cleanly();
        self.assert_owned();
    }

    /// Returns a folder that only root may enter.
    fn root_folder(&self) -> PathBuf {
        let folder = self.at("secret");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }
}

#[test]
#[ignore = "requires root"]
fn a_backup_by_root_in_the_default_folder_belongs_to_the_owner() {
    for with_wal in [false, true] {
        let installation = Installation::create();
        installation.create_database(with_wal);
        run_ok(&installation.data(), &["backup"]);
        assert_eq!(state(&backups(&installation.data())[0]).unwrap().coffees.len(), 20);
        installation.assert_serves();
    }
}

#[test]
#[ignore = "requires root"]
fn a_backup_by_root_in_a_folder_of_root_belongs_to_root() {
    for with_wal in [false, true] {
        let installation = Installation::create();
        installation.create_database(with_wal);
        let (named, dated) =
            (installation.root_folder().join("mine.db"), installation.root_folder().join("nightly"));
        run_ok(&installation.data(), &["backup", "--to", named.to_str().unwrap()]);
        for _ in 0..3 {
            run_ok(
                &installation.data(),
                &["backup", "--to", dated.to_str().unwrap(), "--keep", "2", "--create-dir"],
            );
        }
        let kept = names(&dated);
        assert_eq!(kept.len(), 2, "{kept:?}");
        for file in [named, dated.join(&kept[0])] {
            let found = fs::metadata(&file).unwrap();
            assert_eq!((found.uid(), found.permissions().mode() & 0o777), (0, 0o600));
            assert_eq!(state(&file).unwrap().coffees.len(), 20);
        }
        installation.assert_serves();
    }
}

#[test]
#[ignore = "requires root"]
fn a_restore_by_root_leaves_the_database_to_its_owner() {
    for with_wal in [false, true] {
        let installation = Installation::create();
        installation.create_database(with_wal);
        let backup = installation.root_folder().join("then.db");
        run_ok(&installation.data(), &["backup", "--to", backup.to_str().unwrap()]);
        add_entries(&installation.data().join("coffee.db"), "later", 7);
        run_ok(&installation.data(), &["restore", backup.to_str().unwrap(), "--yes"]);
        assert_eq!(state(&installation.data().join("coffee.db")).unwrap().coffees.len(), 20);
        installation.assert_serves();

        // Without a database, and in place of a damaged file.
        fs::remove_file(installation.data().join("coffee.db")).unwrap();
        run_ok(&installation.data(), &["restore", backup.to_str().unwrap(), "--yes"]);
        installation.assert_serves();
        fs::write(installation.data().join("coffee.db"), "not a database ".repeat(600)).unwrap();
        run_ok(&installation.data(), &["restore", backup.to_str().unwrap(), "--yes", "--replace"]);
        installation.assert_serves();
    }
}

#[test]
#[ignore = "requires root"]
fn root_can_back_up_and_restore_while_the_server_of_the_owner_runs() {
    let installation = Installation::create();
    installation.create_database(false);
    let server = Server::spawn(&mut installation.owner_server());
    let backup = installation.root_folder().join("then.db");
    run_ok(&installation.data(), &["backup", "--to", backup.to_str().unwrap()]);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    run_ok(&installation.data(), &["restore", backup.to_str().unwrap(), "--yes"]);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    server.stop_cleanly();
    assert_eq!(state(&installation.data().join("coffee.db")).unwrap().coffees.len(), 21);
    installation.assert_serves();
}

#[test]
#[ignore = "requires root"]
fn keys_added_by_root_belong_to_the_owner_and_are_accepted_by_the_server() {
    let installation = Installation::create();
    installation.create_database(false);
    let server = Server::spawn(&mut installation.owner_server());
    let add = |name: &str| run_ok(&installation.data(), &["key", "add", name]).out.trim().to_owned();
    let (phone, watch) = (add("phone"), add("watch"));
    run_ok(&installation.data(), &["key", "revoke", "watch"]);
    installation.assert_owned();
    let status = |key: &str| {
        let mut client = server.client();
        let request =
            format!("GET /coffee/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
        client.send(request).unwrap();
        client.read_response().unwrap().status
    };
    wait_until("the key is accepted", || status(&phone) == 200);
    assert!([401, 429].contains(&status(&watch)));
    server.stop_cleanly();
    assert!(names(&installation.data()).contains(&"coffee.db.keys.used".to_owned()));
    installation.assert_serves();
    let rotated = run_ok(&installation.data(), &["key", "rotate", "phone"]);
    assert!(rotated.out.starts_with("ct_"));
    installation.assert_serves();
}

#[test]
#[ignore = "requires root"]
fn people_whom_root_adds_removes_archives_and_adopts_belong_to_the_owner() {
    let installation = Installation::create();
    installation.create_database(false);
    let data = installation.data();
    run_ok(&data, &["person", "add", "anna", "--display-name", "Anna"]);
    installation.assert_serves();
    let archive = installation.root_folder().join("anna.zip");
    run_ok(&data, &["person", "rename", "anna", "lisa"]);
    run_ok(&data, &["person", "archive", "lisa", archive.to_str().unwrap()]);
    installation.assert_serves();
    run_ok(&data, &["person", "remove", "lisa", "--yes"]);
    installation.assert_serves();
    run_ok(&data, &["person", "adopt", archive.to_str().unwrap(), "--name", "anna"]);
    installation.assert_serves();
    run_ok(&data, &["person", "release", "anna"]);
    installation.assert_serves();
    let database = data.join("people/anna/coffee.db");
    let mut server = installation.owner_server();
    let server = Server::spawn(server.env("DATABASE_URL", &database));
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    server.stop_cleanly();
    installation.assert_owned();
}

#[test]
#[ignore = "requires root"]
fn a_verification_by_root_leaves_no_files() {
    for with_wal in [false, true] {
        let installation = Installation::create();
        installation.create_database(with_wal);
        drop(fs::remove_file(installation.data().join("coffee.db-shm")));
        let before = names(&installation.data());
        run_ok(&installation.data(), &["verify", "coffee.db"]);
        assert_eq!(names(&installation.data()), before);
        installation.assert_serves();
    }
}

#[test]
#[ignore = "requires root"]
fn server_and_demo_started_by_root_create_files_of_the_owner() {
    let installation = Installation::create();
    // Without a configured key, one is generated.
    let mut command = command_in(&installation.data(), &["serve", "--port", "0"]);
    let server = Server::spawn(command.env("DATABASE_URL", "deeper/coffee.db"));
    installation.assert_owned();
    server.stop_cleanly();
    assert!(names(&installation.data().join("deeper")).contains(&"coffee.key".to_owned()));
    installation.assert_owned();

    run_ok(&installation.data(), &["demo", "--days", "3", "--readings-per-day", "5"]);
    installation.assert_serves();

    // A key file that only root may read is used, too.
    let key = installation.root_folder().join("api.key");
    fs::write(&key, KEY).unwrap();
    let mut command = command_in(&installation.data(), &["serve", "--port", "0"]);
    let server = Server::spawn(command.env("API_KEY_FILE", &key));
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    server.stop_cleanly();
    installation.assert_serves();
}

#[test]
#[ignore = "requires root"]
fn a_user_without_write_permission_gets_an_error() {
    let installation = Installation::create();
    installation.create_database(false);
    run_ok(&installation.data(), &["backup", "--to", installation.at("then.db").to_str().unwrap()]);
    let run_as_other_user = |args: &[&str]| {
        let mut command = Command::new(installation.at("program"));
        command.args(args).env_clear().current_dir(installation.folder.path()).uid(4321).gid(4321);
        run(command.env("DATABASE_URL", "data/coffee.db").env("API_KEY", KEY))
    };
    fs::set_permissions(installation.at("then.db"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(installation.data(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(installation.data().join("coffee.db"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run_as_other_user(&["restore", "then.db", "--yes"]);
    assert_fails_with(&refused, 78, "the folder data cannot be used");
    assert_fails_with(
        &run_as_other_user(&["backup"]),
        1,
        "the folder backups cannot be used: Permission denied",
    );
    assert_fails_with(&run_as_other_user(&["serve", "--port", "0"]), 78, "the folder data cannot be used");
    installation.assert_serves();
    drop(Process::spawn(&mut installation.owner_server()));
    assert_eq!(run_in(&installation.data(), &["verify", "coffee.db"]).code, Some(0));
}

#[test]
#[ignore = "requires root"]
fn every_command_reports_a_database_that_the_user_may_not_read() {
    let installation = Installation::create();
    installation.create_database(false);
    let database = installation.data().join("coffee.db");
    let message = format!(
        "{} cannot be opened: permission denied; run the command as its owner or with sudo",
        database.display()
    );
    // First the folder is inaccessible to other users, then only the file.
    for mode in [0o700, 0o755] {
        fs::set_permissions(installation.data(), fs::Permissions::from_mode(mode)).unwrap();
        for args in [
            &["backup"][..],
            &["export", "coffee"],
            &["sql", "select 1"],
            &["prune", "--before", "2024-01-01"],
            &["recount"],
            &["profile"],
        ] {
            let mut command = Command::new(installation.at("program"));
            command.args(args).env_clear().current_dir("/").uid(OWNER + 1).gid(OWNER + 1);
            let result = run(command.env("DATABASE_URL", &database));
            assert_fails_with(&result, 78, &message);
        }
    }
}
