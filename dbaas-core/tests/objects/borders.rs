//! Each rule of roles and databases at its borders: what is done, what is recorded and what is told.

use dbaas_core::cluster::Lsn;
use dbaas_core::command::staging_database_name;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::observation::{CatalogueFacts, DatabaseFacts, Progress, RoleFacts};
use dbaas_core::plan::{Action, Situation, plan};
use dbaas_core::user::UserRecord;
use uuid::Uuid;

use super::{database, database_facts, plan_of, role_of, user};
use crate::situation::Scene;

/// The actions by name, and what is then recorded of the user and of the database.
fn outcome(
    scene: &Scene,
    user: &UserRecord,
    database: &DatabaseRecord,
) -> (Vec<&'static str>, ObjectLifecycle, ObjectLifecycle) {
    let plan = plan_of(scene, user, database);
    let users = plan.users.first().unwrap_or(user).lifecycle;
    let databases = plan.databases.first().unwrap_or(database).lifecycle;
    (
        plan.actions.iter().map(|a| a.kind().as_str()).collect(),
        users,
        databases,
    )
}

#[test]
fn a_role_is_made_mended_or_dropped_and_another_ones_left_alone() {
    use ObjectLifecycle::{Active, Error, New};
    let mut scene = Scene::running(1, 0);
    let owner = UserId::from_uuid(Uuid::from_u128(50));
    let mut user = user(&scene, owner);
    let database = database(&scene, DatabaseId::from_uuid(Uuid::from_u128(51)), owner);
    let there = role_of(&user);
    let but = |change: &dyn Fn(&mut RoleFacts)| {
        let mut role = there.clone();
        change(&mut role);
        vec![role]
    };
    let other_id = Some(Uuid::from_u128(99));
    let other_password = but(&|role| role.verifier_sha256 = Some("another".to_owned()));
    let no_password = but(&|role| role.verifier_sha256 = None);
    let other_attributes = but(&|role| role.attributes_ok = false);
    let unmarked = but(&|role| role.id = None);
    let of_another = but(&|role| role.id = other_id);
    let other_name = but(&|role| role.name = "somebody".to_owned());
    let table: [(Vec<RoleFacts>, ObjectLifecycle, &[&str], ObjectLifecycle); 9] = [
        (vec![there.clone()], New, &[], Active),
        (vec![there.clone()], Error, &[], Active),
        (vec![], New, &["put_role"], New),
        (other_password, Active, &["put_role"], New),
        (no_password, Active, &["put_role"], New),
        (other_attributes, Active, &["put_role"], New),
        (unmarked, New, &[], Error),
        (of_another, New, &[], Error),
        (other_name, New, &[], Error),
    ];
    for (roles, before, actions, after) in table {
        user.lifecycle = before;
        let shown = format!("{roles:?} {before}");
        scene.observation.catalogue = Some(CatalogueFacts {
            lsn: Lsn(0),
            databases: vec![DatabaseFacts {
                name: "shop".to_owned(),
                owner: "it".to_owned(),
                public_connects: false,
                id: Some(database.id.uuid()),
                ..database_facts()
            }],
            roles,
            ..CatalogueFacts::default()
        });
        let (done, lifecycle, _) = outcome(&scene, &user, &database);
        assert_eq!((done.as_slice(), lifecycle), (actions, after), "{shown}");
    }

    user.deleting = true;
    let mut drops = |roles: Vec<RoleFacts>| {
        scene.observation.catalogue = Some(CatalogueFacts {
            lsn: Lsn(0),
            roles,
            databases: Vec::new(),
            lost: Vec::new(),
        });
        let plan = plan(Situation {
            instance: &scene.record,
            users: std::slice::from_ref(&user),
            databases: &[],
            observation: &scene.observation,
            policy: &scene.policy,
            fresh_ids: &[],
        });
        let names: Vec<_> = plan.actions.iter().map(|a| a.kind().as_str()).collect();
        (names, plan.gone.len())
    };
    assert_eq!(drops(vec![there.clone()]), (vec!["drop_role"], 0));
    assert_eq!(drops(vec![]), (vec![], 1));
    let foreign = but(&|role| role.id = other_id);
    assert_eq!(drops(foreign), (vec![], 1), "it is not ours to drop");
}

#[test]
fn a_database_is_made_mended_or_dropped_and_another_ones_left_alone() {
    use ObjectLifecycle::{Active, Error, New};
    let mut scene = Scene::running(1, 0);
    let owner = UserId::from_uuid(Uuid::from_u128(50));
    let user = user(&scene, owner);
    let mut database = database(&scene, DatabaseId::from_uuid(Uuid::from_u128(51)), owner);
    let there = DatabaseFacts {
        name: "shop".to_owned(),
        owner: "it".to_owned(),
        public_connects: false,
        id: Some(database.id.uuid()),
        ..database_facts()
    };
    let but = |change: &dyn Fn(&mut DatabaseFacts)| {
        let mut found = there.clone();
        change(&mut found);
        vec![found]
    };
    let set = |scene: &mut Scene, with_owner: bool, databases: Vec<DatabaseFacts>| {
        let role = role_of(&user);
        scene.observation.catalogue = Some(CatalogueFacts {
            lsn: Lsn(0),
            roles: if with_owner { vec![role] } else { Vec::new() },
            databases,
            ..CatalogueFacts::default()
        });
    };
    let staged = || but(&|found| (found.name, found.id) = (staging_database_name(Uuid::from_u128(51)), None));
    let table: [(Vec<DatabaseFacts>, ObjectLifecycle, &[&str], ObjectLifecycle); 8] = [
        (vec![there.clone()], New, &[], Active),
        (vec![there.clone()], Active, &[], Active),
        (vec![], New, &["create_database"], New),
        (vec![], Active, &["create_database"], New),
        (staged(), New, &["create_database"], New),
        (
            but(&|found| found.owner = "another".to_owned()),
            Active,
            &["alter_database"],
            New,
        ),
        (
            but(&|found| found.public_connects = true),
            Active,
            &["alter_database"],
            New,
        ),
        (but(&|found| found.id = None), New, &[], Error),
    ];
    for (found, before, actions, after) in table {
        database.lifecycle = before;
        let shown = format!("{found:?} {before}");
        set(&mut scene, true, found);
        let (done, _, lifecycle) = outcome(&scene, &user, &database);
        assert_eq!((done.as_slice(), lifecycle), (actions, after), "{shown}");
    }
    // Without its owner's role it is mended when that is there again.
    set(
        &mut scene,
        false,
        but(&|found| found.owner = "another".to_owned()),
    );
    database.lifecycle = New;
    assert_eq!(outcome(&scene, &user, &database).0, ["put_role"]);

    database.deleting = true;
    let mut drops = |found: Vec<DatabaseFacts>| {
        set(&mut scene, true, found);
        let plan = plan_of(&scene, &user, &database);
        let dropped = plan.actions.iter().map(|action| match action {
            Action::DropDatabase { name, registered, .. } => (name.clone(), *registered),
            other => panic!("{other:?}"),
        });
        (dropped.collect::<Vec<_>>(), plan.gone.len())
    };
    assert_eq!(drops(vec![there.clone()]), (vec![("shop".to_owned(), true)], 0));
    let staging = staging_database_name(Uuid::from_u128(51));
    assert_eq!(drops(staged()), (vec![(staging, false)], 0));
    assert_eq!(drops(vec![]), (vec![], 1));
    let foreign = but(&|found| found.id = None);
    assert_eq!(drops(foreign), (vec![], 1), "it is not ours to drop");
}

#[test]
fn what_becomes_of_users_and_databases_is_told_once_and_failures_stay_to_be_read() {
    use ObjectLifecycle::{Active, Error, New};
    let mut scene = Scene::running(1, 0);
    let owner = UserId::from_uuid(Uuid::from_u128(50));
    let mut user = user(&scene, owner);
    let mut database = database(&scene, DatabaseId::from_uuid(Uuid::from_u128(51)), owner);
    let ids = (owner.uuid(), database.id.uuid());
    let verifier_sha256 = Some(user.verifier.fingerprint());
    let set = |scene: &mut Scene, with: bool| {
        let mut catalogue = CatalogueFacts {
            lsn: Lsn(0),
            roles: Vec::new(),
            databases: Vec::new(),
            lost: Vec::new(),
        };
        if with {
            catalogue.roles.push(RoleFacts {
                name: "it".to_owned(),
                verifier_sha256: verifier_sha256.clone(),
                oid: 1,
                attributes_ok: true,
                id: Some(ids.0),
            });
            catalogue.databases.push(DatabaseFacts {
                name: "shop".to_owned(),
                owner: "it".to_owned(),
                public_connects: false,
                id: Some(ids.1),
                ..database_facts()
            });
        }
        scene.observation.catalogue = Some(catalogue);
    };
    let mut told = |scene: &Scene, before: ObjectLifecycle| {
        (user.lifecycle, database.lifecycle) = (before, before);
        (user.reason, database.reason) = ("as before".to_owned(), "as before".to_owned());
        let plan = plan_of(scene, &user, &database);
        let kinds: Vec<_> = plan
            .events
            .iter()
            .map(|e| e.kind.as_str())
            .filter(|k| *k != "instance_active")
            .collect();
        let users = plan.users.first().unwrap_or(&user).reason.clone();
        let databases = plan.databases.first().unwrap_or(&database).reason.clone();
        (kinds, users, databases)
    };
    set(&mut scene, true);
    for before in [New, Error] {
        let (kinds, user, database) = told(&scene, before);
        assert_eq!(kinds, ["user_active", "database_active"]);
        assert_eq!(
            (user.as_str(), database.as_str()),
            ("as asked for", "as asked for")
        );
    }
    assert_eq!(told(&scene, Active).0, [""; 0], "it was so before");

    set(&mut scene, false);
    let (kinds, user_is, database_is) = told(&scene, New);
    assert_eq!(kinds, [""; 0]);
    assert_eq!(
        (user_is.as_str(), database_is.as_str()),
        ("being created", "being created")
    );
    assert_eq!(told(&scene, Active).0, ["drift_found", "drift_found"]);
    let (kinds, user_is, database_is) = told(&scene, Error);
    assert_eq!(kinds, [""; 0]);
    assert_eq!(
        (user_is.as_str(), database_is.as_str()),
        ("as before", "as before"),
        "until it has succeeded"
    );

    for id in [owner.uuid(), Uuid::from_u128(51)] {
        scene
            .observation
            .object_failures
            .insert(id, "PostgreSQL refused".to_owned());
    }
    let (kinds, user_is, database_is) = told(&scene, New);
    assert_eq!(kinds, ["user_error", "database_error"]);
    assert_eq!(user_is, "PostgreSQL refused; it is tried again");
    assert_eq!(database_is, "PostgreSQL refused; it is tried again");
    assert_eq!(told(&scene, Error).0, [""; 0], "told before");
    set(&mut scene, true);
    assert_eq!(
        told(&scene, New).0,
        ["user_active", "database_active"],
        "it worked all the same"
    );
}

#[test]
fn a_plan_does_a_bounded_number_of_them() {
    let mut scene = Scene::running(1, 0);
    let id = |n: u128| UserId::from_uuid(Uuid::from_u128(n));
    let mut users: Vec<UserRecord> = (100..140)
        .map(|n| UserRecord {
            name: format!("user{n}").parse().unwrap(),
            ..user(&scene, id(n))
        })
        .collect();
    let mut databases: Vec<DatabaseRecord> = (200..240)
        .map(|n| DatabaseRecord {
            name: format!("database{n}").parse().unwrap(),
            lifecycle: ObjectLifecycle::New,
            ..database(&scene, DatabaseId::from_uuid(Uuid::from_u128(n)), id(100))
        })
        .collect();
    let count = |scene: &Scene, users: &[UserRecord], databases: &[DatabaseRecord]| {
        let plan = plan(Situation {
            instance: &scene.record,
            users,
            databases,
            observation: &scene.observation,
            policy: &scene.policy,
            fresh_ids: &[],
        });
        assert!(plan.wants_catalogue, "the rest comes later");
        let names: Vec<_> = plan.actions.iter().map(|a| a.kind().as_str()).collect();
        (names[0], names.len())
    };
    let none = CatalogueFacts {
        lsn: Lsn(0),
        roles: Vec::new(),
        databases: Vec::new(),
        lost: Vec::new(),
    };
    scene.observation.catalogue = Some(none.clone());
    assert_eq!(count(&scene, &users, &[]), ("put_role", 32));
    let roles: Vec<RoleFacts> = users.iter().map(role_of).collect();
    scene.observation.catalogue = Some(CatalogueFacts { roles, ..none });
    assert_eq!(count(&scene, &users, &databases), ("create_database", 32));
    for user in &mut users {
        user.deleting = true;
    }
    databases.clear();
    assert_eq!(count(&scene, &users, &databases), ("drop_role", 32));
}

#[test]
fn how_a_deletion_goes_is_told() {
    let mut scene = Scene::running(1, 0);
    let mut user = user(&scene, UserId::from_uuid(Uuid::from_u128(50)));
    let mut shop = database(&scene, DatabaseId::from_uuid(Uuid::from_u128(51)), user.id);
    (user.deleting, shop.deleting) = (true, true);
    scene.observation.catalogue = Some(CatalogueFacts {
        lsn: Lsn(0),
        roles: vec![role_of(&user)],
        databases: vec![DatabaseFacts {
            name: "shop".to_owned(),
            owner: "nobody".to_owned(),
            id: Some(shop.id.uuid()),
            ..database_facts()
        }],
        ..CatalogueFacts::default()
    });
    let told = |scene: &Scene, user: &mut UserRecord| {
        let plan = plan_of(scene, user, &shop);
        let names: Vec<_> = plan.actions.iter().map(|a| a.kind().as_str()).collect();
        assert_eq!(names, ["drop_role", "drop_database"]);
        if let Some(new) = plan.users.first() {
            user.clone_from(new);
        }
        let events: Vec<_> = plan.events.iter().map(|event| event.kind.as_str()).collect();
        let warnings = plan
            .record
            .map(|record| record.status.warnings)
            .unwrap_or_default();
        let warned = warnings
            .iter()
            .filter(|w| w.contains("user it cannot be dropped yet: t is in use"))
            .count();
        (user.lifecycle, user.reason.clone(), events, warned)
    };
    let (state, reason, ..) = told(&scene, &mut user);
    assert_eq!((state, reason.as_str()), (ObjectLifecycle::New, "being dropped"));

    let progress = Progress::at(Some(Progress::at(None, 27_000)), 23_000);
    scene.observation.object_progress.insert(user.id.uuid(), progress);
    let (state, reason, ..) = told(&scene, &mut user);
    assert_eq!(state, ObjectLifecycle::New);
    assert_eq!(
        reason,
        "being dropped: 4000 of 27000 of its objects and privileges are out of the way"
    );

    let held = "t is in use by session 7".to_owned();
    scene.observation.object_failures.insert(user.id.uuid(), held);
    let (state, reason, events, warned) = told(&scene, &mut user);
    assert_eq!(state, ObjectLifecycle::Error);
    assert_eq!(
        reason,
        "being dropped: t is in use by session 7; it is tried again"
    );
    assert!(events.contains(&"user_error"), "{events:?}");
    assert_eq!(warned, 1);

    // It goes on: that is told at once, though it is an error until it is over.
    scene.observation.object_failures.clear();
    let (state, reason, events, _) = told(&scene, &mut user);
    assert_eq!(
        (state, events.contains(&"user_error")),
        (ObjectLifecycle::Error, false)
    );
    assert!(reason.contains("4000 of 27000"), "{reason}");
}
