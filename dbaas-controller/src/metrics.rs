//! Every metric of the control plane and of its REST interface: its name, its labels, what it says. They go
//! to whatever recorder the program has installed for the `metrics` crate; without one they cost nothing.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Instances that the engine looks after.
pub const INSTANCES: &str = "dbaas_instances";
/// Passes that run now.
pub const PASSES_RUNNING: &str = "dbaas_passes_running";
/// Nodes of the infrastructure that no instance knows.
pub const ORPHANED_NODES: &str = "dbaas_orphaned_nodes";
/// Trials of what a client gets that failed.
pub const TRIAL_FAILURES: &str = "dbaas_trial_failures_total";
/// How long actions took; label `action`.
pub const ACTION_SECONDS: &str = "dbaas_action_seconds";
/// Actions that failed; label `action`.
pub const ACTION_FAILURES: &str = "dbaas_action_failures_total";
/// How long requests took; labels `method`, `route`.
pub const HTTP_SECONDS: &str = "dbaas_http_request_duration_seconds";
/// Requests; labels `method`, `route`, `status`.
pub const HTTP_REQUESTS: &str = "dbaas_http_requests_total";

/// Tells the installed recorder what each metric means. For the program that installs one.
pub fn describe() {
    describe_gauge!(INSTANCES, "Instances that the engine looks after");
    describe_gauge!(PASSES_RUNNING, "Passes over an instance that run now");
    describe_gauge!(
        ORPHANED_NODES,
        "Nodes of the infrastructure that no instance knows"
    );
    describe_counter!(
        TRIAL_FAILURES,
        "Logins and commits, tried as a client does, that failed"
    );
    describe_histogram!(
        ACTION_SECONDS,
        Unit::Seconds,
        "How long actions on nodes and in PostgreSQL took"
    );
    describe_counter!(ACTION_FAILURES, "Actions on nodes and in PostgreSQL that failed");
    describe_histogram!(HTTP_SECONDS, Unit::Seconds, "How long requests took");
    describe_counter!(HTTP_REQUESTS, "Requests that were answered");
}
