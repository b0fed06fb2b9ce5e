//! What the control plane's sessions have set whatever a database or a role says.
//!
//! The owner of a database may put any setting of context `user` on it (`ALTER DATABASE … SET`), and every
//! session in that database starts with it, ours too. Who was granted it (`GRANT SET ON PARAMETER`) may do
//! the same with one of context `superuser`. The rule: what can make a statement of ours fail, mean something
//! else, or run somebody's code is set when a session starts, where it outranks the database and the role.
//! All others are in [`LEFT_ALONE`]. The conformance suite of executors goes through all settings of the
//! server that it runs on, so that a setting of a new version has to be put in one of the two.

/// A setting of our sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSetting {
    /// Its name.
    pub name: &'static str,
    /// The value that our sessions have.
    pub value: &'static str,
    /// The first major version that has it; 0 if all of them do.
    pub since: u32,
    /// What somebody else's value would do.
    pub why: Why,
}

/// What a value of somebody else's would do to a session of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Code or a library of somebody's choice would run with our rights.
    Code,
    /// A statement, or its answer, would mean something else.
    Meaning,
    /// A statement, or the login, would fail or be cut short.
    Failure,
    /// A statement's text would get into a log.
    Secrets,
}

const fn all(name: &'static str, value: &'static str, why: Why) -> SessionSetting {
    since(0, name, value, why)
}

const fn since(since: u32, name: &'static str, value: &'static str, why: Why) -> SessionSetting {
    SessionSetting {
        name,
        value,
        since,
        why,
    }
}

/// What our sessions start with. `session_authorization`, which names the role that logs in,
/// `client_encoding` (UTF8), `application_name`, `statement_timeout`, `lock_timeout` and
/// `idle_session_timeout` are set besides these, with values of the session's own.
pub const SESSION_SETTINGS: &[SessionSetting] = &[
    all("search_path", "pg_catalog", Why::Code),
    all("local_preload_libraries", "", Why::Code),
    all("session_preload_libraries", "", Why::Code),
    since(17, "event_triggers", "off", Why::Code),
    all("default_table_access_method", "heap", Why::Code),
    all("role", "none", Why::Meaning),
    all("session_replication_role", "origin", Why::Meaning),
    all("row_security", "on", Why::Meaning),
    all("standard_conforming_strings", "on", Why::Meaning),
    all("backslash_quote", "safe_encoding", Why::Failure),
    all("transform_null_equals", "off", Why::Meaning),
    all("array_nulls", "on", Why::Meaning),
    all("quote_all_identifiers", "off", Why::Meaning),
    all("DateStyle", "ISO, MDY", Why::Meaning),
    all("IntervalStyle", "postgres", Why::Meaning),
    all("TimeZone", "UTC", Why::Meaning),
    all("timezone_abbreviations", "Default", Why::Meaning),
    all("bytea_output", "hex", Why::Meaning),
    all("extra_float_digits", "1", Why::Meaning),
    all("xmlbinary", "base64", Why::Meaning),
    all("xmloption", "content", Why::Meaning),
    all("synchronous_commit", "local", Why::Failure),
    all("check_function_bodies", "on", Why::Meaning),
    all("default_transaction_read_only", "off", Why::Failure),
    all("default_transaction_deferrable", "off", Why::Failure),
    all("default_transaction_isolation", "read committed", Why::Meaning),
    all("idle_in_transaction_session_timeout", "10000", Why::Failure),
    since(17, "transaction_timeout", "0", Why::Failure),
    all("client_connection_check_interval", "0", Why::Failure),
    all("tcp_user_timeout", "0", Why::Failure),
    all("tcp_keepalives_idle", "0", Why::Failure),
    all("tcp_keepalives_interval", "0", Why::Failure),
    all("tcp_keepalives_count", "0", Why::Failure),
    all("exit_on_error", "off", Why::Failure),
    all("client_min_messages", "warning", Why::Failure),
    all("default_tablespace", "", Why::Failure),
    all("temp_tablespaces", "", Why::Failure),
    all("work_mem", "4MB", Why::Failure),
    all("hash_mem_multiplier", "2", Why::Failure),
    all("temp_buffers", "8MB", Why::Failure),
    all("vacuum_cost_delay", "0", Why::Failure),
    all("plpgsql.extra_errors", "none", Why::Failure),
    all("plpgsql.extra_warnings", "none", Why::Failure),
    all("plpgsql.variable_conflict", "error", Why::Meaning),
    all("jit", "off", Why::Failure),
    // A parallel worker starts with the settings of the database before it gets its leader's: a timeout of
    // that moment ends the statement.
    all("max_parallel_workers_per_gather", "0", Why::Failure),
    all("max_parallel_maintenance_workers", "0", Why::Failure),
    all("password_encryption", "scram-sha-256", Why::Meaning),
    all("lc_messages", "C", Why::Meaning),
    all("lc_numeric", "C", Why::Meaning),
    all("lc_monetary", "C", Why::Meaning),
    all("lc_time", "C", Why::Meaning),
    all("default_text_search_config", "pg_catalog.simple", Why::Meaning),
    all("log_min_error_statement", "panic", Why::Secrets),
    all("log_error_verbosity", "terse", Why::Secrets),
    all("log_statement", "none", Why::Secrets),
    all("log_duration", "off", Why::Secrets),
    all("log_min_duration_statement", "-1", Why::Secrets),
    all("log_min_duration_sample", "-1", Why::Secrets),
    all("log_transaction_sample_rate", "0", Why::Secrets),
    all("log_parameter_max_length_on_error", "0", Why::Secrets),
    all("debug_print_parse", "off", Why::Secrets),
    all("debug_print_rewritten", "off", Why::Secrets),
    all("debug_print_plan", "off", Why::Secrets),
];

/// Settings of context `user` that may be anybody's: they choose among ways to the same answer, or are about
/// what our statements never do.
pub const LEFT_ALONE: &[&str] = &[
    // How a query is planned and read from disk.
    "backend_flush_after",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "debug_parallel_query",
    "effective_cache_size",
    "effective_io_concurrency",
    "enable_async_append",
    "enable_bitmapscan",
    "enable_distinct_reordering",
    "enable_gathermerge",
    "enable_group_by_reordering",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_incremental_sort",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_material",
    "enable_memoize",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_parallel_append",
    "enable_parallel_hash",
    "enable_partition_pruning",
    "enable_partitionwise_aggregate",
    "enable_partitionwise_join",
    "enable_presorted_aggregate",
    "enable_self_join_elimination",
    "enable_seqscan",
    "enable_sort",
    "enable_tidscan",
    "force_parallel_mode",
    "from_collapse_limit",
    "geqo",
    "geqo_effort",
    "geqo_generations",
    "geqo_pool_size",
    "geqo_seed",
    "geqo_selection_bias",
    "geqo_threshold",
    "io_combine_limit",
    "jit_above_cost",
    "jit_expressions",
    "jit_inline_above_cost",
    "jit_optimize_above_cost",
    "jit_tuple_deforming",
    "join_collapse_limit",
    "maintenance_io_concurrency",
    "max_parallel_workers",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "random_page_cost",
    "recursive_worktable_factor",
    "seq_page_cost",
    "stats_fetch_consistency",
    "synchronize_seqscans",
    // Of statements that we do not run: indexes, VACUUM, ANALYZE, COPY, replication, cleartext passwords,
    // users' tables.
    "commit_siblings",
    "createrole_self_grant",
    "debug_logical_replication_streaming",
    "default_statistics_target",
    "default_toast_compression",
    "file_copy_method",
    "gin_fuzzy_search_limit",
    "gin_pending_list_limit",
    "icu_validation_level",
    "logical_decoding_work_mem",
    "maintenance_work_mem",
    "restrict_nonsystem_relation_kind",
    "scram_iterations",
    "vacuum_buffer_usage_limit",
    "vacuum_cost_limit",
    "vacuum_cost_page_dirty",
    "vacuum_cost_page_hit",
    "vacuum_cost_page_miss",
    "vacuum_failsafe_age",
    "vacuum_freeze_min_age",
    "vacuum_freeze_table_age",
    "vacuum_max_eager_freeze_failure_rate",
    "vacuum_multixact_failsafe_age",
    "vacuum_multixact_freeze_min_age",
    "vacuum_multixact_freeze_table_age",
    "vacuum_truncate",
    "wal_sender_timeout",
    "wal_skip_threshold",
    // What is said of them, to our sessions or the log; neither holds a statement's text.
    "debug_pretty_print",
    "escape_string_warning",
    "md5_password_warnings",
    "trace_notify",
    "trace_sort",
    // Of one transaction: each starts with the default, which is set.
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_in_one_list_once() {
        let mut names: Vec<&str> = SESSION_SETTINGS
            .iter()
            .map(|s| s.name)
            .chain(LEFT_ALONE.iter().copied())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    /// What people are told is what is done.
    #[test]
    fn the_documentation_has_them_all() {
        let page = include_str!("../../../docs/security.md");
        for setting in SESSION_SETTINGS {
            let row = format!("| `{}` | ", setting.name);
            let line = page.lines().find(|line| line.starts_with(&row));
            let line = line.unwrap_or_else(|| panic!("docs/security.md has no line for {}", setting.name));
            let value = if setting.value.is_empty() {
                "(empty)"
            } else {
                setting.value
            };
            assert!(line.contains(value), "{line} should say {value}");
        }
    }
}
