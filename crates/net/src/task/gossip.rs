//! Gossip, both ways: what we say, what others pass on, and what becomes of it.

use bithealth_types::Digest;
use libp2p::PeerId;
use libp2p::gossipsub::{self, MessageAcceptance, MessageId};

use super::Task;
use crate::{Event, GossipId, PublishError, Topic, Verdict, behaviour, node_id};

impl Task {
    pub(super) fn publish(&mut self, topic: Topic, bytes: &[u8]) -> Result<(), PublishError> {
        let max = behaviour::gossip_len_max(&self.config, topic);
        if bytes.len() > max {
            return Err(PublishError::TooLong { topic, got: bytes.len(), max });
        }
        match self.swarm.behaviour_mut().gossip.inner().publish(behaviour::topic(topic), bytes) {
            Ok(_) | Err(gossipsub::PublishError::Duplicate) => Ok(()),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(PublishError::NoPeers { topic }),
            Err(gossipsub::PublishError::AllQueuesFull(peers)) => Err(PublishError::Busy { peers }),
            Err(gossipsub::PublishError::MessageTooLarge) => {
                Err(PublishError::TooLong { topic, got: bytes.len(), max })
            }
            Err(error @ (gossipsub::PublishError::SigningError(_) | gossipsub::PublishError::TransformFailed(_))) => {
                unreachable!("nothing is signed or transformed: {error}")
            }
        }
    }

    pub(super) fn judge(&mut self, id: GossipId, from: &PeerId, verdict: Verdict) {
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        let id = MessageId::from(id.0.as_bytes().to_vec());
        // `false` where the message has left the cache: too late to pass it on.
        self.swarm.behaviour_mut().gossip.inner().report_message_validation_result(&id, from, acceptance);
    }

    pub(super) fn on_gossip(&mut self, from: PeerId, id: &MessageId, message: gossipsub::Message) {
        let topic = Topic::ALL.into_iter().find(|one| one.name() == message.topic.as_str());
        let (Some(topic), Ok(node), Ok(digest)) = (topic, node_id(&from), Digest::try_from(id.0.as_slice())) else {
            return; // a topic we did not subscribe to
        };
        let id = GossipId(digest);
        let max = behaviour::gossip_len_max(&self.config, topic);
        if message.data.len() > max {
            tracing::info!(peer = %node, got = message.data.len(), max, "a gossiped message is too long");
            return self.judge(id, &from, Verdict::Reject);
        }
        let event = Event::Gossip { topic, from: node, id, bytes: message.data.into() };
        if self.outbox.offer(event).is_err() {
            tracing::debug!(peer = %node, "events are not read fast enough, a message is ignored");
            self.judge(id, &from, Verdict::Ignore);
        }
    }
}
