//! Dependency rules: no import cycles, imports only from lower layers, libraries only in their folders.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{ImportGraph, SourceFile};

/// Each layer and the layers that it may import from, bottom to top.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("fs", &[]),
    ("clock", &["domain"]),
    ("config", &["domain", "fs"]),
    ("db", &["domain", "fs"]),
    ("auth", &["clock", "config", "domain", "fs"]),
    ("backup", &["db", "domain", "fs"]),
    ("transfer", &["backup", "db", "domain", "fs"]),
    ("simulator", &["domain"]),
    ("telemetry", &["clock", "config", "db", "domain", "fs"]),
    ("jobs", &["clock", "config", "domain", "fs"]),
    ("people", &["auth", "backup", "clock", "config", "db", "domain", "fs", "jobs"]),
    (
        "http",
        &["auth", "backup", "clock", "config", "db", "domain", "jobs", "people", "telemetry", "transfer"],
    ),
    (
        "commands",
        &[
            "auth",
            "backup",
            "clock",
            "config",
            "db",
            "domain",
            "fs",
            "http",
            "jobs",
            "people",
            "simulator",
            "telemetry",
            "transfer",
        ],
    ),
    ("cli", &["commands", "config"]),
    ("main", &["cli", "commands", "config", "http", "telemetry"]),
];

/// Dependencies and the folders or files that may use them. One that is not listed may be used everywhere.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("anyhow", &["commands/", "main.rs"]),
    ("clap", &["cli.rs", "commands/", "config/", "main.rs", "transfer/formats/"]),
    ("csv", &["transfer/formats/", "commands/rejected.rs", "commands/table.rs"]),
    ("dotenvy", &["config/"]),
    ("flate2", &["transfer/formats/", "http/handlers/assets.rs"]),
    ("getrandom", &["auth/"]),
    ("governor", &["http/rate_limit.rs"]),
    ("http_body_util", &["http/"]),
    ("hyper", &["http/"]),
    ("hyper_util", &["http/"]),
    ("indicatif", &["commands/"]),
    ("jiff", &["domain/"]),
    ("lru", &["http/"]),
    ("prometheus", &["telemetry/"]),
    ("qrcode", &["http/handlers/pairings.rs"]),
    ("quick_xml", &["transfer/formats/"]),
    ("r2d2", &["db/"]),
    ("r2d2_sqlite", &["db/"]),
    ("rocket", &["http/"]),
    ("rusqlite", &["db/", "backup/", "transfer/"]),
    ("rust_embed", &["http/handlers/assets.rs"]),
    ("scheduled_thread_pool", &["db/"]),
    ("sd_notify", &["commands/systemd.rs"]),
    ("tokio_stream", &["http/"]),
    ("tracing_log", &["telemetry/"]),
    ("tracing_subscriber", &["telemetry/"]),
    ("utoipa", &["domain/", "http/", "jobs/", "telemetry/"]),
    ("zip", &["fs/zip_file.rs", "people/archive.rs", "transfer/formats/"]),
];

/// Modules of the standard library that the domain must not use: it does no I/O and takes the time as a value.
const IMPURE: &[&str] = &["std::env", "std::fs", "std::net", "std::process", "std::thread"];

#[test]
fn there_are_no_import_cycles() {
    let graph = ImportGraph::of_this_crate();
    let cycles = graph.cycles();
    assert!(cycles.is_empty(), "import cycles: {cycles:#?}");
}

#[test]
fn layers_import_only_from_allowed_layers() {
    let graph = ImportGraph::of_this_crate();
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut forbidden = Vec::new();
    for (from, to) in graph.edges() {
        let layers = allowed.get(from.layer()).unwrap_or_else(|| panic!("{} has no layer", from.name));
        // A path to the crate root names a layer without using anything in it.
        let is_inside = from.layer() == to.layer() || [from.layer(), to.layer()].contains(&"lib");
        if !is_inside && !layers.contains(&to.layer()) {
            forbidden.push(format!("{} imports {}", from.name, to.name));
        }
    }
    assert!(forbidden.is_empty(), "{forbidden:#?}");
}

#[test]
fn libraries_are_used_only_in_their_folders() {
    let graph = ImportGraph::of_this_crate();
    for (library, folders) in LIBRARIES {
        let users: Vec<&str> = graph
            .files
            .iter()
            .filter(|file| file.path_roots().contains(library))
            .map(|file| file.name.as_str())
            .collect();
        assert!(!users.is_empty(), "nothing uses {library}: remove it from the table");
        let others: Vec<_> =
            users.iter().filter(|file| !folders.iter().any(|folder| file.starts_with(folder))).collect();
        assert!(others.is_empty(), "{library} is used in {others:?}, but only {folders:?} may use it");
    }
}

#[test]
fn the_domain_does_no_io_and_reads_no_clock() {
    let graph = ImportGraph::of_this_crate();
    for file in graph.files.iter().filter(|file| file.layer() == "domain") {
        let used = IMPURE.iter().find(|module| file.uses_path(module));
        assert_eq!(used, None, "{}", file.name);
        for clock in ["SystemTime::now", "Instant::now", "Zoned::now", "Timestamp::now"] {
            assert!(!file.uses_path(clock), "{} uses {clock}", file.name);
        }
        assert!(!file.path_roots().contains("tracing"), "{} uses tracing", file.name);
    }
}

#[test]
fn no_two_types_have_the_same_name() {
    let graph = ImportGraph::of_this_crate();
    let mut definitions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in graph.files.iter().filter(|file| file.name != "main.rs") {
        for name in &file.types {
            definitions.entry(name).or_default().insert(&file.name);
        }
    }
    definitions.retain(|_, files| files.len() > 1);
    assert!(definitions.is_empty(), "types defined more than once: {definitions:#?}");
}

/// Files of `http` that may reach the data of everyone: the guard, the tasks of the server, and what reports on everyone.
const SEE_EVERYONE: &[&str] = &[
    "http/handlers/health.rs",
    "http/handlers/metrics.rs",
    "http/handlers/people.rs",
    "http/middleware/guard.rs",
    "http/server/mod.rs",
];

#[test]
fn handlers_reach_the_database_of_their_caller_alone() {
    let graph = ImportGraph::of_this_crate();
    let sees_everyone =
        |file: &&SourceFile| file.uses_path("registry::People") || file.uses_path("guard::Everyone");
    let users = graph.files.iter().filter(sees_everyone).map(|file| file.name.as_str());
    let users: BTreeSet<&str> = users.filter(|name| name.starts_with("http/")).collect();
    assert_eq!(users.into_iter().collect::<Vec<_>>(), SEE_EVERYONE);
}
