//! Seeded simulation of the whole controller: the real engine, planner and façade on simulated
//! infrastructure, PostgreSQL, store and time.
//!
//! One seed decides everything: the size of the instance, which faults come when, what users ask for, how
//! long each call takes. The same seed gives the same trace. [`seed::run`] runs one; [`fleet`] measures what
//! very many instances cost; [`idle`] that those which need nothing write nothing; [`deaths`] what
//! becomes of many primaries that die at once; [`service`] how soon one that serves nobody is replaced.

pub mod deaths;
pub mod fleet;
pub mod idle;
pub mod seed;
pub mod service;

mod clock;
mod faults;
mod requests;
mod scenario;
mod sealer;
mod store;
