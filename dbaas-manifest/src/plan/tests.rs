use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::check::{self, Options};
use crate::expression::Target;
use crate::model::{ElementFacts, Surroundings};
use crate::render::{Fact, below};

const DEMO: &str = include_str!("../../examples/demo.yaml");

/// A world in which steps are carried out at once.
#[derive(Default)]
struct World {
    made: BTreeMap<Key, Current>,
    ids: u128,
}

impl Facts for World {
    fn field(&self, target: &Target, path: &[String]) -> Fact {
        let key = match target {
            Target::Resource(key) => key,
            Target::Version(_) => return Fact::Known(Rendered::open(Uuid::from_u128(18).to_string())),
            Target::Variable(_) | Target::Import(_) => return Fact::Missing,
        };
        let found = self.made.get(key).and_then(|made| made.fields.get(&path[0]));
        found.map_or(Fact::Later, |found| below(found.clone(), &path[1..]))
    }

    fn uri(&self, _: &Target) -> Option<String> {
        None
    }
}

impl World {
    fn plan(&self, manifest: &Manifest, destroy: Destroy) -> Plan {
        plan(manifest, self, &self.made, destroy).unwrap_or_else(|refused| panic!("{refused:#?}"))
    }

    /// Carries out at most so many steps, as the control plane does.
    fn apply(&mut self, manifest: &Manifest, destroy: Destroy, steps: usize) {
        for step in self.plan(manifest, destroy).steps.into_iter().take(steps) {
            match step.action {
                Action::Delete => {
                    self.made.remove(&step.key);
                }
                Action::Create { .. } | Action::Update { .. } => {
                    let resource = manifest.resource(&step.key).unwrap();
                    let wanted = wanted(resource, manifest, self).unwrap();
                    self.ids += 1;
                    let id = resource.uuid.unwrap_or(Uuid::from_u128(self.ids));
                    let made = self.made.entry(step.key.clone()).or_insert_with(|| Current {
                        id,
                        fields: BTreeMap::from([("uuid".to_owned(), Rendered::open(id.to_string()))]),
                        is_protected: None,
                    });
                    for (name, wanted) in wanted {
                        let Wanted::Known(value) = wanted else {
                            panic!("{} {name}", step.key)
                        };
                        made.fields.insert(name, value);
                    }
                    match step.key.collection {
                        Collection::Passwords => {
                            let value = Rendered::secret("a generated one");
                            made.fields.entry("value".to_owned()).or_insert(value);
                        }
                        Collection::Instances => {
                            let value = Rendered::open(json!(["10.0.0.1", "10.0.0.2"]));
                            made.fields.insert("ipsv4".to_owned(), value);
                        }
                        _ => {}
                    }
                }
                Action::Nothing | Action::Retain { .. } => {}
            }
        }
    }
}

fn read(text: &str) -> Manifest {
    let element = ElementFacts {
        version: semver::Version::new(1, 0, 0),
        exports: BTreeMap::new(),
    };
    let around = Surroundings {
        versions: BTreeMap::from([("pg18".to_owned(), Uuid::from_u128(18))]),
        elements: BTreeMap::from([
            ("core".to_owned(), element.clone()),
            ("dbaas".to_owned(), element),
        ]),
        ..Surroundings::default()
    };
    check::read(text, &Options::default(), &around).unwrap_or_else(|refused| panic!("{refused:#?}"))
}

fn shown(plan: &Plan) -> String {
    let show = |step: &Step| format!("{}: {}\n", step.key, serde_json::to_string(&step.action).unwrap());
    plan.steps.iter().map(show).collect()
}

#[test]
fn the_first_plan_of_the_example() {
    let plan = World::default().plan(&read(DEMO), Destroy::Refuse);
    insta::assert_snapshot!(shown(&plan), @r#"
    $core.secret.passwords.$demo_db_password: {"action":"create","changes":[{"field":"description","from":null,"to":"Demo password","note":null},{"field":"name","from":null,"to":"demo_db_password","note":null}]}
    $dbaas.types.postgres.instances.$cluster_pg: {"action":"create","changes":[{"field":"cpu","from":null,"to":1,"note":null},{"field":"disk_size","from":null,"to":15,"note":null},{"field":"name","from":null,"to":"demo-cluster","note":null},{"field":"nodes_number","from":null,"to":1,"note":null},{"field":"project_id","from":null,"to":"12345678-c625-4fee-81d5-f691897b8142","note":null},{"field":"ram","from":null,"to":1024,"note":null},{"field":"sync_replica_number","from":null,"to":1,"note":null},{"field":"version","from":null,"to":"00000000-0000-0000-0000-000000000012","note":null}]}
    $dbaas.types.postgres.instances.$cluster_pg.users.$demo_user: {"action":"create","changes":[{"field":"instance","from":null,"to":null,"note":"known when applied: $dbaas.types.postgres.instances.$cluster_pg:uuid"},{"field":"name","from":null,"to":"demo_user","note":null},{"field":"password","from":null,"to":null,"note":"known when applied: $core.secret.passwords.$demo_db_password:value"},{"field":"project_id","from":null,"to":"12345678-c625-4fee-81d5-f691897b8142","note":null}]}
    $dbaas.types.postgres.instances.$cluster_pg.databases.$demo_db: {"action":"create","changes":[{"field":"instance","from":null,"to":null,"note":"known when applied: $dbaas.types.postgres.instances.$cluster_pg:uuid"},{"field":"name","from":null,"to":"demo_db","note":null},{"field":"owner","from":null,"to":null,"note":"known when applied: $dbaas.types.postgres.instances.$cluster_pg.users.$demo_user:uuid"},{"field":"project_id","from":null,"to":"12345678-c625-4fee-81d5-f691897b8142","note":null}]}
    $core.config.configs.$demo_db_pass_cfg: {"action":"create","changes":[{"field":"content","from":null,"to":null,"note":"known when applied: $core.secret.passwords.$demo_db_password:value"},{"field":"mode","from":null,"to":"0600","note":null},{"field":"name","from":null,"to":"demo_db_pass_cfg","note":null},{"field":"path","from":null,"to":"/etc/demo/database.env","note":null},{"field":"project_id","from":null,"to":"12345678-c625-4fee-81d5-f691897b8142","note":null}]}
    "#);
}

#[test]
fn applied_again_nothing_changes_and_a_changed_field_changes_just_that() {
    let mut world = World::default();
    world.apply(&read(DEMO), Destroy::Refuse, usize::MAX);
    assert!(world.plan(&read(DEMO), Destroy::Refuse).is_empty());
    let content = world
        .made
        .values()
        .find_map(|made| made.fields.get("content"))
        .unwrap();
    let expected = "DB_USER=demo_user\nDB_PASS=a generated one\nDB_NODES=10.0.0.1,10.0.0.2\n";
    assert_eq!(
        (content.value.as_str(), content.is_secret),
        (Some(expected), true)
    );

    let plan = world.plan(&read(&DEMO.replace("ram: 1024", "ram: 2048")), Destroy::Refuse);
    let changed: Vec<&Step> = plan
        .steps
        .iter()
        .filter(|step| step.action != Action::Nothing)
        .collect();
    let change = Change {
        field: "ram".into(),
        from: Some(json!(1024)),
        to: Some(json!(2048)),
        note: None,
    };
    assert_eq!(changed.len(), 1);
    assert_eq!(
        changed[0].action,
        Action::Update {
            changes: vec![change]
        }
    );
}

#[test]
fn another_password_is_another_one_for_whoever_has_it() {
    let mut world = World::default();
    world.apply(&read(DEMO), Destroy::Refuse, usize::MAX);
    let rotated = DEMO.replace("description: \"Demo password\"", "rotation: 1");
    let plan = world.plan(&read(&rotated), Destroy::Refuse);
    let changed: Vec<Collection> = plan
        .steps
        .iter()
        .filter(|step| step.action != Action::Nothing)
        .map(|step| step.key.collection)
        .collect();
    assert_eq!(
        changed,
        [Collection::Passwords, Collection::Users, Collection::Configs]
    );
}

#[test]
fn no_secret_is_in_a_plan() {
    let mut world = World::default();
    world.apply(&read(DEMO), Destroy::Refuse, usize::MAX);
    let other = DEMO.replace("DB_USER=", "USER=");
    let plan = world.plan(&read(&other), Destroy::Refuse);
    assert!(!plan.is_empty());
    assert!(!format!("{plan:?}{}{:?}", shown(&plan), world.made).contains("a generated one"));
}

#[test]
fn a_secret_goes_nowhere_where_everybody_sees_it() {
    let shown = read(&DEMO.replace(
        "      mode: \"0600\"\n",
        "      mode: \"0600\"\n      description: $core.secret.passwords.$demo_db_password:value\n",
    ));
    let mut world = World::default();
    world.apply(&read(DEMO), Destroy::Refuse, usize::MAX);
    let refused = plan(&shown, &world, &world.made, Destroy::Refuse).unwrap_err();
    assert!(
        refused.errors[0].message.contains("holds a secret"),
        "{refused:?}"
    );
    assert!(!format!("{refused:?}").contains("a generated one"));
}

#[test]
fn what_left_the_manifest_goes_by_the_rules() {
    let mut world = World::default();
    world.apply(&read(DEMO), Destroy::Refuse, usize::MAX);
    let empty = read("name: demo\n");
    let kinds = |plan: Plan| -> Vec<(Collection, bool)> {
        let goes = |step: Step| (step.key.collection, step.action == Action::Delete);
        plan.steps.into_iter().map(goes).collect()
    };
    // The database stays, and so do its owner and its instance.
    assert_eq!(
        kinds(world.plan(&empty, Destroy::Refuse)),
        [
            (Collection::Configs, true),
            (Collection::Databases, false),
            (Collection::Users, false),
            (Collection::Instances, false),
            (Collection::Passwords, true),
        ]
    );
    assert!(
        kinds(world.plan(&empty, Destroy::Allow))
            .iter()
            .all(|(_, goes)| *goes)
    );
    // Protection holds whatever is allowed.
    for made in world
        .made
        .values_mut()
        .filter(|made| made.fields.contains_key("ipsv4"))
    {
        made.is_protected = Some("it is protected".to_owned());
    }
    let plan = world.plan(&empty, Destroy::Allow);
    let stays = |step: &&Step| matches!(step.action, Action::Retain { .. });
    assert_eq!(plan.steps.iter().filter(stays).count(), 1);
}

#[test]
fn what_cannot_change_is_refused_before_anything_is_done() {
    let mut world = World::default();
    world.apply(&read(DEMO), Destroy::Refuse, usize::MAX);
    let other = DEMO
        .replace("      name: demo_db\n", "      name: other\n")
        .replace("6bdc9203", "6bdc9204");
    let refused = plan(&read(&other), &world, &world.made, Destroy::Refuse).unwrap_err();
    let errors: Vec<String> = refused.errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(
        errors[0].contains("which cannot change") || errors[1].contains("which cannot change"),
        "{errors:?}"
    );
    assert!(
        errors
            .iter()
            .any(|error| error.contains("the name of a database cannot change")),
        "{errors:?}"
    );
}

/// Manifests of variables that refer to those before them.
fn any_manifest() -> impl Strategy<Value = Manifest> {
    prop::collection::vec((any::<bool>(), 0usize..20, 0usize..20), 1..20).prop_map(|said| {
        let mut text = "name: x\nresources:\n  $core.vs.variables:\n".to_owned();
        for (index, (refers, to, value)) in said.iter().enumerate() {
            let value = match *refers && index > 0 {
                true => format!("'f\"{{$core.vs.variables.$v{}:value}}-{value}\"'", to % index),
                false => value.to_string(),
            };
            text += &format!("    v{index}: {{value: {value}}}\n");
        }
        read(&text)
    })
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once_also_after_a_crash(first in any_manifest(), second in any_manifest(), crash in 0usize..20) {
        let mut world = World::default();
        world.apply(&first, Destroy::Refuse, usize::MAX);
        prop_assert!(world.plan(&first, Destroy::Refuse).is_empty());
        // Another manifest of the element is applied, cut short, and applied again.
        world.apply(&second, Destroy::Refuse, crash);
        world.apply(&second, Destroy::Refuse, usize::MAX);
        prop_assert!(world.plan(&second, Destroy::Refuse).is_empty());
        let mut fresh = World::default();
        fresh.apply(&second, Destroy::Refuse, usize::MAX);
        let values = |world: &World| -> Vec<(Key, serde_json::Value)> {
            let value = |(key, made): (&Key, &Current)| (key.clone(), made.fields["value"].value.clone());
            world.made.iter().map(value).collect()
        };
        prop_assert_eq!(values(&world), values(&fresh));
    }
}
