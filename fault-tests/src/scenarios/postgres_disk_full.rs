//! PostgreSQL's write-ahead log on a disk that runs full: PostgreSQL panics and stops; when there is space
//! again, it is started again.

use std::{fs, os::unix::fs::symlink, time::Duration};

use anyhow::Context as _;
use vaultsync_test_servers::PostgresServer;
use vaultsync_testkit::{process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    shell::{self, SmallDisk},
    verify::Database,
    workload::{LoadPlan, WRITES},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "postgres-disk-full",
    shows: "the disk under PostgreSQL's WAL runs full, it panics, gets space and is started again",
    needs_root: true,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// Size of the disk: a few WAL segments of 16 MiB. Each growth adds the same.
const STEP_KIB: u32 = 72 * 1024;

/// How long clients may take to fill the disk.
const FULL_MAX: Duration = Duration::from_secs(180);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    // More than the disk has, so that PostgreSQL removes no segments before it is full.
    let settings = [("max_wal_size", "4GB"), ("checkpoint_timeout", "1h")];
    let postgres = PostgresServer::start_with(&settings);
    let disk = SmallDisk::mount(context.folder().join("wal"), STEP_KIB)?;
    move_wal(&postgres, &disk)?;
    let database = Database::Postgres(postgres.url("postgres"));
    let server = ServerProcess::start(context.server(&database)).await?;
    let writes =
        WriterConfig { records: 2000, ciphertext_bytes_max: 60_000, batch_max: 12, ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let workload = context.workload(plan.users)?;
    let clients = workload.start(&[server.url()].into(), &plan);
    for round in 1..=context.pick(3, 1) {
        let panicked = async {
            while panics(&postgres) < round {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(FULL_MAX, panicked).await.context("the disk does not run full")?;
        // PostgreSQL tries to recover by itself, and fails for lack of space.
        tokio::time::sleep(Duration::from_secs(2)).await;
        report.count("times full", 1);
        disk.grow(STEP_KIB * (u32::try_from(round)? + 1))?;
        tokio::task::block_in_place(|| {
            postgres.kill();
            postgres.start_again();
        });
    }
    // Enough for the existing log and the rest of the run.
    disk.grow(STEP_KIB * 40)?;
    clients.finish().await?;
    report.expect_no_panic(&server);
    report.count("responses 503", workload.tally.totals().with_status(503));
    report.verify(&workload, &database)?;
    Ok(report)
}

/// Moves the write-ahead log to the disk while the database server is stopped.
fn move_wal(postgres: &PostgresServer, disk: &SmallDisk) -> anyhow::Result<()> {
    postgres.stop();
    let (wal, target) = (postgres.folder().join("pg_wal"), disk.path().join("pg_wal"));
    shell::run("cp", &["-a", &wal.to_string_lossy(), &target.to_string_lossy()])?;
    fs::remove_dir_all(&wal)?;
    symlink(&target, &wal)?;
    // The folders above it belong to this process's user, and the server runs as another user.
    let readable: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    for folder in disk.path().ancestors().take(2) {
        fs::set_permissions(folder, readable.clone())?;
    }
    postgres.start_again();
    Ok(())
}

/// How often PostgreSQL has panicked for lack of space.
fn panics(postgres: &PostgresServer) -> usize {
    let log = postgres.folder().with_file_name("log");
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().filter(|line| line.contains("PANIC") && line.contains("No space left")).count()
}
