//! The client address of a request.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The remote end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The client's address of a request that was admitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

/// The client's address: the remote end of the connection or, if that is a trusted proxy, the last
/// address in `X-Forwarded-For` that is not a trusted proxy. The client can forge what precedes it.
pub(crate) fn client_address(peer: Peer, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.0.ip().to_canonical();
    let forwarded = headers.get_all("x-forwarded-for").into_iter().rev();
    for hop in forwarded.flat_map(|value| value.to_str().unwrap_or("").rsplit(',')) {
        if !is_trusted(&client) {
            break;
        }
        // A proxy that writes anything but an address does not know the client, so the addresses
        // before that entry are no better.
        let Some(address) = parse_hop(hop.trim()) else { break };
        client = address.to_canonical();
    }
    client
}

/// Parses an address. Some proxies add a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    hop.parse().ok().or_else(|| hop.parse().ok().map(|with_port: SocketAddr| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, forwarded: &[&str], trusted: &[&str], expected: &str) {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", value.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let peer = Peer(SocketAddr::new(peer.parse().unwrap(), 1));
        let address = client_address(peer, &headers, &trusted);
        assert_eq!(address, expected.parse::<IpAddr>().unwrap(), "{peer:?} {forwarded:?}");
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        check("10.0.0.1", &["192.0.2.1"], &[], "10.0.0.1");
        check("192.0.2.9", &["192.0.2.1"], &["10.0.0.0/8"], "192.0.2.9");
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_a_trusted_proxy() {
        let trusted = ["10.0.0.0/8", "::1/128"];
        check("10.0.0.1", &["192.0.2.1"], &trusted, "192.0.2.1");
        check("10.0.0.1", &["6.6.6.6, 192.0.2.1"], &trusted, "192.0.2.1");
        check("10.0.0.1", &["6.6.6.6", "192.0.2.1, 10.0.0.2"], &trusted, "192.0.2.1");
        check("::1", &["2001:db8::1"], &trusted, "2001:db8::1");
        check("10.0.0.1", &["192.0.2.1:5678"], &trusted, "192.0.2.1");
        check("10.0.0.1", &["[2001:db8::1]:443, 10.0.0.9:80"], &trusted, "2001:db8::1");
        check("::ffff:10.0.0.1", &["192.0.2.1"], &trusted, "192.0.2.1");
        check("10.0.0.1", &[], &trusted, "10.0.0.1");
        check("10.0.0.1", &["10.0.0.3"], &trusted, "10.0.0.3");
        check("10.0.0.1", &["192.0.2.1, unknown"], &trusted, "10.0.0.1");
    }
}
