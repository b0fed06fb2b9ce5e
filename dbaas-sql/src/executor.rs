//! [`PostgresExecutor`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dbaas_core::infrastructure::Endpoint;
use dbaas_core::sql_executor::{
    Expect, Rows, Script, ScriptMode, Session as Which, SqlError, SqlErrorKind, SqlExecutor, SqlTarget, Step,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_postgres::NoTls;

use crate::majors::{self, Majors};
use crate::pool::{Bounds, Pool};
use crate::session::{Opening, ServerLimits, Session};

/// Bounds of a [`PostgresExecutor`].
#[derive(Debug, Clone)]
pub struct ExecutorSettings {
    /// Idle sessions kept for one endpoint, database and user.
    pub idle_per_target: usize,
    /// Idle sessions kept in all. When there are as many, further ones are closed after use.
    pub idle_total: usize,
    /// An idle session is not used again after this time.
    pub idle_max_age: Duration,
    /// Cancel requests on their way at once. Further ones are not sent; the server's own timeout ends those
    /// statements.
    pub cancels_at_once: usize,
}

impl Default for ExecutorSettings {
    fn default() -> Self {
        ExecutorSettings {
            idle_per_target: 2,
            idle_total: 4_096,
            idle_max_age: Duration::from_secs(60),
            cancels_at_once: 16,
        }
    }
}

/// [`SqlExecutor`] over TCP to real PostgreSQL servers, 14 and later. Has to be used within a tokio runtime
/// (with I/O and time).
///
/// The role of a target has to be a superuser: sessions turn off the logging of statement texts.
///
/// Beyond the contract of the trait:
/// * A session that breaks, or a server that ends it, after a statement was sent gives
///   [`SqlErrorKind::OutcomeUnknown`], with the SQLSTATE if there is one. So does a statement that was
///   cancelled (57014, also by `statement_timeout`).
/// * The server's `statement_timeout` is a little shorter than the script's deadline.
/// * Dropping the future of [`SqlExecutor::run`] cancels the statement that it waits for.
/// * A script must not leave settings behind on its session (`SET LOCAL`, not `SET`): the next one may get
///   that session.
pub struct PostgresExecutor {
    settings: ExecutorSettings,
    pool: Pool,
    majors: Majors,
    cancels: Arc<Semaphore>,
}

impl PostgresExecutor {
    /// An executor without any session yet.
    pub fn new(settings: ExecutorSettings) -> Self {
        let bounds = Bounds {
            per_key: settings.idle_per_target,
            total: settings.idle_total,
            max_age: settings.idle_max_age,
        };
        let cancels = Arc::new(Semaphore::new(
            settings.cancels_at_once.min(Semaphore::MAX_PERMITS),
        ));
        PostgresExecutor {
            pool: Pool::new(bounds),
            majors: Majors::default(),
            cancels,
            settings,
        }
    }

    /// How many sessions are idle.
    pub fn idle_sessions(&self) -> usize {
        self.pool.len()
    }

    async fn session(
        &self,
        target: &SqlTarget,
        script: &Script,
        limits: ServerLimits,
    ) -> Result<Session, SqlError> {
        let kept = match script.session {
            Which::Any => self.pool.take(target, Instant::now()),
            Which::Fresh => None,
        };
        if let Some(session) = kept {
            return Ok(session);
        }
        let known = self.majors.of(&target.endpoint);
        let opened = match self.open(target, script, limits, known).await {
            Err(error) => match majors::learnt_from(&error) {
                // A server of another version than the one that was there before, or one whose database ends
                // every transaction that does not say otherwise: what it said is what to say otherwise.
                Some(learnt) if known != learnt => self.open(target, script, limits, learnt).await,
                _ => Err(error),
            },
            opened => opened,
        };
        if let Ok(session) = &opened {
            self.majors.learn(&target.endpoint, session.major());
        }
        opened
    }

    async fn open(
        &self,
        target: &SqlTarget,
        script: &Script,
        limits: ServerLimits,
        major: Option<u32>,
    ) -> Result<Session, SqlError> {
        let opening = Opening {
            tls: NoTls,
            connect_timeout: Duration::from_millis(script.connect_timeout_ms.into()),
            limits,
            // The server ends what this process forgot to: long after it would have been used again.
            idle_session: self.settings.idle_max_age + Duration::from_secs(30),
            major,
            cancels: Arc::clone(&self.cancels),
        };
        let connect_timeout = opening.connect_timeout;
        let mut session = Session::open(target, opening).await?;
        session.set_late(Instant::now() + connect_timeout).await?;
        Ok(session)
    }

    async fn run_script(&self, target: &SqlTarget, script: &Script) -> Result<Vec<Rows>, SqlError> {
        let limits = ServerLimits::within(script.timeout_ms, script.lock_timeout_ms);
        let ticket = self.pool.ticket();
        let mut session = self.session(target, script, limits).await?;
        let deadline = Instant::now() + Duration::from_millis(script.timeout_ms.into());
        let answers = match script.mode {
            ScriptMode::Autocommit => autocommit(&mut session, script, limits, deadline).await,
            ScriptMode::Transaction => transaction(&mut session, &script.steps, limits, deadline).await,
        }?;
        self.pool.put(target, session, ticket, Instant::now());
        Ok(answers)
    }
}

async fn autocommit(
    session: &mut Session,
    script: &Script,
    limits: ServerLimits,
    deadline: Instant,
) -> Result<Vec<Rows>, SqlError> {
    let mut answers = Vec::with_capacity(script.steps.len());
    for (index, step) in script.steps.iter().enumerate() {
        let text = step.statement.text();
        let rows = if script.is_repeated {
            session.query_again(text, limits, deadline).await
        } else {
            session.query(text, limits, deadline).await
        };
        answers.push(
            rows.and_then(|rows| checked(rows, step))
                .map_err(|error| error.at_step(index))?,
        );
    }
    Ok(answers)
}

async fn transaction(
    session: &mut Session,
    steps: &[Step],
    limits: ServerLimits,
    deadline: Instant,
) -> Result<Vec<Rows>, SqlError> {
    let mut answers = Vec::with_capacity(steps.len());
    for (index, step) in steps.iter().enumerate() {
        let text = step.statement.text();
        let rows = if index == 0 {
            // In one message: saves a round trip, and the step cannot run without its BEGIN.
            session.query(&format!("BEGIN; {text}"), limits, deadline).await
        } else {
            session.query(text, limits, deadline).await
        };
        match rows.and_then(|rows| checked(rows, step)) {
            Ok(rows) => answers.push(rows),
            Err(error) => {
                // So that the locks are gone when the caller hears of it. Where the connection is gone, so is
                // the transaction.
                if matches!(error.kind(), SqlErrorKind::GuardFailed | SqlErrorKind::Statement) {
                    let _ = session.query("ROLLBACK", limits, deadline).await;
                }
                return Err(error.at_step(index));
            }
        }
    }
    if !steps.is_empty() {
        session.query("COMMIT", limits, deadline).await?;
    }
    Ok(answers)
}

fn checked(rows: Rows, step: &Step) -> Result<Rows, SqlError> {
    let holds = match step.expect {
        Expect::Anything => true,
        Expect::True => rows
            .first()
            .and_then(|row| row.first())
            .is_some_and(|value| value.as_deref() == Some("t")),
    };
    if holds {
        Ok(rows)
    } else {
        Err(SqlError::new(
            SqlErrorKind::GuardFailed,
            "a condition of the script does not hold",
        ))
    }
}

#[async_trait]
impl SqlExecutor for PostgresExecutor {
    async fn run(&self, target: &SqlTarget, script: &Script) -> Result<Vec<Rows>, SqlError> {
        let started = Instant::now();
        let result = self.run_script(target, script).await;
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match &result {
            Ok(_) => {
                tracing::trace!(script = script.name, endpoint = %target.endpoint, elapsed_ms, "script done")
            }
            Err(error) => tracing::debug!(
                script = script.name,
                endpoint = %target.endpoint,
                elapsed_ms,
                kind = ?error.kind(),
                sqlstate = error.sqlstate(),
                step = error.step(),
                "script failed"
            ),
        }
        result
    }

    fn forget(&self, endpoint: &Endpoint) {
        self.pool.forget(endpoint);
        self.majors.forget(endpoint);
    }
}

impl Default for PostgresExecutor {
    fn default() -> Self {
        Self::new(ExecutorSettings::default())
    }
}

impl fmt::Debug for PostgresExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresExecutor")
            .field("settings", &self.settings)
            .field("idle_sessions", &self.pool.len())
            .finish()
    }
}
