//! Every limit of time of the control plane's judgement, once, each with why it is what it is.
//! [`crate::limits`] has the bounds of the specification. What belongs to one backend's tools (how long
//! `initdb` may take) is with that backend.
//!
//! The limits hang together: a primary that is frozen is told by the infrastructure, one that is silent only
//! by its silence, and one that answers looks but serves nobody only by trying what a client does. The less
//! sure the sign, the longer it is waited for.

/// Between two looks at an instance that needs nothing. A node's death comes as an event; the looks find what
/// no event tells of.
pub const HEARTBEAT_MS: u64 = 1_000;
/// Between two looks while something is expected to happen: a step of a failover takes a few of them, and
/// clients wait.
pub const PROGRESS_MS: u64 = 20;

/// A frozen primary is given up after so long. The infrastructure says positively that none of its processes
/// runs, so that only a short pause (a snapshot of a virtual machine, a debugger) has to be outlasted.
pub const FROZEN_MS: u64 = 1_500;
/// A primary that gives no answer, while its node runs, is given up after so long, if no standby hears from
/// it either. Five looks' time-outs: a busy machine misses one or two.
pub const SILENT_MS: u64 = 2_500;
/// A standby hears from its primary if the last message is not older than this. A primary sends one per
/// second where nothing else is sent (half of `wal_receiver_status_interval`); twice that, and a little for
/// the way.
pub const RECEIVER_FRESH_MS: u64 = 2_200;
/// A voter that does not stream is taken out of the electorate after so long, if enough others are left. Also
/// how long a node that may hold more is waited for, and how long one that does not answer is left alone
/// where nobody can take over: each is a step that costs something to take back.
pub const VOTER_GONE_MS: u64 = 10_000;
/// A standby that runs and does not stream is rewound, then rebuilt, after so long. Longer than the 10 s
/// (`WALRCV_STARTUP_TIMEOUT`) after which PostgreSQL itself starts a walreceiver again that has not come up.
pub const STUCK_STANDBY_MS: u64 = 15_000;
/// How long replay may stand still before the end of what was received: many times as long as PostgreSQL
/// takes to look for more (`wal_retrieve_retry_interval`).
pub const STALLED_MS: u64 = 500;

/// Between two trials of what a client gets (a login and a commit) while all is well. A trial costs the
/// server a process and one flush of its WAL, and the control plane a SCRAM login: a few milliseconds of a
/// processor in all, 0.2 % of one at this interval.
pub const TRIAL_EVERY_MS: u64 = 2_000;
/// How much of the control plane's time trials may take, as the time between two trials of different
/// instances. Where there are more than `TRIAL_EVERY_MS / TRIAL_APART_MS` instances, each is tried more
/// rarely.
pub const TRIAL_APART_MS: u64 = 20;
/// Until the next trial after the first one that failed: soon, so that one that failed by chance is followed
/// by one that does not. Twice as long after each further one.
pub const TRIAL_AGAIN_MS: u64 = 250;
/// The longest time until the next trial: a commit that hangs leaves a session behind, and those are not to
/// use up the server's.
pub const TRIAL_AGAIN_MOST_MS: u64 = 30_000;
/// How long a trial's login may take. Twenty times as long as on a busy machine.
pub const TRIAL_LOGIN_MS: u32 = 2_000;
/// How long its commit may take, which waits for no standby: one flush of the WAL. Disks that are throttled
/// take a second at times.
pub const TRIAL_COMMIT_MS: u32 = 2_000;
/// A primary at which no trial came to anything for so long is given up ...
pub const UNFIT_MS: u64 = 5_000;
/// ... if so many have failed in a row: time alone says nothing where the control plane itself was paused.
pub const UNFIT_TRIALS: u32 = 3;
/// A primary that gives no login or no commit, as the one before it did, is given up only after so long: a
/// disk or a host that all nodes share is slow for some time at most, and each failover would write to it,
/// too.
pub const UNFIT_AGAIN_MS: u64 = 60_000;

/// How long a switchover that a user asked for waits for a suitable standby.
pub const SWITCHOVER_MS: u64 = 60_000;
/// How long a failover that a user asked for, and that cannot be carried out, waits for the world to change
/// before it is given up: the operator who asked should hear of it while still there.
pub const FAILOVER_MS: u64 = 60_000;
/// How long the checkpoint before a switchover may take. Clients write meanwhile, so that nothing presses: a
/// disk that is slow, with much to write, is given its time. The shutdown after it would take as long, and
/// clients would wait.
pub const CHECKPOINT_MS: u64 = 120_000;
/// How long a graceful shutdown may take before the node is killed. Its checkpoint has little to write, as
/// one was just made.
pub const SHUTDOWN_MS: u32 = 30_000;
/// The same for a standby that is to be rewound because it is stuck: a clean end spares a rebuild, but nobody
/// should wait for it for long.
pub const STUCK_SHUTDOWN_MS: u32 = 5_000;

/// The first wait after a start; twice as long after each further one that the node was not well after.
pub const START_AGAIN_FIRST_MS: u64 = 100;
/// Its longest wait: whoever mends what keeps a node from starting should not wait longer for it to be
/// noticed.
pub const START_AGAIN_MOST_MS: u64 = 60_000;
/// Starts are forgotten when the node has been well for so long: one that dies every few seconds is not well.
pub const WELL_AGAIN_MS: u64 = 10_000;
/// The first wait after an action that failed; twice as long after each further failure.
pub const ACT_AGAIN_FIRST_MS: u64 = 50;
/// Its longest wait.
pub const ACT_AGAIN_MOST_MS: u64 = 60_000;
/// The longest wait for what a failover needs: clients wait for that.
pub const ACT_AGAIN_MOST_URGENT_MS: u64 = 1_000;
