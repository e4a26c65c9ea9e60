//! The whole system in real processes: each promise to the people who rely on it, as a test.

mod system {
    mod again;
    mod audit;
    mod away;
    mod behind;
    mod canary;
    mod crash;
    mod disk_full;
    mod fairness;
    mod finality;
    mod flood;
    mod forger;
    mod gossip;
    mod history;
    mod liar;
    mod loss;
    mod metrics;
    mod moves;
    mod nat;
    mod partition;
    mod patient;
    mod proofs;
    mod recovery;
    mod refusal;
    mod repair;
    mod size;
    mod swarm;
    mod twins;
    mod votes;
    mod witness;
}
