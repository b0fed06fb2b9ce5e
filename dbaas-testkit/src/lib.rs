//! Test doubles, fault injection and the conformance suites that every implementation of the core's traits
//! runs.

pub mod infrastructure_conformance;
pub mod memory_store;
pub mod simulated;
pub mod sql_conformance;
pub mod store_conformance;
