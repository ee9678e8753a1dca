//! A network of its own for each node: namespaces, joined by a bridge that whoever makes them is at as well.
//!
//! ```text
//!  here (clients) ── bridge ──┬── namespace of node 1
//!                             ├── namespace of node 2
//!                             └── namespace of node 3
//! ```
//!
//! What one node sends to another is lost when its table of neighbours names a card that nobody has: the frames leave and
//! arrive nowhere, as on a line that was cut, and in that direction alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

/// The card that nobody has.
const NOBODY: &str = "02:00:00:00:00:ff";
/// What a node calls its card.
const CARD: &str = "eth0";
/// What the networks of a process are called, before its id.
const NAME: &str = "md";
/// Where the kernel has a folder for each card, and `ip netns` a file for each namespace.
const CARDS: &str = "/sys/class/net";
const NAMESPACES: &str = "/run/netns";
/// The most networks that a process makes.
const NETWORKS_MAX: u32 = 10;

static MADE: AtomicU32 = AtomicU32::new(0);

/// Namespaces, taken away when dropped.
#[derive(Debug)]
pub struct Network {
    name: String,
    subnet: [u8; 3],
    count: usize,
}

impl Network {
    /// Why there can be none here; none if there can.
    pub fn unavailable() -> Option<String> {
        Self::new(1).err().map(|error| error.to_string())
    }

    /// A network of so many nodes.
    ///
    /// # Errors
    /// What `ip` says: mostly that only root may.
    pub fn new(count: usize) -> io::Result<Self> {
        let process = std::process::id();
        let serial = MADE.fetch_add(1, Ordering::Relaxed) % NETWORKS_MAX;
        let [.., high, low] = (process * NETWORKS_MAX + serial).to_be_bytes();
        let network = Self {
            name: format!("{NAME}{process}x{serial}"),
            // Of the range that is for tests of networks, RFC 2544.
            subnet: [198, 18 + high % 2, low],
            count,
        };
        network.build()?;
        Ok(network)
    }

    /// Takes away what processes left behind that were killed: their namespaces, bridges, and whatever runs in those
    /// namespaces. What belongs to a process that still runs is left alone.
    ///
    /// # Errors
    /// If what there is can't be read.
    pub fn remove_left_behind() -> io::Result<()> {
        for namespace in names_in(NAMESPACES)?.iter().filter(|name| is_left_behind(name)) {
            for process in said(&["netns", "pids", namespace])?.split_whitespace() {
                let process = process.parse().ok().and_then(Pid::from_raw);
                if let Some(process) = process {
                    // It may have ended by itself.
                    let _ = kill_process(process, Signal::KILL);
                }
            }
            // Somebody else may be about it as well.
            let _ = ip(&["netns", "del", namespace]);
        }
        for card in names_in(CARDS)?.iter().filter(|name| is_left_behind(name)) {
            // The end of a pair goes with the other one, and some time after the namespace that that was in.
            let _ = ip(&["link", "del", card]);
        }
        Ok(())
    }

    fn build(&self) -> io::Result<()> {
        let bridge = &self.name;
        let mask = |host: u8| {
            let [a, b, c] = self.subnet;
            format!("{a}.{b}.{c}.{host}/24")
        };
        ip(&["link", "add", bridge, "type", "bridge"])?;
        ip(&["addr", "add", &mask(254), "dev", bridge])?;
        ip(&["link", "set", bridge, "up"])?;
        for index in 0..self.count {
            let (namespace, plug) = (self.namespace(index), self.plug(index));
            let host = u8::try_from(index + 1).map_err(io::Error::other)?;
            ip(&["netns", "add", &namespace])?;
            ip(&[
                "link", "add", &plug, "type", "veth", "peer", "name", CARD, "netns", &namespace,
            ])?;
            ip(&["link", "set", &plug, "master", bridge, "up"])?;
            ip(&["-n", &namespace, "addr", "add", &mask(host), "dev", CARD])?;
            ip(&["-n", &namespace, "link", "set", CARD, "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        }
        Ok(())
    }

    /// How many nodes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The namespace of a node.
    pub fn namespace(&self, index: usize) -> String {
        format!("{}n{index}", self.name)
    }

    fn plug(&self, index: usize) -> String {
        format!("{}p{index}", self.name)
    }

    /// The address of a node.
    pub fn address(&self, index: usize) -> IpAddr {
        let [a, b, c] = self.subnet;
        let host = u8::try_from(index + 1).expect("there are a few nodes");
        Ipv4Addr::new(a, b, c, host).into()
    }

    /// From now on what the first of each pair sends to the second is lost.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn lose(&self, pairs: &[(usize, usize)]) -> io::Result<()> {
        self.at_once(pairs, &["replace"], &["lladdr", NOBODY, "nud", "permanent"])
    }

    /// From now on it arrives again.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn heal(&self, pairs: &[(usize, usize)]) -> io::Result<()> {
        self.at_once(pairs, &["del"], &[])
    }

    /// From now on what is sent from here, where clients are, to these nodes is lost.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn lose_from_here(&self, nodes: &[usize]) -> io::Result<()> {
        self.run_from_here(nodes, &["replace"], &["lladdr", NOBODY, "nud", "permanent"])
    }

    /// From now on it arrives again.
    ///
    /// # Errors
    /// What `ip` says.
    pub fn heal_from_here(&self, nodes: &[usize]) -> io::Result<()> {
        self.run_from_here(nodes, &["del"], &[])
    }

    fn run_from_here(&self, nodes: &[usize], what: &[&str], how: &[&str]) -> io::Result<()> {
        nodes.iter().try_for_each(|node| {
            let address = self.address(*node).to_string();
            ip(&[&["neigh"], what, &[&address, "dev", &self.name], how].concat())
        })
    }

    fn at_once(&self, pairs: &[(usize, usize)], what: &[&str], how: &[&str]) -> io::Result<()> {
        let started: Vec<io::Result<Child>> = pairs
            .iter()
            .map(|(from, to)| {
                let (namespace, to) = (self.namespace(*from), self.address(*to).to_string());
                let before = [&["-n", &namespace, "neigh"], what].concat();
                spawn(&[&before, &[&to[..], "dev", CARD][..], how].concat())
            })
            .collect();
        started.into_iter().try_for_each(|child| finish(child?))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for index in 0..self.count {
            // What was not made can't be taken away.
            let _ = ip(&["link", "del", &self.plug(index)]);
            let _ = ip(&["netns", "del", &self.namespace(index)]);
        }
        let _ = ip(&["link", "del", &self.name]);
    }
}

/// The names in a folder; none if there is no such folder.
fn names_in(folder: &str) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect()
}

/// True of a name that a process gave that is gone.
fn is_left_behind(name: &str) -> bool {
    process_of(name).is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists())
}

/// Who gave this name: the id, an `x`, the number of the network, and perhaps what of it.
fn process_of(name: &str) -> Option<u32> {
    let (process, which) = name.strip_prefix(NAME)?.split_once('x')?;
    which
        .starts_with(|character: char| character.is_ascii_digit())
        .then_some(())?;
    process.parse().ok()
}

fn said(arguments: &[&str]) -> io::Result<String> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    finish(spawn(arguments)?)
}

fn spawn(arguments: &[&str]) -> io::Result<Child> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
    command.spawn()
}

fn finish(child: Child) -> io::Result<()> {
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_who_gave_them() {
        for (name, expected) in [
            ("md12x0", Some(12)),
            ("md12x3n1", Some(12)),
            ("md4000000x9p2", Some(4_000_000)),
            ("md12", None),
            ("mdx1", None),
            ("md12xn", None),
            ("eth0", None),
            ("md-1x0", None),
        ] {
            assert_eq!(process_of(name), expected, "{name}");
        }
        assert!(!is_left_behind(&format!("md{}x0", std::process::id())));
    }
}
