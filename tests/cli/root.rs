//! Commands that root runs on another user's database: every new file belongs to the owner, whose server goes on.
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

/// A service's user and group, whose names nobody needs to know.
const OWNER: u32 = 1234;

/// A folder that the owner may enter, with the program in it and the owner's `data` below.
struct Place {
    folder: TempDir,
}

impl Place {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let this = Self { folder };
        let program = this.at("program");
        // By another process: a descriptor of ours that writes it might be inherited by a program
        // that another test starts just now, and then this one could not be started.
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

    /// A server that the owner starts.
    fn owners_server(&self) -> Command {
        let mut command = Command::new(self.at("program"));
        command.args(["serve", "--port", "0"]).env_clear().current_dir(self.data()).uid(OWNER).gid(OWNER);
        command.envs([("DATABASE_URL", "coffee.db"), ("API_KEY", KEY), ("RATE_LIMIT_ENABLED", "false")]);
        command
    }

    /// The owner's database with 20 coffees, `logged` with a log that nobody carried over.
    fn fill(&self, logged: bool) {
        let server = Server::spawn(&mut self.owners_server());
        add_entries(&self.data().join("coffee.db"), "now", 20);
        if logged {
            server.signal(Signal::KILL);
            drop(server.process.wait());
        } else {
            server.stop_cleanly();
        }
        assert_eq!(self.data().join("coffee.db-wal").exists(), logged);
        self.assert_owned();
    }

    /// Asserts that all below `data` is the owner's.
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

    /// Asserts that the owner's server starts, writes and stops.
    #[track_caller]
    fn assert_serves(&self) {
        self.assert_owned();
        let server = Server::spawn(&mut self.owners_server());
        assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
        server.stop_cleanly();
        self.assert_owned();
    }

    /// A folder that only root may enter.
    fn secret(&self) -> PathBuf {
        let secret = self.at("secret");
        fs::create_dir_all(&secret).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o700)).unwrap();
        secret
    }
}

#[test]
#[ignore = "requires root"]
fn a_backup_by_root_in_the_default_folder_belongs_to_the_owner() {
    for logged in [false, true] {
        let place = Place::make();
        place.fill(logged);
        run_ok(&place.data(), &["backup"]);
        assert_eq!(state(&backups(&place.data())[0]).unwrap().coffees.len(), 20);
        place.assert_serves();
    }
}

#[test]
#[ignore = "requires root"]
fn a_backup_by_root_in_a_folder_of_root_belongs_to_root() {
    for logged in [false, true] {
        let place = Place::make();
        place.fill(logged);
        let (named, dated) = (place.secret().join("mine.db"), place.secret().join("nightly"));
        run_ok(&place.data(), &["backup", "--to", named.to_str().unwrap()]);
        for _ in 0..3 {
            run_ok(
                &place.data(),
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
        place.assert_serves();
    }
}

#[test]
#[ignore = "requires root"]
fn a_restore_by_root_leaves_the_database_to_its_owner() {
    for logged in [false, true] {
        let place = Place::make();
        place.fill(logged);
        let backup = place.secret().join("then.db");
        run_ok(&place.data(), &["backup", "--to", backup.to_str().unwrap()]);
        add_entries(&place.data().join("coffee.db"), "later", 7);
        run_ok(&place.data(), &["restore", backup.to_str().unwrap(), "--yes"]);
        assert_eq!(state(&place.data().join("coffee.db")).unwrap().coffees.len(), 20);
        place.assert_serves();

        // Onto nothing, and in place of a broken file.
        fs::remove_file(place.data().join("coffee.db")).unwrap();
        run_ok(&place.data(), &["restore", backup.to_str().unwrap(), "--yes"]);
        place.assert_serves();
        fs::write(place.data().join("coffee.db"), "not a database ".repeat(600)).unwrap();
        run_ok(&place.data(), &["restore", backup.to_str().unwrap(), "--yes", "--replace"]);
        place.assert_serves();
    }
}

#[test]
#[ignore = "requires root"]
fn root_can_back_up_and_restore_while_the_server_of_the_owner_runs() {
    let place = Place::make();
    place.fill(false);
    let server = Server::spawn(&mut place.owners_server());
    let backup = place.secret().join("then.db");
    run_ok(&place.data(), &["backup", "--to", backup.to_str().unwrap()]);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    run_ok(&place.data(), &["restore", backup.to_str().unwrap(), "--yes"]);
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    server.stop_cleanly();
    assert_eq!(state(&place.data().join("coffee.db")).unwrap().coffees.len(), 21);
    place.assert_serves();
}

#[test]
#[ignore = "requires root"]
fn keys_added_by_root_belong_to_the_owner_and_are_accepted_by_the_server() {
    let place = Place::make();
    place.fill(false);
    let server = Server::spawn(&mut place.owners_server());
    let add = |name: &str| run_ok(&place.data(), &["key", "add", name]).out.trim().to_owned();
    let (phone, watch) = (add("phone"), add("watch"));
    run_ok(&place.data(), &["key", "revoke", "watch"]);
    place.assert_owned();
    let status = |key: &str| {
        let mut client = server.client();
        let request =
            format!("GET /coffee/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
        client.send(request).unwrap();
        client.read_response().unwrap().status
    };
    wait_until("the key opens", || status(&phone) == 200);
    assert!([401, 429].contains(&status(&watch)));
    server.stop_cleanly();
    assert!(names(&place.data()).contains(&"coffee.db.keys.used".to_owned()));
    place.assert_serves();
    let rotated = run_ok(&place.data(), &["key", "rotate", "phone"]);
    assert!(rotated.out.starts_with("ct_"));
    place.assert_serves();
}

#[test]
#[ignore = "requires root"]
fn a_verification_by_root_leaves_no_files() {
    for logged in [false, true] {
        let place = Place::make();
        place.fill(logged);
        drop(fs::remove_file(place.data().join("coffee.db-shm")));
        let before = names(&place.data());
        run_ok(&place.data(), &["verify", "coffee.db"]);
        assert_eq!(names(&place.data()), before);
        place.assert_serves();
    }
}

#[test]
#[ignore = "requires root"]
fn server_and_demo_started_by_root_create_files_of_the_owner() {
    let place = Place::make();
    // No key is given: one is made.
    let mut command = command_in(&place.data(), &["serve", "--port", "0"]);
    let server = Server::spawn(command.env("DATABASE_URL", "deeper/coffee.db"));
    place.assert_owned();
    server.stop_cleanly();
    assert!(names(&place.data().join("deeper")).contains(&"coffee.key".to_owned()));
    place.assert_owned();

    run_ok(&place.data(), &["demo", "--days", "3", "--readings-per-day", "5"]);
    place.assert_serves();

    // A key that only root may read is read as root.
    let key = place.secret().join("api.key");
    fs::write(&key, KEY).unwrap();
    let mut command = command_in(&place.data(), &["serve", "--port", "0"]);
    let server = Server::spawn(command.env("API_KEY_FILE", &key));
    assert_eq!(server.client().post("/coffee/", r#"{"caffeine_mg": 5}"#).status, 201);
    server.stop_cleanly();
    place.assert_serves();
}

#[test]
#[ignore = "requires root"]
fn a_user_without_write_permission_gets_an_error() {
    let place = Place::make();
    place.fill(false);
    run_ok(&place.data(), &["backup", "--to", place.at("then.db").to_str().unwrap()]);
    let stranger = |args: &[&str]| {
        let mut command = Command::new(place.at("program"));
        command.args(args).env_clear().current_dir(place.folder.path()).uid(4321).gid(4321);
        run(command.env("DATABASE_URL", "data/coffee.db").env("API_KEY", KEY))
    };
    fs::set_permissions(place.at("then.db"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(place.data(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(place.data().join("coffee.db"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = stranger(&["restore", "then.db", "--yes"]);
    assert_fails_with(&refused, 78, "the folder data cannot be used");
    assert_fails_with(&stranger(&["backup"]), 1, "the folder backups cannot be used: Permission denied");
    assert_fails_with(&stranger(&["serve", "--port", "0"]), 78, "the folder data cannot be used");
    place.assert_serves();
    drop(Process::spawn(&mut place.owners_server()));
    assert_eq!(run_in(&place.data(), &["verify", "coffee.db"]).code, Some(0));
}

#[test]
#[ignore = "requires root"]
fn every_command_reports_a_database_that_the_user_may_not_read() {
    let place = Place::make();
    place.fill(false);
    let database = place.data().join("coffee.db");
    let message = format!(
        "{} cannot be opened: permission denied; run the command as its owner or with sudo",
        database.display()
    );
    // The folder is closed to strangers, then the file alone.
    for mode in [0o700, 0o755] {
        fs::set_permissions(place.data(), fs::Permissions::from_mode(mode)).unwrap();
        for args in [
            &["backup"][..],
            &["export", "coffee"],
            &["sql", "select 1"],
            &["prune", "--before", "2024-01-01"],
            &["recount"],
        ] {
            let mut command = Command::new(place.at("program"));
            command.args(args).env_clear().current_dir("/").uid(OWNER + 1).gid(OWNER + 1);
            let result = run(command.env("DATABASE_URL", &database));
            assert_fails_with(&result, 78, &message);
        }
    }
}
