//! Which settings belong to the control plane, and why.

/// Libraries that a server may load when it starts.
pub const PRELOADED: [&str; 2] = ["pg_stat_statements", "pg_prewarm"];

const PLACE: &str = "the backend gives a node its place, its addresses and its files";
const ACKNOWLEDGED: &str = "acknowledged commits would be lost in a power cut";
const REPLICATION: &str = "replication, failover and the rebuilding of standbys rest on it";
const LOG: &str = "the control plane reads the server's log, and the backend keeps it";
const PRIVACY: &str = "statements hold passwords and users' data, and are never logged";
const LOGIN: &str = "who logs in, and how, is the control plane's to hold";
const CODE: &str = "a library could keep the server from starting, or do anything in it";
const NO_FILE: &str =
    "PostgreSQL takes it from sessions only, or the control plane's own sessions rest on it";
const DETECTION: &str = "how soon a lost node is noticed rests on it";

/// Exact names.
const OWNED: [(&str, &str); 68] = [
    ("listen_addresses", PLACE),
    ("port", PLACE),
    ("data_directory", PLACE),
    ("config_file", PLACE),
    ("hba_file", PLACE),
    ("ident_file", PLACE),
    ("external_pid_file", PLACE),
    ("stats_temp_directory", PLACE),
    ("shared_memory_type", PLACE),
    ("dynamic_shared_memory_type", PLACE),
    ("fsync", ACKNOWLEDGED),
    ("full_page_writes", ACKNOWLEDGED),
    ("data_sync_retry", ACKNOWLEDGED),
    (
        "synchronous_commit",
        "with less than on, a commit that was acknowledged could be lost in a failover; a session or a role may choose so for itself",
    ),
    ("synchronous_standby_names", REPLICATION),
    ("synchronized_standby_slots", REPLICATION),
    ("sync_replication_slots", REPLICATION),
    ("primary_conninfo", REPLICATION),
    ("primary_slot_name", REPLICATION),
    ("promote_trigger_file", REPLICATION),
    ("wal_level", REPLICATION),
    ("wal_log_hints", REPLICATION),
    ("hot_standby", REPLICATION),
    (
        "max_slot_wal_keep_size",
        "it is derived from the disk, so that a standby that is gone never fills the primary's",
    ),
    ("idle_replication_slot_timeout", REPLICATION),
    ("restart_after_crash", REPLICATION),
    ("ignore_invalid_pages", REPLICATION),
    ("wal_sender_timeout", DETECTION),
    ("wal_receiver_timeout", DETECTION),
    ("wal_receiver_status_interval", DETECTION),
    ("wal_retrieve_retry_interval", DETECTION),
    ("wal_receiver_create_temp_slot", REPLICATION),
    (
        "superuser_reserved_connections",
        "connections are kept for the control plane",
    ),
    (
        "allow_alter_system",
        "the control plane writes what a node follows by ALTER SYSTEM",
    ),
    ("log_destination", LOG),
    ("logging_collector", LOG),
    ("log_directory", LOG),
    ("log_filename", LOG),
    ("log_file_mode", LOG),
    ("log_truncate_on_rotation", LOG),
    ("log_line_prefix", LOG),
    ("log_min_messages", LOG),
    ("event_source", LOG),
    ("lc_messages", LOG),
    ("log_statement", PRIVACY),
    ("log_min_error_statement", PRIVACY),
    ("log_min_duration_statement", PRIVACY),
    ("log_min_duration_sample", PRIVACY),
    ("log_statement_sample_rate", PRIVACY),
    ("log_transaction_sample_rate", PRIVACY),
    ("log_parameter_max_length", PRIVACY),
    ("log_parameter_max_length_on_error", PRIVACY),
    ("log_error_verbosity", PRIVACY),
    ("password_encryption", LOGIN),
    ("db_user_namespace", LOGIN),
    ("authentication_timeout", LOGIN),
    ("oauth_validator_libraries", LOGIN),
    ("md5_password_warnings", LOGIN),
    ("session_preload_libraries", CODE),
    ("local_preload_libraries", CODE),
    ("dynamic_library_path", CODE),
    ("extension_control_path", CODE),
    ("jit_provider", CODE),
    ("role", NO_FILE),
    ("session_authorization", NO_FILE),
    ("session_replication_role", NO_FILE),
    ("default_transaction_read_only", NO_FILE),
    ("seed", NO_FILE),
];

/// Beginnings of names.
const OWNED_PREFIXES: [(&str, &str); 14] = [
    ("unix_socket_", PLACE),
    ("bonjour", PLACE),
    ("archive_", REPLICATION),
    ("restore_", REPLICATION),
    ("recovery_", REPLICATION),
    ("syslog_", LOG),
    ("log_rotation_", LOG),
    ("debug_", PRIVACY),
    ("ssl", LOGIN),
    ("krb_", LOGIN),
    ("gss_", LOGIN),
    ("transaction_isolation", NO_FILE),
    ("transaction_read_only", NO_FILE),
    ("transaction_deferrable", NO_FILE),
];

/// Why a setting belongs to the control plane; `None`: it is the user's.
pub fn ownership(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    if name.starts_with("dbaas.") {
        return Some("the control plane keeps its own marks under this prefix");
    }
    let exact = OWNED.iter().find(|(owned, _)| *owned == name);
    let begins = || OWNED_PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix));
    exact.or_else(begins).map(|(_, reason)| *reason)
}

/// The smallest values that the control plane can do with: what `initdb` writes into `pg_control`, and what
/// replication needs.
const LEAST: [(&str, f64, &str); 6] = [
    ("max_connections", 100.0, COPY),
    ("max_worker_processes", 8.0, COPY),
    ("max_locks_per_transaction", 64.0, COPY),
    ("max_wal_senders", 32.0, SENDERS),
    ("max_replication_slots", 32.0, SENDERS),
    ("max_wal_size", 64.0, "checkpoints would follow one another"),
];
const COPY: &str = "a standby that is a copy of a new data directory needs as many";
const SENDERS: &str = "15 standbys need them, and base backups";

/// Rules of the control plane's own for values of settings that are the user's.
pub(super) fn check_value(name: &str, value: &str) -> Result<(), String> {
    if name == "shared_preload_libraries" {
        let listed = |library: &str| PRELOADED.contains(&library.trim());
        return if value.is_empty() || value.split(',').all(listed) {
            Ok(())
        } else {
            let allowed = PRELOADED.join(", ");
            Err(format!(
                "may name {allowed} only: any other library could keep the server from starting, or do anything in it"
            ))
        };
    }
    let Some((_, least, why)) = LEAST.iter().find(|(of, ..)| *of == name) else {
        return Ok(());
    };
    match super::value::number(value, Some(super::Unit::Bytes(1 << 20))) {
        Some(number) if number < *least => Err(format!("is at least {least} here: {why}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::catalogue;
    use crate::version::PostgresMajor;

    #[test]
    fn what_is_owned_has_a_reason_and_is_a_setting_somewhere() {
        let majors = (14..=18).map(|major| PostgresMajor::new(major).unwrap());
        let names: Vec<&str> = majors
            .flat_map(catalogue)
            .map(|parameter| parameter.name)
            .collect();
        // Those that are left out of the catalogue are refused all the same.
        let elsewhere = ["ignore_invalid_pages", "session_authorization", "role", "seed"];
        for (name, reason) in OWNED {
            assert!(!reason.is_empty());
            assert!(names.contains(&name) || elsewhere.contains(&name), "{name}");
        }
        for (prefix, _) in OWNED_PREFIXES {
            assert!(names.iter().any(|name| name.starts_with(prefix)), "{prefix}");
        }
    }

    #[test]
    fn the_failover_protocols_own_are_nobody_elses() {
        for name in [
            "synchronous_standby_names",
            "PRIMARY_CONNINFO",
            "dbaas.epoch",
            "dbaas.config_hash",
            "restore_command",
        ] {
            assert!(ownership(name).is_some(), "{name}");
        }
        for name in [
            "work_mem",
            "max_connections",
            "timezone",
            "statement_timeout",
            "autovacuum",
        ] {
            assert_eq!(ownership(name), None, "{name}");
        }
    }
}
