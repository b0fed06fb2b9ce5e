//! An abstract write-ahead log: at most sixteen entries in one word.

use std::fmt;

/// One entry. `Promotion` is what every promotion writes before anything else (end of recovery, timeline switch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The history mark of an epoch.
    Mark(u8),
    /// A node was promoted in this epoch.
    Promotion(u8),
    /// A client's commit.
    Commit(u8),
}

impl Entry {
    fn code(self) -> u64 {
        match self {
            Entry::Mark(epoch) => u64::from(epoch),
            Entry::Promotion(epoch) => 5 + u64::from(epoch),
            Entry::Commit(id) => 11 + u64::from(id),
        }
    }

    fn of(code: u64) -> Option<Entry> {
        match code {
            1..=5 => Some(Entry::Mark(code as u8)),
            6..=10 => Some(Entry::Promotion(code as u8 - 5)),
            11..=15 => Some(Entry::Commit(code as u8 - 11)),
            _ => None,
        }
    }
}

/// A log, oldest entry first. Its length is its position: every entry is one long.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Wal(u64);

impl Wal {
    /// How many entries a log can hold.
    pub const MOST: u8 = 16;

    /// How long it is.
    pub fn len(self) -> u8 {
        (16 - (self.0.leading_zeros() / 4)) as u8
    }

    /// Nothing in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Appends; nothing happens when it is full (the checker's bounds keep runs shorter).
    pub fn push(&mut self, entry: Entry) {
        let len = self.len();
        if len < Self::MOST {
            self.0 |= entry.code() << (4 * len);
        }
    }

    /// The first `len` entries.
    #[must_use]
    pub fn prefix(self, len: u8) -> Wal {
        if len >= Self::MOST {
            self
        } else {
            Wal(self.0 & ((1 << (4 * len)) - 1))
        }
    }

    /// Whether `other` begins with all of this.
    pub fn is_prefix_of(self, other: Wal) -> bool {
        other.prefix(self.len()) == self
    }

    /// The entries.
    pub fn entries(self) -> impl Iterator<Item = Entry> {
        (0..self.len()).filter_map(move |i| Entry::of((self.0 >> (4 * i)) & 15))
    }

    /// The entry at a position.
    pub fn at(self, position: u8) -> Option<Entry> {
        Entry::of((self.0 >> (4 * u32::from(position.min(15)))) & 15)
    }

    /// Whether it holds a commit.
    pub fn holds(self, commit: u8) -> bool {
        self.entries().any(|e| e == Entry::Commit(commit))
    }

    /// The newest mark among the first `replayed` entries; 0 without one.
    pub fn history(self, replayed: u8) -> u8 {
        self.prefix(replayed)
            .entries()
            .filter_map(|e| match e {
                Entry::Mark(epoch) => Some(epoch),
                _ => None,
            })
            .last()
            .unwrap_or(0)
    }
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for entry in self.entries() {
            match entry {
                Entry::Mark(e) => write!(f, "M{e}")?,
                Entry::Promotion(e) => write!(f, "P{e}")?,
                Entry::Commit(c) => write!(f, "c{c}")?,
            }
            f.write_str(" ")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back() {
        let mut wal = Wal::default();
        let entries = [
            Entry::Mark(1),
            Entry::Commit(0),
            Entry::Promotion(2),
            Entry::Mark(2),
            Entry::Commit(4),
        ];
        for e in entries {
            wal.push(e);
        }
        assert_eq!(wal.entries().collect::<Vec<_>>(), entries);
        assert_eq!(wal.len(), 5);
        assert_eq!((wal.history(3), wal.history(4)), (1, 2));
        assert!(wal.prefix(2).is_prefix_of(wal));
        assert!(!wal.is_prefix_of(wal.prefix(2)));
        let mut other = wal.prefix(2);
        other.push(Entry::Commit(1));
        assert!(!other.is_prefix_of(wal));
    }
}
