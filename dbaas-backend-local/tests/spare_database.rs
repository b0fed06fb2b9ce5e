//! The spare database of a data directory that was made ahead, on real PostgreSQL.

mod fixture;

use std::time::Duration;

use dbaas_backend_local::WarmPool;
use dbaas_core::command::{SPARE_DATABASE, create_database, make_register};
use dbaas_core::infrastructure::Infrastructure;
use dbaas_core::plan::DatabaseSource;
use dbaas_core::sql_executor::ScriptMode;
use dbaas_core::version::PostgresMajor;
use fixture::Fixture;
use uuid::Uuid;

/// Everything that PostgreSQL says of a database but what must differ: its name, its mark and its number.
const OF_IT: &str = "SELECT (to_jsonb(d) - 'oid' - 'datname' - 'datfrozenxid' - 'datminmxid')::text FROM pg_database d \
                     WHERE datname = current_database()";
/// Everything in it, with owners and privileges.
const IN_IT: &str = "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM (\
                     SELECT relname, relkind, relowner, relacl::text FROM pg_class \
                     UNION ALL SELECT nspname, 'n', nspowner, nspacl::text FROM pg_namespace \
                     UNION ALL SELECT proname, 'f', proowner, proacl::text FROM pg_proc \
                     UNION ALL SELECT extname, 'e', extowner, extversion FROM pg_extension) t";

async fn becomes_one_like_any_other(major: u32) {
    let Some(mut fixture) = Fixture::new(major) else {
        return;
    };
    fixture.options.warm_pool = WarmPool {
        sets: 1,
        seeds_per_set: 0,
    };
    let backend = fixture.open();
    let own = fixture.installation.version.major;
    // The pool is for the newest version of the machine and for those that are used.
    let newest: PostgresMajor = backend.versions().await.unwrap().last().unwrap().version.major;
    if newest != own {
        let first = fixture.node();
        fixture.primary(&backend, first, vec![]).await;
    }
    fixture.pool_filled(&backend, own).await;
    let node = fixture.node();
    fixture.primary(&backend, node, vec![]).await;
    let seen = fixture.wait_running(&backend, node).await;
    assert!(seen.bootstrap_password.is_some(), "not from the pool");

    let count = "SELECT string_agg(datname || ' ' || oid, ', ') FROM pg_database WHERE oid >= 16384";
    let spare = format!("{SPARE_DATABASE} 16384");
    assert_eq!(fixture.sql(&backend, node, count).await, spare);
    let refused = fixture.try_sql_in(SPARE_DATABASE, &seen, "SELECT 1").unwrap_err();
    assert!(
        refused.contains("is not currently accepting connections"),
        "{refused}"
    );

    fixture.sql(&backend, node, "CREATE ROLE app LOGIN").await;
    // Where it is written down whose database is whose; the first thing that a control plane makes.
    let register = make_register(&[]);
    let register: Vec<&str> = register.steps.iter().map(|step| step.statement.text()).collect();
    fixture.sql(&backend, node, &register.join("; ")).await;
    let databases = [
        ("first", DatabaseSource::Spare),
        ("second", DatabaseSource::Template),
    ];
    let mut of_them = Vec::new();
    for (name, source) in databases {
        let scripts = create_database(
            &name.parse().unwrap(),
            Uuid::now_v7(),
            &"app".parse().unwrap(),
            source,
        );
        for script in scripts {
            let mut text: Vec<&str> = script.steps.iter().map(|step| step.statement.text()).collect();
            if script.mode == ScriptMode::Transaction {
                text.insert(0, "BEGIN");
                text.push("COMMIT");
                fixture.sql(&backend, node, &text.join("; ")).await;
            } else {
                for statement in text {
                    fixture.sql(&backend, node, statement).await;
                }
            }
        }
        let ask = |sql| fixture.try_sql_in(name, &seen, sql).unwrap();
        of_them.push((ask(OF_IT), ask(IN_IT)));
    }
    assert_eq!(of_them[0], of_them[1]);
    assert!(
        of_them[0].0.contains("\"datallowconn\": true"),
        "{}",
        of_them[0].0
    );
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{SPARE_DATABASE}'");
    assert_eq!(fixture.sql(&backend, node, &left).await, "0");
    backend.stop_all(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn becomes_one_like_any_other_on_15() {
    becomes_one_like_any_other(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn becomes_one_like_any_other_on_18() {
    becomes_one_like_any_other(18).await;
}

#[test]
fn there_is_none_where_its_number_would_be_among_the_systems() {
    let fourteen = PostgresMajor::new(14).unwrap();
    assert_eq!(dbaas_core::command::create_spare_database(fourteen), None);
}
