//! `scenarios/faults.toml`: the rows of the fault table, and what shows each.

use anyhow::{Context, bail};
use device_sim::scenario::Scenario;
use serde::Deserialize;
use std::path::Path;

/// Rows of the table.
const ROWS: u8 = 54;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalog {
    pub(super) row: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) number: u8,
    pub(super) fault: String,
    pub(super) layers: String,
    pub(super) must: String,
    pub(super) not_here: Option<String>,
    /// `FILE TEST`, of tests that hold a rule over hours of virtual time.
    #[serde(default)]
    pub(super) tests: Vec<String>,
    /// Why there is a test and no story.
    pub(super) tests_because: Option<String>,
}

impl Catalog {
    pub(super) fn read(repository: &Path) -> anyhow::Result<Self> {
        let path = repository.join("scenarios/faults.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Every row is there once and is shown by stories, idle and in a critical window, or by tests
    /// with the reason; or it says why it is not here.
    pub(super) fn check(&self, repository: &Path, stories: &[Scenario]) -> anyhow::Result<()> {
        let numbers: Vec<u8> = self.row.iter().map(|row| row.number).collect();
        if numbers != (1..=ROWS).collect::<Vec<_>>() {
            bail!("the rows of scenarios/faults.toml are not 1 to {ROWS}, each once, in order");
        }
        for story in stories {
            for row in &story.rows {
                if !(1..=ROWS).contains(row) {
                    bail!("{} shows row {row}, which is none", story.name);
                }
            }
        }
        for row in &self.row {
            row.check(repository, stories)?;
        }
        Ok(())
    }
}

impl Row {
    fn check(&self, repository: &Path, stories: &[Scenario]) -> anyhow::Result<()> {
        let number = self.number;
        if self.layers.is_empty() || !self.layers.chars().all(|c| "PGBDJ".contains(c)) {
            bail!("row {number}: layers are letters of PGBDJ");
        }
        for test in &self.tests {
            let (file, name) = test
                .split_once(' ')
                .with_context(|| format!("row {number}: {test:?} is not FILE TEST"))?;
            let text = std::fs::read_to_string(repository.join(file))
                .with_context(|| format!("row {number}: {file}"))?;
            if !text.contains(&format!("fn {name}(")) {
                bail!("row {number}: {file} has no test {name}");
            }
        }
        let moments: Vec<_> = stories
            .iter()
            .filter(|story| story.rows.contains(&number))
            .filter_map(|story| story.moment.as_ref())
            .map(|moment| moment.name.as_str())
            .collect();
        let needs = self.layers.chars().any(|c| "PGB".contains(c));
        match &self.not_here {
            Some(_) if needs => bail!("row {number} is detected here and says that it is not"),
            Some(_) => return Ok(()),
            None if !needs => bail!("row {number} has no layer of P, G, B and no reason"),
            None => {}
        }
        if !self.tests.is_empty() && self.tests_because.is_some() {
            return Ok(());
        }
        for wanted in ["idle", "critical"] {
            if !moments.contains(&wanted) {
                bail!(
                    "row {number} ({}) has no story that is lived {wanted}",
                    self.fault
                );
            }
        }
        Ok(())
    }
}
