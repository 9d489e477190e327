//! The results of a run: a table for readers, and the same as JSON.

use std::{fs, path::Path};

use serde::Serialize;

use crate::ScenarioReport;

/// The result of one scenario.
#[derive(Debug, Serialize)]
pub struct Row {
    name: &'static str,
    shows: &'static str,
    programs: Vec<String>,
    counts: Vec<(String, u64)>,
    /// Broken promises, or why the scenario could not be run.
    broken: Vec<String>,
    seconds: u64,
}

impl Row {
    /// The row of a scenario with its result.
    pub fn new(
        name: &'static str,
        shows: &'static str,
        result: anyhow::Result<ScenarioReport>,
        seconds: u64,
    ) -> Self {
        let report = result.unwrap_or_else(|error| ScenarioReport {
            broken: vec![format!("the scenario could not be completed: {error:#}")],
            ..ScenarioReport::default()
        });
        let ScenarioReport { programs, counts, broken } = report;
        Self { name, shows, programs, counts, broken, seconds }
    }

    /// Whether every promise was kept.
    pub fn is_kept(&self) -> bool {
        self.broken.is_empty()
    }

    /// The broken promises, one line each; the first ones if there are many.
    pub fn broken(&self) -> impl Iterator<Item = &str> {
        self.broken.iter().take(20).map(String::as_str)
    }

    fn markdown(&self) -> String {
        let counts = self.counts.iter().map(|(what, number)| format!("{number} {what}"));
        let counts: Vec<_> = self.programs.iter().cloned().chain(counts).collect();
        let promises = match self.broken.len() {
            0 => "kept".to_owned(),
            broken => format!("**{broken} broken**"),
        };
        let Self { name, shows, seconds, .. } = self;
        format!("| `{name}` | {shows} | {} | {seconds} s | {promises} |", counts.join(", "))
    }
}

/// All rows as a Markdown table.
pub fn markdown(rows: &[Row]) -> String {
    let mut lines = vec![
        "| Scenario | What it shows | Counts | Time | Promises |".to_owned(),
        "| --- | --- | --- | --- | --- |".to_owned(),
    ];
    lines.extend(rows.iter().map(Row::markdown));
    lines.join("\n") + "\n"
}

/// Writes `results.md` and `results.json` to a folder.
pub fn write(folder: &Path, rows: &[Row]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("results.md"), markdown(rows))?;
    fs::write(folder.join("results.json"), serde_json::to_string_pretty(rows)? + "\n")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_programs_the_counts_and_the_number_of_broken_promises() {
        let report = |broken: &[&str]| ScenarioReport {
            programs: vec!["nginx 1".to_owned()],
            counts: vec![("kills".to_owned(), 3)],
            broken: broken.iter().map(ToString::to_string).collect(),
        };
        let kept = Row::new("a", "b", Ok(report(&[])), 1);
        assert!(kept.is_kept());
        assert_eq!(kept.markdown(), "| `a` | b | nginx 1, 3 kills | 1 s | kept |");
        let broken = Row::new("a", "b", Ok(report(&["lost"])), 1);
        assert!(!broken.is_kept());
        assert_eq!(broken.markdown(), "| `a` | b | nginx 1, 3 kills | 1 s | **1 broken** |");
        assert!(!Row::new("a", "b", Err(anyhow::anyhow!("no disk")), 1).is_kept());
    }
}
