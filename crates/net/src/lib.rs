//! Peers, streams and gossip: the passage between bytes and messages, over one libp2p swarm.
//!
//! [`start`] gives a [`Net`], the handle that everybody clones, and [`Events`], which one driver reads. One task owns the
//! swarm; handle and task talk over bounded channels, and nothing the other side does can block the task.
//!
//! There is no rule of the domain here. Who is a member is what the driver says with [`Net::admit`]: a connected peer
//! that is not admitted can open [`Protocol::Hello`] and nothing else, takes no part in gossip or in the search for
//! addresses, and is disconnected after [`Config::hello_timeout_ms`].

mod address;
mod behaviour;
mod command;
mod config;
mod dial_back;
mod event;
mod frame;
mod gate;
mod id;
mod lan;
mod muxer;
mod net;
mod peers;
mod probe;
mod reach;
mod redial;
mod relay;
mod relays;
mod start;
mod streams;
mod task;
mod tls;

pub use config::{Config, ConfigError};
pub use event::{Event, Events, GossipId, Topic, Verdict};
pub use frame::{FrameError, Reader, Stream, Writer};
pub use id::{Keys, NotEd25519, node_at, node_id, peer_id};
pub use net::{DialError, Net, OpenError, PublishError, Stopped, Tried};
pub use peers::{Path, Reached, Traffic};
pub use reach::Reach;
pub use start::{StartError, start};
pub use streams::Protocol;
