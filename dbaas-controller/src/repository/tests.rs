mod form;
mod split;

use std::sync::Arc;
use std::time::Duration;

use dbaas_core::condition::Conditions;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, InstanceId, ProjectId, UserId, VersionId};
use dbaas_core::infrastructure::Resources;
use dbaas_core::instance::{InstanceRecord, InstanceSpec};
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::name::{DatabaseName, Description, InstanceName, UserName};
use dbaas_core::password::Password;
use dbaas_core::scram::{Iterations, ScramVerifier};
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb};
use dbaas_core::store::{DocumentKey, Store, StoreErrorKind};
use dbaas_core::time::Timestamp;
use dbaas_core::user::UserRecord;
use dbaas_core::version::VersionRecord;
use dbaas_testkit::memory_store::{Fault, MemoryStore};
use uuid::Uuid;

use super::record::{child_name, instance_name};
use super::*;

const NOW: i64 = 1_750_000_000_000;

fn now() -> Timestamp {
    Timestamp::from_unix_ms(NOW)
}

fn version() -> VersionRecord {
    let id = VersionId::from_uuid(Uuid::now_v7());
    VersionRecord::of_release(id, "15.18".parse().unwrap(), now())
}

fn instance(version: &VersionRecord, name: &str) -> InstanceRecord {
    let resources = Resources {
        cpu: CpuCores::MIN,
        ram: RamMb::MIN,
        disk: DiskGb::MIN,
    };
    let name = InstanceName::new(name).unwrap();
    let spec = InstanceSpec::new(name, resources, version.id, version.image.clone());
    InstanceRecord::new(InstanceId::from_uuid(Uuid::now_v7()), spec, String::new(), now())
}

fn user(instance: InstanceId, name: &str) -> UserRecord {
    UserRecord {
        id: UserId::from_uuid(Uuid::now_v7()),
        instance,
        name: UserName::new(name).unwrap(),
        description: Description::default(),
        password_version: Default::default(),
        verifier: ScramVerifier::derive(
            &Password::new("correct horse").unwrap(),
            [1; 16],
            Iterations::default(),
        ),
        repair: Default::default(),
        deleting: false,
        adopting: false,
        created_at: now(),
        updated_at: now(),
        lifecycle: ObjectLifecycle::New,
        reason: "waits".to_owned(),
        conditions: Conditions::accepted("waits", now()),
    }
}

fn database(owner: &UserRecord, name: &str) -> DatabaseRecord {
    DatabaseRecord {
        id: DatabaseId::from_uuid(Uuid::now_v7()),
        instance: owner.instance,
        name: DatabaseName::new(name).unwrap(),
        description: Description::default(),
        owner: owner.id,
        former_owners: Vec::new(),
        access: Default::default(),
        extensions: Default::default(),
        repair: Default::default(),
        deletion_protection: false,
        deleting: false,
        adopting: false,
        lost_at: None,
        created_at: now(),
        updated_at: now(),
        lifecycle: ObjectLifecycle::New,
        reason: "waits".to_owned(),
        conditions: Conditions::accepted("waits", now()),
    }
}

fn repository() -> (Arc<MemoryStore>, Repository) {
    let store = Arc::new(MemoryStore::new());
    (store.clone(), Repository::new(store, Duration::from_secs(10)))
}

#[tokio::test]
async fn records_round_trip_and_are_found_by_name_and_parent() {
    let (_, repository) = repository();
    let version = version();
    let instance = instance(&version, "orders");
    let user = user(instance.id, "app");
    let database = database(&user, "shop");
    let change = Change::new()
        .create(&version)
        .create(&instance)
        .create(&user)
        .create(&database);
    assert_eq!(repository.commit(change).await.unwrap().len(), 4);

    assert_eq!(
        repository.load_version(version.id).await.unwrap().unwrap().record,
        version
    );
    assert_eq!(
        repository
            .load_instance(instance.id)
            .await
            .unwrap()
            .unwrap()
            .record,
        instance
    );
    assert_eq!(repository.load_user(user.id).await.unwrap().unwrap().record, user);
    assert_eq!(
        repository
            .load::<DatabaseRecord>(database.id.uuid())
            .await
            .unwrap()
            .unwrap()
            .record,
        database
    );
    assert_eq!(repository.list_instance_ids().await.unwrap(), [instance.id]);
    assert_eq!(repository.load_users(instance.id).await.unwrap()[0].record, user);
    assert_eq!(
        repository.load_databases(instance.id).await.unwrap()[0].record,
        database
    );
    let other = InstanceId::from_uuid(Uuid::now_v7());
    assert!(repository.load_users(other).await.unwrap().is_empty());

    let name = instance_name(ProjectId::DEFAULT, "orders");
    assert_eq!(
        repository
            .find::<InstanceRecord>(&name)
            .await
            .unwrap()
            .unwrap()
            .record
            .id,
        instance.id
    );
    let name = child_name(instance.id, "app");
    assert_eq!(
        repository
            .find::<UserRecord>(&name)
            .await
            .unwrap()
            .unwrap()
            .record
            .id,
        user.id
    );
    assert!(
        repository
            .find::<UserRecord>(&child_name(other, "app"))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn more_than_one_page_is_read_whole() {
    let (_, repository) = repository();
    let instance = instance(&version(), "orders");
    let mut user = user(instance.id, "u");
    let mut change = Change::new();
    for n in 0..(2 * PAGE + 1) {
        user.id = UserId::from_uuid(Uuid::now_v7());
        user.name = UserName::new(format!("u{n}")).unwrap();
        change = change.create(&user);
    }
    repository.commit(change).await.unwrap();
    assert_eq!(
        repository.load_users(instance.id).await.unwrap().len(),
        2 * PAGE + 1
    );
}

#[tokio::test]
async fn what_is_referred_to_cannot_be_removed() {
    let (_, repository) = repository();
    let version = version();
    let instance = instance(&version, "orders");
    let owner = user(instance.id, "app");
    let change = Change::new().create(&version).create(&instance).create(&owner);
    repository.commit(change).await.unwrap();
    let database = database(&owner, "shop");
    repository.commit(Change::new().create(&database)).await.unwrap();

    for id in [owner.id.uuid(), version.id.uuid(), instance.id.uuid()] {
        let error = repository
            .commit(Change::new().require_unreferenced(id))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Referenced);
    }
    let instance = repository.load_instance(instance.id).await.unwrap().unwrap();
    let databases = repository.load_databases(instance.record.id).await.unwrap();
    let users = repository.load_users(instance.record.id).await.unwrap();

    let late = user(instance.record.id, "late");
    repository.commit(Change::new().create(&late)).await.unwrap();
    let change = Change::new().remove_instance(&instance, &databases, &users);
    let error = repository.commit(change).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.referrers),
        (StoreErrorKind::Referenced, vec![late.id.uuid()])
    );

    let users = repository.load_users(instance.record.id).await.unwrap();
    repository
        .commit(Change::new().remove_instance(&instance, &databases, &users))
        .await
        .unwrap();
    assert!(
        repository
            .load_instance(instance.record.id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        repository
            .load_users(instance.record.id)
            .await
            .unwrap()
            .is_empty()
    );
    repository
        .commit(Change::new().require_unreferenced(version.id.uuid()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lost_lease_writes_nothing() {
    let (store, repository) = repository();
    let old = store
        .acquire_lease("controller", "a", now(), 1_000)
        .await
        .unwrap()
        .unwrap();
    let new = store
        .acquire_lease("controller", "b", now().plus_ms(1_000), 1_000)
        .await
        .unwrap()
        .unwrap();
    let version = version();
    let error = repository
        .commit(Change::under(&old.token).create(&version))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::LeaseLost);
    repository
        .commit(Change::under(&new.token).create(&version))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_damaged_record_is_said_and_its_content_is_not() {
    let (store, repository) = repository();
    let version = version();
    let change = Change::new().create(&version);
    let mut batch = change.into_batch().unwrap();
    if let dbaas_core::store::Op::Put(document, _) = &mut batch.ops[0] {
        document.body["image"] = serde_json::json!("SECRET value");
    }
    store.commit(batch).await.unwrap();
    let error = repository.load_version(version.id).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unusable);
    assert!(error.message.contains(&version.id.to_string()), "{error}");
    assert!(!error.message.contains("SECRET"), "{error}");
}

#[tokio::test]
async fn a_store_that_answers_nothing_is_given_up() {
    struct Stuck(MemoryStore);
    // Only `get` and `commit` hang; what a hook cannot do.
    #[async_trait::async_trait]
    impl Store for Stuck {
        async fn get(&self, _: DocumentKey) -> Result<Option<dbaas_core::store::StoredDocument>, StoreError> {
            std::future::pending().await
        }
        async fn find(
            &self,
            kind: dbaas_core::store::Kind,
            unique: &str,
        ) -> Result<Option<dbaas_core::store::StoredDocument>, StoreError> {
            self.0.find(kind, unique).await
        }
        async fn list(&self, query: ListQuery) -> Result<Vec<dbaas_core::store::StoredDocument>, StoreError> {
            self.0.list(query).await
        }
        async fn commit(&self, _: dbaas_core::store::Batch) -> Result<Vec<DocumentVersion>, StoreError> {
            std::future::pending().await
        }
        async fn events(&self, s: Option<Uuid>, a: u64, l: usize) -> Result<Vec<StoredEvent>, StoreError> {
            self.0.events(s, a, l).await
        }
        async fn acquire_lease(
            &self,
            name: &str,
            holder: &str,
            now: Timestamp,
            ttl_ms: u64,
        ) -> Result<Result<dbaas_core::store::Lease, dbaas_core::store::Lease>, StoreError> {
            self.0.acquire_lease(name, holder, now, ttl_ms).await
        }
        async fn release_lease(&self, token: &dbaas_core::store::LeaseToken) -> Result<(), StoreError> {
            self.0.release_lease(token).await
        }
        async fn expire(&self, now: Timestamp, keep_events: usize) -> Result<usize, StoreError> {
            self.0.expire(now, keep_events).await
        }
    }
    let repository = Repository::new(Arc::new(Stuck(MemoryStore::new())), Duration::from_millis(20));
    let error = repository.load_version(version().id).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let error = repository
        .commit(Change::new().create(&version()))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_not_taken_for_a_failure() {
    let (store, repository) = repository();
    store.set_fault(Some(Arc::new(|call| {
        if call.is_write() {
            Fault::AnswerLost
        } else {
            Fault::None
        }
    })));
    let version = version();
    let error = repository
        .commit(Change::new().create(&version))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::OutcomeUnknown);
    assert!(repository.load_version(version.id).await.unwrap().is_some());
}

#[test]
fn the_ids_of_keys_differ_by_scope_and_do_not_run_together() {
    assert_eq!(
        IdempotencyRecord::id_of("a", "b"),
        IdempotencyRecord::id_of("a", "b")
    );
    assert_ne!(
        IdempotencyRecord::id_of("a", "bc"),
        IdempotencyRecord::id_of("ab", "c")
    );
    assert_ne!(IdempotencyRecord::id_of("a", "b"), RemovedVersion::id_of("a"));
}
