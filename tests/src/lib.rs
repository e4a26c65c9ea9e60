//! Whole systems for tests: clinics of real processes, on 127.0.0.1 or on a network that can be taken apart and hides them,
//! asked through the command line as people do.

mod clinic;
mod cluster;
mod dice;
mod distance;
mod files;
mod flood;
mod guest;
mod network;
mod program;
mod scrape;
mod wait;

pub use clinic::{Answer, Clinic};
pub use cluster::Cluster;
pub use dice::Dice;
use distance::Distance;
pub use files::{bytes_of, files_of, real_data, same_files, text, write};
pub use flood::{Attacked, want};
pub use guest::Guest;
pub use network::{Nat, Network, Place, Wire};
pub use program::program;
pub use scrape::{Page, Scrape, scrape};
pub use wait::{soon, wait_until};

/// Where a clinic on a network of ours listens.
const WIRED_PORT: u16 = 4401;
