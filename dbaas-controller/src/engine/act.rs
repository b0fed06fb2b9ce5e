//! Acting: performs a plan's actions and reports. Makes no decision.

use std::sync::Arc;
use std::time::Duration;

use dbaas_core::command;
use dbaas_core::id::{NodeId, UserId};
use dbaas_core::infrastructure::{Endpoint, InfraError};
use dbaas_core::instance::InstanceRecord;
use dbaas_core::observation::Observation;
use dbaas_core::password::Password;
use dbaas_core::plan::{Action, GoneObject, Outcome, RepairTarget};
use dbaas_core::scram::{Iterations, ScramVerifier};
use dbaas_core::secret::Secret;
use dbaas_core::sql_executor::{Rows, Script, SqlError, SqlErrorKind};
use dbaas_core::user::UserRecord;
use rand::Rng as _;
use uuid::Uuid;

use super::observe::{node_ref, target};
use crate::credentials::Credentials;
use crate::ports::Ports;

mod drop;
mod extensions;

/// How long, and how often, a server that is just being started is asked for its first login. A user waits
/// for it.
const FIRST_LOGIN_PATIENCE: Duration = Duration::from_millis(500);
const FIRST_LOGIN_EVERY: Duration = Duration::from_millis(2);
/// How long a look may take that is made for the sake of its login.
const FIRST_LOOK_MS: u32 = 500;

/// Everything that performing an action needs; made per pass.
pub(super) struct Stage {
    pub(super) ports: Arc<Ports>,
    pub(super) record: InstanceRecord,
    pub(super) users: Vec<UserRecord>,
    pub(super) credentials: Credentials,
    pub(super) observation: Observation,
}

/// What an action that did not fail came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// All of it is done.
    Whole,
    /// There is more to do of it.
    Part {
        /// So much.
        left: u64,
        /// So much was done now.
        moved: u64,
    },
}

/// Why an action failed. For people; holds no secrets.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(super) struct ActionError {
    message: String,
    outcome: Outcome,
    /// The same may succeed at once, and nothing of what was asked for is wrong: no login came about in time,
    /// say.
    passing: bool,
}

impl ActionError {
    /// How it failed.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether it says something of a user or database after this many failures in a row before it: a login
    /// that a busy machine gives too late does not.
    pub(super) fn is_telling(&self, failures: u32) -> bool {
        !self.passing || failures >= PASSING_FAILURES
    }
}

/// So many failures in a row that may pass are one that is told.
const PASSING_FAILURES: u32 = 3;
/// A lock was not to be had in time; an object is in use.
const HELD_UP: [&str; 2] = ["55P03", "55006"];

impl From<InfraError> for ActionError {
    fn from(error: InfraError) -> Self {
        failed(error.to_string())
    }
}

impl From<SqlError> for ActionError {
    fn from(error: SqlError) -> Self {
        let held_up = error.sqlstate().is_some_and(|code| HELD_UP.contains(&code));
        ActionError {
            message: error.to_string(),
            outcome: if held_up { Outcome::HeldUp } else { Outcome::Failed },
            passing: error.is_retryable(),
        }
    }
}

/// An error with this message.
pub(super) fn failed(message: impl Into<String>) -> ActionError {
    ActionError {
        message: message.into(),
        outcome: Outcome::Failed,
        passing: false,
    }
}

/// Two actions with the same key are never performed at the same time, and a failure of one holds the next
/// one off.
pub(super) fn key(action: &Action) -> String {
    let node = action.node();
    let name = action.kind();
    match action {
        Action::Seal { epoch, .. }
        | Action::EndConflicts { epoch, .. }
        | Action::Promote { epoch, .. }
        | Action::Follow { epoch, .. } => {
            format!("{name}/{node}/{epoch}")
        }
        Action::Start { boot, .. } => format!("{name}/{node}/{}", boot.epoch),
        Action::PowerOff { mode, .. } => format!("{name}/{node}/{mode:?}"),
        _ => match object(action) {
            Some(id) => format!("{name}/{node}/{id}"),
            None => format!("{name}/{node}"),
        },
    }
}

/// The user or database that an action is about.
pub(super) fn object(action: &Action) -> Option<Uuid> {
    match action {
        Action::PutRole { user, .. } | Action::DropRole { user, .. } => Some(user.uuid()),
        Action::Adopt { object, .. } | Action::Forget { object, .. } => Some(object.uuid()),
        Action::CreateDatabase { database, .. }
        | Action::TransferObjects { database, .. }
        | Action::AlterDatabase { database, .. }
        | Action::ChangeAccess { database, .. }
        | Action::ChangeExtensions { database, .. }
        | Action::DropAccessRoles { database, .. }
        | Action::DropDatabase { database, .. } => Some(database.uuid()),
        Action::RepairAccess { target, .. } => match target {
            RepairTarget::Database { id, .. } => Some(id.uuid()),
            RepairTarget::User { id, .. } => Some(id.uuid()),
        },
        _ => None,
    }
}

/// Whether the first action makes what the second one says that it comes after.
pub(super) fn precedes(first: &Action, second: &Action) -> bool {
    match (first, second) {
        (Action::PutRole { user, .. }, Action::CreateDatabase { after, .. }) => *after == Some(*user),
        _ => false,
    }
}

/// No action is waited for longer. What it then came to is seen by looking.
pub(super) fn deadline(action: &Action) -> Duration {
    match action {
        Action::Apply(_) => Duration::from_secs(600),
        Action::PowerOff { .. } | Action::Checkpoint { .. } | Action::CreateDatabase { .. } => {
            Duration::from_secs(90)
        }
        Action::DropRole { .. }
        | Action::TransferObjects { .. }
        | Action::ChangeAccess { .. }
        | Action::ChangeExtensions { .. } => Duration::from_secs(300),
        _ => Duration::from_secs(60),
    }
}

impl Stage {
    /// Performs one action.
    pub(super) async fn perform(&self, action: &Action) -> Result<Done, ActionError> {
        let infrastructure = &self.ports.infrastructure;
        let at = |node: NodeId| node_ref(&self.record, node);
        match action {
            Action::Apply(spec) => infrastructure.apply(spec).await?,
            Action::Start { node, boot } => {
                let recipe = boot.recipe(&self.credentials.admin, &self.credentials.replication);
                if let Ok(endpoint) = self.endpoint(*node) {
                    self.ports.sql.forget(&endpoint);
                }
                infrastructure.start(at(*node), &recipe).await?;
            }
            Action::PowerOff { node, mode } => {
                infrastructure.power_off(at(*node), *mode).await?;
                if let Ok(endpoint) = self.endpoint(*node) {
                    self.ports.sql.forget(&endpoint);
                }
            }
            Action::Remove { node, data } => infrastructure.remove(at(*node), *data).await?,
            Action::Bootstrap { node, slots } => self.bootstrap(*node, slots).await?,
            Action::Seal {
                node,
                epoch,
                closed_names,
            } => {
                self.run(*node, &command::seal(*epoch, closed_names.as_deref()))
                    .await?;
            }
            Action::EndConflicts { node, epoch } => {
                self.run(*node, &command::end_replay_conflicts(*epoch)).await?;
            }
            Action::Promote {
                node,
                epoch,
                closed_names,
            } => {
                self.run(*node, &command::promote(*epoch, closed_names)).await?;
            }
            Action::MarkHistory { node, epoch } => self.run(*node, &command::mark_history(*epoch)).await?,
            Action::SetSyncNames {
                node,
                epoch,
                setting,
                names,
            } => {
                self.run(*node, &command::set_sync_names(*epoch, *setting, names))
                    .await?;
            }
            Action::Follow {
                node,
                epoch,
                conninfo,
                slot,
                closed_names,
            } => {
                self.run(
                    *node,
                    &command::follow(*epoch, conninfo, slot, closed_names.as_deref()),
                )
                .await?;
            }
            Action::Reconfigure {
                node,
                epoch,
                configuration,
            } => {
                self.run(*node, &command::reconfigure(*epoch, configuration))
                    .await?;
            }
            Action::Checkpoint { node } => self.run(*node, &command::checkpoint()).await?,
            Action::CreateSlots { node, names } => self.run(*node, &command::create_slots(names)).await?,
            Action::DropSlots { node, names } => self.run(*node, &command::drop_slots(names)).await?,
            Action::PutRole { node, user, exists } => {
                let user = self.user(*user)?;
                let script = if *exists {
                    command::alter_role(&user.name, user.id.uuid(), &user.verifier)
                } else {
                    command::create_role(&user.name, user.id.uuid(), &user.verifier)
                };
                self.run(*node, &script).await?;
            }
            Action::MakeRegister { node, known } => self.run(*node, &command::make_register(known)).await?,
            Action::Adopt { node, object, name } => {
                let script = match object {
                    GoneObject::User(id) => command::adopt_role(name, *id),
                    GoneObject::Database(id) => command::adopt_database(name, *id),
                };
                self.run(*node, &script).await?;
            }
            Action::Forget { node, object } => self.run(*node, &command::forget(*object)).await?,
            Action::DropRole {
                node,
                user,
                role,
                databases,
            } => {
                return self.drop_role(*node, *user, role, databases).await;
            }
            Action::CreateDatabase {
                node,
                database,
                name,
                owner,
                source,
                after: _,
            } => {
                for script in command::create_database(name, database.uuid(), owner, *source) {
                    self.run(*node, &script).await?;
                }
            }
            Action::AlterDatabase {
                node,
                database,
                name,
                owner,
                owner_id,
                grantors,
            } => {
                let id = database.uuid();
                let alter = command::alter_database_owner(name, id, owner, owner_id.uuid(), grantors);
                self.run(*node, &alter).await?;
                self.run(*node, &command::end_sessions_without_right(name.as_str(), id))
                    .await?;
            }
            Action::TransferObjects { node, transfer, .. } => {
                return self.transfer(*node, transfer).await;
            }
            Action::ChangeAccess {
                node,
                database,
                oid,
                name,
                change,
            } => {
                let id = database.uuid();
                if change.prepare {
                    self.run(*node, &command::create_access_roles(id)).await?;
                }
                for script in command::change_access(name, id, *oid, change) {
                    self.run_waiting(*node, name.as_str(), &script).await?;
                }
            }
            Action::ChangeExtensions {
                node,
                oid,
                name,
                changes,
                ..
            } => self.change_extensions(*node, *oid, name, changes).await?,
            Action::RepairAccess {
                node,
                target,
                lockouts,
            } => {
                let script = match target {
                    RepairTarget::Database { id, name, owner } => {
                        command::repair_database(name, id.uuid(), owner, lockouts)
                    }
                    RepairTarget::User { id, name } => command::repair_role(name, id.uuid(), lockouts),
                };
                self.run(*node, &script).await?;
            }
            Action::DropAccessRoles { node, database } => {
                self.run(*node, &command::drop_access_roles(database.uuid()))
                    .await?;
            }
            Action::DropDatabase {
                node,
                database,
                name,
                registered,
            } => {
                self.drop_database(*node, *database, name, *registered).await?;
            }
        }
        Ok(Done::Whole)
    }

    fn endpoint(&self, node: NodeId) -> Result<Endpoint, ActionError> {
        self.observation
            .infra(node)
            .and_then(|n| n.endpoint.clone())
            .or_else(|| self.record.node(node).and_then(|n| n.endpoint.clone()))
            .ok_or_else(|| failed("the node has no address yet"))
    }

    fn user(&self, id: UserId) -> Result<&UserRecord, ActionError> {
        self.users
            .iter()
            .find(|u| u.id == id)
            .ok_or_else(|| failed("the user is gone"))
    }

    async fn run(&self, node: NodeId, script: &Script) -> Result<(), ActionError> {
        self.run_in(node, "postgres", script).await
    }

    async fn run_in(&self, node: NodeId, database: &str, script: &Script) -> Result<(), ActionError> {
        self.ask_in(node, database, script).await.map(drop)
    }

    async fn ask_in(&self, node: NodeId, database: &str, script: &Script) -> Result<Vec<Rows>, ActionError> {
        let mut target = target(&self.endpoint(node)?, &self.credentials.admin);
        database.clone_into(&mut target.database);
        Ok(self.ports.sql.run(&target, script).await?)
    }

    /// The first login to a new cluster: with our own password, or with the one that its data directory was
    /// made with.
    async fn bootstrap(&self, node: NodeId, slots: &[String]) -> Result<(), ActionError> {
        let admin = verifier(&self.credentials.admin)?;
        let replication = verifier(&self.credentials.replication)?;
        let (own_password, roles) = (
            command::own_password(&admin),
            command::bootstrap(&admin, &replication, slots),
        );
        let endpoint = self.endpoint(node)?;
        let ours = target(&endpoint, &self.credentials.admin);
        let first = self
            .observation
            .infra(node)
            .and_then(|n| n.bootstrap_password.clone());
        // The data directory's own first, then ours: it was changed already by an attempt whose answer was
        // lost.
        let mut tries = Vec::new();
        tries.extend(first.map(|password| (target(&endpoint, &password), &own_password)));
        tries.push((ours.clone(), &roles));
        let until = tokio::time::Instant::now() + FIRST_LOGIN_PATIENCE;
        let mut tried = tries.as_slice();
        while let [(target, script), others @ ..] = tried {
            match self.ports.sql.run(target, script).await {
                Ok(_) if others.is_empty() => return Ok(()),
                Ok(_) => {
                    // Whoever looks next logs in with the new password, which takes as long as making the
                    // roles.
                    let login = command::observe_node(FIRST_LOOK_MS);
                    let roles = self.ports.sql.run(target, &roles);
                    let (roles, _) = tokio::join!(roles, self.ports.sql.run(&ours, &login));
                    return roles.map(drop).map_err(Into::into);
                }
                Err(error) => match error.kind() {
                    SqlErrorKind::Login if !others.is_empty() => tried = others,
                    SqlErrorKind::Refused | SqlErrorKind::NotReady if tokio::time::Instant::now() < until => {
                        tokio::time::sleep(FIRST_LOGIN_EVERY).await;
                    }
                    // Still starting: no failure. The next look finds it so, and this is done again.
                    SqlErrorKind::Refused | SqlErrorKind::NotReady => return Ok(()),
                    _ => return Err(error.into()),
                },
            }
        }
        Ok(())
    }
}

/// Of a password that [`Credentials::generate`] made: hashed in some microseconds.
fn verifier(secret: &Secret) -> Result<ScramVerifier, ActionError> {
    let password = Password::new(secret.expose()).map_err(|e| failed(e.to_string()))?;
    let salt: [u8; 16] = rand::rng().random();
    let rounds = Iterations::OF_RANDOM_PASSWORD;
    Ok(ScramVerifier::derive(&password, salt, rounds))
}
