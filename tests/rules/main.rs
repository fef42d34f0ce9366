//! Rules about the project as a whole: dependencies, length of functions, routes and their documentation,
//! settings, pages and query plans.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod documents;
mod layers;
mod pages;
mod query_plans;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use coffee_tracker::auth::key::Scope;
use coffee_tracker::http::{Access, RouteEntry};
use serde_json::{Value, json};

/// A Rust file of this project.
struct TextFile {
    /// Relative to the project's root: `src/db/mod.rs`.
    path: String,
    text: String,
}

/// Every Rust file of the program, its tests and its benchmarks.
fn rust_files() -> impl Iterator<Item = TextFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths =
        ["src", "tests", "benches"].into_iter().flat_map(|folder| source::rust_files(&root.join(folder)));
    paths.map(move |path| TextFile {
        text: std::fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(),
    })
}

#[test]
fn no_function_is_longer_than_60_lines() {
    for source in rust_files() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let code = line.trim_start();
            let indent = &line[..line.len() - code.len()];
            let words: Vec<&str> = code.split([' ', '(']).take(6).collect();
            let is_function = words.contains(&"fn") && !code.starts_with("//") && !code.ends_with(';');
            if !is_function || code.ends_with('}') {
                continue;
            }
            // rustfmt indents the closing brace of a function like its first line.
            let end = format!("{indent}}}");
            let length = lines[start..].iter().position(|line| *line == end).map_or(0, |n| n + 1);
            assert!(length <= 60, "{}:{} is a function of {length} lines", source.path, start + 1);
        }
    }
}

#[test]
fn every_file_starts_with_a_doc_comment() {
    for source in rust_files() {
        assert!(source.text.starts_with("//! "), "{} does not start with a doc comment", source.path);
    }
}

fn document() -> Value {
    serde_json::from_str(coffee_tracker::http::openapi_document()).unwrap()
}

/// Method and path of an entry in the notation of OpenAPI.
fn operation(entry: &RouteEntry) -> (String, String) {
    let path = entry.template.replace("..>", ">").replace('<', "{").replace('>', "}");
    (entry.route.method.as_str().to_ascii_lowercase(), path)
}

/// Routes of pages and their files, which are not part of the API.
const PAGES: [&str; 8] = [
    "/docs",
    "/redoc",
    "/settings",
    "/settings/<section>",
    "/favicon.ico",
    "/manifest.webmanifest",
    "/static/<path..>",
    "/sw.js",
];

#[test]
fn the_openapi_document_has_exactly_the_routes_of_the_api() {
    let mounted: BTreeSet<(String, String)> = coffee_tracker::http::table().iter().map(operation).collect();
    assert_eq!(mounted.len(), coffee_tracker::http::table().len(), "no route is mounted twice");
    let of_api = coffee_tracker::http::table().iter().filter(|entry| !PAGES.contains(&entry.template));
    let of_api: BTreeSet<(String, String)> = of_api.map(operation).collect();
    assert_eq!(of_api.len(), mounted.len() - PAGES.len());
    let document = document();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if operation.get("responses").is_some() {
                documented.insert((method.clone(), path.clone()));
            }
        }
    }
    assert_eq!(documented, of_api);
}

#[test]
fn the_openapi_document_has_the_rate_limit_and_scope_of_every_route() {
    let document = document();
    for entry in coffee_tracker::http::table().iter().filter(|entry| !PAGES.contains(&entry.template)) {
        let (method, path) = operation(entry);
        let operation = &document["paths"][&path][&method];
        let shown = &operation["x-rate-limit-class"];
        assert_eq!(shown, entry.class.name(), "{method} {path}");
        let scopes = &operation["security"][0]["key"];
        let needed = match entry.access {
            Access::Public => Value::Null,
            access => access.scope().map_or(json!([]), |scope| json!([scope.name()])),
        };
        assert_eq!(*scopes, needed, "{method} {path}");
        for (status, is_possible) in
            [("401", entry.access != Access::Public), ("403", entry.access.scope().is_some())]
        {
            let is_documented = operation["responses"].get(status).is_some();
            assert_eq!(is_documented, is_possible, "{method} {path} {status}");
        }
        for status in ["400", "429", "431", "500", "503"] {
            assert!(
                operation["responses"].get(status).is_some(),
                "{method} {path} does not document {status}"
            );
        }
    }
}

/// Routes that require the scope `manage`, whatever their method is.
const MANAGED: [&str; 6] = ["/keys", "/pairings", "/backups", "/jobs", "/prune", "/imports"];
/// Routes that require the scope `admin`, whatever their method is.
const ADMINISTERED: [&str; 2] = ["/people", "/check"];

#[test]
fn routes_of_personal_data_require_a_key_with_the_scope_of_their_method_or_manage() {
    let mut public = BTreeSet::new();
    for entry in coffee_tracker::http::table() {
        let is_private = ["/coffee", "/heartrate", "/export", "/profile", "/ingest", "/sources"]
            .iter()
            .any(|start| entry.template.starts_with(start));
        match entry.access {
            Access::Key(Scope::Manage) => {
                let is_managed = MANAGED.iter().any(|start| entry.template.starts_with(start));
                assert!(is_managed, "{}", entry.template);
            }
            Access::Key(Scope::Admin) => {
                let is_administered = ADMINISTERED.iter().any(|start| entry.template.starts_with(start));
                assert!(is_administered, "{}", entry.template);
            }
            Access::Key(scope) => {
                let is_read = entry.route.method == "GET".parse().unwrap();
                let needed = if is_read { Scope::Read } else { Scope::Write };
                assert_eq!(scope, needed, "{} {}", entry.route.method, entry.template);
                assert!(is_private, "{}", entry.template);
            }
            Access::Metrics => assert_eq!(entry.template, "/metrics"),
            Access::AnyKey => assert_eq!(entry.template, "/me"),
            Access::Public => {
                assert!(!is_private, "{} is public", entry.template);
                public.insert(entry.template);
            }
        }
    }
    let expected = PAGES.into_iter().chain(["/", "/health", "/info", "/openapi.json", "/pair"]);
    assert_eq!(public, expected.collect());
}

#[test]
fn routes_that_change_data_have_a_rate_limit_for_changes() {
    for entry in coffee_tracker::http::table() {
        let reads = entry.route.method == "GET".parse().unwrap();
        let name = entry.class.name();
        let for_changes =
            ["-write", "-change", "-batch"].iter().any(|end| name.ends_with(end)) || name == "ingest";
        // Few requests of any kind manage something.
        let for_both = matches!(entry.access.scope(), Some(Scope::Manage | Scope::Admin)) && name == "manage";
        let for_both = for_both || entry.template == "/pair" && name == "pair";
        assert!(for_both || for_changes != reads, "{} {}", entry.route.method, entry.template);
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
fn env_example_has_exactly_the_settings_and_their_defaults() {
    use clap::CommandFactory;
    let command = coffee_tracker::cli::Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    let known = serve.get_arguments().filter_map(|arg| {
        let default = arg.get_default_values().first().and_then(|value| value.to_str());
        Some((arg.get_env()?.to_str()?.to_owned(), default.unwrap_or_default().to_owned()))
    });
    // The key has no flag, because process arguments are visible to other users.
    let known: BTreeMap<String, String> = known.chain([("API_KEY".to_owned(), String::new())]).collect();
    let example =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example")).unwrap();
    let shown = example.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    let mut shown: BTreeMap<String, String> = shown
        .filter(|(name, _)| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    // A setting that is empty by default has an example value.
    for (name, value) in &mut shown {
        if known.get(name).is_some_and(String::is_empty) {
            value.clear();
        }
    }
    assert_eq!(shown, known);
}
