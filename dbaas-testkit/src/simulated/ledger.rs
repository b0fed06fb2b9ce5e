//! What clients were told, held against what nodes have: the promises that the simulation checks.

use std::collections::{BTreeMap, BTreeSet};

use dbaas_core::infrastructure::NodeRef;

/// An acknowledged commit.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    epoch: u64,
    by: NodeRef,
}

/// A node that became primary, with the commits that it held then.
#[derive(Debug, Clone)]
struct Promotion {
    node: NodeRef,
    epoch: u64,
    held: BTreeSet<u64>,
}

/// The commits of one instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    acknowledged: BTreeMap<u64, Acknowledged>,
    by_epoch: BTreeMap<u64, NodeRef>,
    promotions: Vec<Promotion>,
    /// The instance promises nothing beyond one writer, now or since some commits that still count: k was 0.
    pub(super) asynchronous: bool,
    /// An operator gave up what cannot be reached.
    pub(super) given_up: bool,
    /// The instance is to be deleted, with its data.
    pub(super) deleting: bool,
}

impl Ledger {
    /// How many commits are acknowledged and count.
    pub(super) fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// A client was told that its commit is safe. What that breaks, if anything.
    pub(super) fn acknowledge(
        &mut self,
        commit: u64,
        epoch: u64,
        by: NodeRef,
        label: &str,
    ) -> Option<String> {
        let mut broken = None;
        if let Some(other) = self.by_epoch.get(&epoch)
            && *other != by
        {
            broken = Some(format!(
                "two nodes acknowledged in epoch {epoch}: {label} is the second"
            ));
        }
        if let Some((newer, _)) = self.by_epoch.range(epoch + 1..).next() {
            broken = Some(format!(
                "{label} acknowledged in epoch {epoch} after another node did in epoch {newer}"
            ));
        }
        if let Some(missing) = self
            .promotions
            .iter()
            .find(|p| p.epoch > epoch && p.node != by && !p.held.contains(&commit))
            && !self.may_lose()
        {
            broken = Some(format!(
                "{label} acknowledged commit {commit} in epoch {epoch}; the primary of epoch {} does not have it",
                missing.epoch
            ));
        }
        self.by_epoch.insert(epoch, by);
        self.acknowledged.insert(commit, Acknowledged { epoch, by });
        broken
    }

    fn may_lose(&self) -> bool {
        self.asynchronous || self.given_up
    }

    /// A node became primary, or serves again, with this log. `elsewhere`: what intact disks hold. What that
    /// breaks, if anything.
    pub(super) fn serves(
        &mut self,
        node: NodeRef,
        epoch: u64,
        held: BTreeSet<u64>,
        elsewhere: &BTreeSet<u64>,
        label: &str,
    ) -> Option<String> {
        let missing: Vec<u64> = self
            .acknowledged
            .iter()
            // One that something started in an old epoch serves nobody: it can acknowledge nothing, and is
            // fenced.
            .filter(|(commit, acknowledged)| acknowledged.epoch <= epoch && !held.contains(commit))
            .map(|(commit, _)| *commit)
            .collect();
        let mut broken = None;
        for commit in missing {
            let lost = self.acknowledged.remove(&commit);
            // Without synchronous standbys what only a lost disk held may be lost; what an intact one holds
            // may not.
            let excused = self.given_up || (self.asynchronous && !elsewhere.contains(&commit));
            if let Some(lost) = lost
                && !excused
            {
                broken = Some(format!(
                    "commit {commit}, acknowledged in epoch {} (by {}), is missing on {label}, the primary of epoch {epoch}",
                    lost.epoch, lost.by.node
                ));
            }
        }
        self.promotions.push(Promotion { node, epoch, held });
        broken
    }

    /// Of these commits, those that were acknowledged and still count.
    pub(super) fn counted<'a>(&'a self, commits: &'a BTreeSet<u64>) -> impl Iterator<Item = u64> + 'a {
        commits
            .iter()
            .copied()
            .filter(|commit| self.acknowledged.contains_key(commit))
    }
}
