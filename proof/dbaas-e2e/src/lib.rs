//! What the end-to-end tests and the benchmark stand on: a whole control plane in a directory of its own,
//! clusters on it, and faults.
//!
//! Everything runs on loopback and ends with the [`Stack`], also when a test fails.

pub mod attack;
pub mod bench;
pub mod cluster;
pub mod docker;
pub mod fault;
pub mod libvirt;
pub mod load;
pub mod soak;
pub mod stack;

pub use cluster::Cluster;
pub use load::under_load;
pub use stack::Stack;
