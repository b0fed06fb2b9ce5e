//! [`reconfigure`]: a new configuration for a server that runs.
//!
//! # Why by SQL
//! A backend knows how to write files into a node that is off. Into one that runs, each would need a way of
//! its own, and a virtual machine without an agent has none. The server itself can: `COPY … TO` writes a file
//! beside the old one, `COPY … TO PROGRAM` renames it (SQL has no function that does; `adminpack` is gone).
//! So it works the same on every backend, in the session that holds the lock and has checked the epoch.
//!
//! # What can happen on the way
//! * Each file is replaced by a rename after it has reached the disk: it is the old one or the new one.
//! * The server or its controller is lost between two files, or before the reload: `dbaas.config_hash` still
//!   says the old, so it is done again. A start writes all files anyway.
//! * PostgreSQL refuses a file (`pg_hba_file_rules`, `pg_file_settings`): the old files are put back before
//!   anything is loaded, and the script fails with what PostgreSQL said. A setting that takes effect at a
//!   start only is not among those: it waits for that start.
//! * An order of the same epoch comes late: the next look finds another hash than it wants, and it is done
//!   again.
//! * The part in replication is in `postgresql.auto.conf`, which is not touched, and which wins.

use crate::cluster::Epoch;
use crate::config::{Configuration, RECONFIGURED_SETTING, render_setting};
use crate::sql::Statement;
use crate::sql_executor::Script;

use super::{Accepts, LOCK_KEY, epoch_guard, release, reload};

/// What a failure says that is a refusal: asked again, PostgreSQL says the same.
pub const CONFIGURATION_REFUSED: &str = "the new configuration was refused";

/// Replaces both files, the one with the hash last, and looks at what PostgreSQL makes of them.
const REPLACE: &str = r"DO $dbaas$
DECLARE
  names text[] := ARRAY['pg_hba.conf', 'postgresql.conf'];
  old text[] := ARRAY[pg_read_file('pg_hba.conf'), pg_read_file('postgresql.conf')];
  new text[] := ARRAY[current_setting('dbaas.new_hba'), current_setting('dbaas.new_conf')];
  refusal text;
BEGIN
  FOR attempt IN 1..2 LOOP
    FOR i IN 1..2 LOOP
      EXECUTE format('COPY (SELECT nullif(line, '''') FROM unnest(string_to_array(%L, E''\n'')) WITH ORDINALITY AS t (line, n) '
        || 'ORDER BY n) TO %L (FORMAT csv, DELIMITER E''\x02'', QUOTE E''\x01'', ENCODING ''UTF8'')',
        rtrim(new[i], E'\n'), current_setting('data_directory') || '/.dbaas.' || names[i]);
      EXECUTE format('COPY (SELECT 1 WHERE false) TO PROGRAM %L', replace(
        'PATH=$PATH:/usr/bin:/bin && chmod 600 .dbaas.FILE && sync .dbaas.FILE && mv .dbaas.FILE FILE && sync .', 'FILE', names[i]));
    END LOOP;
    EXIT WHEN refusal IS NOT NULL;
    SELECT format('line %s of pg_hba.conf: %s', line_number, error) INTO refusal
      FROM pg_hba_file_rules WHERE error IS NOT NULL LIMIT 1;
    IF refusal IS NULL THEN
      SELECT concat_ws(': ', f.name, f.error) INTO refusal
        FROM pg_file_settings f LEFT JOIN pg_settings s ON s.name = lower(f.name)
        WHERE f.error IS NOT NULL AND s.context IS DISTINCT FROM 'postmaster' LIMIT 1;
    END IF;
    EXIT WHEN refusal IS NULL;
    new := old;
  END LOOP;
  IF refusal IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'config_file_error', MESSAGE = 'the new configuration was refused, the old one was put back: ' || refusal;
  END IF;
END $dbaas$";

/// Gives a running server a new configuration. Takes the lock only if it is free: what the failover protocol
/// has to do on a node goes first.
pub fn reconfigure(epoch: Epoch, configuration: &Configuration) -> Script {
    let [(_, conf), (_, hba)] = configuration.files();
    let conf = conf + &render_setting(RECONFIGURED_SETTING, "on");
    // For this transaction only.
    let hand_over = |call, text: &str| Statement::fixed(call).literal(text).raw(", true) <> ''");
    let script = Script::new("reconfigure")
        .in_transaction()
        .guard(epoch_guard(Accepts::UpTo(epoch)))
        .guard(
            Statement::fixed("SELECT pg_try_advisory_lock(")
                .number(LOCK_KEY)
                .raw(")"),
        )
        .guard(epoch_guard(Accepts::UpTo(epoch)))
        .guard(hand_over("SELECT set_config('dbaas.new_conf', ", &conf))
        .guard(hand_over("SELECT set_config('dbaas.new_hba', ", &hba))
        .step(Statement::fixed(REPLACE))
        .step(reload());
    release(script).within_ms(1_000, 20_000)
}
