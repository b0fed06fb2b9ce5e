//! Workloads that prove, or disprove, what a PostgreSQL cluster promises. For tests and benchmarks only.
//!
//! * [`set::SetWorkload`]: unique inserts through a client that reconnects; every acknowledged one is read
//!   back afterwards, and the write pause is measured.
//! * [`bank::BankWorkload`]: transfers between accounts; no money appears or vanishes, every acknowledged
//!   transfer is in the ledger.
//! * [`probe::TwoWritersProbe`]: writes to every node directly, all the time: no two nodes may acknowledge
//!   out of the order of epochs.
//! * [`compare::compare_nodes`]: all nodes hold the same rows.
//! * [`amcheck::check_structures`]: the tables and indexes of all nodes are sound.
//! * [`server::ThrowawayServer`]: a real server for a test, gone with all its processes when it is dropped.
//!
//! Nothing here prints. What was measured is returned.

pub mod amcheck;
pub mod bank;
pub mod client;
pub mod compare;
pub mod gap;
pub mod probe;
pub mod server;
pub mod set;
