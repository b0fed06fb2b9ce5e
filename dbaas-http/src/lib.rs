//! REST interface of a managed PostgreSQL control plane: an [axum] router over
//! [`ControlPlane`](dbaas_controller::ControlPlane), without logic of its own.
//!
//! * [`router`] makes the router; [`HttpOptions`] says who may call ([`Access`]) and how much at once.
//! * Errors are `application/problem+json`, each of a [`ProblemKind`]; a request with several mistakes is
//!   told all of them.
//! * [`openapi::document`] describes it all; the server has it at `/openapi.json`, and as a page at `/docs`.
//!
//! ```no_run
//! # async fn serve(control_plane: dbaas_controller::ControlPlane, listener: tokio::net::TcpListener) -> std::io::Result<()> {
//! use dbaas_http::{Access, HttpOptions, router};
//!
//! // For a loopback listener only: whoever reaches it may do everything.
//! axum::serve(listener, router(control_plane, HttpOptions::new(Access::Anyone))).await
//! # }
//! ```

mod access;
mod app;
mod body;
mod conditional;
mod decode;
mod docs_page;
mod error;
mod handlers;
mod linger;
mod listing;
pub mod openapi;
mod options;
mod path;
mod problem;
mod query;
mod reference;
mod routes;
mod scopes;
mod v1;

#[doc(hidden)]
pub use query::query_for_fuzzing;
#[doc(hidden)]
pub use v1::decode_for_fuzzing;

pub use access::{Access, Caller, InvalidTokens, TokenStore};
pub use listing::ListStyle;
pub use options::{HttpOptions, MetricsText};
pub use problem::{Problem, ProblemKind};
pub use routes::router;
pub use scopes::{InvalidScope, Scopes};
