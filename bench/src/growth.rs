//! Whether the figures stay as the server has more to do with: users who take turns, records of a vault,
//! clients, and idle event streams.
//!
//! All sizes lie in the same database, which the largest of them has filled before anything is measured. A
//! size is that at the beginning: a push makes its vault larger.

use std::{fmt::Write as _, thread, time::Duration};

use anyhow::Context as _;

use crate::{
    cpu::resident_kib,
    load::{Client, User},
    report::{grouped, write_growth},
    rounds::{Plan, measure, number},
    targets::{Bench, HttpTarget, Target as _, on_postgres, on_sqlite},
    workloads::Workload,
};

const USERS: [usize; 4] = [10, 100, 1_000, 10_000];
const RECORDS: [u64; 4] = [1, 10_000, 100_000, 1_000_000];
const CLIENTS: [usize; 3] = [8, 64, 256];
const STREAMS: [usize; 3] = [0, 1_000, 5_000];

/// What is asked at each size; reading comes first, because pushes make a vault larger.
const WORKLOADS: [Workload; 3] = [Workload::PullIdle, Workload::Push1, Workload::Push100];

/// How often each size has its turn; the median counts.
const ROUNDS: u32 = 3;

/// How much less than at the first size still counts as flat.
const FLAT: f64 = 0.8;

/// A figure at each size.
#[derive(Debug, PartialEq)]
struct Series {
    name: String,
    /// `None` where a request was answered otherwise than with 200, in any round.
    values: Vec<Option<f64>>,
}

impl Series {
    /// Whether no size has less than four fifths of the first.
    fn is_flat(&self) -> bool {
        let Some(Some(first)) = self.values.first() else { return false };
        self.values.iter().all(|value| value.is_some_and(|value| value >= first * FLAT))
    }
}

/// Runs all of it, prints the tables, and writes them to the page if wanted.
pub(crate) fn run(seconds: u32, clients: usize, docs: bool) -> anyhow::Result<()> {
    let bench = Bench::new(None)?;
    let (mut users, mut records, mut crowds) = (Vec::new(), Vec::new(), Vec::new());
    let mut streams = String::new();
    for start in [on_postgres, on_sqlite] {
        let mut target = start(&bench)?;
        let plan = Plan { workloads: WORKLOADS.to_vec(), rounds: ROUNDS, seconds, clients };
        streams.push_str(&of_streams(&mut target)?);
        let sizes = more_clients(&mut target)?;
        at_sizes(&mut target, &plan, sizes, &mut crowds);
        let sizes = clients_of_users(&mut target, clients)?;
        at_sizes(&mut target, &plan, sizes, &mut users);
        let sizes = clients_of_records(&mut target, clients)?;
        at_sizes(&mut target, &plan, sizes, &mut records);
    }
    let mut text = table("users", &USERS.map(|size| size as u64), &users);
    text.push_str(&table("records in the vault", &RECORDS, &records));
    text.push_str(&table("clients", &CLIENTS.map(|size| size as u64), &crowds));
    text.push_str("\n| idle event streams | streams | MiB | KiB a stream |\n");
    text.push_str("| --- | --: | --: | --: |\n");
    text.push_str(&streams);
    println!("{text}");
    write_growth(&text, docs)
}

/// Each workload by the clients of each size, some rounds of it, so that whatever else the machine has to
/// do meets all sizes alike.
///
/// One that fails is told as that, and what its clients were to do after it too, and the run goes on: it is
/// long, and this is what it is to find.
fn at_sizes(
    target: &mut HttpTarget,
    plan: &Plan,
    mut sizes: Vec<Vec<Client>>,
    series: &mut Vec<Series>,
) {
    for workload in WORKLOADS {
        let name = format!("{} {}", target.name, workload.name());
        let mut rates = vec![Vec::new(); sizes.len()];
        for round in 1..=plan.rounds {
            // To and fro, so that what one size leaves to be done is not always done in the same one's turn.
            let there = 0..sizes.len();
            let order: Vec<_> =
                if round % 2 == 1 { there.collect() } else { there.rev().collect() };
            for size in order {
                let rate = match turn(target, plan, &mut sizes[size], workload) {
                    Ok(rate) => Some(rate),
                    Err(error) => {
                        eprintln!("{name} fails: {error}");
                        None
                    }
                };
                eprintln!("round {round} size {} {name}: {}", size + 1, shown(rate));
                rates[size].push(rate);
            }
        }
        let values = rates.into_iter().map(|rates| median(rates.into_iter().collect())).collect();
        series.push(Series { name, values });
    }
}

/// One window of these clients.
fn turn(
    target: &mut HttpTarget,
    plan: &Plan,
    clients: &mut Vec<Client>,
    workload: Workload,
) -> anyhow::Result<f64> {
    target.generator().employ(std::mem::take(clients))?;
    let sample = measure(plan, target, workload);
    *clients = target.generator().dismiss();
    Ok(sample?.rate)
}

/// `None` where one round failed.
fn median(rates: Option<Vec<f64>>) -> Option<f64> {
    let mut rates = rates?;
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}

fn shown(rate: Option<f64>) -> String {
    rate.map_or_else(|| "failed".to_owned(), grouped)
}

/// So many clients, who act for more users in turn, each of whom has a vault.
fn clients_of_users(target: &mut HttpTarget, clients: usize) -> anyhow::Result<Vec<Vec<Client>>> {
    let mut sizes = Vec::new();
    for users in USERS {
        let mut groups: Vec<Vec<User>> = vec![Vec::new(); clients.min(users)];
        for number in 0..users {
            let group = number % groups.len();
            groups[group].push(target.new_user()?.1);
        }
        let clients = target.connect(groups)?.into_iter().map(|client| (client, 1));
        sizes.push(target.generator().fill(clients.collect(), false)?);
    }
    Ok(sizes)
}

/// So many clients, all of them devices of one user, whose vault is larger.
fn clients_of_records(target: &mut HttpTarget, devices: usize) -> anyhow::Result<Vec<Vec<Client>>> {
    let mut sizes = Vec::new();
    for records in RECORDS {
        let (_, user) = target.new_user()?;
        // Each device names its records by numbers of its own.
        let numbers = |device: usize| device as u64 * 1_000_000_000;
        let share = |device: usize| {
            let devices = devices as u64;
            records / devices + u64::from((device as u64) < records % devices)
        };
        let groups =
            (0..devices).map(|device| vec![User::new(user.token.clone(), numbers(device))]);
        let clients = target.connect(groups.collect())?.into_iter().enumerate();
        let clients = clients.map(|(device, client)| (client, share(device)));
        sizes.push(target.generator().fill(clients.collect(), true)?);
    }
    Ok(sizes)
}

/// More clients, each with a user of its own.
fn more_clients(target: &mut HttpTarget) -> anyhow::Result<Vec<Vec<Client>>> {
    let mut sizes = Vec::new();
    for clients in CLIENTS {
        let clients = target.new_clients(clients, 1)?.into_iter().map(|client| (client, 1));
        sizes.push(target.generator().fill(clients.collect(), false)?);
    }
    Ok(sizes)
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
            text.extend([" ", &shown(*value), " |"]);
        }
        text.push_str(if one.is_flat() { " yes |\n" } else { " **no** |\n" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, values: &[Option<f64>]) -> Series {
        Series { name: name.to_owned(), values: values.to_vec() }
    }

    #[test]
    fn a_series_is_flat_where_no_size_is_a_fifth_below_the_first() {
        let is_flat = |values: &[Option<f64>]| series("", values).is_flat();
        assert!(is_flat(&[Some(100.0), Some(80.0), Some(300.0)]));
        assert!(!is_flat(&[Some(100.0), Some(79.9), Some(100.0)]));
        assert!(!is_flat(&[Some(100.0), None]));
        assert!(!is_flat(&[]));
    }

    #[test]
    fn the_median_of_the_rounds_counts_where_none_failed() {
        assert_eq!(median(Some(vec![3.0, 1.0, 2.0])), Some(2.0));
        assert_eq!(median([Some(3.0), None].into_iter().collect()), None);
        assert_eq!(median(Some(Vec::new())), None);
    }

    #[test]
    fn the_table_says_which_series_is_not_flat() {
        let all = [series("a", &[Some(10.0); 2]), series("b", &[Some(10.0), None])];
        let text = table("clients", &[8, 1_000], &all);
        for line in [
            "| clients | 8 | 1,000 | flat within 20 %? |",
            "| a | 10 | 10 | yes |",
            "| b | 10 | failed | **no** |",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
