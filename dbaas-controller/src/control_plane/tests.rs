//! Tests of the façade over a store in memory, with an infrastructure that only knows versions.

mod chosen_id;
mod concurrency;
mod elements;
mod idempotency;
mod instances;
mod objects;
mod versions;
mod wait;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dbaas_core::cluster::{ClusterState, Electorate};
use dbaas_core::config::HbaRules;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::id::{DatabaseId, NodeId, ProjectId, UserId, VersionId};
use dbaas_core::infrastructure::{AvailableVersion, InfraError, InfraErrorKind, MockInfrastructure};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::name::{DatabaseName, Description, InstanceName, UserName};
use dbaas_core::node::{NodeRecord, NodeRole, Rejoin};
use dbaas_core::password::Password;
use dbaas_core::secret::{SecretSealer, UnsealError};
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use dbaas_core::sql_executor::{MockSqlExecutor, SqlError, SqlErrorKind};
use dbaas_core::store::{DocumentKey, DocumentVersion, Store, StoreError};
use dbaas_core::time::Timestamp;
use dbaas_core::user::UserRecord;
use dbaas_testkit::memory_store::{Fault, MemoryStore, StoreCall};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::clock::Clock;
use crate::error::FieldError;
use crate::repository::{Change, Repository};
use crate::request::{CreateDatabase, CreateInstance, CreateUser, CreateVersion, IdempotencyKey, Page};

/// Ties a text to its context and hides nothing.
pub(crate) struct TestSealer;

impl SecretSealer for TestSealer {
    fn seal(&self, context: &[u8], plaintext: &[u8]) -> String {
        format!("{}.{}", STANDARD.encode(context), STANDARD.encode(plaintext))
    }

    fn open(&self, context: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (sealed_for, text) = sealed.split_once('.').ok_or(UnsealError)?;
        if sealed_for != STANDARD.encode(context) {
            return Err(UnsealError);
        }
        STANDARD.decode(text).map(Zeroizing::new).map_err(|_| UnsealError)
    }
}

struct TestClock(AtomicI64);

impl TestClock {
    fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        // Each look is a millisecond later, so that times of change differ.
        Timestamp::from_unix_ms(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// Knows versions; runs nothing.
/// What an infrastructure knows that only knows versions.
#[derive(Default)]
struct Catalogue {
    versions: Mutex<Vec<&'static str>>,
    broken: AtomicBool,
}

impl Catalogue {
    fn available(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(InfraError::new(InfraErrorKind::Unavailable, "not now"));
        }
        let available = |text: &&str| AvailableVersion {
            version: text.parse().unwrap(),
            image: format!("postgres:{text}").parse().unwrap(),
            source: "test".to_owned(),
        };
        Ok(self.versions.lock().iter().map(available).collect())
    }
}

/// An infrastructure of which nothing but this is asked.
fn infrastructure(catalogue: &Arc<Catalogue>) -> MockInfrastructure {
    let catalogue = Arc::clone(catalogue);
    let mut mock = MockInfrastructure::new();
    mock.expect_name().return_const("versions-only".to_owned());
    mock.expect_capabilities().return_const(Capabilities::NONE);
    mock.expect_hba_rules().returning(HbaRules::loopback);
    mock.expect_events()
        .returning(|| Box::pin(futures_util::stream::pending()));
    mock.expect_versions().returning(move || catalogue.available());
    mock
}

fn nothing_listens() -> MockSqlExecutor {
    let mut mock = MockSqlExecutor::new();
    mock.expect_run()
        .returning(|_, _| Err(SqlError::new(SqlErrorKind::Refused, "nothing listens")));
    mock.expect_forget().return_const(());
    mock
}

/// A control plane whose engine is the test.
struct World {
    store: Arc<MemoryStore>,
    infrastructure: Arc<Catalogue>,
    clock: Arc<TestClock>,
    control: ControlPlane,
    /// 15.17, 15.18, 16.3.
    versions: Vec<VersionId>,
}

impl World {
    async fn new() -> World {
        let store = Arc::new(MemoryStore::new());
        let infrastructure = Arc::new(Catalogue::default());
        *infrastructure.versions.lock() = vec!["16.3", "15.18", "15.17"];
        let clock = Arc::new(TestClock(AtomicI64::new(1_750_000_000_000)));
        // Another controller acts, forever: the engine of this one leaves the records to the test.
        let lease = store
            .acquire_lease("controller", "the test", clock.now(), u64::MAX)
            .await;
        lease.unwrap().unwrap();
        let control = start(&store, &infrastructure, &clock).await;
        let page = control
            .versions(Page {
                after: None,
                limit: 100,
            })
            .await
            .unwrap();
        let versions = page.items.iter().map(|version| version.id).collect();
        World {
            store,
            infrastructure,
            clock,
            control,
            versions,
        }
    }

    /// Another control plane on the same store.
    async fn restarted(&self) -> ControlPlane {
        start(&self.store, &self.infrastructure, &self.clock).await
    }

    fn repository(&self) -> &Repository {
        &self.control.inner.ports.repository
    }

    fn request(&self, name: &str) -> CreateInstance {
        CreateInstance {
            cpu: CpuCores::new(2).unwrap(),
            ram: RamMb::new(1024).unwrap(),
            disk: DiskGb::new(16).unwrap(),
            nodes: NodeCount::new(3).unwrap(),
            sync_replicas: SyncReplicas::new(1).unwrap(),
            ..CreateInstance::new(InstanceName::new(name).unwrap(), self.versions[0])
        }
    }

    async fn instance(&self, name: &str) -> InstanceId {
        self.control.create_instance(self.request(name)).await.unwrap().id
    }

    async fn user(&self, instance: InstanceId, name: &str) -> UserId {
        self.control
            .create_user(instance, create_user(name))
            .await
            .unwrap()
            .id
    }

    async fn database(&self, instance: InstanceId, name: &str, owner: UserId) -> DatabaseId {
        let request = create_database(name, owner);
        self.control.create_database(instance, request).await.unwrap().id
    }

    /// The instance as the store has it.
    async fn instance_record(&self, id: InstanceId) -> Versioned<InstanceRecord> {
        self.repository().load_instance(id).await.unwrap().unwrap()
    }

    /// The user as the store has it.
    async fn user_record(&self, id: UserId) -> Versioned<UserRecord> {
        self.repository().load_user(id).await.unwrap().unwrap()
    }

    /// The database as the store has it.
    async fn database_record(&self, id: DatabaseId) -> Versioned<DatabaseRecord> {
        self.repository().load(id.uuid()).await.unwrap().unwrap()
    }

    /// Writes to the instance's record as the engine does: the generation stays.
    async fn engine_writes(&self, id: InstanceId, write: impl Fn(&mut InstanceRecord)) {
        for _ in 0..1_000 {
            let read = self.repository().load_instance(id).await.unwrap().unwrap();
            let mut record = read.record.clone();
            write(&mut record);
            let (change, _) = Change::new().observe(record, &read);
            if self.repository().commit(change).await.is_ok() {
                self.control.inner.ports.hint(id);
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the engine never got a write through");
    }

    /// As the engine does when all is as asked for.
    async fn converge(&self, id: InstanceId) {
        self.engine_writes(id, |record| {
            record.status.observed_generation = record.generation;
            record.status.lifecycle = Lifecycle::Active;
            record.status.phase = dbaas_core::instance::InstancePhase::Running;
            record.status.reason = "as asked for".to_owned();
            if record.nodes.is_empty() {
                for number in 1..=record.spec.nodes.get() {
                    record.nodes.push(node(number));
                }
                let voters: Vec<NodeId> = record.nodes.iter().skip(1).map(|node| node.id).collect();
                record.cluster = Some(ClusterState::initial(
                    record.nodes[0].id,
                    Electorate::new(voters, 1),
                ));
                record.status.primary_endpoint = record.nodes[0].endpoint.clone();
            }
        })
        .await;
    }

    /// As the engine does when an instance's nodes are gone.
    async fn engine_removes(&self, id: InstanceId) {
        let repository = self.repository();
        let instance = repository.load_instance(id).await.unwrap().unwrap();
        let databases = repository.load_databases(id).await.unwrap();
        let users = repository.load_users(id).await.unwrap();
        let change = Change::new().remove_instance(&instance, &databases, &users);
        repository.commit(change).await.unwrap();
        self.control.inner.ports.hint(id);
    }

    /// Writes a record as the engine does.
    async fn engine_sees<R: Record>(&self, read: &Versioned<R>, record: R) {
        let (change, _) = Change::new().observe(record, read);
        self.repository().commit(change).await.unwrap();
    }

    /// Runs `interfere` once, right before the next commit reaches the store.
    fn before_next_commit(&self, interfere: impl Fn(&MemoryStore) + Send + Sync + 'static) {
        self.before_next(|call| matches!(call, StoreCall::Commit(_)), interfere);
    }

    /// Runs `interfere` once, right before the next call of its kind reaches the store.
    fn before_next(
        &self,
        is_it: impl Fn(&StoreCall<'_>) -> bool + Send + Sync + 'static,
        interfere: impl Fn(&MemoryStore) + Send + Sync + 'static,
    ) {
        let done = AtomicBool::new(false);
        let store = Arc::downgrade(&self.store);
        self.store.set_fault(Some(Arc::new(move |call: &StoreCall<'_>| {
            if is_it(call)
                && !done.swap(true, Ordering::SeqCst)
                && let Some(store) = store.upgrade()
            {
                interfere(&store);
            }
            Fault::None
        })));
    }

    /// From now on, whatever writes fails.
    fn forbid_commits(&self) {
        self.store.set_fault(Some(Arc::new(|call: &StoreCall<'_>| {
            if call.is_write() {
                Fault::Fail(dbaas_core::store::StoreErrorKind::Unusable)
            } else {
                Fault::None
            }
        })));
    }
}

async fn start(store: &Arc<MemoryStore>, catalogue: &Arc<Catalogue>, clock: &Arc<TestClock>) -> ControlPlane {
    ControlPlane::builder()
        .infrastructure(Arc::new(infrastructure(catalogue)))
        .sql(Arc::new(nothing_listens()))
        .store(store.clone())
        .sealer(Arc::new(TestSealer))
        .clock(clock.clone())
        .start()
        .await
        .unwrap()
}

/// Commits to a store in memory as a fault hook can: without waiting.
fn commit_now(store: &MemoryStore, change: Change) {
    let batch = change.into_batch().unwrap();
    store.commit(batch).now_or_never().unwrap().unwrap();
}

/// Changes a record in a store in memory, as a fault hook can: without waiting.
fn rewrite<R: Record>(store: &MemoryStore, id: Uuid, write: impl Fn(&mut serde_json::Value)) {
    rewrite_document(store, R::key(id), write);
}

fn rewrite_document(store: &MemoryStore, key: DocumentKey, write: impl Fn(&mut serde_json::Value)) {
    let written = async {
        let mut stored = store.get(key).await.unwrap().unwrap();
        write(&mut stored.document.body);
        let precondition = dbaas_core::store::Precondition::MatchesVersion(stored.version);
        let put = dbaas_core::store::Op::Put(stored.document.clone(), precondition);
        let batch = dbaas_core::store::Batch {
            lease: None,
            ops: vec![put],
        };
        store.commit(batch).await.unwrap();
    };
    written.now_or_never().unwrap();
}

fn node(number: u8) -> NodeRecord {
    NodeRecord {
        id: NodeId::from_uuid(Uuid::now_v7()),
        name: format!("n{number}"),
        created_at: Timestamp::from_unix_ms(0),
        leaving: false,
        rejoin: Rejoin::InPlace,
        rejoin_attempts: 0,
        rebuilds: 0,
        restart: None,
        lifecycle: Lifecycle::Active,
        role: if number == 1 {
            NodeRole::Primary
        } else {
            NodeRole::Standby
        },
        sync: number > 1,
        reason: "as asked for".to_owned(),
        conditions: Default::default(),
        endpoint: Some(Endpoint {
            host: "127.0.0.1".to_owned(),
            port: 5000 + u16::from(number),
        }),
        backend_ref: None,
    }
}

fn create_user(name: &str) -> CreateUser {
    CreateUser::new(
        UserName::new(name).unwrap(),
        Password::new("correct horse").unwrap(),
    )
}

fn create_database(name: &str, owner: UserId) -> CreateDatabase {
    CreateDatabase::new(DatabaseName::new(name).unwrap(), owner)
}

fn key(key: &str, fingerprint: u8) -> Option<IdempotencyKey> {
    Some(IdempotencyKey {
        key: key.to_owned(),
        fingerprint: [fingerprint; 32],
    })
}

/// Requests with a key, or none.
trait Keyed: Sized {
    fn keyed(self, key: Option<IdempotencyKey>) -> Self;
}

macro_rules! keyed {
    ($($request:ty),+) => {
        $(impl Keyed for $request {
            fn keyed(self, key: Option<IdempotencyKey>) -> Self {
                Self { idempotency_key: key, ..self }
            }
        })+
    };
}

keyed!(CreateInstance, CreateUser, CreateDatabase, CreateVersion);

fn stale(version: DocumentVersion) -> DocumentVersion {
    DocumentVersion(version.0 - 1)
}

/// The fields that are wrong, and the rules.
#[track_caller]
fn invalid_fields<T: std::fmt::Debug>(result: Result<T, ControlError>) -> Vec<FieldError> {
    match result {
        Err(ControlError::Invalid { errors }) => errors,
        other => panic!("not refused as invalid: {other:?}"),
    }
}

#[track_caller]
fn pointers<T: std::fmt::Debug>(result: Result<T, ControlError>) -> Vec<String> {
    invalid_fields(result)
        .into_iter()
        .map(|error| error.pointer)
        .collect()
}

#[track_caller]
fn wrong_state<T: std::fmt::Debug>(result: Result<T, ControlError>) -> String {
    match result {
        Err(ControlError::WrongState { detail }) => detail,
        other => panic!("not refused for its state: {other:?}"),
    }
}

#[track_caller]
fn in_use<T: std::fmt::Debug>(result: Result<T, ControlError>) -> String {
    match result {
        Err(ControlError::InUse { detail }) => detail,
        other => panic!("not refused as in use: {other:?}"),
    }
}

#[tokio::test]
async fn a_part_that_is_missing_is_named() {
    let missing = |error: StartError| error.to_string();
    let error = ControlPlane::builder().start().await.err().map(missing).unwrap();
    assert!(error.contains("a store"), "{error}");
    let builder = ControlPlane::builder().store(Arc::new(MemoryStore::new()));
    let error = builder.start().await.err().map(missing).unwrap();
    assert!(error.contains("an infrastructure"), "{error}");
}

#[tokio::test]
async fn health_says_whether_the_store_answers() {
    let world = World::new().await;
    let health = world.control.health().await;
    assert!(health.store_ok);
    assert!(!health.leader, "the test holds the lease");
    let fault = Fault::Fail(dbaas_core::store::StoreErrorKind::Unavailable);
    world
        .store
        .set_fault(Some(Arc::new(move |_: &StoreCall<'_>| fault)));
    let health = world.control.health().await;
    assert!(!health.store_ok && health.detail.contains("store"), "{health:?}");
    assert_eq!(world.control.backend_name(), "versions-only");
    assert_eq!(world.control.capabilities(), Capabilities::NONE);
}
