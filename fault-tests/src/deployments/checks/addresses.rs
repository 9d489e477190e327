//! The address of a client as a node sees it. It shows in the rate of failed sign-ins: only clients of the same
//! address share it.

use std::net::Ipv4Addr;

use anyhow::{Context as _, bail, ensure};
use reqwest::{Client, Method, RequestBuilder};

use crate::deployments::entry::{Device, Entry, send};

/// Responses in a row that show that an address has used up its rate at each node.
const LIMITED_IN_A_ROW: usize = 6;

/// Clients of two addresses do not share a rate, and the nodes do not take them for the proxy.
pub(super) async fn of_clients(entry: Entry) -> anyhow::Result<()> {
    let device = entry.device("addresses")?;
    if !entry.shows_addresses {
        return Ok(());
    }
    if is_ipv6(&entry) {
        return networks(&device).await;
    }
    let (one, other) = (from(&device, 2)?, from(&device, 3)?);
    use_up(|| failing(&one)).await?;
    // Two, because each node serves a burst of three.
    for _ in 0..2 {
        let status = send(failing(&other)).await?.status;
        ensure!(status == 401, "a client of another address gets {status}");
    }
    Ok(())
}

/// A client cannot choose its own address. Only what comes from a trusted proxy counts, which a client that
/// connects by IPv6 without a proxy is here.
pub(super) async fn forged(entry: Entry) -> anyhow::Result<()> {
    if is_ipv6(&entry) {
        return Ok(());
    }
    let device = from(&entry.device("forged")?, 4)?;
    let number = std::sync::atomic::AtomicU8::new(1);
    use_up(|| {
        let last = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let forged = format!("192.0.2.{last}");
        failing(&device).header("x-forwarded-for", &forged).header("x-real-ip", forged)
    })
    .await
}

fn is_ipv6(entry: &Entry) -> bool {
    entry.url.contains('[')
}

/// The addresses of one IPv6 network share a rate.
async fn networks(device: &Device) -> anyhow::Result<()> {
    let from = |address: &str| failing(device).header("x-forwarded-for", address);
    use_up(|| from("2001:db8:0:1::1")).await?;
    for (address, expected) in [("2001:db8:0:1::2", 429), ("2001:db8:0:2::1", 401)] {
        let status = send(from(address)).await?.status;
        ensure!(status == expected, "{address} gets {status}");
    }
    Ok(())
}

/// The device with another address of this machine.
fn from(device: &Device, last: u8) -> anyhow::Result<Device> {
    let http = Client::builder().local_address(Some(Ipv4Addr::new(127, 0, 0, last).into()));
    Ok(Device { http: http.build()?, ..device.clone() })
}

/// A request whose token no key has signed.
fn failing(device: &Device) -> RequestBuilder {
    let signed = device.token.rsplit_once('.').map_or("", |(signed, _)| signed);
    device.anonymous(Method::GET, "/api/sync/pull").bearer_auth(format!("{signed}.x"))
}

/// Repeats a request that fails to sign in until its address has used up its rate.
async fn use_up(request: impl Fn() -> RequestBuilder) -> anyhow::Result<()> {
    let mut in_a_row = 0;
    for _ in 0..100 {
        let reply = send(request()).await?;
        match reply.status {
            401 => in_a_row = 0,
            429 => in_a_row += 1,
            status => bail!("401 or 429 was expected, and not {status}"),
        }
        if in_a_row == LIMITED_IN_A_ROW {
            reply.expect_error(429, "rate_limited").context("the response is not a node's")?;
            return Ok(());
        }
    }
    bail!("the node counts each request for another address")
}
