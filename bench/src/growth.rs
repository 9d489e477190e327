//! How the figures change as the number of users, records of a vault, clients and idle event streams grows.
//!
//! All sizes are in the same database, which is filled before the first measurement. A size is the size at
//! the beginning: a push makes its vault larger.

use std::{fmt::Write as _, thread, time::Duration};

use anyhow::Context as _;

use crate::{
    cpu::resident_kib,
    load::{Client, User},
    record_ids::RecordIds,
    report::{grouped, write_growth},
    rounds::{Plan, measure, to_f64},
    targets::{Build, Environment, HttpTarget, Target as _, on_postgres, on_sqlite},
    workloads::Workload,
};

const USERS: [usize; 4] = [10, 100, 1_000, 10_000];
const RECORDS: [u64; 4] = [1, 10_000, 100_000, 1_000_000];
const CLIENTS: [usize; 3] = [8, 64, 256];
const STREAMS: [usize; 3] = [0, 1_000, 5_000];

/// The workloads at each size. Reading comes first, because pushes make a vault larger.
const WORKLOADS: [Workload; 3] = [Workload::PullIdle, Workload::Push1, Workload::Push100];

/// Number of rounds; the medians count.
const ROUNDS: u32 = 3;

/// Fraction of the first size's figure that still counts as flat.
const FLAT: f64 = 0.8;

/// The figures of a workload at each size.
#[derive(Debug, PartialEq)]
struct Series {
    name: String,
    /// `None` if a response was not 200 in any round.
    values: Vec<Option<f64>>,
}

impl Series {
    /// Whether every size has at least four fifths of the first size's figure.
    fn is_flat(&self) -> bool {
        let Some(Some(first)) = self.values.first() else { return false };
        self.values.iter().all(|value| value.is_some_and(|value| value >= first * FLAT))
    }
}

/// Measures all sizes, prints the tables, and updates the page if `docs` is set.
pub(crate) fn run(seconds: u32, clients: usize, ids: RecordIds, docs: bool) -> anyhow::Result<()> {
    let (environment, build) = (Environment::new(None, ids)?, Build::this()?);
    let (mut users, mut records, mut many_clients) = (Vec::new(), Vec::new(), Vec::new());
    let mut streams = String::new();
    for start in [on_postgres, on_sqlite] {
        let mut target = start(&environment, &build)?;
        let plan = Plan { workloads: WORKLOADS.to_vec(), rounds: ROUNDS, seconds, clients, ids };
        streams.push_str(&measure_streams(&mut target)?);
        let sizes = fill_clients(&mut target)?;
        measure_sizes(&mut target, &plan, sizes, &mut many_clients);
        let sizes = fill_users(&mut target, clients)?;
        measure_sizes(&mut target, &plan, sizes, &mut users);
        let sizes = fill_records(&mut target, clients)?;
        measure_sizes(&mut target, &plan, sizes, &mut records);
    }
    let mut text = table("users", &USERS.map(|size| size as u64), &users);
    text.push_str(&table("records in the vault", &RECORDS, &records));
    text.push_str(&table("clients", &CLIENTS.map(|size| size as u64), &many_clients));
    text.push_str("\n| idle event streams | streams | MiB | KiB per stream |\n");
    text.push_str("| --- | --: | --: | --: |\n");
    text.push_str(&streams);
    println!("{text}");
    write_growth(&text, docs)
}

/// Measures each workload with the clients of each size in several rounds, so that other activity of the
/// machine affects all sizes alike.
///
/// If a window fails, it and the later windows of its clients are reported as failed, and the run continues:
/// it takes long, and finding such failures is its purpose.
fn measure_sizes(
    target: &mut HttpTarget,
    plan: &Plan,
    mut sizes: Vec<Vec<Client>>,
    series: &mut Vec<Series>,
) {
    for workload in WORKLOADS {
        let name = format!("{} {}", target.name, workload.name());
        let mut rates = vec![Vec::new(); sizes.len()];
        for round in 1..=plan.rounds {
            // In alternating order, so that work that one size leaves behind does not always fall into the
            // window of the same other size.
            let forward = 0..sizes.len();
            let order: Vec<_> =
                if round % 2 == 1 { forward.collect() } else { forward.rev().collect() };
            for size in order {
                let rate = match measure_clients(target, plan, &mut sizes[size], workload) {
                    Ok(rate) => Some(rate),
                    Err(error) => {
                        eprintln!("{name} failed: {error}");
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

/// Measures one window of these clients.
fn measure_clients(
    target: &mut HttpTarget,
    plan: &Plan,
    clients: &mut Vec<Client>,
    workload: Workload,
) -> anyhow::Result<f64> {
    target.generator().set_clients(std::mem::take(clients))?;
    let sample = measure(plan, target, workload);
    *clients = target.generator().take_clients();
    Ok(sample?.rate)
}

/// The median of the rounds; `None` if one of them failed.
fn median(rates: Option<Vec<f64>>) -> Option<f64> {
    let mut rates = rates?;
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}

fn shown(rate: Option<f64>) -> String {
    rate.map_or_else(|| "failed".to_owned(), grouped)
}

/// Connects the clients for each number of users: they act for all users in turn.
fn fill_users(target: &mut HttpTarget, clients: usize) -> anyhow::Result<Vec<Vec<Client>>> {
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

/// Connects the clients for each size of a vault: all of them are devices of one user.
fn fill_records(target: &mut HttpTarget, devices: usize) -> anyhow::Result<Vec<Vec<Client>>> {
    let mut sizes = Vec::new();
    for records in RECORDS {
        let (_, user) = target.new_user()?;
        // Each device has its own range of record numbers.
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

/// Connects each number of clients, each of them with its own user.
fn fill_clients(target: &mut HttpTarget) -> anyhow::Result<Vec<Vec<Client>>> {
    let mut sizes = Vec::new();
    for clients in CLIENTS {
        let clients = target.new_clients(clients, 1)?.into_iter().map(|client| (client, 1));
        sizes.push(target.generator().fill(clients.collect(), false)?);
    }
    Ok(sizes)
}

/// Measures the server's memory with each number of idle event streams, and returns a table row for each.
fn measure_streams(target: &mut HttpTarget) -> anyhow::Result<String> {
    let server = target.server().context("the server has no process")?;
    let (mut rows, mut without_streams, mut open) = (String::new(), 0, Vec::new());
    for count in STREAMS {
        let mut tokens = Vec::new();
        for _ in open.len()..count {
            tokens.push(target.new_user()?.1.token);
        }
        open.extend(target.open_event_streams(tokens)?);
        // Memory that authentication needed is freed soon.
        thread::sleep(Duration::from_secs(2));
        let kib = resident_kib(server).context("the server has exited")?;
        if count == 0 {
            without_streams = kib;
        }
        let each = to_f64(kib.saturating_sub(without_streams)) / to_f64(count.max(1) as u64);
        let (name, mib) = (target.name, to_f64(kib) / 1024.0);
        writeln!(rows, "| {name} | {} | {mib:.1} | {each:.1} |", grouped(to_f64(count as u64)))?;
    }
    Ok(rows)
}

fn table(what: &str, sizes: &[u64], series: &[Series]) -> String {
    let mut text = format!("\n| {what} |");
    for size in sizes {
        text.extend([" ", &grouped(to_f64(*size)), " |"]);
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
    fn a_series_is_flat_if_no_size_is_a_fifth_below_the_first() {
        let is_flat = |values: &[Option<f64>]| series("", values).is_flat();
        assert!(is_flat(&[Some(100.0), Some(80.0), Some(300.0)]));
        assert!(!is_flat(&[Some(100.0), Some(79.9), Some(100.0)]));
        assert!(!is_flat(&[Some(100.0), None]));
        assert!(!is_flat(&[]));
    }

    #[test]
    fn the_median_of_the_rounds_counts_if_none_failed() {
        assert_eq!(median(Some(vec![3.0, 1.0, 2.0])), Some(2.0));
        assert_eq!(median([Some(3.0), None].into_iter().collect()), None);
        assert_eq!(median(Some(Vec::new())), None);
    }

    #[test]
    fn the_table_marks_a_series_that_is_not_flat() {
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
