//! [`ControllerSettings`]: what an embedder may tune. The defaults are good.

use std::time::Duration;

use dbaas_core::config::HbaRules;
use dbaas_core::plan::Policy;
use dbaas_core::scram::Iterations;

/// What an embedder may tune.
///
/// ```
/// use dbaas_controller::settings::ControllerSettings;
///
/// let settings = ControllerSettings { change_hints: 64, ..ControllerSettings::default() };
/// assert_eq!(settings.store_timeout.as_secs(), 10);
/// ```
#[derive(Debug, Clone)]
pub struct ControllerSettings {
    /// No call of the store is waited for longer.
    pub store_timeout: Duration,
    /// How often a change is tried again that lost against another one.
    pub conflict_tries: u32,
    /// How often a waiting call looks by itself, without a hint that something changed.
    pub wait_poll: Duration,
    /// How many change hints a slow reader may be behind before it is told that it missed some.
    pub change_hints: usize,
    /// How long things may take before they are judged. The backend's capabilities, and who may connect, are
    /// filled in at the start.
    pub policy: Policy,
    /// Who may connect to nodes, in place of what the backend says
    /// ([`Infrastructure::hba_rules`](dbaas_core::infrastructure::Infrastructure::hba_rules)).
    pub hba: Option<HbaRules>,
    /// Who holds the lease, for people, and for taking it over at once: a control plane whose data directory
    /// is locked against others gives the same name at each start. `None`: a name of its own, so that a
    /// restart waits until the lease runs out.
    pub lease_holder: Option<String>,
    /// No other control plane is asked for anything on this store, as one whose data directory is locked
    /// against others knows: then a filtered list goes by what is remembered, and reads what matches.
    pub alone: bool,
    /// For how long a lease is taken; it is renewed three times as often.
    pub lease_ttl: Duration,
    /// How many instances are worked on at the same time.
    pub concurrency: usize,
    /// No answer of PostgreSQL to a look at it is waited for longer.
    pub sql_timeout: Duration,
    /// How often roles and databases are compared with what was asked for, without a change.
    pub drift_interval: Duration,
    /// How often a database that has an access list is looked into, without a change.
    pub inside_interval: Duration,
    /// Events that are kept of an instance.
    pub keep_events: usize,
    /// Rounds of PBKDF2 in the verifiers of users' passwords.
    pub scram_iterations: Iterations,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        ControllerSettings {
            store_timeout: Duration::from_secs(10),
            conflict_tries: 16,
            wait_poll: Duration::from_secs(1),
            change_hints: 1_024,
            policy: Policy::default(),
            hba: None,
            lease_holder: None,
            alone: false,
            lease_ttl: Duration::from_secs(15),
            concurrency: 64,
            sql_timeout: Duration::from_secs(1),
            drift_interval: Duration::from_secs(30),
            inside_interval: Duration::from_secs(60),
            keep_events: 10_000,
            scram_iterations: Iterations::default(),
        }
    }
}
