//! Build script: records the build time and compresses the files of `static/`.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::{Compression, GzBuilder};

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["build.rs", "Cargo.toml", "src", "sql", "static"] {
        println!("cargo::rerun-if-changed={input}");
    }
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // The server compares its clock with the build time, to detect a machine whose clock was reset.
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let built_at = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|epoch| epoch.parse().ok());
    println!("cargo::rustc-env=BUILT_AT={}", built_at.unwrap_or_else(now));

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("static");
    // Files removed from static/ must not stay in the binary.
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    compress_folder(Path::new("static"), &out)?;
    Ok(())
}

/// Writes every file below `from` to the same place below `to`, compressed with gzip.
fn compress_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            compress_folder(&path, &target)?;
        } else {
            // Neither a time nor a name in the header: builds are reproducible.
            let mut encoder = GzBuilder::new().write(fs::File::create(target)?, Compression::best());
            encoder.write_all(&fs::read(path)?)?;
            encoder.finish()?;
        }
    }
    Ok(())
}
