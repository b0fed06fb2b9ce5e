//! The engine of the control plane: what embedders start.

pub mod error;
pub mod request;
