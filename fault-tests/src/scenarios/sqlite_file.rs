//! The SQLite file is deleted, replaced or damaged under a server. Pushes must stop at once, `/readyz` must be
//! red until an operator has done what docs/BACKUP.md says, and then every acknowledged write must be there.

use std::{
    fs::{self, OpenOptions},
    io::{Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use vaultsync_testkit::{history::Outcome, process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    workload::{LoadPlan, WRITES, Workload, operation},
};

pub(super) const DELETED: Scenario = Scenario {
    name: "sqlite-deleted",
    shows: "all files of the database are deleted under load, and saved from the open server",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(rescue(context, Change::Deleted)),
};

pub(super) const REPLACED: Scenario = Scenario {
    name: "sqlite-replaced",
    shows: "a backup is moved over the open database under load; the open file is saved",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(rescue(context, Change::Replaced)),
};

pub(super) const LOG_DELETED: Scenario = Scenario {
    name: "sqlite-log-deleted",
    shows: "the write-ahead log is deleted under load; SIGTERM writes it back",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(rescue(context, Change::LogDeleted)),
};

pub(super) const DAMAGED: Scenario = Scenario {
    name: "sqlite-damaged",
    shows: "pages of the open database are overwritten with zeros, and a backup is put back",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(damaged(context)),
};

const FILE: &str = "vaultsync.sqlite3";

/// How long anything that is waited for may take, on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Deleted,
    Replaced,
    LogDeleted,
}

async fn rescue(context: ScenarioContext, change: Change) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let database = context.sqlite();
    let mut server = ServerProcess::start(context.server(&database)).await?;
    let writes = WriterConfig { ciphertext_bytes_max: 4000, ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&[server.url()].into(), &plan);
    for _ in 0..context.pick(10, 2) {
        wait_for_writes(&workload, 500).await?;
        apply(change, context.folder())?;
        report.count("times changed", 1);
        let refused = workload.tally.totals().with_status(503);
        wait_until(|| workload.tally.totals().with_status(503) > refused + 5).await?;
        let acknowledged = workload.tally.totals().acknowledged;
        report.expect(!server.is_ready().await, || "/readyz is not red".to_owned());
        let still = workload.tally.totals().acknowledged;
        report.expect(acknowledged == still, || "a push was taken after another was not".into());
        if change == Change::LogDeleted {
            server.stop().await?;
        } else {
            save_open_files(&mut server, context.folder())?;
        }
        server.start_again().await?;
    }
    clients.finish().await?;
    report.expect_no_panic(&server);
    server.kill()?;
    report.count("responses 503", workload.tally.totals().with_status(503));
    report.verify(&workload, &database)?;
    Ok(report)
}

fn apply(change: Change, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(FILE);
    match change {
        Change::Deleted => {
            for suffix in ["", "-wal", "-shm", ".lock"] {
                fs::remove_file(folder.join(format!("{FILE}{suffix}")))?;
            }
        }
        Change::Replaced => {
            let backup = folder.join("backup");
            fs::copy(&path, &backup)?;
            fs::rename(backup, path)?;
        }
        Change::LogDeleted => fs::remove_file(folder.join(format!("{FILE}-wal")))?,
    }
    Ok(())
}

/// What docs/BACKUP.md says: copies the files that the server has open, kills it, and puts the copies in
/// place.
fn save_open_files(server: &mut ServerProcess, folder: &Path) -> anyhow::Result<()> {
    let id = server.id().context("the server is not running")?;
    let open = open_files(id)?;
    let saved = folder.join("saved");
    fs::create_dir(&saved)?;
    for suffix in ["", "-wal"] {
        let name = format!("{FILE}{suffix}");
        let is_it = |target: &Path| {
            let target = target.to_string_lossy();
            target.strip_suffix(" (deleted)").unwrap_or(&target).ends_with(&name)
        };
        // The deleted one, if there is a new file of that name.
        let found = open.iter().rfind(|(_, target)| is_it(target));
        let (file, _) = found.with_context(|| format!("{name} is not open"))?;
        fs::copy(file, saved.join(&name))?;
    }
    server.kill()?;
    for suffix in ["-shm", ".lock"] {
        let _ = fs::remove_file(folder.join(format!("{FILE}{suffix}")));
    }
    for suffix in ["", "-wal"] {
        let name = format!("{FILE}{suffix}");
        fs::rename(saved.join(&name), folder.join(&name))?;
    }
    fs::remove_dir(saved)?;
    Ok(())
}

/// The files that a process has open, and where they lead.
fn open_files(process: u32) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        let file = entry?.path();
        // A file may be closed by now.
        if let Ok(target) = fs::read_link(&file) {
            files.push((file, target));
        }
    }
    Ok(files)
}

async fn damaged(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let (database, path) = (context.sqlite(), context.folder().join(FILE));
    let mut server = ServerProcess::start(context.server(&database)).await?;
    let writes = WriterConfig { records: 2000, ciphertext_bytes_max: 2000, ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&[server.url()].into(), &plan);
    wait_for_writes(&workload, context.pick(5_000, 1_500)).await?;
    clients.finish().await?;
    server.stop().await?;
    let backup = context.folder().join("backup");
    fs::copy(&path, &backup)?;

    server.start_again().await?;
    report.count("pages damaged", zero_pages(&path)?);
    let late = workload.with_empty_history();
    let mut client = late.client(0, "late", &[server.url()].into(), 0);
    read_all(&mut client).await;
    report.expect(!server.is_ready().await, || "/readyz is not red".to_owned());
    let pushed = client.push(&[operation("late", None, b"late".to_vec())]).await;
    report.expect(pushed == Outcome::Refused, || format!("a push was not refused: {pushed:?}"));
    report.count("responses 503", late.tally.totals().with_status(503));
    report.expect_no_panic(&server);
    server.kill()?;

    let started = server.start_again().await;
    let message = format!("{:#}", started.err().context("a server starts on a damaged file")?);
    report.expect(message.contains("is damaged"), || format!("the start says: {message}"));
    server.kill()?;
    let verified = Command::new(&context.program)
        .args(["verify", "--database", &database.setting()])
        .output()?;
    report.expect(verified.status.code() == Some(1), || "`verify` finds nothing".to_owned());
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(context.folder().join(format!("{FILE}{suffix}")));
    }
    fs::copy(&backup, &path)?;
    server.start_again().await?;
    server.kill()?;
    report.verify(&workload, &database)?;
    Ok(report)
}

/// Pulls from the start until a page cannot be read.
async fn read_all<S: vaultsync_testkit::workload::Service>(
    client: &mut vaultsync_testkit::workload::Client<S>,
) {
    let mut cursor = None;
    while let Outcome::Page { next_cursor, has_more: true, .. } =
        client.pull(cursor, 100, false).await
    {
        cursor = next_cursor;
    }
}

/// Overwrites every fourth page of the second half with zeros. Returns how many.
fn zero_pages(path: &Path) -> anyhow::Result<u64> {
    const PAGE_BYTES: u64 = 4096;
    let pages = fs::metadata(path)?.len() / PAGE_BYTES;
    ensure!(pages > 100, "the database is too small");
    let mut file = OpenOptions::new().write(true).open(path)?;
    let damaged: Vec<_> = (pages / 2..pages).step_by(4).collect();
    for page in &damaged {
        file.seek(SeekFrom::Start(page * PAGE_BYTES))?;
        file.write_all(&[0; 4096])?;
    }
    Ok(damaged.len() as u64)
}

async fn wait_for_writes(workload: &Workload, more: u64) -> anyhow::Result<()> {
    let before = workload.tally.totals().acknowledged;
    wait_until(|| workload.tally.totals().acknowledged > before + more).await
}

async fn wait_until(condition: impl Fn() -> bool) -> anyhow::Result<()> {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(tokio::time::timeout(WAIT_MAX, waiting).await?)
}
