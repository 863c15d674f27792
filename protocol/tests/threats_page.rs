//! Each test that `docs/threats.md` names exists.

use std::path::Path;

#[test]
fn every_threat_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter(|l| l.starts_with("| S")).collect();
    let named: Vec<&str> = rows.iter().map(|r| r.split(' ').nth(1).unwrap()).collect();
    let wanted = "S1 S2 S3 S4 S5 S6 S7 S8 S11 S12 S13 S14 S16 S17 S20";
    assert_eq!(named.join(" "), wanted);
    for row in rows {
        let tests: Vec<_> = row.split('`').filter(|part| part.contains("::")).collect();
        let tests: Vec<_> = tests
            .iter()
            .filter(|t| t.contains(".rs::") || t.contains(".sh::"))
            .collect();
        assert!(!tests.is_empty(), "{row}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap();
            let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
            let there = if Path::new(file).extension().is_some_and(|e| e == "rs") {
                text.contains(&format!("fn {name}("))
            } else {
                text.contains(name)
            };
            assert!(there, "{file} has no {name}");
        }
    }
}
