//! Records in three documents: what callers ask for, what the engine decided, and what is true.
//!
//! *Intent* is the callers' alone, *decisions* and *status* are the engine's alone, so that neither ever
//! undoes what the other wrote. Each change of an intent has a number, its generation. Decisions name the
//! generation that they took over. Whoever reads a record in between sees it as it is to become:
//! [`Split::join`] adds to it what was asked for since.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Error as JsonError, Value as Json};

use super::parts::Body;
use super::record::Record;
use crate::repository::Versioned;

/// A one-time request, and which change asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked<T> {
    /// The generation of that change.
    pub(super) generation: u64,
    /// What was asked for.
    pub(super) what: T,
}

impl<T: Clone + PartialEq> Asked<T> {
    /// The request after a change from `read` to `new`.
    pub(super) fn after(
        before: Option<Asked<T>>,
        (read, new): (&Option<T>, &Option<T>),
        generation: u64,
    ) -> Option<Asked<T>> {
        match new {
            _ if read == new => before,
            Some(what) => Some(Asked {
                generation,
                what: what.clone(),
            }),
            None => None,
        }
    }

    /// What was asked for after this generation.
    pub(super) fn since(asked: Option<Asked<T>>, taken: u64) -> Option<T> {
        asked
            .filter(|asked| asked.generation > taken)
            .map(|asked| asked.what)
    }
}

/// What callers are told of a change until the engine has taken it over: `new` if it is news, else what they
/// were told before.
pub(super) fn said(before: Option<String>, read: &str, new: &str, is_taken: bool) -> Option<String> {
    match (new == read, is_taken) {
        (false, _) => Some(new.to_owned()),
        (true, false) => before,
        (true, true) => None,
    }
}

/// A record in three documents.
pub(super) trait Split: Record {
    /// What was asked for.
    type Intent: Serialize + DeserializeOwned;
    /// What was decided.
    type Decisions: Serialize + DeserializeOwned;
    /// What is true.
    type Status: Serialize + DeserializeOwned;

    /// What a new record asks for.
    fn new_intent(&self) -> Self::Intent;

    /// What is asked for once a caller has changed `read` to this.
    fn changed_intent(&self, read: &Self, before: Self::Intent, is_taken: bool) -> Self::Intent;

    /// What is decided once the intent is taken over.
    fn decisions(&self, intent: &Self::Intent) -> Self::Decisions;

    /// What is true.
    fn status(&self) -> Self::Status;

    /// The record, with what was asked for since it was taken over last.
    fn join(intent: Self::Intent, decisions: Option<Self::Decisions>, status: Option<Self::Status>) -> Self;
}

pub(super) fn body<R: Split>(record: &R) -> Result<Json, JsonError> {
    serde_json::to_value(record.new_intent())
}

pub(super) fn asked<R: Split>(record: &R, read: &Versioned<R>) -> Result<Json, JsonError> {
    let before = read.parts.first().read()?;
    serde_json::to_value(record.changed_intent(&read.record, before, read.parts.is_taken()))
}

pub(super) fn part_bodies<R: Split>(record: &R, first: &Body) -> Result<Vec<Json>, JsonError> {
    let intent = first.read()?;
    Ok(vec![
        serde_json::to_value(record.decisions(&intent))?,
        serde_json::to_value(record.status())?,
    ])
}

pub(super) fn compose<R: Split>(first: &Body, parts: &[Option<&Body>]) -> Result<R, JsonError> {
    let part = |index: usize| parts.get(index).copied().flatten();
    let decisions = part(0).map(Body::read).transpose()?;
    let status = part(1).map(Body::read).transpose()?;
    Ok(R::join(first.read()?, decisions, status))
}

/// The part of [`Record`] that follows from [`Split`].
macro_rules! record_in_three_documents {
    () => {
        fn body(&self) -> Result<serde_json::Value, serde_json::Error> {
            $crate::repository::split::body(self)
        }

        fn asked(
            &self,
            read: &$crate::repository::Versioned<Self>,
        ) -> Result<serde_json::Value, serde_json::Error> {
            $crate::repository::split::asked(self, read)
        }

        fn part_bodies(
            &self,
            first: &$crate::repository::parts::Body,
        ) -> Result<Vec<serde_json::Value>, serde_json::Error> {
            $crate::repository::split::part_bodies(self, first)
        }

        fn compose(
            first: &$crate::repository::parts::Body,
            parts: &[Option<&$crate::repository::parts::Body>],
        ) -> Result<Self, serde_json::Error> {
            $crate::repository::split::compose(first, parts)
        }
    };
}

pub(super) use record_in_three_documents;
