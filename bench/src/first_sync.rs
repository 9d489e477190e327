//! How long the first sync of a device takes: streamed, compared with page by page, on a near and a far network;
//! and how much memory the server needs for it.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use memchr::memmem;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    cpu::{peak_kib, reset_peak},
    load::{Connection, User, parse_page_end, write_pull},
    record_ids::RecordIds,
    report::{grouped, write_first_sync},
    rounds::to_f64,
    tally::median,
    targets::{Build, Environment, HttpTarget, Target as _, on_postgres, on_sqlite},
};

const RECORDS: [u64; 2] = [10_000, 100_000];

/// Round trips of the network.
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(50)];

/// Devices that fill a vault at the same time.
const FILLING: usize = 8;

/// Number of rounds; the medians count.
const ROUNDS: usize = 3;

/// What the two ways took in each round, in seconds, and the server's peak of each streamed sync in KiB.
#[derive(Debug, Default)]
struct Times {
    paged: Vec<f64>,
    streamed: Vec<f64>,
    peak_kib: Vec<f64>,
}

/// Measures both ways, prints the table, and updates the page if `docs` is set.
pub(crate) fn run(ids: RecordIds, docs: bool) -> anyhow::Result<()> {
    let (environment, build) = (Environment::new(None, ids)?, Build::this()?);
    let mut text =
        "| server | records | round trip | by page: s | streamed: s | ratio | peak MiB |\n\
                    | --- | --: | --: | --: | --: | --: | --: |\n"
            .to_owned();
    for start in [on_postgres, on_sqlite] {
        let mut target = start(&environment, &build)?;
        for records in RECORDS {
            let token = fill(&mut target, records)?;
            for delay in DELAYS {
                let times = measure(&target, &token, records, delay)?;
                let [Some(paged), Some(streamed), Some(peak)] =
                    [times.paged, times.streamed, times.peak_kib].map(median)
                else {
                    unreachable!("there is a round")
                };
                writeln!(
                    text,
                    "| {} | {} | {} ms | {paged:.2} | {streamed:.2} | {:.2} | {:.0} |",
                    target.name,
                    grouped(to_f64(records)),
                    delay.as_millis(),
                    streamed / paged,
                    peak / 1024.0,
                )?;
                eprintln!("{}", text.lines().last().unwrap_or_default());
            }
        }
    }
    println!("{text}");
    write_first_sync(&text, docs)
}

/// Fills the vault of a new user. Returns the user's token.
fn fill(target: &mut HttpTarget, records: u64) -> anyhow::Result<String> {
    let (_, user) = target.new_user()?;
    let devices = FILLING as u64;
    ensure!(records.is_multiple_of(devices), "every device inserts the same number of records");
    let device = |number| vec![User::new(user.token.clone(), number * records / devices)];
    let clients = target.connect((0..devices).map(device).collect())?;
    let clients = clients.into_iter().map(|client| (client, records / devices)).collect();
    target.generator().fill(clients, true)?;
    Ok(user.token)
}

/// Measures the ways in turn.
fn measure(
    target: &HttpTarget,
    token: &str,
    records: u64,
    delay: Duration,
) -> anyhow::Result<Times> {
    let server = target.server().context("the server has no process")?;
    let mut times = Times::default();
    target.runtime().block_on(async {
        let host = if delay.is_zero() {
            Arc::clone(&target.host)
        } else {
            Arc::from(slow_network(Arc::clone(&target.host), delay / 2).await?)
        };
        for _ in 0..ROUNDS {
            let began = Instant::now();
            ensure!(read_pages(&host, token).await? == records, "the pages have other records");
            times.paged.push(began.elapsed().as_secs_f64());
            reset_peak(server);
            let began = Instant::now();
            ensure!(read_stream(&host, token).await? == records, "the stream has other records");
            times.streamed.push(began.elapsed().as_secs_f64());
            times.peak_kib.push(to_f64(peak_kib(server).context("the server has exited")?));
        }
        anyhow::Ok(())
    })?;
    Ok(times)
}

/// Reads a vault page by page on one connection. Returns the number of records.
async fn read_pages(host: &str, token: &str) -> anyhow::Result<u64> {
    let mut connection = Connection::open(host).await?;
    let (mut request, mut cursor, mut records) = (Vec::new(), None::<String>, 0);
    loop {
        write_pull(&mut request, host, token, cursor.as_deref());
        let body = connection.exchange(&request).await?;
        records += count(body);
        let page = parse_page_end(body);
        if !page.has_more {
            return Ok(records);
        }
        cursor = page.next_cursor.map(str::to_owned);
    }
}

/// Reads a vault as a stream. Returns the number of records.
async fn read_stream(host: &str, token: &str) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(host).await?;
    let request = format!(
        "GET /api/sync/pull HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Accept: application/x-ndjson\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut buffer, mut records, mut end) = (Vec::with_capacity(512 * 1024), 0, Vec::new());
    loop {
        // The last bytes may be the beginning of a member.
        buffer.clear();
        buffer.append(&mut end);
        if stream.read_buf(&mut buffer).await? == 0 {
            break;
        }
        records += count(&buffer);
        let last = memmem::rfind(&buffer, MEMBER).map_or(0, |start| start + MEMBER.len());
        end = buffer[last.max(buffer.len().saturating_sub(END.len() - 1))..].to_vec();
        if memmem::find(&buffer, END).is_some() {
            return Ok(records);
        }
    }
    anyhow::bail!("the stream has no last line")
}

/// The member that every record has once.
const MEMBER: &[u8] = b"\"recordId\":";

/// A member of the last line of a stream. No record has it.
const END: &[u8] = b"\"hasMore\":false";

fn count(bytes: &[u8]) -> u64 {
    memmem::find_iter(bytes, MEMBER).count() as u64
}

/// A network whose packets take some time in each direction, however many there are. Returns its address.
async fn slow_network(host: Arc<str>, delay: Duration) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&*host).await else { continue };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::spawn(forward(from_client, to_server, delay));
            tokio::spawn(forward(from_server, to_client, delay));
        }
    });
    Ok(address)
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Duration,
) {
    /// Enough for what a fast network has under way: 64 KiB each.
    const PACKETS: usize = 256;
    let (packets, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PACKETS);
    let sending = async {
        let mut packet = Vec::with_capacity(64 * 1024);
        while from.read_buf(&mut packet).await.is_ok_and(|count| count > 0) {
            let sent = std::mem::replace(&mut packet, Vec::with_capacity(64 * 1024));
            if packets.send((Instant::now() + delay, sent)).await.is_err() {
                break;
            }
        }
        drop(packets);
    };
    let receiving = async {
        while let Some((at, packet)) = arriving.recv().await {
            sleep_until(at).await;
            if to.write_all(&packet).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(sending, receiving);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_network_delays_both_directions_and_changes_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap().to_string().into();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = [0; 5];
            stream.read_exact(&mut text).await.unwrap();
            stream.write_all(&text.repeat(100_000)).await.unwrap();
        });
        let delay = Duration::from_millis(30);
        let address = slow_network(server, delay).await.unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let began = Instant::now();
        client.write_all(b"hello").await.unwrap();
        let mut text = vec![0; 500_000];
        client.read_exact(&mut text).await.unwrap();
        assert!(began.elapsed() >= 2 * delay);
        assert_eq!(text, b"hello".repeat(100_000));
    }

    #[tokio::test]
    async fn a_stream_is_counted_wherever_it_is_cut() {
        let line = format!("{{{}\"a\"}}\n", str::from_utf8(MEMBER).unwrap());
        let text = line.repeat(50) + "{\"hasMore\":false}\n";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for part in text.as_bytes().chunks(7) {
                stream.write_all(part).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(read_stream(&host, "token").await.unwrap(), 50);
    }
}
