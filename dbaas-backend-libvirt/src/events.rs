//! libvirt's events, as hints.

use std::sync::Weak;
use std::time::Duration;

use dbaas_core::infrastructure::NodeRef;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::backend::Inner;
use crate::names;

/// Between two tries to get at libvirt: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// A connection that fell silent is noticed by asking.
const PING_EVERY: Duration = Duration::from_secs(15);

/// Follows libvirt's events for as long as the backend lives.
pub(crate) async fn watch(weak: Weak<Inner>) {
    let mut pause = RETRY_FIRST;
    loop {
        if follow(&weak).await {
            pause = RETRY_FIRST;
        }
        let Some(inner) = weak.upgrade() else { return };
        // What happens from here on is seen by asking only.
        inner.nodes.missed();
        drop(inner);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

/// Follows one stream to its end. Whether libvirt answered at all.
async fn follow(weak: &Weak<Inner>) -> bool {
    let Some(inner) = weak.upgrade() else { return false };
    let started = inner.libvirt.follow_events();
    drop(inner);
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            tracing::debug!(%error, "no events from libvirt");
            return false;
        }
    };
    let Some(stdout) = child.stdout.take() else {
        return false;
    };
    let Some(stderr) = child.stderr.take() else {
        return false;
    };
    let mut lines = BufReader::new(stdout).lines();
    let mut errors = BufReader::new(stderr).lines();
    let mut ping = tokio::time::interval_at(
        tokio::time::Instant::now() + Duration::from_millis(500),
        PING_EVERY,
    );
    let mut seen = false;
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => {
                    let Some(inner) = weak.upgrade() else { return seen };
                    if let Some(node) = node_of(&line) {
                        inner.nodes.changed(node);
                    }
                }
                _ => return seen,
            },
            // The program tells that libvirt has gone, and stays.
            said = errors.next_line() => {
                tracing::debug!(?said, "libvirt's events broke off");
                return seen;
            }
            _ = ping.tick() => {
                let Some(inner) = weak.upgrade() else { return seen };
                if inner.libvirt.run(&["hostname"], None).await.is_err() {
                    return seen;
                }
                if !seen {
                    seen = true;
                    // Whatever happened while nobody listened.
                    inner.nodes.missed();
                }
            }
        }
    }
}

/// The node that a line is about, such as `event 'lifecycle' for domain 'NAME': Stopped Destroyed`, or
/// `for domain NAME`.
fn node_of(line: &str) -> Option<NodeRef> {
    let telling = ["'lifecycle'", "'agent-lifecycle'", "'control-error'", "'io-error"];
    if !telling.iter().any(|kind| line.contains(kind)) {
        return None;
    }
    let (_, rest) = line.split_once(" for domain ")?;
    let name = rest.trim_start_matches('\'');
    let end = name.find(['\'', ':', ' ']).unwrap_or(name.len());
    names::node_of_domain(name.get(..end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_event_it_is() {
        let node = NodeRef {
            instance: dbaas_core::id::InstanceId::from_uuid(uuid::Uuid::from_u128(1)),
            node: dbaas_core::id::NodeId::from_uuid(uuid::Uuid::from_u128(2)),
        };
        let name = names::domain(node);
        let line = |kind: &str, name: &str| format!("event '{kind}' for domain '{name}': Stopped Destroyed");
        assert_eq!(node_of(&line("lifecycle", &name)), Some(node));
        assert_eq!(node_of(&line("agent-lifecycle", &name)), Some(node));
        assert_eq!(node_of(&line("rtc-change", &name)), None);
        assert_eq!(node_of(&line("lifecycle", "web")), None);
        assert_eq!(node_of("garbage"), None);
    }
}
