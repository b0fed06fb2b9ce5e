//! [`compare_nodes`]: whether all nodes of a cluster hold the same rows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dbaas_core::infrastructure::Endpoint;
use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::Rows;
use tokio::time::sleep;

use crate::client::{Access, Client, ClientOptions, Failure, Target};

const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// Why nodes could not be compared.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CompareError {
    /// No node, or more than one, is a primary.
    #[error("{} primaries among the nodes", .0.len())]
    NotOnePrimary(Vec<Endpoint>),
    /// A node does not answer.
    #[error("node {endpoint} cannot be asked")]
    Unreachable {
        /// Which.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: Failure,
    },
    /// A standby did not replay up to the primary's position in time.
    #[error("standby {endpoint} replayed {replayed} and not {wanted}")]
    NotCaughtUp {
        /// Which.
        endpoint: Endpoint,
        /// Where it is.
        replayed: String,
        /// Where the primary was.
        wanted: String,
    },
}

/// A table, on all nodes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// The database.
    pub database: String,
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

/// The rows of a table on a node, in brief: equal contents have equal sums, whatever the order of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSum {
    /// Number of rows.
    pub rows: u64,
    /// Two independent 64-bit hashes of each row, each added up.
    pub hash: String,
}

/// A table that is not the same everywhere: what each node has, in the order of the endpoints; `None`: no
/// such table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which.
    pub name: TableName,
    /// One entry per node.
    pub sums: Vec<Option<TableSum>>,
}

/// What [`compare_nodes`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The primary.
    pub primary: Endpoint,
    /// The primary's flushed position that all standbys have replayed.
    pub lsn: String,
    /// Tables compared.
    pub tables: usize,
    /// Rows compared, on one node.
    pub rows: u64,
    /// What is not the same.
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// All nodes hold the same.
    pub fn is_equal(&self) -> bool {
        self.differences.is_empty()
    }
}

type Sums = BTreeMap<TableName, TableSum>;

/// Waits until every standby has replayed what the primary has flushed, then compares all permanent tables of
/// all databases, and the roles.
///
/// Differences are looked at again until the deadline: a commit that waits for its standby is visible there
/// before it is on the primary. Writers have to be stopped. The role of `login` (its hosts are not used) has
/// to be a superuser.
pub async fn compare_nodes(
    endpoints: &[Endpoint],
    login: &Target,
    within: Duration,
) -> Result<Comparison, CompareError> {
    let deadline = Instant::now() + within;
    let mut last = compare_once(endpoints, login, deadline).await?;
    while !last.is_equal() && Instant::now() < deadline {
        sleep(POLL).await;
        match compare_once(endpoints, login, deadline).await {
            Ok(comparison) => last = comparison,
            // The deadline came in the middle of it: what was seen before stands.
            Err(_) if Instant::now() >= deadline => break,
            Err(error) => return Err(error),
        }
    }
    Ok(last)
}

async fn compare_once(
    endpoints: &[Endpoint],
    login: &Target,
    deadline: Instant,
) -> Result<Comparison, CompareError> {
    let (primary, lsn) = caught_up(endpoints, login, deadline).await?;
    let mut sums = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        sums.push(node_sums(endpoint, login, deadline).await?);
    }
    let mut names: Vec<&TableName> = sums.iter().flat_map(BTreeMap::keys).collect();
    names.sort_unstable();
    names.dedup();
    let mut differences = Vec::new();
    for name in &names {
        let of_all: Vec<Option<&TableSum>> = sums.iter().map(|sums: &Sums| sums.get(name)).collect();
        if of_all.windows(2).any(|pair| pair[0] != pair[1]) {
            let sums = of_all.into_iter().map(Option::<&TableSum>::cloned).collect();
            differences.push(Difference {
                name: (*name).clone(),
                sums,
            });
        }
    }
    let rows = sums
        .first()
        .map_or(0, |sums| sums.values().map(|sum| sum.rows).sum());
    Ok(Comparison {
        primary,
        lsn,
        tables: names.len(),
        rows,
        differences,
    })
}

/// The one primary, and its position that all standbys have replayed.
async fn caught_up(
    endpoints: &[Endpoint],
    login: &Target,
    deadline: Instant,
) -> Result<(Endpoint, String), CompareError> {
    let (mut primaries, mut standbys) = (Vec::new(), Vec::new());
    for endpoint in endpoints {
        let mut node = Node::new(endpoint, login, &login.database);
        let in_recovery = node
            .ask(&Statement::fixed("SELECT pg_is_in_recovery()"), deadline)
            .await?;
        if cell(&in_recovery) == "t" {
            standbys.push(node)
        } else {
            primaries.push(node)
        }
    }
    let [primary] = primaries.as_mut_slice() else {
        return Err(CompareError::NotOnePrimary(
            primaries.into_iter().map(|node| node.endpoint).collect(),
        ));
    };
    let lsn = cell(
        &primary
            .ask(&Statement::fixed("SELECT pg_current_wal_flush_lsn()"), deadline)
            .await?,
    );
    let ask = Statement::fixed("SELECT coalesce(pg_last_wal_replay_lsn() >= ")
        .literal(&lsn)
        .raw("::pg_lsn, false), pg_last_wal_replay_lsn()");
    for standby in &mut standbys {
        loop {
            let rows = standby.ask(&ask, deadline).await?;
            if cell(&rows) == "t" {
                break;
            }
            if Instant::now() >= deadline {
                let replayed = rows
                    .first()
                    .and_then(|row| row.get(1)?.clone())
                    .unwrap_or_default();
                return Err(CompareError::NotCaughtUp {
                    endpoint: standby.endpoint.clone(),
                    replayed,
                    wanted: lsn,
                });
            }
            sleep(POLL).await;
        }
    }
    Ok((primary.endpoint.clone(), lsn))
}

async fn node_sums(endpoint: &Endpoint, login: &Target, deadline: Instant) -> Result<Sums, CompareError> {
    let mut sums = Sums::new();
    let mut node = Node::new(endpoint, login, &login.database);
    let databases = node
        .ask(
            &Statement::fixed("SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"),
            deadline,
        )
        .await?;
    let roles = TableName {
        database: String::new(),
        schema: "pg_catalog".into(),
        table: "pg_authid".into(),
    };
    let sum = node.sum(&roles, deadline).await?;
    sums.insert(roles, sum);
    for database in databases.iter().filter_map(|row| row.first()?.as_deref()) {
        let mut node = Node::new(endpoint, login, database);
        let tables = node.ask(&Statement::fixed(USER_TABLES), deadline).await?;
        for row in tables {
            if let [Some(schema), Some(table)] = row.as_slice() {
                let name = TableName {
                    database: database.to_owned(),
                    schema: schema.clone(),
                    table: table.clone(),
                };
                let sum = node.sum(&name, deadline).await?;
                sums.insert(name, sum);
            }
        }
    }
    Ok(sums)
}

/// Unlogged and temporary tables are not replicated.
const USER_TABLES: &str = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' \
     AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')";

struct Node {
    endpoint: Endpoint,
    client: Client,
}

impl Node {
    fn new(endpoint: &Endpoint, login: &Target, database: &str) -> Self {
        let target = Target {
            database: database.to_owned(),
            ..login.at(vec![endpoint.clone()])
        };
        let options = ClientOptions {
            access: Access::Any,
            statement_timeout: STATEMENT_TIMEOUT,
            settings: vec![
                ("search_path", "pg_catalog"),
                ("DateStyle", "ISO"),
                ("TimeZone", "UTC"),
            ],
            ..ClientOptions::default()
        };
        Node {
            endpoint: endpoint.clone(),
            client: Client::new(target, options),
        }
    }

    async fn ask(&mut self, statement: &Statement, deadline: Instant) -> Result<Rows, CompareError> {
        self.client
            .send_until_done(statement.text(), deadline)
            .await
            .map_err(|source| CompareError::Unreachable {
                endpoint: self.endpoint.clone(),
                source,
            })
    }

    async fn sum(&mut self, name: &TableName, deadline: Instant) -> Result<TableSum, CompareError> {
        let statement = Statement::fixed(
            "SELECT count(*), coalesce(sum(hashtextextended((dbaas_row.*)::text, 0)::numeric), 0), \
             coalesce(sum(hashtextextended((dbaas_row.*)::text, 1)::numeric), 0) FROM ONLY ",
        )
        .ident(&name.schema)
        .raw(".")
        .ident(&name.table)
        .raw(" AS dbaas_row");
        let rows = self.ask(&statement, deadline).await?;
        let field = |index: usize| {
            rows.first()
                .and_then(|row| row.get(index)?.clone())
                .unwrap_or_default()
        };
        Ok(TableSum {
            rows: field(0).parse().unwrap_or(0),
            hash: format!("{}/{}", field(1), field(2)),
        })
    }
}

fn cell(rows: &Rows) -> String {
    rows.first()
        .and_then(|row| row.first()?.clone())
        .unwrap_or_default()
}
