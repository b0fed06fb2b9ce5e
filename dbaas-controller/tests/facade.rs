//! Random calls of the façade, good ones and bad ones, beside a small model of what has to be seen; the engine works behind it on a simulated
//! backend all the while.
//!
//! `FACADE_SEED` replays one seed, `FACADE_SEEDS` says how many are run.
#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dbaas_controller::ControlPlane;
use dbaas_controller::clock::Clock;
use dbaas_controller::error::ControlError;
use dbaas_controller::request::{
    CreateDatabase, CreateInstance, CreateUser, IdempotencyKey, InstanceAction, InstanceFilter, Page,
    UpdateDatabase, UpdateInstance, UpdateUser,
};
use dbaas_controller::settings::ControllerSettings;
use dbaas_core::id::{DatabaseId, InstanceId, UserId, VersionId};
use dbaas_core::lifecycle::{Lifecycle, ObjectLifecycle};
use dbaas_core::password::Password;
use dbaas_core::scram::Iterations;
use dbaas_core::secret::{SecretSealer, UnsealError};
use dbaas_core::store::DocumentVersion;
use dbaas_core::time::Timestamp;
use dbaas_testkit::memory_store::MemoryStore;
use dbaas_testkit::simulated::{Costs, SimWorld};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;
use zeroize::Zeroizing;

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

#[derive(Debug, Clone, Default)]
struct ModelInstance {
    name: String,
    description: String,
    nodes: u64,
    sync: u64,
    cpu: u64,
    disk: u64,
    stopped: bool,
    users: BTreeMap<UserId, String>,
    /// Name, owner, description.
    databases: BTreeMap<DatabaseId, (String, UserId, String)>,
    generation: u64,
}

/// What was asked for and accepted.
#[derive(Debug, Default)]
struct Model {
    instances: BTreeMap<InstanceId, ModelInstance>,
    /// Asked to be deleted: they show, or they do not.
    leaving: Vec<InstanceId>,
    leaving_users: Vec<(InstanceId, UserId, String)>,
    leaving_databases: Vec<(InstanceId, DatabaseId, String)>,
}

struct Run {
    plane: ControlPlane,
    model: Model,
    rng: StdRng,
    version: VersionId,
    names: u32,
}

const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

impl Run {
    fn some_instance(&mut self) -> Option<InstanceId> {
        let all: Vec<InstanceId> = self.model.instances.keys().copied().collect();
        all.choose(&mut self.rng).copied()
    }

    fn name(&mut self) -> String {
        NAMES[self.rng.random_range(0..NAMES.len())].to_owned()
    }

    /// One call, and what the model says that it has to answer.
    async fn step(&mut self) {
        match self.rng.random_range(0..16) {
            0 | 1 => self.create_instance().await,
            2 | 3 => self.update_instance().await,
            4 => self.act().await,
            5 if self.rng.random_range(0..3) == 0 => self.delete_instance().await,
            6 | 7 => self.create_user().await,
            8 => self.update_user().await,
            9 => self.delete_user().await,
            10 | 11 => self.create_database().await,
            12 => self.update_database().await,
            13 => self.delete_database().await,
            14 => self.ask_for_what_never_was().await,
            _ => {
                let ms = self.rng.random_range(1..4_000);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
        }
    }

    async fn create_instance(&mut self) {
        let name = self.name();
        let mut request = CreateInstance::new(name.parse().unwrap(), self.version);
        let bad_version = self.rng.random_range(0..10) == 0;
        if bad_version {
            request.version = VersionId::from_uuid(Uuid::from_u128(7));
        }
        request.nodes = self.rng.random_range(1..4u64).try_into().unwrap();
        request.sync_replicas = self.rng.random_range(0..3u64).try_into().unwrap();
        let key = (self.rng.random_range(0..2) == 0).then(|| IdempotencyKey {
            key: format!("key {}", self.names),
            fingerprint: [1; 32],
        });
        self.names += 1;
        let taken = self.model.instances.values().any(|i| i.name == name);
        let answer = self.plane.create_instance(request.clone(), key.clone()).await;
        match answer {
            Ok(made) => {
                assert!(!taken && !bad_version, "{name} was made although it is there");
                let id = made.record.id;
                if let Some(key) = key {
                    let again = self
                        .plane
                        .create_instance(request.clone(), Some(key.clone()))
                        .await
                        .unwrap();
                    assert_eq!(again.record.id, id, "the same key made another one");
                    let other = IdempotencyKey {
                        fingerprint: [2; 32],
                        ..key
                    };
                    let other = self.plane.create_instance(request.clone(), Some(other)).await;
                    assert!(
                        matches!(other, Err(ControlError::IdempotencyMismatch)),
                        "{other:?}"
                    );
                }
                let model = ModelInstance {
                    name,
                    nodes: u64::from(request.nodes.get()),
                    sync: u64::from(request.sync_replicas.get()),
                    cpu: u64::from(request.cpu.get()),
                    disk: u64::from(request.disk.get()),
                    generation: made.record.generation,
                    ..ModelInstance::default()
                };
                self.model.instances.insert(id, model);
            }
            Err(ControlError::NameTaken { name: said, .. }) => {
                assert_eq!(said, name);
                assert!(taken || !self.model.leaving.is_empty(), "{name} is free");
            }
            Err(ControlError::Invalid { errors }) => {
                assert!(bad_version && errors.iter().all(|e| e.pointer == "/version"));
            }
            Err(error) => panic!("create {name}: {error:?}"),
        }
    }

    async fn update_instance(&mut self) {
        let Some(id) = self.some_instance() else { return };
        let new_name = self.name();
        let model = self.model.instances[&id].clone();
        let mut update = UpdateInstance::default();
        let mut want = model.clone();
        if self.rng.random_range(0..3) == 0 {
            update.name = Some(new_name.parse().unwrap());
            want.name.clone_from(&new_name);
        }
        if self.rng.random() {
            want.nodes = self.rng.random_range(1..5);
            update.nodes = Some(want.nodes.try_into().unwrap());
        }
        if self.rng.random() {
            want.sync = self.rng.random_range(0..3);
            update.sync_replicas = Some(want.sync.try_into().unwrap());
        }
        if self.rng.random() {
            want.cpu = self.rng.random_range(1..5);
            update.cpu = Some(want.cpu.try_into().unwrap());
        }
        if self.rng.random_range(0..3) == 0 {
            want.disk = self.rng.random_range(8..20);
            update.disk = Some(want.disk.try_into().unwrap());
        }
        if self.rng.random() {
            want.description = format!("text {}", self.names);
            self.names += 1;
            update.description = Some(want.description.parse().unwrap());
        }
        let shrinks = want.disk < model.disk;
        let taken = self
            .model
            .instances
            .iter()
            .any(|(other, i)| *other != id && i.name == want.name);
        let stale = self.rng.random_range(0..6) == 0;
        let expected = stale.then_some(DocumentVersion(u64::MAX));
        match self.plane.update_instance(id, update, expected).await {
            Ok(after) => {
                assert!(!shrinks && !taken && !stale, "accepted: {want:?} after {model:?}");
                assert!(after.record.generation >= model.generation);
                want.generation = after.record.generation;
                self.model.instances.insert(id, want);
            }
            Err(ControlError::VersionMismatch) => assert!(stale),
            Err(ControlError::Invalid { errors }) => {
                assert!(
                    shrinks && errors.iter().all(|e| e.pointer == "/disk_size"),
                    "{errors:?}"
                );
            }
            Err(ControlError::NameTaken { .. }) => assert!(taken || !self.model.leaving.is_empty()),
            Err(error) => panic!("update: {error:?}"),
        }
    }

    async fn act(&mut self) {
        let Some(id) = self.some_instance() else { return };
        let action = match self.rng.random_range(0..5) {
            0 => InstanceAction::Stop,
            1 | 2 => InstanceAction::Start,
            3 => InstanceAction::Restart,
            _ => InstanceAction::Switchover { to: None },
        };
        let stopped = self.model.instances[&id].stopped;
        match self.plane.act_on_instance(id, action.clone()).await {
            Ok(after) => {
                let model = self.model.instances.get_mut(&id).unwrap();
                match action {
                    InstanceAction::Stop => model.stopped = true,
                    InstanceAction::Start => model.stopped = false,
                    _ => assert!(!stopped, "{action:?} of a stopped instance was accepted"),
                }
                model.generation = after.record.generation;
            }
            Err(ControlError::WrongState { detail }) => {
                assert!(!detail.is_empty());
                assert!(
                    !matches!(action, InstanceAction::Stop | InstanceAction::Start),
                    "{action:?}: {detail}"
                );
                if matches!(action, InstanceAction::Restart) {
                    assert!(stopped, "{detail}");
                }
            }
            Err(error) => panic!("{action:?}: {error:?}"),
        }
    }

    async fn delete_instance(&mut self) {
        let Some(id) = self.some_instance() else { return };
        self.plane.delete_instance(id, None).await.unwrap();
        self.model.instances.remove(&id);
        self.model.leaving.push(id);
        let refused = self
            .plane
            .update_instance(id, UpdateInstance::default(), None)
            .await;
        assert!(
            matches!(
                refused,
                Err(ControlError::WrongState { .. } | ControlError::NotFound { .. })
            ),
            "{refused:?}"
        );
    }

    async fn create_user(&mut self) {
        let Some(id) = self.some_instance() else { return };
        let name = self.name();
        let request = CreateUser::new(name.parse().unwrap(), Password::new("correct horse").unwrap());
        let model = self.model.instances.get_mut(&id).unwrap();
        let taken = model.users.values().any(|n| *n == name);
        match self.plane.create_user(id, request, None).await {
            Ok(made) => {
                assert!(!taken, "two users {name}");
                model.users.insert(made.record.id, name);
            }
            Err(ControlError::NameTaken { .. }) => {
                let leaving = &self.model.leaving_users;
                assert!(taken || leaving.iter().any(|(i, _, n)| *i == id && *n == name));
            }
            Err(error) => panic!("user: {error:?}"),
        }
    }

    fn some_user(&mut self) -> Option<(InstanceId, UserId)> {
        let id = self.some_instance()?;
        let users: Vec<UserId> = self.model.instances[&id].users.keys().copied().collect();
        Some((id, *users.choose(&mut self.rng)?))
    }

    async fn update_user(&mut self) {
        let Some((id, user)) = self.some_user() else {
            return;
        };
        let update = UpdateUser {
            description: None,
            password: Some(Password::new(&format!("a new password {}", self.names)).unwrap()),
        };
        self.names += 1;
        let after = self.plane.update_user(id, user, update, None).await.unwrap();
        assert_ne!(after.record.lifecycle, ObjectLifecycle::Active, "not set yet");
    }

    async fn delete_user(&mut self) {
        let Some((id, user)) = self.some_user() else {
            return;
        };
        let model = self.model.instances.get_mut(&id).unwrap();
        let owns = model.databases.values().any(|(_, owner, _)| *owner == user);
        match self.plane.delete_user(id, user, None).await {
            Ok(()) => {
                assert!(!owns, "a user who owns a database was dropped");
                let name = model.users.remove(&user).unwrap();
                self.model.leaving_users.push((id, user, name));
            }
            // A database that is still being dropped has its owner.
            Err(ControlError::InUse { .. }) => {
                assert!(owns || self.model.leaving_databases.iter().any(|(i, ..)| *i == id));
            }
            Err(error) => panic!("delete user: {error:?}"),
        }
    }

    async fn create_database(&mut self) {
        let Some((id, owner)) = self.some_user() else {
            return;
        };
        let name = self.name();
        let foreign = self.rng.random_range(0..8) == 0;
        let by = if foreign {
            UserId::from_uuid(Uuid::from_u128(9))
        } else {
            owner
        };
        let model = self.model.instances.get_mut(&id).unwrap();
        let taken = model.databases.values().any(|(n, ..)| *n == name);
        let request = CreateDatabase::new(name.parse().unwrap(), by);
        match self.plane.create_database(id, request, None).await {
            Ok(made) => {
                assert!(!taken && !foreign);
                model
                    .databases
                    .insert(made.record.id, (name, owner, String::new()));
            }
            Err(ControlError::Invalid { errors }) => {
                assert!(
                    foreign && errors.iter().all(|e| e.pointer == "/owner"),
                    "{errors:?}"
                );
            }
            Err(ControlError::NameTaken { .. }) => {
                let leaving = &self.model.leaving_databases;
                assert!(taken || leaving.iter().any(|(i, _, n)| *i == id && *n == name));
            }
            Err(error) => panic!("database: {error:?}"),
        }
    }

    fn some_database(&mut self) -> Option<(InstanceId, DatabaseId)> {
        let id = self.some_instance()?;
        let all: Vec<DatabaseId> = self.model.instances[&id].databases.keys().copied().collect();
        Some((id, *all.choose(&mut self.rng)?))
    }

    async fn update_database(&mut self) {
        let Some((id, database)) = self.some_database() else {
            return;
        };
        let users: Vec<UserId> = self.model.instances[&id].users.keys().copied().collect();
        let owner = users.choose(&mut self.rng).copied();
        let description = format!("text {}", self.names);
        self.names += 1;
        let update = UpdateDatabase {
            description: Some(description.parse().unwrap()),
            owner,
        };
        let after = self
            .plane
            .update_database(id, database, update, None)
            .await
            .unwrap();
        let model = self.model.instances.get_mut(&id).unwrap();
        let entry = model.databases.get_mut(&database).unwrap();
        entry.1 = owner.unwrap_or(entry.1);
        entry.2 = description;
        assert_eq!(after.record.owner, entry.1);
    }

    async fn delete_database(&mut self) {
        let Some((id, database)) = self.some_database() else {
            return;
        };
        self.plane.delete_database(id, database, None).await.unwrap();
        let model = self.model.instances.get_mut(&id).unwrap();
        let (name, ..) = model.databases.remove(&database).unwrap();
        self.model.leaving_databases.push((id, database, name));
    }

    async fn ask_for_what_never_was(&mut self) {
        let nobody = Uuid::from_u128(self.rng.random());
        let id = InstanceId::from_uuid(nobody);
        let not_found = |result: Result<(), ControlError>| {
            assert!(matches!(result, Err(ControlError::NotFound { .. })), "{result:?}");
        };
        not_found(self.plane.instance(id).await.map(drop));
        not_found(self.plane.delete_instance(id, None).await);
        not_found(
            self.plane
                .update_instance(id, UpdateInstance::default(), None)
                .await
                .map(drop),
        );
        not_found(
            self.plane
                .act_on_instance(id, InstanceAction::Stop)
                .await
                .map(drop),
        );
        not_found(self.plane.nodes(id).await.map(drop));
        if let Some(there) = self.some_instance() {
            not_found(self.plane.user(there, UserId::from_uuid(nobody)).await.map(drop));
            not_found(
                self.plane
                    .delete_user(there, UserId::from_uuid(nobody), None)
                    .await,
            );
            let database = DatabaseId::from_uuid(nobody);
            not_found(self.plane.database(there, database).await.map(drop));
            not_found(self.plane.delete_database(there, database, None).await);
            // Of another instance it is not there either.
            if let Some((home, user)) = self.some_user()
                && home != there
            {
                not_found(self.plane.user(there, user).await.map(drop));
                not_found(self.plane.delete_user(there, user, None).await);
            }
        }
    }

    /// Everything that was accepted is what is shown, and nothing else.
    async fn check(&self) {
        let page = Page {
            after: None,
            limit: 1000,
        };
        let listed = self
            .plane
            .instances(InstanceFilter::default(), page)
            .await
            .unwrap();
        let shown: Vec<InstanceId> = listed.items.iter().map(|i| i.record.id).collect();
        for id in &shown {
            assert!(
                self.model.instances.contains_key(id) || self.model.leaving.contains(id),
                "{id} is shown and was never made"
            );
        }
        for (id, model) in &self.model.instances {
            assert!(shown.contains(id), "{} is not listed", model.name);
            let record = self.plane.instance(*id).await.unwrap().record;
            assert_eq!(record.spec.name.as_str(), model.name);
            assert_eq!(
                record.spec.description.as_str(),
                model.description,
                "a lost update"
            );
            assert_eq!(u64::from(record.spec.nodes.get()), model.nodes, "a lost update");
            assert_eq!(
                u64::from(record.spec.sync_replicas.get()),
                model.sync,
                "a lost update"
            );
            assert_eq!(
                u64::from(record.spec.resources.cpu.get()),
                model.cpu,
                "a lost update"
            );
            assert_eq!(
                u64::from(record.spec.resources.disk.get()),
                model.disk,
                "a lost update"
            );
            assert_eq!(record.generation, model.generation, "somebody else's generation");
            if record.status.lifecycle == Lifecycle::Active {
                assert!(!record.status.reason.is_empty());
            }
            let page = Page {
                after: None,
                limit: 1000,
            };
            let users = self.plane.users(*id, page).await.unwrap().items;
            for (user, name) in &model.users {
                let found = users.iter().find(|u| u.record.id == *user);
                let found = found.unwrap_or_else(|| panic!("user {name} is gone"));
                assert_eq!(found.record.name.as_str(), name);
                assert!(!found.record.deleting);
            }
            let page = Page {
                after: None,
                limit: 1000,
            };
            let databases = self.plane.databases(*id, page).await.unwrap().items;
            for (database, (name, owner, description)) in &model.databases {
                let found = databases.iter().find(|d| d.record.id == *database);
                let found = found.unwrap_or_else(|| panic!("database {name} is gone"));
                assert_eq!(found.record.name.as_str(), name);
                assert_eq!(found.record.owner, *owner, "a lost update");
                assert_eq!(found.record.description.as_str(), description, "a lost update");
            }
        }
    }

    /// Left alone, everything comes to be as asked for; then no status lies.
    async fn settle(&mut self, world: &SimWorld) {
        let minutes = Duration::from_secs(600);
        for (id, model) in self.model.instances.clone() {
            if model.stopped {
                self.plane
                    .act_on_instance(id, InstanceAction::Start)
                    .await
                    .unwrap();
            }
            let record = self
                .plane
                .wait_for_instance(id, Lifecycle::Active, minutes)
                .await
                .unwrap_or_else(|e| panic!("{}: {e}", model.name))
                .record;
            for user in model.users.keys() {
                let state = ObjectLifecycle::Active;
                self.plane.wait_for_user(id, *user, state, minutes).await.unwrap();
            }
            for database in model.databases.keys() {
                let state = ObjectLifecycle::Active;
                self.plane
                    .wait_for_database(id, *database, state, minutes)
                    .await
                    .unwrap();
            }
            let _ = record;
        }
        // What was to be dropped is dropped soon after.
        tokio::time::sleep(minutes).await;
        for (id, model) in &self.model.instances {
            let record = self.plane.instance(*id).await.unwrap().record;
            assert_eq!(
                record.status.lifecycle,
                Lifecycle::Active,
                "{}",
                record.status.reason
            );
            assert_eq!(record.status.observed_generation, record.generation);
            let nodes = world.nodes(*id);
            assert_eq!(
                nodes.len() as u64,
                model.nodes,
                "ACTIVE with other nodes than asked for"
            );
            let primary: Vec<_> = nodes.iter().filter(|n| n.is_primary).collect();
            assert_eq!(primary.len(), 1, "ACTIVE without one primary");
            for name in model.users.values() {
                assert!(
                    primary[0].roles.contains(name),
                    "user {name} is ACTIVE and not there"
                );
            }
            for (_, user, name) in self.model.leaving_users.iter().filter(|(i, ..)| i == id) {
                let gone = self.plane.user(*id, *user).await;
                assert!(matches!(gone, Err(ControlError::NotFound { .. })), "{name} stays");
            }
            for (name, ..) in model.databases.values() {
                assert!(
                    primary[0].databases.contains(name),
                    "{name} is ACTIVE and not there"
                );
            }
            for (_, database, name) in self.model.leaving_databases.iter().filter(|(i, ..)| i == id) {
                let gone = self.plane.database(*id, *database).await;
                assert!(matches!(gone, Err(ControlError::NotFound { .. })), "{name} stays");
            }
        }
        for id in &self.model.leaving {
            let gone = self.plane.instance(*id).await;
            assert!(
                matches!(gone, Err(ControlError::NotFound { .. })),
                "an instance stays"
            );
            assert!(world.nodes(*id).is_empty(), "a deleted instance has nodes");
        }
    }
}

async fn run(seed: u64) {
    let world = SimWorld::new(seed, Costs::default());
    tokio::spawn(world.clone().run());
    let controller = world.controller();
    let plane = ControlPlane::builder()
        .infrastructure(Arc::new(controller.infrastructure()))
        .sql(Arc::new(controller.sql()))
        .store(Arc::new(MemoryStore::new()))
        .sealer(Arc::new(PlainSealer))
        .clock(Arc::new(WorldClock(world.clone())))
        .settings(ControllerSettings {
            simulation_seed: Some(seed),
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
    let version = plane.versions(page).await.unwrap().items[0].record.id;
    let mut run = Run {
        plane,
        model: Model::default(),
        rng: StdRng::seed_from_u64(seed),
        version,
        names: 0,
    };
    let steps = run.rng.random_range(10..80);
    for _ in 0..steps {
        run.step().await;
        run.check().await;
    }
    run.settle(&world).await;
    assert_eq!(world.violations(), Vec::<String>::new());
    run.plane.shutdown(Duration::from_secs(5)).await;
}

#[test]
fn what_was_accepted_is_what_is_seen() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = match number("FACADE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FACADE_SEEDS").unwrap_or(4),
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(run(seed))));
        if let Err(panic) = outcome {
            eprintln!(
                "seed {seed} failed; again: FACADE_SEED={seed} cargo test -p dbaas-controller --test facade"
            );
            std::panic::resume_unwind(panic);
        }
    }
}
