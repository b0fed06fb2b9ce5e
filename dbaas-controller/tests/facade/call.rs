//! A call of the façade, before it is known what it will meet.

use proptest::prelude::*;

/// The names that instances, users and databases have: few, so that they collide.
pub(crate) const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// Which of those that are there: counted round.
pub(crate) type Which = usize;

/// What an update of an instance changes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) name: Option<&'static str>,
    pub(crate) nodes: Option<u64>,
    pub(crate) sync: Option<u64>,
    pub(crate) cpu: Option<u64>,
    pub(crate) disk: Option<u64>,
    pub(crate) described: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Stop,
    Start,
    Restart,
    Switchover,
}

#[derive(Debug, Clone)]
pub(crate) enum Call {
    CreateInstance {
        name: &'static str,
        nodes: u64,
        sync: u64,
        bad_version: bool,
        with_key: bool,
    },
    /// `stale`: it names a version of the record that it never had.
    UpdateInstance {
        instance: Which,
        changes: Changes,
        stale: bool,
    },
    Act {
        instance: Which,
        deed: Deed,
    },
    DeleteInstance {
        instance: Which,
    },
    CreateUser {
        instance: Which,
        name: &'static str,
    },
    /// Another password.
    UpdateUser {
        instance: Which,
        user: Which,
    },
    DeleteUser {
        instance: Which,
        user: Which,
    },
    /// `foreign`: its owner is nobody's user.
    CreateDatabase {
        instance: Which,
        owner: Which,
        name: &'static str,
        foreign: bool,
    },
    UpdateDatabase {
        instance: Which,
        database: Which,
        owner: Option<Which>,
    },
    DeleteDatabase {
        instance: Which,
        database: Which,
    },
    /// Everything, of ids that nobody has.
    AskForWhatNeverWas {
        id: u128,
    },
    Wait {
        ms: u64,
    },
}

fn name() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(NAMES.as_slice())
}

fn which() -> impl Strategy<Value = Which> {
    0..16usize
}

fn changes() -> impl Strategy<Value = Changes> {
    (
        prop::option::weighted(0.33, name()),
        prop::option::of(1..5u64),
        prop::option::of(0..3u64),
        prop::option::of(1..5u64),
        prop::option::weighted(0.33, 8..20u64),
        any::<bool>(),
    )
        .prop_map(|(name, nodes, sync, cpu, disk, described)| Changes {
            name,
            nodes,
            sync,
            cpu,
            disk,
            described,
        })
}

fn one_in(n: u32) -> impl Strategy<Value = bool> {
    (0..n).prop_map(move |drawn| drawn == n - 1)
}

pub(crate) fn any_call() -> BoxedStrategy<Call> {
    let deed = prop_oneof![
        1 => Just(Deed::Stop), 2 => Just(Deed::Start), 1 => Just(Deed::Restart), 1 => Just(Deed::Switchover)
    ];
    prop_oneof![
        6 => (name(), 1..4u64, 0..3u64, one_in(10), any::<bool>()).prop_map(|(name, nodes, sync, bad_version, with_key)| {
            Call::CreateInstance { name, nodes, sync, bad_version, with_key }
        }),
        6 => (which(), changes(), one_in(6))
            .prop_map(|(instance, changes, stale)| Call::UpdateInstance { instance, changes, stale }),
        3 => (which(), deed).prop_map(|(instance, deed)| Call::Act { instance, deed }),
        1 => which().prop_map(|instance| Call::DeleteInstance { instance }),
        6 => (which(), name()).prop_map(|(instance, name)| Call::CreateUser { instance, name }),
        3 => (which(), which()).prop_map(|(instance, user)| Call::UpdateUser { instance, user }),
        3 => (which(), which()).prop_map(|(instance, user)| Call::DeleteUser { instance, user }),
        6 => (which(), which(), name(), one_in(8))
            .prop_map(|(instance, owner, name, foreign)| Call::CreateDatabase { instance, owner, name, foreign }),
        3 => (which(), which(), prop::option::of(which()))
            .prop_map(|(instance, database, owner)| Call::UpdateDatabase { instance, database, owner }),
        3 => (which(), which()).prop_map(|(instance, database)| Call::DeleteDatabase { instance, database }),
        // Not zero: that would be the smallest it shrinks to, and is no id.
        3 => (1..u128::MAX).prop_map(|id| Call::AskForWhatNeverWas { id }),
        6 => (1..4_000u64).prop_map(|ms| Call::Wait { ms }),
    ]
    .boxed()
}
