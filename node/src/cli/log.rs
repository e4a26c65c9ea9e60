//! What a node logs, and where to.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// What a node logs unless `RUST_LOG` says otherwise.
///
/// Gossipsub warns of each message that another validator sent first, which is what happens to a block that all of them
/// decided; of what it warns with the id of a message, nothing is news to an operator. Its other warnings stay.
///
/// The rounds warn of votes that exclude each other, and of certificates that do not hold, with all that is in them. The
/// node says itself that somebody is to blame, and `status` names it.
const DEFAULT: &str = "warn,bithealth=info,libp2p_kad=error,libp2p_gossipsub::behaviour[{message_id}]=error,\
                       arc_malachitebft_core_votekeeper=error,arc_malachitebft_core_consensus::handle::liveness=error";

/// Who reads a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    /// A person at a terminal.
    Terminal,
    /// Whoever opens a file, or reads a pipe: colours would be noise.
    File,
}

/// The log of a node goes to the standard error, as much of it as `RUST_LOG` says.
pub(crate) fn to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let reader = if std::io::stderr().is_terminal() { Reader::Terminal } else { Reader::File };
    let _ = log(filter, reader, std::io::stderr).try_init(); // a test set up its own
}

fn log<W>(filter: EnvFilter, reader: Reader, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let is_coloured = reader == Reader::Terminal;
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_coloured).with_writer(writer).finish()
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use bithealth_consensus::{Effect, Engine, Input};
    use bithealth_envelope::NodeKey;
    use bithealth_ledger::{Validator, ValidatorSet, vote_message};
    use bithealth_proto::v1::{self, consensus_message::Message};
    use bithealth_types::{Digest, GenesisId, Height, MemberId, Time, ValidatorId};
    use bytes::Bytes;
    use tracing::{info, warn};

    use super::*;

    /// What is logged, for looking into.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no holder panics").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged meanwhile, unless something is said otherwise.
    fn logged(reader: Reader, act: impl FnOnce()) -> String {
        let written = Log::default();
        let writer = written.clone();
        tracing::subscriber::with_default(log(EnvFilter::new(DEFAULT), reader, move || writer.clone()), act);
        let bytes = written.0.lock().expect("no holder panics").clone();
        String::from_utf8(bytes).expect("a log is text")
    }

    #[test]
    fn a_message_that_another_sent_first_is_not_logged_and_other_warnings_of_gossip_are() {
        let text = logged(Reader::File, || {
            warn!(target: "libp2p_gossipsub::behaviour", message_id = "00", "sent before");
            warn!(target: "libp2p_gossipsub::behaviour", peer_id = "00", "queue full");
            warn!(target: "libp2p_swarm", "a limit is hit");
            info!(target: "bithealth::peers", "a peer is new");
            info!(target: "libp2p_swarm", "a detail");
        });
        let is_logged = |words: &&str| text.contains(*words);
        let all = ["sent before", "queue full", "a limit is hit", "a peer is new", "a detail"];
        assert_eq!(all.into_iter().filter(is_logged).collect::<Vec<_>>(), all[1..4], "{text}");
    }

    #[test]
    fn a_log_has_colours_where_a_person_reads_it_and_none_in_a_file() {
        let said = || warn!(target: "bithealth::peers", peer = "00", "a peer is refused");
        assert!(logged(Reader::Terminal, said).contains('\u{1b}'));
        let text = logged(Reader::File, said);
        assert!(text.contains("a peer is refused peer=\"00\"") && !text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn votes_that_exclude_each_other_are_told_of_and_not_dumped_into_the_log() {
        const NETWORK: GenesisId = GenesisId([7; 32]);
        let [ours, theirs] = [NodeKey::random(), NodeKey::random()];
        let key = |it: &NodeKey| ValidatorId(it.id().0);
        let one = |it: &NodeKey, at: u8| Validator { member: MemberId([at; 32]), key: key(it) };
        let validators = ValidatorSet::new(vec![one(&ours, 1), one(&theirs, 2)]).unwrap();
        let vote = |value: u8| {
            let kind = v1::VoteKind::Prevote;
            let message = vote_message(&NETWORK, Height(1), 0, kind, Some(&Digest([value; 32])));
            let vote = v1::ConsensusVote {
                height: 1,
                round: 0,
                kind: kind.into(),
                value: Bytes::copy_from_slice(&[value; 32]),
                validator: Bytes::copy_from_slice(theirs.id().as_bytes()),
                signature: Bytes::copy_from_slice(&theirs.sign(&message)),
            };
            Input::Message(v1::ConsensusMessage { message: Some(Message::Vote(vote)), repeat: 0 })
        };
        let (id, mut effects) = (key(&ours), VecDeque::new());
        let mut engine = Engine::new(NETWORK, id, Box::new(move |it| Some(ours.sign(it))), None).unwrap();
        let text = logged(Reader::File, || {
            let start = Input::Start { height: Height(1), validators: validators.clone(), frames: Vec::new() };
            for input in [start, vote(1), vote(2)] {
                engine.handle(Time(0), input, &mut effects).unwrap();
            }
            warn!(target: "bithealth::reconcile", "somebody is to blame");
        });
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Accuse(_))), "both votes were taken: {effects:?}");
        assert!(text.contains("somebody is to blame") && text.lines().count() == 1, "{text}");
    }
}
