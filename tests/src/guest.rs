//! A node without a process: the folder of a clinic that joined and was never started, and a test that speaks for it.

use std::sync::{Arc, Mutex, MutexGuard};

use bithealth::home::Home;
use bithealth::keys::Unlocking;
use bithealth_envelope::NodeKey;
use bithealth_net::{Config, Event, Events, Net, Protocol, Stream};
use bithealth_proto::decode;
use bithealth_proto::v1::{self, entry::Operation, hello_answer::Answer, sync_answer, sync_request::Request};
use bithealth_types::{Digest, NodeId};
use bytes::Bytes;

use crate::Clinic;

/// Entries in one answer.
const ENTRIES_MAX: u32 = 128;

/// A node whose keys and certificate are sound, and whose words are the test's.
#[derive(Debug)]
pub struct Guest {
    /// Its place in the network.
    pub net: Net,
    key: NodeKey,
    hello: v1::Hello,
    log: Mutex<Vec<v1::SignedEntry>>,
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
        (Arc::new(Self { net, key, hello, log: Mutex::default() }), events)
    }

    /// What happens next, but for introductions, which it answers, and questions about the ledger, of which it knows
    /// its own log.
    pub async fn next(self: &Arc<Self>, events: &mut Events) -> Option<Event> {
        loop {
            match events.next().await? {
                Event::Connected { node, outbound: true, .. } => drop(tokio::spawn(self.clone().greet(node))),
                Event::Stream { from, protocol: Protocol::Hello, stream } => {
                    tokio::spawn(self.clone().welcome(from, stream));
                }
                Event::Stream { protocol: Protocol::Sync, stream, .. } => drop(tokio::spawn(self.clone().sync(stream))),
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

    /// Answers whoever synchronises.
    async fn sync(self: Arc<Self>, mut stream: Stream) {
        while let Ok(Some(v1::SyncRequest { request: Some(request) })) = stream.recv::<v1::SyncRequest>().await {
            let answer = match request {
                Request::Frontier(_) => sync_answer::Answer::Frontier(self.frontier()),
                Request::Entries(wanted) => sync_answer::Answer::Entries(self.entries(&wanted)),
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

    fn frontier(&self) -> v1::SyncFrontier {
        let log = v1::LogLen { author: self.author(), len: self.log().len() as u64 };
        v1::SyncFrontier { logs: vec![log], ..v1::SyncFrontier::default() }
    }

    fn entries(&self, wanted: &v1::SyncEntries) -> v1::EntryBatch {
        let log = self.log();
        let from = usize::try_from(wanted.from).map_or(log.len(), |from| from.min(log.len()));
        let its = wanted.author == self.author();
        let entries = log[from..].iter().take(wanted.max.min(ENTRIES_MAX) as usize).filter(|_| its).cloned();
        v1::EntryBatch { entries: entries.collect() }
    }

    fn log(&self) -> MutexGuard<'_, Vec<v1::SignedEntry>> {
        self.log.lock().expect("no holder panics")
    }

    /// What its entries name as their author.
    pub fn author(&self) -> Bytes {
        Bytes::copy_from_slice(self.key.id().as_bytes())
    }

    /// Writes an entry to its log; it is gossiped by whoever publishes it.
    pub fn write(&self, time_ms: u64, operation: Operation) -> v1::SignedEntry {
        let mut log = self.log();
        let previous = log.last().map_or(Digest([0; 32]), bithealth_ledger::entry_digest);
        let entry = v1::Entry {
            author: self.author(),
            sequence: log.len() as u64,
            previous: Bytes::copy_from_slice(previous.as_bytes()),
            time_ms,
            operation: Some(operation),
        };
        let signed = bithealth_ledger::sign(|message| self.key.sign(message), entry);
        log.push(signed.clone());
        signed
    }

    /// The same, signed by somebody else.
    pub fn forge(&self, time_ms: u64, operation: Operation) -> v1::SignedEntry {
        let mut signed = self.write(time_ms, operation);
        signed.signature = Bytes::from_static(&[7; 64]);
        *self.log().last_mut().expect("just written") = signed.clone();
        signed
    }

    /// A stream of the exchange.
    ///
    /// # Panics
    /// If the node offers none.
    pub async fn exchange(&self, node: NodeId) -> Stream {
        self.net.open(node, Protocol::Exchange).await.expect("it is connected")
    }

    /// The packs that an author has on the ledger of a node.
    ///
    /// # Panics
    /// If the node does not answer.
    pub async fn packs_of(&self, node: NodeId, author: NodeId) -> Vec<v1::PackDescriptor> {
        let author = Bytes::copy_from_slice(author.as_bytes());
        let request = Request::Entries(v1::SyncEntries { author, from: 0, max: ENTRIES_MAX });
        let sync_answer::Answer::Entries(batch) = self.ask(node, request).await else {
            panic!("entries were asked for")
        };
        let entry = |signed: &v1::SignedEntry| decode::<v1::Entry>(&signed.entry).expect("an entry");
        let entries = batch.entries.iter().map(entry);
        entries
            .filter_map(|entry| match entry.operation {
                Some(Operation::CommitPack(commit)) => commit.pack,
                _ => None,
            })
            .collect()
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
