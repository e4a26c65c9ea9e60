//! A network that can be taken apart: each clinic in a Linux network namespace of its own, with one wire to a switch.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// What the names of our namespaces begin with; then the id of the process, and how many networks it made before.
const PREFIX: &str = "bithealth-";
/// Clinics on one network: their addresses end with 1 and up.
const WIRES_MAX: usize = 254;

/// A switch with one wire to each clinic. Everything is removed when it is dropped, also by a test that panics.
///
/// The switch is a namespace too, so nothing here touches the machine's own network, and every network may use the same
/// addresses.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    wires: usize,
    sides: usize,
}

/// One clinic's end of a wire.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// The namespace to run its programs in.
    pub(crate) namespace: String,
    /// The only address there that others reach.
    pub(crate) address: String,
}

impl Network {
    /// A switch without wires.
    ///
    /// # Panics
    /// Where namespaces cannot be made, with what it takes.
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        remove_left_overs();
        let name = format!("{PREFIX}{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut network = Self { name, wires: 0, sides: 0 };
        let made = run(&["netns", "add", &network.switch()]);
        made.unwrap_or_else(|error| {
            panic!(
                "this test needs root, and `ip` of iproute2, to make network namespaces (see README, Try it): {error}"
            )
        });
        network.want_sides(1);
        network
    }

    /// A wire to the next clinic.
    pub(crate) fn wire(&mut self) -> Wire {
        assert!(self.wires < WIRES_MAX, "{WIRES_MAX} clinics fit on a network");
        let (at, switch) = (self.wires, self.switch());
        let wire = Wire { namespace: self.namespace(at), address: format!("10.0.0.{}", at + 1) };
        ip(&["netns", "add", &wire.namespace]);
        self.wires += 1; // from here on it is removed
        let end = ["peer", "name", "wire", "netns", &wire.namespace];
        ip(&[&["-n", &switch, "link", "add", &port(at), "type", "veth"], &end[..]].concat());
        ip(&["-n", &wire.namespace, "address", "add", &format!("{}/24", wire.address), "dev", "wire"]);
        ip(&["-n", &wire.namespace, "link", "set", "wire", "up"]);
        ip(&["-n", &switch, "link", "set", &port(at), "master", &side(0), "up"]);
        wire
    }

    /// Puts each clinic, by the order in which they were wired, on the side named; sides do not hear each other. Nobody is
    /// told that a connection is gone: packets are lost, as when a cable is cut far away.
    pub(crate) fn part(&mut self, side_of: &[usize]) {
        assert_eq!(side_of.len(), self.wires, "every clinic is on a side");
        self.want_sides(side_of.iter().max().map_or(1, |last| last + 1));
        for (at, on) in side_of.iter().enumerate() {
            ip(&["-n", &self.switch(), "link", "set", &port(at), "master", &side(*on)]);
        }
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
