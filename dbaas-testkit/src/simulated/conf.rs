//! What a simulated server makes of its `postgresql.conf`.

use std::collections::BTreeMap;

use dbaas_core::config::{
    CONFIG_HASH_SETTING, HOT_STANDBY_FLOOR_SETTINGS, RECONFIGURED_SETTING, is_restart_setting, parse_conf,
    render_setting,
};

/// A simulated server refuses to start with more connections.
const MAX_CONNECTIONS_MOST: u64 = 5_000;

/// What counts of a `postgresql.conf`: its hash, and what takes effect at a start only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ConfFile {
    pub(super) hash: String,
    pub(super) reconfigured: bool,
    /// The settings that take effect at a start only, as lines.
    at_start: String,
}

impl ConfFile {
    pub(super) fn read(text: &str) -> Self {
        let mut conf = ConfFile::default();
        for setting in parse_conf(text).unwrap_or_default() {
            match setting.name() {
                CONFIG_HASH_SETTING => setting.value().clone_into(&mut conf.hash),
                RECONFIGURED_SETTING => conf.reconfigured = setting.value() == "on",
                name if is_restart_setting(name) => conf.at_start += &render_setting(name, setting.value()),
                _ => {}
            }
        }
        conf
    }

    /// What a standby may not have less of than its primary.
    pub(super) fn hot_standby(&self) -> BTreeMap<String, u64> {
        let settings = parse_conf(&self.at_start).unwrap_or_default();
        let counts = settings
            .iter()
            .filter(|s| HOT_STANDBY_FLOOR_SETTINGS.contains(&s.name()));
        counts
            .filter_map(|s| Some((s.name().to_owned(), s.value().parse().ok()?)))
            .collect()
    }

    /// Why a server does not start with this, as a standby of a server that runs with those values.
    pub(super) fn refusal(&self, primary: &BTreeMap<String, u64>) -> Option<&'static str> {
        let own = self.hot_standby();
        let count = |of: &BTreeMap<String, u64>, name: &str| of.get(name).copied().unwrap_or_default();
        if count(&own, "max_connections") > MAX_CONNECTIONS_MOST {
            return Some("FATAL: could not map anonymous shared memory");
        }
        let less = primary
            .keys()
            .any(|name| count(&own, name) < count(primary, name));
        less.then_some("FATAL: recovery aborted because of insufficient parameter settings")
    }

    /// The settings that differ from those that the server was started with, and so wait for a restart.
    pub(super) fn pending_restart(&self, started_with: &ConfFile) -> Vec<String> {
        let was = |line: &str| started_with.at_start.lines().any(|other| other == line);
        let differing = self.at_start.lines().filter(|line| !was(line));
        let names = differing.filter_map(|line| line.split_once(" = "));
        names
            .filter(|_| self.reconfigured)
            .map(|(name, _)| name.to_owned())
            .collect()
    }
}
