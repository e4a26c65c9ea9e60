//! The blocks that a node has, as it shows them to light clients.

use std::collections::BTreeSet;

use bithealth::client::Client;
use bithealth::home::Home;
use bithealth_http::api::HeaderRange;
use bithealth_proto::{decode, digest, v1};
use bithealth_tests::{Clinic, Cluster, wait_until};
use bithealth_types::{Digest, Height};
use tokio::runtime::Runtime;

/// Asks the node of a clinic, with no process in between.
pub(crate) fn client(clinic: &Clinic) -> Client {
    Client::new(Home::new(&clinic.home).socket_path())
}

/// The digests of all headers, height 1 first.
pub(crate) fn digests(clinic: &Clinic) -> Vec<Digest> {
    let (client, runtime) = (client(clinic), Runtime::new().unwrap());
    let mut digests = Vec::new();
    loop {
        let from = Height(digests.len() as u64 + 1);
        let answer = runtime.block_on(client.headers(HeaderRange { from })).unwrap();
        if answer.is_empty() {
            return digests;
        }
        let mut rest = &answer[..];
        while let Some((len, frames)) = rest.split_first_chunk() {
            let (frame, behind) = frames.split_at(u32::from_be_bytes(*len) as usize);
            let signed: v1::SignedHeader = decode(frame).unwrap();
            digests.push(digest(&signed.header.unwrap()));
            rest = behind;
        }
    }
}

/// Waits until all nodes have the same block at every height, and returns the digests. What was final before, `known`,
/// must still be.
pub(crate) fn one_history(cluster: &Cluster, known: &[Digest]) -> Vec<Digest> {
    wait_until("all have the same blocks", || {
        let histories: Vec<_> = cluster.clinics().iter().map(digests).collect();
        let shortest = histories.iter().map(Vec::len).min().unwrap_or(0);
        for (history, clinic) in histories.iter().zip(cluster.clinics()) {
            assert_eq!(history[..shortest], histories[0][..shortest], "{} has another history", clinic.name);
            let both = known.len().min(history.len());
            assert_eq!(history[..both], known[..both], "{}: what was final has changed", clinic.name);
        }
        let lens: BTreeSet<_> = histories.iter().map(Vec::len).collect();
        if lens.len() == 1 && shortest >= known.len() { Ok(histories[0].clone()) } else { Err(format!("{lens:?}")) }
    })
}
