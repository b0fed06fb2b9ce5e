//! The REST interface over a store in memory and nodes that never start: for tests of the interface from
//! outside, such as schemathesis.
//!
//! `cargo run -p dbaas-http --example simulated_server -- 127.0.0.1:8433`; the administrator's token is
//! `simulated-administrator`.

#[path = "../tests/world/mod.rs"]
mod world;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use dbaas_http::{Access, Caller, HttpOptions, TokenStore, router};
use dbaas_testkit::memory_store::MemoryStore;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8433".to_owned());
    let control = world::control_plane(Arc::new(MemoryStore::new())).await;
    let mut tokens = TokenStore::default();
    tokens.insert("simulated-administrator", Caller::Admin);
    let options = HttpOptions::new(Access::Tokens(tokens))
        .with_metrics(|| "up 1\n".to_owned())
        .with_wait_max(Duration::from_millis(100));
    let listener = tokio::net::TcpListener::bind(&address).await?;
    writeln!(
        std::io::stdout(),
        "listening on http://{}",
        listener.local_addr()?
    )?;
    axum::serve(listener, router(control, options)).await
}
