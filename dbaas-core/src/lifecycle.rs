//! Lifecycles: NEW, IN_PROGRESS, ACTIVE, ERROR. The transition functions are total: every state answers every
//! event.
//!
//! ERROR is never a dead end: the controller keeps trying, and a success leads back.

use std::fmt;

use serde::{Deserialize, Serialize};

/// State of an instance or of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Lifecycle {
    /// Accepted; nothing was done yet.
    New,
    /// Being brought to what was asked for.
    InProgress,
    /// As asked for.
    Active,
    /// The last attempts failed, or it does not do what it is for; the reason says what is tried next.
    Error,
}

/// What happened to an instance or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LifecycleEvent {
    /// A new request was accepted, or what is differs from what was asked for.
    WorkBegan,
    /// What is agrees with what was asked for.
    Converged,
    /// An attempt failed, or waits for something that may never come.
    Failed,
}

impl Lifecycle {
    /// The state after an event.
    #[must_use]
    pub const fn transition(self, event: LifecycleEvent) -> Lifecycle {
        match (self, event) {
            (_, LifecycleEvent::Converged) => Lifecycle::Active,
            (_, LifecycleEvent::Failed) => Lifecycle::Error,
            // Work that goes on after an error stays an error until it has succeeded: a user who polls must
            // not see it flap.
            (Lifecycle::Error, LifecycleEvent::WorkBegan) => Lifecycle::Error,
            (Lifecycle::New | Lifecycle::InProgress | Lifecycle::Active, LifecycleEvent::WorkBegan) => {
                Lifecycle::InProgress
            }
        }
    }

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lifecycle::New => "NEW",
            Lifecycle::InProgress => "IN_PROGRESS",
            Lifecycle::Active => "ACTIVE",
            Lifecycle::Error => "ERROR",
        }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// State of a database or a user: there is no IN_PROGRESS, it exists in PostgreSQL or it does not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ObjectLifecycle {
    /// Accepted; PostgreSQL does not have it, or not as asked for, yet.
    New,
    /// As asked for.
    Active,
    /// PostgreSQL refused it; the reason says why and what to do.
    Error,
}

impl ObjectLifecycle {
    /// The state after an event.
    #[must_use]
    pub const fn transition(self, event: LifecycleEvent) -> ObjectLifecycle {
        match (self, event) {
            (_, LifecycleEvent::Converged) => ObjectLifecycle::Active,
            (_, LifecycleEvent::Failed) => ObjectLifecycle::Error,
            (ObjectLifecycle::Error, LifecycleEvent::WorkBegan) => ObjectLifecycle::Error,
            (ObjectLifecycle::New | ObjectLifecycle::Active, LifecycleEvent::WorkBegan) => {
                ObjectLifecycle::New
            }
        }
    }

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            ObjectLifecycle::New => "NEW",
            ObjectLifecycle::Active => "ACTIVE",
            ObjectLifecycle::Error => "ERROR",
        }
    }
}

impl fmt::Display for ObjectLifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is happening to a database or a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectPhase {
    /// It is being made, as it was first asked for.
    Creating,
    /// It is as asked for.
    Active,
    /// It is there, or was, and is being changed to what is asked for.
    Updating,
    /// It is being dropped.
    Deleting,
}

impl ObjectPhase {
    /// All of them.
    pub const ALL: [ObjectPhase; 4] = [
        ObjectPhase::Creating,
        ObjectPhase::Active,
        ObjectPhase::Updating,
        ObjectPhase::Deleting,
    ];

    /// The phase of one that was `changed` by a request since it was asked for, or was not.
    pub const fn of(lifecycle: ObjectLifecycle, deleting: bool, changed: bool) -> ObjectPhase {
        match (lifecycle, deleting, changed) {
            (_, true, _) => ObjectPhase::Deleting,
            (ObjectLifecycle::Active, false, _) => ObjectPhase::Active,
            (ObjectLifecycle::New | ObjectLifecycle::Error, false, true) => ObjectPhase::Updating,
            (ObjectLifecycle::New | ObjectLifecycle::Error, false, false) => ObjectPhase::Creating,
        }
    }

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            ObjectPhase::Creating => "creating",
            ObjectPhase::Active => "active",
            ObjectPhase::Updating => "updating",
            ObjectPhase::Deleting => "deleting",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lifecycle::*;
    use super::LifecycleEvent::*;
    use super::*;

    #[test]
    fn the_whole_table() {
        let table = [
            (New, WorkBegan, InProgress),
            (New, Converged, Active),
            (New, Failed, Error),
            (InProgress, WorkBegan, InProgress),
            (InProgress, Converged, Active),
            (InProgress, Failed, Error),
            (Active, WorkBegan, InProgress),
            (Active, Converged, Active),
            (Active, Failed, Error),
            (Error, WorkBegan, Error),
            (Error, Converged, Active),
            (Error, Failed, Error),
        ];
        for (from, event, to) in table {
            assert_eq!(from.transition(event), to, "{from} on {event:?}");
        }
    }

    #[test]
    fn states_are_called_as_in_the_api() {
        let nodes = [New, InProgress, Active, Error].map(|state| state.to_string());
        assert_eq!(nodes, ["NEW", "IN_PROGRESS", "ACTIVE", "ERROR"]);
        let objects = [
            ObjectLifecycle::New,
            ObjectLifecycle::Active,
            ObjectLifecycle::Error,
        ];
        assert_eq!(objects.map(|state| state.to_string()), ["NEW", "ACTIVE", "ERROR"]);
    }

    #[test]
    fn the_whole_table_of_objects() {
        use ObjectLifecycle as O;
        let table = [
            (O::New, WorkBegan, O::New),
            (O::New, Converged, O::Active),
            (O::New, Failed, O::Error),
            (O::Active, WorkBegan, O::New),
            (O::Active, Converged, O::Active),
            (O::Active, Failed, O::Error),
            (O::Error, WorkBegan, O::Error),
            (O::Error, Converged, O::Active),
            (O::Error, Failed, O::Error),
        ];
        for (from, event, to) in table {
            assert_eq!(from.transition(event), to, "{from} on {event:?}");
        }
    }

    #[test]
    fn what_goes_is_being_deleted_whatever_its_state() {
        for lifecycle in [
            ObjectLifecycle::New,
            ObjectLifecycle::Active,
            ObjectLifecycle::Error,
        ] {
            let of = |deleting, changed| ObjectPhase::of(lifecycle, deleting, changed).as_str();
            assert_eq!([of(true, false), of(true, true)], ["deleting"; 2]);
            let others = match lifecycle {
                ObjectLifecycle::Active => ["active"; 2],
                ObjectLifecycle::New | ObjectLifecycle::Error => ["creating", "updating"],
            };
            assert_eq!([of(false, false), of(false, true)], others);
        }
    }
}
