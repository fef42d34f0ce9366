//! Notes when this program was made, by which a clock without a battery is found out; and packs the
//! files of `static/`, so that nothing is compressed while somebody waits.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::{Compression, GzBuilder};

/// Up to so many bytes are packed by trying long, which takes some 5 s a megabyte.
const WITH_CARE: usize = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    for part in ["build.rs", "Cargo.toml", "src", "sql", "static"] {
        println!("cargo::rerun-if-changed={part}");
    }
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let built = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|epoch| epoch.parse().ok());
    println!("cargo::rustc-env=BUILT_AT={}", built.unwrap_or_else(now));

    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let (packed, plain) = (out.join("packed"), out.join("plain"));
    for folder in [&packed, &plain] {
        // What was removed from static/ must leave the program too.
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    pack(Path::new("static"), &packed, &plain)
}

/// Puts every file below `from` into `packed` as gzip, or into `plain` as it is where gzip gains
/// next to nothing (pictures and fonts are packed already).
fn pack(from: &Path, packed: &Path, plain: &Path) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && path.extension().is_none_or(|extension| extension != "css") {
            pack(&path, &packed.join(&name), &plain.join(&name))?;
            continue;
        }
        let mut content = if path.is_dir() { join(&path)? } else { fs::read(&path)? };
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_ours = !path.starts_with("static/vendor");
        if is_ours && matches!(extension, Some("js" | "css")) {
            let text = String::from_utf8(content)?;
            content = lean(&text)
                .map_err(|line| format!("{}:{line}: a comment has its lines to itself", path.display()))?;
        }
        let smaller = gzip(&content)?;
        let is_worth_it = smaller.len() < content.len() / 10 * 9;
        let (folder, bytes) = if is_worth_it { (packed, smaller) } else { (plain, content) };
        fs::create_dir_all(folder)?;
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

/// The files of a folder in the order of their names: a style too long for one to read, sent as one.
fn join(folder: &Path) -> io::Result<Vec<u8>> {
    let mut parts = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    parts.sort();
    Ok(parts.iter().map(fs::read).collect::<io::Result<Vec<_>>>()?.join(&b'\n'))
}

/// `content` as gzip: without a time and a name in it, the same is always packed to the same bytes.
fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    if content.len() > WITH_CARE {
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
        gzip.write_all(content)?;
        return gzip.finish();
    }
    let mut packed = Vec::new();
    zopfli::compress(zopfli::Options::default(), zopfli::Format::Gzip, content, &mut packed)?;
    Ok(packed)
}

/// A script or style of ours without what is for its readers only: comments, which have their lines to
/// themselves, and indentation. Lines stay where they are, so that a browser names those of the source.
/// The number of a line where code follows a comment is an error.
fn lean(text: &str) -> Result<Vec<u8>, usize> {
    let mut lean = Vec::with_capacity(text.len());
    let mut in_block = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if in_block || line.starts_with("/*") {
            match line.find("*/") {
                Some(end) if end + 2 < line.len() => return Err(number),
                end => in_block = end.is_none(),
            }
        } else if !line.starts_with("//") {
            lean.extend_from_slice(line.as_bytes());
        }
        lean.push(b'\n');
    }
    Ok(lean)
}
