//! Rules about the pages: no inline scripts and styles, nothing from other hosts, and unmodified vendored files.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

fn static_folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/static"))
}

/// Files and folders in `folder`, sorted by name.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Files of this project with this extension, and their contents.
fn own_files(extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![static_folder().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                if name(&path) != "vendor" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|own| own == extension) {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "static/ has no {extension} files");
    found
}

#[test]
fn vendored_files_have_a_version_a_license_and_matching_checksums() {
    let folders = entries(&static_folder().join("vendor"));
    assert!(folders.len() >= 2, "{folders:?}");
    for folder in folders {
        let (_, version) = name(&folder).rsplit_once('-').unwrap();
        let numbers: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
        assert!(numbers.len() == 3 && numbers.iter().all(Result::is_ok), "{}", folder.display());
        let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
        let mut listed = Vec::new();
        for (sum, file) in sums.lines().map(|line| line.split_once("  ").unwrap()) {
            let content = std::fs::read(folder.join(file)).unwrap();
            let digest = Sha256::digest(content);
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(sum, hex, "{file} in {}", folder.display());
            listed.push(file.to_owned());
        }
        assert!(listed.iter().any(|file| file == "LICENSE"), "{}", folder.display());
        let present: Vec<String> = entries(&folder).iter().map(|path| name(path).to_owned()).collect();
        listed.push("SHA256SUMS".to_owned());
        listed.sort();
        assert_eq!(present, listed);
    }
}

#[test]
fn pages_have_no_inline_scripts_or_styles_and_load_nothing_from_other_hosts() {
    for (path, text) in own_files("html") {
        for tag in text.split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            let mut words = tag.split_whitespace();
            let element = words.next().unwrap_or_default();
            assert!(element != "style", "{}: <{tag}>", path.display());
            assert!(element != "script" || tag.contains("src=\"/static/"), "{}: <{tag}>", path.display());
            for attribute in words {
                assert!(!attribute.starts_with("style="), "{}: <{tag}>", path.display());
                let is_handler = attribute.starts_with("on") && attribute.contains('=');
                assert!(!is_handler, "{}: <{tag}>", path.display());
                let loads = attribute.starts_with("src=") || attribute.starts_with("srcset=");
                let loads = loads || element == "link" && attribute.starts_with("href=");
                assert!(!loads || attribute.contains("=\"/"), "{}: <{tag}>", path.display());
            }
        }
    }
    for (path, text) in own_files("css").into_iter().chain(own_files("js")) {
        for word in
            ["@import url(http", "url(http", "url(//", "eval(", "new Function", "innerHTML", "document.write"]
        {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    }
}
