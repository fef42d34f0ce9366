//! Names in the documentation: the files and items of `docs/ARCHITECTURE.md`, and the alerts of `docs/RUNBOOK.md`, exist.

use std::path::Path;

/// Words that introduce an item in Rust.
const KEYWORDS: [&str; 6] = ["fn", "struct", "enum", "trait", "const", "type"];

fn in_backticks(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn defines(source: &str, item: &str) -> bool {
    let is_defined = |keyword: &&str| {
        source.match_indices(&format!("{keyword} {item}")).any(|(at, found)| {
            let next = source[at + found.len()..].chars().next();
            !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    };
    KEYWORDS.iter().any(is_defined)
}

#[test]
fn every_file_and_item_named_in_the_architecture_document_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let folders = ["src/", "sql/", "static/", "tests/", "benches/", "scripts/", "deploy/"];
    let mut missing = Vec::new();
    for path in in_backticks(&document) {
        if folders.iter().any(|folder| path.starts_with(folder)) && !root.join(path).exists() {
            missing.push(path.to_owned());
        }
    }
    let mut items = 0;
    for line in document.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, step, file, names, ..] = cells[..] else { continue };
        if step.parse::<u8>().is_err() {
            continue;
        }
        let file = file.trim_matches('`');
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        for item in in_backticks(names) {
            items += 1;
            if !defines(&source, item) {
                missing.push(format!("{item} in {file}"));
            }
        }
    }
    assert!(items > 40, "only {items} items found");
    assert!(missing.is_empty(), "docs/ARCHITECTURE.md names missing files or items: {missing:#?}");
}

#[test]
fn every_source_folder_is_in_the_architecture_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    for entry in std::fs::read_dir(root.join("src")).unwrap() {
        let entry = entry.unwrap();
        let name = format!("`src/{}/`", entry.file_name().to_str().unwrap());
        let is_listed = document.lines().any(|line| line.starts_with(&format!("| {name} |")));
        assert!(!entry.path().is_dir() || is_listed, "docs/ARCHITECTURE.md does not list {name}");
    }
}

#[test]
fn every_alert_has_a_row_in_the_runbook() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = std::fs::read_to_string(root.join("deploy/prometheus-rules.yml")).unwrap();
    let runbook = std::fs::read_to_string(root.join("docs/RUNBOOK.md")).unwrap();
    let prefix = "- alert: CoffeeTracker";
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix(prefix)).collect();
    assert!(alerts.len() > 10, "only {} alerts found", alerts.len());
    for alert in alerts {
        assert!(runbook.contains(&format!("\n| `{alert}` | ")), "docs/RUNBOOK.md has no row for {alert}");
    }
}
