//! The server's clock on the wall jumps, both ways and far, while clients write, and one follows
//! through all of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    faults::clock::Clock,
    judge::{Database, judge},
    load::{Crowd, Load, Plan, Position},
    process::{Server, Spec},
};

/// See the module.
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

/// Where the clock stands after each jump, in seconds from the present. The ten years come last,
/// since no vault's clock goes back from there.
const STEPS: &[i64] = &[0, -2, 0, -HOUR, 0, HOUR, HOUR - 2, 0, -HOUR, 10 * YEAR, 0, -HOUR];

/// This process's clock, which goes right, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "only to compare; no server is told the time")]
fn now_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let clock = Clock::new(context.folder())?;
    let path = context.folder().join("vaultsync.sqlite3");
    let mut spec =
        Spec::new(&context.program, context.folder(), format!("sqlite:{}", path.display()));
    spec.variables = clock.variables();
    let data_dir = spec.data_dir.clone();
    let server = Server::start(spec).await?;
    let plan = Plan::default();
    let mut crowd = Crowd::new(&context.program, &data_dir, plan.users)?;
    let mut position = Position::default();
    for _ in 0..context.pick(5, 1) {
        for step in STEPS {
            clock.set(*step)?;
            report.count("jumps", 1);
            // A token of another time is none.
            crowd.sign_in(&context.program, &data_dir, &clock.variables())?;
            let load = Load::start(&crowd, &[server.url()].into(), plan);
            tokio::time::sleep(Duration::from_millis(context.pick(700, 150))).await;
            load.finish().await?;
            let through_all = crowd.session(0, "through all");
            loop {
                let page = through_all.pull(&server.url(), &position, 100, Duration::ZERO).await;
                let page = page.with_context(|| format!("no page at {step} s"))?;
                position.advance(&page);
                if !page.has_more && page.records == 0 {
                    break;
                }
            }
            // Times only rise, so that of the last write shows a jump where it is forward.
            let seen = position.cursor.unwrap_or_default() / 1000 - now_seconds();
            report.expect(*step <= 0 || seen > step - MINUTE, || {
                format!("the clock was set {step} s off, and writes have times {seen} s off")
            });
        }
    }
    report.expect(!server.panicked(), || "the server panicked".to_owned());
    report.broken.extend(crowd.tally.so_far().faults);
    report.take(judge(&crowd.case, &Database::Sqlite(path))?);
    Ok(report)
}
