//! The fields of a resource as calls want them, and errors that name resource and field.

use std::collections::BTreeMap;

use dbaas_core::password::Password;
use dbaas_manifest::collection::Key;
use dbaas_manifest::render::Rendered;
use serde_json::Value as Json;

use crate::error::{ControlError, FieldError};

/// The values of a resource that is about to be made or changed.
pub(super) type Values = BTreeMap<String, Rendered>;

pub(super) fn said(error: &ControlError) -> String {
    match error {
        ControlError::Invalid { errors } => {
            let errors: Vec<String> = errors
                .iter()
                .map(|error| format!("{} {}", error.pointer, error.detail))
                .collect();
            errors.join("; ")
        }
        error => error.to_string(),
    }
}

/// The error, with the resource that it is about.
pub(super) fn about(key: &Key, error: ControlError) -> ControlError {
    match error {
        ControlError::Deadline { state, reason } => ControlError::Deadline {
            state,
            reason: format!("{key}: {reason}"),
        },
        ControlError::Unavailable { .. } | ControlError::Full | ControlError::Internal { .. } => error,
        error => ControlError::WrongState {
            detail: format!("{key}: {}", said(&error)),
        },
    }
}

pub(super) fn wrong(errors: Vec<dbaas_manifest::error::Finding>) -> ControlError {
    ControlError::Manifest {
        refused: dbaas_manifest::error::Refused {
            errors,
            warnings: Vec::new(),
        },
    }
}

pub(super) fn missing(field: &str) -> ControlError {
    ControlError::Invalid {
        errors: vec![FieldError {
            pointer: format!("/{field}"),
            detail: "is missing".to_owned(),
        }],
    }
}

pub(super) fn rule(field: &str, detail: impl std::fmt::Display) -> ControlError {
    ControlError::Invalid {
        errors: vec![FieldError {
            pointer: format!("/{field}"),
            detail: detail.to_string(),
        }],
    }
}

pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    values: &Values,
    field: &str,
) -> Result<T, ControlError> {
    let text = values.get(field).and_then(|value| value.value.as_str());
    let text = text.ok_or_else(|| missing(field))?;
    text.parse().map_err(|error: T::Err| rule(field, error))
}

pub(super) fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    values: &Values,
    field: &str,
) -> Result<Option<T>, ControlError> {
    match values.contains_key(field) {
        true => parsed(values, field).map(Some),
        false => Ok(None),
    }
}

pub(super) fn decoded<T: serde::de::DeserializeOwned>(
    values: &Values,
    field: &str,
) -> Result<T, ControlError> {
    let value = values.get(field).ok_or_else(|| missing(field))?;
    // The decoder's message may quote the value; none of these is a secret.
    serde_json::from_value(value.value.clone()).map_err(|error| rule(field, error))
}

pub(super) fn maybe<T: serde::de::DeserializeOwned>(
    values: &Values,
    field: &str,
) -> Result<Option<T>, ControlError> {
    match values.contains_key(field) {
        true => decoded(values, field).map(Some),
        false => Ok(None),
    }
}

pub(super) fn secret(values: &Values) -> Result<Password, ControlError> {
    let text = values.get("password").and_then(|value| value.value.as_str());
    Password::new(text.ok_or_else(|| missing("password"))?).map_err(|error| rule("password", error))
}

pub(super) fn given(values: &Values) -> Option<dbaas_core::secret::Secret> {
    let text = values.get("value")?.value.as_str()?;
    Some(dbaas_core::secret::Secret::new(text))
}

pub(super) fn content(values: &Values) -> Result<(dbaas_core::secret::Secret, bool), ControlError> {
    let value = values.get("content").ok_or_else(|| missing("body"))?;
    let text = value.value.as_str().ok_or_else(|| missing("body"))?;
    Ok((dbaas_core::secret::Secret::new(text), value.is_secret))
}

/// What a config says beside its text.
pub(super) fn config_fields(values: &Values) -> BTreeMap<String, Json> {
    ["path", "mode", "owner", "group", "target", "on_change"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), values.get(name)?.value.clone())))
        .collect()
}
