//! The rules of the house, held by machine: who may know whom, how long things may be,
//! and that no route goes without its limit, its guard and its page in the document.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod documents;
mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coffee_tracker::auth::key::Scope;
use coffee_tracker::http::{Access, Entry};
use serde_json::{Value, json};

/// A file of ours, without its comments.
struct Source {
    /// From the top: `src/store/mod.rs`.
    path: String,
    text: String,
    code: String,
}

/// Every Rust file below `folder`.
fn sources(folder: &str) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![top.join(folder)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    assert!(!files.is_empty(), "nothing in {folder}");
    let source = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = code.collect::<Vec<_>>().join("\n");
        Source { path: file.strip_prefix(top).unwrap().to_str().unwrap().to_owned(), text, code }
    };
    files.iter().map(source).collect()
}

/// `word` as a path of its own, not as a part of another word.
fn mentions(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let ends_in_a_name = joins(word.chars().next_back());
        !(joins(before) || ends_in_a_name && joins(after))
    })
}

/// The modules of ours that a file names, as `crate::store` or within `use crate::{…}`.
fn modules_named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for start in ["crate::", "coffee_tracker::"] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            let list = rest.strip_prefix('{').and_then(|list| list.split_once(';')).map(|(list, _)| list);
            for item in list.unwrap_or(rest).split(',').take(if list.is_some() { usize::MAX } else { 1 }) {
                let name: String =
                    item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                named.insert(name);
            }
        }
    }
    named
}

#[test]
fn a_module_knows_only_those_that_it_may() {
    for (folder, allowed) in [
        ("src/model", &["model"][..]),
        ("src/store", &["store", "model"]),
        ("src/config", &["config", "model"]),
        ("src/formats", &["formats", "model"]),
        ("src/keys", &["keys", "store", "model"]),
        ("src/http", &["http", "store", "keys", "formats", "model", "config", "clock", "metrics"]),
        (
            "src/commands",
            &["commands", "http", "store", "keys", "formats", "model", "config", "clock", "logging"],
        ),
    ] {
        for source in sources(folder) {
            let strangers: Vec<String> = modules_named(&source.code)
                .into_iter()
                .filter(|name| name.starts_with(char::is_lowercase) && !allowed.contains(&name.as_str()))
                .collect();
            assert!(strangers.is_empty(), "{} must not know {strangers:?}", source.path);
        }
    }
}

#[test]
fn a_library_is_known_only_where_it_belongs() {
    for (library, homes) in [
        ("rusqlite", &["src/store/"][..]),
        ("r2d2", &["src/store/"]),
        ("r2d2_sqlite", &["src/store/"]),
        ("rocket", &["src/http/"]),
        ("governor", &["src/http/"]),
        ("utoipa", &["src/http/", "src/model/"]),
        ("anyhow", &["src/main.rs", "src/commands/"]),
        ("clap", &["src/main.rs", "src/cli.rs", "src/commands/", "src/config/"]),
        ("prometheus", &["src/metrics.rs"]),
        ("indicatif", &["src/commands/"]),
        ("sd_notify", &["src/commands/systemd.rs"]),
        ("dotenvy", &["src/main.rs"]),
        ("csv", &["src/formats/"]),
        ("quick_xml", &["src/formats/"]),
        ("zip", &["src/formats/"]),
        ("flate2", &["src/formats/", "src/http/assets.rs"]),
        ("rust_embed", &["src/http/assets.rs"]),
    ] {
        for source in sources("src") {
            let at_home = homes.iter().any(|home| source.path.starts_with(home));
            let used = mentions(&source.code, &format!("{library}::"))
                || mentions(&source.code, &format!("use {library}"));
            assert!(at_home || !used, "{} must not know {library}", source.path);
        }
    }
}

#[test]
fn the_model_does_no_io_and_has_no_clock_of_its_own() {
    for source in sources("src/model") {
        for word in
            ["std::fs", "std::net", "std::env", "std::thread", "SystemTime::now", "Instant::now", "tracing"]
        {
            assert!(!mentions(&source.code, word), "{} mentions {word}", source.path);
        }
    }
}

#[test]
fn no_function_grows_too_long() {
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = &line[..line.len() - code.len()];
            let words: Vec<&str> = code.split([' ', '(']).take(6).collect();
            let is_function = words.contains(&"fn") && !code.starts_with("//") && !code.ends_with(';');
            if !is_function || code.ends_with('}') {
                continue;
            }
            // As rustfmt has it, the brace that closes a function stands below its beginning.
            let end = format!("{indent}}}");
            let length = lines[start..].iter().position(|line| *line == end).map_or(0, |n| n + 1);
            assert!(length <= 60, "{}:{} is a function of {length} lines", source.path, start + 1);
        }
    }
}

#[test]
fn every_file_says_what_it_owns() {
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        assert!(source.text.starts_with("//! "), "{} begins without a word about itself", source.path);
    }
}

fn document() -> Value {
    serde_json::from_str(coffee_tracker::http::openapi_document()).unwrap()
}

/// Method and path of an entry, as the document has them.
fn operation(entry: &Entry) -> (String, String) {
    let path = entry.template.replace("..>", ">").replace('<', "{").replace('>', "}");
    (entry.route.method.as_str().to_ascii_lowercase(), path)
}

#[test]
fn every_mounted_route_is_documented_and_nothing_else_is() {
    let mounted: BTreeSet<(String, String)> = coffee_tracker::http::table().iter().map(operation).collect();
    assert_eq!(mounted.len(), coffee_tracker::http::table().len(), "no route is mounted twice");
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("responses").is_some() {
                documented.insert((method.clone(), path.clone()));
            }
        }
    }
    assert_eq!(documented, mounted);
}

#[test]
fn every_route_shows_its_limit_and_its_guard_in_the_document() {
    let document = document();
    for entry in coffee_tracker::http::table() {
        let (method, path) = operation(entry);
        let operation = &document["paths"][&path][&method];
        let shown = &operation["x-rate-limit-class"];
        assert_eq!(shown, entry.class.name(), "{method} {path}");
        let scopes = &operation["security"][0]["key"];
        let needed = entry.access.scope().map_or(Value::Null, |scope| json!([scope.name()]));
        assert_eq!(*scopes, needed, "{method} {path}");
        for status in ["401", "403"] {
            let is_told = operation["responses"].get(status).is_some();
            assert_eq!(is_told, entry.access != Access::Public, "{method} {path} {status}");
        }
        for status in ["400", "429", "431", "500", "503"] {
            assert!(
                operation["responses"].get(status).is_some(),
                "{method} {path} does not document {status}"
            );
        }
    }
}

#[test]
fn what_is_somebodys_own_needs_a_key_with_the_scope_of_its_method_and_what_is_open_is_listed_here() {
    let mut open = BTreeSet::new();
    for entry in coffee_tracker::http::table() {
        let is_private =
            ["/coffee", "/heartrate", "/export"].iter().any(|start| entry.template.starts_with(start));
        match entry.access {
            Access::Key(scope) => {
                let is_read = entry.route.method == "GET".parse().unwrap();
                let needed = if is_read { Scope::Read } else { Scope::Write };
                assert_eq!(scope, needed, "{} {}", entry.route.method, entry.template);
                assert!(is_private, "{}", entry.template);
            }
            Access::Metrics => assert_eq!(entry.template, "/metrics"),
            Access::Public => {
                assert!(!is_private, "{} is open", entry.template);
                open.insert(entry.template);
            }
        }
    }
    let pages =
        ["/", "/docs", "/redoc", "/favicon.ico", "/manifest.webmanifest", "/static/<path..>", "/sw.js"];
    let expected = pages.into_iter().chain(["/health", "/info", "/openapi.json"]);
    assert_eq!(open, expected.collect());
}

#[test]
fn a_route_that_changes_something_has_a_limit_for_changes() {
    for entry in coffee_tracker::http::table() {
        let reads = entry.route.method == "GET".parse().unwrap();
        let name = entry.class.name();
        let for_changes = name.ends_with("-write") || name.ends_with("-change") || name.ends_with("-batch");
        assert_eq!(for_changes, !reads, "{} {}", entry.route.method, entry.template);
    }
}

#[test]
fn a_flag_has_the_same_letter_in_every_command() {
    use clap::CommandFactory;
    let command = coffee_tracker::cli::Cli::command();
    let flags = command.get_subcommands().flat_map(|command| command.get_arguments());
    let flags: BTreeSet<_> = flags.filter_map(|flag| Some((flag.get_long()?, flag.get_short()))).collect();
    let mut names: Vec<&str> = flags.iter().map(|(name, _)| *name).collect();
    assert!(names.contains(&"quiet"), "{names:?}");
    names.dedup();
    assert_eq!(names.len(), flags.len(), "{flags:?}");
}

#[test]
fn the_example_of_settings_names_every_setting_with_its_default_and_no_other() {
    use clap::CommandFactory;
    let command = coffee_tracker::cli::Cli::command();
    let serve = command.find_subcommand("serve").expect("there is serve");
    let known = serve.get_arguments().filter_map(|arg| {
        let default = arg.get_default_values().first().and_then(|value| value.to_str());
        Some((arg.get_env()?.to_str()?.to_owned(), default.unwrap_or_default().to_owned()))
    });
    // The key is never a flag: it would show in the list of processes.
    let known: BTreeMap<String, String> = known.chain([("API_KEY".to_owned(), String::new())]).collect();
    let example =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example")).unwrap();
    let shown = example.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    let mut shown: BTreeMap<String, String> = shown
        .filter(|(name, _)| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    // What is empty by default is shown by an example.
    for (name, value) in &mut shown {
        if known.get(name).is_some_and(String::is_empty) {
            value.clear();
        }
    }
    assert_eq!(shown, known);
}
