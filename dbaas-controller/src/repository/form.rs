//! The form of what is kept: which one the store has, and how one of an earlier release is rewritten.
//!
//! * 1: an instance, a user, a database is one document, which callers and the engine both write. There is no
//!   note of the form.
//! * 2: each of them is three ([`super::split`]).

use dbaas_core::database::DatabaseRecord;
use dbaas_core::instance::InstanceRecord;
use dbaas_core::store::{Kind, StoreError, StoreErrorKind};
use dbaas_core::user::UserRecord;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::record::Record;
use super::{Change, Repository};

/// The form that this release reads and writes.
const FORM: u64 = 2;
/// Tries, should others begin with the same store at the same time.
const TRIES: usize = 16;

/// Says which form the store has.
#[derive(Debug, Serialize, Deserialize)]
struct FormNote {
    form: u64,
}

impl Record for FormNote {
    const KIND: Kind = "form";

    fn uuid(&self) -> Uuid {
        Uuid::nil()
    }
}

impl Repository {
    /// Brings the store to the present form, in one transaction. A store of a newer release is refused, and
    /// not touched.
    pub(crate) async fn migrate(&self) -> Result<(), StoreError> {
        let mut refused = None;
        for _ in 0..TRIES {
            match self
                .load::<FormNote>(Uuid::nil())
                .await?
                .map(|note| note.record.form)
            {
                Some(FORM) => return Ok(()),
                Some(form) => {
                    let message = format!(
                        "the store has form {form}, and this program knows {FORM}: run the release that wrote it, or a newer one"
                    );
                    return Err(StoreError::new(StoreErrorKind::Unusable, message));
                }
                None => {}
            }
            let change = Change::new().create(&FormNote { form: FORM });
            let (change, instances) = self.rewritten::<InstanceRecord>(change).await?;
            let (change, users) = self.rewritten::<UserRecord>(change).await?;
            let (change, databases) = self.rewritten::<DatabaseRecord>(change).await?;
            match self.commit(change).await {
                Ok(_) => {
                    if instances + users + databases > 0 {
                        tracing::info!(
                            instances,
                            users,
                            databases,
                            "the store was brought to form {FORM}"
                        );
                    }
                    return Ok(());
                }
                // Somebody else did it, or writes still; or this did it, and the answer was lost.
                Err(error)
                    if matches!(
                        error.kind(),
                        StoreErrorKind::Conflict | StoreErrorKind::OutcomeUnknown
                    ) =>
                {
                    refused = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let late = || {
            StoreError::new(
                StoreErrorKind::Unavailable,
                "the store is being changed by others",
            )
        };
        Err(refused.unwrap_or_else(late))
    }

    /// Adds all records of a kind in the present form to the change; how many there are.
    async fn rewritten<R: Record>(&self, mut change: Change) -> Result<(Change, usize), StoreError> {
        let found = self.documents(R::KIND).await?;
        let number = found.len();
        for stored in found {
            change = change.rewrite::<R>(stored);
        }
        Ok((change, number))
    }
}
