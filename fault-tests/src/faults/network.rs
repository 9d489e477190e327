//! A line to another network namespace, which can be cut like a cable or made to swallow what is
//! sent.

use std::net::Ipv4Addr;

use crate::shell;

/// Another network namespace, where programs have only the lines that are laid to it. It goes when
/// dropped, and the lines with it.
#[derive(Debug)]
pub struct Place(String);

impl Place {
    /// A new one. What an earlier run left of that name, because it was killed, goes first.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let _ = shell::run("ip", &["netns", "del", name]);
        shell::run("ip", &["netns", "add", name])?;
        let place = Self(name.to_owned());
        shell::run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        Ok(place)
    }

    /// What runs a program there.
    pub fn within(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.0].map(str::to_owned).to_vec()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = shell::run("ip", &["netns", "del", &self.0]);
    }
}

/// A line from here to a place.
#[derive(Debug)]
pub struct Line {
    place: String,
    /// The third byte of the addresses.
    net: u8,
}

impl Line {
    /// Lays one. Its number, which no other line of this machine may have, is in its addresses.
    pub fn lay(place: &Place, net: u8) -> anyhow::Result<Self> {
        let line = Self { place: place.0.clone(), net };
        let (name, here, there) = (&line.place, &line.device('a'), &line.device('b'));
        let (here_at, there_at) = (format!("{}/24", line.here()), format!("{}/24", line.there()));
        let _ = shell::run("ip", &["link", "del", here]);
        shell::run("ip", &["link", "add", here, "type", "veth", "peer", "name", there])?;
        shell::run("ip", &["link", "set", there, "netns", name])?;
        shell::run("ip", &["addr", "add", &here_at, "dev", here])?;
        shell::run("ip", &["link", "set", here, "up"])?;
        shell::run("ip", &["-n", name, "addr", "add", &there_at, "dev", there])?;
        shell::run("ip", &["-n", name, "link", "set", there, "up"])?;
        Ok(line)
    }

    fn device(&self, end: char) -> String {
        format!("vsfault{}{end}", self.net)
    }

    /// The address of this side.
    pub const fn here(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.net, 1)
    }

    /// The address of the other side.
    pub const fn there(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.net, 2)
    }

    /// Cuts the cable, or mends it.
    pub fn cut(&self, is_cut: bool) -> anyhow::Result<()> {
        let state = if is_cut { "down" } else { "up" };
        shell::run("ip", &["link", "set", &self.device('a'), state]).map(drop)
    }

    /// Lets what the place sends go nowhere, while what is sent to it arrives, or mends it: neither
    /// end of a connection is told.
    pub fn swallow(&self, is_swallowing: bool) -> anyhow::Result<()> {
        let (name, there) = (&self.place, &self.device('b'));
        let mut arguments = vec!["netns", "exec", name.as_str(), "tc", "qdisc"];
        if is_swallowing {
            // A queue for packets of one byte: none fits.
            let queue = ["tbf", "rate", "8bit", "burst", "1", "limit", "1"];
            arguments.extend(["add", "dev", there, "root"]);
            arguments.extend(queue);
        } else {
            arguments.extend(["del", "dev", there, "root"]);
        }
        shell::run("ip", &arguments).map(drop)
    }
}
