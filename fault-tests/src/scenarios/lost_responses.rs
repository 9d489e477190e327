//! A push is applied and its answer is lost, so the client sends it again; half of the time another
//! device has written the same records in between.
//!
//! Sent again, it must be answered 200 with the versions it was given, and never 409.

use crate::{
    Scenario, ScenarioContext, ScenarioReport,
    faults::proxy::LossyLine,
    judge::{Database, judge},
    load::{Batch, Change, Crowd, Session, Told},
    process::{Server, Spec},
};

/// See the module.
pub(super) const SCENARIO: Scenario = Scenario {
    name: "lost-responses",
    shows: "answers to applied pushes are lost, and the pushes sent again, with others in between",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

const RECORDS: usize = 3;

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let path = context.folder().join("vaultsync.sqlite3");
    let spec = Spec::new(&context.program, context.folder(), format!("sqlite:{}", path.display()));
    let server = Server::start(spec).await?;
    let line = LossyLine::to(server.port()).await?;
    let crowd = Crowd::new(&context.program, &context.folder().join("data"), 1)?;
    let (here, there) = (crowd.session(0, "here"), crowd.session(0, "there"));
    for number in 0..context.pick(1000, 40) {
        // Records of its own each time, so that what must be answered is known.
        let batch = push(&here, number, None);
        line.lose_next();
        let told = here.push(&line.url(), &batch).await;
        report.expect(told == Told::Unserved, || format!("the answer came through: {told:?}"));
        if number % 2 == 0 {
            let over = there.push(&server.url(), &push(&there, number, Some(1))).await;
            report.expect(matches!(over, Told::Applied(_)), || format!("no write over: {over:?}"));
            report.count("written over meanwhile", 1);
        }
        let expected = (0..RECORDS).map(|record| (name(number, record), 1)).collect();
        let expected = Told::Applied(expected);
        for url in [line.url(), server.url()] {
            let told = here.push(&url, &batch).await;
            report.expect(told == expected, || format!("sent again: {told:?}"));
            report.count("told 409 wrongly", u64::from(matches!(told, Told::Conflict(_))));
        }
    }
    report.count("answers lost", line.lost());
    report.broken.extend(crowd.tally.so_far().faults);
    report.take(judge(&crowd.case, &Database::Sqlite(path))?);
    Ok(report)
}

fn push(by: &Session, number: usize, base_version: Option<u64>) -> Batch {
    let change = |record| Change {
        record_id: name(number, record),
        base_version,
        ciphertext: format!("{number} {record} of {}", by.device()).into_bytes(),
        deleted: false,
    };
    Batch::new(&(0..RECORDS).map(change).collect::<Vec<_>>())
}

fn name(number: usize, record: usize) -> String {
    format!("record-{number}-{record}")
}
