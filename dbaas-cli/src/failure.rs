//! What went wrong, as a person reads it and as a script does: the text names every field and what to do, the
//! exit code says which kind of failure it was.

use std::io::Write as _;
use std::process::ExitCode;

use serde_json::Value;

/// The documented exit codes; 0 is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anything that is none of the others: the server cannot be reached, a token is missing, a program
    /// failed.
    Failed = 1,
    /// The command line or a value in it is wrong.
    Usage = 2,
    /// There is no such resource.
    NotFound = 3,
    /// It does not fit the present state: a name that is taken, a resource in use.
    Conflict = 4,
    /// It was waited for in vain.
    TimedOut = 5,
}

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    text: String,
    /// Lines below the text: fields, candidates, what to do.
    more: Vec<String>,
    /// Of a program that was run: its own exit code.
    code: Option<u8>,
}

impl Failure {
    fn new(kind: Kind, text: impl Into<String>) -> Self {
        Failure {
            kind,
            text: text.into(),
            more: Vec::new(),
            code: None,
        }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Failure::new(Kind::Failed, text)
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Failure::new(Kind::Usage, text)
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Failure::new(Kind::NotFound, text)
    }

    pub(crate) fn timed_out(text: impl Into<String>) -> Self {
        Failure::new(Kind::TimedOut, text)
    }

    /// A program of PostgreSQL's that ended with this code, having said why by itself.
    pub(crate) fn of_program(program: &str, code: Option<i32>) -> Self {
        let mut failure = Failure::failed(match code {
            Some(code) => format!("{program} ended with {code}"),
            None => format!("{program} was killed"),
        });
        failure.code = code.and_then(|code| u8::try_from(code).ok());
        failure
    }

    /// With another line.
    pub(crate) fn with(mut self, line: impl Into<String>) -> Self {
        self.more.push(line.into());
        self
    }

    /// With what to do.
    pub(crate) fn hint(self, what: impl std::fmt::Display) -> Self {
        self.with(format!("hint: {what}"))
    }

    /// What a problem document of the server says.
    pub(crate) fn of_problem(status: u16, problem: &Value) -> Self {
        let kind = match status {
            400 | 413 | 415 | 422 => Kind::Usage,
            404 => Kind::NotFound,
            409 | 412 => Kind::Conflict,
            408 | 504 => Kind::TimedOut,
            _ => Kind::Failed,
        };
        let detail = problem["detail"].as_str().unwrap_or("the server gave no reason");
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let mut failure = match (kind, errors.is_empty()) {
            (Kind::Usage, false) => Failure::new(kind, "the server does not accept this:"),
            _ => Failure::new(kind, detail),
        };
        for error in &errors {
            let place = ["pointer", "parameter", "header"]
                .iter()
                .find_map(|key| error[*key].as_str());
            let rule = error["detail"].as_str().unwrap_or_default();
            failure = failure.with(format!("  {}: {rule}", option(place.unwrap_or_default())));
        }
        match problem["type"].as_str().unwrap_or_default() {
            "/problems/unauthorized" => {
                failure.hint("set DBAAS_TOKEN, or a token in a context of the configuration file")
            }
            "/problems/forbidden" => failure.hint("use a token that may do this"),
            "/problems/not-ready" | "/problems/unavailable" | "/problems/overloaded" => {
                failure.hint("try again in a moment")
            }
            "/problems/outcome-unknown" => failure.hint("look before you try again: it may have been done"),
            "/problems/deletion-protected" => failure
                .hint("if it is really to go: dbaas instances edit, or databases edit, with --unprotect"),
            "/problems/internal" => failure.hint("the server's log has more"),
            "/problems/precondition-failed" => {
                failure.hint("somebody else changed it; look at it and try again")
            }
            _ => failure,
        }
    }

    /// Says so, and gives the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        let mut stderr = std::io::stderr().lock();
        // A closed standard error is nothing to fail about.
        let _ = writeln!(stderr, "error: {}", self.text);
        for line in &self.more {
            let _ = writeln!(stderr, "{line}");
        }
        ExitCode::from(self.code.unwrap_or(self.kind as u8))
    }
}

/// The option that sets the field at a JSON pointer.
fn option(pointer: &str) -> String {
    match pointer.strip_prefix('/').unwrap_or(pointer) {
        "name" => "NAME".to_owned(),
        "disk_size" => "--disk".to_owned(),
        "nodes_number" => "--nodes".to_owned(),
        "sync_replica_number" => "--sync-replicas".to_owned(),
        "project_id" => "--project".to_owned(),
        "password" => "the password".to_owned(),
        field if !field.is_empty() && !field.contains('/') => format!("--{}", field.replace('_', "-")),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_names_every_option() {
        let problem = json!({
            "type": "/problems/invalid-fields", "detail": "2 things are wrong",
            "errors": [
                { "pointer": "/cpu", "detail": "must be between 1 and 128 cores, was 0" },
                { "pointer": "/disk_size", "detail": "must be between 8 and 1024 GB, was 1" },
            ]
        });
        let failure = Failure::of_problem(422, &problem);
        assert_eq!(failure.kind, Kind::Usage);
        assert_eq!(
            failure.more,
            [
                "  --cpu: must be between 1 and 128 cores, was 0",
                "  --disk: must be between 8 and 1024 GB, was 1"
            ]
        );
    }

    #[test]
    fn codes_are_the_documented_ones() {
        for (status, code) in [
            (404, 3),
            (409, 4),
            (412, 4),
            (422, 2),
            (400, 2),
            (401, 1),
            (503, 1),
            (408, 5),
        ] {
            assert_eq!(
                Failure::of_problem(status, &json!({})).kind as u8,
                code,
                "{status}"
            );
        }
    }
}
