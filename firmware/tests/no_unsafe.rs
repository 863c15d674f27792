//! No `unsafe` outside the board files of the device images: what decides is safe Rust.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::path::{Path, PathBuf};

/// Where the hardware is touched: a folder a board and one for both, and the binaries that begin on them.
fn is_of_a_board(path: &Path) -> bool {
    path.starts_with("firmware/boards") || path.starts_with("firmware/src/bin")
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let skipped = name.starts_with('.') || name.starts_with("target");
        if path.is_dir() && !skipped {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Lines that use the word as Rust does, not in a comment, a text or the name of a lint.
fn uses(text: &str) -> Vec<usize> {
    let word = ["un", "safe"].concat();
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let mut words =
            code.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '\'' | '"')));
        if words.any(|w| w == word) {
            found.push(i + 1);
        }
    }
    found
}

#[test]
fn no_file_but_those_of_a_board_is_unsafe() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let root = root.canonicalize().unwrap();
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 150, "{} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let short = path.strip_prefix(&root).unwrap().to_path_buf();
        if is_of_a_board(&short) {
            continue;
        }
        for line in uses(&std::fs::read_to_string(&path).unwrap()) {
            wrong.push(format!("{}:{line}", short.display()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// The folders of the workspace's crates, its root among them.
fn crates(root: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = text.lines().find(|l| l.starts_with("members = ")).unwrap();
    let members = members.split('"').skip(1).step_by(2);
    let mut all: Vec<PathBuf> = members.map(|member| root.join(member)).collect();
    all.push(root.to_path_buf());
    all
}

#[test]
fn every_crate_forbids_it_where_it_begins_and_takes_the_lints_of_the_workspace() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let all = crates(&root);
    assert!(all.len() > 11, "{} crates", all.len());
    for folder in all {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let place = folder.display();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{place}");
        let mut begins = Vec::from(["src/lib.rs", "src/main.rs"].map(|name| folder.join(name)));
        begins.retain(|path| path.exists());
        let bin = folder.join("src/bin");
        if bin.exists() && !folder.ends_with("firmware") {
            rust_files(&bin, &mut begins);
        }
        assert!(!begins.is_empty(), "{place}");
        for path in begins {
            let text = std::fs::read_to_string(&path).unwrap();
            let forbids = text.contains("\n#![forbid(unsafe_code)]\n");
            assert!(forbids, "{}", path.display());
        }
    }
}

#[test]
fn the_word_is_found_in_code_and_not_in_words_about_it() {
    let word = ["un", "safe"].concat();
    let code = [
        format!("{word} {{ x }}"),
        format!("pub {word} fn f()"),
        format!("#[{word}(no_mangle)]"),
    ];
    for line in &code {
        assert_eq!(uses(line), [1], "{line}");
    }
    let words = [
        format!("// {word}"),
        format!("forbid({word}_code)"),
        format!("\"'{word}-inline'\""),
    ];
    for line in &words {
        assert_eq!(uses(line), Vec::<usize>::new(), "{line}");
    }
}
