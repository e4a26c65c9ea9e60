//! Positions, counts, lengths and times.

use std::fmt;
use std::time::Duration;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

quantity!(
    /// Blocks since genesis, which is 0.
    Height, u64
);
quantity!(
    /// Position of an entry in its author's log, from 0.
    Sequence, u64
);
quantity!(
    /// Position of a chunk in its record, from 0.
    ChunkIndex, u32
);
quantity!(
    /// Position of a shard among the n of its pack, from 0; those below k are the pack itself.
    ShardIndex, u16
);
quantity!(
    /// Position of a leaf in its shard, from 0.
    LeafIndex, u32
);

/// A number of bytes. Shown in binary units, as people read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ByteLen(pub u64);

impl fmt::Display for ByteLen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {}", UNITS[unit]) }
    }
}

/// Milliseconds since a start that the shell chooses; what a core knows of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// This much later.
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay.as_millis() as u64))
    }

    /// How long since `earlier`; zero if that lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_shown_in_the_unit_a_person_would_choose() {
        assert_eq!(ByteLen(0).to_string(), "0 B");
        assert_eq!(ByteLen(1023).to_string(), "1023 B");
        assert_eq!(ByteLen(1536).to_string(), "1.5 KiB");
        assert_eq!(ByteLen(16 << 20).to_string(), "16.0 MiB");
    }

    #[test]
    fn time_never_runs_backwards() {
        assert_eq!(Time(5).since(Time(9)), Duration::ZERO);
        assert_eq!(Time(5).after(Duration::from_secs(2)), Time(2005));
    }
}
