//! [`Parameters`]: what users set of PostgreSQL's configuration, checked against what each major version
//! takes.
//!
//! [`catalogue`] has every setting of a major version as a server of it says (`pg_settings`; made by
//! `ci/parameters`), [`ownership`] which of them belong to the control plane, and why. [`Parameters::check`]
//! names every one that is wrong.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::version::PostgresMajor;

mod catalogue;
mod ownership;
mod value;

pub use catalogue::{Context, Parameter, catalogue, parameter};
pub use ownership::{PRELOADED, ownership};
pub use value::{InvalidValue, Kind, Unit};

/// How many parameters an instance may have.
pub const PARAMETERS_MAX: usize = 200;
/// Longest value of a parameter, in bytes.
pub const VALUE_BYTES_MAX: usize = 1_000;

/// Names and values. Names are in lower case, as PostgreSQL does not tell cases apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parameters(BTreeMap<String, String>);

/// A parameter that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {rule}")]
pub struct InvalidParameter {
    /// Its name, as it was given.
    pub name: String,
    /// The rule that it breaks, for people.
    pub rule: String,
}

impl Parameters {
    /// Sets one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_ascii_lowercase(), value.into());
    }

    /// Takes one back: what the control plane derives, or PostgreSQL's default, is in force.
    pub fn unset(&mut self, name: &str) {
        self.0.remove(&name.to_ascii_lowercase());
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that are wrong for a server of this major version.
    pub fn check(&self, major: PostgresMajor) -> Result<(), Vec<InvalidParameter>> {
        let mut errors: Vec<InvalidParameter> = self
            .iter()
            .filter_map(|(name, value)| {
                let rule = check_one(major, name, value).err()?;
                let name = name.to_owned();
                Some(InvalidParameter { name, rule })
            })
            .collect();
        if self.0.len() > PARAMETERS_MAX {
            errors.push(InvalidParameter {
                name: String::new(),
                rule: format!("an instance has at most {PARAMETERS_MAX} parameters"),
            });
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Writes them over what was derived.
    pub fn apply_to(&self, settings: &mut Settings) {
        for (name, value) in self.iter() {
            // Checked when they were asked for: a name of the catalogue is a setting's name, and no value has
            // a NUL.
            let _ = settings.set(name, value);
        }
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        f.write_str(&pairs.join(", "))
    }
}

impl<N: AsRef<str>, V: Into<String>> FromIterator<(N, V)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut parameters = Parameters::default();
        for (name, value) in pairs {
            parameters.set(name.as_ref(), value);
        }
        parameters
    }
}

/// Checks a value, or says which rule it breaks.
fn check_one(major: PostgresMajor, name: &str, value: &str) -> Result<(), String> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("a value has at most {VALUE_BYTES_MAX} bytes"));
    }
    if value.contains(|c: char| c.is_control()) {
        return Err("a value has no control characters".to_owned());
    }
    if let Some(reason) = ownership(name) {
        return Err(format!("belongs to the control plane: {reason}"));
    }
    let parameter = parameter(major, name).ok_or_else(|| format!("is no setting of PostgreSQL {major}"))?;
    parameter.kind.check(value).map_err(|e| e.to_string())?;
    ownership::check_value(name, value)
}
