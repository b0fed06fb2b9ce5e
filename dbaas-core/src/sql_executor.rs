//! [`SqlExecutor`]: runs typed SQL on a node.
//!
//! # Contract
//! * A [`Script`]'s steps run in order on one session; the first step that fails, or whose [`Expect`] does
//!   not hold, ends it.
//! * A session starts with all [`SESSION_SETTINGS`], whatever the database or the role says, and
//!   `application_name` is `dbaas_controller`. So `search_path` is `pg_catalog`, and statements are not
//!   written to the server's log with their text or values.
//! * No statement waits longer for a lock than [`Script::lock_timeout_ms`] says.
//! * Sessions run with `synchronous_commit = local`: the controller's own statements never wait for a
//!   standby.
//! * Errors carry the SQLSTATE. [`SqlErrorKind::OutcomeUnknown`] is a timeout or a broken connection after a
//!   statement was sent.
//! * An executor may keep sessions for reuse, except where the script asks for a fresh one, and only for who
//!   has the same password. After any error the session is dropped.
//! * Scripts may run at the same time, to one target too: each has a session to itself, and none waits for
//!   another's end.
//! * A caller may drop the future of [`SqlExecutor::run`]. What that script holds on the server, such as
//!   locks, is let go soon: at its deadline at the latest, as after a timeout.
//!
//! `dbaas_testkit::sql_conformance` tells whether an implementation keeps the contract.

use async_trait::async_trait;

use crate::infrastructure::Endpoint;
use crate::secret::Secret;
use crate::sql::Statement;

mod session_settings;

pub use session_settings::{LEFT_ALONE, SESSION_SETTINGS, SessionSetting, Why};

/// Where a script runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlTarget {
    /// The node.
    pub endpoint: Endpoint,
    /// The database to connect to.
    pub database: String,
    /// The role to log in as.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// What a step's answer must be for the script to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Anything,
    /// The first column of the first row is `t`; anything else ends the script with
    /// [`SqlErrorKind::GuardFailed`].
    True,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to run.
    pub statement: Statement,
    /// What must come of it.
    pub expect: Expect,
}

/// Whether the steps are one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptMode {
    /// Each step commits by itself (`ALTER SYSTEM`, `CREATE DATABASE`).
    Autocommit,
    /// All steps commit together or not at all.
    Transaction,
}

/// Which session a script may run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// Any that is idle, or a new one.
    Any,
    /// A new one, opened for this script: what it sees of the server's settings is what the postmaster has
    /// now.
    Fresh,
}

/// Steps to run on one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// A stable word for logs and metrics, such as `seal`.
    pub name: &'static str,
    /// In order.
    pub steps: Vec<Step>,
    /// One transaction or not.
    pub mode: ScriptMode,
    /// Which session.
    pub session: Session,
    /// For connecting and logging in, in milliseconds.
    pub connect_timeout_ms: u32,
    /// For all steps together, in milliseconds.
    pub timeout_ms: u32,
    /// For each lock that a statement asks for, in milliseconds; `None`: half of
    /// [`timeout_ms`](Script::timeout_ms). What waits for a lock holds up everybody who comes after.
    pub lock_timeout_ms: Option<u32>,
    /// Its texts are always the same and it is run again and again: a session that has run it once may keep
    /// what it has parsed and planned (`PREPARE`). An executor is free to take no notice.
    pub is_repeated: bool,
}

impl Script {
    /// An empty script with each step committing by itself, any session, 2 s to connect and 5 s to run.
    pub fn new(name: &'static str) -> Self {
        Script {
            name,
            steps: Vec::new(),
            mode: ScriptMode::Autocommit,
            session: Session::Any,
            connect_timeout_ms: 2_000,
            timeout_ms: 5_000,
            lock_timeout_ms: None,
            is_repeated: false,
        }
    }

    /// Run again and again with the same texts. For steps that each commit by themselves.
    #[must_use]
    pub fn repeated(mut self) -> Self {
        self.is_repeated = true;
        self
    }

    /// Appends a statement.
    #[must_use]
    pub fn step(mut self, statement: Statement) -> Self {
        self.steps.push(Step {
            statement,
            expect: Expect::Anything,
        });
        self
    }

    /// Appends a statement that must answer true for the script to go on.
    #[must_use]
    pub fn guard(mut self, statement: Statement) -> Self {
        self.steps.push(Step {
            statement,
            expect: Expect::True,
        });
        self
    }

    /// All steps in one transaction.
    #[must_use]
    pub fn in_transaction(mut self) -> Self {
        self.mode = ScriptMode::Transaction;
        self
    }

    /// On a session of its own.
    #[must_use]
    pub fn on_fresh_session(mut self) -> Self {
        self.session = Session::Fresh;
        self
    }

    /// With these deadlines, in milliseconds.
    #[must_use]
    pub fn within_ms(mut self, connect_timeout_ms: u32, timeout_ms: u32) -> Self {
        self.connect_timeout_ms = connect_timeout_ms;
        self.timeout_ms = timeout_ms;
        self
    }

    /// Waiting for so long at most for each lock, in milliseconds.
    #[must_use]
    pub fn waiting_for_locks_ms(mut self, lock_timeout_ms: u32) -> Self {
        self.lock_timeout_ms = Some(lock_timeout_ms);
        self
    }
}

/// What a step answered: rows of columns in PostgreSQL's text form; `None` is NULL.
pub type Rows = Vec<Vec<Option<String>>>;

/// What went wrong, for deciding what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SqlErrorKind {
    /// Nothing listens there, or the host cannot be reached. Nothing was done.
    Refused,
    /// No answer to the connection attempt within its deadline. Nothing was done.
    ConnectTimeout,
    /// The server is starting up, shutting down or out of connection slots (57P01-57P03, 53300). Nothing was
    /// done.
    NotReady,
    /// The login was refused (class 28).
    Login,
    /// A guard step answered something else than true. The steps before it were done.
    GuardFailed,
    /// The server refused a statement, or has no such database (3D000); see the SQLSTATE.
    Statement,
    /// A statement was sent and no answer came: it may have been carried out.
    OutcomeUnknown,
}

/// Failure of a script.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SqlError {
    kind: SqlErrorKind,
    sqlstate: Option<String>,
    step: Option<usize>,
    message: String,
}

impl SqlError {
    /// An error of a kind; the message is for people and holds no secrets (PostgreSQL's primary message,
    /// without detail and statement text).
    pub fn new(kind: SqlErrorKind, message: impl Into<String>) -> Self {
        SqlError {
            kind,
            sqlstate: None,
            step: None,
            message: message.into(),
        }
    }

    /// With the five characters of the SQLSTATE.
    #[must_use]
    pub fn with_sqlstate(mut self, sqlstate: impl Into<String>) -> Self {
        self.sqlstate = Some(sqlstate.into());
        self
    }

    /// With the index of the step that failed.
    #[must_use]
    pub fn at_step(mut self, step: usize) -> Self {
        self.step = Some(step);
        self
    }

    /// The class of this error.
    pub fn kind(&self) -> SqlErrorKind {
        self.kind
    }

    /// The SQLSTATE, if the server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }

    /// The index of the step that failed; `None` where there was no session to run it on, and where the
    /// commit failed.
    pub fn step(&self) -> Option<usize> {
        self.step
    }

    /// Whether the same call may succeed later without any change by the caller.
    pub fn is_retryable(&self) -> bool {
        match self.kind {
            SqlErrorKind::Refused
            | SqlErrorKind::ConnectTimeout
            | SqlErrorKind::NotReady
            | SqlErrorKind::OutcomeUnknown => true,
            SqlErrorKind::Login | SqlErrorKind::GuardFailed | SqlErrorKind::Statement => false,
        }
    }
}

/// Runs SQL on nodes. See the module's contract.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SqlExecutor: Send + Sync + 'static {
    /// Runs the script; the answer has one entry per step.
    async fn run(&self, target: &SqlTarget, script: &Script) -> Result<Vec<Rows>, SqlError>;

    /// Forgets sessions to this endpoint: its node was switched off or removed.
    fn forget(&self, endpoint: &Endpoint);
}
