//! The engine of the control plane: what embedders start.

pub mod clock;
pub mod control_plane;
pub mod error;
pub mod request;
pub mod settings;

mod credentials;
mod engine;
mod randomness;
#[allow(dead_code)] // Until the engine uses all of it.
mod repository;

pub use control_plane::ControlPlane;
