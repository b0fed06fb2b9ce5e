//! Extensions of databases: what is asked for, against what was seen inside of the database.

use dbaas_core::cluster::Lsn;
use dbaas_core::command::change_extension;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::extension::{ExtensionName, Extensions};
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::kinds::EventKind;
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::observation::{
    CatalogueFacts, DatabaseFacts, ExtensionFacts, ExtensionPlace, Inside, InsideFacts, InstalledExtension,
};
use dbaas_core::plan::{Action, ExtensionChange, Plan, Situation, plan};
use dbaas_core::time::Timestamp;
use dbaas_core::user::UserRecord;
use proptest::prelude::*;
use uuid::Uuid;

use crate::objects::{database, database_facts, role_of, user};
use crate::situation::Scene;

struct World {
    scene: Scene,
    owner: UserRecord,
    database: DatabaseRecord,
}

fn name(text: &str) -> ExtensionName {
    text.parse().unwrap()
}

fn offered(text: &str) -> ExtensionFacts {
    ExtensionFacts {
        name: name(text),
        available: Some("1.6".to_owned()),
        trusted: true,
        place: ExtensionPlace::Any,
        needs: Vec::new(),
        installed: None,
    }
}

fn installed(text: &str, version: &str) -> ExtensionFacts {
    ExtensionFacts {
        installed: Some(InstalledExtension {
            version: version.to_owned(),
            owner: "it".to_owned(),
            schema: "public".to_owned(),
            added: Vec::new(),
            dependents: Vec::new(),
        }),
        ..offered(text)
    }
}

fn with_dependent(mut facts: ExtensionFacts) -> ExtensionFacts {
    if let Some(installed) = &mut facts.installed {
        installed.dependents.push("column v of table t".to_owned());
    }
    facts
}

impl World {
    /// `it` owns `shop`, which is to have `pg_trgm`.
    fn new() -> World {
        let mut scene = Scene::running(1, 0);
        let owner = user(&scene, UserId::from_uuid(Uuid::from_u128(50)));
        let mut database = database(&scene, DatabaseId::from_uuid(Uuid::from_u128(60)), owner.id);
        database.extensions = Extensions::of(&[name("pg_trgm")]);
        database.lifecycle = ObjectLifecycle::New;
        scene.observation.catalogue = Some(CatalogueFacts {
            lsn: Lsn(1_000),
            roles: vec![role_of(&owner)],
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
            owner,
            database,
        }
    }

    fn sees(&mut self, extensions: &[ExtensionFacts]) -> &mut Self {
        let seen = Inside::Seen(Box::new(InsideFacts {
            extensions: extensions.to_vec(),
            ..InsideFacts::default()
        }));
        self.scene.observation.inside.insert(self.database.id, seen);
        self
    }

    fn plan(&self) -> Plan {
        plan(Situation {
            instance: &self.scene.record,
            users: std::slice::from_ref(&self.owner),
            databases: std::slice::from_ref(&self.database),
            observation: &self.scene.observation,
            policy: &self.scene.policy,
            fresh_ids: &[],
        })
    }

    /// Plans, and takes over what is written.
    fn step(&mut self) -> Plan {
        let plan = self.plan();
        if let Some(written) = plan.databases.first() {
            self.database = written.clone();
        }
        plan
    }
}

fn changes(plan: &Plan) -> Vec<ExtensionChange> {
    let of = |action: &Action| match action {
        Action::ChangeExtensions { changes, .. } => Some(changes.clone()),
        _ => None,
    };
    plan.actions.iter().find_map(of).unwrap_or_default()
}

fn told(plan: &Plan) -> (ObjectLifecycle, &str) {
    let database = &plan.databases[0];
    (database.lifecycle, &database.reason)
}

#[test]
fn a_database_is_looked_into_before_anything_is_made() {
    let mut world = World::new();
    let plan = world.plan();
    assert!(plan.wants_inside.contains(&world.database.id));
    assert_eq!(plan.actions, []);
    let plan = world.sees(&[offered("pg_trgm")]).step();
    assert_eq!(changes(&plan).len(), 1);
    assert_eq!(
        told(&plan),
        (
            ObjectLifecycle::New,
            "its extensions are being changed: pg_trgm is made"
        )
    );
    let plan = world.sees(&[installed("pg_trgm", "1.6")]).step();
    assert_eq!((changes(&plan), told(&plan).0), (vec![], ObjectLifecycle::Active));
    let seen = &plan.databases[0].extensions.seen[0];
    assert_eq!(
        (seen.installed.as_deref(), seen.available.as_deref()),
        (Some("1.6"), Some("1.6"))
    );
    world.scene.observation.inside.clear();
    let plan = world.step();
    assert!(plan.wants_inside.is_empty() && plan.actions.is_empty() && plan.databases.is_empty());
}

#[test]
fn what_is_not_safe_is_not_made_and_the_reason_says_why() {
    let mut untrusted = offered("pg_trgm");
    untrusted.trusted = false;
    let mut absent = offered("pg_trgm");
    absent.available = None;
    let mut fixed = offered("pg_trgm");
    fixed.place = ExtensionPlace::Fixed;
    let mut needy = offered("pg_trgm");
    needy.needs.push("hstore".to_owned());
    for (facts, why) in [
        (untrusted, "takes a superuser"),
        (absent, "has not got it"),
        (fixed, "cannot be moved"),
        (needy, "needs hstore"),
    ] {
        let mut world = World::new();
        let plan = world.sees(&[facts]).step();
        assert_eq!(changes(&plan), []);
        let (lifecycle, reason) = told(&plan);
        assert_eq!(lifecycle, ObjectLifecycle::Error);
        assert!(reason.contains(why), "{reason}");
        // It stands until the next look, which comes in its time.
        world.scene.observation.inside.clear();
        let plan = world.step();
        assert!(plan.wants_inside.is_empty() && plan.databases.is_empty());
    }
}

#[test]
fn what_is_left_out_is_dropped_unless_something_depends_on_it() {
    let mut world = World::new();
    world.database.extensions.set(&[]);
    let plan = world.sees(&[with_dependent(installed("pg_trgm", "1.6"))]).step();
    assert_eq!(changes(&plan), []);
    let (lifecycle, reason) = told(&plan);
    assert_eq!(lifecycle, ObjectLifecycle::Error);
    assert!(reason.contains("column v of table t depends on it"), "{reason}");
    let plan = world.sees(&[installed("pg_trgm", "1.6")]).step();
    assert!(matches!(changes(&plan)[..], [ExtensionChange::Drop { .. }]));
    let plan = world.sees(&[offered("pg_trgm")]).step();
    assert_eq!(told(&plan).0, ObjectLifecycle::Active);
    assert!(world.database.extensions.is_empty() && world.database.extensions.seen.is_empty());
}

#[test]
fn an_update_is_asked_for_and_then_over() {
    let mut world = World::new();
    world.sees(&[installed("pg_trgm", "1.3")]).step();
    assert_eq!(world.database.lifecycle, ObjectLifecycle::Active);
    assert_eq!(changes(&world.plan()), [], "nobody asked for it");
    assert!(
        world
            .database
            .extensions
            .request_update(Timestamp::from_unix_ms(1))
    );
    let plan = world.step();
    assert!(matches!(changes(&plan)[..], [ExtensionChange::Update { .. }]));
    let plan = world.sees(&[installed("pg_trgm", "1.6")]).step();
    assert_eq!(world.database.extensions.update_requested_at, None);
    assert_eq!(world.database.lifecycle, ObjectLifecycle::Active);
    assert!(
        plan.events
            .iter()
            .any(|event| event.kind == EventKind::ExtensionsUpdated && event.message.contains("pg_trgm 1.6"))
    );
}

#[test]
fn what_a_tenant_has_added_is_not_updated_and_not_dropped() {
    let mut facts = installed("pg_trgm", "1.3");
    if let Some(installed) = &mut facts.installed {
        installed.added.push("table precious".to_owned());
    }
    let mut world = World::new();
    world
        .database
        .extensions
        .request_update(Timestamp::from_unix_ms(1));
    let plan = world.sees(std::slice::from_ref(&facts)).step();
    assert_eq!(changes(&plan), []);
    assert!(
        plan.events
            .iter()
            .any(|event| event.message.contains("table precious was added"))
    );
    assert_eq!(world.database.lifecycle, ObjectLifecycle::Active);
    world.database.extensions.set(&[]);
    let plan = world.sees(&[facts]).step();
    assert_eq!((changes(&plan), told(&plan).0), (vec![], ObjectLifecycle::Error));
}

#[test]
fn drift_is_told_of_and_made_again() {
    let mut world = World::new();
    world.sees(&[installed("pg_trgm", "1.6")]).step();
    let plan = world.sees(&[offered("pg_trgm")]).step();
    assert_eq!(changes(&plan).len(), 1);
    assert!(
        plan.events
            .iter()
            .any(|event| event.kind == EventKind::ExtensionDrift)
    );
    assert_eq!(world.database.lifecycle, ObjectLifecycle::Active);
}

/// A script runs in a schema that nobody else has seen, and in the name of the tenant.
#[test]
fn scripts_run_where_nobody_else_can_have_been() {
    let owner = dbaas_core::plan::RoleRef {
        name: "it".to_owned(),
        oid: 7,
    };
    let of = |change: &ExtensionChange| -> Vec<String> {
        let script = change_extension(9, change);
        assert_eq!(script.lock_timeout_ms, Some(100));
        let steps = script.steps.iter();
        steps.map(|step| step.statement.text().to_owned()).collect()
    };
    let create = ExtensionChange::Create {
        name: name("pg_trgm"),
        owner,
        place: ExtensionPlace::Any,
    };
    assert_eq!(
        of(&create)[2..],
        [
            "CREATE SCHEMA \"dbaas_extension\"",
            "SET LOCAL ROLE \"it\"",
            "CREATE EXTENSION \"pg_trgm\" SCHEMA \"dbaas_extension\"",
            "SET LOCAL ROLE NONE",
            "ALTER EXTENSION \"pg_trgm\" SET SCHEMA \"public\"",
            "DROP SCHEMA \"dbaas_extension\" RESTRICT",
        ]
    );
    let update = ExtensionChange::Update {
        name: name("pg_trgm"),
        owner: "it".to_owned(),
        schema: "theirs".to_owned(),
    };
    let texts = of(&update);
    assert_eq!(
        texts[2],
        "ALTER EXTENSION \"pg_trgm\" SET SCHEMA \"dbaas_extension\""
    );
    assert!(texts[3].starts_with("SELECT NOT EXISTS"));
    assert_eq!(
        texts[4..7],
        [
            "SET LOCAL ROLE \"it\"",
            "ALTER EXTENSION \"pg_trgm\" UPDATE",
            "SET LOCAL ROLE NONE"
        ]
    );
    assert_eq!(texts[7], "ALTER EXTENSION \"pg_trgm\" SET SCHEMA \"theirs\"");
    let drop = ExtensionChange::Drop {
        name: name("pg_trgm"),
        owner: "it".to_owned(),
    };
    assert!(of(&drop).iter().all(|text| !text.contains("CASCADE")));
}

fn any_facts(text: &'static str) -> impl Strategy<Value = ExtensionFacts> {
    let place = prop_oneof![
        4 => Just(ExtensionPlace::Any),
        1 => Just(ExtensionPlace::Catalog),
        1 => Just(ExtensionPlace::Fixed)
    ];
    let version = prop_oneof![
        Just(None),
        Just(Some("1.3".to_owned())),
        Just(Some("1.6".to_owned()))
    ];
    let rare = || proptest::bool::weighted(0.2);
    (version.clone(), version, place, rare(), rare(), rare(), rare()).prop_map(
        move |(available, there, place, untrusted, needs, added, depended)| ExtensionFacts {
            name: name(text),
            available,
            trusted: !untrusted,
            place,
            needs: needs.then(|| "other".to_owned()).into_iter().collect(),
            installed: there.map(|version| InstalledExtension {
                version,
                owner: "it".to_owned(),
                schema: "public".to_owned(),
                added: added.then(|| "table t".to_owned()).into_iter().collect(),
                dependents: depended.then(|| "view v".to_owned()).into_iter().collect(),
            }),
        },
    )
}

/// What a server makes of changes.
fn carried_out(facts: &mut [ExtensionFacts], changes: &[ExtensionChange]) {
    for change in changes {
        let of_it = facts
            .iter_mut()
            .find(|facts| facts.name == *change.name())
            .unwrap();
        of_it.installed = match (change, of_it.installed.take()) {
            (ExtensionChange::Drop { .. }, _) => None,
            (_, there) => Some(InstalledExtension {
                version: of_it.available.clone().unwrap(),
                owner: "it".to_owned(),
                schema: "public".to_owned(),
                added: there.map(|there| there.added).unwrap_or_default(),
                dependents: Vec::new(),
            }),
        };
    }
}

proptest! {
    /// Whatever there is: nothing unsafe is done, nothing that is in use is dropped, and after one round
    /// nothing is left to do.
    #[test]
    fn every_situation_converges_and_nothing_unsafe_is_done(
        mut facts in (any_facts("a"), any_facts("b"), any_facts("c")).prop_map(|(a, b, c)| vec![a, b, c]),
        wanted in proptest::collection::vec(any::<bool>(), 3),
        removed in proptest::collection::vec(any::<bool>(), 3),
        updates in any::<bool>(),
    ) {
        let mut world = World::new();
        let pick = |chosen: &[bool], but: &[bool]| -> Vec<ExtensionName> {
            let names = ["a", "b", "c"].map(name);
            let chosen = names.into_iter().zip(chosen.iter().zip(but));
            chosen.filter(|(_, (is, not))| **is && !**not).map(|(name, _)| name).collect()
        };
        world.database.extensions = Extensions {
            removed: pick(&removed, &wanted),
            ..Extensions::of(&pick(&wanted, &[false; 3]))
        };
        if updates {
            world.database.extensions.request_update(Timestamp::from_unix_ms(1));
        }
        let asked = world.database.extensions.clone();
        let first = world.sees(&facts).step();
        for change in changes(&first) {
            let of_it = facts.iter().find(|facts| facts.name == *change.name()).unwrap();
            let there = of_it.installed.as_ref();
            match change {
                ExtensionChange::Drop { name, .. } => {
                    prop_assert!(asked.removed.contains(&name));
                    prop_assert!(there.is_some_and(|there| there.added.is_empty() && there.dependents.is_empty()));
                }
                ExtensionChange::Create { name, .. } => {
                    prop_assert!(asked.names.contains(&name) && there.is_none());
                    prop_assert!(of_it.trusted && of_it.place != ExtensionPlace::Fixed && of_it.needs.is_empty());
                }
                ExtensionChange::Update { .. } => {
                    prop_assert!(updates && of_it.trusted && of_it.place != ExtensionPlace::Fixed);
                    prop_assert!(there.is_some_and(|there| there.added.is_empty()));
                }
            }
        }
        carried_out(&mut facts, &changes(&first));
        let second = world.sees(&facts).step();
        prop_assert_eq!(changes(&second), vec![]);
        let third = world.step();
        prop_assert!(third.databases.is_empty(), "{:?}", third.databases);
        prop_assert_eq!(world.database.extensions.update_requested_at, None);
        let well = world.database.extensions.problems().is_empty();
        let state = if well { ObjectLifecycle::Active } else { ObjectLifecycle::Error };
        prop_assert_eq!(world.database.lifecycle, state);
    }
}
