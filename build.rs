//! Notes when this program was made, by which a clock without a battery is found out.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    for part in ["Cargo.toml", "src", "sql", "static"] {
        println!("cargo::rerun-if-changed={part}");
    }
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let built = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|epoch| epoch.parse().ok());
    println!("cargo::rustc-env=BUILT_AT={}", built.unwrap_or_else(now));
}
