//! The suite that every [`SqlExecutor`] runs: the contract of [`dbaas_core::sql_executor`] as code, on a real
//! PostgreSQL server.
//!
//! Describe your executor and a server by a [`Site`] and call [`run`] from a test, on a runtime with several
//! threads. It panics where the executor breaks the contract; the message says what was expected.
//! `dbaas-sql/tests/conformance.rs` is a whole test to copy.
//!
//! ```no_run
//! use std::sync::Arc;
//! use dbaas_core::sql_executor::{SqlExecutor, SqlTarget};
//! use dbaas_testkit::sql_conformance::{Site, run};
//!
//! struct MySite {
//!     server: SqlTarget,
//! }
//!
//! #[async_trait::async_trait]
//! impl Site for MySite {
//!     fn executor(&self) -> Arc<dyn SqlExecutor> {
//!         todo!("a new one of yours")
//!     }
//!
//!     fn target(&self) -> SqlTarget {
//!         self.server.clone()
//!     }
//! }
//!
//! # async fn example(server: SqlTarget) {
//! run(&MySite { server }).await;
//! # }
//! ```

mod deadlines;
mod reachability;
mod secrets;
mod sessions;
mod settings;
mod steps;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{Rows, Script, SqlError, SqlErrorKind, SqlExecutor, SqlTarget};

/// What to test, and against which server.
///
/// The server (PostgreSQL 14 or later) is for the suite alone: it makes databases and roles whose names begin
/// with `conformance_`, and changes settings. It asks for passwords (`scram-sha-256`). With `max_connections`
/// of 50 or less the suite also uses all of them up.
#[async_trait]
pub trait Site: Send + Sync {
    /// A new executor that has no session yet.
    fn executor(&self) -> Arc<dyn SqlExecutor>;

    /// The login of a superuser of the server, to any of its databases. The same every time.
    fn target(&self) -> SqlTarget;

    /// All that the server has written to its log. `None`: cannot be read here; what must not stand in it is
    /// not checked then.
    async fn log(&self) -> Option<String> {
        None
    }

    /// Freezes the server, so that it answers nothing: SIGSTOP to all of its processes, a paused container.
    /// `false`: there is no such thing here.
    async fn freeze(&self) -> bool {
        false
    }

    /// Undoes [`freeze`](Site::freeze).
    async fn thaw(&self) {}

    /// Another server, which is starting up and goes on doing so, such as a standby with `hot_standby = off`.
    /// It need not listen yet. `None`: there is no such thing here.
    async fn starting_up(&self) -> Option<SqlTarget> {
        None
    }

    /// How long the server may take for anything that it does at once on a machine with nothing else to do.
    fn patience(&self) -> Duration {
        Duration::from_secs(30)
    }
}

/// Runs every case, one after the other, each in a database of its own; each leaves nothing. What cannot be
/// checked on this site is named on standard error.
///
/// # Panics
/// When the executor does not do what the contract says; the message says what was expected.
pub async fn run(site: &dyn Site) {
    steps::answers_are_text_in_order(site).await;
    steps::the_first_failing_step_ends_the_script(site).await;
    steps::a_repeated_script_answers_what_is_so_now(site).await;
    steps::guards(site).await;
    steps::transactions(site).await;
    steps::each_step_commits_by_itself(site).await;
    settings::pinned_settings(site).await;
    settings::no_setting_of_a_database_reaches_a_session(site).await;
    settings::a_fresh_session_has_the_settings_of_now(site).await;
    settings::commits_wait_for_no_standby(site).await;
    sessions::fresh_and_forgotten(site).await;
    sessions::an_error_ends_its_session(site).await;
    sessions::another_password(site).await;
    sessions::a_session_that_the_server_has_ended(site).await;
    sessions::scripts_at_the_same_time(site).await;
    deadlines::statements_that_take_too_long(site).await;
    deadlines::a_session_that_breaks_midway(site).await;
    deadlines::a_caller_that_goes_away(site).await;
    reachability::logins(site).await;
    reachability::nobody_there(site).await;
    reachability::something_else_listens(site).await;
    reachability::a_server_that_starts_up(site).await;
    reachability::no_connection_slot_is_left(site).await;
    reachability::a_frozen_server(site).await;
    secrets::in_errors_and_the_log(site).await;
}

/// What a call may take beyond its deadline on a machine that is busy. The statements that must not be waited
/// for take far longer.
const SLACK: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// A database on the server that is tested, and an executor that is used for nothing else.
struct Case<'a> {
    site: &'a dyn Site,
    executor: Arc<dyn SqlExecutor>,
    target: SqlTarget,
}

impl<'a> Case<'a> {
    async fn new(site: &'a dyn Site, name: &str) -> Self {
        let admin = Admin::new(site);
        let database = format!("conformance_{name}");
        admin.drop_database(&database).await;
        admin
            .run(Statement::fixed("CREATE DATABASE ").ident(&database))
            .await;
        Case {
            site,
            executor: site.executor(),
            target: SqlTarget {
                database,
                ..site.target()
            },
        }
    }

    /// One statement with as much time as there is.
    fn script(&self, text: &'static str) -> Script {
        patient(self.site, Statement::fixed(text))
    }

    /// A statement with this deadline.
    fn within(&self, timeout_ms: u32, text: &'static str) -> Script {
        let script = self.script(text);
        let connect_timeout_ms = script.connect_timeout_ms;
        script.within_ms(connect_timeout_ms, timeout_ms)
    }

    async fn run(&self, script: &Script) -> Result<Vec<Rows>, SqlError> {
        let result = self.executor.run(&self.target, script).await;
        match &result {
            Ok(answers) => assert_eq!(
                answers.len(),
                script.steps.len(),
                "one entry per step is answered: {:?}",
                script.steps
            ),
            Err(error) => assert!(!error.to_string().is_empty(), "an error says what happened"),
        }
        result
    }

    /// The answers of a script that must succeed.
    async fn good(&self, script: &Script) -> Vec<Rows> {
        match self.run(script).await {
            Ok(answers) => answers,
            Err(error) => panic!("expected that {:?} succeeds: {error:?}", script.steps),
        }
    }

    /// The first column of the first row of the last step.
    async fn value(&self, script: &Script) -> String {
        let answers = self.good(script).await;
        let cell = answers
            .last()
            .and_then(|rows| rows.first())
            .and_then(|row| row.first())
            .cloned()
            .flatten();
        cell.unwrap_or_else(|| panic!("expected that {:?} answers a value: {answers:?}", script.steps))
    }

    async fn ask(&self, text: &'static str) -> String {
        self.value(&self.script(text)).await
    }

    /// Runs a statement whose answer is of no interest.
    async fn exec(&self, text: &'static str) {
        self.good(&self.script(text)).await;
    }

    /// The script fails with this kind at this step.
    async fn fails(&self, script: &Script, kind: SqlErrorKind, step: Option<usize>, what: &str) -> SqlError {
        match self.run(script).await {
            Err(error) if (error.kind(), error.step()) == (kind, step) => error,
            other => panic!("{what}: expected {kind:?} at step {step:?}, got {other:?}"),
        }
    }

    /// As [`fails`](Case::fails), and not much later than at the script's deadline.
    async fn fails_within(
        &self,
        script: &Script,
        kind: SqlErrorKind,
        step: Option<usize>,
        what: &str,
    ) -> SqlError {
        let deadline = Duration::from_millis(script.timeout_ms.into());
        let started = Instant::now();
        let error = self.fails(script, kind, step, what).await;
        in_time(started, deadline, what);
        error
    }

    /// Asks until the answer is this.
    async fn until(&self, text: &'static str, wanted: &str, what: &str) {
        let deadline = Instant::now() + self.site.patience();
        loop {
            let seen = self.ask(text).await;
            if seen == wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "expected: {what}; {text} answers {seen}, not {wanted}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Runs a script in a task of its own.
    fn spawn(&self, script: Script) -> tokio::task::JoinHandle<Result<Vec<Rows>, SqlError>> {
        let (executor, target) = (Arc::clone(&self.executor), self.target.clone());
        tokio::spawn(async move { executor.run(&target, &script).await })
    }

    async fn end(self) {
        self.executor.forget(&self.target.endpoint);
        Admin::new(self.site).drop_database(&self.target.database).await;
    }
}

/// What is done to the server around the cases.
struct Admin<'a> {
    site: &'a dyn Site,
    executor: Arc<dyn SqlExecutor>,
}

impl<'a> Admin<'a> {
    fn new(site: &'a dyn Site) -> Self {
        let executor = site.executor();
        Admin { site, executor }
    }

    /// Tries again what may be tried again: slots of sessions that were closed just now may not be free yet.
    async fn run(&self, statement: Statement) {
        let deadline = Instant::now() + self.site.patience();
        let script = patient(self.site, statement);
        while let Err(error) = self.executor.run(&self.site.target(), &script).await {
            assert!(
                error.kind() == SqlErrorKind::NotReady && Instant::now() < deadline,
                "expected that {:?} succeeds: {error:?}",
                script.steps
            );
            tokio::time::sleep(POLL).await;
        }
    }

    async fn drop_database(&self, name: &str) {
        let drop = Statement::fixed("DROP DATABASE IF EXISTS ").ident(name);
        // Sessions that an executor forgot are on their way out, or are not: either way the case is over.
        self.run(drop.raw(" WITH (FORCE)")).await;
    }
}

fn patient(site: &dyn Site, statement: Statement) -> Script {
    let patience = u32::try_from(site.patience().as_millis()).unwrap_or(u32::MAX);
    Script::new("conformance")
        .step(statement)
        .within_ms(patience, patience)
}

fn in_time(started: Instant, deadline: Duration, what: &str) {
    let elapsed = started.elapsed();
    assert!(
        elapsed < deadline + SLACK,
        "{what}: expected an end within {deadline:?}, took {elapsed:?}"
    );
}

/// What is not checked must not look like what was.
#[allow(clippy::print_stderr)]
fn skipped(what: &str) {
    eprintln!("SKIPPED: sql_conformance: {what}");
}
