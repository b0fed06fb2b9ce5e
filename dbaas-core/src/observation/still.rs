//! Whether what is seen is what was seen before.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Fitness, NodeFacts, NodeObservation, Observation, Seen};
use crate::infrastructure::ObservedNode;

/// More free space than this is plenty on any disk; how much more, no plan depends on.
const PLENTY_BYTES: u64 = 4 << 30;

impl Observation {
    /// A hash of all that a plan for a healthy instance depends on; `None` where something is not well, or is
    /// judged by how long it has lasted. Two looks with the same hash at the same record give the same plan,
    /// as long as that one [was at rest](crate::plan::Plan::is_at_rest) and the second look saw no
    /// [more](Observation::looked_closer).
    ///
    /// Times are left out: when the look was made, how long ago a trial went well, and how old a standby's
    /// last message is, which matters where the primary is silent.
    pub fn stillness(&self) -> Option<u64> {
        let passing = self.infrastructure_error.is_some()
            || !self.object_failures.is_empty()
            || !self.object_progress.is_empty();
        if passing {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        for (id, node) in &self.nodes {
            id.hash(&mut hasher);
            still(node, &mut hasher)?;
        }
        Some(hasher.finish())
    }

    /// Whether this look saw what not every look does: roles and databases, or what is inside of those.
    pub fn looked_closer(&self) -> bool {
        self.catalogue.is_some() || !self.inside.is_empty() || !self.lockouts.is_empty()
    }
}

/// `None`: it is not well.
fn still(node: &NodeObservation, hasher: &mut DefaultHasher) -> Option<()> {
    let (Seen::Present(infra), Ok(facts)) = (&node.infra, &node.sql) else {
        return None;
    };
    // A primary streams from nobody.
    let streams = !facts.in_recovery || node.not_streaming_ms == 0;
    let lasts = node.silent_ms > 0 || node.waiting_ms > 0 || node.stalled_ms > 0 || node.hold_off_ms > 0;
    if lasts || !streams || node.last_failure.is_some() {
        return None;
    }
    match node.fitness {
        Fitness::Unknown => false.hash(hasher),
        Fitness::Serves { .. } => true.hash(hasher),
        Fitness::Unfit { .. } => return None,
    }
    infrastructure(infra, hasher);
    postgresql(facts, hasher);
    Some(())
}

fn infrastructure(node: &ObservedNode, hasher: &mut DefaultHasher) {
    let ObservedNode {
        node,
        power,
        data,
        applied,
        endpoint,
        peer_endpoint,
        boot,
        bootstrap_password,
        disk_free_bytes,
        backend_ref,
    } = node;
    (node, power, data, applied, endpoint, peer_endpoint, boot).hash(hasher);
    (bootstrap_password.is_some(), backend_ref).hash(hasher);
    disk_free_bytes.map(|free| free.min(PLENTY_BYTES)).hash(hasher);
}

fn postgresql(facts: &NodeFacts, hasher: &mut DefaultHasher) {
    let NodeFacts {
        in_recovery,
        epoch,
        history,
        lsn,
        receive_lsn,
        replay_waits: _, // Of one that follows nobody, which is not well.
        receiver,
        primary_conninfo,
        primary_slot,
        sync_names,
        setting,
        checkpointed,
        checkpoint_redo,
        standbys,
        slots,
        rebuild,
        config_hash,
        pending_restart,
        hot_standby,
        started_at,
        has_replication_role,
        has_register,
    } = facts;
    (in_recovery, epoch, history, lsn, receive_lsn).hash(hasher);
    receiver.as_ref().map(|receiver| &receiver.status).hash(hasher);
    (primary_conninfo, primary_slot, sync_names, setting).hash(hasher);
    (checkpointed, checkpoint_redo, standbys, slots, rebuild).hash(hasher);
    (config_hash, pending_restart, hot_standby, started_at).hash(hasher);
    (has_replication_role, has_register).hash(hasher);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::id::{InstanceId, NodeId};
    use crate::infrastructure::{DataState, Endpoint, NodeRef, PowerState};
    use crate::observation::{ReceiverFacts, Silence};
    use crate::time::Timestamp;

    fn healthy() -> Observation {
        let (instance, node) = (
            InstanceId::from_uuid(uuid::Uuid::from_u128(1)),
            NodeId::from_uuid(uuid::Uuid::from_u128(2)),
        );
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 5432,
        };
        let seen = NodeObservation {
            infra: Seen::Present(ObservedNode {
                node: NodeRef { instance, node },
                power: PowerState::Running,
                data: DataState::Initialised,
                applied: None,
                endpoint: Some(endpoint.clone()),
                peer_endpoint: Some(endpoint),
                boot: None,
                bootstrap_password: None,
                disk_free_bytes: Some(20 << 30),
                backend_ref: None,
            }),
            sql: Ok(NodeFacts::default()),
            silent_ms: 0,
            not_streaming_ms: 1_000,
            waiting_ms: 0,
            stalled_ms: 0,
            hold_off_ms: 0,
            last_failure: None,
            fitness: Fitness::Serves { ms_ago: 3 },
        };
        let mut observation = Observation::empty(Timestamp::from_unix_ms(5));
        observation.nodes = BTreeMap::from([(node, seen)]);
        observation
    }

    fn changed(change: impl Fn(&mut Observation, &mut NodeObservation)) -> Option<u64> {
        let mut observation = healthy();
        let mut nodes = std::mem::take(&mut observation.nodes);
        for node in nodes.values_mut() {
            change(&mut observation, node);
        }
        observation.nodes = nodes;
        observation.stillness()
    }

    fn facts(node: &mut NodeObservation) -> &mut NodeFacts {
        node.sql.as_mut().unwrap()
    }

    fn infra(node: &mut NodeObservation) -> &mut ObservedNode {
        let Seen::Present(infra) = &mut node.infra else {
            panic!("it is there")
        };
        infra
    }

    #[test]
    fn time_alone_changes_nothing() {
        let still = healthy().stillness();
        assert!(still.is_some());
        assert_eq!(changed(|seen, _| seen.at = Timestamp::from_unix_ms(9_999)), still);
        assert_eq!(
            changed(|_, node| node.fitness = Fitness::Serves { ms_ago: 900 }),
            still
        );
        assert_eq!(changed(|_, node| node.not_streaming_ms = 2_000), still);
        assert_eq!(
            changed(|_, node| infra(node).disk_free_bytes = Some(19 << 30)),
            still
        );
        let heard = |ms: u64| {
            changed(move |_, node| {
                facts(node).receiver = Some(ReceiverFacts {
                    status: "streaming".to_owned(),
                    last_message_ms: ms,
                });
            })
        };
        assert_eq!(heard(1), heard(700));
        assert_ne!(heard(1), still);
        let mut closer = healthy();
        closer.catalogue = Some(Default::default());
        assert_eq!((closer.stillness(), closer.looked_closer()), (still, true));
        assert!(!healthy().looked_closer());
    }

    #[test]
    fn whatever_a_plan_goes_by_changes_it() {
        let still = healthy().stillness();
        let others = [
            changed(|_, node| facts(node).lsn.0 += 1),
            changed(|_, node| facts(node).config_hash.push('x')),
            changed(|_, node| facts(node).setting += 1),
            changed(|_, node| facts(node).started_at = Timestamp::from_unix_ms(7)),
            changed(|_, node| infra(node).power = PowerState::Off),
            changed(|_, node| infra(node).backend_ref = Some("7".to_owned())),
            changed(|_, node| infra(node).disk_free_bytes = Some(1 << 30)),
            changed(|_, node| node.fitness = Fitness::Unknown),
        ];
        for other in others {
            assert!(other.is_some() && other != still);
        }
    }

    #[test]
    fn what_is_not_well_is_not_still() {
        let others = [
            changed(|_, node| node.sql = Err(Silence::Timeout)),
            changed(|_, node| node.infra = Seen::Absent),
            changed(|_, node| node.silent_ms = 1),
            changed(|_, node| node.hold_off_ms = 1),
            changed(|_, node| facts(node).in_recovery = true),
            changed(|seen, _| seen.infrastructure_error = Some("away".to_owned())),
        ];
        assert_eq!(others, [None; 6]);
    }
}
