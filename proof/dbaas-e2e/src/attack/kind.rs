//! [`Fault`]: the kinds of faults, and which of them can be done where.

use clap::ValueEnum;

use super::disk;
use crate::stack::Stack;

/// What is done to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[value(rename_all = "verbatim")]
pub enum Fault {
    /// `kill -9` of the primary's processes.
    KillPrimary,
    /// SIGSTOP of the primary's processes, for good.
    FreezePrimary,
    /// SIGSTOP, and SIGCONT soon after: an old primary that wakes up in the middle of things.
    FreezeAndThawPrimary,
    /// `kill -9` of one backend: PostgreSQL restarts itself.
    KillBackend,
    /// `kill -9` of a standby.
    KillStandby,
    /// SIGSTOP of a standby.
    FreezeStandby,
    /// `kill -9` of every standby.
    KillAllStandbys,
    /// `kill -9` of the primary and a standby.
    KillPrimaryAndStandby,
    /// `kill -9` of everything: a power cut.
    PowerCut,
    /// The controller dies, and is started again.
    KillController,
    /// The primary dies, and the controller in the middle of the failover.
    KillPrimaryThenController,
    /// The primary dies, and the new one as soon as it is chosen.
    KillPrimaryTwice,
    /// A power cut that takes the controller as well.
    KillEverything,
    /// A planned change of primary.
    Switchover,
    /// A planned change of primary, and the controller dies in the middle of it.
    SwitchoverThenKillController,
    /// Two nodes less and two nodes more.
    Scale,
    /// The primary dies, and the controller while the others are being sealed.
    CrashControllerSealing,
    /// The primary dies, and the controller while the next one is being promoted and the others re-pointed.
    CrashControllerPromoting,
    /// The primary dies, and the controller while the old one is rewound.
    CrashControllerRejoining,
    /// The primary dies, and a standby while it is being sealed.
    KillStandbySealing,
    /// The primary dies, and the next one exactly while it is being promoted.
    KillCandidatePromoting,
    /// The primary dies, and the next one freezes while it is being promoted.
    FreezeCandidatePromoting,
    /// The primary dies, and again while it is being rewound.
    KillNodeRejoining,
    /// The primary's WAL finds its disk full; later there is room again.
    FullDiskPrimary,
    /// The same on a standby.
    FullDiskStandby,
    /// The primary's disk writes some dozen blocks a second.
    SlowDiskPrimary,
    /// The same on a standby.
    SlowDiskStandby,
    /// The primary's processes are stopped and continued some times a second.
    StutterPrimary,
    /// To the other minor version, one node after the other, and back.
    MinorVersion,
    /// The primary's disk is gone, with all that was on it.
    LoseDiskPrimary,
    /// A standby's disk is gone.
    LoseDiskStandby,
    /// The network between the primary and its standbys fails, and comes back.
    CutPrimaryFromStandbys,
    /// The network between the primary and both the controller and the clients fails, and comes back.
    CutPrimaryFromClients,
    /// Nobody reaches the primary, nor it anybody, until the network comes back.
    CutPrimary,
    /// Nobody reaches a standby, nor it anybody, until the network comes back.
    CutStandby,
    /// The network between two nodes, whichever they are, fails, and comes back.
    CutPair,
}

impl Fault {
    /// Whether it can be done to this stack's nodes: some need root, some containers or machines, and some
    /// processes. ([`Fault::MinorVersion`] needs two minor versions, which is seen when it begins.)
    pub fn is_possible(self, stack: &Stack) -> bool {
        let (docker, libvirt) = (stack.docker().is_some(), stack.libvirt().is_some());
        match self {
            // On Docker disks of a fixed size are a test of their own (`docker_failover`).
            Fault::FullDiskPrimary | Fault::FullDiskStandby => !docker && !libvirt && disk::can_fill(),
            Fault::SlowDiskPrimary | Fault::SlowDiskStandby => libvirt || disk::can_slow(),
            // Nodes on this machine share its network.
            Fault::CutPrimaryFromStandbys
            | Fault::CutPrimaryFromClients
            | Fault::CutPrimary
            | Fault::CutStandby
            | Fault::CutPair => libvirt || docker && rustix::process::geteuid().is_root(),
            _ => true,
        }
    }
}
