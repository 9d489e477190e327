//! Standard error is closed, is a full disk, or is a pipe that is not read, while every request logs a line.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use vaultsync_testkit::{process::ServerProcess, workload::WriterConfig};

use crate::{
    Scenario, ScenarioContext, ScenarioReport, shell,
    workload::{LoadPlan, WRITES},
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "log-sinks",
    shows: "standard error is closed, full, or stalled; no request fails, and the server stops when asked",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

/// Time in which a push must be acknowledged, on a busy machine.
const PROGRESS_MAX: Duration = Duration::from_secs(60);

/// What becomes of standard error.
#[derive(Clone, Copy)]
enum Sink {
    /// A pipe whose reader goes away.
    Closed,
    /// A device on which no space is left.
    Full,
    /// A pipe that is not read.
    Stalled,
}

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let database = context.sqlite();
    let writes = WriterConfig { pause: Duration::from_millis(5), ..WRITES };
    let plan = LoadPlan { writes, ..LoadPlan::default() };
    let mut workload = context.workload(plan.users)?;
    for sink in [Sink::Closed, Sink::Full, Sink::Stalled] {
        let pipe = Pipe::create(context.folder())?;
        let mut config = context.server(&database);
        config.log = "info";
        config.wrapper = redirected(match sink {
            Sink::Closed | Sink::Stalled => &pipe.path,
            Sink::Full => Path::new("/dev/full"),
        });
        let mut server = ServerProcess::start(config).await?;
        // The pipe stays open for as long as this handle.
        let unread = matches!(sink, Sink::Stalled).then_some(pipe);
        // Clients of the last server had the same names.
        workload.renew_tokens(&context.program, &context.data_dir(), &[])?;
        let clients = workload.start(&[server.url()].into(), &plan);
        // The fault needs some time to show, and pushes must be acknowledged after it too.
        tokio::time::sleep(Duration::from_secs(context.pick(40, 3))).await;
        let before = workload.tally.totals().acknowledged;
        let acknowledged = async {
            while workload.tally.totals().acknowledged == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let acknowledged = tokio::time::timeout(PROGRESS_MAX, acknowledged).await;
        report.expect(acknowledged.is_ok(), || "no push is acknowledged any longer".to_owned());
        server.wait_until_ready().await?;
        clients.finish().await?;
        let status = server.stop().await?;
        report.expect(status.success(), || format!("a server stopped with {status}"));
        report.count("sinks", 1);
        drop(unread);
    }
    let totals = workload.tally.totals();
    report.count("responses 503", totals.with_status(503));
    // A busy machine, on which the tests run this, may be taken for overload.
    let overloaded = context.pick(totals.with_status(503), 0);
    let unserved = totals.unreached + totals.unanswered + overloaded;
    report.expect(unserved == 0, || format!("{unserved} requests were not served"));
    report.verify(&workload, &database)?;
    Ok(report)
}

/// A command that runs the server with its standard error at this path.
fn redirected(stderr: &Path) -> Vec<String> {
    let shell = format!("exec \"$0\" \"$@\" 2>'{}'", stderr.display());
    ["sh".to_owned(), "-c".to_owned(), shell].into()
}

/// A named pipe, and a handle that keeps it open and reads nothing.
struct Pipe {
    path: PathBuf,
    _open: File,
}

impl Pipe {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("standard-error");
        if !path.exists() {
            shell::run("mkfifo", &[&path.to_string_lossy()])?;
        }
        // For reading too, because opening it for writing alone waits for a reader.
        let open = File::options().read(true).write(true).open(&path)?;
        Ok(Self { path, _open: open })
    }
}
