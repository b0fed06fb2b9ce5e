//! What callers send to the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use dbaas_core::store::{StoreError, StoreErrorKind};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::failure::Failed;

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const CANCELLED: u8 = 2;

/// Decides between a writer that begins a request and a caller whose patience ends: whoever comes first.
#[derive(Debug, Default)]
pub(super) struct Claim(AtomicU8);

impl Claim {
    fn begin(&self) -> bool {
        self.0
            .compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Whether the request will never be begun.
    pub(super) fn cancel(&self) -> bool {
        self.0
            .compare_exchange(WAITING, CANCELLED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// A request as the writer sees it: begin, perform, (commit,) answer.
pub(super) trait WriteRequest: Send {
    /// Whether it is to be performed; `false` if the caller gave up before.
    fn begin(&mut self) -> bool;

    /// Performs it within a transaction; on an error its changes are to be undone.
    fn perform(&mut self, connection: &Connection) -> Result<(), StoreError>;

    /// Tells the caller, given how the transaction ended.
    fn answer(self: Box<Self>, committed: &Result<(), StoreError>);
}

/// A request that returns `T`.
pub(super) struct Request<T, Perform> {
    claim: Arc<Claim>,
    answer: oneshot::Sender<Result<T, StoreError>>,
    perform: Option<Perform>,
    result: Option<Result<T, StoreError>>,
}

impl<T, Perform> Request<T, Perform>
where
    Perform: FnOnce(&Connection) -> Result<T, Failed>,
{
    pub(super) fn new(
        claim: Arc<Claim>,
        answer: oneshot::Sender<Result<T, StoreError>>,
        perform: Perform,
    ) -> Self {
        Request {
            claim,
            answer,
            perform: Some(perform),
            result: None,
        }
    }
}

impl<T, Perform> WriteRequest for Request<T, Perform>
where
    T: Send,
    Perform: FnOnce(&Connection) -> Result<T, Failed> + Send,
{
    fn begin(&mut self) -> bool {
        // A caller whose future was dropped has not cancelled, but nobody waits for the answer either.
        !self.answer.is_closed() && self.claim.begin()
    }

    fn perform(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let Some(perform) = self.perform.take() else {
            return Ok(());
        };
        let result = perform(connection).map_err(|Failed(error)| error);
        let performed = result.as_ref().map(|_| ()).map_err(StoreError::clone);
        self.result = Some(result);
        performed
    }

    fn answer(self: Box<Self>, committed: &Result<(), StoreError>) {
        let answer = match (committed, self.result) {
            (Ok(()), Some(result)) => result,
            (Err(error), Some(Ok(_))) => Err(error.clone()),
            // A refusal may be due to a write of the same transaction, which is gone. This one wrote nothing
            // either way.
            (Err(error), Some(Err(_)) | None) => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                error.message.clone(),
            )),
            (Ok(()), None) => Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "the request was not begun",
            )),
        };
        let _caller_gave_up = self.answer.send(answer);
    }
}
