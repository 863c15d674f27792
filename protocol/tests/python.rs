//! The golden vectors, computed once more by a program that shares nothing with this one.
#![cfg(feature = "host")]

use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "needs python3"]
fn an_independent_script_computes_the_same_bytes() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors_check.py");
    let out = Command::new("python3")
        .arg(script)
        .output()
        .expect("python3 is installed");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(text.contains("vectors agree"), "{text}");
}
