//! Settings: validation, empty values, sources and their precedence, `config`, and the help.

use std::path::Path;

use serde_json::Value;

use crate::helpers::{
    CommandResult, Server, program, report_skipped, run, server_command, temporary_folder, wait_until,
};

#[test]
fn all_invalid_settings_are_reported_at_once_with_valid_values() {
    let bad = [
        ("PORT", "abc", "must be a number from 0 to 65535"),
        ("HOST", "x", "must be an IP address, such as 127.0.0.1 or 0.0.0.0"),
        ("TZ", "Mars/Olympus", "must be a time zone"),
        ("MAX_HEART_RATE_BPM", "-1", "must be a number from 1 to"),
        ("MAX_CAFFEINE_MG", "NaN", "must be a number from 1 to 100000"),
        ("RATE_LIMIT_READ", "often", "must be a rate such as 100/hour"),
        ("RATE_LIMIT_ENABLED", "perhaps", "must be true or false"),
        ("LOG_LEVEL", "loud", "must be debug, info, warning, error or critical"),
        ("LOG_FORMAT", "xml", "must be auto, text, json or journald"),
        ("SLOW_QUERY_MS", "0", "must be a number from 1 to 3600000"),
        ("MAX_REQUEST_BODY_BYTES", "1e6", "must be a number from 1024 to"),
        ("MAX_INGEST_BODY_BYTES", "0", "must be a number from 1024 to"),
        ("CORS_ORIGINS", "home", "must be origins such as https://home.example"),
        ("TRUSTED_PROXIES", "proxy", "must be networks such as 127.0.0.0/8"),
        ("IDLE_TIMEOUT_SECONDS", "soon", "must be a number from 1 to 3600"),
        ("MAX_CONNECTIONS", "1", "must be a number from 16 to 65536"),
        ("REMOVED_PERSON_DAYS", "-1", "must be a number from 0 to 36500"),
    ];
    let folder = temporary_folder();
    let result = run(program(folder.path()).arg("serve").envs(bad.map(|(name, value, _)| (name, value))));
    assert_eq!(result.code, Some(78), "{result:?}");
    assert!(result.err.starts_with("coffee-tracker: 17 invalid settings:\n"), "{}", result.err);
    for (name, value, right) in bad {
        let line = result.err.lines().find(|line| line.trim().starts_with(&format!("{name}={value}: ")));
        assert!(line.is_some_and(|line| line.contains(right)), "{name}: {line:?} in {}", result.err);
    }
    assert_eq!(result.err.lines().count(), 18, "more than the messages: {}", result.err);
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a file was created");
}

#[test]
fn a_proxy_signs_nobody_in_when_pages_of_every_origin_may_read_responses() {
    let folder = temporary_folder();
    let proxy = [("AUTH_PROXY_HEADER", "Remote-User"), ("TRUSTED_PROXIES", "127.0.0.1")];
    for origins in ["*", "https://home.example, *"] {
        let refused = run(program(folder.path()).arg("serve").envs(proxy).env("CORS_ORIGINS", origins));
        assert_eq!(refused.code, Some(78), "{origins}: {refused:?}");
        assert!(refused.err.contains("needs CORS_ORIGINS without *"), "{origins}: {}", refused.err);
    }
}

#[test]
fn settings_of_the_docker_stack_are_reported_with_their_replacement() {
    let folder = temporary_folder();
    let result = run(program(folder.path())
        .arg("serve")
        .env("DATABASE_URL", "postgresql://coffee:hunter2@db/coffee_db"));
    assert_eq!(result.code, Some(78));
    assert!(result.err.contains("SQLite has replaced it"), "{}", result.err);
    assert!(result.err.contains("coffee-tracker import"), "{}", result.err);
    assert!(!result.err.contains("hunter2"), "the password is in the message: {}", result.err);

    let with_redis =
        Server::spawn(server_command(folder.path()).env("REDIS_URL", "redis://:hunter2@redis:6379"));
    assert_eq!(with_redis.get("/health").status, 200);
    let stopped = with_redis.stop_cleanly();
    let warning = stopped.err.lines().find(|line| line.contains("REDIS_URL")).expect("a warning");
    assert!(warning.contains("WARNING") && warning.contains("limits are kept in this process"), "{warning}");
    assert!(!stopped.err.contains("hunter2"));
}

#[test]
fn an_empty_setting_has_its_default() {
    let folder = temporary_folder();
    let mut command = server_command(folder.path());
    for name in ["HOST", "LOG_LEVEL", "MAX_CAFFEINE_MG", "RATE_LIMIT_READ", "CORS_ORIGINS", "TZ", "DEBUG"] {
        command.env(name, "");
    }
    let with_empty_settings = Server::spawn(&mut command);
    let info = with_empty_settings.get("/info").json();
    assert_eq!(info["validation"]["max_caffeine_mg"], 1000.0);
    assert_eq!(with_empty_settings.address.ip().to_string(), "127.0.0.1");
    // An empty PORT is 8000. An invalid setting prevents the start, so that port 8000 need not be free.
    let result = run(program(folder.path()).arg("serve").envs([("PORT", ""), ("LOG_LEVEL", "loud")]));
    assert_eq!(result.err.lines().count(), 2, "PORT is reported as invalid: {}", result.err);
}

/// Starts a server that `prepare` configures, and returns its caffeine limit.
fn caffeine_limit(folder: &Path, prepare: impl FnOnce(&mut std::process::Command)) -> Value {
    let mut command = program(folder);
    command.args(["serve", "--port", "0"]);
    prepare(&mut command);
    let started = Server::spawn(&mut command);
    started.get("/info").json()["validation"]["max_caffeine_mg"].clone()
}

#[test]
fn flags_take_precedence_over_the_environment_and_that_over_the_env_file() {
    let folder = temporary_folder();
    let path = folder.path();
    std::fs::write(path.join(".env"), "# limits\nMAX_CAFFEINE_MG=501\nLOG_LEVEL='info'\n").unwrap();
    std::fs::write(path.join("other.env"), "MAX_CAFFEINE_MG=502\n").unwrap();
    assert_eq!(caffeine_limit(path, |_| ()), 501.0);
    for flag in ["--config=other.env", "--config"] {
        let in_other = caffeine_limit(path, |c| {
            c.arg(flag).args((flag == "--config").then_some("other.env"));
        });
        assert_eq!(in_other, 502.0, "--config names the file that is read instead");
    }
    let in_environment = caffeine_limit(path, |c| {
        c.env("MAX_CAFFEINE_MG", "503");
    });
    assert_eq!(in_environment, 503.0);
    let by_flag = caffeine_limit(path, |c| {
        c.env("MAX_CAFFEINE_MG", "503").args(["--max-caffeine-mg", "504"]);
    });
    assert_eq!(by_flag, 504.0);
}

#[test]
fn a_missing_or_malformed_env_file_is_reported() {
    let folder = temporary_folder();
    let result = run(program(folder.path()).args(["serve", "--config", "nowhere.env"]));
    assert_eq!(result.code, Some(78));
    assert!(result.err.starts_with("coffee-tracker: cannot read nowhere.env: "), "{}", result.err);
    std::fs::write(folder.path().join(".env"), "PORT=8000\nthis is no setting\n").unwrap();
    let result = run(program(folder.path()).arg("serve"));
    assert_eq!(result.code, Some(78));
    let expected = "coffee-tracker: cannot read .env: line 2 is not of the form NAME=VALUE; quote a value that contains spaces\n";
    assert_eq!(result.err, expected, "the line may contain the key");
}

/// Runs the program with these arguments in an empty folder.
fn run_with(args: &[&str]) -> CommandResult {
    let folder = temporary_folder();
    run(program(folder.path()).args(args))
}

#[test]
fn an_unknown_flag_or_command_is_rejected_with_a_suggestion() {
    for args in [&["serve", "--prot", "1"][..], &["serv"], &["serve", "--port"], &["demo", "--days", "0"]] {
        let result = run_with(args);
        assert_eq!(result.code, Some(2), "{args:?}: {result:?}");
        assert!(result.err.starts_with("error: "), "{}", result.err);
        assert_eq!(result.out, "");
    }
    assert!(run_with(&["serve", "--prot", "1"]).err.contains("--port"), "no suggestion");
}

#[test]
fn config_is_allowed_before_and_after_a_command_but_settings_only_after_it() {
    let folder = temporary_folder();
    std::fs::write(folder.path().join("a.env"), "DATABASE_URL=a.db\n").unwrap();
    for args in [
        ["--config", "a.env", "key", "list"],
        ["key", "--config", "a.env", "list"],
        ["key", "list", "--config", "a.env"],
    ] {
        let result = run(program(folder.path()).args(args));
        assert_eq!(result.code, Some(78), "{args:?}: {result:?}");
        assert!(result.err.contains("a.db"), "{args:?}: {result:?}");
    }
    for (args, misplaced) in [
        (&["--port", "8001", "serve"][..], "--port"),
        (&["--config", "a.env", "--database-url=b.db", "backup"], "--database-url"),
        (&["--port", "1", "check"], "--port"),
        (&["--debug", "check"], "--debug"),
        (&["--port", "1", "backup"], "--port"),
    ] {
        let result = run(program(folder.path()).args(args));
        assert_eq!(result.code, Some(2), "{args:?}: {result:?}");
        assert!(
            result.err.starts_with(&format!("error: unexpected argument '{misplaced}' found\n")),
            "{result:?}"
        );
        let command = args.last().unwrap();
        let tip = format!("'{command} {misplaced}' exists");
        assert_eq!(result.err.contains(&tip), args != ["--port", "1", "backup"], "{result:?}");
    }
    let by_variable = run(program(folder.path()).env("PORT", "8001").args(["key", "list"]));
    assert_eq!(by_variable.code, Some(78), "the position matters only for flags: {by_variable:?}");
}

#[test]
fn debug_is_a_switch_and_other_values_of_the_variable_are_ignored_with_a_warning() {
    let folder = temporary_folder();
    let weak = [("API_KEY", "weak-key")];
    for started in [
        server_command(folder.path()).arg("--debug"),
        server_command(folder.path()).env("DEBUG", "true"),
        server_command(folder.path()).env("DEBUG", "on"),
    ] {
        let started = Server::spawn(started.envs(weak));
        assert_eq!(started.get("/health").status, 200);
        started.stop_cleanly();
    }
    for value in ["*", "express:*", "2", "perhaps"] {
        let started = Server::spawn(server_command(folder.path()).env("DEBUG", value));
        assert_eq!(started.get("/health").status, 200);
        let warning = format!("DEBUG={value} is ignored: it is neither true nor false");
        assert!(started.stop_cleanly().err.contains(&warning), "{value}");
        let refused = run(server_command(folder.path()).envs(weak).env("DEBUG", value));
        assert_eq!(refused.code, Some(78), "a weak key was accepted: {refused:?}");
    }
    let refused = run(server_command(folder.path()).args(["--debug", "true"]));
    assert_eq!(refused.code, Some(2), "a switch takes no value: {refused:?}");
}

/// Returns the lines `NAME=value` of a text whose names are settings.
fn sample_settings(text: &str, names: &[String]) -> Vec<String> {
    let setting = |line: &str| {
        let line = line.trim_start_matches(['#', ' ', '\t', '`', '-']);
        let (name, _) = line.split_once('=')?;
        names.iter().any(|known| known == name).then(|| line.to_owned())
    };
    text.lines().filter_map(setting).collect()
}

#[test]
fn every_sample_setting_in_the_project_can_be_used_as_it_stands() {
    let help = run_with(&["serve", "--help"]);
    let mut names: Vec<String> = help
        .out
        .split("[env: ")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(']')?.0.to_owned()))
        .collect();
    names.push("API_KEY".to_owned());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for location in [".env.example", "README.md", "deploy", "docs"] {
        let path = root.join(location);
        let files: Vec<_> = match std::fs::read_dir(&path) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect(),
            Err(_) => vec![path],
        };
        for file in files {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            // Ignores shell commands with variables.
            let settings = sample_settings(&text, &names);
            let settings: Vec<_> = settings.iter().filter(|line| !line.contains("coffee-tracker ")).collect();
            for line in settings {
                found += 1;
                let folder = temporary_folder();
                std::fs::write(folder.path().join(".env"), format!("{line}\n")).unwrap();
                let checked = run(program(folder.path()).arg("check"));
                assert_ne!(checked.code, Some(78), "{}: {line}: {}", file.display(), checked.err);
                assert!(!line.contains(" #"), "{}: systemd takes the comment for the value", file.display());
            }
        }
    }
    assert!(found > 40, "only {found} sample settings were found");
}

#[test]
fn the_help_lists_every_setting_with_its_default_and_variable() {
    let help = run_with(&["serve", "--help"]);
    assert_eq!(help.code, Some(0));
    let words = help.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for (flag, variable, default) in [
        ("host", "HOST", "127.0.0.1"),
        ("port", "PORT", "8000"),
        ("database-url", "DATABASE_URL", "sqlite:///data/coffee.db"),
        ("backup-dir", "BACKUP_DIR", "backups"),
        ("tz", "TZ", ""),
        ("removed-person-days", "REMOVED_PERSON_DAYS", "30"),
        ("api-key-file", "API_KEY_FILE", ""),
        ("debug", "DEBUG", ""),
        ("log-level", "LOG_LEVEL", "info"),
        ("log-format", "LOG_FORMAT", "auto"),
        ("slow-query-ms", "SLOW_QUERY_MS", "250"),
        ("allowed-hosts", "ALLOWED_HOSTS", ""),
        ("cors-origins", "CORS_ORIGINS", ""),
        ("trusted-proxies", "TRUSTED_PROXIES", ""),
        ("metrics-public", "METRICS_PUBLIC", "false"),
        ("security-headers", "SECURITY_HEADERS", "true"),
        ("max-request-body-bytes", "MAX_REQUEST_BODY_BYTES", "1048576"),
        ("max-ingest-body-bytes", "MAX_INGEST_BODY_BYTES", "33554432"),
        ("request-timeout-seconds", "REQUEST_TIMEOUT_SECONDS", "20"),
        ("header-timeout-seconds", "HEADER_TIMEOUT_SECONDS", "10"),
        ("idle-timeout-seconds", "IDLE_TIMEOUT_SECONDS", "30"),
        ("max-connections", "MAX_CONNECTIONS", "256"),
        ("max-caffeine-mg", "MAX_CAFFEINE_MG", "1000"),
        ("recommended-daily-caffeine-mg", "RECOMMENDED_DAILY_CAFFEINE_MG", "400"),
        ("bedtime", "BEDTIME", "23:00"),
        ("caffeine-half-life-hours", "CAFFEINE_HALF_LIFE_HOURS", "5"),
        ("sleep-threshold-mg", "SLEEP_THRESHOLD_MG", "50"),
        ("usual-dose-mg", "USUAL_DOSE_MG", ""),
        ("min-heart-rate-bpm", "MIN_HEART_RATE_BPM", "30"),
        ("max-heart-rate-bpm", "MAX_HEART_RATE_BPM", "250"),
        ("rate-limit-enabled", "RATE_LIMIT_ENABLED", "true"),
        ("rate-limit-open", "RATE_LIMIT_OPEN", "30/minute"),
        ("rate-limit-health", "RATE_LIMIT_HEALTH", "60/minute"),
        ("rate-limit-info", "RATE_LIMIT_INFO", "10/minute"),
        ("rate-limit-static", "RATE_LIMIT_STATIC", "600/minute"),
        ("rate-limit-read", "RATE_LIMIT_READ", "600/minute"),
        ("rate-limit-coffee-write", "RATE_LIMIT_COFFEE_WRITE", "100/hour"),
        ("rate-limit-coffee-change", "RATE_LIMIT_COFFEE_CHANGE", "60/hour"),
        ("rate-limit-heartrate-write", "RATE_LIMIT_HEARTRATE_WRITE", "200/hour"),
        ("rate-limit-heartrate-change", "RATE_LIMIT_HEARTRATE_CHANGE", "120/hour"),
        ("rate-limit-heartrate-batch", "RATE_LIMIT_HEARTRATE_BATCH", "60/hour"),
        ("rate-limit-ingest", "RATE_LIMIT_INGEST", "120/hour"),
        ("rate-limit-manage", "RATE_LIMIT_MANAGE", "120/minute"),
        ("rate-limit-pair", "RATE_LIMIT_PAIR", "10/minute"),
        ("rate-limit-unauthenticated", "RATE_LIMIT_UNAUTHENTICATED", "120/minute"),
    ] {
        let start = if flag == "debug" { "--debug".to_owned() } else { format!("--{flag} <") };
        let entry = words.split(&start).nth(1).unwrap_or_else(|| panic!("{flag} is missing"));
        let entry = entry.split(" --").next().unwrap();
        assert!(entry.contains(&format!("[env: {variable}]")), "{flag}: {entry}");
        assert!(default.is_empty() || entry.contains(&format!("[default: {default}]")), "{flag}: {entry}");
    }
    assert!(words.contains("API_KEY") && words.contains("--config <FILE>"));
}

#[test]
fn without_a_command_the_help_is_printed_and_nothing_is_created() {
    let folder = temporary_folder();
    let result = run(&mut program(folder.path()));
    assert_eq!((result.code, result.out.as_str()), (Some(2), ""), "{result:?}");
    let help = run_with(&["--help"]);
    assert_eq!(help.code, Some(0));
    for text in [&result.err, &help.out] {
        for command in ["serve", "backup", "restore", "import", "export", "check", "config", "key"] {
            assert!(text.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{text}");
        }
        assert!(!text.contains("--port") && !text.contains("RATE_LIMIT"), "{text}");
    }
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing was created");
}

#[test]
fn config_prints_every_setting_with_its_source_and_no_secret() {
    let folder = temporary_folder();
    std::fs::write(
        folder.path().join(".env"),
        "API_KEY=hush-hush-hush-hush\nBEDTIME=22:30\nPORT=9001\nHOST=\n",
    )
    .unwrap();
    let config = |args: &[&str]| {
        let mut command = program(folder.path());
        let result = run(command.arg("config").args(args).args(["--log-level", "debug"]).env("PORT", "9000"));
        assert_eq!((result.code, result.err.as_str()), (Some(0), ""), "{result:?}");
        result.out
    };
    let json: Value = serde_json::from_str(&config(&["--json"])).expect("JSON");
    for (name, value, source) in [
        ("API_KEY", "(redacted)", ".env"),
        ("BEDTIME", "22:30", ".env"),
        ("PORT", "9000", "environment"),
        ("LOG_LEVEL", "debug", "flag"),
        ("DEBUG", "false", "default"),
        ("HOST", "127.0.0.1", "default"),
        ("RATE_LIMIT_READ", "600/minute", "default"),
        ("DATABASE_URL", "sqlite:///data/coffee.db", "default"),
    ] {
        assert_eq!(json[name], serde_json::json!({"value": value, "source": source}), "{name}: {json}");
    }
    let text = config(&[]);
    assert!(!text.contains("hush-hush") && !json.to_string().contains("hush-hush"), "{text}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = text.lines().map(words).collect();
    assert!(lines.contains(&"PORT 9000 environment".to_owned()), "{text}");
    assert_eq!(
        json.as_object().unwrap().len(),
        lines.len() - 2,
        "one line per setting, a header and a rule: {text}"
    );

    assert_eq!(config(&["BEDTIME"]), "22:30\n", "a single setting, for scripts");
    assert_eq!(config(&["API_KEY"]), "(redacted)\n");
    assert_eq!(config(&["API_KEY", "--show-secrets"]), "hush-hush-hush-hush\n");
    let unknown = run(program(folder.path()).args(["config", "COLOUR"]));
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.err.contains("COLOUR"), "{unknown:?}");
    assert_eq!(config(&["--quiet"]), "");
    for args in [&["config"][..], &["config", "--quiet"]] {
        let invalid = run(program(folder.path()).args(args).env("PORT", "many"));
        assert_eq!(invalid.code, Some(78), "{invalid:?}");
        assert!(invalid.err.starts_with("coffee-tracker: 1 invalid setting:\n"), "{invalid:?}");
    }
}

#[test]
fn config_prints_the_key_file_that_serve_uses() {
    let folder = temporary_folder();
    let key_file = |variables: &[(&str, &str)]| {
        let mut command = program(folder.path());
        run(command.args(["config", "API_KEY_FILE"]).envs(variables.iter().copied())).out
    };
    assert_eq!(key_file(&[]), "data/coffee.key\n");
    assert_eq!(key_file(&[("API_KEY_FILE", "other.key")]), "other.key\n");
    assert_eq!(key_file(&[("API_KEY", "hush-hush-hush-hush")]), "\n", "no file is used");
    std::fs::create_dir(folder.path().join("credentials")).unwrap();
    std::fs::write(folder.path().join("credentials/api_key"), "ct_0123456789abcdef\n").unwrap();
    assert_eq!(key_file(&[("CREDENTIALS_DIRECTORY", "credentials")]), "credentials/api_key\n");
}

#[test]
fn the_help_shows_no_value_of_the_environment() {
    let folder = temporary_folder();
    let mut command = program(folder.path());
    let help = run(command
        .args(["serve", "--help"])
        .env("DATABASE_URL", "/secret/place")
        .env("API_KEY", "hush-hush"));
    assert!(!help.out.contains("/secret/place") && !help.out.contains("hush-hush"));
}

#[test]
fn the_openapi_document_is_printed_as_json() {
    let printed = run_with(&["openapi"]);
    assert_eq!((printed.code, printed.err.as_str()), (Some(0), ""));
    let document: Value = serde_json::from_str(&printed.out).expect("JSON");
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    assert!(document["paths"]["/coffee/"]["post"].is_object());

    let folder = temporary_folder();
    let served = Server::start(folder.path()).get("/openapi.json").json();
    assert_eq!(served, document, "the served document differs");
}

#[test]
fn a_server_on_an_ipv6_address_prints_a_valid_url() {
    let folder = temporary_folder();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        report_skipped("this machine has no IPv6 loopback address");
        return;
    }
    let server = Server::spawn(server_command(folder.path()).args(["--host", "::1"]));
    assert!(server.address.is_ipv6());
    assert_eq!(server.get("/health").status, 200);
    wait_until("the curl line is printed", || server.process.out.text().contains("http://[::1]:"));
}
