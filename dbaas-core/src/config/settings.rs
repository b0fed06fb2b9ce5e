//! [`Settings`]: `postgresql.conf`, derived from the size of a node.

use std::borrow::Cow;

use super::conf_file::{InvalidSetting, Setting, push_setting};
use super::{CONFIG_HASH_SETTING, EPOCH_SETTING};
use crate::size::{CpuCores, DiskGb, RamMb};
use crate::version::PostgresMajor;

/// Settings that must not be smaller on a standby than on its primary: a standby that meets WAL of a primary
/// with a greater value pauses replay, or refuses to start.
///
/// Source: PostgreSQL's documentation, "Hot Standby", section "Administrator's Overview".
pub const HOT_STANDBY_FLOOR_SETTINGS: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// About how many there are.
const SETTINGS: usize = 72;
/// About how long their file is.
const BODY_BYTES: usize = 3 * 1024;

/// Connections kept for the control plane, out of reach of users.
const RESERVED_CONNECTIONS: u64 = 8;

/// The settings of a node, in the order of the file. Each name is there once.
///
/// # The formula
/// R is memory in MB, D disk in GB, C cores.
///
/// | setting | value | why |
/// |---|---|---|
/// | `max_connections` | R / 10, 100 to 2,000, and 8 reserved | as many as the memory can serve; beyond 2,000 a pooler is faster; a standby that is a copy of a never started data directory refuses to start with less than `initdb`'s 100 |
/// | `shared_buffers` | R / 4, at most 64 GB | the rest of the memory is the file system's cache, which works as well beyond that |
/// | `effective_cache_size` | 3 R / 4 | the planner's estimate of both caches |
/// | `work_mem` | (R - `shared_buffers`) / 3 per connection, 2 to 256 MB | three sorts in every connection still fit |
/// | `maintenance_work_mem` | R / 16, 32 MB to 2 GB | up to three autovacuum workers use it at a time |
/// | `max_worker_processes` | C + 4, at least 8 | |
/// | `max_parallel_workers` | C | |
/// | `max_parallel_workers_per_gather`, `max_parallel_maintenance_workers` | C / 2, at most 4 | one query never takes all cores |
/// | `max_wal_size` | D / 16, 512 MB to 16 GB | 8 GB and more write rarely enough; recovery stays short |
/// | `min_wal_size` | `max_wal_size` / 8 | |
/// | `wal_keep_size` | D / 64, 128 MB to 1 GB | what a rewind needs of the WAL before the fork |
/// | `max_slot_wal_keep_size` | D / 4, at most 64 GB | a standby that is gone never fills the primary's disk |
/// | `io_workers` (18 and newer) | C / 4, 1 to 32 | idle processes cost memory |
///
/// Together WAL takes at most about a third of the disk.
///
/// # Changing sizes of a running instance
/// See [`hot_standby_floor`] and [`Settings::needing_restart`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    list: Vec<Setting>,
}

/// Settings of ours that take effect at a start only (context `postmaster`).
const RESTART_SETTINGS: [&str; 16] = [
    "listen_addresses",
    "unix_socket_directories",
    "max_connections",
    "superuser_reserved_connections",
    "shared_buffers",
    "max_worker_processes",
    "max_wal_senders",
    "max_replication_slots",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "wal_level",
    "wal_log_hints",
    "hot_standby",
    "wal_buffers",
    "max_logical_replication_workers",
    "logging_collector",
];

impl Settings {
    /// The settings of a node of this size.
    pub fn derive(major: PostgresMajor, cpu: CpuCores, ram: RamMb, disk: DiskGb) -> Settings {
        let mut settings = Settings {
            list: Vec::with_capacity(SETTINGS),
        };
        settings.push_closed();
        settings.push_memory(cpu, ram);
        settings.push_workers(major, cpu);
        settings.push_wal(disk);
        settings.push_replication();
        settings.push_connections_and_logs();
        settings.push_planner();
        settings.push(EPOCH_SETTING, "0");
        settings
    }

    /// The settings in order, [`CONFIG_HASH_SETTING`] excepted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|setting| (setting.name(), setting.value()))
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list
            .iter()
            .find(|setting| setting.name() == name)
            .map(Setting::value)
    }

    /// Replaces a setting, or adds it at the end.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidSetting> {
        let new = Setting::new(name, value)?;
        match self.list.iter_mut().find(|setting| setting.name() == name) {
            Some(setting) => *setting = new,
            None => self.list.push(new),
        }
        Ok(())
    }

    /// The file's text, with what [`CONFIG_HASH_SETTING`] is to say.
    pub fn render(&self, hash: &str) -> String {
        let mut text = String::from("# Written by the control plane. It will be overwritten.\n");
        text.push_str(&self.body());
        push_setting(&mut text, CONFIG_HASH_SETTING, hash);
        text
    }

    /// Names of the settings that differ and take effect at a start only. Empty: a reload does.
    pub fn needing_restart<'a>(&'a self, running: &Settings) -> Vec<&'a str> {
        let differs = |name: &&str| self.get(name) != running.get(name);
        self.iter()
            .map(|(name, _)| name)
            .filter(|name| is_restart_setting(name))
            .filter(differs)
            .collect()
    }

    /// The settings as the file has them, [`CONFIG_HASH_SETTING`] excepted.
    pub(super) fn body(&self) -> String {
        let mut text = String::with_capacity(BODY_BYTES);
        for (name, value) in self.iter() {
            push_setting(&mut text, name, value);
        }
        text
    }

    /// Names and values of this file are valid settings; a test holds it.
    fn push(&mut self, name: &'static str, value: impl Into<Cow<'static, str>>) {
        self.list.push(Setting::known(name, value));
    }

    /// Boot closed: the backend gives addresses, port and socket directory on the command line.
    fn push_closed(&mut self) {
        self.push("listen_addresses", "");
        self.push("unix_socket_directories", "");
    }

    fn push_memory(&mut self, cpu: CpuCores, ram: RamMb) {
        let ram_mb = u64::from(ram);
        let connections = (ram_mb / 10).clamp(100, 2000);
        let shared_buffers_mb = (ram_mb / 4).min(64 * 1024);
        let work_mem_kb =
            ((ram_mb - shared_buffers_mb) * 1024 / (3 * connections)).clamp(2 * 1024, 256 * 1024);
        let maintenance_mb = (ram_mb / 16).clamp(32, 2048);
        self.push(
            "max_connections",
            (connections + RESERVED_CONNECTIONS).to_string(),
        );
        self.push("superuser_reserved_connections", RESERVED_CONNECTIONS.to_string());
        self.push("shared_buffers", format!("{shared_buffers_mb}MB"));
        self.push("effective_cache_size", format!("{}MB", ram_mb * 3 / 4));
        self.push("work_mem", format!("{work_mem_kb}kB"));
        self.push("maintenance_work_mem", format!("{maintenance_mb}MB"));
        self.push("max_prepared_transactions", "0");
        self.push("max_locks_per_transaction", "64");
        self.push("max_worker_processes", (u64::from(cpu) + 4).max(8).to_string());
    }

    fn push_workers(&mut self, major: PostgresMajor, cpu: CpuCores) {
        let cores = u64::from(cpu);
        let per_query = (cores / 2).min(4).to_string();
        self.push("max_parallel_workers", cores.to_string());
        self.push("max_parallel_workers_per_gather", per_query.clone());
        self.push("max_parallel_maintenance_workers", per_query);
        // Users have no subscriptions; without a launcher an idle node has one process fewer.
        self.push("max_logical_replication_workers", "0");
        if major.get() >= 18 {
            self.push("io_workers", (cores / 4).clamp(1, 32).to_string());
        }
        self.push("autovacuum", "on");
        self.push("autovacuum_naptime", "1min");
    }

    fn push_wal(&mut self, disk: DiskGb) {
        let disk_mb = disk.mb();
        // In whole segments of 16 MB.
        let max_wal_mb = (disk_mb / 16).clamp(512, 16 * 1024) / 16 * 16;
        let min_wal_mb = max_wal_mb / 8 / 16 * 16;
        self.push("wal_level", "replica");
        self.push("fsync", "on");
        self.push("full_page_writes", "on");
        self.push("synchronous_commit", "on");
        self.push("wal_log_hints", "on");
        self.push("wal_compression", "on");
        self.push("wal_buffers", "16MB");
        self.push("checkpoint_timeout", "5min");
        self.push("max_wal_size", format!("{max_wal_mb}MB"));
        self.push("min_wal_size", format!("{min_wal_mb}MB"));
        self.push("wal_keep_size", format!("{}MB", (disk_mb / 64).clamp(128, 1024)));
        self.push(
            "max_slot_wal_keep_size",
            format!("{}MB", (disk_mb / 4).min(64 * 1024)),
        );
    }

    fn push_replication(&mut self) {
        // 15 standbys, each with its stream and a base backup (two streams) at the same time, would be 45;
        // backups are taken a few at a time.
        self.push("max_wal_senders", "32");
        self.push("max_replication_slots", "32");
        self.push("wal_sender_timeout", "5s");
        self.push("wal_receiver_timeout", "3s");
        self.push("wal_receiver_status_interval", "1s");
        self.push("wal_retrieve_retry_interval", "50ms");
        self.push("hot_standby", "on");
        // Off: a query on a standby, or a standby that is gone, must not keep the primary from cleaning up. A
        // query on a standby that is in the way of replay is cancelled after a short while instead, for a
        // failover has to wait for replay.
        self.push("hot_standby_feedback", "off");
        self.push("max_standby_streaming_delay", "5s");
        self.push("restart_after_crash", "on");
    }

    fn push_connections_and_logs(&mut self) {
        self.push("password_encryption", "scram-sha-256");
        self.push("tcp_keepalives_idle", "10s");
        self.push("tcp_keepalives_interval", "3s");
        self.push("tcp_keepalives_count", "3");
        self.push("tcp_user_timeout", "15s");
        self.push("authentication_timeout", "15s");
        self.push("log_destination", "stderr");
        self.push("logging_collector", "off");
        self.push("log_line_prefix", "%m [%p] %q%u@%d %h ");
        // A statement may hold a password or a user's data: statements and their parameters are never logged,
        // also not failing ones.
        self.push("log_statement", "none");
        self.push("log_min_error_statement", "panic");
        self.push("log_min_duration_statement", "-1");
        self.push("log_min_duration_sample", "-1");
        self.push("log_transaction_sample_rate", "0");
        self.push("log_parameter_max_length", "0");
        self.push("log_parameter_max_length_on_error", "0");
        self.push("lc_messages", "C");
        self.push("log_timezone", "UTC");
        self.push("timezone", "UTC");
    }

    fn push_planner(&mut self) {
        self.push("random_page_cost", "1.1");
        // Compiling costs more than it gains in short queries, which are most.
        self.push("jit", "off");
    }
}

/// Whether a setting of ours takes effect at a start only.
pub fn is_restart_setting(name: &str) -> bool {
    RESTART_SETTINGS.contains(&name)
}

/// What a node runs with while an instance goes from `old` to `new` sizes: the new settings, but none of
/// [`HOT_STANDBY_FLOOR_SETTINGS`] below the old value.
///
/// A standby needs at least its primary's values. In a rolling change the standbys restart first, and any of
/// them may have to follow a primary that still has the old ones (or, after a failover, one that has the new
/// ones already). So every node is taken to the floor of both first, and only when all of them are there, to
/// `new` (where that is lower: primary first).
#[must_use]
pub fn hot_standby_floor(old: &Settings, new: &Settings) -> Settings {
    let mut floor = new.clone();
    for name in HOT_STANDBY_FLOOR_SETTINGS {
        let number = |settings: &Settings| settings.get(name).and_then(|value| value.parse::<u64>().ok());
        if let (Some(before), Some(after)) = (number(old), number(new)) {
            // The name is a setting's, and a number has no NUL.
            let _ = floor.set(name, &before.max(after).to_string());
        }
    }
    floor
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::config::parse_conf;
    use crate::size::OutOfBounds;

    fn settings(major: u32, cpu: u64, ram: u64, disk: u64) -> Settings {
        let size = || Ok::<_, OutOfBounds>((CpuCores::new(cpu)?, RamMb::new(ram)?, DiskGb::new(disk)?));
        let (cpu, ram, disk) = size().unwrap();
        Settings::derive(PostgresMajor::new(major).unwrap(), cpu, ram, disk)
    }

    #[test]
    fn golden_smallest() {
        insta::assert_snapshot!(settings(15, 1, 512, 8).render("0123"));
    }

    #[test]
    fn golden_medium_18() {
        insta::assert_snapshot!(settings(18, 4, 16_384, 100).render("0123"));
    }

    #[test]
    fn golden_largest() {
        insta::assert_snapshot!(settings(14, 128, 1_048_576, 1024).render("0123"));
    }

    #[test]
    fn restart_is_needed_for_some_only() {
        let small = settings(15, 1, 512, 8);
        assert!(small.needing_restart(&small).is_empty());
        assert!(
            settings(15, 1, 512, 100).needing_restart(&small).is_empty(),
            "a disk grows without a restart"
        );
        let bigger = settings(15, 8, 2048, 8);
        assert_eq!(
            bigger.needing_restart(&small),
            ["max_connections", "shared_buffers", "max_worker_processes"]
        );
    }

    #[test]
    fn the_floor_takes_the_greater_of_both() {
        let (small, big) = (settings(15, 1, 512, 8), settings(15, 16, 8192, 8));
        for (old, new) in [(&small, &big), (&big, &small)] {
            let floor = hot_standby_floor(old, new);
            for name in HOT_STANDBY_FLOOR_SETTINGS {
                let number = |s: &Settings| s.get(name).unwrap().parse::<u64>().unwrap();
                assert_eq!(number(&floor), number(old).max(number(new)), "{name}");
            }
            assert_eq!(floor.get("shared_buffers"), new.get("shared_buffers"));
        }
        assert_eq!(hot_standby_floor(&small, &big), big);
        assert_ne!(hot_standby_floor(&big, &small), small);
    }

    #[test]
    fn settings_can_be_replaced() {
        let mut s = settings(15, 1, 512, 8);
        let before = s.clone();
        s.set("work_mem", "it's").unwrap();
        s.set("statement_timeout", "1s").unwrap();
        assert_ne!(s, before);
        assert!(s.render("h").contains("work_mem = 'it''s'\n"));
        assert!(s.set("a b", "1").is_err());
        assert!(s.set("a", "\0").is_err());
    }

    fn number(s: &Settings, name: &str) -> u64 {
        s.get(name)
            .unwrap()
            .trim_end_matches(|c: char| c.is_alphabetic())
            .parse()
            .unwrap()
    }

    proptest! {
        #[test]
        fn what_is_rendered_comes_back(major in 14u32..=19, cpu in 1u64..=128, ram in 512u64..=1_048_576, disk in 8u64..=1024) {
            let s = settings(major, cpu, ram, disk);
            let parsed = parse_conf(&s.render("h")).unwrap();
            let pairs: Vec<(&str, &str)> = parsed.iter().map(|setting| (setting.name(), setting.value())).collect();
            let expected: Vec<(&str, &str)> = s.iter().chain([(CONFIG_HASH_SETTING, "h")]).collect();
            prop_assert_eq!(&pairs, &expected);
            let names: BTreeSet<&str> = pairs.iter().map(|(name, _)| *name).collect();
            prop_assert_eq!(names.len(), pairs.len(), "a name is there twice");
            prop_assert!(HOT_STANDBY_FLOOR_SETTINGS.iter().all(|name| names.contains(name)));
            prop_assert!(RESTART_SETTINGS.iter().all(|name| names.contains(name)));
            for not_here in ["synchronous_standby_names", "primary_conninfo", "primary_slot_name"] {
                prop_assert!(!names.contains(not_here));
            }
        }

        #[test]
        fn sizes_make_sense(cpu in 1u64..=128, ram in 512u64..=1_048_576, disk in 8u64..=1024) {
            let s = settings(18, cpu, ram, disk);
            prop_assert!(number(&s, "shared_buffers") * 4 <= ram);
            prop_assert!(number(&s, "superuser_reserved_connections") >= 5);
            // What initdb writes into pg_control (100, 8, 10, 64): a standby with less refuses to start.
            prop_assert!(number(&s, "max_connections") >= 108);
            prop_assert!(number(&s, "max_parallel_workers") <= number(&s, "max_worker_processes"));
            let wal_mb = number(&s, "max_wal_size") + number(&s, "max_slot_wal_keep_size");
            prop_assert!(wal_mb * 3 <= disk * 1024, "{wal_mb}");
            prop_assert!(number(&s, "min_wal_size") >= 32);
            // PostgreSQL's own bounds.
            prop_assert!((1..=262_143).contains(&number(&s, "max_connections")));
            prop_assert!((64..=2_147_483_647).contains(&number(&s, "work_mem")));
        }

        #[test]
        fn more_is_never_less(ram in 512u64..=1_048_575, more in 1u64..=1_000_000, cpu in 1u64..=127, disk in 8u64..=1023) {
            let (small, big) = (settings(18, cpu, ram, disk), settings(18, cpu + 1, (ram + more).min(1_048_576), disk + 1));
            for name in [
                "max_connections", "shared_buffers", "effective_cache_size", "maintenance_work_mem", "max_worker_processes",
                "max_parallel_workers", "max_wal_size", "min_wal_size", "wal_keep_size", "max_slot_wal_keep_size", "io_workers",
            ] {
                prop_assert!(number(&small, name) <= number(&big, name), "{name}");
            }
        }
    }
}
