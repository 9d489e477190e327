//! A network link to another namespace, which can be cut like a cable, or drop what is sent over it.

use std::net::Ipv4Addr;

use crate::shell;

/// A network namespace that has only the links added to it. It is deleted when dropped, with its links.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// Creates a namespace. One of the same name that an earlier, killed run has left is deleted first.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let _ = shell::run("ip", &["netns", "del", name]);
        shell::run("ip", &["netns", "add", name])?;
        let namespace = Self(name.to_owned());
        shell::run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The command that runs a program in this namespace.
    pub fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.0].map(str::to_owned).to_vec()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = shell::run("ip", &["netns", "del", &self.0]);
    }
}

/// A link between the host and a namespace.
#[derive(Debug)]
pub struct Link {
    namespace: String,
    /// The third byte of the addresses.
    net: u8,
}

impl Link {
    /// Creates a link. Its number is part of its addresses, and must be unique on this machine.
    pub fn new(namespace: &Namespace, net: u8) -> anyhow::Result<Self> {
        let link = Self { namespace: namespace.0.clone(), net };
        let (name, host, peer) = (&link.namespace, &link.device('a'), &link.device('b'));
        let host_address = format!("{}/24", link.host_address());
        let peer_address = format!("{}/24", link.peer_address());
        let _ = shell::run("ip", &["link", "del", host]);
        shell::run("ip", &["link", "add", host, "type", "veth", "peer", "name", peer])?;
        shell::run("ip", &["link", "set", peer, "netns", name])?;
        shell::run("ip", &["addr", "add", &host_address, "dev", host])?;
        shell::run("ip", &["link", "set", host, "up"])?;
        shell::run("ip", &["-n", name, "addr", "add", &peer_address, "dev", peer])?;
        shell::run("ip", &["-n", name, "link", "set", peer, "up"])?;
        Ok(link)
    }

    fn device(&self, end: char) -> String {
        format!("vsfault{}{end}", self.net)
    }

    /// The address of the host's end.
    pub const fn host_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.net, 1)
    }

    /// The address of the namespace's end.
    pub const fn peer_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.net, 2)
    }

    /// Cuts the link, or restores it.
    pub fn set_cut(&self, is_cut: bool) -> anyhow::Result<()> {
        let state = if is_cut { "down" } else { "up" };
        shell::run("ip", &["link", "set", &self.device('a'), state]).map(drop)
    }

    /// Drops all packets from the namespace, while packets to it arrive, or restores the link: neither end
    /// of a connection gets an error.
    pub fn set_dropping(&self, is_dropping: bool) -> anyhow::Result<()> {
        let (name, peer) = (&self.namespace, &self.device('b'));
        let mut arguments = vec!["netns", "exec", name.as_str(), "tc", "qdisc"];
        if is_dropping {
            // A queue for packets of one byte: no packet fits.
            let queue = ["tbf", "rate", "8bit", "burst", "1", "limit", "1"];
            arguments.extend(["add", "dev", peer, "root"]);
            arguments.extend(queue);
        } else {
            arguments.extend(["del", "dev", peer, "root"]);
        }
        shell::run("ip", &arguments).map(drop)
    }
}
