//! [`Reason`]: why something is as it is, as a word that programs may compare. What people read is beside it,
//! and may be worded anew.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($word:ident => $says:literal,)*) => {
        /// Why something is as it is. The word ([`Reason::as_str`]) is stable; what it says
        /// ([`fmt::Display`]) is for people.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Reason {
            $(#[doc = $says] $word,)*
            /// a reason of a newer release
            #[serde(other)]
            Unknown,
        }

        impl Reason {
            /// All that this release gives.
            pub const ALL: &'static [Reason] = &[$(Reason::$word,)*];

            /// The word of the API.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Reason::$word => stringify!($word),)*
                    Reason::Unknown => "Unknown",
                }
            }

            const fn says(self) -> &'static str {
                match self {
                    $(Reason::$word => $says,)*
                    Reason::Unknown => "a reason of a newer release",
                }
            }
        }
    };
}

reasons! {
    // What was asked for.
    Accepted => "accepted; it is about to be done",
    AsAskedFor => "as asked for",
    Stopping => "being switched off",
    Stopped => "stopped, as asked; its data is kept",
    Deleting => "being deleted",
    // Nodes.
    NodeCreating => "a node is being created",
    NodePreparing => "a node's data is being prepared",
    NodeStarting => "a node is being started",
    NodeWaiting => "a node waits for another one",
    NodeChanging => "a node gets the sizes that were asked for",
    NodeRemoving => "a node is being removed",
    NodeRestarting => "nodes are being restarted, one at a time",
    NodeSilent => "a node does not answer yet",
    NodeFrozen => "the processes of a node are frozen",
    NodeExited => "a node's PostgreSQL has ended",
    NodeFenced => "a node runs as a primary and is none: it is being fenced",
    NodeFails => "a node cannot be created, started or removed; it is tried again",
    StandbyRebuilding => "a standby is being built anew",
    // Who takes writes.
    TakesWrites => "takes writes",
    NoPrimary => "nobody takes writes",
    PrimaryStarting => "the primary is being started",
    PrimaryDoesNotStart => "the primary does not start; it is tried again",
    PrimarySilent => "the primary does not answer yet",
    PrimaryUnreachable => "the primary does not answer the control plane, and its standbys hear from it",
    PrimaryLost => "the primary is lost, and nobody can take over yet",
    PrimaryHung => "the primary runs and does not answer",
    PrimaryDamaged => "the primary's files are gone or broken",
    NoLogin => "the primary lets nobody log in",
    NoCommit => "the primary takes no commits",
    Exhausted => "the primary has run out of something",
    CommitsRefused => "the primary refuses commits",
    CommitsWaitForStandbys => "commits wait for standbys that are not there",
    Electing => "a new primary is being elected",
    Promoting => "a new primary is being promoted",
    FailoverRequested => "a failover is asked for: trying whether the primary serves",
    FailoverHeldUp => "a new primary cannot be chosen yet",
    TakenOver => "a node was taken over by another controller",
    SwitchoverWaiting => "a switchover waits",
    CheckpointHangs => "a checkpoint does not end",
    // Replication.
    Streaming => "streams from the primary",
    NotStreaming => "does not stream",
    AllStream => "every standby streams",
    ElectorateChanging => "whom a commit waits for is being changed",
    StandbysMissing => "fewer synchronous standbys are there than asked for",
    // Configuration.
    Configured => "every node runs with its configuration",
    Reconfiguring => "a node is being given its new configuration",
    ConfigurationFails => "a node does not take its new configuration; it is tried again",
    ParametersRefused => "a server refused the parameters; those of before are in force",
    RestartPending => "parameters wait for a restart",
    // Disks.
    DiskSpaceLeft => "there is space on the disk",
    DiskLow => "little space is left on the disk",
    DiskFull => "the disk is full",
    DiskNotMeasured => "nobody has told how much space is left",
    // The infrastructure.
    InfrastructureAnswers => "the infrastructure answers",
    InfrastructureSilent => "the infrastructure does not answer",
    NodesOutOfSight => "the infrastructure does not see every node",
    // Users and databases.
    ObjectCreating => "being created",
    ObjectChanging => "being changed",
    ObjectWaiting => "waits for something else",
    ObjectDropping => "being dropped",
    DropHeldUp => "cannot be dropped yet; it is tried again",
    ObjectFails => "PostgreSQL refuses it; it is tried again",
    ObjectsPending => "users or databases are not as asked for yet",
    NameTaken => "something of this name exists that the control plane did not create",
    Adopting => "being adopted",
    RenamedBySql => "it was renamed in PostgreSQL",
    DroppedBySql => "it was dropped by SQL",
    OwnerMissing => "its owner does not exist",
    OwnershipMoving => "its new owner is being given the former owner's objects",
    AccessChanging => "its access is being given",
    AccessFails => "its access cannot be looked after; it is tried again",
    ExtensionsChanging => "its extensions are being changed",
    ExtensionsFail => "its extensions are not as asked for",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.says())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_are_distinct_and_written_as_they_are_called() {
        let words: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let written = serde_json::to_value(reason).expect("it is a word");
            assert_eq!(written, reason.as_str());
            assert!(!reason.to_string().is_empty());
        }
        let newer: Reason = serde_json::from_str("\"OfTomorrow\"").expect("a newer one is read");
        assert_eq!(newer, Reason::Unknown);
    }
}
