//! From tokio-postgres' errors to [`SqlError`], by SQLSTATE and by the kind of I/O error; never by message
//! text.

use std::error::Error as _;
use std::io;

use dbaas_core::sql_executor::{SqlError, SqlErrorKind};
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity};

/// An error before the session was ready: whatever it is, nothing was done.
pub(crate) fn connecting(error: &Error) -> SqlError {
    if let Some(db) = error.as_db_error() {
        return from_server(connecting_kind(db.code().code()), db);
    }
    match error.source().map(|source| source.downcast_ref::<io::Error>()) {
        Some(Some(io)) if io.kind() == io::ErrorKind::TimedOut => {
            SqlError::new(SqlErrorKind::ConnectTimeout, format!("cannot connect: {io}"))
        }
        // Refused, unreachable, not resolvable, reset during login, or something that does not speak
        // PostgreSQL's protocol.
        Some(Some(io)) => SqlError::new(SqlErrorKind::Refused, format!("cannot connect: {io}")),
        // Only the client's half of authentication fails with another source: a method that it does not have.
        Some(None) => SqlError::new(SqlErrorKind::Login, format!("cannot log in: {error}")),
        // Closed before the login was complete: nobody is behind that port (a port forwarder), or it died
        // just then.
        None => SqlError::new(SqlErrorKind::Refused, format!("cannot connect: {error}")),
    }
}

fn connecting_kind(sqlstate: &str) -> SqlErrorKind {
    match sqlstate {
        "57P01" | "57P02" | "57P03" => SqlErrorKind::NotReady,
        code if code.starts_with("53") => SqlErrorKind::NotReady,
        code if code.starts_with("28") => SqlErrorKind::Login,
        _ => SqlErrorKind::Statement,
    }
}

/// An error after a statement was sent.
pub(crate) fn running(error: &Error) -> SqlError {
    let Some(db) = error.as_db_error() else {
        return SqlError::new(
            SqlErrorKind::OutcomeUnknown,
            "the connection broke before the statement was answered",
        );
    };
    // A session that is ended (FATAL) may be so between its commit and the answer. An error that does not end
    // the session rolled the statement back, with one exception: a cancelled statement (57014, also the
    // server's own timeout) may have had effects that do not roll back, such as a promotion under way.
    let ended = !matches!(db.parsed_severity(), Some(Severity::Error));
    let kind = match db.code().code() {
        _ if ended => SqlErrorKind::OutcomeUnknown,
        "57014" | "40003" => SqlErrorKind::OutcomeUnknown,
        _ => SqlErrorKind::Statement,
    };
    from_server(kind, db)
}

/// The primary message only: detail, hint and context may hold values.
fn from_server(kind: SqlErrorKind, db: &DbError) -> SqlError {
    SqlError::new(kind, db.message()).with_sqlstate(db.code().code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_by_sqlstate() {
        for (code, kind) in [
            ("57P01", SqlErrorKind::NotReady),
            ("57P02", SqlErrorKind::NotReady),
            ("57P03", SqlErrorKind::NotReady),
            ("53300", SqlErrorKind::NotReady),
            ("28P01", SqlErrorKind::Login),
            ("28000", SqlErrorKind::Login),
            ("3D000", SqlErrorKind::Statement),
            ("42501", SqlErrorKind::Statement),
            ("57P04", SqlErrorKind::Statement),
        ] {
            assert_eq!(connecting_kind(code), kind, "{code}");
        }
    }
}
