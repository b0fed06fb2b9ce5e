//! What is whose, and who inherits: by the register and the records, never by what a tenant can write.

use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::kinds::EventKind;
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::observation::{CatalogueFacts, DatabaseFacts, RoleFacts};
use dbaas_core::plan::{Action, GoneObject, Heir, Inheritance, Plan, Registered, RoleRef, Situation, plan};
use dbaas_core::user::UserRecord;
use uuid::Uuid;

use super::{database, database_facts, plan_of, role_of, user};
use crate::situation::{Scene, node};

struct World {
    scene: Scene,
    user: UserRecord,
    database: DatabaseRecord,
    catalogue: CatalogueFacts,
}

/// A user and a database that are as asked for.
fn world() -> World {
    let scene = Scene::running(1, 0);
    let owner = UserId::from_uuid(Uuid::from_u128(50));
    let user = user(&scene, owner);
    let database = database(&scene, DatabaseId::from_uuid(Uuid::from_u128(51)), owner);
    let catalogue = CatalogueFacts {
        roles: vec![role_of(&user)],
        databases: vec![DatabaseFacts {
            name: "shop".to_owned(),
            owner: "it".to_owned(),
            id: Some(database.id.uuid()),
            ..database_facts()
        }],
        ..CatalogueFacts::default()
    };
    World {
        scene,
        user,
        database,
        catalogue,
    }
}

impl World {
    fn plan(&mut self) -> Plan {
        self.scene.observation.catalogue = Some(self.catalogue.clone());
        plan_of(&self.scene, &self.user, &self.database)
    }

    /// Actions by name, the database's state and reason, and the events' kinds.
    fn outcome(&mut self) -> (Vec<&'static str>, ObjectLifecycle, String, Vec<&'static str>) {
        let plan = self.plan();
        let database = plan.databases.first().unwrap_or(&self.database);
        let kinds = plan.events.iter().map(|event| event.kind.as_str());
        (
            plan.actions.iter().map(|a| a.kind().as_str()).collect(),
            database.lifecycle,
            database.reason.clone(),
            kinds.filter(|kind| *kind != "instance_active").collect(),
        )
    }
}

#[test]
fn a_database_that_was_dropped_by_sql_is_not_made_again() {
    let mut world = world();
    world.catalogue.databases.clear();
    world.catalogue.lost.push(world.database.id.uuid());
    let (actions, lifecycle, reason, events) = world.outcome();
    assert_eq!((actions.len(), lifecycle), (0, ObjectLifecycle::Error));
    let at = world.scene.observation.at;
    assert!(
        reason.contains(&format!(
            "dropped by SQL, by its owner or an administrator, seen at {at}"
        )),
        "{reason}"
    );
    assert!(
        reason.contains("Delete this resource and create it again"),
        "{reason}"
    );
    assert_eq!(events, ["drift_found", "database_error"]);
    assert!(
        !world
            .plan()
            .events
            .iter()
            .any(|event| event.message.contains("mending"))
    );

    // The time stays the first one's.
    let earlier = dbaas_core::time::Timestamp::from_unix_ms(1);
    (world.database.lost_at, world.database.lifecycle) = (Some(earlier), ObjectLifecycle::Error);
    assert!(world.outcome().2.contains(&earlier.to_string()));
    // What an order that comes late makes of it goes.
    world.catalogue.databases = vec![DatabaseFacts {
        name: dbaas_core::command::staging_database_name(world.database.id.uuid()),
        ..database_facts()
    }];
    assert_eq!(world.outcome().0, ["drop_database"]);
    world.catalogue.databases.clear();

    // Deleted, it is forgotten first.
    world.database.deleting = true;
    assert_eq!(world.outcome().0, ["forget"]);
    world.catalogue.lost.clear();
    let plan = world.plan();
    assert_eq!(plan.gone, [GoneObject::Database(world.database.id)]);
}

#[test]
fn a_renamed_one_is_told_of_and_dropped_by_the_name_that_it_has() {
    let mut world = world();
    world.catalogue.databases[0].name = "we\"b".to_owned();
    let (actions, lifecycle, reason, _) = world.outcome();
    assert_eq!((actions.len(), lifecycle), (0, ObjectLifecycle::Error));
    assert!(
        reason.contains("ALTER DATABASE \"we\"\"b\" RENAME TO \"shop\""),
        "{reason}"
    );
    world.database.deleting = true;
    let plan = world.plan();
    let dropped = Action::DropDatabase {
        node: node(1),
        database: world.database.id,
        name: "we\"b".to_owned(),
        registered: true,
    };
    assert_eq!(plan.actions, [dropped]);

    // A role likewise.
    world.database.deleting = false;
    world.catalogue.databases[0].name = "shop".to_owned();
    world.catalogue.databases[0].owner = "that".to_owned();
    world.catalogue.roles[0].name = "that".to_owned();
    let plan = world.plan();
    assert_eq!(plan.actions, []);
    assert!(
        plan.users[0]
            .reason
            .contains("ALTER ROLE \"that\" RENAME TO \"it\"")
    );
}

#[test]
fn what_has_the_name_and_is_not_ours_is_left_alone_until_somebody_adopts_it() {
    let mut world = world();
    // A comment that somebody wrote, or a dump brought along, is not looked at: there is nothing in what was
    // seen to look at.
    world.catalogue.databases[0].id = None;
    let (actions, lifecycle, reason, _) = world.outcome();
    assert_eq!((actions.len(), lifecycle), (0, ObjectLifecycle::Error));
    assert!(reason.contains("actions/adopt"), "{reason}");

    world.database.adopting = true;
    let adopt = Action::Adopt {
        node: node(1),
        object: GoneObject::Database(world.database.id),
        name: "shop".to_owned(),
    };
    assert_eq!(world.plan().actions, [adopt]);
    world.catalogue.databases[0].id = Some(world.database.id.uuid());
    let plan = world.plan();
    assert!(!plan.databases[0].adopting);
    assert!(plan.events.iter().any(|event| event.kind == EventKind::Adopted));

    // Of another record: nobody's to give.
    world.catalogue.databases[0].id = Some(Uuid::from_u128(99));
    let plan = world.plan();
    assert_eq!(plan.actions, []);
    assert!(
        plan.events
            .iter()
            .any(|event| event.kind == EventKind::AdoptionFailed)
    );

    // Deleting the resource leaves it where it is.
    world.catalogue.databases[0].id = None;
    world.database.deleting = true;
    let plan = world.plan();
    assert_eq!(plan.actions, []);
    assert_eq!(plan.gone, [GoneObject::Database(world.database.id)]);
    assert!(
        plan.events
            .iter()
            .any(|event| event.message.contains("left alone"))
    );

    // A role likewise.
    let mut world = self::world();
    world.catalogue.databases.clear();
    world.catalogue.roles[0].id = None;
    world.database.deleting = true;
    world.user.adopting = true;
    let adopt = Action::Adopt {
        node: node(1),
        object: GoneObject::User(world.user.id),
        name: "it".to_owned(),
    };
    assert_eq!(world.plan().actions, [adopt]);
}

#[test]
fn an_instance_of_before_gets_a_register_first() {
    let mut world = world();
    world.scene.facts(1).has_register = false;
    world.user.lifecycle = ObjectLifecycle::New;
    let plan = world.plan();
    let known = [
        (GoneObject::User(world.user.id), "it"),
        (GoneObject::Database(world.database.id), "shop"),
    ];
    let made = Action::MakeRegister {
        node: node(1),
        known: known
            .map(|(id, name)| Registered {
                id,
                name: name.to_owned(),
            })
            .to_vec(),
    };
    assert_eq!(
        plan.actions,
        [made],
        "and nothing else is done by what is not known yet"
    );
    assert!(plan.wants_catalogue);
}

/// The user `gone` is dropped; its role owns something in `shop`.
fn inheritance(of: &mut World, change: impl Fn(&mut World, &mut UserRecord)) -> Plan {
    let gone_id = UserId::from_uuid(Uuid::from_u128(60));
    let mut gone = UserRecord {
        id: gone_id,
        name: "gone".parse().unwrap(),
        deleting: true,
        ..of.user.clone()
    };
    of.catalogue.roles.push(RoleFacts {
        oid: 60,
        ..role_of(&gone)
    });
    of.catalogue.databases[0].involved = vec![60];
    of.catalogue.databases[0].owners = vec![60];
    change(of, &mut gone);
    of.scene.observation.catalogue = Some(of.catalogue.clone());
    plan(Situation {
        instance: &of.scene.record,
        users: &[of.user.clone(), gone],
        databases: std::slice::from_ref(&of.database),
        observation: &of.scene.observation,
        policy: &of.scene.policy,
        fresh_ids: &[],
    })
}

/// Who inherits in which database.
fn heirs(plan: &Plan) -> Option<Vec<Inheritance>> {
    plan.actions.iter().find_map(|action| match action {
        Action::DropRole { databases, .. } => Some(databases.clone()),
        _ => None,
    })
}

#[test]
fn what_a_dropped_role_owns_goes_to_the_owner_that_the_record_asks_for_or_to_nobody() {
    let shop = |heir| Inheritance {
        database: "shop".to_owned(),
        oid: 2,
        heir,
        closed: false,
    };
    let owner = Heir::Owner(RoleRef {
        name: "it".to_owned(),
        oid: 1,
    });
    let plan = inheritance(&mut world(), |_, _| {});
    assert_eq!(heirs(&plan), Some(vec![shop(owner)]));

    // In a database that is nobody's record's, or about to go.
    let plan = inheritance(&mut world(), |world, _| world.catalogue.databases[0].id = None);
    assert_eq!(heirs(&plan), Some(vec![shop(Heir::Nobody)]));
    let plan = inheritance(&mut world(), |world, _| world.database.deleting = true);
    assert_eq!(heirs(&plan), Some(vec![shop(Heir::Nobody)]));

    // Where it has to do with nothing, nothing is done.
    let plan = inheritance(&mut world(), |world, _| {
        world.catalogue.databases[0].involved.clear()
    });
    assert_eq!(heirs(&plan), Some(vec![]));

    // The heir is not known yet: the database has another owner, the owner's role is another one, or is
    // going, too.
    type Change = fn(&mut World, &mut UserRecord);
    let waits: [Change; 4] = [
        |world, _| world.catalogue.databases[0].owner = "somebody".to_owned(),
        |world, _| world.catalogue.roles[0].id = None,
        |world, _| world.user.deleting = true,
        |world, gone| world.database.owner = gone.id,
    ];
    for (index, change) in waits.into_iter().enumerate() {
        let plan = inheritance(&mut world(), change);
        assert_eq!(heirs(&plan), None, "{index}");
        let told = plan
            .users
            .iter()
            .find(|user| user.name.as_str() == "gone")
            .unwrap();
        assert!(
            told.reason.contains("database \"shop\""),
            "{index}: {}",
            told.reason
        );
    }

    // It owns a database that a record speaks of, or spoke of: not before that has another owner or is gone.
    let plan = inheritance(&mut world(), |world, _| {
        world.catalogue.databases.push(DatabaseFacts {
            name: "old".to_owned(),
            oid: 3,
            owner: "gone".to_owned(),
            id: Some(Uuid::from_u128(77)),
            ..database_facts()
        });
    });
    assert_eq!(heirs(&plan), None);
    let told = plan
        .users
        .iter()
        .find(|user| user.name.as_str() == "gone")
        .unwrap();
    assert!(
        told.reason.contains("still owns database \"old\""),
        "{}",
        told.reason
    );
}

#[test]
fn a_new_owner_gets_what_the_former_one_had_and_only_that() {
    let mut world = world();
    let former = UserId::from_uuid(Uuid::from_u128(60));
    let role = RoleFacts {
        name: "former".to_owned(),
        oid: 60,
        id: Some(former.uuid()),
        ..role_of(&world.user)
    };
    world.database.former_owners = vec![former];
    world.database.lifecycle = ObjectLifecycle::New;
    world.catalogue.roles.push(role);
    world.catalogue.databases[0].owners = vec![1, 60];
    let other = |name: &str, owner: &str| DatabaseFacts {
        name: name.to_owned(),
        oid: 9,
        owner: owner.to_owned(),
        ..database_facts()
    };
    world.catalogue.databases.push(other("blog", "former"));
    world.catalogue.databases.push(other("wiki", "it"));
    let plan = world.plan();
    let [Action::TransferObjects { transfer, .. }] = plan.actions.as_slice() else {
        panic!("{:?}", plan.actions);
    };
    assert_eq!(
        (transfer.from.name.as_str(), transfer.to.name.as_str()),
        ("former", "it")
    );
    assert_eq!(transfer.others, ["blog"], "the former owner keeps them");
    assert_ne!(world.outcome().1, ObjectLifecycle::Active);

    world.catalogue.databases[0].owners = vec![1];
    let plan = world.plan();
    assert_eq!(plan.actions, []);
    assert_eq!(plan.databases[0].former_owners, []);
    assert!(
        plan.events
            .iter()
            .any(|event| event.kind == EventKind::DatabaseChangedHands)
    );
}

#[test]
fn who_let_public_connect_is_asked_to_take_it_back() {
    let mut world = world();
    world.catalogue.databases[0].public_connects = true;
    world.catalogue.databases[0].public_grantors = vec!["mid".to_owned()];
    let plan = world.plan();
    let [Action::AlterDatabase { grantors, .. }] = plan.actions.as_slice() else {
        panic!("{:?}", plan.actions);
    };
    assert_eq!(grantors, &["mid"]);
}
