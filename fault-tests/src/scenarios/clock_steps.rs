//! The server's wall clock jumps far in both directions while clients write, and one reader follows through
//! all jumps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use vaultsync_testkit::{
    history::Outcome,
    process::ServerProcess,
    workload::{Client, HttpService},
};

use crate::{
    Scenario, ScenarioContext, ScenarioReport, faults::clock::ShiftedClock, workload::LoadPlan,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "clock-steps",
    shows: "the server's clock jumps by -2 s, -1 h, +1 h and +10 years, and back",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const YEAR: i64 = 365 * 24 * HOUR;

/// The offset of the clock after each jump, in seconds. The ten years come last, because the clock of a
/// vault never goes back from there.
const OFFSETS: &[i64] = &[0, -2, 0, -HOUR, 0, HOUR, HOUR - 2, 0, -HOUR, 10 * YEAR, 0, -HOUR];

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let clock = ShiftedClock::new(context.folder())?;
    let database = context.sqlite();
    let mut config = context.server(&database);
    config.variables = clock.variables();
    let server = ServerProcess::start(config).await?;
    let addresses = [server.url()].into();
    let plan = LoadPlan::default();
    let mut workload = context.workload(plan.users)?;
    let mut reader = workload.client(0, "reader", &addresses, 0);
    let mut cursor = None;
    for _ in 0..context.pick(5, 1) {
        for offset in OFFSETS {
            clock.set_offset(*offset)?;
            report.count("jumps", 1);
            // A token from another time is not valid.
            workload.renew_tokens(&context.program, &context.data_dir(), &clock.variables())?;
            let clients = workload.start(&addresses, &plan);
            tokio::time::sleep(Duration::from_millis(context.pick(700, 150))).await;
            clients.finish().await?;
            reader.service.set_token(workload.token(0));
            cursor = read_to_end(&mut reader, cursor).await?;
            // Times only increase, so the time of the last write shows a jump if it is forward.
            let observed = cursor.unwrap_or_default() / 1000 - now_seconds();
            report.expect(*offset <= 0 || observed > offset - MINUTE, || {
                format!("the clock is {offset} s off, but the last write is {observed} s off")
            });
        }
    }
    report.expect_no_panic(&server);
    report.verify(&workload, &database)?;
    Ok(report)
}

/// Reads from a cursor to the end of the vault, and returns the last cursor.
async fn read_to_end(
    reader: &mut Client<HttpService>,
    mut cursor: Option<i64>,
) -> anyhow::Result<Option<i64>> {
    loop {
        match reader.pull(cursor, 100, false).await {
            Outcome::Page { records, next_cursor, has_more, .. } => {
                cursor = next_cursor.or(cursor);
                if records.is_empty() && !has_more {
                    return Ok(cursor);
                }
            }
            outcome => bail!("the reader got no page: {outcome:?}"),
        }
    }
}

/// The clock of this process, which does not jump, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "only for a comparison; no server gets this time")]
fn now_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
