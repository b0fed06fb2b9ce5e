//! Who may call: bearer tokens, kept hashed, and what each of them may do.

use std::fmt;

use axum::http::{HeaderMap, Method, Uri, header};
use dbaas_core::id::{InvalidId, ProjectId};
use dbaas_core::secret::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::{Problem, ProblemKind};
use crate::scopes::Scopes;

/// Fewest characters of a token: what can be guessed is no token.
const TOKEN_CHARS_MIN: usize = 16;
/// Most characters of a token.
const TOKEN_CHARS_MAX: usize = 512;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Everything.
    Admin,
    /// Instances of this project only; others do not exist for it. It reads the catalogue of versions and
    /// does not change it.
    Project(ProjectId),
}

impl Caller {
    /// The catalogue is the administrator's.
    pub(crate) fn require_admin(self) -> Result<(), Problem> {
        match self {
            Caller::Admin => Ok(()),
            Caller::Project(_) => Err(Problem::new(
                ProblemKind::Forbidden,
                "only the administrator may do this",
            )),
        }
    }

    /// Whether an instance of this project exists for the caller.
    pub(crate) fn sees(self, project: ProjectId) -> bool {
        match self {
            Caller::Admin => true,
            Caller::Project(own) => own == project,
        }
    }

    /// Keeps one tenant's idempotency keys apart from another's.
    pub(crate) fn scope(self) -> String {
        match self {
            Caller::Admin => "admin".to_owned(),
            Caller::Project(project) => project.to_string(),
        }
    }
}

/// How callers are known.
#[derive(Debug, Clone)]
pub enum Access {
    /// By nothing: whoever reaches the server may do everything. For a loopback address only. Requests that a
    /// web page elsewhere made a browser send are refused (by their `Origin` and `Host`).
    Anyone,
    /// By the bearer tokens of a [`TokenStore`], and those that the administrator made (`/v1/iam/tokens`).
    Tokens(TokenStore),
    /// By the embedding program: its own layer around the router authenticates and puts a [`Caller`] into the
    /// request's extensions. Requests without one are refused. [`Scopes`](crate::Scopes) beside it are held
    /// to, too.
    Embedder,
}

/// Tokens as SHA-256 hashes. A token is a long random text, so a fast hash is enough to make a copy of the
/// hashes worthless.
#[derive(Clone, Default)]
pub struct TokenStore {
    tokens: Vec<([u8; 32], Identity)>,
}

/// Who calls, and what of that role is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) caller: Caller,
    pub(crate) scopes: Scopes,
    /// For the log of who read what.
    pub(crate) who: String,
}

impl Identity {
    pub(crate) fn new(caller: Caller, scopes: Scopes) -> Self {
        let who = caller.scope();
        Identity { caller, scopes, who }
    }
}

/// What a request says of who calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// This.
    As(Identity),
    /// It has a token that is none of the file's.
    ByToken(Secret),
}

/// A line of a token file that is not `admin:<token>` or `<project uuid>:<token>`. Says nothing of the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct InvalidTokens {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl TokenStore {
    /// Reads the text of a token file: one `admin:<token>` or `<project uuid>:<token>` a line; empty lines
    /// and lines that begin with `#` are skipped. Between the role and the colon may be scopes:
    /// `admin *.read user.update:<token>`; without any, the token allows all that its role allows.
    pub fn parse(text: &str) -> Result<Self, InvalidTokens> {
        let mut store = TokenStore::default();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |reason| InvalidTokens { line: i + 1, reason };
            let (role, token) = line
                .split_once(':')
                .ok_or(wrong("must be admin:<token> or <project uuid>:<token>"))?;
            let mut words = role.split_whitespace();
            let caller = match words.next().unwrap_or_default() {
                "admin" => Caller::Admin,
                project => Caller::Project(
                    project
                        .parse()
                        .map_err(|_: InvalidId| wrong("the role must be admin or a project's UUID"))?,
                ),
            };
            let words: Vec<&str> = words.collect();
            let scopes = match words.is_empty() {
                true => Scopes::default(),
                false => Scopes::new(words).map_err(|_| {
                    wrong("after the role come scopes such as instance.create, user.*, *.read, secret_value.read")
                })?,
            };
            let token = token.trim();
            if !token.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(wrong("a token has visible ASCII characters only"));
            }
            if !(TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) {
                return Err(wrong(
                    "a token has 16 to 512 characters; make one with: openssl rand -hex 32",
                ));
            }
            if store.find(token).is_some() {
                return Err(wrong("the token is given twice"));
            }
            store.insert_with_scopes(token, caller, scopes);
        }
        Ok(store)
    }

    /// Adds a token. Only its hash is kept.
    pub fn insert(&mut self, token: &str, caller: Caller) {
        self.insert_with_scopes(token, caller, Scopes::default());
    }

    /// Adds a token that allows a part of what its role allows.
    pub fn insert_with_scopes(&mut self, token: &str, caller: Caller, scopes: Scopes) {
        let hash = Sha256::digest(token).into();
        self.tokens.push((hash, Identity::new(caller, scopes)));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none: then nobody gets in.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Whose token this is. Takes as long for a wrong token as for a right one.
    fn find(&self, token: &str) -> Option<&Identity> {
        let hash = Sha256::digest(token);
        let mut found = None;
        for (known, identity) in &self.tokens {
            if bool::from(known.ct_eq(hash.as_slice())) {
                found = Some(identity);
            }
        }
        found
    }
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenStore({} tokens)", self.tokens.len())
    }
}

impl Access {
    /// Who calls. `given` is what the embedding program put into the request.
    pub(crate) fn known(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        given: Option<Identity>,
    ) -> Result<Known, Problem> {
        match self {
            Access::Anyone => refuse_foreign_pages(method, uri, headers)
                .map(|()| Known::As(Identity::new(Caller::Admin, Scopes::default()))),
            Access::Embedder => given
                .map(Known::As)
                .ok_or_else(|| unauthorized("the request was not authenticated")),
            Access::Tokens(tokens) => {
                let Some(value) = headers.get(header::AUTHORIZATION) else {
                    return Err(unauthorized("send Authorization: Bearer <token>"));
                };
                let (scheme, token) = value
                    .to_str()
                    .unwrap_or_default()
                    .split_once(' ')
                    .unwrap_or_default();
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return Err(unauthorized("send Authorization: Bearer <token>"));
                }
                let token = token.trim();
                match tokens.find(token) {
                    Some(identity) => Ok(Known::As(identity.clone())),
                    None if (TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX).contains(&token.len()) => {
                        Ok(Known::ByToken(Secret::new(token)))
                    }
                    None => Err(unknown_token()),
                }
            }
        }
    }
}

pub(crate) fn unknown_token() -> Problem {
    unauthorized("the token is not known")
}

fn unauthorized(detail: &str) -> Problem {
    Problem::new(ProblemKind::Unauthorized, detail)
}

/// A server on loopback that asks for no token can be reached by every web page that its user's browser
/// shows. What such a page can make a browser send is told by `Origin` (another site's page) or by `Host` (a
/// name that was made to resolve to this machine).
fn refuse_foreign_pages(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(ProblemKind::Forbidden, detail));
    let host = match headers.get(header::HOST) {
        Some(host) => host.to_str().unwrap_or("?"),
        None => uri
            .authority()
            .map_or("localhost", |authority| authority.as_str()),
    };
    if !is_loopback(host) {
        return refuse(
            "a server without tokens answers requests to a loopback address only (Host: localhost, 127.0.0.1 or [::1])",
        );
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let same = origin
        .split_once("://")
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
    if !same && method != Method::GET && method != Method::HEAD {
        return refuse("a server without tokens takes no changes from web pages of other sites");
    }
    Ok(())
}

/// Whether a `Host` means this machine by its nature, not by what a name server says.
fn is_loopback(host: &str) -> bool {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = without_port.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROJECT: &str = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002";

    #[test]
    fn a_token_file() {
        let text = format!("# tokens\n\nadmin:0123456789abcdef\n {PROJECT}: fedcba9876543210 \n");
        let store = TokenStore::parse(&text).unwrap();
        assert_eq!(store.len(), 2);
        let caller = |token| store.find(token).map(|found| found.caller);
        assert_eq!(caller("0123456789abcdef"), Some(Caller::Admin));
        let project = Caller::Project(PROJECT.parse().unwrap());
        assert_eq!(caller("fedcba9876543210"), Some(project));
        let scoped = TokenStore::parse("admin *.read user.update :0123456789abcdef").unwrap();
        let found = scoped.find("0123456789abcdef").unwrap();
        assert_eq!(found.scopes.words(), ["*.read", "user.update"]);
        assert_eq!(store.find("fedcba987654321"), None);
        assert_eq!(store.find(""), None);
        assert!(!format!("{store:?}").contains("0123456789abcdef"));
        for bad in [
            "admin",
            "root:0123456789abcdef",
            "admin:short",
            "admin everything:0123456789abcdef",
            "admin:0123456789abcdé0",
            "admin:0123456789abcdef\nadmin:0123456789abcdef",
        ] {
            let error = TokenStore::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("line "), "{error}");
            assert!(!error.contains("0123456789"), "{error}");
        }
    }

    fn call(
        access: &Access,
        headers: &[(&'static str, &str)],
        method: Method,
    ) -> Result<Caller, ProblemKind> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        match access.known(&method, &Uri::from_static("/v1"), &map, None) {
            Ok(Known::As(identity)) => Ok(identity.caller),
            // The store would be asked.
            Ok(Known::ByToken(_)) => Err(ProblemKind::Unauthorized),
            Err(problem) => Err(problem.kind()),
        }
    }

    #[test]
    fn tokens_are_asked_for() {
        let mut store = TokenStore::default();
        store.insert("secret", Caller::Admin);
        let access = Access::Tokens(store);
        let with = |value: &str| call(&access, &[("authorization", value)], Method::GET);
        assert_eq!(with("Bearer secret"), Ok(Caller::Admin));
        assert_eq!(with("bearer  secret"), Ok(Caller::Admin));
        for bad in ["Bearer secre", "Bearer", "Bearer ", "Basic secret", "secret", ""] {
            assert_eq!(with(bad), Err(ProblemKind::Unauthorized), "{bad}");
        }
        assert_eq!(call(&access, &[], Method::GET), Err(ProblemKind::Unauthorized));
        assert_eq!(
            call(&Access::Embedder, &[], Method::GET),
            Err(ProblemKind::Unauthorized)
        );
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let anyone = |headers: &[(&'static str, &str)]| call(&Access::Anyone, headers, Method::POST);
        for host in [
            "localhost",
            "localhost:8432",
            "127.0.0.1:8432",
            "[::1]:8432",
            "127.9.9.9",
        ] {
            assert_eq!(anyone(&[("host", host)]), Ok(Caller::Admin), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8432",
            "192.168.0.1:8432",
            "localhost.evil.example",
            "",
        ] {
            assert_eq!(anyone(&[("host", host)]), Err(ProblemKind::Forbidden), "{host}");
        }
        let from = |origin: &str| anyone(&[("host", "localhost:8432"), ("origin", origin)]);
        assert_eq!(from("http://localhost:8432"), Ok(Caller::Admin));
        for origin in ["https://evil.example", "null", "http://localhost:3000"] {
            assert_eq!(from(origin), Err(ProblemKind::Forbidden), "{origin}");
        }
    }
}
