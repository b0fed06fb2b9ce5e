//! How a simulated node's data is prepared and its server started.

use std::collections::{BTreeMap, BTreeSet};

use dbaas_core::boot::{ADMIN_ROLE, BootRole, Prepare};
use dbaas_core::command::SPARE_DATABASE;
use dbaas_core::config::{AutoConf, POSTGRESQL_AUTO_CONF, POSTGRESQL_CONF, PrimaryConninfo};
use dbaas_core::infrastructure::{DataState, Endpoint, ExitReason, NodeRef};

use super::World;
use crate::simulated::conf::ConfFile;
use crate::simulated::node::{Power, Preparation, Server, exit};
use crate::simulated::wal::{AdminLogin, Catalogue, Database, Disk, Payload};

impl World {
    /// Begins what a recipe says; the call was checked.
    pub(in crate::simulated) fn begin(&mut self, node: NodeRef, recipe: dbaas_core::boot::BootRecipe) {
        let cost = match &recipe.prepare {
            Prepare::Existing => 0,
            Prepare::Init { .. } => self.costs.init_ms,
            Prepare::SeedOf { .. } => 1,
            Prepare::BaseBackup { .. } => self.costs.backup_ms,
            Prepare::Rewind { .. } => self.costs.rewind_ms,
        };
        // What is there is given up when the source sends.
        let replaced = match &recipe.prepare {
            Prepare::BaseBackup { source, .. } => self.is_sent_by(node, source),
            _ => false,
        };
        if replaced {
            self.before_destroying(node, "a base backup");
        }
        let done_at_ms = self.now_ms + self.about(cost);
        self.boots += 1;
        let boot_id = format!("boot-{}", self.boots);
        let deadline_ms = self.now_ms + 30_000;
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        if replaced {
            found.disk = None;
            found.data = DataState::Incomplete;
        }
        found.boot = Some(dbaas_core::infrastructure::BootMark {
            epoch: recipe.epoch,
            boot_id,
        });
        found.prepared = Some(std::mem::discriminant(&recipe.prepare));
        found.power = Power::Preparing(Box::new(Preparation {
            recipe,
            done_at_ms,
            deadline_ms,
        }));
        self.stir(node.instance);
        self.hint(node);
    }

    pub(super) fn preparation_due(&mut self, node: NodeRef) {
        let Some(found) = self.nodes.get(&node) else {
            return;
        };
        let Power::Preparing(preparation) = &found.power else {
            return;
        };
        if preparation.done_at_ms > self.now_ms {
            return;
        }
        let recipe = preparation.recipe.clone();
        let deadline_ms = preparation.deadline_ms;
        let fails = self.chance(self.chaos.preparation_fails);
        let prepared: Result<(), ExitReason> = match &recipe.prepare {
            Prepare::Existing => {
                let complete = self
                    .nodes
                    .get(&node)
                    .is_some_and(|n| n.data == DataState::Initialised);
                if complete {
                    Ok(())
                } else {
                    Err(ExitReason::PreparationFailed)
                }
            }
            Prepare::Init {
                admin_password,
                seeds,
            } => {
                self.initialise(node, admin_password.clone(), seeds);
                Ok(())
            }
            Prepare::SeedOf { source } => match self.take_seed(node, *source) {
                Some(result) => result,
                None if deadline_ms <= self.now_ms => Err(ExitReason::SeedGone),
                None => return,
            },
            Prepare::BaseBackup { source, slot } if !fails => self.copy_base_backup(node, source, slot),
            Prepare::Rewind { source } => self.rewind(node, source, fails),
            Prepare::BaseBackup { .. } => Err(ExitReason::PreparationFailed),
        };
        if let Err(reason) = prepared {
            let Some(found) = self.nodes.get_mut(&node) else {
                return;
            };
            found.power = Power::Exited(exit(reason, "its preparation failed"));
            let line = format!("{}: preparation failed ({reason:?})", found.label);
            self.note(line);
            self.hint(node);
            return;
        }
        self.serve(node, &recipe);
    }

    fn initialise(
        &mut self,
        node: NodeRef,
        password: dbaas_core::secret::Secret,
        seeds: &[dbaas_core::id::NodeId],
    ) {
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        if found.data == DataState::Initialised {
            return; // The same epoch's own: done.
        }
        let mut disk = Disk::new();
        let mut catalogue = Catalogue {
            admin: AdminLogin::Password(password),
            ..Catalogue::default()
        };
        // Half of the data directories were made ahead.
        if node.node.uuid().as_u128().is_multiple_of(2) {
            let spare = Database {
                extensions: Default::default(),
                owner: ADMIN_ROLE.to_owned(),
                oid: catalogue.new_oid(),
                public_connects: true,
                makers: BTreeSet::new(),
            };
            catalogue.databases.insert(SPARE_DATABASE.to_owned(), spare);
        }
        self.wal.append(
            &mut disk,
            4_096,
            Payload::Catalogue(std::sync::Arc::new(catalogue)),
        );
        found.disk = Some(disk.clone());
        found.data = DataState::Initialised;
        found.seeded = seeds.iter().copied().collect();
        for seed in seeds {
            let seed = NodeRef {
                instance: node.instance,
                node: *seed,
            };
            if let Some(other) = self.nodes.get_mut(&seed)
                && other.data == DataState::Empty
            {
                other.seed = Some(disk.clone());
            }
        }
    }

    /// `None`: the copy may still come.
    fn take_seed(&mut self, node: NodeRef, source: dbaas_core::id::NodeId) -> Option<Result<(), ExitReason>> {
        let source = NodeRef {
            instance: node.instance,
            node: source,
        };
        let may_come = self
            .nodes
            .get(&source)
            .is_some_and(|n| n.data != DataState::Initialised || n.seeded.contains(&node.node));
        let found = self.nodes.get_mut(&node)?;
        if found.data == DataState::Initialised {
            return Some(Ok(()));
        }
        match found.seed.take() {
            Some(disk) => {
                found.disk = Some(disk);
                found.data = DataState::Initialised;
                Some(Ok(()))
            }
            None if may_come => None,
            None => Some(Err(ExitReason::SeedGone)),
        }
    }

    /// Writes the recipe's files and starts the server.
    fn serve(&mut self, node: NodeRef, recipe: &dbaas_core::boot::BootRecipe) {
        let text = |name: &str| {
            recipe
                .files
                .iter()
                .find(|file| file.name == name)
                .map(|file| file.content.expose().to_owned())
                .unwrap_or_default()
        };
        let conf = AutoConf::parse(&text(POSTGRESQL_AUTO_CONF)).unwrap_or_default();
        let file = ConfFile::read(&text(POSTGRESQL_CONF));
        let source = conf.primary_conninfo.as_deref();
        let source = source.and_then(|conninfo| PrimaryConninfo::parse(conninfo).ok());
        let source = source.and_then(|source| {
            let endpoint = Endpoint {
                host: source.host,
                port: source.port,
            };
            self.nodes.get(&self.at(&endpoint)?)?.server()
        });
        let needed = source.map(|server| server.started_with.hot_standby());
        if let Some(why) = file.refusal(&needed.unwrap_or_default()) {
            let Some(found) = self.nodes.get_mut(&node) else {
                return;
            };
            found.power = Power::Exited(exit(ExitReason::Died, why));
            let line = format!("{}: {why}", found.label);
            self.note(line);
            self.hint(node);
            return;
        }
        let ready_at_ms = self.now_ms + self.about(self.costs.start_ms);
        let now_ms = self.now_ms;
        let Some(found) = self.nodes.get_mut(&node) else {
            return;
        };
        let label = found.label.clone();
        let Some(disk) = found.disk.as_mut() else { return };
        if recipe.role == BootRole::Primary {
            self.wal.recover(disk);
        }
        disk.clean = false;
        disk.conf = conf.clone();
        disk.file = file.clone();
        disk.standby_signal = recipe.role == BootRole::Standby;
        let follows = conf.primary_conninfo.as_deref().is_some_and(|c| !c.is_empty());
        let line = format!(
            "{label} starts as {:?} (epoch {}, timeline {}, at {}{}, waits for {:?})",
            recipe.role,
            conf.epoch,
            disk.timeline,
            self.wal.end(&disk.log),
            if follows { ", follows" } else { "" },
            conf.synchronous_standby_names.as_deref().unwrap_or_default()
        );
        found.power = Power::Running(Box::new(Server {
            started_at_ms: now_ms,
            ready_at_ms,
            in_recovery: recipe.role == BootRole::Standby,
            sync_names: conf.synchronous_standby_names.clone().unwrap_or_default(),
            conf,
            started_with: file.clone(),
            new_file: ConfFile::default(),
            file,
            sync_names_at_ms: 0,
            receiver: None,
            received: None,
            connect_at_ms: ready_at_ms,
            promote_at_ms: None,
            checkpoint_at_ms: None,
            replayed: disk.log.len(),
            replay_stalled_until_ms: 0,
            catalogue: self.wal.catalogue(&disk.log),
            senders: BTreeMap::new(),
            sessions: BTreeMap::new(),
            waiting: Vec::new(),
            sickness: None,
            stopping: None,
            next_commit_at_ms: 0,
            checked: false,
        }));
        self.note(line);
        self.hint(node);
    }

    // ---------------------------------------------------------------- steps
}
