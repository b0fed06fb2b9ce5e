//! References to resources, as they stand in request bodies and `Location` headers.
//!
//! A reference is a path of this API (`/v1/types/postgres/versions/UUID` or the short spelling
//! `/v1/postgres/versions/UUID`, a trailing slash tolerated) or a bare UUID. Anything else is refused, a URL
//! of another server above all: nothing here is ever fetched. Answers use the `/v1/types/postgres/…`
//! spelling.
//!
//! ```
//! use dbaas_core::uri::VersionRef;
//!
//! let long: VersionRef = "/v1/types/postgres/versions/0197f3c2-6d3b-7c9e-9f5a-0242ac120002".parse()?;
//! let short: VersionRef = "/v1/postgres/versions/0197f3c2-6d3b-7c9e-9f5a-0242ac120002/".parse()?;
//! let bare: VersionRef = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002".parse()?;
//! assert!(long == short && short == bare);
//! assert_eq!(bare.to_string(), "/v1/types/postgres/versions/0197f3c2-6d3b-7c9e-9f5a-0242ac120002");
//! # Ok::<(), dbaas_core::uri::InvalidReference>(())
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{DatabaseId, InstanceId, NodeId, UserId, VersionId};
use crate::limits;

/// Where the API's resources are, in the spelling that answers use.
pub const ROOT: &str = "/v1/types/postgres";
/// The other spelling of [`ROOT`] that is accepted.
pub const SHORT_ROOT: &str = "/v1/postgres";

/// Why a reference was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidReference {
    /// Nothing was given.
    #[error("a reference must not be empty")]
    Empty,
    /// Longer than any reference is.
    #[error("a reference must be at most {} bytes long", limits::REFERENCE_BYTES.end())]
    TooLong,
    /// A URL.
    #[error("a URL is not a reference: give the path alone, such as {expected}")]
    Url {
        /// How it would look.
        expected: &'static str,
    },
    /// A query or a fragment.
    #[error("a reference has no query (?) and no fragment (#): give the path alone, such as {expected}")]
    QueryOrFragment {
        /// How it would look.
        expected: &'static str,
    },
    /// A character that no path of this API has: percent-encoding, a backslash, white space, letters beyond
    /// ASCII.
    #[error(
        "a reference has no percent-encoding, white space or special characters: it looks like {expected}"
    )]
    BadCharacter {
        /// How it would look.
        expected: &'static str,
    },
    /// `.`, `..`, or an empty part between two slashes.
    #[error("a reference has no empty, \".\" or \"..\" part: it looks like {expected}")]
    DotOrEmptySegment {
        /// How it would look.
        expected: &'static str,
    },
    /// A path to something else.
    #[error("refers to something else: a reference to {what} looks like {expected}, or is a UUID alone")]
    OtherResource {
        /// What it should refer to.
        what: &'static str,
        /// How it would look.
        expected: &'static str,
    },
    /// Not a UUID where one has to be.
    #[error("not a UUID where one must be: it looks like {expected}, or is a UUID alone")]
    BadId {
        /// How it would look.
        expected: &'static str,
    },
}

/// The ids in a reference: `…/versions/{0}` or `…/instances/{0}/users/{1}`, or the last one alone.
#[derive(Clone, Copy)]
enum Ids {
    Alone(Uuid),
    One(Uuid),
    Two(Uuid, Uuid),
}

/// What a reference refers to, and how it looks.
struct Shape {
    what: &'static str,
    expected: &'static str,
    /// The collections on the way.
    collections: &'static [&'static str],
}

fn parse(text: &str, shape: &Shape) -> Result<Ids, InvalidReference> {
    let expected = shape.expected;
    if text.is_empty() {
        return Err(InvalidReference::Empty);
    }
    if !limits::REFERENCE_BYTES.contains(&text.len()) {
        return Err(InvalidReference::TooLong);
    }
    if text.contains("://") || text.starts_with("//") {
        return Err(InvalidReference::Url { expected });
    }
    if text.contains(['?', '#']) {
        return Err(InvalidReference::QueryOrFragment { expected });
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.'))
    {
        return Err(InvalidReference::BadCharacter { expected });
    }
    let Some(path) = text.strip_prefix('/') else {
        // Not a path: a bare UUID, or nothing that is known.
        let other = InvalidReference::OtherResource {
            what: shape.what,
            expected,
        };
        let error = if text.contains('/') {
            other
        } else {
            InvalidReference::BadId { expected }
        };
        return parse_id(text).map(Ids::Alone).ok_or(error);
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<&str> = path.split('/').collect();
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return Err(InvalidReference::DotOrEmptySegment { expected });
    }
    let other = InvalidReference::OtherResource {
        what: shape.what,
        expected,
    };
    let rest = match &segments[..] {
        ["v1", "types", "postgres", rest @ ..] | ["v1", "postgres", rest @ ..] => rest,
        _ => return Err(other),
    };
    let id = |text: &str| parse_id(text).ok_or(InvalidReference::BadId { expected });
    match (rest, shape.collections) {
        ([a, first], [x]) if a == x => Ok(Ids::One(id(first)?)),
        ([a, first, b, second], [x, y]) if a == x && b == y => Ok(Ids::Two(id(first)?, id(second)?)),
        _ => Err(other),
    }
}

/// The hyphenated form only: one resource has one spelling.
fn parse_id(text: &str) -> Option<Uuid> {
    if text.len() == 36 {
        Uuid::try_parse(text).ok()
    } else {
        None
    }
}

macro_rules! text_serde {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = InvalidReference;

            fn try_from(text: String) -> Result<Self, InvalidReference> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(reference: $name) -> String {
                reference.to_string()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

macro_rules! root_reference {
    ($(#[$doc:meta])* $name:ident($id:ident), $what:literal, $collection:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(
            /// Which one.
            pub $id,
        );

        impl FromStr for $name {
            type Err = InvalidReference;

            fn from_str(text: &str) -> Result<Self, InvalidReference> {
                let expected = concat!("/v1/types/postgres/", $collection, "/UUID");
                match parse(text, &Shape { what: $what, expected, collections: &[$collection] })? {
                    Ids::Alone(id) | Ids::One(id) => Ok($name($id::from_uuid(id))),
                    Ids::Two(..) => Err(InvalidReference::OtherResource { what: $what, expected }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{ROOT}/{}/{}", $collection, self.0)
            }
        }

        text_serde!($name);
    };
}

macro_rules! child_reference {
    ($(#[$doc:meta])* $name:ident($id:ident), $what:literal, $collection:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name {
            /// The instance that the path names; `None` if the reference is a bare UUID, which means the
            /// instance at hand.
            pub instance: Option<InstanceId>,
            /// Which one.
            pub id: $id,
        }

        impl $name {
            /// A reference that names the instance.
            pub fn new(instance: InstanceId, id: $id) -> Self {
                $name { instance: Some(instance), id }
            }

            /// Whether it can be meant in this instance: it names this one, or none.
            pub fn is_within(&self, instance: InstanceId) -> bool {
                self.instance.is_none_or(|named| named == instance)
            }
        }

        impl FromStr for $name {
            type Err = InvalidReference;

            fn from_str(text: &str) -> Result<Self, InvalidReference> {
                let expected = concat!("/v1/types/postgres/instances/UUID/", $collection, "/UUID");
                match parse(text, &Shape { what: $what, expected, collections: &["instances", $collection] })? {
                    Ids::Alone(id) => Ok($name { instance: None, id: $id::from_uuid(id) }),
                    Ids::Two(instance, id) => Ok($name::new(InstanceId::from_uuid(instance), $id::from_uuid(id))),
                    Ids::One(_) => Err(InvalidReference::OtherResource { what: $what, expected }),
                }
            }
        }

        /// The path, or the bare UUID where no instance is known.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.instance {
                    Some(instance) => write!(f, "{ROOT}/instances/{instance}/{}/{}", $collection, self.id),
                    None => fmt::Display::fmt(&self.id, f),
                }
            }
        }

        text_serde!($name);
    };
}

root_reference! {
    /// Refers to a version of the catalogue.
    VersionRef(VersionId), "a version", "versions"
}
root_reference! {
    /// Refers to an instance.
    InstanceRef(InstanceId), "an instance", "instances"
}
child_reference! {
    /// Refers to a user of an instance.
    UserRef(UserId), "a user", "users"
}
child_reference! {
    /// Refers to a database of an instance.
    DatabaseRef(DatabaseId), "a database", "databases"
}
child_reference! {
    /// Refers to a node of an instance.
    NodeRef(NodeId), "a node", "nodes"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";
    const B: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120003";

    fn version(text: &str) -> Result<VersionRef, InvalidReference> {
        text.parse()
    }

    fn user(text: &str) -> Result<UserRef, InvalidReference> {
        text.parse()
    }

    #[test]
    fn all_spellings() {
        let id = VersionRef(A.parse().unwrap());
        for text in [
            A.to_owned(),
            A.to_uppercase(),
            format!("/v1/types/postgres/versions/{A}"),
            format!("/v1/types/postgres/versions/{A}/"),
            format!("/v1/postgres/versions/{A}"),
            format!("/v1/postgres/versions/{A}/"),
        ] {
            assert_eq!(version(&text), Ok(id), "{text}");
        }
        assert_eq!(id.to_string(), format!("/v1/types/postgres/versions/{A}"));

        let named = UserRef::new(A.parse().unwrap(), B.parse().unwrap());
        for root in [ROOT, SHORT_ROOT] {
            assert_eq!(user(&format!("{root}/instances/{A}/users/{B}")), Ok(named));
            assert_eq!(user(&format!("{root}/instances/{A}/users/{B}/")), Ok(named));
        }
        assert_eq!(
            named.to_string(),
            format!("/v1/types/postgres/instances/{A}/users/{B}")
        );
        let bare = user(B).unwrap();
        assert_eq!(
            (bare.instance, bare.id, bare.to_string()),
            (None, named.id, B.to_owned())
        );
    }

    #[test]
    fn another_instances_user_is_recognised() {
        let named = user(&format!("/v1/postgres/instances/{A}/users/{B}")).unwrap();
        assert!(named.is_within(A.parse().unwrap()));
        assert!(!named.is_within(B.parse().unwrap()));
        assert!(user(B).unwrap().is_within(A.parse().unwrap()));
    }

    #[test]
    fn each_refusal_has_its_reason() {
        use InvalidReference as E;
        let long = "/".repeat(513);
        type Is = fn(&InvalidReference) -> bool;
        let cases: &[(String, Is)] = &[
            (String::new(), |e| matches!(e, E::Empty)),
            (long, |e| matches!(e, E::TooLong)),
            (format!("http://evil.example/v1/postgres/versions/{A}"), |e| {
                matches!(e, E::Url { .. })
            }),
            (format!("file:///v1/postgres/versions/{A}"), |e| {
                matches!(e, E::Url { .. })
            }),
            (format!("//evil.example/v1/postgres/versions/{A}"), |e| {
                matches!(e, E::Url { .. })
            }),
            (format!("/v1/postgres/versions/{A}?x=1"), |e| {
                matches!(e, E::QueryOrFragment { .. })
            }),
            (format!("/v1/postgres/versions/{A}#x"), |e| {
                matches!(e, E::QueryOrFragment { .. })
            }),
            (format!("/v1/postgres/versions/%30{}", &A[1..]), |e| {
                matches!(e, E::BadCharacter { .. })
            }),
            (format!("/v1/postgres/versions/{A}\n"), |e| {
                matches!(e, E::BadCharacter { .. })
            }),
            (format!(" {A}"), |e| matches!(e, E::BadCharacter { .. })),
            (format!("\\v1\\postgres\\versions\\{A}"), |e| {
                matches!(e, E::BadCharacter { .. })
            }),
            (format!("javascript:{A}"), |e| matches!(e, E::BadCharacter { .. })),
            (format!("/v1/postgres/versions/../versions/{A}"), |e| {
                matches!(e, E::DotOrEmptySegment { .. })
            }),
            (format!("/v1/./postgres/versions/{A}"), |e| {
                matches!(e, E::DotOrEmptySegment { .. })
            }),
            (format!("/v1/postgres//versions/{A}"), |e| {
                matches!(e, E::DotOrEmptySegment { .. })
            }),
            (format!("/v1/postgres/versions/{A}//"), |e| {
                matches!(e, E::DotOrEmptySegment { .. })
            }),
            ("/".to_owned(), |e| matches!(e, E::DotOrEmptySegment { .. })),
            (format!("/v2/postgres/versions/{A}"), |e| {
                matches!(e, E::OtherResource { .. })
            }),
            (format!("/v1/types/mysql/versions/{A}"), |e| {
                matches!(e, E::OtherResource { .. })
            }),
            (format!("/v1/postgres/instances/{A}"), |e| {
                matches!(e, E::OtherResource { .. })
            }),
            (format!("/v1/postgres/versions/{A}/users/{B}"), |e| {
                matches!(e, E::OtherResource { .. })
            }),
            (format!("v1/postgres/versions/{A}"), |e| {
                matches!(e, E::OtherResource { .. })
            }),
            (format!("/V1/postgres/versions/{A}"), |e| {
                matches!(e, E::OtherResource { .. })
            }),
            ("/v1/postgres/versions".to_owned(), |e| {
                matches!(e, E::OtherResource { .. })
            }),
            ("/v1/postgres/versions/latest".to_owned(), |e| {
                matches!(e, E::BadId { .. })
            }),
            ("latest".to_owned(), |e| matches!(e, E::BadId { .. })),
            (A.replace('-', ""), |e| matches!(e, E::BadId { .. })),
            (format!("/v1/postgres/versions/{}", A.replace('-', "")), |e| {
                matches!(e, E::BadId { .. })
            }),
        ];
        for (text, is_expected) in cases {
            let error = version(text).unwrap_err();
            assert!(is_expected(&error), "{text}: {error:?}");
        }
        for other in ["instances/{A}/databases/{B}", "versions/{A}/users/{B}"] {
            let text = format!("/v1/postgres/{}", other.replace("{A}", A).replace("{B}", B));
            assert!(matches!(user(&text), Err(E::OtherResource { .. })), "{text}");
        }
        assert_eq!(
            version("http://evil.example/").unwrap_err().to_string(),
            "a URL is not a reference: give the path alone, such as /v1/types/postgres/versions/UUID"
        );
    }

    #[test]
    fn json() {
        let json = format!("\"/v1/types/postgres/versions/{A}\"");
        assert_eq!(serde_json::to_string(&version(A).unwrap()).unwrap(), json);
        assert_eq!(
            serde_json::from_str::<VersionRef>(&json).unwrap(),
            version(A).unwrap()
        );
        for bad in ["null", "1", "{}", "\"\"", "\"latest\""] {
            assert!(serde_json::from_str::<VersionRef>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn rendered_references_come_back(a in any::<u128>(), b in any::<u128>()) {
            let (a, b) = (Uuid::from_u128(a), Uuid::from_u128(b));
            let reference = VersionRef(VersionId::from_uuid(a));
            prop_assert_eq!(reference.to_string().parse(), Ok(reference));
            let reference = InstanceRef(InstanceId::from_uuid(a));
            prop_assert_eq!(reference.to_string().parse(), Ok(reference));
            let reference = UserRef::new(InstanceId::from_uuid(a), UserId::from_uuid(b));
            prop_assert_eq!(reference.to_string().parse(), Ok(reference));
            let reference = DatabaseRef { instance: None, id: DatabaseId::from_uuid(b) };
            prop_assert_eq!(reference.to_string().parse(), Ok(reference));
        }

        #[test]
        fn nothing_panics_and_nothing_else_is_accepted(text in prop_oneof![".*", "(/v1)?(/types)?/postgres/(versions|instances)/[0-9a-f-]{30,40}/?"]) {
            if let Ok(reference) = version(&text) {
                prop_assert!(text.to_lowercase().contains(&reference.0.to_string()));
            }
            let _ = user(&text);
        }
    }
}
