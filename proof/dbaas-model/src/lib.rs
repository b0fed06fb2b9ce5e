//! Model checking of the failover protocol.
//!
//! The controllers of this model call the shipped planner, [`dbaas_core::plan::plan`], on records of the
//! shipped type; nothing of the protocol is written here a second time. What is modelled is the world around
//! it: nodes with an abstract WAL, the guards of `dbaas_core::command`, streaming, clients, faults, and a
//! store with compare-and-swap.

pub mod check;
pub mod model;
pub mod mutation;
pub mod node;
pub mod planner;
pub mod record;
pub mod sight;
pub mod wal;
pub mod world;
