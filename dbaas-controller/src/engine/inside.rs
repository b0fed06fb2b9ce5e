//! Looking into databases, and for what locks people out: only where there is something to look after, and
//! rarely.

use std::collections::BTreeMap;

use dbaas_core::command;
use dbaas_core::database::DatabaseRecord;
use dbaas_core::detector::Look;
use dbaas_core::extension::Extensions;
use dbaas_core::id::{DatabaseId, UserId};
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::lifecycle::ObjectLifecycle;
use dbaas_core::name::{DatabaseName, UserName};
use dbaas_core::observation::{Inside, InsideFacts, LockoutFacts, Observation};
use dbaas_core::sql_executor::Script;
use dbaas_core::steady::Steady;
use futures_util::future::join_all;
use uuid::Uuid;

use super::memory::InstanceMemory;
use super::observe::target;
use crate::credentials::Credentials;
use crate::ports::Ports;
use crate::repository::Loaded;

/// Databases that one round looks into.
const LOOKED_INTO_AT_ONCE: usize = 4;
/// Repairs of access that one round looks after.
const REPAIRS_AT_ONCE: usize = 8;

/// A database to look into.
struct IntoDatabase {
    id: DatabaseId,
    name: DatabaseName,
    /// Who may use what there is of interest.
    access: bool,
    /// Users whose privileges by others are of interest.
    taken_back: Vec<UserName>,
    /// Extensions that are of interest.
    extensions: Extensions,
}

/// What is to be looked at.
pub(super) struct Wanted {
    databases: Vec<IntoDatabase>,
    repairs: Vec<(Uuid, Script)>,
}

impl Wanted {
    /// Databases with something to look after inside, whose time has come (the others' comes in the next
    /// rounds), and repairs that were asked for.
    pub(super) fn now(memory: &mut InstanceMemory, loaded: &Loaded, now: Steady, interval_ms: u64) -> Self {
        let records = loaded.databases.iter().map(|database| &database.record);
        let looked_after: Vec<_> = records
            .filter(|database| !(database.access.is_empty() && database.extensions.is_empty()))
            .collect();
        memory
            .inside
            .retain(|id, _| looked_after.iter().any(|database| database.id == *id));
        let due = |database: &&DatabaseRecord| match memory.inside.get(&database.id) {
            Some(inside) => inside.is_due(now, interval_ms),
            // It may not even exist yet: the planner says when.
            None => database.lifecycle == ObjectLifecycle::Active,
        };
        let name_of = |user: &UserId| {
            let found = loaded.users.iter().find(|known| known.record.id == *user);
            found.map(|known| known.record.name.clone())
        };
        let into = looked_after.iter().copied().filter(due).take(LOOKED_INTO_AT_ONCE);
        let databases = into.map(|database| IntoDatabase {
            id: database.id,
            name: database.name.clone(),
            access: !database.access.is_empty(),
            extensions: database.extensions.clone(),
            taken_back: database.access.taken_back.iter().filter_map(name_of).collect(),
        });
        Wanted {
            databases: databases.collect(),
            repairs: repairs(loaded),
        }
    }

    /// Whether a database is to be looked into: what is found there is held against the catalogue.
    pub(super) fn needs_catalogue(&self) -> bool {
        !self.databases.is_empty()
    }
}

/// Where to look for what locks people out.
fn repairs(loaded: &Loaded) -> Vec<(Uuid, Script)> {
    let databases = loaded.databases.iter().map(|database| &database.record);
    let databases = databases.filter(|database| database.repair.requested_at.is_some());
    let users = loaded.users.iter().map(|user| &user.record);
    let users = users.filter(|user| user.repair.requested_at.is_some());
    let of_databases = databases.map(|d| (d.id.uuid(), command::observe_database_lockouts(&d.name)));
    let of_users = users.map(|u| (u.id.uuid(), command::observe_role_lockouts(&u.name)));
    of_databases.chain(of_users).take(REPAIRS_AT_ONCE).collect()
}

/// What was seen.
#[derive(Default)]
pub(super) struct Sights {
    inside: Vec<(DatabaseId, Result<InsideFacts, String>)>,
    lockouts: BTreeMap<Uuid, LockoutFacts>,
}

impl Sights {
    /// Looks, where the primary has just shown its catalogue.
    pub(super) async fn of(
        ports: &Ports,
        record: &InstanceRecord,
        look: &Look,
        credentials: &Credentials,
        wanted: &Wanted,
    ) -> Self {
        let primary = record.cluster.as_ref().map(|cluster| cluster.primary);
        let seen = look.infrastructure.iter().flat_map(|nodes| &nodes.found);
        let endpoint = seen
            .filter(|node| Some(node.node.node) == primary)
            .find_map(|node| node.endpoint.clone())
            .or_else(|| record.node(primary?)?.endpoint.clone());
        let Some(endpoint) = endpoint.filter(|_| look.catalogue.is_some()) else {
            return Sights::default();
        };
        let inside = wanted.databases.iter().map(|database| async {
            let facts = inside(ports, &endpoint, credentials, database).await;
            (database.id, facts)
        });
        let lockouts = wanted.repairs.iter().map(|(id, script)| async {
            let answer = ports
                .sql
                .run(&target(&endpoint, &credentials.admin), script)
                .await;
            // What could not be read is looked at again.
            Some((*id, command::parse_lockouts(&answer.ok()?).ok()?))
        });
        let (inside, lockouts) = tokio::join!(join_all(inside), join_all(lockouts));
        Sights {
            inside,
            lockouts: lockouts.into_iter().flatten().collect(),
        }
    }

    /// Adds it to what else was seen.
    pub(super) fn remember(self, memory: &mut InstanceMemory, observation: &mut Observation, now: Steady) {
        observation.lockouts = self.lockouts;
        for (id, facts) in self.inside {
            let times = memory.inside.entry(id).or_default().looked(now, facts.is_ok());
            let inside = match facts {
                Ok(facts) => Inside::Seen(Box::new(facts)),
                Err(message) => Inside::Failed { message, times },
            };
            observation.inside.insert(id, inside);
        }
    }
}

async fn inside(
    ports: &Ports,
    endpoint: &Endpoint,
    credentials: &Credentials,
    database: &IntoDatabase,
) -> Result<InsideFacts, String> {
    let mut target = target(endpoint, &credentials.admin);
    database.name.as_str().clone_into(&mut target.database);
    let mut facts = InsideFacts::default();
    if database.access {
        let taken_back: Vec<&UserName> = database.taken_back.iter().collect();
        let script = command::observe_inside(database.id.uuid(), &taken_back);
        let answer = ports.sql.run(&target, &script).await.map_err(|e| e.to_string())?;
        facts = command::parse_inside(&answer).map_err(|e| e.to_string())?;
    }
    if !database.extensions.is_empty() {
        let going = &database.extensions.removed;
        let script = command::observe_extensions(database.extensions.looked_after(), going);
        let answer = ports.sql.run(&target, &script).await.map_err(|e| e.to_string())?;
        facts.extensions = command::parse_extensions(&answer).map_err(|e| e.to_string())?;
    }
    Ok(facts)
}
