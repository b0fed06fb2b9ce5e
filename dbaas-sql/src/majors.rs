//! [`Majors`]: which version answered where, so that a session can start with what that version has.

use std::collections::HashMap;

use dbaas_core::infrastructure::Endpoint;
use dbaas_core::sql_executor::SqlError;
use parking_lot::Mutex;

/// The first version that has `transaction_timeout`, and with it the SQLSTATE 25P04.
const TRANSACTION_TIMEOUT_SINCE: u32 = 17;

/// The major versions of the servers that answered. One entry per endpoint that was not forgotten.
#[derive(Default)]
pub(crate) struct Majors(Mutex<HashMap<Endpoint, u32>>);

impl Majors {
    pub(crate) fn of(&self, endpoint: &Endpoint) -> Option<u32> {
        self.0.lock().get(endpoint).copied()
    }

    pub(crate) fn learn(&self, endpoint: &Endpoint, major: Option<u32>) {
        let mut known = self.0.lock();
        match major {
            Some(major) if known.get(endpoint) != Some(&major) => {
                known.insert(endpoint.clone(), major);
            }
            Some(_) => {}
            None => {
                known.remove(endpoint);
            }
        }
    }

    pub(crate) fn forget(&self, endpoint: &Endpoint) {
        self.0.lock().remove(endpoint);
    }
}

/// What a refused login says of the version: `Some(None)` that it is not what was believed, `None` nothing.
pub(crate) fn learnt_from(error: &SqlError) -> Option<Option<u32>> {
    match error.sqlstate() {
        Some("25P04") => Some(Some(TRANSACTION_TIMEOUT_SINCE)),
        // A setting that the server does not have.
        Some("42704") => Some(None),
        _ => None,
    }
}
