//! Databases: what is left over of a creation.

use dbaas_core::cluster::Lsn;
use dbaas_core::command::{object_mark, staging_database_name};
use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::observation::{CatalogueFacts, DatabaseFacts, RoleFacts};
use dbaas_core::password::Password;
use dbaas_core::plan::{Action, Situation, plan};
use dbaas_core::scram::{Iterations, ScramVerifier};
use dbaas_core::user::UserRecord;
use uuid::Uuid;

use crate::situation::{Scene, node};

#[test]
fn a_database_that_was_begun_once_more_is_dropped_and_its_first_self_is_not() {
    let mut scene = Scene::running(1, 0);
    let (owner, id) = (
        UserId::from_uuid(Uuid::from_u128(50)),
        DatabaseId::from_uuid(Uuid::from_u128(51)),
    );
    let password = Password::new("12345678").unwrap();
    let at = scene.observation.at;
    let user = UserRecord {
        id: owner,
        instance: scene.record.id,
        name: "it".parse().unwrap(),
        description: Default::default(),
        verifier: ScramVerifier::derive(&password, [1; 16], Iterations::default()),
        deleting: false,
        created_at: at,
        updated_at: at,
        lifecycle: ObjectLifecycle::Active,
        reason: "as asked for".to_owned(),
    };
    let database = DatabaseRecord {
        id,
        instance: scene.record.id,
        name: "shop".parse().unwrap(),
        description: Default::default(),
        owner,
        deleting: false,
        created_at: at,
        updated_at: at,
        lifecycle: ObjectLifecycle::Active,
        reason: "as asked for".to_owned(),
    };
    let staging = staging_database_name(id.uuid());
    let found = |name: &str, mark: Option<String>| DatabaseFacts {
        name: name.to_owned(),
        owner: "it".to_owned(),
        public_connects: false,
        mark,
    };
    scene.observation.catalogue = Some(CatalogueFacts {
        lsn: Lsn(1_000),
        roles: vec![RoleFacts {
            name: "it".to_owned(),
            verifier_sha256: Some(user.verifier.fingerprint()),
            attributes_ok: true,
            mark: Some(object_mark(owner.uuid())),
        }],
        databases: vec![found("shop", Some(object_mark(id.uuid()))), found(&staging, None)],
    });
    let plan = plan(Situation {
        instance: &scene.record,
        users: std::slice::from_ref(&user),
        databases: std::slice::from_ref(&database),
        observation: &scene.observation,
        policy: &scene.policy,
        fresh_ids: &[],
    });
    let dropped = Action::DropDatabase {
        node: node(1),
        database: id,
        name: staging,
        marked: false,
    };
    assert_eq!(plan.actions, [dropped]);
    assert!(plan.databases.is_empty(), "it is as asked for");
    assert!(plan.wants_catalogue);
}
