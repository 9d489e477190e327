//! Ports of this machine that nobody listens on.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the ports that systems give to whoever asks for any (from 32768 on Linux). One of those
/// could be given away while its server is down, even to a client that tries to reach it.
const PORTS: Range<u16> = 12_000..32_000;

/// A port that is free now.
pub(crate) fn free() -> u16 {
    // Tests run side by side, so each starts to look somewhere else.
    let random = RandomState::new().hash_one(0);
    let count = u64::from(PORTS.end - PORTS.start);
    let start = u16::try_from(random % count).expect("less than the count");
    (PORTS.start + start..PORTS.end)
        .chain(PORTS)
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port")
}
