//! What has to be true after every call, and when the façade is left alone.

use std::collections::BTreeSet;

use dbaas_controller::error::ControlError;
use dbaas_controller::request::{InstanceAction, InstanceFilter, Page};
use dbaas_core::id::InstanceId;
use dbaas_core::lifecycle::{Lifecycle, ObjectLifecycle};

use crate::model::{Instance, Model};
use crate::plane::{LEAVES_WITHIN, Plane};

fn everything<Id>() -> Page<Id> {
    Page {
        after: None,
        limit: 1000,
    }
}

impl Plane {
    /// Everything that was accepted is what is shown, and nothing else.
    pub(crate) async fn check(&self, model: &Model) {
        let listed = self
            .plane
            .instances(InstanceFilter::default(), everything())
            .await
            .unwrap();
        let shown: BTreeSet<InstanceId> = listed.items.iter().map(|i| i.id).collect();
        let known = model
            .instances
            .keys()
            .chain(model.leaving.keys())
            .map(|handle| self.instances[handle]);
        let known: BTreeSet<InstanceId> = known.collect();
        assert!(
            shown.is_subset(&known),
            "what is shown was never made: {:?}",
            &shown - &known
        );
        for (handle, instance) in &model.instances {
            let id = self.instances[handle];
            assert!(shown.contains(&id), "{} is not listed", instance.name);
            let record = self.plane.instance(id).await.unwrap();
            let spec = &record.spec;
            assert_eq!(spec.name.as_str(), instance.name);
            assert_eq!(spec.description.as_str(), instance.description, "a lost update");
            let numbers = [
                u64::from(spec.nodes.get()),
                u64::from(spec.sync_replicas.get()),
                u64::from(spec.resources.cpu.get()),
                u64::from(spec.resources.disk.get()),
            ];
            let asked = [instance.nodes, instance.sync, instance.cpu, instance.disk];
            assert_eq!(numbers, asked, "a lost update");
            assert_eq!(
                record.generation, self.generations[handle],
                "somebody else's generation"
            );
            if record.status.lifecycle == Lifecycle::Active {
                assert!(!record.status.reason.is_empty());
            }
            self.check_objects(id, instance).await;
        }
    }

    async fn check_objects(&self, id: InstanceId, instance: &Instance) {
        let users = self.plane.users(id, everything()).await.unwrap().items;
        for (user, name) in &instance.users {
            let found = users.iter().find(|u| u.id == self.users[user]);
            let found = found.unwrap_or_else(|| panic!("user {name} is gone"));
            assert_eq!(found.name.as_str(), *name);
            assert!(!found.deleting);
        }
        assert!(
            users.len() <= instance.users.len() + instance.leaving_users.len(),
            "a user that was never made"
        );
        let databases = self.plane.databases(id, everything()).await.unwrap().items;
        for (database, asked) in &instance.databases {
            let found = databases.iter().find(|d| d.id == self.databases[database]);
            let found = found.unwrap_or_else(|| panic!("database {} is gone", asked.name));
            assert_eq!(found.name.as_str(), asked.name);
            assert_eq!(found.owner, self.users[&asked.owner], "a lost update");
            assert_eq!(found.description.as_str(), asked.description, "a lost update");
        }
        assert!(
            databases.len() <= instance.databases.len() + instance.leaving_databases.len(),
            "a database that was never made"
        );
    }

    /// Left alone, everything comes to be as asked for; then no status lies.
    pub(crate) async fn settle(&self, model: &Model) {
        for (handle, instance) in &model.instances {
            let id = self.instances[handle];
            if instance.stopped {
                self.plane
                    .act_on_instance(id, InstanceAction::Start)
                    .await
                    .unwrap();
            }
            let active = self
                .plane
                .wait_for_instance(id, Lifecycle::Active, LEAVES_WITHIN)
                .await;
            active.unwrap_or_else(|e| panic!("{}: {e}", instance.name));
            let state = ObjectLifecycle::Active;
            for user in instance.users.keys() {
                self.plane
                    .wait_for_user(id, self.users[user], state, LEAVES_WITHIN)
                    .await
                    .unwrap();
            }
            for database in instance.databases.keys() {
                self.plane
                    .wait_for_database(id, self.databases[database], state, LEAVES_WITHIN)
                    .await
                    .unwrap();
            }
        }
        // What was to be dropped is dropped soon after.
        tokio::time::sleep(LEAVES_WITHIN).await;
        for (handle, instance) in &model.instances {
            self.check_settled(self.instances[handle], instance).await;
        }
        for handle in model.leaving.keys() {
            let id = self.instances[handle];
            let gone = self.plane.instance(id).await;
            assert!(
                matches!(gone, Err(ControlError::NotFound { .. })),
                "an instance stays"
            );
            assert!(self.world.nodes(id).is_empty(), "a deleted instance has nodes");
        }
    }

    async fn check_settled(&self, id: InstanceId, instance: &Instance) {
        let record = self.plane.instance(id).await.unwrap();
        assert_eq!(
            record.status.lifecycle,
            Lifecycle::Active,
            "{}",
            record.status.reason
        );
        assert_eq!(record.status.observed_generation, record.generation);
        let nodes = self.world.nodes(id);
        assert_eq!(
            nodes.len() as u64,
            instance.nodes,
            "ACTIVE with other nodes than asked for"
        );
        let primary: Vec<_> = nodes.iter().filter(|n| n.is_primary).collect();
        assert_eq!(primary.len(), 1, "ACTIVE without one primary");
        for name in instance.users.values() {
            assert!(
                primary[0].roles.contains(*name),
                "user {name} is ACTIVE and not there"
            );
        }
        for database in instance.databases.values() {
            let name = database.name;
            assert!(
                primary[0].databases.contains(name),
                "{name} is ACTIVE and not there"
            );
        }
        for (user, name) in &instance.leaving_users {
            let gone = self.plane.user(id, self.users[user]).await;
            assert!(matches!(gone, Err(ControlError::NotFound { .. })), "{name} stays");
        }
        for (database, asked) in &instance.leaving_databases {
            let gone = self.plane.database(id, self.databases[database]).await;
            assert!(
                matches!(gone, Err(ControlError::NotFound { .. })),
                "{} stays",
                asked.name
            );
        }
    }
}
