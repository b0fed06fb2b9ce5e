//! The failover protocol's own state: [`Epoch`], [`Lsn`], who may acknowledge.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// A term of the failover protocol: grows by one with every change of primary; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of an instance's first primary.
    pub const FIRST: Epoch = Epoch(1);

    /// The one after this.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A position in the write-ahead log, in bytes. Text form as PostgreSQL's `pg_lsn`: `0/16B3748`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a `pg_lsn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a WAL position such as 0/16B3748")]
pub struct InvalidLsn;

impl FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(s: &str) -> Result<Self, InvalidLsn> {
        let (high, low) = s.split_once('/').ok_or(InvalidLsn)?;
        let part = |p: &str| {
            if p.is_empty() || p.len() > 8 || !p.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(InvalidLsn);
            }
            u64::from_str_radix(p, 16).map_err(|_| InvalidLsn)
        };
        Ok(Lsn((part(high)? << 32) | part(low)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Who may acknowledge commits: any `k` of `voters`.
///
/// A commit that was acknowledged under an electorate is held by at least `k` of its voters, so that any
/// [`Electorate::seal_size`] of them include one that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Electorate {
    /// The standbys that count.
    pub voters: BTreeSet<NodeId>,
    /// How many of them must have flushed a commit before it is acknowledged; 0 is asynchronous.
    pub k: u8,
}

impl Electorate {
    /// An electorate of these voters.
    pub fn new(voters: impl IntoIterator<Item = NodeId>, k: u8) -> Self {
        Electorate {
            voters: voters.into_iter().collect(),
            k,
        }
    }

    /// How many voters have to be sealed so that (a) one of them holds every acknowledged commit and (b) no
    /// `k` unsealed ones are left to acknowledge another: N - k + 1. `None` if sealing cannot show either: k
    /// = 0, where the primary acknowledges alone, and N < k, where nobody can acknowledge and the primary
    /// alone is known to hold everything.
    pub fn seal_size(&self) -> Option<usize> {
        let n = self.voters.len();
        let k = usize::from(self.k);
        if k == 0 || n < k { None } else { Some(n - k + 1) }
    }

    /// Whether these sealed nodes are enough of this electorate.
    pub fn is_sealed_by(&self, sealed: &BTreeSet<NodeId>) -> bool {
        self.seal_size()
            .is_some_and(|needed| self.voters.intersection(sealed).count() >= needed)
    }

    /// Whether every set of nodes that seals this electorate seals the other one too, so that beside this one
    /// the other sets no condition of its own.
    pub fn implies(&self, other: &Electorate) -> bool {
        let (Some(needed), Some(others)) = (self.seal_size(), other.seal_size()) else {
            return false;
        };
        // The sealed nodes that are least use to the other are those that do not vote there.
        let useless = self.voters.difference(&other.voters).count();
        needed >= useless + others
    }

    /// How many of these nodes vote here.
    pub fn count(&self, nodes: &BTreeSet<NodeId>) -> usize {
        self.voters.intersection(nodes).count()
    }
}

/// Where the protocol stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum ClusterPhase {
    /// The primary of this epoch serves.
    Steady,
    /// A change of primary was decided; voters are being sealed in this epoch.
    Sealing,
    /// A candidate was chosen among the sealed nodes and is being promoted. Ends when `k` voters of the new
    /// electorate hold everything that the candidate held when it was promoted.
    Promoting,
}

/// The protocol's state: changed only by compare-and-swap of the instance's record.
///
/// `electorates` holds one electorate when nothing changes. While voters or `k` change, and from the choice
/// of a candidate until the new primary's data is safe on its own voters, it holds the old ones *and* the new
/// one, and a failover has to satisfy each of them (as Raft's joint consensus does): a commit that was
/// acknowledged under any of them is then never missed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterState {
    /// The current epoch.
    pub epoch: Epoch,
    /// The step of the protocol.
    #[serde(flatten)]
    pub phase: ClusterPhase,
    /// `Steady`: the primary. `Sealing`: the primary of the epoch before. `Promoting`: the candidate.
    pub primary: NodeId,
    /// Oldest first, never empty. The last one is what the primary is to wait for.
    pub electorates: Vec<Electorate>,
    /// Grows by one with every new electorate and never shrinks: a primary takes no setting with a smaller
    /// one than it has seen, so that an instruction that was under way for long does not bring back an
    /// electorate that was dropped meanwhile.
    #[serde(default)]
    pub setting: u64,
    /// While `electorates` changes on a steady primary: the primary's WAL position seen after its new setting
    /// was in effect. When `k` voters of the new electorate hold that position, the old electorate is
    /// dropped.
    pub barrier: Option<Lsn>,
    /// Why the last change of primary was begun.
    pub cause: Option<FailoverCause>,
    /// The candidate of this epoch was started again to be promoted, and may have been promoted before: it is
    /// then on a timeline that holders of the epoch's mark need not know of.
    #[serde(default)]
    pub repromoted: bool,
    /// From the choice of a candidate until its data is safe on its own voters: the primary of the epoch
    /// before.
    #[serde(default)]
    pub former: Option<FormerPrimary>,
}

/// The primary of the epoch before this one. It holds everything that was acknowledged until its epoch ended,
/// and so does whatever it is rebuilt to; and where it is sealed nobody acknowledges under an electorate of
/// its time. So it stands, sealed, for all of those.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FormerPrimary {
    /// Which one it is.
    pub node: NodeId,
    /// How many electorates, the first of the list, are of its time.
    pub electorates: usize,
}

/// Why a change of primary was begun.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum FailoverCause {
    /// The primary is dead or cannot be reached.
    PrimaryFailed,
    /// A planned switchover: the old primary was shut down cleanly, the candidate has everything.
    Switchover {
        /// The node asked for.
        to: NodeId,
    },
    /// The operator asked for it and accepted that commits may be lost.
    Forced,
}

impl ClusterState {
    /// The state of a new instance: nothing was ever written, every standby is a copy of the primary.
    pub fn initial(primary: NodeId, electorate: Electorate) -> Self {
        ClusterState {
            epoch: Epoch::FIRST,
            phase: ClusterPhase::Steady,
            primary,
            electorates: vec![electorate],
            setting: 0,
            barrier: None,
            cause: None,
            repromoted: false,
            former: None,
        }
    }

    /// The electorate that the primary is to wait for.
    pub fn current(&self) -> Electorate {
        self.electorates.last().cloned().unwrap_or(Electorate {
            voters: BTreeSet::new(),
            k: 0,
        })
    }

    /// Whether these sealed nodes are enough to choose a candidate: enough of every electorate under which a
    /// commit can have been acknowledged. One with fewer voters than `k` cannot have acknowledged anything,
    /// and sets no condition of its own. The primary of the epoch before, sealed, has everything of its time,
    /// and acknowledges nothing any more.
    pub fn is_sealed_by(&self, sealed: &BTreeSet<NodeId>) -> bool {
        let mut constrained = false;
        let former = self
            .former
            .as_ref()
            .filter(|former| sealed.contains(&former.node));
        let vouched_for = former.map_or(0, |former| former.electorates);
        for (index, electorate) in self.electorates.iter().enumerate() {
            if electorate.k == 0 {
                return false;
            }
            if index < vouched_for {
                constrained = true;
                continue;
            }
            if electorate.seal_size().is_some() {
                constrained = true;
                if !electorate.is_sealed_by(sealed) {
                    return false;
                }
            }
        }
        constrained
    }

    /// Every node that may have acknowledged something.
    pub fn all_voters(&self) -> BTreeSet<NodeId> {
        self.electorates
            .iter()
            .flat_map(|e| e.voters.iter().copied())
            .collect()
    }

    /// Whether every electorate promises durability (k of at least 1).
    pub fn is_synchronous(&self) -> bool {
        !self.electorates.is_empty() && self.electorates.iter().all(|e| e.k > 0)
    }

    /// Whether voters or `k` are changing, or the new primary's voters have not caught up yet.
    pub fn is_joint(&self) -> bool {
        self.electorates.len() > 1
    }

    /// Makes this the electorate that the primary is to wait for, beside those that still count. An older one
    /// that could not acknowledge anything (fewer voters than `k`) is forgotten, unless it is the only one:
    /// then it says that only the primary holds everything.
    pub fn propose(&mut self, electorate: Electorate) {
        self.barrier = None;
        self.setting += 1;
        let several = self.electorates.len() > 1;
        let of_before = self.former.as_ref().map_or(0, |former| former.electorates);
        let of_now = self.electorates.split_off(of_before.min(self.electorates.len()));
        // Older ones that another older one implies are not kept: changes that cannot settle for long must
        // not pile up. Those of the former primary's time imply nothing of the present one: it stands for the
        // ones, and not for the others.
        let reduced = |list: Vec<Electorate>| {
            let keeps_promise = |e: &Electorate| e.k == 0 || e.seal_size().is_some();
            let mut kept: Vec<Electorate> = Vec::new();
            for older in list {
                if older == electorate || (several && !keeps_promise(&older)) {
                    continue;
                }
                if !kept.iter().any(|k| k.implies(&older)) {
                    kept.retain(|k| !older.implies(k));
                    kept.push(older);
                }
            }
            kept
        };
        self.electorates = reduced(std::mem::take(&mut self.electorates));
        if let Some(former) = &mut self.former {
            former.electorates = self.electorates.len();
        }
        self.electorates.extend(reduced(of_now));
        self.electorates.push(electorate);
    }

    /// Drops every electorate but the newest.
    pub fn settle(&mut self) {
        let newest = self.current();
        self.electorates = vec![newest];
        self.barrier = None;
        self.repromoted = false;
        self.former = None;
    }
}

/// The name that a standby streams under: counts only in its own epoch.
pub fn standby_name(node_name: &str, epoch: Epoch) -> String {
    format!("{node_name}_e{epoch}")
}

/// The physical slot of a node, on whichever primary it follows.
pub fn slot_name(node_name: &str) -> String {
    format!("dbaas_{node_name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u128) -> NodeId {
        NodeId::from_uuid(uuid::Uuid::from_u128(n))
    }

    #[test]
    fn lsn_text_round_trips() {
        for text in ["0/0", "0/16B3748", "FFFFFFFF/FFFFFFFF", "1A/0"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for bad in ["", "/", "0/", "g/0", "0/123456789", "+1/0"] {
            assert_eq!(bad.parse::<Lsn>(), Err(InvalidLsn), "{bad}");
        }
    }

    #[test]
    fn lsn_is_kept_and_shown_as_text() {
        let lsn: Lsn = serde_json::from_str("\"1A/F0000003\"").unwrap();
        assert_eq!(lsn, Lsn(0x1A_F000_0003));
        assert_eq!(
            (serde_json::to_string(&lsn).unwrap(), format!("{lsn:?}")),
            ("\"1A/F0000003\"".to_owned(), "1A/F0000003".to_owned())
        );
        assert!(serde_json::from_str::<Lsn>("\"1A\"").is_err());
    }

    #[test]
    fn only_those_who_vote_are_counted() {
        let electorate = Electorate::new([node(1), node(2)], 1);
        assert_eq!(electorate.count(&[node(2), node(3)].into()), 1);
        assert_eq!(electorate.count(&[node(1), node(2), node(3)].into()), 2);
        assert_eq!(electorate.count(&[node(3)].into()), 0);
    }

    #[test]
    fn what_could_acknowledge_nothing_is_forgotten_unless_it_is_all_there_was() {
        let nobody = Electorate::new([], 1);
        let proposed = |before: Vec<Electorate>, next: Electorate| {
            let mut state = ClusterState::initial(node(1), nobody.clone());
            state.electorates = before;
            state.propose(next);
            state.electorates
        };
        let (two, three) = (
            Electorate::new([node(2)], 1),
            Electorate::new([node(3), node(4)], 2),
        );
        assert_eq!(
            proposed(vec![nobody.clone()], two.clone()),
            [nobody.clone(), two.clone()],
            "the primary alone holds everything"
        );
        assert_eq!(
            proposed(vec![two.clone(), nobody.clone()], three.clone()),
            [two.clone(), three.clone()]
        );
        let alone = Electorate::new([], 0);
        assert_eq!(
            proposed(vec![two.clone(), alone.clone()], three.clone()),
            [two.clone(), alone, three.clone()],
            "k = 0: the primary acknowledged alone"
        );
        assert_eq!(
            proposed(vec![two.clone(), three.clone()], two.clone()),
            [three, two]
        );
    }

    /// The arithmetic that everything rests on, by brute force: any k acknowledgers share a node with any
    /// `seal_size` sealed ones, and one fewer would not do.
    #[test]
    fn any_seal_meets_any_acknowledgement() {
        for n in 1..=6usize {
            for k in 1..=n {
                let electorate = Electorate::new((0..n as u128).map(node), k as u8);
                let size = electorate.seal_size().unwrap();
                let subsets = |count: usize| (0u32..1 << n).filter(move |s| s.count_ones() as usize == count);
                for sealed in subsets(size) {
                    assert!(subsets(k).all(|acks| acks & sealed != 0), "n={n} k={k}");
                    let set = (0..n)
                        .filter(|i| sealed & (1 << i) != 0)
                        .map(|i| node(i as u128))
                        .collect();
                    assert!(electorate.is_sealed_by(&set));
                }
                for sealed in subsets(size - 1) {
                    assert!(subsets(k).any(|acks| acks & sealed == 0), "n={n} k={k}");
                    let set = (0..n)
                        .filter(|i| sealed & (1 << i) != 0)
                        .map(|i| node(i as u128))
                        .collect();
                    assert!(!electorate.is_sealed_by(&set));
                }
            }
        }
    }

    /// By brute force over every pair of electorates of four nodes: implied exactly where every seal of the
    /// one is a seal of the other.
    #[test]
    fn an_implied_electorate_is_sealed_with_the_other() {
        let set = |bits: u32| (0..4).filter(move |i| bits & (1 << i) != 0).map(node);
        let all: Vec<Electorate> = (0..16)
            .flat_map(|bits| (0..=4).map(move |k| Electorate::new(set(bits), k)))
            .collect();
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            let sealable = a.seal_size().is_some() && b.seal_size().is_some();
            let shown = (0..16).all(|sealed| {
                let sealed: BTreeSet<NodeId> = set(sealed).collect();
                !a.is_sealed_by(&sealed) || b.is_sealed_by(&sealed)
            });
            assert_eq!(a.implies(b), sealable && shown, "{a:?} {b:?}");
        }
    }

    #[test]
    fn sealing_shows_nothing_where_nobody_or_only_the_primary_acknowledges() {
        assert_eq!(Electorate::new([node(1)], 0).seal_size(), None);
        assert_eq!(Electorate::new([node(1)], 2).seal_size(), None);
        assert_eq!(Electorate::new([], 1).seal_size(), None);
        assert!(!Electorate::new([], 0).is_sealed_by(&BTreeSet::new()));
    }

    #[test]
    fn a_former_primary_stands_for_the_electorates_of_its_time_alone() {
        let sealed = |ids: &[u128]| ids.iter().map(|n| node(*n)).collect::<BTreeSet<_>>();
        let mut state = ClusterState::initial(node(2), Electorate::new([node(2), node(3)], 1));
        state.propose(Electorate::new([node(3)], 1));
        state.former = Some(FormerPrimary {
            node: node(1),
            electorates: 1,
        });
        assert!(state.is_sealed_by(&sealed(&[2, 3])));
        assert!(state.is_sealed_by(&sealed(&[1, 3])));
        assert!(!state.is_sealed_by(&sealed(&[1, 2])));
        // Implied by the first one; but what stands for that does not stand for this.
        state.propose(Electorate::new([node(3), node(4)], 1));
        assert_eq!(state.electorates.len(), 3);
        assert!(!state.is_sealed_by(&sealed(&[1, 4])));
        assert!(state.is_sealed_by(&sealed(&[1, 3, 4])));
        // Proposed once more, it is of the present.
        state.propose(Electorate::new([node(2), node(3)], 1));
        assert_eq!(state.former.as_ref().map(|f| f.electorates), Some(0));
        assert!(!state.is_sealed_by(&sealed(&[1, 3, 4])));
        state.settle();
        assert_eq!(state.former, None);
    }

    #[test]
    fn a_joint_state_needs_every_electorate() {
        let mut state = ClusterState::initial(node(1), Electorate::new([node(2), node(3)], 1));
        state.electorates.push(Electorate::new([node(3), node(4)], 1));
        let sealed = |ids: &[u128]| ids.iter().map(|n| node(*n)).collect::<BTreeSet<_>>();
        assert!(!state.is_sealed_by(&sealed(&[2, 3])));
        assert!(!state.is_sealed_by(&sealed(&[3, 4])));
        assert!(state.is_sealed_by(&sealed(&[2, 3, 4])));
    }
}
