//! Entity tags, preconditions and idempotency keys.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use dbaas_controller::request::IdempotencyKey;
use dbaas_controller::view::Revision;
use dbaas_core::limits;
use dbaas_core::store::DocumentVersion;
use sha2::{Digest, Sha256};

use crate::problem::{Problem, ProblemKind};

/// The header with a client's key for a request that it may repeat.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Rounds of PBKDF2 over a body that holds a password: a plain hash of it, kept for a day, would be easier to
/// guess from than the verifier.
const SECRET_BODY_ROUNDS: u32 = limits::SCRAM_ITERATIONS_DEFAULT;

/// What an entity tag says: the version of what was asked for and, where the control plane writes what it
/// decides and sees beside that, a number for it. `If-None-Match` compares both, `If-Match` the first alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    asked: DocumentVersion,
    observed: Option<u64>,
}

impl From<Revision> for Tag {
    fn from(shown: Revision) -> Self {
        Tag {
            asked: shown.asked,
            observed: shown.observed,
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.asked.0)?;
        match self.observed {
            Some(observed) => write!(f, "-{observed}"),
            None => Ok(()),
        }
    }
}

/// The version of what was asked for that a tag names, written as [`Tag`] writes it.
fn asked(tag: &str) -> Option<DocumentVersion> {
    let canonical = |text: &str| {
        let number: u64 = text.parse().ok()?;
        (number.to_string() == text).then_some(number)
    };
    let (asked, observed) = match tag.split_once('-') {
        Some((asked, observed)) => (asked, Some(observed)),
        None => (tag, None),
    };
    if let Some(observed) = observed {
        canonical(observed)?;
    }
    canonical(asked).map(DocumentVersion)
}

/// The header.
pub(crate) fn etag(tag: Tag) -> HeaderValue {
    // Quotes, digits and a hyphen.
    HeaderValue::from_str(&format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tags {
    /// `*`
    Any,
    /// As written, each with whether it is weak.
    Some(Vec<(bool, String)>),
}

impl Tags {
    /// The header's tags; `None` if it is not there.
    pub(crate) fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, Problem> {
        let mut tags = Vec::new();
        let mut present = false;
        let mut any = false;
        for value in headers.get_all(name) {
            present = true;
            let text = value.to_str().map_err(|_| malformed(name))?;
            match text.trim() {
                "*" => any = true,
                list => read_list(list, &mut tags).ok_or_else(|| malformed(name))?,
            }
        }
        match (present, any, tags.is_empty()) {
            (false, ..) => Ok(None),
            (true, true, true) => Ok(Some(Tags::Any)),
            (true, false, false) => Ok(Some(Tags::Some(tags))),
            _ => Err(malformed(name)),
        }
    }

    /// Whether `If-Match` holds: nothing else was asked for since. A weak tag never matches.
    pub(crate) fn match_strongly(&self, version: DocumentVersion) -> bool {
        match self {
            Tags::Any => true,
            Tags::Some(tags) => tags
                .iter()
                .any(|(weak, tag)| !weak && asked(tag) == Some(version)),
        }
    }

    /// Whether `If-None-Match` finds the client's copy fresh: weak comparison.
    pub(crate) fn match_weakly(&self, present: Tag) -> bool {
        match self {
            Tags::Any => true,
            Tags::Some(tags) => tags.iter().any(|(_, tag)| *tag == present.to_string()),
        }
    }
}

fn malformed(name: &HeaderName) -> Problem {
    Problem::header(
        name,
        "must be * or a list of entity tags such as \"7\", quotes included",
    )
}

/// `entity-tag *( "," entity-tag )` of RFC 9110 section 8.8.3.
fn read_list(list: &str, tags: &mut Vec<(bool, String)>) -> Option<()> {
    let mut rest = list;
    loop {
        let (weak, opened) = match rest.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (tag, after) = opened.strip_prefix('"')?.split_once('"')?;
        tags.push((weak, tag.to_owned()));
        let after = after.trim_start();
        if after.is_empty() {
            return Some(());
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

/// `If-Match` of a changing call.
pub(crate) struct Precondition(Option<Tags>);

impl Precondition {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        Tags::read(headers, &header::IF_MATCH).map(Precondition)
    }

    /// Whether there is one.
    pub(crate) fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// The one version that it names, if it names one.
    pub(crate) fn version(&self) -> Option<DocumentVersion> {
        let Some(Tags::Some(tags)) = &self.0 else {
            return None;
        };
        match tags.as_slice() {
            [(false, tag)] => asked(tag),
            _ => None,
        }
    }

    /// The version that the change must meet, if any; the present one must match.
    pub(crate) fn check(&self, present: Revision) -> Result<Option<DocumentVersion>, Problem> {
        match &self.0 {
            None | Some(Tags::Any) => Ok(None),
            Some(tags) if tags.match_strongly(present.asked) => Ok(Some(present.asked)),
            Some(_) => Err(precondition_failed()),
        }
    }
}

/// The answer to an `If-Match` that does not hold.
pub(crate) fn precondition_failed() -> Problem {
    Problem::new(
        ProblemKind::PreconditionFailed,
        "If-Match names another version than the present one; read the resource again",
    )
}

/// Whether a body holds a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodySecrecy {
    Plain,
    HoldsPassword,
}

/// The key of a request that may be repeated; `scope` keeps tenants' keys apart.
pub(crate) fn idempotency_key(
    headers: &HeaderMap,
    scope: &str,
    path: &str,
    body: &[u8],
    secrecy: BodySecrecy,
) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let bounds = limits::IDEMPOTENCY_KEY_BYTES;
    if values.next().is_some() || !bounds.contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        let detail = format!(
            "must be given once, with {} to {} visible ASCII characters, without spaces",
            bounds.start(),
            bounds.end()
        );
        return Err(Problem::header(&IDEMPOTENCY_KEY, detail));
    }
    let head = [b"POST", scope.as_bytes(), path.as_bytes(), bytes].join(&b'\n');
    let fingerprint = match secrecy {
        BodySecrecy::Plain => Sha256::new()
            .chain_update(&head)
            .chain_update(b"\n")
            .chain_update(body)
            .finalize()
            .into(),
        BodySecrecy::HoldsPassword => {
            pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(body, &head, SECRET_BODY_ROUNDS)
        }
    };
    // Hashed with its scope, so that what the store keeps has one length and one alphabet.
    let key = Sha256::new()
        .chain_update(scope)
        .chain_update(b"\n")
        .chain_update(bytes)
        .finalize();
    Ok(Some(IdempotencyKey {
        key: format!("{key:x}"),
        fingerprint,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(value: &str) -> Result<Option<Tags>, ProblemKind> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_str(value).unwrap());
        Tags::read(&headers, &header::IF_MATCH).map_err(|p| p.kind())
    }

    #[test]
    fn entity_tags() {
        assert_eq!(Tags::read(&HeaderMap::new(), &header::IF_MATCH).unwrap(), None);
        assert_eq!(tags("*"), Ok(Some(Tags::Any)));
        let list = tags("\"7\" , W/\"8\",\"a,b\"").unwrap().unwrap();
        let expected = [(false, "7"), (true, "8"), (false, "a,b")].map(|(w, t)| (w, t.to_owned()));
        assert_eq!(list, Tags::Some(expected.into()));
        assert!(list.match_strongly(DocumentVersion(7)) && !list.match_strongly(DocumentVersion(8)));
        let tag = |asked, observed| Tag {
            asked: DocumentVersion(asked),
            observed,
        };
        assert!(list.match_weakly(tag(8, None)) && !list.match_weakly(tag(9, None)));
        assert!(!list.match_weakly(tag(8, Some(1))));

        let list = tags("\"7-12\"").unwrap().unwrap();
        assert!(list.match_strongly(DocumentVersion(7)) && !list.match_strongly(DocumentVersion(12)));
        assert!(list.match_weakly(tag(7, Some(12))) && !list.match_weakly(tag(7, Some(13))));
        assert_eq!(tag(7, Some(12)).to_string(), "7-12");
        for not_ours in ["\"07\"", "\"7-\"", "\"7-x\"", "\"-7\"", "\"7-012\""] {
            let list = tags(not_ours).unwrap().unwrap();
            assert!(!list.match_strongly(DocumentVersion(7)), "{not_ours}");
        }
        for bad in ["", "7", "\"7", "\"7\" \"8\"", "\"7\",", "*,\"7\"", "w/\"7\""] {
            assert_eq!(tags(bad), Err(ProblemKind::InvalidHeader), "{bad}");
        }
    }

    fn key(
        value: &str,
        scope: &str,
        body: &str,
        secrecy: BodySecrecy,
    ) -> Result<IdempotencyKey, ProblemKind> {
        let mut headers = HeaderMap::new();
        headers.insert(
            IDEMPOTENCY_KEY,
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
        idempotency_key(&headers, scope, "/p", body.as_bytes(), secrecy)
            .map(Option::unwrap)
            .map_err(|p| p.kind())
    }

    #[test]
    fn idempotency_keys() {
        for secrecy in [BodySecrecy::Plain, BodySecrecy::HoldsPassword] {
            let first = key("k", "a", "body", secrecy).unwrap();
            assert_eq!(first, key("k", "a", "body", secrecy).unwrap());
            assert_eq!(first.key, key("k", "a", "other", secrecy).unwrap().key);
            assert_ne!(
                first.fingerprint,
                key("k", "a", "other", secrecy).unwrap().fingerprint
            );
            assert_ne!(first.key, key("k", "b", "body", secrecy).unwrap().key);
        }
        assert!(key(&"k".repeat(255), "a", "", BodySecrecy::Plain).is_ok());
        for bad in [String::new(), "k".repeat(256), "a b".to_owned(), "ä".to_owned()] {
            assert_eq!(
                key(&bad, "a", "", BodySecrecy::Plain),
                Err(ProblemKind::InvalidHeader),
                "{bad}"
            );
        }
    }
}
