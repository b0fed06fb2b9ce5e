//! What users and operators ask for, at moments that the seed draws.

use std::time::Duration;

use dbaas_controller::ControlPlane;
use dbaas_controller::error::ControlError;
use dbaas_controller::request::{
    CreateDatabase, CreateUser, InstanceAction, Page, UpdateDatabase, UpdateInstance, UpdateUser,
};
use dbaas_core::id::InstanceId;
use dbaas_core::name::{DatabaseName, UserName};
use dbaas_core::password::Password;
use dbaas_core::size::{CpuCores, DiskGb, NodeCount, RamMb, SyncReplicas};
use rand::Rng as _;

use crate::scenario::Scenario;

/// A caller gives up after so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn page<Id>() -> Page<Id> {
    Page {
        after: None,
        limit: 1_000,
    }
}

impl Scenario {
    /// One request, made in the background: faults go on meanwhile.
    pub(crate) async fn request(&mut self) -> anyhow::Result<()> {
        let Some(instance) = self.some_instance() else {
            return Ok(());
        };
        let Some(control) = self.control() else {
            return Ok(());
        };
        match self.rng.random_range(0..16) {
            0 | 1 => self.create_user(control, instance)?,
            2 | 3 => self.create_database(control, instance)?,
            4 => self.change_objects(control, instance)?,
            5 => self.delete_objects(control, instance),
            6 | 7 => self.scale(control, instance)?,
            8 => {
                let resize = UpdateInstance {
                    cpu: Some(CpuCores::new(self.rng.random_range(1..4))?),
                    ram: Some(RamMb::new(self.rng.random_range(1..4) * 1_024)?),
                    disk: Some(DiskGb::new(16 + u64::from(self.names))?),
                    ..UpdateInstance::default()
                };
                self.names += 1;
                self.update(control, instance, resize);
            }
            9 => self.act(control, instance, InstanceAction::Restart),
            10 | 11 => {
                let to = self.some_node(instance).filter(|_| self.rng.random());
                let to = to.map(|node| node.node);
                self.act(control, instance, InstanceAction::Switchover { to });
            }
            14 | 15 => {
                let (name, value) = match self.rng.random_range(0..6) {
                    0 => ("work_mem", Some("1MB")),
                    1 => ("work_mem", None),
                    2 => ("max_connections", None),
                    3 => ("max_connections", Some("120")),
                    4 => ("max_connections", Some("900")),
                    // No server starts with it.
                    _ => ("max_connections", Some("9000")),
                };
                let change = UpdateInstance {
                    parameters: [(name.to_owned(), value.map(str::to_owned))].into(),
                    ..UpdateInstance::default()
                };
                self.update(control, instance, change);
            }
            12 => {
                let allow_data_loss = self.profile.gives_up;
                if allow_data_loss {
                    self.world.expect_loss(instance, true);
                }
                self.act(control, instance, InstanceAction::Failover { allow_data_loss });
            }
            _ => {
                let again_ms = self.rng.random_range(100..10_000);
                self.act(control.clone(), instance, InstanceAction::Stop);
                let world = self.world.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(again_ms)).await;
                    world.note("request: start");
                    let _ = tokio::time::timeout(
                        PATIENCE,
                        control.act_on_instance(instance, InstanceAction::Start),
                    )
                    .await;
                });
            }
        }
        Ok(())
    }

    /// Notes the request, and how it ended.
    fn ask<T: Send + 'static>(
        &self,
        what: String,
        request: impl Future<Output = Result<T, ControlError>> + Send + 'static,
    ) {
        let world = self.world.clone();
        world.note(format!("request: {what}"));
        tokio::spawn(async move {
            let answer = match tokio::time::timeout(PATIENCE, request).await {
                Ok(Ok(_)) => "accepted".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            world.note(format!("request: {what}: {answer}"));
        });
    }

    fn act(&self, control: ControlPlane, instance: InstanceId, action: InstanceAction) {
        let what = format!("{action:?}");
        self.ask(
            what,
            async move { control.act_on_instance(instance, action).await },
        );
    }

    fn update(&self, control: ControlPlane, instance: InstanceId, update: UpdateInstance) {
        let what = format!(
            "nodes {:?}, sync {:?}, cpu {:?}, ram {:?}, disk {:?}, parameters {:?}",
            update.nodes, update.sync_replicas, update.cpu, update.ram, update.disk, update.parameters
        );
        self.ask(
            what,
            async move { control.update_instance(instance, update).await },
        );
    }

    fn scale(&mut self, control: ControlPlane, instance: InstanceId) -> anyhow::Result<()> {
        let (nodes, sync) = if self.profile.asynchronous {
            (self.rng.random_range(1..=4), self.rng.random_range(0..=2))
        } else {
            (self.rng.random_range(2..=5), self.rng.random_range(1..=2))
        };
        let update = UpdateInstance {
            nodes: Some(NodeCount::new(nodes)?),
            sync_replicas: Some(SyncReplicas::new(sync)?).filter(|_| self.rng.random()),
            ..UpdateInstance::default()
        };
        self.update(control, instance, update);
        Ok(())
    }

    pub(crate) fn create_user(&mut self, control: ControlPlane, instance: InstanceId) -> anyhow::Result<()> {
        let request = CreateUser::new(UserName::new(self.name("user"))?, Password::new("correct horse")?);
        self.ask(format!("user {}", request.name), async move {
            control.create_user(instance, request).await
        });
        Ok(())
    }

    pub(crate) fn create_database(
        &mut self,
        control: ControlPlane,
        instance: InstanceId,
    ) -> anyhow::Result<()> {
        let name = DatabaseName::new(self.name("db"))?;
        let pick: usize = self.rng.random_range(0..100);
        self.ask(format!("database {name}"), async move {
            let users = control.users(instance, page()).await?.items;
            if users.is_empty() {
                return Ok(());
            }
            let request = CreateDatabase::new(name, users[pick % users.len()].id);
            control.create_database(instance, request).await.map(|_| ())
        });
        Ok(())
    }

    fn change_objects(&mut self, control: ControlPlane, instance: InstanceId) -> anyhow::Result<()> {
        let pick: usize = self.rng.random_range(0..100);
        if self.rng.random() {
            let password = Password::new(&format!("battery staple {pick}"))?;
            self.ask("another password".to_owned(), async move {
                let users = control.users(instance, page()).await?.items;
                if users.is_empty() {
                    return Ok(());
                }
                let update = UpdateUser {
                    password: Some(password),
                    ..UpdateUser::default()
                };
                let id = users[pick % users.len()].id;
                control.update_user(instance, id, update).await.map(|_| ())
            });
        } else {
            self.ask("another owner".to_owned(), async move {
                let users = control.users(instance, page()).await?.items;
                let databases = control.databases(instance, page()).await?.items;
                if users.is_empty() || databases.is_empty() {
                    return Ok(());
                }
                let update = UpdateDatabase {
                    owner: Some(users[pick % users.len()].id),
                    ..UpdateDatabase::default()
                };
                let id = databases[pick % databases.len()].id;
                control.update_database(instance, id, update).await.map(|_| ())
            });
        }
        Ok(())
    }

    fn delete_objects(&mut self, control: ControlPlane, instance: InstanceId) {
        let pick: usize = self.rng.random_range(0..100);
        let user = self.rng.random::<bool>();
        let what = if user {
            "deletion of a user"
        } else {
            "deletion of a database"
        };
        self.ask(what.to_owned(), async move {
            if user {
                let users = control.users(instance, page()).await?.items;
                if users.len() > 1 {
                    let id = users[pick % users.len()].id;
                    control.delete_user(instance, id, None).await?;
                }
            } else {
                let databases = control.databases(instance, page()).await?.items;
                if databases.len() > 1 {
                    let id = databases[pick % databases.len()].id;
                    control.delete_database(instance, id, None).await?;
                }
            }
            Ok(())
        });
    }
}
