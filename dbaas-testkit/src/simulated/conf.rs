//! What a simulated server makes of its `postgresql.conf`.

use dbaas_core::config::{
    CONFIG_HASH_SETTING, RECONFIGURED_SETTING, is_restart_setting, parse_conf, render_setting,
};

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
