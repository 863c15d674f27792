//! `docs/faults.md`.

use super::Outcome;
use super::catalog::{Catalog, Row};
use device_sim::scenario::Scenario;
use std::fmt::Write as _;

const HEAD: &str = "# Faults\n\n\
Every fault that Thecal must see, the stories in `scenarios/` that show it, and what came of them. Written by\n\
`cargo run -p evidence -- faults`; with `--check` it fails where a row has no story, a story does not end as it expects, or\n\
this page is not what came of it; so `./test.sh` runs it.\n\n\
Who must detect: P pump, G gateway, B broker's side (recorder, last will), D dashboard, J analysis. Each story is lived\n\
twice: *idle*, and in a *critical* window. Stories of the pump alone run in virtual time, so their times are exact; the\n\
others run on the real gateway, broker and recorder behind a pseudo-terminal, with a second bed beside them, and the\n\
limit stands in the story. In every story: no event missing unless declared, a sound chain, counters that never fall\n\
and that are what the encoder was moved by; behind the pump also: the record equals the journal byte for byte, and the\n\
neighbor's bed is unharmed.\n\n";

pub(super) fn write(catalog: &Catalog, stories: &[Scenario], outcomes: &[Outcome]) -> String {
    let mut page = String::from(HEAD);
    let lived: Vec<_> = stories.iter().zip(outcomes).collect();
    page.push_str("## Rows\n\n| # | fault | by | must be so | shown by | result |\n|---|---|---|---|---|---|\n");
    for row in catalog.row.iter().filter(|row| row.not_here.is_none()) {
        row_line(&mut page, row, &lived);
    }
    page.push_str("\n## Not here\n\nRows that only a dashboard or the analysis detects.\n\n| # | fault | by | must be so | why not here |\n|---|---|---|---|---|\n");
    for row in &catalog.row {
        if let Some(why) = &row.not_here {
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {why} |",
                row.number, row.fault, row.layers, row.must
            );
        }
    }
    page.push_str("\n## Stories\n\n| story | rows | moment | what goes on then | first seen |\n|---|---|---|---|---|\n");
    for (story, outcome) in &lived {
        let rows: Vec<String> = story.rows.iter().map(u8::to_string).collect();
        let (name, during) = story
            .moment
            .as_ref()
            .map_or(("", ""), |m| (m.name.as_str(), m.during.as_str()));
        let _ = writeln!(
            page,
            "| [{0}](../scenarios/{0}.toml) | {1} | {name} | {during} | {2} |",
            story.name,
            rows.join(", "),
            outcome.seen
        );
    }
    page
}

fn row_line(page: &mut String, row: &Row, lived: &[(&Scenario, &Outcome)]) {
    let mine: Vec<_> = lived
        .iter()
        .filter(|(story, _)| story.rows.contains(&row.number))
        .collect();
    let mut shown: Vec<String> = Vec::new();
    for (story, _) in &mine {
        let link = format!("[{0}](../scenarios/{0}.toml)", story.name);
        if !shown.contains(&link) {
            shown.push(link);
        }
    }
    for test in &row.tests {
        let (file, name) = test.split_once(' ').unwrap_or((test, ""));
        shown.push(format!("`{name}` in [{file}](../{file})"));
    }
    let held = mine.iter().filter(|(_, o)| o.complaints.is_empty()).count();
    let mut result = match mine.len() {
        0 => "by test".to_owned(),
        all => format!("{held} of {all} held"),
    };
    if let Some(why) = &row.tests_because {
        let _ = write!(result, "; {why}");
    }
    let _ = writeln!(
        page,
        "| {} | {} | {} | {} | {} | {result} |",
        row.number,
        row.fault,
        row.layers,
        row.must,
        shown.join(", ")
    );
}
