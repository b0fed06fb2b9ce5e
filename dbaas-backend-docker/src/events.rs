//! The engine's events, as hints.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::EventsOptionsBuilder;
use dbaas_core::infrastructure::{InfraError, NodeRef};
use futures_util::StreamExt;

use crate::backend::Inner;
use crate::death::Death;
use crate::names;

/// Between two tries to get at the engine: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(2);
/// Between two looks for disks that belong to no node.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
/// A connection that fell silent (an engine on another machine) is noticed by asking.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_AT_MOST: Duration = Duration::from_secs(5);

/// Follows the engine's events for as long as the backend lives.
pub(crate) async fn watch(weak: Weak<Inner>) {
    let mut pause = RETRY_FIRST;
    let mut first = true;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let connected = inner.engine.docker().await;
        let owner = inner.options.owner.clone();
        drop(inner);
        match connected {
            Ok(docker) => {
                let mut seen = false;
                follow(&weak, &docker, &owner, first, &mut seen).await;
                if seen {
                    pause = RETRY_FIRST;
                    first = false;
                }
            }
            Err(error) => tracing::debug!(%error, "no events from the engine"),
        }
        let Some(inner) = weak.upgrade() else { return };
        inner.engine.forget().await;
        inner.nodes.doubt_events();
        if !first {
            // What happens from here on is seen by asking only.
            inner.nodes.missed();
        }
        drop(inner);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

/// Removes what nodes of a fixed disk size left behind, for as long as the backend lives.
pub(crate) async fn clean(weak: Weak<Inner>) {
    loop {
        let Some(inner) = weak.upgrade() else { return };
        if let Err(error) = clean_once(&inner).await {
            tracing::debug!(%error, "disks without a node are not looked for");
        }
        drop(inner);
        tokio::time::sleep(CLEAN_EVERY).await;
    }
}

async fn clean_once(inner: &Inner) -> Result<(), InfraError> {
    let Some(disks) = &inner.disks else { return Ok(()) };
    let docker = inner.engine.docker().await?;
    let volumes = inner.volumes(&docker, None).await?;
    let nodes = volumes.into_iter().map(|(node, _)| node.node).collect();
    disks.clean(&nodes).await
}

/// Follows one stream to its end.
async fn follow(weak: &Weak<Inner>, docker: &Docker, owner: &str, first: bool, seen: &mut bool) {
    let mut filters = names::filters([(names::OWNER, owner.to_owned())]);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    let options = EventsOptionsBuilder::default().filters(&filters).build();
    let mut stream = std::pin::pin!(docker.events(Some(options)));
    let mut ping = tokio::time::interval_at(
        tokio::time::Instant::now() + Duration::from_millis(50),
        PING_EVERY,
    );
    loop {
        tokio::select! {
            event = stream.next() => match event {
                Some(Ok(event)) => {
                    let action = event.action.unwrap_or_default();
                    let actor = event.actor.unwrap_or_default();
                    let attributes = actor.attributes.unwrap_or_default();
                    if let Some(node) = node_of(&action, &attributes) {
                        let Some(inner) = weak.upgrade() else { return };
                        let death = death(&action, actor.id, event.time_nano, &attributes);
                        if let Some(handle) = inner.nodes.known(node) {
                            handle.told(death);
                        }
                        inner.nodes.changed(node);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "the engine's events broke off");
                    return;
                }
                None => return,
            },
            _ = ping.tick() => {
                if !matches!(tokio::time::timeout(PING_AT_MOST, docker.ping()).await, Ok(Ok(_))) {
                    return;
                }
                if !*seen {
                    *seen = true;
                    // Whatever happened while nobody listened.
                    let Some(inner) = weak.upgrade() else { return };
                    if !first {
                        inner.nodes.missed();
                    }
                }
            }
        }
    }
}

/// What a `die` says; any other event leaves nothing to be believed.
fn death(
    action: &str,
    container: Option<String>,
    at: Option<i64>,
    attributes: &HashMap<String, String>,
) -> Option<Death> {
    if action != "die" {
        return None;
    }
    Some(Death {
        container: container?,
        at: at?,
        exit_code: attributes.get("exitCode")?.parse().ok()?,
        told: Instant::now(),
    })
}

/// The node that an event is about, if it says something new.
fn node_of(action: &str, attributes: &HashMap<String, String>) -> Option<NodeRef> {
    let telling = ["die", "start", "pause", "unpause", "oom", "destroy"];
    if !telling.contains(&action)
        || attributes
            .get(names::ROLE)
            .is_none_or(|r| r != names::ROLE_SERVER)
    {
        return None;
    }
    names::node_of(attributes)
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
        let mut labels = names::node_labels("o", node);
        assert_eq!(node_of("die", &labels), None);
        labels.insert(names::ROLE.to_owned(), names::ROLE_SERVER.to_owned());
        assert_eq!(node_of("die", &labels), Some(node));
        assert_eq!(node_of("exec_create: sh", &labels), None);
        assert_eq!(node_of("die", &HashMap::new()), None);
    }
}
