//! No `unsafe` outside the board files of the device images: what decides is safe Rust.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::path::{Path, PathBuf};

/// Where the hardware is touched: one file a board, and the binaries that begin on it.
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
