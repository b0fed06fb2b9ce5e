//! The benchmark: each figure beside its floor of the same run, the two taken in turns, as tables.
//!
//! [`provision`]: from request to usable · [`failover`]: the write pause · [`http`]: reading while instances
//! are created · [`docker`], [`libvirt`]: both on a Docker Engine, and on a libvirt (what those share:
//! `elsewhere`) · [`by_hand`]: PostgreSQL without a control plane, the floor · [`figures`]: samples and
//! tables · [`machine`]: where it ran.

pub mod by_hand;
pub mod docker;
mod elsewhere;
pub mod failover;
pub mod figures;
pub mod http;
pub mod libvirt;
pub mod machine;
pub mod provision;

/// What to measure, and how often.
#[derive(Debug, Clone, Default)]
pub struct BenchOptions {
    /// Samples of each figure.
    pub runs: usize,
    /// The major version; the newest of this machine unless given.
    pub major: Option<u32>,
}
