//! A node without a process: the folder of a clinic that joined and was never started, and a test that speaks for it.

use std::sync::Arc;

use bithealth::home::Home;
use bithealth::keys::Unlocking;
use bithealth_envelope::NodeKey;
use bithealth_net::{Config, Event, Events, Net, Protocol, Stream};
use bithealth_proto::v1::{self, hello_answer::Answer, sync_answer, sync_request::Request};
use bithealth_types::NodeId;
use bytes::Bytes;

use crate::Clinic;

/// A node whose keys and certificate are sound, and whose words are the test's.
#[derive(Debug)]
pub struct Guest {
    /// Its place in the network.
    pub net: Net,
    /// Signs its log.
    pub key: NodeKey,
    hello: v1::Hello,
}

impl Guest {
    /// Runs in the place of `clinic`, and calls whoever invited it.
    ///
    /// # Panics
    /// If the clinic did not join, or nobody answers.
    pub async fn start(clinic: &Clinic) -> (Arc<Self>, Events) {
        let home = Home::new(&clinic.home);
        let key = home.keys(&Unlocking::KeyFile(clinic.key_file().to_owned())).expect("its keys").node;
        let genesis = home.genesis().expect("its genesis");
        let config = Config { listen: vec!["/ip4/127.0.0.1/tcp/0".into()], ..Config::default() };
        let (net, events) = bithealth_net::start(*key.seed(), genesis.id(), config).await.expect("a free port");
        let hello = v1::Hello {
            genesis: Bytes::copy_from_slice(genesis.id().as_bytes()),
            version: 1,
            node: Some(home.certificate().expect("its certificate")),
            admission: home.admission().expect("its admission"),
            addresses: net.listen_addresses(),
            genesis_file: Some(genesis),
        };
        net.dial(home.config().expect("its configuration").contacts).await.expect("who invited it");
        (Arc::new(Self { net, key, hello }), events)
    }

    /// What happens next, but for introductions, which it answers, and questions about the ledger, of which it knows
    /// nothing.
    pub async fn next(self: &Arc<Self>, events: &mut Events) -> Option<Event> {
        loop {
            match events.next().await? {
                Event::Connected { node, outbound: true, .. } => drop(tokio::spawn(self.clone().greet(node))),
                Event::Stream { from, protocol: Protocol::Hello, stream } => {
                    tokio::spawn(self.clone().welcome(from, stream));
                }
                Event::Stream { protocol: Protocol::Sync, stream, .. } => drop(tokio::spawn(know_nothing(stream))),
                other => return Some(other),
            }
        }
    }

    async fn greet(self: Arc<Self>, node: NodeId) {
        let Ok(mut stream) = self.net.open(node, Protocol::Hello).await else { return };
        if let Ok(v1::HelloAnswer { answer: Some(Answer::Welcome(hello)) }) = stream.ask(&self.hello).await {
            self.net.admit(node).await.expect("it runs");
            self.net.keep(node, hello.addresses).await.expect("addresses");
        }
    }

    async fn welcome(self: Arc<Self>, node: NodeId, mut stream: Stream) {
        let Ok(Some(_)) = stream.recv::<v1::Hello>().await else { return };
        self.net.admit(node).await.expect("it runs");
        let answer = v1::HelloAnswer { answer: Some(Answer::Welcome(self.hello.clone())) };
        let _ = stream.send(&answer).await; // it may have gone
        let _ = stream.close().await;
    }

    /// Asks a node about its ledger.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn ask(&self, node: NodeId, request: Request) -> sync_answer::Answer {
        let mut stream = self.net.open(node, Protocol::Sync).await.expect("it is connected");
        let answer = stream.ask::<_, v1::SyncAnswer>(&v1::SyncRequest { request: Some(request) }).await;
        answer.expect("an answer").answer.expect("of a known kind")
    }

    /// What a header commits to, if this node has it.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn body(&self, node: NodeId, height: u64, header: &[u8]) -> Option<v1::Body> {
        let request = v1::SyncBody { height, header: Bytes::copy_from_slice(header) };
        match self.ask(node, Request::Body(request)).await {
            sync_answer::Answer::Body(found) => found.body,
            other => panic!("a body was asked for: {other:?}"),
        }
    }
}

/// Answers whoever synchronises with an empty ledger.
async fn know_nothing(mut stream: Stream) {
    while let Ok(Some(v1::SyncRequest { request: Some(request) })) = stream.recv::<v1::SyncRequest>().await {
        let answer = match request {
            Request::Frontier(_) => sync_answer::Answer::Frontier(v1::SyncFrontier::default()),
            Request::Entries(_) => sync_answer::Answer::Entries(v1::EntryBatch::default()),
            Request::Blocks(_) => sync_answer::Answer::Blocks(v1::BlockBatch::default()),
            Request::Body(_) => sync_answer::Answer::Body(v1::FoundBody::default()),
            Request::Genesis(_) => return,
        };
        let answer = v1::SyncAnswer { answer: Some(answer) };
        if stream.send(&answer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}
