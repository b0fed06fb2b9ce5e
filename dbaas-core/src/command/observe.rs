//! Scripts that look: one statement each, one JSON value as their answer.

use serde::Deserialize;

use crate::observation::{CatalogueFacts, NodeFacts};
use crate::sql::Statement;
use crate::sql_executor::{Rows, Script};

use super::{UnreadableAnswer, single_value};

/// What PostgreSQL on a node says of itself. `timeout_ms` bounds connecting and running each.
pub fn observe_node(timeout_ms: u32) -> Script {
    Script::new("observe_node")
        .step(Statement::fixed(
            "SELECT json_build_object(\
             'in_recovery', r, \
             'epoch', coalesce(nullif(current_setting('dbaas.epoch', true), ''), '0')::bigint, \
             'history', coalesce((SELECT substring(shobj_description(a.oid, 'pg_authid') from '^epoch=([0-9]+)$')::bigint \
                 FROM pg_authid a WHERE a.rolname = 'dbaas_admin'), 0), \
             'lsn', coalesce(CASE WHEN r THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, '0/0'), \
             'receive_lsn', CASE WHEN r THEN pg_last_wal_receive_lsn() END, \
             'replay_waits', r AND EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'startup' \
                 AND wait_event IN ('RecoveryRetrieveRetryInterval', 'RecoveryWalStream', 'RecoveryWalAll')), \
             'receiver', (SELECT json_build_object('status', status, 'last_message_ms', \
                 greatest(0, extract(epoch FROM clock_timestamp() - last_msg_receipt_time) * 1000)::bigint) \
                 FROM pg_stat_wal_receiver LIMIT 1), \
             'primary_conninfo', current_setting('primary_conninfo'), \
             'primary_slot', current_setting('primary_slot_name'), \
             'sync_names', current_setting('synchronous_standby_names'), \
             'setting', coalesce((SELECT substring(shobj_description(a.oid, 'pg_authid') from '^setting=([0-9]+)$')::bigint \
                 FROM pg_authid a WHERE a.rolname = 'dbaas_replication'), 0), \
             'checkpointed', CASE WHEN r THEN false ELSE (SELECT timeline_id FROM pg_control_checkpoint()) = \
                 ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END, \
             'checkpoint_redo', CASE WHEN r THEN NULL ELSE (SELECT redo_lsn FROM pg_control_checkpoint()) END, \
             'standbys', coalesce((SELECT json_agg(json_build_object('application_name', application_name, 'state', state, \
                 'flush_lsn', flush_lsn, 'replay_lsn', replay_lsn)) FROM pg_stat_replication), '[]'), \
             'slots', coalesce((SELECT json_agg(json_build_object('name', slot_name, 'active', active, \
                 'lost', coalesce(wal_status = 'lost', false))) FROM pg_replication_slots WHERE slot_type = 'physical'), '[]'), \
             'rebuild', coalesce(nullif(current_setting('dbaas.rebuild', true), ''), '0')::bigint, \
             'config_hash', coalesce(current_setting('dbaas.config_hash', true), ''), \
             'hot_standby', json_build_object('max_connections', current_setting('max_connections')::bigint, \
                 'max_worker_processes', current_setting('max_worker_processes')::bigint, \
                 'max_wal_senders', current_setting('max_wal_senders')::bigint, \
                 'max_prepared_transactions', current_setting('max_prepared_transactions')::bigint, \
                 'max_locks_per_transaction', current_setting('max_locks_per_transaction')::bigint), \
             'pending_restart', coalesce(CASE WHEN current_setting('dbaas.reconfigured', true) = 'on' THEN \
                 (SELECT json_agg(name ORDER BY name) FROM pg_settings WHERE pending_restart AND source <> 'command line') END, '[]'), \
             'started_at_ms', (extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint, \
             'has_replication_role', EXISTS (SELECT FROM pg_roles WHERE rolname = 'dbaas_replication'), \
             'has_register', to_regclass('dbaas.object') IS NOT NULL) \
             FROM (SELECT pg_is_in_recovery() AS r) x",
        ))
        .within_ms(timeout_ms, timeout_ms)
        .repeated()
}

#[derive(Deserialize)]
struct NodeRow {
    started_at_ms: i64,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Reads the answer of [`observe_node`].
pub fn parse_node(answer: &[Rows]) -> Result<NodeFacts, UnreadableAnswer> {
    const SCRIPT: &str = "observe_node";
    let unreadable = |e: serde_json::Error| UnreadableAnswer {
        script: SCRIPT,
        reason: e.to_string(),
    };
    let text = single_value(SCRIPT, answer)?;
    let mut row: NodeRow = serde_json::from_str(text).map_err(unreadable)?;
    let started_at = crate::time::Timestamp::from_unix_ms(row.started_at_ms);
    row.rest
        .insert("started_at".to_owned(), started_at.to_string().into());
    serde_json::from_value(serde_json::Value::Object(row.rest)).map_err(unreadable)
}

/// Roles and databases of the primary. Fails where there is no register yet ([`NodeFacts::has_register`]).
///
/// What a database's objects have to do with roles is told by `pg_shdepend`, which is one for all databases.
pub fn observe_catalogue() -> Script {
    Script::new("observe_catalogue")
        .step(Statement::fixed(
            "SELECT json_build_object(\
             'lsn', pg_current_wal_flush_lsn(), \
             'roles', coalesce((SELECT json_agg(json_build_object('name', rolname, 'oid', a.oid::bigint, \
                 'verifier_sha256', encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex'), \
                 'attributes_ok', rolcanlogin AND NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls), \
                 'id', o.id)) \
                 FROM pg_authid a LEFT JOIN dbaas.object o ON o.kind = 'role' AND o.oid = a.oid \
                 WHERE rolname !~ '^pg_' AND rolname NOT IN ('dbaas_admin', 'dbaas_replication', 'dbaas_heir')), '[]'), \
             'databases', coalesce((SELECT json_agg(json_build_object('name', datname, 'oid', d.oid::bigint, 'owner', r.rolname, \
                 'allows_connections', datallowconn, \
                 'public_connects', datacl IS NULL OR EXISTS (SELECT FROM aclexplode(datacl) \
                     WHERE grantee = 0 AND privilege_type = 'CONNECT'), \
                 'public_grantors', coalesce((SELECT json_agg(g.rolname) FROM aclexplode(datacl) x JOIN pg_roles g ON g.oid = x.grantor \
                     WHERE x.grantee = 0 AND x.privilege_type = 'CONNECT' AND x.grantor <> datdba), '[]'), \
                 'owners', coalesce(s.owners, '[]'), \
                 'involved', coalesce(s.involved, '[]'), \
                 'id', o.id)) \
                 FROM pg_database d JOIN pg_roles r ON r.oid = datdba \
                 LEFT JOIN dbaas.object o ON o.kind = 'database' AND o.oid = d.oid \
                 LEFT JOIN (SELECT dbid, json_agg(DISTINCT refobjid::bigint) AS involved, \
                     json_agg(DISTINCT refobjid::bigint) FILTER (WHERE deptype = 'o') AS owners \
                     FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND dbid <> 0 GROUP BY dbid) s ON s.dbid = d.oid \
                 WHERE datname NOT IN ('postgres', 'template0', 'template1')), '[]'), \
             'lost', coalesce((SELECT json_agg(o.id) FROM dbaas.object o WHERE CASE kind \
                 WHEN 'role' THEN NOT EXISTS (SELECT FROM pg_authid a WHERE a.oid = o.oid) \
                 ELSE NOT EXISTS (SELECT FROM pg_database d WHERE d.oid = o.oid) END), '[]')) \
             WHERE NOT pg_is_in_recovery()",
        ))
        .within_ms(1_000, 5_000)
        .repeated()
}

/// Reads the answer of [`observe_catalogue`].
pub fn parse_catalogue(answer: &[Rows]) -> Result<CatalogueFacts, UnreadableAnswer> {
    const SCRIPT: &str = "observe_catalogue";
    let text = single_value(SCRIPT, answer)?;
    serde_json::from_str(text).map_err(|e| UnreadableAnswer {
        script: SCRIPT,
        reason: e.to_string(),
    })
}
