//! Kinds of actions and of events, as words that are stable: in logs, metrics and the event log.

use std::fmt;

macro_rules! kinds {
    ($(#[$about:meta])* $name:ident { $($kind:ident => $word:literal, $says:literal;)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = $says] $kind,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$kind,)*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$kind => $word,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

kinds! {
    /// What is done: the kind of an [`Action`](crate::plan::Action).
    ActionKind {
        Apply => "apply", "A node's disk, address and limits are made as asked for.";
        Start => "start", "A node is started.";
        PowerOff => "power_off", "A node is switched off.";
        Remove => "remove", "A node is removed.";
        Bootstrap => "bootstrap", "The control plane's own roles are made.";
        Seal => "seal", "A standby is sealed.";
        EndConflicts => "end_conflicts", "What keeps a sealed standby from replaying is ended.";
        Promote => "promote", "A standby is promoted.";
        MarkHistory => "mark_history", "A primary marks its history.";
        SetSyncNames => "set_sync_names", "A primary is told whom a commit waits for.";
        Follow => "follow", "A standby is told whom it follows.";
        Reconfigure => "reconfigure", "A running node is given its configuration.";
        Checkpoint => "checkpoint", "A checkpoint is made.";
        CreateSlots => "create_slots", "Replication slots are made.";
        DropSlots => "drop_slots", "Replication slots are dropped.";
        PutRole => "put_role", "A role is made or altered.";
        MakeRegister => "make_register", "The register of roles and databases is made.";
        Adopt => "adopt", "A role or a database is taken over.";
        Forget => "forget", "Something that was dropped is taken out of the register.";
        DropRole => "drop_role", "A role is dropped.";
        CreateDatabase => "create_database", "A database is made.";
        AlterDatabase => "alter_database", "A database gets its owner and privileges.";
        TransferObjects => "transfer_objects", "A former owner's objects are given to the owner.";
        ChangeAccess => "change_access", "Access to a database is given or taken.";
        ChangeExtensions => "change_extensions", "Extensions of a database are changed.";
        DropAccessRoles => "drop_access_roles", "The roles of access to a database are dropped.";
        RepairAccess => "repair_access", "What locks an owner out is put back.";
        DropDatabase => "drop_database", "A database is dropped.";
    }
}

kinds! {
    /// What an event of an instance's log is about, where the planner tells it.
    EventKind {
        InstanceNew => "instance_new", "The instance's status became NEW.";
        InstanceInProgress => "instance_in_progress", "The instance's status became IN_PROGRESS.";
        InstanceActive => "instance_active", "The instance's status became ACTIVE.";
        InstanceError => "instance_error", "The instance's status became ERROR.";
        NodesDecided => "nodes_decided", "The first nodes were decided on.";
        NodeAdded => "node_added", "A node is added.";
        NodeLeaving => "node_leaving", "A node is to be removed.";
        NodeRemoved => "node_removed", "A node was removed.";
        NodeRestarting => "node_restarting", "A node is restarted for its configuration.";
        RestartCompleted => "restart_completed", "Every node was restarted.";
        StandbyStarting => "standby_starting", "A standby is started.";
        StandbyRebuilding => "standby_rebuilding", "A standby is rewound or built anew.";
        StandbyStalled => "standby_stalled", "A standby received a part of a record, and no more.";
        StrayPrimaryFenced => "stray_primary_fenced", "A primary that is none was fenced.";
        PrimaryHung => "primary_hung", "A primary that serves nobody is restarted.";
        PrimaryRestarted => "primary_restarted", "The primary is started where it is.";
        FailoverStarted => "failover_started", "The primary is lost: a new epoch was begun.";
        SwitchoverStarted => "switchover_started", "A planned change of primary was begun.";
        ForcedFailoverStarted => "forced_failover_started", "A failover that may lose commits was begun.";
        CandidateChosen => "candidate_chosen", "The standby that has most is promoted.";
        FailoverCompleted => "failover_completed", "The new primary's commits are safe.";
        FailoverAbandoned => "failover_abandoned", "The old primary goes on.";
        FailoverDone => "failover_done", "A failover that was asked for was carried out.";
        FailoverGivenUp => "failover_given_up", "A failover that was asked for could not be carried out.";
        SwitchoverDone => "switchover_done", "A switchover that was asked for had nothing to do.";
        SwitchoverGivenUp => "switchover_given_up", "A switchover that was asked for could not be carried out.";
        ElectorateChanged => "electorate_changed", "Whom a commit waits for has changed.";
        ParametersRefused => "parameters_refused", "A server does not run with the parameters.";
        UserActive => "user_active", "A user became ACTIVE.";
        UserError => "user_error", "A user became ERROR.";
        UserDeleted => "user_deleted", "A user is gone.";
        DatabaseActive => "database_active", "A database became ACTIVE.";
        DatabaseError => "database_error", "A database became ERROR.";
        DatabaseDeleted => "database_deleted", "A database is gone.";
        DatabaseChangedHands => "database_changed_hands", "A former owner's objects are the owner's.";
        DriftFound => "drift_found", "A user or a database is not as asked for any more.";
        AccessDrift => "access_drift", "Access to a database was not as asked for.";
        AccessRepaired => "access_repaired", "What had locked an owner out was put back.";
        ExtensionsUpdated => "extensions_updated", "Extensions were updated, as asked.";
        ExtensionDrift => "extension_drift", "An extension was not as asked for.";
        Adopted => "adopted", "A role or a database was taken over.";
        AdoptionFailed => "adoption_failed", "There was nothing to take over.";
    }
}

/// What an event tells the state of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateOf {
    /// The instance.
    Instance,
    /// A user.
    User,
    /// A database.
    Database,
}

impl EventKind {
    /// Whose state it tells, if it does: then the event after it of the same is news, also if it says what an
    /// earlier one did.
    pub const fn state_of(self) -> Option<StateOf> {
        match self {
            EventKind::InstanceNew
            | EventKind::InstanceInProgress
            | EventKind::InstanceActive
            | EventKind::InstanceError => Some(StateOf::Instance),
            EventKind::UserActive | EventKind::UserError | EventKind::UserDeleted => Some(StateOf::User),
            EventKind::DatabaseActive | EventKind::DatabaseError | EventKind::DatabaseDeleted => {
                Some(StateOf::Database)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_are_distinct() {
        let actions: BTreeSet<&str> = ActionKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let events: BTreeSet<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(
            (actions.len(), events.len()),
            (ActionKind::ALL.len(), EventKind::ALL.len())
        );
    }
}
