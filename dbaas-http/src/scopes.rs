//! What of its role a token allows: words such as `instance.create`.

use std::fmt;
use std::sync::Arc;

use axum::http::Method;

use crate::problem::{Problem, ProblemKind};

/// Everything that a request can be about, and what can be done with it.
const RESOURCES: [(&str, &[&str]); 15] = [
    ("instance", &["create", "read", "update", "delete"]),
    ("database", &["create", "read", "update", "delete"]),
    ("user", &["create", "read", "update", "delete"]),
    ("version", &["create", "read", "update", "delete"]),
    ("node", &["read"]),
    ("log", &["read"]),
    ("event", &["read"]),
    ("manifest", &["create", "read", "update", "delete"]),
    ("element", &["read", "update"]),
    ("password", &["create", "read", "update", "delete"]),
    (SECRET_VALUE, &["read"]),
    ("config", &["read", "delete"]),
    ("variable", &["create", "read", "update", "delete"]),
    ("token", &["create", "read", "update", "delete"]),
    ("metrics", &["read"]),
];
/// Values of passwords, texts of configs that hold one, and of manifests. `*.read` does not include it.
const SECRET_VALUE: &str = "secret_value";
/// Most scopes of a token.
pub(crate) const SCOPES_MAX: usize = 64;
/// How a scope is spelled, as a regular expression.
pub(crate) const PATTERN: &str = r"^(\*|(\*|[a-z_]{1,32})\.(\*|create|read|update|delete))$";

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    resource: &'static str,
    verb: &'static str,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.resource, self.verb)
    }
}

/// What has to be allowed for whoever reads a secret.
pub(crate) const READ_SECRET: Need = Need {
    resource: SECRET_VALUE,
    verb: "read",
};

/// What of its role a token allows: `*` everything, `instance.*`, `*.read`, `user.update`. Values of secrets
/// are read with `secret_value.read` or `*` only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(Arc<[String]>);

/// A word that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope is *, <resource>.<verb>, <resource>.* or *.<verb>, such as instance.create or *.read; a verb is create, read, update or delete"
)]
pub struct InvalidScope;

impl Default for Scopes {
    /// Everything.
    fn default() -> Self {
        Scopes(Arc::from(["*".to_owned()]))
    }
}

impl Scopes {
    /// These; none of them allow nothing.
    pub fn new(words: impl IntoIterator<Item = impl Into<String>>) -> Result<Self, InvalidScope> {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        match words.iter().all(|word| is_scope(word)) {
            true => Ok(Scopes(words.into())),
            false => Err(InvalidScope),
        }
    }

    /// As words.
    pub fn words(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn allow(&self, need: Need) -> bool {
        self.0.iter().any(|word| allows(word, need))
    }

    /// Refuses what they do not allow.
    pub(crate) fn require(&self, need: Need) -> Result<(), Problem> {
        match self.allow(need) {
            true => Ok(()),
            false => {
                let detail = format!("the token's scopes do not allow {need}");
                Err(Problem::new(ProblemKind::Forbidden, detail))
            }
        }
    }

    /// Whether they allow everything that the others allow.
    pub(crate) fn cover(&self, others: &Scopes) -> bool {
        all().all(|need| !others.allow(need) || self.allow(need))
    }
}

fn all() -> impl Iterator<Item = Need> {
    RESOURCES
        .iter()
        .flat_map(|(resource, verbs)| verbs.iter().map(|verb| Need { resource, verb }))
}

/// Whether there is anything that this word allows.
pub(crate) fn is_scope(word: &str) -> bool {
    all().any(|need| allows(word, need))
}

fn allows(word: &str, need: Need) -> bool {
    if word == "*" {
        return true;
    }
    match word.split_once('.') {
        Some(("*", verb)) => verb == need.verb && need.resource != SECRET_VALUE,
        Some((resource, "*")) => resource == need.resource,
        Some((resource, verb)) => (resource, verb) == (need.resource, need.verb),
        None => false,
    }
}

/// What a request needs; nothing where only names of paths are answered, or nothing is there.
pub(crate) fn needed(method: &Method, path: &str) -> Option<Need> {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let resource = match parts.as_slice() {
        ["metrics"] => "metrics",
        ["v1", "types", "postgres", "versions", ..] => "version",
        ["v1", "types", "postgres", "instances", within @ ..] => match within {
            [_, "nodes", _, "logs"] => "log",
            [_, "nodes", ..] => "node",
            [_, "events"] => "event",
            [_, "databases", ..] => "database",
            [_, "users", ..] => "user",
            _ => "instance",
        },
        [
            "v1",
            "em",
            "manifests",
            _,
            "actions",
            "install" | "upgrade" | "uninstall",
            ..,
        ] => "element",
        ["v1", "em", "manifests", ..] => "manifest",
        ["v1", "em", "elements", ..] => "element",
        ["v1", "secret", "passwords", _, "value"] => SECRET_VALUE,
        ["v1", "secret", "passwords", ..] => "password",
        ["v1", "config", "configs", ..] => "config",
        ["v1", "vs", _, ..] => "variable",
        ["v1", "iam", "tokens", ..] => "token",
        _ => return None,
    };
    let is_action = |names: &[&str]| {
        let action = parts.iter().skip_while(|part| **part != "actions").nth(1);
        action.is_some_and(|action| names.is_empty() || names.contains(action))
    };
    let verb = match *method {
        Method::GET | Method::HEAD => "read",
        Method::PUT | Method::PATCH => "update",
        Method::DELETE => "delete",
        _ if is_action(&["plan", "validate"]) => "read",
        _ if is_action(&[]) => "update",
        _ => "create",
    };
    Some(Need { resource, verb })
}

#[cfg(test)]
mod tests {
    use utoipa::openapi::path::HttpMethod;

    use super::*;
    use crate::routes::routes;

    fn scopes(words: &[&str]) -> Scopes {
        Scopes::new(words.iter().copied()).unwrap()
    }

    #[test]
    fn every_call_needs_something_that_there_is() {
        let open = [
            "/",
            "/v1",
            "/v1/types",
            "/v1/types/postgres",
            "/v1/em",
            "/v1/secret",
            "/v1/config",
            "/v1/vs",
        ];
        let open = open.iter().chain(&["/v1/iam"]);
        let without: Vec<&str> = open.copied().collect();
        let mut seen = std::collections::BTreeSet::new();
        for route in routes() {
            for (method, operation) in &route.operations {
                if operation.security.as_ref().is_none_or(Vec::is_empty) {
                    continue;
                }
                let method = match method {
                    HttpMethod::Post => Method::POST,
                    HttpMethod::Put => Method::PUT,
                    HttpMethod::Patch => Method::PATCH,
                    HttpMethod::Delete => Method::DELETE,
                    _ => Method::GET,
                };
                match needed(&method, route.path) {
                    None => assert!(without.contains(&route.path), "{} needs nothing", route.path),
                    Some(need) => {
                        assert!(all().any(|known| known == need), "{need}");
                        seen.insert(need.to_string());
                    }
                }
            }
        }
        assert_eq!(seen.len(), all().count(), "{seen:?}");
    }

    #[test]
    fn words() {
        let need = |resource, verb| Need { resource, verb };
        let some = scopes(&["*.read", "user.*", "instance.update"]);
        assert!(some.allow(need("instance", "read")) && some.allow(need("user", "delete")));
        assert!(some.allow(need("instance", "update")) && !some.allow(need("instance", "delete")));
        assert!(!some.allow(READ_SECRET), "a scope of its own");
        assert!(Scopes::default().allow(READ_SECRET) && scopes(&["secret_value.read"]).allow(READ_SECRET));
        assert!(Scopes::default().cover(&some) && !some.cover(&Scopes::default()));
        assert!(some.cover(&scopes(&["user.read", "event.read"])));
        assert!(!scopes(&[]).allow(need("event", "read")));
        for bad in [
            "",
            "instance",
            "instance.",
            "*.*",
            "instance.read.x",
            "x.read",
            "node.delete",
            "Instance.read",
        ] {
            assert!(!is_scope(bad), "{bad}");
        }
    }

    #[test]
    fn actions() {
        let need = |path| needed(&Method::POST, path).unwrap().to_string();
        assert_eq!(
            need("/v1/types/postgres/instances/x/actions/stop"),
            "instance.update"
        );
        assert_eq!(need("/v1/em/manifests/x/actions/plan/invoke"), "manifest.read");
        assert_eq!(
            need("/v1/em/manifests/x/actions/install/invoke"),
            "element.update"
        );
        assert_eq!(need("/v1/em/manifests"), "manifest.create");
    }
}
