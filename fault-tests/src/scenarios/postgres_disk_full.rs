//! PostgreSQL's log of writes on a disk that runs full: it panics and goes down; when there is room
//! again, it is started again.

use std::{fs, os::unix::fs::symlink, time::Duration};

use anyhow::Context as _;
use vaultsync_test_servers::PostgresServer;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    judge::{Database, judge},
    load::{Crowd, Load, Plan},
    process::{Server, Spec},
    shell::{self, SmallDisk},
};

/// See the module.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "postgres-disk-full",
    shows: "the disk under PostgreSQL's WAL runs full, it panics, gets room and is started again",
    needs_root: true,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// Room for a few segments of 16 MiB, and what each growth adds.
const STEP_KIB: u32 = 72 * 1024;

/// How long clients may take to fill the disk.
const FULL_MAX: Duration = Duration::from_secs(180);

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    // More than the disk has, so that PostgreSQL does not tidy up before it is full.
    let settings = [("max_wal_size", "4GB"), ("checkpoint_timeout", "1h")];
    let postgres = PostgresServer::start_with(&settings);
    let disk = SmallDisk::mount(context.folder().join("wal"), STEP_KIB)?;
    move_log(&postgres, &disk)?;
    let url = postgres.url("postgres");
    let spec = Spec::new(&context.program, context.folder(), url.clone());
    let server = Server::start(spec).await?;
    let plan = Plan { records: 2000, bytes_max: 60_000, batch_max: 12, ..Plan::default() };
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), plan.users)?;
    let load = Load::start(&crowd, &[server.url()].into(), plan);
    for round in 1..=context.pick(3, 1) {
        let panicked = async {
            while panics(&postgres) < round {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(FULL_MAX, panicked).await.context("the disk does not run full")?;
        // It tries to come up by itself, and fails for lack of room.
        tokio::time::sleep(Duration::from_secs(2)).await;
        report.count("times full", 1);
        disk.grow(STEP_KIB * (u32::try_from(round)? + 1))?;
        tokio::task::block_in_place(|| {
            postgres.kill();
            postgres.start_again();
        });
    }
    // Past the log that is there, all of it fits.
    disk.grow(STEP_KIB * 40)?;
    load.finish().await?;
    report.expect(!server.panicked(), || "the server panicked".to_owned());
    let counted = crowd.tally.so_far();
    report.count("answers 503", counted.of_status(503));
    report.broken.extend(counted.faults);
    report.take(judge(&crowd.case, &Database::Postgres(url))?);
    Ok(report)
}

/// Puts the log on that disk, where nobody serves from it.
fn move_log(postgres: &PostgresServer, disk: &SmallDisk) -> anyhow::Result<()> {
    postgres.stop();
    let (log, place) = (postgres.folder().join("pg_wal"), disk.path().join("pg_wal"));
    shell::run("cp", &["-a", &log.to_string_lossy(), &place.to_string_lossy()])?;
    fs::remove_dir_all(&log)?;
    symlink(&place, &log)?;
    // The folder above it belongs to whoever runs this, and the server to another.
    let open: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    for folder in disk.path().ancestors().take(2) {
        fs::set_permissions(folder, open.clone())?;
    }
    postgres.start_again();
    Ok(())
}

/// How often it went down for want of room.
fn panics(postgres: &PostgresServer) -> usize {
    let log = postgres.folder().with_file_name("log");
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().filter(|line| line.contains("PANIC") && line.contains("No space left")).count()
}
