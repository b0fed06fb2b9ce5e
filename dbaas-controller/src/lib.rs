//! The engine of the control plane: what embedders start.

pub mod error;
pub mod request;

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the façade and the engine are being written")
)]
mod repository;
