//! Inputs that a fuzzer found (`make fuzz-parsers`) for the parsers of foreign data: none panics, and what is accepted
//! is within the limits.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "../../fuzz/src/lib.rs"]
mod checks;

use std::path::Path;

use coffee_tracker::transfer::push::{hc_webhook, health_auto_export};

/// Passes each input of a fuzz target to its check.
fn check_each(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/corpus").join(target);
    let inputs: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty());
    for path in inputs {
        println!("{}", path.display());
        check(&std::fs::read(path).unwrap());
    }
}

#[test]
fn the_found_pushes_of_health_auto_export_are_parsed_within_the_limits() {
    check_each("health_auto_export", |body| {
        checks::check_push(body, |input, context| health_auto_export::read(input, context));
    });
}

#[test]
fn the_found_pushes_of_hc_webhook_are_parsed_within_the_limits() {
    check_each("hc_webhook", |body| {
        checks::check_push(body, |input, context| hc_webhook::read(input, context));
    });
}

#[test]
fn the_found_files_are_read_within_the_limits_and_stay_as_they_are() {
    check_each("files", checks::check_file);
}
