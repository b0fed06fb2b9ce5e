//! The façade itself, on a simulated backend in virtual time, and each call of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dbaas_controller::ControlPlane;
use dbaas_controller::clock::Clock;
use dbaas_controller::error::ControlError;
use dbaas_controller::request::{
    CreateDatabase, CreateInstance, CreateUser, IdempotencyKey, InstanceAction, Page, UpdateDatabase,
    UpdateInstance, UpdateUser,
};
use dbaas_controller::settings::ControllerSettings;
use dbaas_core::id::{DatabaseId, InstanceId, UserId, VersionId};
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::password::Password;
use dbaas_core::scram::Iterations;
use dbaas_core::secret::{SecretSealer, UnsealError};
use dbaas_core::store::DocumentVersion;
use dbaas_core::time::Timestamp;
use dbaas_testkit::memory_store::MemoryStore;
use dbaas_testkit::simulated::{Costs, SimWorld};
use proptest_state_machine::StateMachineTest;
use tokio::runtime::Runtime;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::call::{Call, Changes, Deed};
use crate::model::{Handle, Met, Model, Refusal};

/// How long something that is on its way out may take, in virtual time.
pub(crate) const LEAVES_WITHIN: Duration = Duration::from_secs(600);

struct PlainSealer;

impl SecretSealer for PlainSealer {
    fn seal(&self, _: &[u8], plaintext: &[u8]) -> String {
        STANDARD.encode(plaintext)
    }

    fn open(&self, _: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        STANDARD
            .decode(sealed)
            .map(Zeroizing::new)
            .map_err(|_| UnsealError)
    }
}

struct WorldClock(SimWorld);

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(1_750_000_000_000 + i64::try_from(self.0.now_ms()).unwrap_or(0))
    }
}

/// The façade, and the ids of what was made.
pub(crate) struct Plane {
    pub(crate) plane: ControlPlane,
    pub(crate) world: SimWorld,
    version: VersionId,
    calls: u64,
    pub(crate) instances: BTreeMap<Handle, InstanceId>,
    pub(crate) users: BTreeMap<Handle, UserId>,
    pub(crate) databases: BTreeMap<Handle, DatabaseId>,
    /// Of each instance, after the last change that was ours.
    pub(crate) generations: BTreeMap<Handle, u64>,
}

/// [`Plane`] with the runtime that it lives in.
pub(crate) struct Facade {
    runtime: Runtime,
    plane: Plane,
}

impl StateMachineTest for Facade {
    type SystemUnderTest = Facade;
    type Reference = Model;

    fn init_test(model: &Model) -> Facade {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let plane = runtime.block_on(Plane::start(model.seed));
        Facade { runtime, plane }
    }

    fn apply(mut facade: Facade, model: &Model, call: Call) -> Facade {
        facade.runtime.block_on(facade.plane.apply(model, &call));
        facade
    }

    fn check_invariants(facade: &Facade, model: &Model) {
        facade.runtime.block_on(facade.plane.check(model));
    }

    fn teardown(facade: Facade, model: Model) {
        facade.runtime.block_on(async {
            facade.plane.settle(&model).await;
            assert_eq!(facade.plane.world.violations(), Vec::<String>::new());
            facade.plane.plane.shutdown(Duration::from_secs(5)).await;
        });
    }
}

/// Whether an answer is one of those that it has to be. What is refused only as long as something else leaves
/// is `None`: ask again.
fn judge<T: std::fmt::Debug>(call: &Call, met: &Met, answer: Result<T, ControlError>) -> Option<Option<T>> {
    let error = match answer {
        Ok(done) => {
            assert!(
                met.refusals.is_empty(),
                "{call:?} was accepted: {:?}",
                met.refusals
            );
            return Some(Some(done));
        }
        Err(error) => error,
    };
    let is = |refusal: &Refusal| match (refusal, &error) {
        (Refusal::NameTaken, ControlError::NameTaken { .. })
        | (Refusal::Stale, ControlError::VersionMismatch)
        | (Refusal::InUse, ControlError::InUse { .. }) => true,
        (Refusal::WrongState, ControlError::WrongState { detail }) => !detail.is_empty(),
        (Refusal::Invalid(pointer), ControlError::Invalid { errors }) => {
            errors.iter().all(|e| e.pointer == *pointer)
        }
        _ => false,
    };
    if met.refusals.iter().any(is) {
        return Some(None);
    }
    assert!(
        met.for_some_time && matches!(error, ControlError::NameTaken { .. } | ControlError::InUse { .. }),
        "{call:?}: {error:?}, and not {:?}",
        met.refusals
    );
    None
}

fn keyed(request: &CreateInstance, idempotency_key: Option<IdempotencyKey>) -> CreateInstance {
    CreateInstance {
        idempotency_key,
        ..request.clone()
    }
}

impl Plane {
    async fn start(seed: u64) -> Plane {
        let world = SimWorld::new(seed, Costs::default());
        tokio::spawn(world.clone().run());
        let controller = world.controller();
        let plane = ControlPlane::builder()
            .infrastructure(Arc::new(controller.infrastructure()))
            .sql(Arc::new(controller.sql()))
            .store(Arc::new(MemoryStore::new()))
            .sealer(Arc::new(PlainSealer))
            .clock(Arc::new(WorldClock(world.clone())))
            .simulation_seed(seed)
            .settings(ControllerSettings {
                scram_iterations: Iterations::default(),
                ..ControllerSettings::default()
            })
            .start()
            .await
            .unwrap();
        let page = Page {
            after: None,
            limit: 10,
        };
        let version = plane.versions(page).await.unwrap().items[0].id;
        Plane {
            plane,
            world,
            version,
            calls: 0,
            instances: BTreeMap::new(),
            users: BTreeMap::new(),
            databases: BTreeMap::new(),
            generations: BTreeMap::new(),
        }
    }

    /// Until it is accepted, or refused for a reason that stays.
    async fn apply(&mut self, model: &Model, call: &Call) {
        let until = tokio::time::Instant::now() + LEAVES_WITHIN;
        while !self.ask(model, call).await {
            assert!(
                tokio::time::Instant::now() < until,
                "{call:?}: what is in the way does not leave"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn ask(&mut self, model: &Model, call: &Call) -> bool {
        self.calls += 1;
        let met = &model.met;
        match call {
            Call::CreateInstance {
                name,
                nodes,
                sync,
                bad_version,
                with_key,
            } => {
                let mut request = CreateInstance::new(name.parse().unwrap(), self.version);
                if *bad_version {
                    request.version = VersionId::from_uuid(Uuid::from_u128(7));
                }
                request.nodes = (*nodes).try_into().unwrap();
                request.sync_replicas = (*sync).try_into().unwrap();
                return self.create_instance(call, met, request, *with_key).await;
            }
            Call::Wait { ms } => {
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                return true;
            }
            Call::AskForWhatNeverWas { id } => {
                self.ask_for_what_never_was(model, *id).await;
                return true;
            }
            _ => {}
        }
        let id = self.instances[&met.instance];
        let user = self.users.get(&met.object).copied();
        let database = self.databases.get(&met.object).copied();
        match (call, user, database) {
            (Call::UpdateInstance { changes, stale, .. }, ..) => {
                let expected = stale.then_some(DocumentVersion(u64::MAX));
                let answer = self
                    .plane
                    .update_instance(
                        id,
                        UpdateInstance {
                            expected,
                            ..update(changes, met)
                        },
                    )
                    .await;
                let Some(done) = judge(call, met, answer) else {
                    return false;
                };
                if let Some(after) = done {
                    assert!(after.generation >= self.generations[&met.instance]);
                    self.generations.insert(met.instance, after.generation);
                }
                true
            }
            (Call::Act { deed, .. }, ..) => self.act(call, met, id, *deed).await,
            (Call::DeleteInstance { .. }, ..) => {
                self.plane.delete_instance(id, None).await.unwrap();
                let refused = self.plane.update_instance(id, UpdateInstance::default()).await;
                let gone = matches!(
                    refused,
                    Err(ControlError::WrongState { .. } | ControlError::NotFound { .. })
                );
                assert!(gone, "{refused:?}");
                true
            }
            (Call::CreateUser { name, .. }, ..) => {
                let request = CreateUser::new(name.parse().unwrap(), Password::new("correct horse").unwrap());
                let answer = self.plane.create_user(id, request).await;
                let Some(done) = judge(call, met, answer) else {
                    return false;
                };
                self.users.extend(done.map(|made| (met.object, made.id)));
                true
            }
            (Call::UpdateUser { .. }, Some(user), _) => {
                let password = Password::new(&format!("a new password {}", self.calls)).unwrap();
                let update = UpdateUser {
                    password: Some(password),
                    ..UpdateUser::default()
                };
                let after = self.plane.update_user(id, user, update).await.unwrap();
                assert_ne!(after.lifecycle, ObjectLifecycle::Active, "not set yet");
                true
            }
            (Call::DeleteUser { .. }, Some(user), _) => {
                judge(call, met, self.plane.delete_user(id, user, None).await).is_some()
            }
            (Call::CreateDatabase { name, foreign, .. }, ..) => {
                let owner = met.owner.map(|owner| self.users[&owner]);
                let nobody = UserId::from_uuid(Uuid::from_u128(9));
                let owner = owner.filter(|_| !foreign).unwrap_or(nobody);
                let request = CreateDatabase::new(name.parse().unwrap(), owner);
                let answer = self.plane.create_database(id, request).await;
                let Some(done) = judge(call, met, answer) else {
                    return false;
                };
                self.databases.extend(done.map(|made| (met.object, made.id)));
                true
            }
            (Call::UpdateDatabase { .. }, _, Some(database)) => {
                let update = UpdateDatabase {
                    description: Some(met.description.parse().unwrap()),
                    owner: met.owner.map(|owner| self.users[&owner]),
                    ..UpdateDatabase::default()
                };
                let after = self.plane.update_database(id, database, update).await.unwrap();
                let owner = model.instances[&met.instance].databases[&met.object].owner;
                assert_eq!(after.owner, self.users[&owner]);
                true
            }
            (Call::DeleteDatabase { .. }, _, Some(database)) => {
                self.plane.delete_database(id, database, None).await.unwrap();
                true
            }
            _ => panic!("{call:?} of something that was not made"),
        }
    }

    async fn create_instance(
        &mut self,
        call: &Call,
        met: &Met,
        request: CreateInstance,
        with_key: bool,
    ) -> bool {
        let key = with_key.then(|| IdempotencyKey {
            key: format!("key {}", self.calls),
            fingerprint: [1; 32],
        });
        let answer = self.plane.create_instance(keyed(&request, key.clone())).await;
        let Some(done) = judge(call, met, answer) else {
            return false;
        };
        let Some(made) = done else { return true };
        let id = made.id;
        if let Some(key) = key {
            let again = self
                .plane
                .create_instance(keyed(&request, Some(key.clone())))
                .await
                .unwrap();
            assert_eq!(again.id, id, "the same key made another one");
            let other = IdempotencyKey {
                fingerprint: [2; 32],
                ..key
            };
            let other = self.plane.create_instance(keyed(&request, Some(other))).await;
            assert!(
                matches!(other, Err(ControlError::IdempotencyMismatch)),
                "{other:?}"
            );
        }
        self.generations.insert(met.instance, made.generation);
        self.instances.insert(met.instance, id);
        true
    }

    async fn act(&mut self, call: &Call, met: &Met, id: InstanceId, deed: Deed) -> bool {
        let action = match deed {
            Deed::Stop => InstanceAction::Stop,
            Deed::Start => InstanceAction::Start,
            Deed::Restart => InstanceAction::Restart,
            Deed::Switchover => InstanceAction::Switchover { to: None },
        };
        let answer = self.plane.act_on_instance(id, action).await;
        if let (Deed::Switchover, Err(ControlError::WrongState { detail })) = (deed, &answer) {
            // Nobody to switch to, or not now.
            assert!(!detail.is_empty());
            return true;
        }
        let Some(done) = judge(call, met, answer) else {
            return false;
        };
        if let Some(after) = done {
            self.generations.insert(met.instance, after.generation);
        }
        true
    }

    async fn ask_for_what_never_was(&self, model: &Model, id: u128) {
        let nobody = Uuid::from_u128(id);
        let id = InstanceId::from_uuid(nobody);
        let not_found = |result: Result<(), ControlError>| {
            assert!(matches!(result, Err(ControlError::NotFound { .. })), "{result:?}");
        };
        let plane = &self.plane;
        not_found(plane.instance(id).await.map(drop));
        not_found(plane.delete_instance(id, None).await);
        not_found(
            plane
                .update_instance(id, UpdateInstance::default())
                .await
                .map(drop),
        );
        not_found(plane.act_on_instance(id, InstanceAction::Stop).await.map(drop));
        not_found(plane.nodes(id).await.map(drop));
        for there in model.instances.keys() {
            let id = self.instances[there];
            let (user, database) = (UserId::from_uuid(nobody), DatabaseId::from_uuid(nobody));
            not_found(plane.user(id, user).await.map(drop));
            not_found(plane.delete_user(id, user, None).await);
            not_found(plane.database(id, database).await.map(drop));
            not_found(plane.delete_database(id, database, None).await);
            // Of another instance it is not there either.
            let others = model.instances.iter().filter(|(other, _)| *other != there);
            if let Some(user) = others.flat_map(|(_, other)| other.users.keys()).next() {
                not_found(plane.user(id, self.users[user]).await.map(drop));
                not_found(plane.delete_user(id, self.users[user], None).await);
            }
        }
    }
}

fn update(changes: &Changes, met: &Met) -> UpdateInstance {
    UpdateInstance {
        name: changes.name.map(|name| name.parse().unwrap()),
        nodes: changes.nodes.map(|n| n.try_into().unwrap()),
        sync_replicas: changes.sync.map(|n| n.try_into().unwrap()),
        cpu: changes.cpu.map(|n| n.try_into().unwrap()),
        disk: changes.disk.map(|n| n.try_into().unwrap()),
        description: changes.described.then(|| met.description.parse().unwrap()),
        ..UpdateInstance::default()
    }
}
