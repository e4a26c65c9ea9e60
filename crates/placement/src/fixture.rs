//! Small networks for tests.

use bithealth_types::{MemberId, NodeId, PackId};
use proptest::prelude::*;

use crate::site::{Policy, Site, Survive};

/// One node per (region, organisation), numbered from 0, all of one jurisdiction, each offering 1 GiB.
pub(crate) fn sites(places: &[(&str, u8)]) -> Vec<Site> {
    let site = |(index, (region, member)): (usize, &(&str, u8))| Site {
        node: node(index),
        member: MemberId([*member; 32]),
        region: (*region).to_owned(),
        jurisdiction: "DE".to_owned(),
        capacity: 1 << 30,
    };
    places.iter().enumerate().map(site).collect()
}

/// `regions` regions of `nodes` nodes, each of an organisation of its own.
pub(crate) fn grid(regions: usize, nodes: usize) -> Vec<Site> {
    let names = ["a", "b", "c", "d", "e", "f"];
    let places: Vec<_> = (0..regions * nodes).map(|index| (names[index / nodes], index as u8)).collect();
    sites(&places)
}

pub(crate) fn node(index: usize) -> NodeId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&(index as u16).to_be_bytes());
    NodeId(id)
}

pub(crate) fn author() -> NodeId {
    node(0)
}

pub(crate) fn pack(number: u32) -> PackId {
    let mut id = [7; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    PackId(id)
}

pub(crate) fn survive(regions: u32, nodes: u32) -> Policy {
    Policy { survive: Survive { regions, nodes }, ..Policy::default() }
}

/// Any small network: up to 5 regions, 6 organisations, 3 jurisdictions, 16 nodes of different capacity.
pub(crate) fn topology() -> impl Strategy<Value = Vec<Site>> {
    prop::collection::vec((0_usize..5, 0_u8..6, 0_usize..3, 1_u64..4), 1..16).prop_map(|nodes| {
        let site = |(index, (region, member, jurisdiction, capacity)): (usize, (usize, u8, usize, u64))| Site {
            node: node(index),
            member: MemberId([member; 32]),
            region: ["a", "b", "c", "d", "e"][region].to_owned(),
            jurisdiction: ["DE", "FR", "JP"][jurisdiction].to_owned(),
            capacity: capacity << 30,
        };
        nodes.into_iter().enumerate().map(site).collect()
    })
}
