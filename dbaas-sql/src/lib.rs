//! [`PostgresExecutor`]: the control plane's [`SqlExecutor`](dbaas_core::sql_executor::SqlExecutor) over
//! tokio-postgres.
//!
//! Statements go out as simple queries, so that answers come back as text and a script costs one round trip
//! per step. Sessions are kept for reuse; everything that a session does has a deadline, also its end.
//!
//! ```no_run
//! use dbaas_core::infrastructure::Endpoint;
//! use dbaas_core::secret::Secret;
//! use dbaas_core::sql::Statement;
//! use dbaas_core::sql_executor::{Script, SqlExecutor, SqlTarget};
//! use dbaas_sql::PostgresExecutor;
//!
//! # async fn example() -> Result<(), dbaas_core::sql_executor::SqlError> {
//! let executor = PostgresExecutor::default();
//! let target = SqlTarget {
//!     endpoint: Endpoint { host: "127.0.0.1".into(), port: 5432 },
//!     database: "postgres".into(),
//!     user: "dbaas_admin".into(),
//!     password: Secret::new("…"),
//! };
//! let script = Script::new("is_standby").step(Statement::fixed("SELECT pg_is_in_recovery()")).within_ms(1_000, 1_000);
//! let answers = executor.run(&target, &script).await?;
//! assert_eq!(answers[0][0][0].as_deref(), Some("f"));
//! # Ok(())
//! # }
//! ```
//!
//! # Statement text and logs
//! tokio-postgres writes statements through the `log` crate at debug level. Where `log` is carried into
//! `tracing` (what tracing-subscriber does by default) those records are kept out by this crate. A program
//! that gives `log` another sink has to filter the target `tokio_postgres` at `info`.

mod classify;
mod executor;
mod majors;
mod pool;
mod session;

pub use executor::{ExecutorSettings, PostgresExecutor};
