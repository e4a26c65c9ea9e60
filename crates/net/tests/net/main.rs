//! Several swarms in one process, over real sockets on ports the system chooses.

mod admission;
mod dialling;
mod gossip;
mod reaching;
mod relaying;
mod streams;
mod support;
