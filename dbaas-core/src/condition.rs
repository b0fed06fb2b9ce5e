//! [`Condition`]: one thing that is so, is not so, or is not known, and since when. What programs look at
//! beside a resource's status.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lifecycle::LifecycleEvent;
use crate::reason::Reason;
use crate::time::Timestamp;

/// What a condition is about. `True` is always what one wishes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ConditionType {
    /// An instance takes writes; a node does what it is for.
    Ready,
    /// Everything is as asked for: the same as the status ACTIVE.
    Reconciled,
    /// Every standby streams, and as many are synchronous as asked for. A node: it streams.
    Replicating,
    /// There is space on the disks.
    DiskSpace,
    /// What was asked for of the configuration is in effect everywhere.
    ParametersApplied,
    /// The infrastructure tells of every node.
    InfrastructureReachable,
    /// Every user and database is as asked for.
    ObjectsReconciled,
    /// Of a newer release.
    #[serde(other)]
    Unknown,
}

impl ConditionType {
    /// All that this release gives.
    pub const ALL: [ConditionType; 7] = [
        ConditionType::Ready,
        ConditionType::Reconciled,
        ConditionType::Replicating,
        ConditionType::DiskSpace,
        ConditionType::ParametersApplied,
        ConditionType::InfrastructureReachable,
        ConditionType::ObjectsReconciled,
    ];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            ConditionType::Ready => "Ready",
            ConditionType::Reconciled => "Reconciled",
            ConditionType::Replicating => "Replicating",
            ConditionType::DiskSpace => "DiskSpace",
            ConditionType::ParametersApplied => "ParametersApplied",
            ConditionType::InfrastructureReachable => "InfrastructureReachable",
            ConditionType::ObjectsReconciled => "ObjectsReconciled",
            ConditionType::Unknown => "Unknown",
        }
    }
}

/// Whether it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It is.
    True,
    /// It is not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl ConditionStatus {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        }
    }
}

/// A reason, and what there is to say of it that the reason itself does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Why {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub text: String,
}

impl Why {
    /// A reason in these words.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        let text = text.into();
        Why { reason, text }
    }
}

impl From<Reason> for Why {
    fn from(reason: Reason) -> Self {
        Why::new(reason, reason.to_string())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One thing that is so or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people, where the reason alone does not say it: see [`Condition::message`].
    #[serde(default, rename = "message", skip_serializing_if = "str::is_empty")]
    text: Box<str>,
    /// Since when it has this status.
    pub since: Timestamp,
}

impl Condition {
    /// Why, for people; never empty.
    pub fn message(&self) -> String {
        match &*self.text {
            "" => self.reason.to_string(),
            text => text.to_owned(),
        }
    }
}

/// The conditions of something, in the order of [`ConditionType`]; each type once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    /// Of something that was asked for just now, in these words.
    pub fn accepted(text: impl Into<String>, now: Timestamp) -> Self {
        let mut conditions = Conditions::default();
        let why = Why::new(Reason::Accepted, text);
        conditions.set_reconciled(LifecycleEvent::WorkBegan, why, now);
        conditions
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Condition> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one of this type.
    pub fn get(&self, kind: ConditionType) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.kind == kind)
    }

    /// It is so, or not, from now on if it was not before.
    pub fn set(&mut self, kind: ConditionType, status: ConditionStatus, why: impl Into<Why>, now: Timestamp) {
        let Why { reason, text } = why.into();
        let text = if text == reason.to_string() {
            String::new()
        } else {
            text
        };
        let place = self.0.binary_search_by_key(&kind, |condition| condition.kind);
        let before = place.ok().and_then(|at| self.0.get(at));
        let condition = Condition {
            kind,
            status,
            reason,
            text: text.into(),
            since: before
                .filter(|before| before.status == status)
                .map_or(now, |before| before.since),
        };
        match place {
            Ok(at) => self.0[at] = condition,
            Err(at) => self.0.insert(at, condition),
        }
    }

    /// It does not apply any more.
    pub fn remove(&mut self, kind: ConditionType) {
        self.0.retain(|condition| condition.kind != kind);
    }

    /// [`ConditionType::Reconciled`] as the status says it.
    pub fn set_reconciled(&mut self, event: LifecycleEvent, why: impl Into<Why>, now: Timestamp) {
        self.set(ConditionType::Reconciled, status_after(event), why, now);
    }
}

/// What an event makes of a condition that follows the status.
pub const fn status_after(event: LifecycleEvent) -> ConditionStatus {
    match event {
        LifecycleEvent::Converged => ConditionStatus::True,
        LifecycleEvent::WorkBegan | LifecycleEvent::Failed => ConditionStatus::False,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn since_is_when_the_status_changed_and_not_the_reason() {
        use ConditionStatus::{False, True};
        let mut conditions = Conditions::accepted("accepted", at(1));
        let ready =
            |conditions: &Conditions| conditions.get(ConditionType::Ready).expect("it is there").clone();
        conditions.set(ConditionType::Ready, False, Reason::Accepted, at(1));
        conditions.set(
            ConditionType::Ready,
            False,
            Why::new(Reason::Electing, "2 of 3 sealed"),
            at(2),
        );
        let electing = ready(&conditions);
        assert_eq!((electing.since, electing.reason), (at(1), Reason::Electing));
        assert_eq!(electing.message(), "2 of 3 sealed");
        conditions.set(ConditionType::Ready, True, Reason::TakesWrites, at(3));
        assert_eq!(ready(&conditions).since, at(3));
        assert_eq!(ready(&conditions).message(), "takes writes");
    }

    #[test]
    fn each_type_is_there_once_in_order_and_is_read_again() {
        let mut conditions = Conditions::default();
        for kind in ConditionType::ALL.into_iter().rev().chain(ConditionType::ALL) {
            conditions.set(kind, ConditionStatus::Unknown, Reason::DiskNotMeasured, at(1));
        }
        let kinds: Vec<ConditionType> = conditions.iter().map(|condition| condition.kind).collect();
        assert_eq!(kinds, ConditionType::ALL);
        let written = serde_json::to_string(&conditions).expect("written");
        assert_eq!(
            serde_json::from_str::<Conditions>(&written).expect("read"),
            conditions
        );
        conditions.remove(ConditionType::Ready);
        assert!(conditions.get(ConditionType::Ready).is_none());
    }
}
