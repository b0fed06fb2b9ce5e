//! An abstract write-ahead log: at most sixteen entries in one word, and the numbers that PostgreSQL gave its
//! timelines.
//!
//! What a log holds and how its timelines are numbered are two things: two nodes that were promoted without
//! knowing of each other may have given the same number to different histories, and then nothing that goes by
//! numbers (streaming, `pg_rewind`) tells them apart.

use std::fmt;

/// One entry. `Promotion` is what every promotion writes before anything else (end of recovery, timeline
/// switch).
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
    /// The newest epoch that an entry can name.
    pub const NEWEST_EPOCH: u8 = 5;

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
pub struct Wal {
    entries: u64,
    /// The timeline that each promotion in it began, four bits each. The first timeline, which no promotion
    /// began, is 0.
    timelines: u32,
}

impl Wal {
    /// How many entries a log can hold.
    pub const MOST: u8 = 16;
    const MOST_PROMOTIONS: u8 = 8;

    /// How long it is.
    pub fn len(self) -> u8 {
        (16 - (self.entries.leading_zeros() / 4)) as u8
    }

    /// Nothing in it.
    pub fn is_empty(self) -> bool {
        self.entries == 0
    }

    /// Appends; nothing happens when it is full (the checker's bounds keep runs shorter). A promotion: see
    /// [`Wal::promote`].
    pub fn push(&mut self, entry: Entry) {
        let len = self.len();
        if len < Self::MOST {
            self.entries |= entry.code() << (4 * len);
        }
    }

    /// Appends a promotion, which begins a timeline of this number.
    pub fn promote(&mut self, epoch: u8, timeline: u8) {
        let before = self.promotions();
        if self.len() < Self::MOST && before < Self::MOST_PROMOTIONS {
            self.push(Entry::Promotion(epoch));
            self.timelines |= u32::from(timeline.min(15)) << (4 * before);
        }
    }

    /// Appends what `source` has next, with the timeline if it is a promotion. False if it has nothing more.
    pub fn push_from(&mut self, source: Wal) -> bool {
        let len = self.len();
        match source.at(len) {
            None => return false,
            Some(Entry::Promotion(epoch)) => {
                let nth = source.prefix(len).promotions();
                self.promote(epoch, source.timeline_of(nth));
            }
            Some(entry) => self.push(entry),
        }
        true
    }

    /// What a copy of this that ended halfway may look like: newer pages beside older ones, the marks and not
    /// what came before them.
    #[must_use]
    pub fn half_copied(self) -> Wal {
        let mut wal = Wal::default();
        for entry in self.entries() {
            match entry {
                Entry::Commit(_) => {}
                Entry::Promotion(epoch) => wal.promote(epoch, self.timeline_of(wal.promotions())),
                Entry::Mark(_) => wal.push(entry),
            }
        }
        wal
    }

    /// The first `len` entries.
    #[must_use]
    pub fn prefix(self, len: u8) -> Wal {
        if len >= Self::MOST {
            return self;
        }
        let mut wal = Wal {
            entries: self.entries & ((1 << (4 * len)) - 1),
            timelines: 0,
        };
        wal.timelines = self.timelines & ((1 << (4 * wal.promotions())) - 1);
        wal
    }

    /// Whether `other` begins with all of this.
    pub fn is_prefix_of(self, other: Wal) -> bool {
        other.prefix(self.len()).entries == self.entries
    }

    fn promotions(self) -> u8 {
        self.entries()
            .filter(|e| matches!(e, Entry::Promotion(_)))
            .count() as u8
    }

    fn timeline_of(self, nth: u8) -> u8 {
        ((self.timelines >> (4 * nth)) & 15) as u8
    }

    /// The timeline that it ends on.
    pub fn timeline(self) -> u8 {
        match self.promotions() {
            0 => 0,
            n => self.timeline_of(n - 1),
        }
    }

    /// Its timelines, as its history file tells them: number, begin, end. The last one ends nowhere.
    fn history_file(self) -> impl Iterator<Item = (u8, u8, u8)> {
        let is_promotion = move |at: &u8| matches!(self.at(*at), Some(Entry::Promotion(_)));
        let begins = std::iter::once(0).chain((0..self.len()).filter(is_promotion));
        let ends = (0..self.len())
            .filter(is_promotion)
            .chain(std::iter::once(u8::MAX));
        let numbers = std::iter::once(0).chain((0..self.promotions()).map(move |nth| self.timeline_of(nth)));
        numbers
            .zip(begins)
            .zip(ends)
            .map(|((n, begin), end)| (n, begin, end))
    }

    /// Whether a server with this log sends WAL to a standby that has `own`: it looks for the number of the
    /// standby's timeline in its own history, and whether its own left it before the standby's position
    /// (`StartReplication` in PostgreSQL's `walsender.c`). What the standby holds is not compared.
    pub fn seems_to_continue(self, own: Wal) -> bool {
        self.history_file()
            .any(|(n, _, end)| n == own.timeline() && own.len() <= end)
    }

    /// What `pg_rewind` makes of this log with `source`: nothing where both end on timelines of one number,
    /// else it goes by the last timeline with the same number and the same begin in both histories
    /// (`findCommonAncestorTimeline` in `pg_rewind.c`). What is only behind is not rewound, and streams the
    /// rest: here at once, which spares the checker the ways in between.
    #[must_use]
    pub fn rewound_to(self, source: Wal) -> Wal {
        if self.is_prefix_of(source) {
            return source;
        }
        if self.timeline() == source.timeline() {
            return self;
        }
        let common = self
            .history_file()
            .zip(source.history_file())
            .take_while(|((n, begin, _), (m, start, _))| n == m && begin == start)
            .last();
        let Some(((_, _, end), (_, _, other_end))) = common else {
            return self;
        };
        let fork = end.min(other_end);
        if self.len() <= fork {
            return self;
        }
        let mut wal = self.prefix(fork);
        while wal.push_from(source) {}
        wal
    }

    /// The entries.
    pub fn entries(self) -> impl Iterator<Item = Entry> {
        (0..self.len()).filter_map(move |i| Entry::of((self.entries >> (4 * i)) & 15))
    }

    /// The entry at a position.
    pub fn at(self, position: u8) -> Option<Entry> {
        Entry::of((self.entries >> (4 * u32::from(position.min(15)))) & 15)
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
        let mut promotions = 0;
        for entry in self.entries() {
            match entry {
                Entry::Mark(e) => write!(f, "M{e}")?,
                Entry::Promotion(e) => {
                    write!(f, "P{e}(tl {})", self.timeline_of(promotions))?;
                    promotions += 1;
                }
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

    fn log(entries: &[(Entry, u8)]) -> Wal {
        let mut wal = Wal::default();
        for (entry, timeline) in entries {
            match entry {
                Entry::Promotion(epoch) => wal.promote(*epoch, *timeline),
                entry => wal.push(*entry),
            }
        }
        wal
    }

    #[test]
    fn timelines_of_one_number_are_not_told_apart() {
        let (mark, commit) = (|e| (Entry::Mark(e), 0), |c| (Entry::Commit(c), 0));
        let source = log(&[mark(1), (Entry::Promotion(3), 1), mark(3), commit(1)]);
        let same_number = log(&[mark(1), commit(0), (Entry::Promotion(2), 1)]);
        assert_eq!(same_number.rewound_to(source), same_number);
        assert!(source.seems_to_continue(same_number));
        let mut streamed = same_number;
        assert!(streamed.push_from(source) && !streamed.push_from(source));
        assert!(!streamed.is_prefix_of(source));

        let first_timeline = log(&[mark(1), commit(0)]);
        assert!(!source.seems_to_continue(first_timeline), "it is past the fork");
        assert_eq!(first_timeline.rewound_to(source), source);
        let behind = log(&[mark(1)]);
        assert!(source.seems_to_continue(behind));
        assert_eq!(behind.rewound_to(source), source, "it only has to go on");

        // The same number, begun elsewhere, is another timeline; begun at the same place it seems to be the
        // same one.
        let later = log(&[
            mark(1),
            commit(0),
            (Entry::Promotion(2), 1),
            (Entry::Promotion(3), 2),
        ]);
        assert_eq!(same_number.rewound_to(later), later, "it is only behind");
        let foreign = log(&[mark(1), commit(2), (Entry::Promotion(2), 1)]);
        assert_eq!(foreign.rewound_to(later), foreign);
        let elsewhere = log(&[mark(1), (Entry::Promotion(2), 1), (Entry::Promotion(3), 2)]);
        assert_eq!(same_number.rewound_to(elsewhere), elsewhere);
    }
}
