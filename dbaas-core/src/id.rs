//! Identifiers: newtypes over UUIDs, so that an instance's id can never be passed where a node's is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID. New ids are UUIDv7, so that they sort by time of creation.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                $name(uuid)
            }

            /// The UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(s: &str) -> Result<Self, InvalidId> {
                // Only the hyphenated form: one resource has one spelling.
                if s.len() != 36 {
                    return Err(InvalidId);
                }
                Uuid::try_parse(s).map($name).map_err(|_| InvalidId)
            }
        }
    };
}

/// The text is not a UUID in its hyphenated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID such as 0197f3c2-6d3b-7c9e-9f5a-0242ac120002")]
pub struct InvalidId;

id!(
    /// Identifies an instance.
    InstanceId
);
id!(
    /// Identifies a node of an instance.
    NodeId
);
id!(
    /// Identifies a database.
    DatabaseId
);
id!(
    /// Identifies a user (a PostgreSQL role that can log in).
    UserId
);
id!(
    /// Identifies a version of the catalogue.
    VersionId
);
id!(
    /// Identifies the project that an instance belongs to.
    ProjectId
);

impl ProjectId {
    /// The project of requests that name none.
    pub const DEFAULT: ProjectId = ProjectId(Uuid::from_u128(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_spelling_is_an_id() {
        let text = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";
        assert_eq!(text.parse::<NodeId>().unwrap().to_string(), text);
        for bad in [
            "",
            "0197f3c26d3b7c9e9f5a0242ac120002",
            "{0197f3c2-6d3b-7c9e-9f5a-0242ac120002}",
            "x",
        ] {
            assert_eq!(bad.parse::<NodeId>(), Err(InvalidId));
        }
    }
}
