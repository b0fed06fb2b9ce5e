//! Conditions: what programs look at beside a status.

use dbaas_core::condition;
use dbaas_core::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::types::{Time, described};
use crate::openapi::schemas::{text, words};

described! {
    /// What a condition is about. More may come.
    About: text().examples(["Ready"]);
    /// Whether it is so.
    Truth: words(["True", "False", "Unknown"]);
    /// A reason. More may come.
    ReasonWord: text().examples(["TakesWrites"]);
}

/// One thing that is so, is not so, or is not known. True is always what one wishes for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Condition {
    /// What it is about: each type is there once. Those of an instance: Ready (it takes writes), Reconciled
    /// (all is as asked for), Replicating, DiskSpace, ParametersApplied, InfrastructureReachable,
    /// ObjectsReconciled.
    #[serde(rename = "type")]
    #[schema(value_type = About, inline)]
    kind: &'static str,
    /// Whether it is so.
    #[schema(value_type = Truth, inline)]
    status: &'static str,
    /// Why, as one word that stays the same.
    #[schema(value_type = ReasonWord, inline)]
    reason: &'static str,
    /// Why, for people.
    message: String,
    /// Since when it has this status.
    #[schema(value_type = Time, inline)]
    since: Timestamp,
}

/// All of something.
pub(super) fn of(conditions: &condition::Conditions) -> Vec<Condition> {
    conditions
        .iter()
        .map(|condition| Condition {
            kind: condition.kind.as_str(),
            status: condition.status.as_str(),
            reason: condition.reason.as_str(),
            message: condition.message(),
            since: condition.since,
        })
        .collect()
}
