//! Imports and type definitions of every file under `src/`, read from its tokens.
//!
//! Items behind `#[cfg(test)]` are left out, and so are paths that macros build at expansion.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path that a file names: `crate::db::store::Store` as its segments.
struct Import {
    path: Vec<String>,
    is_reexport: bool,
}

/// One Rust file.
pub struct SourceFile {
    /// Relative to `src/`: `db/store.rs`.
    pub name: String,
    /// Module path; empty for the crate root.
    module: Vec<String>,
    /// Paths in `use` declarations.
    uses: Vec<Import>,
    /// Paths in other places, such as `super::store::open()`.
    inline: Vec<Vec<String>>,
    /// Names of the structs, enums, traits, unions and aliases defined at the top level.
    pub types: Vec<String>,
}

impl SourceFile {
    fn parse(name: String, text: &str) -> Self {
        let mut module: Vec<String> =
            name.trim_end_matches(".rs").split('/').map(ToOwned::to_owned).collect();
        if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
            module.pop();
        }
        let mut file = Self { name, module, uses: Vec::new(), inline: Vec::new(), types: Vec::new() };
        let tokens: TokenStream =
            text.parse().unwrap_or_else(|error| panic!("{} does not parse: {error}", file.name));
        file.scan(tokens, true);
        file
    }

    /// Top-level folder or file: `db`, `clock`, `main`.
    pub fn layer(&self) -> &str {
        self.name.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// Names that start a path: those of external crates among them.
    pub fn path_roots(&self) -> BTreeSet<&str> {
        let used = self.uses.iter().map(|import| &import.path);
        used.chain(&self.inline).map(|path| path[0].as_str()).collect()
    }

    /// Reports whether a path in this file contains these segments: `Instant::now`.
    pub fn uses_path(&self, segments: &str) -> bool {
        let segments: Vec<&str> = segments.split("::").collect();
        let used = self.uses.iter().map(|import| &import.path);
        used.chain(&self.inline).any(|path| path.windows(segments.len()).any(|part| part == segments))
    }

    fn scan(&mut self, tokens: TokenStream, is_top_level: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            if is_test_attribute(&tokens[at..]) {
                at = end_of_item(&tokens, at);
                continue;
            }
            match &tokens[at] {
                TokenTree::Group(group) => self.scan(group.stream(), false),
                TokenTree::Ident(word) if word == "use" && is_name(tokens.get(at + 1)) => {
                    let end = end_of_item(&tokens, at);
                    let is_reexport = at > 0
                        && match &tokens[at - 1] {
                            TokenTree::Ident(word) => word == "pub",
                            TokenTree::Group(group) => group.delimiter() == Delimiter::Parenthesis,
                            _ => false,
                        };
                    let tree = &tokens[at + 1..end];
                    self.uses
                        .extend(expand_use_tree(tree).into_iter().map(|path| Import { path, is_reexport }));
                    at = end;
                    continue;
                }
                TokenTree::Ident(word)
                    if is_top_level
                        && ["struct", "enum", "trait", "union", "type"].iter().any(|kind| word == kind) =>
                {
                    self.types.push(tokens[at + 1].to_string());
                }
                TokenTree::Ident(word) if is_path_separator(&tokens, at + 1) => {
                    let mut path = vec![word.to_string()];
                    while is_path_separator(&tokens, at + 1) && is_name(tokens.get(at + 3)) {
                        at += 3;
                        path.push(tokens[at].to_string());
                    }
                    self.inline.push(path);
                }
                _ => {}
            }
            at += 1;
        }
    }
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

fn is_name(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Ident(_)))
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':')
}

fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    is_punct(tokens.first(), '#')
        && matches!(tokens.get(1), Some(TokenTree::Group(group))
            if group.delimiter() == Delimiter::Bracket
                && group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// Index after the item that starts at `start`: after its `;` or its braces.
fn end_of_item(tokens: &[TokenTree], start: usize) -> usize {
    let is_use = tokens[start].to_string() == "use";
    let is_end = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => !is_use && group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    tokens[start..].iter().position(is_end).map_or(tokens.len(), |length| start + length + 1)
}

/// Every path of a `use` tree: `a::{b as x, c::{self, d}}` becomes `a::b`, `a::c`, `a::c::d`.
fn expand_use_tree(tree: &[TokenTree]) -> Vec<Vec<String>> {
    let mut prefix: Vec<String> = Vec::new();
    for token in tree {
        match token {
            TokenTree::Ident(word) if word == "as" => break,
            TokenTree::Ident(word) if word == "self" && !prefix.is_empty() => break,
            TokenTree::Ident(word) => prefix.push(word.to_string()),
            TokenTree::Group(group) => {
                let branches: Vec<TokenTree> = group.stream().into_iter().collect();
                let branches = branches.split(|token| is_punct(Some(token), ','));
                let paths = branches.filter(|branch| !branch.is_empty()).flat_map(expand_use_tree);
                return paths.map(|path| [prefix.clone(), path].concat()).collect();
            }
            _ => {}
        }
    }
    vec![prefix]
}

/// All files under `src/` and the imports between them.
pub struct ImportGraph {
    pub files: Vec<SourceFile>,
    /// For each file, the indices of the files that it imports from.
    imports: Vec<BTreeSet<usize>>,
}

impl ImportGraph {
    /// Reads `src/`.
    pub fn of_this_crate() -> Self {
        let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        Self::new(rust_files(src).into_iter().map(|path| {
            let name = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        }))
    }

    /// Builds the graph from file names, relative to `src/`, and contents.
    pub fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let files: Vec<SourceFile> =
            files.into_iter().map(|(name, text)| SourceFile::parse(name, &text)).collect();
        let modules = ModuleTree::new(&files);
        let imports = files.iter().enumerate().map(|(index, file)| {
            // A parent that re-exports its children does not depend on them.
            let is_parent = file.name.ends_with("mod.rs") || file.name == "lib.rs";
            let uses = file.uses.iter().filter(|import| !(is_parent && import.is_reexport));
            let used = uses.filter_map(|import| modules.absolute(&import.path, &file.module, true));
            let inline = file.inline.iter().filter_map(|path| modules.absolute(path, &file.module, false));
            let targets = used.chain(inline).filter_map(|path| modules.file_of(&path, 0));
            targets.filter(|target| *target != index).collect()
        });
        Self { imports: imports.collect(), files }
    }

    /// Every import: from file, to file.
    pub fn edges(&self) -> impl Iterator<Item = (&SourceFile, &SourceFile)> {
        self.imports.iter().enumerate().flat_map(move |(from, targets)| {
            targets.iter().map(move |to| (&self.files[from], &self.files[*to]))
        })
    }

    /// For each file that imports itself through others, the names along a shortest such path.
    pub fn cycles(&self) -> Vec<Vec<&str>> {
        (0..self.files.len()).filter_map(|file| self.shortest_cycle(file)).collect()
    }

    fn shortest_cycle(&self, start: usize) -> Option<Vec<&str>> {
        let mut reached_from = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(file) = queue.pop_front() {
            for &target in &self.imports[file] {
                if target == start {
                    let back = std::iter::successors(Some(file), |file| reached_from.get(file).copied());
                    let mut names: Vec<&str> = back.map(|file| self.files[file].name.as_str()).collect();
                    names.reverse();
                    return Some(names);
                }
                if let std::collections::btree_map::Entry::Vacant(entry) = reached_from.entry(target) {
                    entry.insert(file);
                    queue.push_back(target);
                }
            }
        }
        None
    }
}

/// Finds the file that a path leads to.
struct ModuleTree {
    files: BTreeMap<Vec<String>, usize>,
    /// For each module, the names that it re-exports and what they stand for.
    reexports: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
}

impl ModuleTree {
    fn new(files: &[SourceFile]) -> Self {
        let library = files.iter().enumerate().filter(|(_, file)| file.name != "main.rs");
        let mut tree = Self {
            files: library.map(|(index, file)| (file.module.clone(), index)).collect(),
            reexports: BTreeMap::new(),
        };
        for file in files {
            for import in file.uses.iter().filter(|import| import.is_reexport) {
                if let Some(path) = tree.absolute(&import.path, &file.module, true)
                    && let Some(name) = path.last()
                {
                    let names = tree.reexports.entry(file.module.clone()).or_default();
                    names.insert(name.clone(), path.clone());
                }
            }
        }
        tree
    }

    /// The path from the crate root, or `None` for a path into another crate.
    fn absolute(&self, path: &[String], module: &[String], may_name_child: bool) -> Option<Vec<String>> {
        let supers = path.iter().take_while(|segment| *segment == "super").count();
        match path[0].as_str() {
            "crate" | "coffee_tracker" => Some(path[1..].to_vec()),
            "super" => Some([&module[..module.len().checked_sub(supers)?], &path[supers..]].concat()),
            "self" => Some([module, &path[1..]].concat()),
            first if may_name_child => {
                let child = [module, &[first.to_owned()]].concat();
                self.files.contains_key(&child).then(|| [module, path].concat())
            }
            _ => None,
        }
    }

    /// The file that defines the last segment that can be followed.
    fn file_of(&self, path: &[String], depth: usize) -> Option<usize> {
        for length in (0..=path.len()).rev() {
            let (module, rest) = path.split_at(length);
            let Some(&file) = self.files.get(module) else { continue };
            if depth < 8
                && let Some((name, rest)) = rest.split_first()
                && let Some(target) = self.reexports.get(module).and_then(|names| names.get(name))
                && target != path
            {
                return self.file_of(&[target, rest].concat(), depth + 1);
            }
            return Some(file);
        }
        None
    }
}

/// Every Rust file below `folder`, sorted.
pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "no Rust file in {}", folder.display());
    files
}

/// The graph of files that are given as name and content.
fn graph(files: &[(&str, &str)]) -> ImportGraph {
    ImportGraph::new(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
}

#[test]
fn a_path_is_followed_through_reexports_to_the_file_that_defines_the_type() {
    let graph = graph(&[
        ("lib.rs", "pub mod db; pub mod http;"),
        ("db/mod.rs", "mod store; pub use store::Store;"),
        ("db/store.rs", "pub struct Store;"),
        ("http.rs", "use crate::{db::{self, Store as S}}; fn f() { println!(\"{}\", crate::db::Other) }"),
    ]);
    let edges: Vec<_> = graph.edges().map(|(from, to)| (from.name.as_str(), to.name.as_str())).collect();
    assert_eq!(edges, [("http.rs", "db/mod.rs"), ("http.rs", "db/store.rs")]);
}

#[test]
fn a_cycle_through_use_trees_inline_paths_and_macros_is_found_and_test_modules_are_not() {
    let text_b = "fn f() { vec![super::c::G] } #[cfg(test)] mod tests { use crate::d::H; }";
    let graph = graph(&[
        ("a.rs", "use super::b::{f, g};"),
        ("b.rs", text_b),
        ("c.rs", "/// Uses `crate::d`.\nfn g() { let x = crate::a::F; }"),
        ("d.rs", "use crate::b;"),
    ]);
    let cycles = graph.cycles();
    assert_eq!(cycles, [["a.rs", "b.rs", "c.rs"], ["b.rs", "c.rs", "a.rs"], ["c.rs", "a.rs", "b.rs"]]);
}
