//! Free ports of this machine.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the ephemeral ports of most systems (from 32768 on Linux). The system could assign an ephemeral
/// port to another process while its server is down, even to a client that tries to reach it.
const PORTS: Range<u16> = 12_000..32_000;

/// A port that no process listens on now.
pub fn free() -> u16 {
    // Tests run in parallel, so each search starts at a random port.
    let random = RandomState::new().hash_one(0);
    let count = u64::from(PORTS.end - PORTS.start);
    let start = u16::try_from(random % count).expect("the remainder is below the count");
    (PORTS.start + start..PORTS.end)
        .chain(PORTS)
        .find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok())
        .expect("a free port")
}
