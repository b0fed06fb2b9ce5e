//! [`SimSql`]: the core's `SqlExecutor` in the simulated world.

mod change;
mod observe;

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dbaas_core::access::AccessLevel;
use dbaas_core::boot::HEIR_ROLE;
use dbaas_core::cluster::Lsn;
use dbaas_core::command::SPARE_DATABASE;
use dbaas_core::infrastructure::{Endpoint, NodeRef};
use dbaas_core::observation::{
    AccessFacts, AccessMember, CatalogueFacts, DatabaseFacts, ExtensionFacts, ExtensionPlace, InsideFacts,
    InstalledExtension, ReceiverFacts, RoleFacts, SlotFacts, StandbyFacts,
};
use dbaas_core::password::Password;
use dbaas_core::scram::ScramVerifier;
use dbaas_core::secret::Secret;
use dbaas_core::sql_executor::{
    Expect, Rows, Script, ScriptMode, Session, SqlError, SqlErrorKind, SqlExecutor, SqlTarget,
};
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::json;
use uuid::Uuid;

use super::conf::ConfFile;
use super::node::{Server, SimNode};
use super::statement::{Command, parse};
use super::wal::{AdminLogin, Catalogue, Database, Disk, Role};
use super::world::{World, write_catalogue};
use super::{Place, Sickness, SimController, SimWorld};
use change::change;
use observe::{observe_catalogue, observe_extensions, observe_inside, observe_node};

/// The control plane's `lock_timeout`.
const LOCK_TIMEOUT_MS: u64 = 2_000;
/// A statement that is carried out late is late by so much at most.
const LATE_MS: u64 = 10_000;
/// How long a walsender may go on with the setting before.
const RELOAD_MS: u64 = 10;

/// One controller's way to PostgreSQL.
pub struct SimSql {
    controller: SimController,
    /// Logins that were checked: hashing takes milliseconds of real time.
    logins: Mutex<BTreeSet<(String, String)>>,
}

/// What a statement came to.
enum Answer {
    Rows(Rows),
    /// It waits for a lock, or the server is frozen: try again.
    Wait,
}

fn error(kind: SqlErrorKind, message: &str) -> SqlError {
    SqlError::new(kind, message)
}

fn refused(sqlstate: &str, message: &str) -> SqlError {
    SqlError::new(SqlErrorKind::Statement, message).with_sqlstate(sqlstate)
}

fn unknown() -> SqlError {
    error(SqlErrorKind::OutcomeUnknown, "simulated: no answer came")
}

fn value(text: impl Into<String>) -> Answer {
    Answer::Rows(vec![vec![Some(text.into())]])
}

fn boolean(value_is: bool) -> Answer {
    value(if value_is { "t" } else { "f" })
}

/// One session's work on one server.
struct Job {
    world: SimWorld,
    node: NodeRef,
    session: u64,
    script: Script,
    database: String,
    place: Place,
    /// Nobody waits for the answer any more: what is under way ends, nothing else is begun.
    abandoned: Arc<AtomicBool>,
}

impl SimSql {
    pub(super) fn new(controller: SimController) -> Self {
        SimSql {
            controller,
            logins: Mutex::default(),
        }
    }

    fn place(&self) -> Place {
        Place::Controller(self.controller.id)
    }

    /// Where a connection attempt ends.
    fn reach(&self, world: &World, target: &SqlTarget, which: Session) -> Result<NodeRef, SqlErrorKind> {
        let Some(node) = world.at(&target.endpoint) else {
            return Err(SqlErrorKind::ConnectTimeout);
        };
        if world.is_cut(self.place(), Place::Node(node)) {
            return Err(SqlErrorKind::ConnectTimeout);
        }
        let Some(found) = world.nodes.get(&node) else {
            return Err(SqlErrorKind::ConnectTimeout);
        };
        let Some(server) = found.server() else {
            return Err(SqlErrorKind::Refused);
        };
        if found.frozen {
            return Err(SqlErrorKind::ConnectTimeout);
        }
        if server.ready_at_ms > world.now_ms || server.stopping.is_some() {
            return Err(SqlErrorKind::NotReady);
        }
        // Old sessions go on.
        match server.sickness.filter(|_| which == Session::Fresh) {
            Some(Sickness::NoLogin) => return Err(SqlErrorKind::ConnectTimeout),
            Some(Sickness::Damaged) => return Err(SqlErrorKind::Statement),
            Some(Sickness::NoCommit) | None => {}
        }
        if self.may_log_in(&server.catalogue.admin, &target.password) {
            Ok(node)
        } else {
            Err(SqlErrorKind::Login)
        }
    }

    fn may_log_in(&self, login: &AdminLogin, password: &Secret) -> bool {
        match login {
            AdminLogin::Nobody => false,
            AdminLogin::Password(expected) => expected == password,
            AdminLogin::Verifier(verifier) => {
                let key = (verifier.to_string(), password.expose().to_owned());
                if self.logins.lock().contains(&key) {
                    return true;
                }
                let right = Password::new(password.expose()).is_ok_and(|password| verifier.verify(&password));
                if right {
                    self.logins.lock().insert(key);
                }
                right
            }
        }
    }
}

#[async_trait]
impl SqlExecutor for SimSql {
    async fn run(&self, target: &SqlTarget, script: &Script) -> Result<Vec<Rows>, SqlError> {
        self.controller.gate().await;
        let world = &self.controller.world;
        let delay_ms = world.with(|world| {
            let ms = world.costs.sql_ms;
            world.about(ms)
        });
        sleep(delay_ms).await;
        let reached = world.with(|world| self.reach(world, target, script.session));
        let node = match reached {
            Ok(node) => node,
            Err(kind) => {
                if kind == SqlErrorKind::ConnectTimeout {
                    sleep(u64::from(script.connect_timeout_ms)).await;
                }
                let error = error(kind, "simulated: not reached");
                return Err(if kind == SqlErrorKind::Statement {
                    error.with_sqlstate("3D000")
                } else {
                    error
                });
            }
        };
        let session = world.with(|world| {
            world.next_session += 1;
            let session = world.next_session;
            if let Some((server, _)) = world.nodes.get_mut(&node).and_then(SimNode::running) {
                server.sessions.insert(session, false);
            }
            session
        });
        let abandoned = Arc::new(AtomicBool::new(false));
        let job = Job {
            world: world.clone(),
            node,
            session,
            script: script.clone(),
            database: target.database.clone(),
            place: self.place(),
            abandoned: Arc::clone(&abandoned),
        };
        let limit = Duration::from_millis(u64::from(script.timeout_ms));
        // On its own: a statement that was sent is carried out, also when the caller is gone.
        let task = AbandonOnDrop(abandoned);
        let result = tokio::time::timeout(limit, tokio::spawn(job.run())).await;
        drop(task);
        if self.controller.is_dead() {
            pending::<()>().await;
        }
        match result {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(unknown()),
        }
    }

    fn forget(&self, _: &Endpoint) {}
}

struct AbandonOnDrop(Arc<AtomicBool>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn sleep(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

impl Job {
    async fn run(self) -> Result<Vec<Rows>, SqlError> {
        let result = self.steps().await;
        let looks = self.script.name.starts_with("observe");
        self.world.with(|world| {
            if let Some((server, _)) = world.nodes.get_mut(&self.node).and_then(SimNode::running) {
                server.sessions.remove(&self.session);
            }
            if !looks {
                let Place::Controller(id) = self.place else { return };
                let outcome = match &result {
                    Ok(_) => "ok".to_owned(),
                    Err(error) => format!("{:?} {error}", error.kind()),
                };
                let line = format!(
                    "c{id} {} on {}: {outcome}",
                    self.script.name,
                    world.label(self.node)
                );
                world.note(line);
            }
        });
        result
    }

    async fn steps(&self) -> Result<Vec<Rows>, SqlError> {
        let mut transaction = match self.script.mode {
            ScriptMode::Transaction => Some(None),
            ScriptMode::Autocommit => None,
        };
        let mut answers = Vec::new();
        let began = self.world.now_ms();
        for (index, step) in self.script.steps.iter().enumerate() {
            if self.abandoned.load(Ordering::SeqCst) {
                return Err(unknown());
            }
            let Some(command) = parse(&step.statement) else {
                let text = format!("the simulation does not know the statement {:?}", step.statement);
                self.world.with(|world| world.violation(text));
                return Err(refused("42601", "unknown statement").at_step(index));
            };
            let (delay_ms, answer_lost) = self.world.with(|world| {
                let late = world.chance(world.chaos.sql_late);
                let lost = world.chance(world.chaos.sql_unknown);
                let ms = world.costs.sql_ms;
                let delay_ms = if late {
                    world.rng.random_range(10..LATE_MS)
                } else if world.rng.random_range(0..4) == 0 {
                    world.about(ms)
                } else {
                    0
                };
                (delay_ms, lost)
            });
            sleep(delay_ms).await;
            let rows = self
                .answer(&command, &mut transaction)
                .await
                .map_err(|e| e.at_step(index))?;
            let cut = self
                .world
                .with(|world| world.is_cut(self.place, Place::Node(self.node)));
            if answer_lost || cut {
                // Whoever waits does so in vain.
                sleep(u64::from(self.script.timeout_ms) + 1).await;
                return Err(unknown());
            }
            let is_true = rows
                .first()
                .and_then(|row| row.first())
                .and_then(Option::as_deref)
                == Some("t");
            if step.expect == Expect::True && !is_true {
                return Err(error(SqlErrorKind::GuardFailed, "a guard did not hold").at_step(index));
            }
            answers.push(rows);
            if self.world.now_ms().saturating_sub(began) > u64::from(self.script.timeout_ms) {
                return Err(unknown());
            }
        }
        if self.abandoned.load(Ordering::SeqCst) {
            return Err(unknown()); // Rolled back.
        }
        if let Some(Some(catalogue)) = transaction {
            self.world.with(|world| self.commit(world, catalogue))?;
        }
        Ok(answers)
    }

    /// Carries one statement out, waiting for a lock or for a frozen server to go on.
    async fn answer(
        &self,
        command: &Command,
        transaction: &mut Option<Option<Catalogue>>,
    ) -> Result<Rows, SqlError> {
        let began = self.world.now_ms();
        // Ends: a lock is waited for two seconds; a node that stays frozen is killed or thawed some day, or
        // the world ends.
        loop {
            let answer = self
                .world
                .with(|world| self.execute(world, command, transaction))?;
            match answer {
                Answer::Rows(rows) => return Ok(rows),
                Answer::Wait => {
                    let waited = self.world.now_ms().saturating_sub(began);
                    if *command == Command::Lock && waited > LOCK_TIMEOUT_MS && !self.is_frozen() {
                        return Err(refused("55P03", "canceling statement due to lock timeout"));
                    }
                    sleep(5).await;
                }
            }
        }
    }

    fn is_frozen(&self) -> bool {
        self.world
            .with(|world| world.nodes.get(&self.node).is_some_and(|n| n.frozen))
    }

    fn commit(&self, world: &mut World, catalogue: Catalogue) -> Result<(), SqlError> {
        let Some((server, disk)) = world
            .nodes
            .get_mut(&self.node)
            .filter(|n| !n.frozen)
            .and_then(SimNode::running)
        else {
            return Err(unknown());
        };
        if !server.sessions.contains_key(&self.session) || server.in_recovery {
            return Err(unknown());
        }
        write_catalogue(&mut world.wal, server, disk, catalogue);
        world.stir(self.node.instance);
        Ok(())
    }

    fn execute(
        &self,
        world: &mut World,
        command: &Command,
        transaction: &mut Option<Option<Catalogue>>,
    ) -> Result<Answer, SqlError> {
        let now_ms = world.now_ms;
        match command {
            Command::ObserveNode => return observe_node(world, self.node, self.session),
            Command::Promote | Command::Reload => {
                let ms = world.costs.promote_ms;
                let promote_at_ms = now_ms + world.about(ms);
                let reload_at_ms = now_ms + 1 + world.rng.random_range(0..RELOAD_MS);
                let (server, disk) = match self.session(world)? {
                    Some(found) => found,
                    None => return Ok(Answer::Wait),
                };
                if *command == Command::Promote {
                    if !server.in_recovery {
                        return Err(refused("55000", "recovery is not in progress"));
                    }
                    server.promote_at_ms.get_or_insert(promote_at_ms);
                    server.receiver = None;
                } else {
                    server.conf = disk.conf.clone();
                    server.file = disk.file.clone();
                    server.sync_names_at_ms = reload_at_ms;
                    server.connect_at_ms = server.connect_at_ms.min(now_ms + 5);
                }
                world.stir(self.node.instance);
                return Ok(boolean(true));
            }
            _ => {}
        }
        let mut touched_foreign = None;
        let mut catalogue = None;
        let wal = &world.wal;
        let (server, disk) = match session_of(&mut world.nodes, self.node, self.session)? {
            Some(found) => found,
            None => return Ok(Answer::Wait),
        };
        let answer = match command {
            Command::EpochUpTo(epoch) => boolean(disk.conf.epoch.0 <= *epoch),
            Command::EpochIs(epoch) => boolean(disk.conf.epoch.0 == *epoch),
            Command::EndLockHolders => {
                let mine = self.session;
                server
                    .sessions
                    .retain(|session, holds| *session == mine || !*holds);
                boolean(true)
            }
            Command::Lock => {
                if server
                    .sessions
                    .iter()
                    .any(|(session, holds)| *holds && *session != self.session)
                {
                    return Ok(Answer::Wait);
                }
                server.sessions.insert(self.session, true);
                value("")
            }
            Command::TryLock => {
                let mine = self.session;
                let free = !server
                    .sessions
                    .iter()
                    .any(|(session, holds)| *holds && *session != mine);
                server.sessions.insert(mine, free);
                boolean(free)
            }
            Command::NewConf(text) => {
                server.new_file = ConfFile::read(text);
                boolean(true)
            }
            Command::NewHba => boolean(true),
            Command::Replace => {
                disk.file = server.new_file.clone();
                Answer::Rows(Vec::new())
            }
            Command::Unlock => {
                server.sessions.insert(self.session, false);
                boolean(true)
            }
            Command::IsStandby => boolean(server.in_recovery),
            Command::IsPrimary => boolean(!server.in_recovery),
            Command::FollowsNobody => boolean(
                server
                    .conf
                    .primary_conninfo
                    .as_deref()
                    .unwrap_or_default()
                    .is_empty()
                    && server.receiver.is_none(),
            ),
            Command::SyncNamesAre(names) => boolean(
                server
                    .conf
                    .synchronous_standby_names
                    .as_deref()
                    .unwrap_or_default()
                    == names,
            ),
            Command::AlterSystem(name, to) => {
                match name.as_str() {
                    "dbaas.epoch" => disk.conf.epoch.0 = to.parse().unwrap_or(0),
                    "primary_conninfo" => disk.conf.primary_conninfo = Some(to.clone()),
                    "primary_slot_name" => disk.conf.primary_slot_name = Some(to.clone()),
                    "synchronous_standby_names" => disk.conf.synchronous_standby_names = Some(to.clone()),
                    _ => return Err(refused("42704", "unrecognized configuration parameter")),
                }
                Answer::Rows(Vec::new())
            }
            Command::Checkpoint => {
                if !server.in_recovery {
                    disk.checkpoint_timeline = disk.timeline;
                    disk.checkpoint_redo = wal.end(&disk.log);
                    server.checkpoint_at_ms = None;
                }
                Answer::Rows(Vec::new())
            }
            // Stands for a commit that waits for nobody: it leaves nothing behind.
            Command::EmitMessage if server.sickness == Some(Sickness::NoCommit) => return Ok(Answer::Wait),
            Command::EmitMessage => value("0/0"),
            Command::CreateSlot(name) => {
                disk.slots.entry(name.clone()).or_insert(false);
                Answer::Rows(Vec::new())
            }
            Command::DropSlot(name) => {
                if !server.senders.values().any(|sender| sender.slot == *name) {
                    disk.slots.remove(name);
                }
                Answer::Rows(Vec::new())
            }
            Command::ObserveCatalogue => observe_catalogue(server, wal.end(&disk.log)),
            Command::ObserveInside(roles) => observe_inside(open_transaction(transaction, server), roles),
            Command::ObserveExtensions(names) => {
                observe_extensions(open_transaction(transaction, server), &self.database, names)
            }
            Command::ObserveLockouts => value(
                json!({"connections": true, "limit": -1, "privileges": true, "settings": []}).to_string(),
            ),
            Command::Nothing | Command::Answers(None) => Answer::Rows(Vec::new()),
            Command::Answers(Some(text)) => value(*text),
            Command::SettingUpTo(setting) => {
                boolean(open_transaction(transaction, server).setting <= *setting)
            }
            question if is_question(question) => {
                let current = open_transaction(transaction, server);
                answer_question(current, &self.database, question)
            }
            ddl => {
                if server.in_recovery {
                    return Err(refused("25006", "cannot execute it in a read-only transaction"));
                }
                let mut next = open_transaction(transaction, server).clone();
                let changed = change(&mut next, ddl, &self.database)?;
                touched_foreign = changed.violation;
                catalogue = Some(next);
                changed.answer
            }
        };
        if let Some(next) = catalogue {
            match transaction {
                Some(open) => *open = Some(next),
                None => write_catalogue(&mut world.wal, server, disk, next),
            }
        }
        if !matches!(command, Command::ObserveCatalogue | Command::ObserveInside(_)) {
            world.stir(self.node.instance);
        }
        if let Some(what) = touched_foreign {
            world.violation(format!("{what}, which the control plane did not make"));
        }
        Ok(answer)
    }

    fn session<'a>(&self, world: &'a mut World) -> Result<Option<(&'a mut Server, &'a mut Disk)>, SqlError> {
        session_of(&mut world.nodes, self.node, self.session)
    }
}

/// The session's server; `None`: it is frozen.
fn session_of(
    nodes: &mut std::collections::BTreeMap<NodeRef, SimNode>,
    node: NodeRef,
    session: u64,
) -> Result<Option<(&mut Server, &mut Disk)>, SqlError> {
    let Some(found) = nodes.get_mut(&node) else {
        return Err(unknown());
    };
    let frozen = found.frozen;
    let Some((server, disk)) = found.running() else {
        return Err(unknown());
    };
    if !server.sessions.contains_key(&session) {
        return Err(unknown());
    }
    Ok((!frozen).then_some((server, disk)))
}

/// What the open transaction sees.
fn open_transaction<'a>(transaction: &'a Option<Option<Catalogue>>, server: &'a Server) -> &'a Catalogue {
    match transaction {
        Some(Some(catalogue)) => catalogue,
        _ => &server.catalogue,
    }
}

fn is_question(command: &Command) -> bool {
    use Command::*;
    matches!(
        command,
        RoleIsOurs(..)
            | DatabaseIsOurs(..)
            | DatabaseIsNobodys(_)
            | OwnsNoRegisteredDatabase(_)
            | OwnsNoDatabase(_)
            | RoleHasOid(..)
            | InDatabase(_)
            | IsOwnerHere(..)
            | RoleExists(_)
            | RegisterIsMissing
            | True
    )
}

/// What a guard asks of roles and databases.
fn answer_question(current: &Catalogue, here: &str, question: &Command) -> Answer {
    let is_registered = |oid: Option<u32>, id: &str| {
        let id = Uuid::parse_str(id).ok();
        boolean(oid.is_some_and(|oid| id.is_some() && current.registered(oid) == id))
    };
    let role = |name: &str| current.roles.get(name).map(|role| role.oid);
    let database = |name: &str| current.databases.get(name).map(|database| database.oid);
    let owned = |name: &str| {
        let name = name.to_owned();
        current.databases.values().filter(move |d| d.owner == name)
    };
    match question {
        Command::RoleIsOurs(name, id) => is_registered(role(name), id),
        Command::DatabaseIsOurs(name, id) => is_registered(database(name), id),
        Command::DatabaseIsNobodys(name) => {
            boolean(database(name).and_then(|oid| current.registered(oid)).is_none())
        }
        Command::OwnsNoRegisteredDatabase(name) => {
            boolean(!owned(name).any(|d| current.registered(d.oid).is_some()))
        }
        Command::OwnsNoDatabase(name) => boolean(owned(name).next().is_none()),
        Command::RoleHasOid(name, oid) => boolean(role(name) == Some(*oid)),
        Command::InDatabase(oid) => boolean(database(here) == Some(*oid)),
        Command::IsOwnerHere(name, oid) => {
            let owner = current.databases.get(here).map(|d| d.owner.as_str());
            boolean(owner == Some(name) && role(name) == Some(*oid))
        }
        Command::RoleExists(name) => boolean(role(name).is_some()),
        Command::RegisterIsMissing => boolean(current.register.is_none()),
        _ => boolean(true),
    }
}
