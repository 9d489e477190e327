//! What is told of a run.

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

use crate::rounds::{Plan, Sample};

/// Where the tables stand in the page: what is between these is written anew.
const MEASURED: [&str; 2] = ["<!-- measured: begin -->", "<!-- measured: end -->"];
const GROWTH: [&str; 2] = ["<!-- growth: begin -->", "<!-- growth: end -->"];

/// How the page shows the chart.
const CHART: &str = "![Rates as multiples of the plain design; the tables have the same figures]\
                     (performance.svg)";

/// What was measured, and on what.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) postgres: Option<String>,
    pub(crate) commit: Option<String>,
    pub(crate) date: Option<String>,
    pub(crate) plan: Plan,
    pub(crate) notes: Vec<String>,
}

/// A run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) setting: Setting,
    pub(crate) samples: Vec<Sample>,
}

impl Report {
    /// Prints the tables, and writes them and the chart to `target/bench`, and to `docs` if wanted.
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
        let mut text = self.setting.sentence();
        for note in &self.setting.notes {
            let _ = write!(text, "\n{note}");
        }
        text.push('\n');
        for workload in &self.setting.plan.workloads {
            text.push_str(&table::table(*workload, &table::rows(&self.samples, *workload)));
        }
        text + &goals::table(&self.samples)
    }
}

impl Setting {
    /// What the figures are of.
    fn sentence(&self) -> String {
        let Plan { rounds, seconds, clients, .. } = &self.plan;
        let mut text =
            format!("{rounds} rounds of {seconds} s, {clients} clients, on {}", machine());
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

/// The processors and the system.
fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unnamed processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

/// The root of the workspace.
fn root() -> anyhow::Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?.to_owned())
}

/// Writes what growth came to to `target/bench`, and to the page if wanted.
pub(crate) fn write_growth(tables: &str, docs: bool) -> anyhow::Result<()> {
    let root = root()?;
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("growth.md"), tables)?;
    if docs { write_to_page(&root, GROWTH, tables) } else { Ok(()) }
}

fn write_to_page(root: &Path, markers: [&str; 2], tables: &str) -> anyhow::Result<()> {
    let page = root.join("docs/PERFORMANCE.md");
    let text = fs::read_to_string(&page)?;
    let text = put_between(&text, markers, tables).context("the page has lost its markers")?;
    Ok(fs::write(page, text)?)
}

/// A page with these tables between its markers; `None` where it has none.
fn put_between(page: &str, [begin, end]: [&str; 2], tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n\n{}\n\n{end}{after}", tables.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_is_written_anew() {
        let [begin, end] = MEASURED;
        let page = format!("above\n\n{begin}\nold\n{end}\n\nbelow\n");
        let put = put_between(&page, MEASURED, "\nnew\n").unwrap();
        assert_eq!(put, format!("above\n\n{begin}\n\nnew\n\n{end}\n\nbelow\n"));
        assert_eq!(put_between(&put, MEASURED, "new").unwrap(), put);
        assert_eq!(put_between(&page, GROWTH, "new"), None);
    }
}
