//! A push is applied but its response is lost, so the client sends it again; half of the time another
//! device has updated the same records in between.
//!
//! The retry must be answered 200 with the versions of the first attempt, never 409.

use vaultsync_protocol::{Operation, Version};
use vaultsync_testkit::{
    history::{Outcome, WriteResult},
    process::ServerProcess,
};

use crate::{
    Scenario, ScenarioContext, ScenarioReport, faults::proxy::LossyProxy, workload::operation,
};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lost-responses",
    shows: "responses to applied pushes are lost, and the pushes retried, with others in between",
    needs_root: false,
    by_default: true,
    run: |context| Box::pin(run(context)),
};

const RECORDS: usize = 3;

async fn run(context: ScenarioContext) -> anyhow::Result<ScenarioReport> {
    let mut report = ScenarioReport::default();
    let database = context.sqlite();
    let server = ServerProcess::start(context.server(&database)).await?;
    let proxy = LossyProxy::start(server.port()).await?;
    let workload = context.workload(1)?;
    let direct = [server.url()].into();
    let mut through_proxy = workload.client(0, "first device", &[proxy.url()].into(), 0);
    let mut first = workload.client(0, "first device", &direct, 0);
    let mut second = workload.client(0, "second device", &direct, 0);
    for number in 0..context.pick(1000, 40) {
        // New records each time, so that the right response is known.
        let push = operations(number, "first device", None);
        proxy.lose_next();
        let outcome = through_proxy.push(&push).await;
        let is_lost = matches!(outcome, Outcome::Refused | Outcome::Unknown);
        report.expect(is_lost, || format!("the response was not lost: {outcome:?}"));
        if number % 2 == 0 {
            let update = operations(number, "second device", Some(Version::FIRST));
            let outcome = second.push(&update).await;
            let is_applied = matches!(outcome, Outcome::Acknowledged { .. });
            report.expect(is_applied, || format!("the update was not applied: {outcome:?}"));
            report.count("updated in between", 1);
        }
        let expected =
            Outcome::Acknowledged { results: (0..RECORDS).map(result(number)).collect() };
        for client in [&mut through_proxy, &mut first] {
            let outcome = client.push(&push).await;
            report.expect(outcome == expected, || format!("the retry got {outcome:?}"));
            let is_conflict = matches!(outcome, Outcome::Conflict { .. });
            report.count("retries answered 409", u64::from(is_conflict));
        }
    }
    report.count("responses lost", proxy.lost());
    report.verify(&workload, &database)?;
    Ok(report)
}

fn operations(number: usize, device: &str, base_version: Option<Version>) -> Vec<Operation> {
    let operation = |record| {
        let ciphertext = format!("{number} {record} of {device}").into_bytes();
        operation(&record_id(number, record), base_version, ciphertext)
    };
    (0..RECORDS).map(operation).collect()
}

fn result(number: usize) -> impl Fn(usize) -> WriteResult {
    move |record| WriteResult {
        record_id: record_id(number, record).into(),
        version: 1,
        updated_at: None,
    }
}

fn record_id(number: usize, record: usize) -> String {
    format!("record-{number}-{record}")
}
