//! Lines of a known width between network namespaces (root, `ip` and `tc` of iproute2), and what fits through them.

use std::path::Path;
use std::process::Command;

use bithealth_tests::{Clinic, Cluster, Network, Wire};

/// The width of a line.
pub(super) const BITS_PER_S: u64 = 100_000_000;
/// Of a frame of Ethernet, 1,500 bytes of IP and a header of 14, what TCP with timestamps carries.
const OF_FRAME: f64 = 1448.0 / 1514.0;
/// Where a tool listens in its own namespace.
const PORT: u16 = 6881;

/// MB a second that one line carries at most, without the headers of Ethernet, IP and TCP.
pub(super) fn goodput() -> f64 {
    BITS_PER_S as f64 / 8e6 * OF_FRAME
}

/// Machines with a line each, for tools that are no clinics.
pub(super) struct Lines {
    pub(super) wires: Vec<Wire>,
    /// Removed after all else.
    _network: Network,
}

impl Lines {
    /// As many as asked for, none of them narrow.
    pub(super) fn new(count: usize) -> Self {
        let mut network = Network::private();
        let wires = (0..count).map(|_| network.wire()).collect();
        Self { wires, _network: network }
    }

    /// A program on one of the machines.
    pub(super) fn command(&self, at: usize, program: &Path) -> Command {
        self.wires[at].command(program)
    }

    /// Where a tool on this machine is reached.
    pub(super) fn address(&self, at: usize) -> String {
        format!("{}:{PORT}", self.wires[at].address())
    }
}

/// The line of a clinic.
pub(super) fn line_of<'a>(cluster: &'a Cluster, name: &str) -> &'a Wire {
    cluster[name].wire().expect("it was started on a network")
}

/// The processes of all nodes.
pub(super) fn processes(cluster: &Cluster) -> Vec<u32> {
    cluster.clinics().iter().filter_map(Clinic::process).collect()
}
