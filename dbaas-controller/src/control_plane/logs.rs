//! What a node's server wrote, for whoever may see the instance.

use std::time::Duration;

use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::{InfraErrorKind, NodeRef};
use dbaas_core::redact::redact;

use super::ControlPlane;
use crate::error::ControlError;
use crate::request::ResourceRef;

/// Most bytes of a log that are given at once: what is older is left out.
const LOG_BYTES_MAX: usize = 512 * 1024;
/// A backend that has not answered after so long does not.
const DEADLINE: Duration = Duration::from_secs(15);

impl ControlPlane {
    /// The last lines of what a node's PostgreSQL wrote, oldest first: at most so many, and at most 512 kB.
    /// Passwords in statements, connection strings and hashes are left out, see [`dbaas_core::redact`].
    pub async fn node_log(
        &self,
        instance: InstanceId,
        node: NodeId,
        lines: usize,
    ) -> Result<Vec<String>, ControlError> {
        let found = self.inner.load_instance(instance).await?.record;
        let not_found = || ControlError::NotFound {
            what: "node",
            resource: ResourceRef::Node(node),
        };
        found.node(node).ok_or_else(not_found)?;
        let ports = self.ports();
        let asked = ports.infrastructure.logs(NodeRef { instance, node }, lines);
        let text = match tokio::time::timeout(DEADLINE, asked).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => {
                // What the backend said may name files and hosts: that is for the log.
                tracing::info!(%instance, %node, %error, "a node's log cannot be read");
                return Err(match error.kind() {
                    // It is not made yet.
                    InfraErrorKind::NotFound | InfraErrorKind::InvalidState => not_found(),
                    InfraErrorKind::Unsupported => ControlError::WrongState {
                        detail: format!(
                            "the backend {} keeps no logs of nodes",
                            ports.infrastructure.name()
                        ),
                    },
                    _ => unreadable("the backend cannot read it now"),
                });
            }
            Err(_) => return Err(unreadable("the backend does not answer")),
        };
        Ok(shown(&text))
    }
}

fn unreadable(why: &str) -> ControlError {
    ControlError::Backend {
        detail: format!("the node's log cannot be read: {why}"),
    }
}

/// The lines, without secrets. What the first lines go on with is not there, and may be the rest of a
/// statement with a secret.
fn shown(text: &str) -> Vec<String> {
    let mut from = text.len().saturating_sub(LOG_BYTES_MAX);
    if from > 0 {
        from = text[text.ceil_char_boundary(from)..]
            .find('\n')
            .map_or(text.len(), |at| text.ceil_char_boundary(from) + at + 1);
    }
    let whole: Vec<&str> = text[from..]
        .lines()
        .skip_while(|line| line.starts_with('\t'))
        .collect();
    redact(&whole.join("\n")).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_holds_no_secret() {
        let log = "\t'hunter2'\nERROR:  no\nSTATEMENT:  ALTER ROLE a\n\tPASSWORD 'hunter2'\nLOG:  on";
        assert_eq!(
            shown(log),
            [
                "ERROR:  no",
                "STATEMENT:  ALTER ROLE a",
                "\tPASSWORD …",
                "LOG:  on"
            ]
        );
        let long = format!("{}\n", "ä".repeat(500)).repeat(2_000);
        let lines = shown(&long);
        assert!(lines.iter().all(|line| line.chars().count() == 500));
        assert!((400..600).contains(&lines.len()), "{}", lines.len());
        assert_eq!(shown(&"x".repeat(LOG_BYTES_MAX + 1)), [""; 0]);
        assert_eq!(shown(""), [""; 0]);
    }
}
