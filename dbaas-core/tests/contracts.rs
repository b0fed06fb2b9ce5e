//! What the small types of the public API promise in numbers and words: units, bounds, which errors may pass
//! by themselves.

use dbaas_core::boot::REPLICATION_ROLE;
use dbaas_core::boot_plan::conninfo;
use dbaas_core::infrastructure::{Endpoint, InfraError, InfraErrorKind, ipv4_of};
use dbaas_core::limits;
use dbaas_core::observation::FollowTarget;
use dbaas_core::size::{DiskGb, RamMb};
use dbaas_core::sql::Statement;
use dbaas_core::sql_executor::{SqlError, SqlErrorKind};
use dbaas_core::store::{StoreError, StoreErrorKind};
use dbaas_core::time::Timestamp;

#[test]
fn only_what_may_pass_by_itself_is_tried_again() {
    for (kind, again) in [
        (InfraErrorKind::Unavailable, true),
        (InfraErrorKind::OutcomeUnknown, true),
        (InfraErrorKind::Exhausted, true),
        (InfraErrorKind::ImageUnavailable, true),
        (InfraErrorKind::Other, true),
        (InfraErrorKind::NotFound, false),
        (InfraErrorKind::InvalidState, false),
        (InfraErrorKind::StaleEpoch, false),
        (InfraErrorKind::Collision, false),
        (InfraErrorKind::Unsupported, false),
    ] {
        assert_eq!(InfraError::new(kind, "").is_retryable(), again, "{kind:?}");
    }
    for (kind, again) in [
        (SqlErrorKind::Refused, true),
        (SqlErrorKind::ConnectTimeout, true),
        (SqlErrorKind::NotReady, true),
        (SqlErrorKind::OutcomeUnknown, true),
        (SqlErrorKind::Login, false),
        (SqlErrorKind::GuardFailed, false),
        (SqlErrorKind::Statement, false),
    ] {
        assert_eq!(SqlError::new(kind, "").is_retryable(), again, "{kind:?}");
    }
    for (kind, again) in [
        (StoreErrorKind::Unavailable, true),
        (StoreErrorKind::Full, true),
        (StoreErrorKind::OutcomeUnknown, true),
        (StoreErrorKind::Conflict, false),
        (StoreErrorKind::NameTaken, false),
        (StoreErrorKind::Referenced, false),
        (StoreErrorKind::TooLarge, false),
    ] {
        assert_eq!(StoreError::new(kind, "").is_retryable(), again, "{kind:?}");
    }
}

#[test]
fn an_sql_error_says_where_and_which() {
    let error = SqlError::new(SqlErrorKind::Statement, "no");
    assert_eq!((error.sqlstate(), error.step()), (None, None));
    let error = error.with_sqlstate("42710").at_step(3);
    assert_eq!((error.sqlstate(), error.step()), (Some("42710"), Some(3)));
}

#[test]
fn the_shape_of_a_statement_holds_nothing_that_was_put_in() {
    let statement = Statement::fixed("ALTER ROLE ")
        .ident("r")
        .raw(" CONNECTION LIMIT ")
        .number(7);
    assert_eq!(
        statement.shape(),
        "ALTER ROLE <identifier> CONNECTION LIMIT <number>"
    );
}

#[test]
fn sizes_are_binary() {
    assert_eq!(RamMb::new(512).unwrap().bytes(), 536_870_912);
    assert_eq!(DiskGb::new(8).unwrap().bytes(), 8_589_934_592);
    assert_eq!(DiskGb::new(8).unwrap().mb(), 8192);
}

#[test]
fn bounds_of_the_interface() {
    assert_eq!(limits::BODY_BYTES_MAX, 1_048_576);
    assert_eq!(limits::IDEMPOTENCY_TTL_MS, 86_400_000);
    assert_eq!(limits::WAIT_MS_MAX, 600_000);
}

#[test]
fn an_endpoint_is_resolved_only_where_its_host_says_how() {
    let of = |host: &str| {
        let (host, port) = (host.to_owned(), 5432);
        ipv4_of(&Endpoint { host, port }).map(|ip| ip.to_string())
    };
    assert_eq!(of("10.1.2.3").as_deref(), Some("10.1.2.3"));
    assert_eq!(of("localhost").as_deref(), Some("127.0.0.1"));
    assert_eq!(of("::1"), None);
    assert_eq!(of("db.example.org"), None);
}

#[test]
fn a_standby_connects_as_the_role_for_replication_by_its_name_of_the_epoch() {
    let text = conninfo(&FollowTarget {
        endpoint: Endpoint {
            host: "10.1.2.3".to_owned(),
            port: 5444,
        },
        application_name: "n2_e7".to_owned(),
        slot: "n2".to_owned(),
    });
    for part in ["10.1.2.3", "5444", REPLICATION_ROLE, "n2_e7"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_time_is_shown_as_text_wherever_it_is() {
    assert_eq!(
        format!("{:?}", Timestamp::from_unix_ms(1)),
        "1970-01-01T00:00:00.001Z"
    );
}
