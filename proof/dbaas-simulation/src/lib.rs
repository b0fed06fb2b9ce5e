//! Seeded simulation of the whole controller: the real engine, planner and façade on simulated
//! infrastructure, PostgreSQL, store and time.
//!
//! One seed decides everything: the size of the instance, which faults come when, what users ask for, how
//! long each call takes. The same seed gives the same trace. [`seed::run`] runs one; [`idle`] measures what
//! instances cost that need nothing; [`service`] how soon a primary that serves nobody is replaced.

pub mod idle;
pub mod seed;
pub mod service;

mod clock;
mod faults;
mod requests;
mod scenario;
mod sealer;
mod store;
