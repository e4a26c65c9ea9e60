//! A disk that forgets what was not synced.

use bytes::Bytes;

/// An append-only log with a write cache.
#[derive(Clone, Debug, Default)]
pub struct Log {
    frames: Vec<Bytes>,
    synced: usize,
}

impl Log {
    /// Appends to the cache.
    pub fn append(&mut self, frame: Bytes) {
        self.frames.push(frame);
    }

    /// Makes everything durable.
    pub fn sync(&mut self) {
        self.synced = self.frames.len();
    }

    /// Starts over, durably.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// The power fails, and with it `lost` of the frames that were not synced, or all of them if there are fewer.
    pub fn crash(&mut self, lost: usize) {
        let kept = self.frames.len().saturating_sub(lost).max(self.synced);
        self.frames.truncate(kept);
        self.synced = kept;
    }

    /// What no crash takes.
    pub fn synced(&self) -> &[Bytes] {
        &self.frames[..self.synced]
    }

    /// What is there.
    pub fn frames(&self) -> &[Bytes] {
        &self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_takes_what_was_not_synced_and_nothing_else() {
        let mut log = Log::default();
        log.append(Bytes::from_static(b"a"));
        log.sync();
        log.append(Bytes::from_static(b"b"));
        log.append(Bytes::from_static(b"c"));
        log.crash(1);
        assert_eq!(log.frames(), [Bytes::from_static(b"a"), Bytes::from_static(b"b")]);
        log.append(Bytes::from_static(b"d"));
        log.crash(9);
        assert_eq!(log.frames().len(), 2);
    }
}
