//! Roles and databases: what they are made from, and what is left over of a creation.

use dbaas_core::boot::ADMIN_ROLE;
use dbaas_core::cluster::Lsn;
use dbaas_core::command::{SPARE_DATABASE, staging_database_name};
use dbaas_core::condition::Conditions;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::lifecycle::LifecycleEvent;
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::observation::{CatalogueFacts, DatabaseFacts, RoleFacts};
use dbaas_core::password::Password;
use dbaas_core::plan::{Action, DatabaseSource, Plan, Situation, plan};
use dbaas_core::reason::Reason;
use dbaas_core::scram::{Iterations, ScramVerifier};
use dbaas_core::user::UserRecord;
use uuid::Uuid;

use crate::situation::{Scene, node};

mod borders;
mod identity;

/// The conditions of a user or a database that has been ACTIVE.
fn as_asked_for(scene: &Scene) -> Conditions {
    let mut conditions = Conditions::default();
    let converged = LifecycleEvent::Converged;
    conditions.set_reconciled(converged, Reason::AsAskedFor, scene.observation.at);
    conditions
}

pub(crate) fn user(scene: &Scene, id: UserId) -> UserRecord {
    let password = Password::new("12345678").unwrap();
    UserRecord {
        id,
        instance: scene.record.id,
        name: "it".parse().unwrap(),
        description: Default::default(),
        password_version: Default::default(),
        verifier: ScramVerifier::derive(&password, [1; 16], Iterations::default()),
        repair: Default::default(),
        deleting: false,
        adopting: false,
        created_at: scene.observation.at,
        updated_at: scene.observation.at,
        lifecycle: ObjectLifecycle::Active,
        reason: "as asked for".to_owned(),
        conditions: as_asked_for(scene),
    }
}

pub(crate) fn database(scene: &Scene, id: DatabaseId, owner: UserId) -> DatabaseRecord {
    DatabaseRecord {
        extensions: Default::default(),
        id,
        instance: scene.record.id,
        name: "shop".parse().unwrap(),
        description: Default::default(),
        owner,
        former_owners: Vec::new(),
        access: Default::default(),
        repair: Default::default(),
        deletion_protection: false,
        deleting: false,
        adopting: false,
        lost_at: None,
        created_at: scene.observation.at,
        updated_at: scene.observation.at,
        lifecycle: ObjectLifecycle::Active,
        reason: "as asked for".to_owned(),
        conditions: as_asked_for(scene),
    }
}

/// A database as most are, without what tells one from another.
pub(crate) fn database_facts() -> DatabaseFacts {
    DatabaseFacts {
        name: String::new(),
        oid: 2,
        owner: String::new(),
        allows_connections: true,
        public_connects: false,
        public_grantors: Vec::new(),
        owners: Vec::new(),
        involved: Vec::new(),
        id: None,
    }
}

/// The user's role as it is to be.
pub(crate) fn role_of(user: &UserRecord) -> RoleFacts {
    RoleFacts {
        name: user.name.to_string(),
        verifier_sha256: Some(user.verifier.fingerprint()),
        oid: 1,
        attributes_ok: true,
        id: Some(user.id.uuid()),
    }
}

fn plan_of(scene: &Scene, user: &UserRecord, database: &DatabaseRecord) -> Plan {
    plan(Situation {
        instance: &scene.record,
        users: std::slice::from_ref(user),
        databases: std::slice::from_ref(database),
        observation: &scene.observation,
        policy: &scene.policy,
        fresh_ids: &[],
    })
}

#[test]
fn what_was_deleted_is_gone_when_no_failover_can_bring_it_back() {
    let mut scene = Scene::running(3, 1);
    let mut user = user(&scene, UserId::from_uuid(Uuid::from_u128(50)));
    let mut database = database(&scene, DatabaseId::from_uuid(Uuid::from_u128(51)), user.id);
    (user.deleting, database.deleting) = (true, true);
    let mut gone = |lsn| {
        // PostgreSQL has neither any more.
        scene.observation.catalogue = Some(CatalogueFacts {
            lsn,
            roles: Vec::new(),
            databases: Vec::new(),
            lost: Vec::new(),
        });
        let plan = plan_of(&scene, &user, &database);
        assert_eq!(plan.actions, []);
        assert!(
            plan.users.is_empty() && plan.databases.is_empty(),
            "they go as they are"
        );
        (plan.gone.len(), plan.wants_catalogue)
    };
    assert_eq!(gone(Lsn(u64::MAX)), (0, true), "no standby has that yet");
    assert_eq!(gone(Lsn(0)).0, 2);
}

#[test]
fn a_database_that_was_begun_once_more_is_dropped_and_its_first_self_is_not() {
    let mut scene = Scene::running(1, 0);
    let (owner, id) = (
        UserId::from_uuid(Uuid::from_u128(50)),
        DatabaseId::from_uuid(Uuid::from_u128(51)),
    );
    let (user, database) = (user(&scene, owner), database(&scene, id, owner));
    let staging = staging_database_name(id.uuid());
    let found = |name: &str, id: Option<Uuid>| DatabaseFacts {
        name: name.to_owned(),
        owner: "it".to_owned(),
        public_connects: false,
        id,
        ..database_facts()
    };
    scene.observation.catalogue = Some(CatalogueFacts {
        lsn: Lsn(1_000),
        roles: vec![role_of(&user)],
        databases: vec![found("shop", Some(id.uuid())), found(&staging, None)],
        ..CatalogueFacts::default()
    });
    let plan = plan_of(&scene, &user, &database);
    let dropped = Action::DropDatabase {
        node: node(1),
        database: id,
        name: staging,
        registered: false,
    };
    assert_eq!(plan.actions, [dropped]);
    assert!(plan.users.is_empty() && plan.databases.is_empty(), "as asked for");
    assert!(plan.wants_catalogue);
}

#[test]
fn what_a_late_order_makes_once_more_is_dropped_again() {
    let mut scene = Scene::running(1, 0);
    let (gone, gone_database, unknown) = (Uuid::from_u128(60), Uuid::from_u128(61), Uuid::from_u128(62));
    scene.record.dropped.note(gone);
    scene.record.dropped.note(gone_database);
    // A user of the same name has been asked for since.
    let mut user = user(&scene, UserId::from_uuid(Uuid::from_u128(50)));
    user.lifecycle = ObjectLifecycle::New;
    let role = |name: &str, id: Uuid| RoleFacts {
        name: name.to_owned(),
        verifier_sha256: None,
        oid: 1,
        attributes_ok: true,
        id: Some(id),
    };
    let database = |name: &str, id: Option<Uuid>| DatabaseFacts {
        name: name.to_owned(),
        owner: "it".to_owned(),
        public_connects: false,
        id,
        ..database_facts()
    };
    let staging = staging_database_name(gone_database);
    scene.observation.catalogue = Some(CatalogueFacts {
        lsn: Lsn(1_000),
        roles: vec![role("it", gone), role("nobody_knows", unknown)],
        databases: vec![
            database("shop", Some(gone_database)),
            database(&staging, None),
            database("nobody_knows", Some(unknown)),
        ],
        ..CatalogueFacts::default()
    });
    let plan = plan(Situation {
        instance: &scene.record,
        users: std::slice::from_ref(&user),
        databases: &[],
        observation: &scene.observation,
        policy: &scene.policy,
        fresh_ids: &[],
    });
    let names: Vec<(&str, String)> = plan
        .actions
        .iter()
        .map(|action| match action {
            Action::DropRole { role, .. } => ("role", role.name.clone()),
            Action::DropDatabase { name, .. } => ("database", name.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    // The role owns one of them: it comes after.
    let expected = [("database", "shop"), ("database", staging.as_str())];
    assert_eq!(names, expected.map(|(kind, name)| (kind, name.to_owned())));
    assert_eq!(
        plan.users[0].reason,
        "an earlier role of this name is being dropped"
    );
    // And a database.
    let wanted = DatabaseRecord {
        lifecycle: ObjectLifecycle::New,
        ..self::database(&scene, DatabaseId::from_uuid(Uuid::from_u128(63)), user.id)
    };
    let plan = plan_of(&scene, &user, &wanted);
    let told = plan.databases.first().unwrap();
    assert_eq!(told.reason, "an earlier database of this name is being dropped");
    assert_eq!(told.lifecycle, ObjectLifecycle::New);
    // One that was not dropped by us is somebody's.
    let wanted = DatabaseRecord {
        name: "nobody_knows".parse().unwrap(),
        ..wanted
    };
    let plan = plan_of(&scene, &user, &wanted);
    assert_eq!(plan.databases[0].lifecycle, ObjectLifecycle::Error);
}

#[test]
fn as_many_dropped_ones_are_remembered_as_matter() {
    let mut dropped = dbaas_core::instance::Dropped::default();
    let most = dbaas_core::instance::Dropped::MOST as u128;
    for id in 0..=most {
        dropped.note(Uuid::from_u128(id));
    }
    dropped.note(Uuid::from_u128(5));
    let kept: Vec<u128> = dropped.iter().map(|id| id.as_u128()).collect();
    assert_eq!(kept.len() as u128, most);
    assert_eq!((kept.first(), kept.last()), (Some(&1), Some(&5)));
}

#[test]
fn a_database_is_made_after_its_owner_in_the_same_plan() {
    let mut scene = Scene::running(1, 0);
    let owner = UserId::from_uuid(Uuid::from_u128(50));
    let mut user = user(&scene, owner);
    let mut database = database(&scene, DatabaseId::from_uuid(Uuid::from_u128(51)), owner);
    (user.lifecycle, database.lifecycle) = (ObjectLifecycle::New, ObjectLifecycle::New);
    let mut after = |roles: Vec<RoleFacts>| {
        scene.observation.catalogue = Some(CatalogueFacts {
            lsn: Lsn(1_000),
            roles,
            databases: Vec::new(),
            lost: Vec::new(),
        });
        let plan = plan_of(&scene, &user, &database);
        plan.actions.into_iter().find_map(|action| match action {
            Action::CreateDatabase { after, .. } => Some(after),
            _ => None,
        })
    };
    assert_eq!(
        after(Vec::new()),
        Some(Some(owner)),
        "the role is made in this plan"
    );
    let role = RoleFacts {
        name: "it".to_owned(),
        verifier_sha256: None,
        oid: 1,
        attributes_ok: true,
        id: Some(owner.uuid()),
    };
    assert_eq!(after(vec![role]), Some(None), "it is there");
}

#[test]
fn the_first_database_that_is_missing_is_made_from_the_spare_one() {
    let mut scene = Scene::running(1, 0);
    let owner = UserId::from_uuid(Uuid::from_u128(50));
    let user = user(&scene, owner);
    let databases: Vec<DatabaseRecord> = ["shop", "blog", "wiki"]
        .into_iter()
        .zip(51..)
        .map(|(name, id)| DatabaseRecord {
            name: name.parse().unwrap(),
            lifecycle: ObjectLifecycle::New,
            ..database(&scene, DatabaseId::from_uuid(Uuid::from_u128(id)), owner)
        })
        .collect();
    let mut sources = |there: &[(&str, &str, Option<Uuid>)]| -> Vec<(String, DatabaseSource)> {
        let found = |(name, owner, id): &(&str, &str, Option<Uuid>)| DatabaseFacts {
            name: (*name).to_owned(),
            owner: (*owner).to_owned(),
            public_connects: false,
            id: *id,
            ..database_facts()
        };
        scene.observation.catalogue = Some(CatalogueFacts {
            lsn: Lsn(1_000),
            roles: vec![role_of(&user)],
            databases: there.iter().map(found).collect(),
            ..CatalogueFacts::default()
        });
        let plan = plan(Situation {
            instance: &scene.record,
            users: std::slice::from_ref(&user),
            databases: &databases,
            observation: &scene.observation,
            policy: &scene.policy,
            fresh_ids: &[],
        });
        let made = plan.actions.into_iter().map(|action| match action {
            Action::CreateDatabase { name, source, .. } => (name.to_string(), source),
            other => panic!("{other:?}"),
        });
        made.collect()
    };
    let expect = |made: &[(&str, DatabaseSource)]| -> Vec<(String, DatabaseSource)> {
        made.iter()
            .map(|(name, source)| ((*name).to_owned(), *source))
            .collect()
    };
    use DatabaseSource::{Spare, Staged, Template};
    let spare = (SPARE_DATABASE, ADMIN_ROLE, None);
    let id = |index: usize| databases[index].id.uuid();
    assert_eq!(
        sources(std::slice::from_ref(&spare)),
        expect(&[("shop", Spare), ("blog", Template), ("wiki", Template)])
    );
    assert_eq!(
        sources(&[]),
        expect(&[("shop", Template), ("blog", Template), ("wiki", Template)]),
        "there is none, or no longer"
    );
    let shop = ("shop", "it", Some(id(0)));
    assert_eq!(
        sources(&[spare, shop]),
        expect(&[("blog", Spare), ("wiki", Template)])
    );
    let staging = staging_database_name(id(0));
    assert_eq!(
        sources(&[spare, (&staging, "it", None)]),
        expect(&[("shop", Staged), ("blog", Spare), ("wiki", Template)])
    );
    assert_eq!(
        sources(&[(SPARE_DATABASE, "somebody", None)])[0].1,
        Template,
        "of that name, but not made by a backend"
    );
}

#[test]
fn the_catalogue_is_read_when_something_is_to_be_done_and_not_otherwise() {
    let mut scene = Scene::running(3, 1);
    let owner = UserId::from_uuid(Uuid::from_u128(50));
    let (user, database) = (
        user(&scene, owner),
        database(&scene, DatabaseId::from_uuid(Uuid::from_u128(51)), owner),
    );
    let wants = |scene: &Scene, user: &UserRecord, database: &DatabaseRecord| {
        let plan = plan_of(scene, user, database);
        assert_eq!(plan.actions, []);
        assert_eq!(
            plan.wake_after_ms == 1,
            plan.wants_catalogue,
            "at once, or not at all"
        );
        plan.wants_catalogue
    };
    assert!(!wants(&scene, &user, &database), "everything is as asked for");
    for unfinished in [ObjectLifecycle::New, ObjectLifecycle::Error] {
        let mut other = user.clone();
        other.lifecycle = unfinished;
        assert!(wants(&scene, &other, &database));
        let mut other = database.clone();
        other.lifecycle = unfinished;
        assert!(wants(&scene, &user, &other));
    }
    let (mut user_goes, mut database_goes) = (user.clone(), database.clone());
    (user_goes.deleting, database_goes.deleting) = (true, true);
    assert!(wants(&scene, &user_goes, &database));
    assert!(wants(&scene, &user, &database_goes));

    // It was read, and shows everything as asked for: it need not be read again, unless a failover might lose
    // what it shows.
    let mut again = |lifecycle, lsn| {
        scene.observation.catalogue = Some(CatalogueFacts {
            lsn,
            roles: vec![role_of(&user)],
            databases: vec![DatabaseFacts {
                name: "shop".to_owned(),
                owner: "it".to_owned(),
                public_connects: false,
                id: Some(database.id.uuid()),
                ..database_facts()
            }],
            ..CatalogueFacts::default()
        });
        let (mut user, mut database) = (user.clone(), database.clone());
        (user.lifecycle, database.lifecycle) = (lifecycle, lifecycle);
        let plan = plan_of(&scene, &user, &database);
        assert_eq!(plan.actions, []);
        let changed = plan.users.first().map(|u| u.lifecycle);
        assert_eq!(plan.databases.first().map(|d| d.lifecycle), changed);
        (plan.wants_catalogue, changed)
    };
    let (behind, ahead) = (Lsn(0), Lsn(u64::MAX));
    assert_eq!(again(ObjectLifecycle::Active, behind), (false, None));
    assert_eq!(
        again(ObjectLifecycle::Active, ahead),
        (false, None),
        "it was durable before"
    );
    assert_eq!(
        again(ObjectLifecycle::New, behind),
        (false, Some(ObjectLifecycle::Active))
    );
    let (wants, lifecycle) = again(ObjectLifecycle::New, ahead);
    assert!(
        wants && lifecycle != Some(ObjectLifecycle::Active),
        "{lifecycle:?}"
    );
}
