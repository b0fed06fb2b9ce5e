//! [`check_structures`]: whether the tables and indexes of every node are sound, as `pg_amcheck` asks.
//!
//! It asks by SQL and not with the program: so it works on every node wherever it runs, standbys included,
//! and says which node it was. Every block of every table is read on the way, so that PostgreSQL compares its
//! checksum (where it does not have it in memory).
//!
//! Source: PostgreSQL documentation, F.1 (amcheck) and `src/bin/pg_amcheck/pg_amcheck.c`.

use std::time::{Duration, Instant};

use dbaas_core::infrastructure::Endpoint;
use tokio::time::sleep;

use crate::client::{Access, Client, ClientOptions, Failure, Target};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

const DATABASES: &str = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1";

/// Tables, materialised views, TOAST tables and catalogues; one row per broken tuple. What is not logged is
/// not on a standby.
const TABLES: &str = "SELECT c.oid::regclass, v.blkno, v.offnum, v.msg FROM pg_class c \
     CROSS JOIN LATERAL verify_heapam(c.oid, check_toast => true) v \
     WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap')";

/// Every B-tree in itself and against its table: an error names the first that is broken.
const INDEXES: &str = "SELECT bt_index_check(c.oid, heapallindexed => true) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid \
     WHERE c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid \
     AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')";

/// The same, and the pages of each level against those above: takes a lock that there is on a primary only.
const INDEXES_OF_PRIMARY: &str = "SELECT bt_index_parent_check(c.oid, heapallindexed => true, rootdescend => true) FROM pg_class c \
     JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid \
     AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'btree')";

/// A node could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the structures of {database} on {endpoint} cannot be checked")]
pub struct AmcheckError {
    /// Which node.
    pub endpoint: Endpoint,
    /// Which database.
    pub database: String,
    /// Why.
    #[source]
    pub source: Failure,
}

/// A table or an index that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// On which node.
    pub endpoint: Endpoint,
    /// In which database.
    pub database: String,
    /// What PostgreSQL says about it.
    pub message: String,
}

/// Installs the extension in every database, through the primary. `false`: this PostgreSQL does not have it.
///
/// Standbys have it when they have replayed so far: check after that. The role of `login` has to be a
/// superuser.
pub async fn install_amcheck(login: &Target, deadline: Instant) -> Result<bool, AmcheckError> {
    let mut node = Node::new(login.clone(), Access::ReadWrite);
    let available = node.column(
        "SELECT name FROM pg_available_extensions WHERE name = 'amcheck'",
        deadline,
    );
    if available.await?.is_empty() {
        return Ok(false);
    }
    for database in node.column(DATABASES, deadline).await? {
        let mut node = Node::new(
            Target {
                database,
                ..login.clone()
            },
            Access::ReadWrite,
        );
        let install = "CREATE EXTENSION IF NOT EXISTS amcheck SCHEMA pg_catalog";
        node.column(install, deadline).await?;
    }
    Ok(true)
}

/// Looks at every table and every B-tree of every database on every node. Empty: all are sound.
pub async fn check_structures(
    endpoints: &[Endpoint],
    login: &Target,
    within: Duration,
) -> Result<Vec<Corruption>, AmcheckError> {
    let deadline = Instant::now() + within;
    let mut found = Vec::new();
    for endpoint in endpoints {
        let at = |database: String| Target {
            database,
            ..login.at(vec![endpoint.clone()])
        };
        let mut node = Node::new(at(login.database.clone()), Access::Any);
        let standby = node.column("SELECT pg_is_in_recovery()", deadline).await? == ["t"];
        for database in node.column(DATABASES, deadline).await? {
            let mut node = Node::new(at(database.clone()), Access::Any);
            let indexes = if standby { INDEXES } else { INDEXES_OF_PRIMARY };
            for sql in [TABLES, indexes] {
                let messages = node.findings(sql, deadline).await?;
                found.extend(messages.into_iter().map(|message| Corruption {
                    endpoint: endpoint.clone(),
                    database: database.clone(),
                    message,
                }));
            }
        }
    }
    Ok(found)
}

struct Node {
    endpoint: Endpoint,
    database: String,
    client: Client,
}

impl Node {
    fn new(target: Target, access: Access) -> Self {
        let options = ClientOptions {
            access,
            statement_timeout: STATEMENT_TIMEOUT,
            settings: vec![("search_path", "pg_catalog")],
            ..ClientOptions::default()
        };
        Node {
            endpoint: target.hosts.first().cloned().unwrap_or(Endpoint {
                host: String::new(),
                port: 0,
            }),
            database: target.database.clone(),
            client: Client::new(target, options),
        }
    }

    fn failed(&self, source: Failure) -> AmcheckError {
        AmcheckError {
            endpoint: self.endpoint.clone(),
            database: self.database.clone(),
            source,
        }
    }

    /// The first column of a result.
    async fn column(&mut self, sql: &str, deadline: Instant) -> Result<Vec<String>, AmcheckError> {
        let rows = self
            .client
            .send_until_done(sql, deadline)
            .await
            .map_err(|e| self.failed(e))?;
        Ok(rows
            .into_iter()
            .filter_map(|row| row.into_iter().next().flatten())
            .collect())
    }

    /// What a check says. A standby may cancel it for the sake of replay: then again.
    async fn findings(&mut self, sql: &str, deadline: Instant) -> Result<Vec<String>, AmcheckError> {
        loop {
            match self.client.send_until_done(sql, deadline).await {
                Ok(rows) => {
                    let said = rows
                        .into_iter()
                        .map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(" "));
                    return Ok(said.filter(|message| !message.is_empty()).collect());
                }
                // Data or an index are corrupted; an internal error: what amcheck says where a page makes no
                // sense.
                Err(Failure::Refused { sqlstate, message })
                    if ["XX001", "XX002", "XX000"].contains(&sqlstate.as_str()) =>
                {
                    return Ok(vec![message]);
                }
                // Something was dropped meanwhile, deadlocked, or stood in the way of replay.
                Err(Failure::Refused { sqlstate, .. })
                    if ["40001", "40P01", "42P01", "55P03"].contains(&sqlstate.as_str())
                        && Instant::now() < deadline =>
                {
                    sleep(POLL).await;
                }
                Err(failure) => return Err(self.failed(failure)),
            }
        }
    }
}
