//! The engine of the control plane: what embedders start, and [`ControlPlane`], what they call.
//!
//! A program that wants PostgreSQL on its own machine opens one with `dbaas_embedded::open`;
//! [`ControlPlane::builder`] takes parts of one's own: a backend, a store, a way to run SQL. Either way it is
//! used as here. Calls write down what is wanted and return at once; the engine does it, goes on trying, and
//! says in the status how far it is and what it waits for.
//!
//! ```no_run
//! use std::time::Duration;
//! use dbaas_controller::ControlPlane;
//! use dbaas_controller::request::{CreateInstance, CreateUser, InstanceAction, UpdateInstance};
//! use dbaas_core::id::VersionId;
//! use dbaas_core::lifecycle::Lifecycle;
//! use dbaas_core::password::Password;
//!
//! async fn orders(control: &ControlPlane, version: VersionId) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut request = CreateInstance::new("orders".parse()?, version);
//!     request.nodes = 3u64.try_into()?;
//!     let id = control.create_instance(request).await?.id;
//!     control.create_user(id, CreateUser::new("app".parse()?, Password::new("correct horse")?)).await?;
//!     control.wait_for_instance(id, Lifecycle::Active, Duration::from_secs(60)).await?;
//!     for endpoint in control.connection(id).await?.endpoints {
//!         println!("{endpoint}");
//!     }
//!
//!     // Later: more nodes, then another primary.
//!     let more = UpdateInstance { nodes: Some(4u64.try_into()?), ..Default::default() };
//!     control.update_instance(id, more).await?;
//!     control.act_on_instance(id, InstanceAction::Switchover { to: None }).await?;
//!     for event in control.events(id, 0, 100).await? {
//!         println!("{}: {}", event.event.kind, event.event.message);
//!     }
//!     control.shutdown(Duration::from_secs(5)).await; // The servers go on.
//!     Ok(())
//! }
//! ```

pub mod clock;
pub mod control_plane;
pub mod elements;
pub mod error;
pub mod metrics;
pub mod request;
pub mod settings;
pub mod view;

mod credentials;
mod engine;
mod ports;
mod randomness;
mod repository;
mod tokens;

pub use control_plane::ControlPlane;
