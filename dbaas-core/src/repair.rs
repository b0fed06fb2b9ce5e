//! Putting back what keeps an owner out of a database, or a user from logging in at all: asked for once, told
//! afterwards.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What was asked for and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Asked for and not done yet, since.
    #[serde(default)]
    pub requested_at: Option<Timestamp>,
    /// What was found meanwhile and is being put back, for people.
    #[serde(default)]
    pub found: Vec<String>,
    /// What came of the last one.
    #[serde(default)]
    pub last: Option<Repaired>,
}

/// A repair that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// When it was seen to be done.
    pub at: Timestamp,
    /// What was put back, for people; empty if everything was as it is to be.
    pub changed: Vec<String>,
}

impl Repair {
    /// Asks for one, unless one is under way.
    pub fn request(&mut self, now: Timestamp) {
        if self.requested_at.is_none() {
            self.requested_at = Some(now);
            self.found.clear();
        }
    }

    /// Notes what is about to be put back.
    pub fn note(&mut self, found: impl IntoIterator<Item = String>) {
        for what in found {
            if !self.found.contains(&what) {
                self.found.push(what);
            }
        }
    }

    /// Nothing is left to put back. Returns what was, for people.
    pub fn finish(&mut self, now: Timestamp) -> String {
        self.requested_at = None;
        let changed = std::mem::take(&mut self.found);
        let told = match changed.is_empty() {
            true => "everything was as it is to be, nothing was changed".to_owned(),
            false => changed.join("; "),
        };
        self.last = Some(Repaired { at: now, changed });
        told
    }
}
