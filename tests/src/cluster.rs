//! Clinics that know one another.

use std::ops::{Index, IndexMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::network::{Network, Place, Wire};
use crate::{Clinic, WIRED_PORT, wait_until};

/// Clinics that know one another, in a folder that vanishes with them.
#[derive(Debug)]
pub struct Cluster {
    clinics: Vec<Clinic>,
    /// Removed after the processes on it; none: all are on 127.0.0.1.
    network: Option<Network>,
    folder: TempDir,
}

impl Cluster {
    /// A network of clinics, one node each: `north-1` and `north-2` stand in region `north`.
    pub fn start(names: &[&str]) -> Self {
        Self::start_with(names, |_| {})
    }

    /// The same, with something changed in each clinic before its node starts.
    pub fn start_with(names: &[&str], change: impl Fn(&mut Clinic)) -> Self {
        Self::start_on(None, names, Clinic::init, |clinic, _| clinic, change)
    }

    /// The same, with something changed in each clinic before it joins.
    pub fn start_prepared(names: &[&str], prepare: impl Fn(&mut Clinic)) -> Self {
        let prepare = |mut clinic: Clinic, _: Option<&mut Network>| {
            prepare(&mut clinic);
            clinic
        };
        Self::start_on(None, names, Clinic::init, prepare, |_| {})
    }

    /// The same, founded by `init`.
    pub fn start_founded(names: &[&str], init: impl Fn(&Clinic)) -> Self {
        Self::start_on(None, names, init, |clinic, _| clinic, |_| {})
    }

    /// The same, on a network that can be taken apart.
    ///
    /// # Panics
    /// Where network namespaces cannot be made: that takes root.
    pub fn start_wired(names: &[&str]) -> Self {
        Self::start_wired_prepared(names, |_| {})
    }

    /// The same, with something changed in each clinic before it joins.
    ///
    /// # Panics
    /// As [`Self::start_wired`].
    pub fn start_wired_prepared(names: &[&str], prepare: impl Fn(&mut Clinic)) -> Self {
        let wire = |mut clinic: Clinic, network: Option<&mut Network>| {
            prepare(&mut clinic);
            clinic.wired(wire_of(network))
        };
        Self::start_on(Some(Network::private()), names, Clinic::init, wire, |_| {})
    }

    /// Two clinics, the second of which holds nothing for others and stands so far away that each way takes `one_way`.
    ///
    /// # Panics
    /// As [`Self::start_wired`].
    pub fn start_far(names: [&str; 2], one_way: Duration) -> Self {
        let mut cluster = Self::start_wired_prepared(&names, |clinic| {
            clinic.capacity = (clinic.name == names[1]).then_some("0");
        });
        cluster[names[1]].stop();
        let network = cluster.network.as_mut().expect("it was started on one");
        let address = network.set_apart(WIRED_PORT, one_way);
        cluster[names[1]].call_at(address);
        cluster[names[1]].start();
        cluster
    }

    /// The same on one LAN, where nobody is told how to listen.
    pub fn start_on_lan(names: &[&str]) -> Self {
        let wire = |clinic: Clinic, network: Option<&mut Network>| clinic.wired_as_it_comes(wire_of(network));
        Self::start_on(Some(Network::private()), names, Clinic::init, wire, |_| {})
    }

    /// The same in the world, each at its place, where nobody is told how to listen.
    pub fn start_at(places: &[(&str, Place)]) -> Self {
        let names: Vec<&str> = places.iter().map(|(name, _)| *name).collect();
        let place = |name: &str| places.iter().find(|(one, _)| *one == name).expect("each has a place").1;
        let wire = |clinic: Clinic, network: Option<&mut Network>| {
            let wire = network.expect("they are on one").place(place(&clinic.name));
            clinic.wired_as_it_comes(wire)
        };
        Self::start_on(Some(Network::world()), &names, Clinic::init, wire, |_| {})
    }

    fn start_on(
        network: Option<Network>,
        names: &[&str],
        init: impl Fn(&Clinic),
        prepare: impl Fn(Clinic, Option<&mut Network>) -> Clinic,
        change: impl Fn(&mut Clinic),
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let mut cluster = Self { clinics: Vec::new(), network, folder };
        // The founder invites everybody while it is alone: it is the quorum.
        let mut invites: Vec<String> = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let mut clinic = prepare(cluster.clinic(name), cluster.network.as_mut());
            match index.checked_sub(1).map(|index| &invites[index]) {
                None => init(&clinic),
                Some(invite) => {
                    let joined = clinic.join(invite);
                    assert_eq!(joined.exit, 0, "{name} does not join: {joined:?}");
                }
            }
            change(&mut clinic);
            clinic.start();
            if cluster.clinics.is_empty() {
                invites = names[1..].iter().map(|name| clinic.invite(name)).collect();
            }
            cluster.clinics.push(clinic);
        }
        cluster.wait_until_joined(names.len());
        cluster
    }

    /// A clinic that the first one invites, `voters` approve, and that joins; its node is not started.
    pub fn join_without_process(&self, name: &str, voters: &[&str]) -> Clinic {
        self.admit(self.clinic(name), voters)
    }

    /// The same, of a clinic that is prepared.
    pub fn admit(&self, clinic: Clinic, voters: &[&str]) -> Clinic {
        let name = &clinic.name;
        let invite = self.clinics[0].invite(name);
        for voter in voters {
            wait_until(&format!("{voter} hears of the invite"), || match self[voter].approve_all() {
                0 => Err("there is none to approve".to_owned()),
                _ => Ok(()),
            });
        }
        wait_until(&format!("{name} is admitted"), || match clinic.join(&invite) {
            joined if joined.exit == 0 => Ok(()),
            refused => Err(refused.error),
        });
        clinic
    }

    /// Takes the network apart: each of these groups hears only itself, and whoever is in none hears nobody.
    ///
    /// # Panics
    /// If the cluster is not on a network.
    pub fn part(&mut self, sides: &[&[&str]]) {
        let alone = sides.len()..;
        let side_of = |(clinic, alone): (&Clinic, usize)| {
            sides.iter().position(|side| side.contains(&clinic.name.as_str())).unwrap_or(alone)
        };
        let side_of: Vec<usize> = self.clinics.iter().zip(alone).map(side_of).collect();
        self.network.as_mut().expect("started on a network").part(&side_of);
    }

    /// Puts it together again.
    pub fn reunite(&mut self) {
        let all = vec![0; self.clinics.len()];
        self.network.as_mut().expect("started on a network").part(&all);
    }

    /// A clinic with a folder here that is not set up; its region is its name up to the hyphen.
    pub fn clinic(&self, name: &str) -> Clinic {
        Clinic::new(self.folder.path(), name, region_of(name))
    }

    /// A path in the folder of the cluster.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of the cluster: everything its nodes leave behind lies here.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every clinic that is up sees `count` nodes in blocks, all connected.
    pub fn wait_until_joined(&self, count: usize) {
        for clinic in self.clinics.iter().filter(|clinic| clinic.is_up()) {
            wait_until(&format!("{} sees {count} nodes", clinic.name), || {
                let status = clinic.status();
                let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
                let there = nodes.iter().filter(|node| node["connected"] == true && node["in_block"] == true);
                if there.count() >= count { Ok(()) } else { Err(status.to_string()) }
            });
        }
    }

    /// All clinics.
    pub fn clinics(&self) -> &[Clinic] {
        &self.clinics
    }

    /// A region burns down: its nodes are killed and their disks gone.
    pub fn lose(&mut self, region: &str) {
        for clinic in self.clinics.iter_mut().filter(|clinic| clinic.region == region) {
            clinic.kill();
            clinic.delete();
        }
    }
}

/// A wire of the network that clinics are started on.
fn wire_of(network: Option<&mut Network>) -> Wire {
    network.expect("they are on one").wire()
}

/// Where a clinic of this name stands.
fn region_of(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

impl Clinic {
    /// An invite for a clinic of this name, which the members vote on.
    pub fn invite(&self, name: &str) -> String {
        let invite = self.done(&["invite", name, "--region", region_of(name), "--jurisdiction", "EU"]);
        invite.value()["text"].as_str().expect("an invite is a text").to_owned()
    }

    /// Approves every proposal that waits for it; how many there were.
    pub fn approve_all(&self) -> usize {
        let proposals = self.done(&["admin", "proposals"]).lines;
        let is_for =
            |it: &Value| it["approved_by"].as_array().is_some_and(|by| by.contains(&self.name.as_str().into()));
        let open: Vec<_> = proposals.iter().filter(|it| it["passed"] == false && !is_for(it)).collect();
        for proposal in &open {
            self.done(&["admin", "approve", proposal["id"].as_str().expect("an id is a text")]);
        }
        open.len()
    }

    /// Its recovery kit, written to `path`.
    pub fn kit(&self, path: &Path) {
        self.done(&["kit", "--output", crate::text(path)]);
    }
}

impl Index<&str> for Cluster {
    type Output = Clinic;

    fn index(&self, name: &str) -> &Clinic {
        self.clinics.iter().find(|clinic| clinic.name == name).unwrap_or_else(|| panic!("no clinic is called {name}"))
    }
}

impl IndexMut<&str> for Cluster {
    fn index_mut(&mut self, name: &str) -> &mut Clinic {
        self.clinics
            .iter_mut()
            .find(|clinic| clinic.name == name)
            .unwrap_or_else(|| panic!("no clinic is called {name}"))
    }
}
