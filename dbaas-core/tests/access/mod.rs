//! Access of users to databases of others: what is asked for, against what was seen inside of the database.

use dbaas_core::access::{Access, AccessEntry, AccessLevel};
use dbaas_core::cluster::Lsn;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::kinds::EventKind;
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::observation::{
    AccessFacts, AccessMember, CatalogueFacts, DatabaseFacts, ForeignGrant, Inside, InsideFacts, ObjectKind,
    ObjectName,
};
use dbaas_core::plan::{AccessChange, Action, Plan, Situation, plan};
use dbaas_core::user::UserRecord;
use uuid::Uuid;

use crate::objects::{database, database_facts, role_of, user};
use crate::situation::Scene;

struct World {
    scene: Scene,
    users: Vec<UserRecord>,
    database: DatabaseRecord,
}

fn id(n: u128) -> UserId {
    UserId::from_uuid(Uuid::from_u128(n))
}

fn member(level: AccessLevel, name: &str) -> AccessMember {
    AccessMember {
        level,
        name: name.to_owned(),
    }
}

impl World {
    /// `it` owns `shop`; `bob` is to read.
    fn new() -> World {
        let mut scene = Scene::running(1, 0);
        let (owner, mut bob) = (user(&scene, id(50)), user(&scene, id(51)));
        bob.name = "bob".parse().unwrap();
        let mut database = database(&scene, DatabaseId::from_uuid(Uuid::from_u128(60)), owner.id);
        database.access.entries.push(AccessEntry {
            user: bob.id,
            level: AccessLevel::Read,
        });
        database.lifecycle = ObjectLifecycle::New;
        scene.observation.catalogue = Some(CatalogueFacts {
            lsn: Lsn(1_000),
            roles: vec![role_of(&owner), role_of(&bob)],
            databases: vec![DatabaseFacts {
                name: "shop".to_owned(),
                owner: "it".to_owned(),
                id: Some(database.id.uuid()),
                ..database_facts()
            }],
            lost: Vec::new(),
        });
        World {
            scene,
            users: vec![owner, bob],
            database,
        }
    }

    fn sees(&mut self, access: AccessFacts) -> &mut Self {
        let seen = Inside::Seen(Box::new(InsideFacts {
            access,
            ..InsideFacts::default()
        }));
        self.scene.observation.inside.insert(self.database.id, seen);
        self
    }

    fn plan(&self) -> Plan {
        plan(Situation {
            instance: &self.scene.record,
            users: &self.users,
            databases: std::slice::from_ref(&self.database),
            observation: &self.scene.observation,
            policy: &self.scene.policy,
            fresh_ids: &[],
        })
    }

    fn change(&self) -> Option<AccessChange> {
        self.plan().actions.into_iter().find_map(|action| match action {
            Action::ChangeAccess { change, .. } => Some(*change),
            _ => None,
        })
    }
}

fn complete() -> AccessFacts {
    AccessFacts {
        prepared: true,
        members: vec![member(AccessLevel::Owner, "it"), member(AccessLevel::Read, "bob")],
        ..AccessFacts::default()
    }
}

#[test]
fn a_database_is_looked_into_before_anything_is_given() {
    let world = World::new();
    let plan = world.plan();
    assert!(plan.wants_inside.contains(&world.database.id));
    assert_eq!(plan.actions, []);
    assert_eq!(plan.databases[0].lifecycle, ObjectLifecycle::New);
}

#[test]
fn an_active_one_is_looked_into_when_the_engine_thinks_fit() {
    let mut world = World::new();
    world.database.lifecycle = ObjectLifecycle::Active;
    let plan = world.plan();
    assert!(plan.wants_inside.is_empty() && plan.actions.is_empty());
    world.database.access = Access::default();
    assert!(world.plan().wants_inside.is_empty());
}

#[test]
fn it_is_active_when_nothing_is_missing() {
    let mut world = World::new();
    let plan = world.sees(complete()).plan();
    assert_eq!(plan.actions, []);
    assert_eq!(plan.databases[0].lifecycle, ObjectLifecycle::Active);
}

#[test]
fn levels_are_given_and_taken() {
    let mut world = World::new();
    let change = world.sees(AccessFacts::default()).change().unwrap();
    assert!(change.prepare);
    assert_eq!(
        change.join,
        [member(AccessLevel::Owner, "it"), member(AccessLevel::Read, "bob")],
        "the owner uses what others make, too"
    );
    let facts = AccessFacts {
        members: vec![
            member(AccessLevel::Owner, "it"),
            member(AccessLevel::Write, "bob"),
            member(AccessLevel::Owner, "eve"),
        ],
        ..complete()
    };
    let change = world.sees(facts).change().unwrap();
    assert_eq!(change.join, [member(AccessLevel::Read, "bob")]);
    assert_eq!(
        change.leave,
        [
            member(AccessLevel::Write, "bob"),
            member(AccessLevel::Owner, "eve")
        ]
    );
    assert_eq!(change.evict, ["eve"], "who keeps a level is not disconnected");
}

#[test]
fn drift_is_put_back_and_told_while_the_database_is_active() {
    let mut world = World::new();
    world.database.lifecycle = ObjectLifecycle::Active;
    let facts = AccessFacts {
        creators: vec!["it".to_owned()],
        ..complete()
    };
    let plan = world.sees(facts).plan();
    assert_eq!(plan.actions.len(), 1);
    assert!(plan.databases.is_empty(), "it goes on being ACTIVE");
    assert!(
        plan.events
            .iter()
            .any(|event| event.kind == EventKind::AccessDrift)
    );
}

#[test]
fn what_was_taken_back_is_forgotten_when_it_is_gone() {
    let mut world = World::new();
    world.database.access.taken_back = vec![id(51)];
    let grant = ForeignGrant {
        grantor: "it".to_owned(),
        grantee: "bob".to_owned(),
        object: ObjectName {
            kind: ObjectKind::Table,
            schema: "public".to_owned(),
            name: "t".to_owned(),
        },
    };
    let facts = AccessFacts {
        foreign: vec![grant.clone()],
        ..complete()
    };
    assert_eq!(world.sees(facts).change().unwrap().foreign, [grant]);
    let plan = world.sees(complete()).plan();
    assert_eq!(plan.databases[0].access.taken_back, []);
}

#[test]
fn somebody_who_does_not_exist_yet_is_waited_for() {
    let mut world = World::new();
    let catalogue = world.scene.observation.catalogue.as_mut().unwrap();
    catalogue.roles.truncate(1);
    let facts = AccessFacts {
        members: vec![member(AccessLevel::Owner, "it")],
        ..complete()
    };
    let plan = world.sees(facts).plan();
    let gives = plan
        .actions
        .iter()
        .any(|action| matches!(action, Action::ChangeAccess { .. }));
    assert!(!gives);
    assert!(
        plan.databases[0].reason.contains("waiting for user bob"),
        "{}",
        plan.databases[0].reason
    );
}

#[test]
fn a_database_that_cannot_be_looked_into_is_in_error_after_some_tries() {
    let mut world = World::new();
    let mut after = |times| {
        let failed = Inside::Failed {
            message: "database \"shop\" is not currently accepting connections".to_owned(),
            times,
        };
        world.scene.observation.inside.insert(world.database.id, failed);
        world.plan().databases[0].lifecycle
    };
    assert_eq!(after(1), ObjectLifecycle::New);
    assert_eq!(after(3), ObjectLifecycle::Error);
}
