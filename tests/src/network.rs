//! Networks that are not kind: each clinic in a Linux network namespace of its own, with one wire to a switch, or to a
//! router that hides it. They can be taken apart, and addresses change.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Distance;

/// What the names of our namespaces begin with; then the id of the process, and how many networks it made before.
const PREFIX: &str = "bithealth-";
/// Clinics on one network: their addresses end with 1 and up.
const WIRES_MAX: usize = 254;

/// What the wires of a private network begin with, and those of the world: a range for documentation (RFC 5737).
const PRIVATE: &str = "10.0.0";
const WORLD: &str = "203.0.113";

/// What a narrow wire lets through at once, and how long anything waits for it at most.
const BURST: &str = "64kb";
const QUEUED: &str = "50ms";

/// Where a clinic stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With an address that everybody reaches.
    Public,
    /// Behind a router of its own.
    Behind(Nat),
}

/// What a router does with the ports of those behind it. All drop what nobody behind them asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// It keeps them: whoever is told the address of a clinic can answer it there once the clinic has spoken first. As
    /// most routers of homes and offices.
    KeepsPorts,
    /// It draws another for each destination: what one sees helps no other (symmetric NAT, RFC 4787 section 4.1).
    DrawsPorts,
}

impl Nat {
    /// The rules of its router.
    fn rules(self) -> String {
        let ports = match self {
            Self::KeepsPorts => "",
            Self::DrawsPorts => "fully-random",
        };
        let answers = "policy drop; iifname \"inside\" accept; ct state established,related accept;";
        format!(
            "table ip hides {{
               chain leaves {{ type nat hook postrouting priority srcnat; oifname \"wire\" masquerade {ports}; }}
               chain passes {{ type filter hook forward priority filter; {answers} }}
               chain enters {{ type filter hook input priority filter; {answers} }}
             }}"
        )
    }
}

/// A switch with one wire to each clinic. Everything is removed when it is dropped, also by a test that panics.
///
/// The switch is a namespace too, so nothing here touches the machine's own network, and every network may use the same
/// addresses.
#[derive(Debug)]
pub struct Network {
    name: String,
    /// What addresses on the switch begin with.
    net: &'static str,
    wires: usize,
    sides: usize,
}

/// One clinic's end of a wire.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The namespace to run its programs in.
    namespace: String,
    /// The only address there.
    pub(crate) address: String,
}

impl Network {
    /// A private network: a switch without wires.
    ///
    /// # Panics
    /// Where namespaces cannot be made, with what it takes.
    pub fn private() -> Self {
        Self::new(PRIVATE)
    }

    /// The same, with addresses of the world.
    pub(crate) fn world() -> Self {
        Self::new(WORLD)
    }

    fn new(net: &'static str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        remove_left_overs();
        let name = format!("{PREFIX}{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut network = Self { name, net, wires: 0, sides: 0 };
        let made = run(&["netns", "add", &network.switch()]);
        made.unwrap_or_else(|error| {
            panic!(
                "this test needs root, `ip` of iproute2 and, for routers, `nft` of nftables, to make network namespaces \
                 (see README, Try it): {error}"
            )
        });
        network.want_sides(1);
        network
    }

    /// A wire to the next clinic.
    ///
    /// # Panics
    /// If there are as many as fit.
    pub fn wire(&mut self) -> Wire {
        assert!(self.wires < WIRES_MAX, "{WIRES_MAX} clinics fit on a network");
        let (at, switch) = (self.wires, self.switch());
        let wire = Wire { namespace: self.namespace(at), address: format!("{}.{}", self.net, at + 1) };
        ip(&["netns", "add", &wire.namespace]);
        self.wires += 1; // from here on it is removed
        let end = ["peer", "name", "wire", "netns", &wire.namespace];
        ip(&[&["-n", &switch, "link", "add", &port(at), "type", "veth"], &end[..]].concat());
        wire.up("wire", &wire.address);
        ip(&["-n", &switch, "link", "set", &port(at), "master", &side(0), "up"]);
        wire
    }

    /// A wire to the next clinic's place.
    pub(crate) fn place(&mut self, place: Place) -> Wire {
        match place {
            Place::Public => self.wire(),
            Place::Behind(nat) => self.behind(nat),
        }
    }

    /// A wire to a router, and one from there to the next clinic.
    fn behind(&mut self, nat: Nat) -> Wire {
        let router = self.wire();
        let inside = format!("192.168.{}", self.wires);
        let wire = Wire { namespace: self.namespace(self.wires), address: format!("{inside}.2") };
        ip(&["netns", "add", &wire.namespace]);
        self.wires += 1; // from here on it is removed
        let gateway = format!("{inside}.1");
        let end = ["peer", "name", "wire", "netns", &wire.namespace];
        ip(&[&["-n", &router.namespace, "link", "add", "inside", "type", "veth"], &end[..]].concat());
        router.up("inside", &gateway);
        wire.up("wire", &wire.address);
        ip(&["-n", &wire.namespace, "route", "add", "default", "via", &gateway]);
        router.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        router.run("nft", &[&nat.rules()]);
        wire
    }

    /// Puts each clinic, by the order in which they were wired, on the side named; sides do not hear each other. Nobody is
    /// told that a connection is gone: packets are lost, as when a cable is cut far away.
    pub(crate) fn part(&mut self, side_of: &[usize]) {
        assert_eq!(side_of.len(), self.wires, "every clinic is on a side");
        self.want_sides(side_of.iter().max().map_or(1, |last| last + 1));
        // All are alone first: one by one, those that come to a side would hear those that have not left it yet.
        for at in 0..self.wires {
            ip(&["-n", &self.switch(), "link", "set", &port(at), "nomaster"]);
        }
        for (at, on) in side_of.iter().enumerate() {
            ip(&["-n", &self.switch(), "link", "set", &port(at), "master", &side(*on)]);
        }
    }

    /// Puts the first two clinics so far apart that they hear each other only through one TCP port, each way of which takes
    /// `one_way`: it leads from the second to this port of the first. Where it begins.
    pub(crate) fn set_apart(&mut self, port: u16, one_way: Duration) -> SocketAddr {
        self.part(&[0, 1]);
        let ends = [254, 253].map(|end| format!("{}.{end}", self.net));
        for (at, end) in ends.iter().enumerate() {
            let (switch, side, clinic) = (self.switch(), side(at), format!("{}.{}/32", self.net, at + 1));
            ip(&["-n", &switch, "address", "add", &format!("{end}/32"), "dev", &side]);
            ip(&["-n", &switch, "route", "add", &clinic, "dev", &side, "src", end]);
        }
        let address = |text: &str| text.parse::<IpAddr>().expect("an address of ours");
        let target = SocketAddr::new(address(&format!("{}.1", self.net)), port);
        let switch = File::open(format!("/var/run/netns/{}", self.switch())).expect("the switch is a namespace");
        let enter = move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(switch.as_fd(), network).expect("its namespace can be entered");
        };
        Distance::new(address(&ends[1]), target, one_way, enter).address()
    }

    fn want_sides(&mut self, count: usize) {
        for at in self.sides..count {
            ip(&["-n", &self.switch(), "link", "add", &side(at), "type", "bridge"]);
            ip(&["-n", &self.switch(), "link", "set", &side(at), "up"]);
        }
        self.sides = self.sides.max(count);
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn namespace(&self, at: usize) -> String {
        format!("{}-{at}", self.name)
    }
}

impl Wire {
    /// It has another address from now on.
    pub(crate) fn move_to(&mut self, address: &str) {
        ip(&["-n", &self.namespace, "address", "flush", "dev", "wire"]);
        self.up("wire", address);
        self.address = address.to_owned();
    }

    fn up(&self, end: &str, address: &str) {
        ip(&["-n", &self.namespace, "address", "add", &format!("{address}/24"), "dev", end]);
        ip(&["-n", &self.namespace, "link", "set", end, "up"]);
    }

    /// The only address there.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A program that runs there. `ip` becomes the program, so whoever kills the child kills that.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program);
        command
    }

    /// From now on no more than so many bits a second leave it, headers included; what is more waits, and is dropped where
    /// too much of it waits, as on a line of that width.
    ///
    /// # Panics
    /// Where `tc` of iproute2 is missing, or the kernel has no token bucket filter.
    pub fn narrow(&self, bits_per_s: u64) {
        let rate = format!("{bits_per_s}bit");
        let bucket = ["root", "tbf", "rate", &rate, "burst", BURST, "latency", QUEUED];
        self.run("tc", &[&["qdisc", "replace", "dev", "wire"], &bucket[..]].concat());
    }

    /// Bytes that left it so far, headers included.
    ///
    /// # Panics
    /// If `ip` does not tell.
    pub fn sent(&self) -> u64 {
        let told = run(&["-n", &self.namespace, "-s", "-j", "link", "show", "wire"]);
        let links: serde_json::Value = told.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        links[0]["stats64"]["tx"]["bytes"].as_u64().expect("a wire counts its bytes")
    }

    /// Runs a program there to its end.
    fn run(&self, program: &str, args: &[&str]) {
        ip(&[&["netns", "exec", &self.namespace, program], args].concat());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let clinics = (0..self.wires).map(|at| self.namespace(at));
        for namespace in clinics.chain([self.switch()]) {
            // A switch that could not be made is not there.
            let _ = run(&["netns", "delete", &namespace]);
        }
    }
}

/// Removes namespaces whose test was killed before it could.
fn remove_left_overs() {
    let namespaces = run(&["netns", "list"]).unwrap_or_default();
    for namespace in namespaces.lines().filter_map(|line| line.split_whitespace().next()) {
        let made_by = namespace.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let Some(made_by) = made_by.and_then(|id| id.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(made_by.to_string()).exists() {
            let _ = run(&["netns", "delete", namespace]); // another test may have been faster
        }
    }
}

fn port(at: usize) -> String {
    format!("port-{at}")
}

fn side(at: usize) -> String {
    format!("side-{at}")
}

fn ip(args: &[&str]) {
    run(args).unwrap_or_else(|error| panic!("{error}"));
}

/// Runs `ip` to its end; what it printed, or what it complained of.
fn run(args: &[&str]) -> Result<String, String> {
    let said = Command::new("ip").args(args).output();
    let said = said.map_err(|error| format!("ip {}: {error}", args.join(" ")))?;
    match said.status.success() {
        true => Ok(String::from_utf8_lossy(&said.stdout).into_owned()),
        false => Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&said.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_narrow_wire_lets_through_what_fits_and_counts_it() {
        const BITS_PER_S: u64 = 800_000; // 100 seconds for what is sent here
        const LEN: u64 = 10_000_000;
        let mut network = Network::private();
        let (from, to) = (network.wire(), network.wire());
        from.narrow(BITS_PER_S);
        let before = from.sent();
        let namespace = File::open(format!("/var/run/netns/{}", from.namespace)).unwrap();
        let ends = [&from, &to].map(|wire| (wire.address().to_owned(), 9_u16));
        let sending = std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let [from, to] = ends;
            let socket = UdpSocket::bind(from).unwrap();
            for _ in 0..LEN / 1000 {
                let _ = socket.send_to(&[0; 1000], &to); // it may be told that this was dropped
            }
        });
        sending.join().unwrap();
        let sent = from.sent() - before;
        assert!((10_000..LEN / 2).contains(&sent), "{sent} bytes left");
    }
}
