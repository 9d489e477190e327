//! The report of a run.

mod comparison;
mod goals;
mod svg;
mod table;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

pub(crate) use table::grouped;

use crate::{
    record_ids::RecordIds,
    rounds::{Plan, Sample},
};

/// The markers in the page between which the tables are replaced.
const MEASURED: [&str; 2] = ["<!-- measured: begin -->", "<!-- measured: end -->"];
const FIRST_SYNC: [&str; 2] = ["<!-- first-sync: begin -->", "<!-- first-sync: end -->"];
const GROWTH: [&str; 2] = ["<!-- growth: begin -->", "<!-- growth: end -->"];

/// The link to the chart in the page.
const CHART: &str = "![Rates as multiples of the baseline; the tables have the same figures]\
                     (performance.svg)";

/// What was measured, and on which machine.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) postgres: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) date: Option<String>,
    pub(crate) plan: Plan,
    pub(crate) notes: Vec<String>,
}

/// The report of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) setting: Setting,
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    /// Prints the tables, and writes them and the chart to `target/bench`, and to `docs/` if `docs` is set.
    pub(crate) fn write(&self, docs: bool) -> anyhow::Result<()> {
        let tables = self.tables();
        let rows = |workload| (workload, table::rows(&self.samples, workload));
        let groups: Vec<_> = self.setting.plan.workloads.iter().copied().map(rows).collect();
        let chart = svg::chart(&groups);
        println!("{tables}");
        let root = root()?;
        let folder = root.join("target/bench");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("performance.md"), &tables)?;
        fs::write(folder.join("performance.svg"), &chart)?;
        if docs {
            write_to_page(&root, MEASURED, &format!("{CHART}\n\n{tables}"))?;
            fs::write(root.join("docs/performance.svg"), chart)?;
        }
        Ok(())
    }

    fn tables(&self) -> String {
        let mut text = self.setting.description();
        for note in &self.setting.notes {
            let _ = write!(text, "\n{note}");
        }
        text.push('\n');
        for workload in &self.setting.plan.workloads {
            text.push_str(&table::table(*workload, &table::rows(&self.samples, *workload)));
        }
        text.push_str(&comparison::table(&self.samples));
        // The goals are about what apps do.
        if self.setting.plan.ids == RecordIds::Random {
            text.push_str(&goals::table(&self.samples));
        }
        text
    }
}

impl Setting {
    /// What the figures were measured with.
    fn description(&self) -> String {
        let Plan { rounds, seconds, clients, ids, .. } = &self.plan;
        let mut text = format!(
            "{rounds} rounds of {seconds} s, {clients} clients, {} record ids, on {}",
            ids.name(),
            machine()
        );
        if let Some(version) = &self.postgres {
            let _ = write!(text, ", PostgreSQL {version}");
        }
        if let Some(date) = &self.date {
            let _ = write!(text, ", {date}");
        }
        if let Some(commit) = &self.commit {
            let _ = write!(text, ", commit {commit}");
        }
        text + "."
    }
}

/// A description of the processors and the system.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

/// The root of the workspace.
fn root() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("this package is in no workspace")?
        .to_owned())
}

/// Writes the tables of `growth` to `target/bench`, and to the page if `docs` is set.
pub(crate) fn write_growth(tables: &str, docs: bool) -> anyhow::Result<()> {
    write_tables("growth.md", GROWTH, tables, docs)
}

/// Writes the table of `first-sync` to `target/bench`, and to the page if `docs` is set.
pub(crate) fn write_first_sync(table: &str, docs: bool) -> anyhow::Result<()> {
    write_tables("first-sync.md", FIRST_SYNC, table, docs)
}

fn write_tables(file: &str, markers: [&str; 2], tables: &str, docs: bool) -> anyhow::Result<()> {
    let root = root()?;
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(file), tables)?;
    if docs { write_to_page(&root, markers, tables) } else { Ok(()) }
}

fn write_to_page(root: &Path, markers: [&str; 2], tables: &str) -> anyhow::Result<()> {
    let page = root.join("docs/PERFORMANCE.md");
    let text = fs::read_to_string(&page)?;
    let text =
        replace_between(&text, markers, tables).context("docs/PERFORMANCE.md has no markers")?;
    Ok(fs::write(page, text)?)
}

/// The page with new text between its markers; `None` if it has no markers.
fn replace_between(page: &str, [begin, end]: [&str; 2], tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", tables.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_markers_is_replaced() {
        let [begin, end] = MEASURED;
        let page = format!("above\n\n{begin}\nold\n{end}\n\nbelow\n");
        let replaced = replace_between(&page, MEASURED, "\nnew\n").unwrap();
        assert_eq!(replaced, format!("above\n\n{begin}\n\nnew\n\n{end}\n\nbelow\n"));
        assert_eq!(replace_between(&replaced, MEASURED, "new").unwrap(), replaced);
        assert_eq!(replace_between(&page, GROWTH, "new"), None);
    }
}
