//! [`ControllerSettings`]: what an embedder may tune. The defaults are good.

use std::time::Duration;

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
            scram_iterations: Iterations::default(),
        }
    }
}
