//! What is wrong with a manifest, and where: every error at once.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// A place in a manifest, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One thing that is wrong, or that is worth a warning. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// Where in the text.
    pub position: Position,
    /// Where in the document: `$core.secret.passwords.$app/method`.
    pub path: String,
    /// The rule, for people.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.position, self.message),
            path => write!(f, "{}: {path}: {}", self.position, self.message),
        }
    }
}

/// The manifest is refused; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the manifest is not valid: {} error(s)", .errors.len())]
pub struct Refused {
    /// All errors, in the order of the text.
    pub errors: Vec<Finding>,
    /// What is worth a warning.
    pub warnings: Vec<Finding>,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) errors: Vec<Finding>,
    pub(crate) warnings: Vec<Finding>,
}

impl Report {
    pub(crate) fn error(&mut self, position: Position, path: impl Into<String>, message: impl Into<String>) {
        push(&mut self.errors, position, path.into(), message.into());
    }

    /// The warnings, unless there are errors.
    pub(crate) fn finish(mut self) -> Result<Vec<Finding>, Refused> {
        self.errors.sort();
        self.warnings.sort();
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        Err(Refused {
            errors: self.errors,
            warnings: self.warnings,
        })
    }
}

fn push(findings: &mut Vec<Finding>, position: Position, path: String, message: String) {
    if findings.len() < limits::FINDINGS_MAX {
        let finding = Finding {
            position,
            path,
            message,
        };
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
}
