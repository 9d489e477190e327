//! Whether the figures stay as the server has more to hold: users, records of a vault, clients, and idle
//! event streams.

use std::{fmt::Write as _, thread, time::Duration};

use anyhow::Context as _;

use crate::{
    cpu::resident_kib,
    load::User,
    report::{grouped, write_growth},
    rounds::{Plan, measure, number, window},
    targets::{Bench, HttpTarget, Target as _, on_postgres, on_sqlite},
    workloads::Workload,
};

const USERS: [usize; 4] = [10, 100, 1_000, 10_000];
const RECORDS: [u64; 4] = [1, 10_000, 100_000, 1_000_000];
const CLIENTS: [usize; 3] = [8, 64, 256];
const STREAMS: [usize; 3] = [0, 1_000, 5_000];

/// What is asked at each size; reading comes first, because pushes make a vault larger.
const WORKLOADS: [Workload; 3] = [Workload::PullIdle, Workload::Push1, Workload::Push100];

/// How much less than at the first size still counts as flat.
const FLAT: f64 = 0.8;

/// A figure at each size.
#[derive(Debug, PartialEq)]
struct Series {
    name: String,
    values: Vec<f64>,
}

impl Series {
    /// Whether no size has less than four fifths of the first.
    fn is_flat(&self) -> bool {
        let Some(first) = self.values.first() else { return false };
        self.values.iter().all(|value| *value >= first * FLAT)
    }
}

/// Runs all of it, prints the tables, and writes them to the page if wanted.
pub(crate) fn run(seconds: u32, clients: usize, docs: bool) -> anyhow::Result<()> {
    let bench = Bench::new(None)?;
    let (mut users, mut records, mut more_clients) = (Vec::new(), Vec::new(), Vec::new());
    let mut streams = String::new();
    for start in [on_postgres, on_sqlite] {
        let mut target = start(&bench)?;
        let plan = Plan { workloads: WORKLOADS.to_vec(), rounds: 1, seconds, clients };
        streams.push_str(&of_streams(&mut target)?);
        of_clients(&mut target, &plan, &mut more_clients)?;
        of_users(&mut target, &plan, &mut users)?;
        of_records(&mut target, &plan, &mut records)?;
    }
    let mut text = table("users", &USERS.map(|size| size as u64), &users);
    text.push_str(&table("records in the vault", &RECORDS, &records));
    text.push_str(&table("clients", &CLIENTS.map(|size| size as u64), &more_clients));
    text.push_str("\n| idle event streams | streams | MiB | KiB a stream |\n");
    text.push_str("| --- | --: | --: | --: |\n");
    text.push_str(&streams);
    println!("{text}");
    write_growth(&text, docs)
}

/// Each workload at the size that the target was brought to.
fn at_size(target: &mut HttpTarget, plan: &Plan, series: &mut Vec<Series>) -> anyhow::Result<()> {
    for workload in WORKLOADS {
        let rate = measure(plan, target, workload)?.rate;
        add(series, target.name, workload, rate);
    }
    Ok(())
}

fn add(series: &mut Vec<Series>, target: &str, workload: Workload, rate: f64) {
    let name = format!("{target} {}", workload.name());
    eprintln!("{name}: {}", grouped(rate));
    if let Some(known) = series.iter_mut().find(|one| one.name == name) {
        known.values.push(rate);
    } else {
        series.push(Series { name, values: vec![rate] });
    }
}

/// The same clients, who act for more users in turn.
fn of_users(target: &mut HttpTarget, plan: &Plan, series: &mut Vec<Series>) -> anyhow::Result<()> {
    for users in USERS {
        let mut groups: Vec<Vec<User>> = vec![Vec::new(); plan.clients.min(users)];
        for number in 0..users {
            let group = number % groups.len();
            groups[group].push(target.new_user()?.1);
        }
        // Each user has a vault before the clock starts.
        let clients = target.connect(groups)?.into_iter().map(|client| (client, 1));
        target.generator().adopt(clients.collect(), false)?;
        at_size(target, plan, series)?;
    }
    Ok(())
}

/// The same clients, all of them devices of one user, whose vault is larger.
fn of_records(
    target: &mut HttpTarget,
    plan: &Plan,
    series: &mut Vec<Series>,
) -> anyhow::Result<()> {
    for records in RECORDS {
        let (_, user) = target.new_user()?;
        // Each device names its records by numbers of its own.
        let numbers = |device: usize| device as u64 * 1_000_000_000;
        let share = |device: usize| {
            let devices = plan.clients as u64;
            records / devices + u64::from((device as u64) < records % devices)
        };
        let groups =
            (0..plan.clients).map(|device| vec![User::new(user.token.clone(), numbers(device))]);
        let clients = target.connect(groups.collect())?.into_iter().enumerate();
        let clients = clients.map(|(device, client)| (client, share(device)));
        target.generator().adopt(clients.collect(), true)?;
        at_size(target, plan, series)?;
    }
    Ok(())
}

/// More clients, each with a user of its own.
fn of_clients(
    target: &mut HttpTarget,
    plan: &Plan,
    series: &mut Vec<Series>,
) -> anyhow::Result<()> {
    for clients in CLIENTS {
        let plan = Plan { clients, ..plan.clone() };
        for workload in WORKLOADS {
            let rate = window(&plan, target, workload)?.rate;
            add(series, target.name, workload, rate);
        }
    }
    Ok(())
}

/// What the server's memory is with that many idle streams; one line each.
fn of_streams(target: &mut HttpTarget) -> anyhow::Result<String> {
    let server = target.server().context("a process of its own")?;
    let (mut lines, mut none, mut open) = (String::new(), 0, Vec::new());
    for count in STREAMS {
        let mut tokens = Vec::new();
        for _ in open.len()..count {
            tokens.push(target.new_user()?.1.token);
        }
        open.extend(target.open_streams(tokens)?);
        // What was needed to sign in is given back soon.
        thread::sleep(Duration::from_secs(2));
        let kib = resident_kib(server).context("the server has ended")?;
        if count == 0 {
            none = kib;
        }
        let each = number(kib.saturating_sub(none)) / number(count.max(1) as u64);
        let (name, mib) = (target.name, number(kib) / 1024.0);
        writeln!(lines, "| {name} | {} | {mib:.1} | {each:.1} |", grouped(number(count as u64)))?;
    }
    Ok(lines)
}

fn table(what: &str, sizes: &[u64], series: &[Series]) -> String {
    let mut text = format!("\n| {what} |");
    for size in sizes {
        text.extend([" ", &grouped(number(*size)), " |"]);
    }
    text.push_str(" flat within 20 %? |\n| --- |");
    text.push_str(&" --: |".repeat(sizes.len()));
    text.push_str(" --- |\n");
    for one in series {
        let _ = write!(text, "| {} |", one.name);
        for value in &one.values {
            text.extend([" ", &grouped(*value), " |"]);
        }
        text.push_str(if one.is_flat() { " yes |\n" } else { " **no** |\n" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_flat_where_no_size_is_a_fifth_below_the_first() {
        let is_flat =
            |values: &[f64]| Series { name: String::new(), values: values.to_vec() }.is_flat();
        assert!(is_flat(&[100.0, 80.0, 300.0]));
        assert!(!is_flat(&[100.0, 79.9, 100.0]));
        assert!(!is_flat(&[]));
    }

    #[test]
    fn the_table_says_which_series_is_not_flat() {
        let series = |name: &str, values| Series { name: name.to_owned(), values };
        let text = table(
            "clients",
            &[8, 1_000],
            &[series("a", vec![10.0, 10.0]), series("b", vec![10.0, 1.0])],
        );
        assert!(text.contains("| clients | 8 | 1,000 | flat within 20 %? |"), "{text}");
        assert!(
            text.contains("| a | 10 | 10 | yes |") && text.contains("| b | 10 | 1 | **no** |"),
            "{text}"
        );
    }
}
