//! Containers: made, found, made again.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig,
    NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind, NodeRef, NodeSpec};
use dbaas_core::version::ImageRef;

use crate::backend::Inner;
use crate::engine::{if_there, shown, status_of};
use crate::handle::Life;
use crate::image::{self, Image};
use crate::limits::{memory_bytes, shm_bytes, smallest};
use crate::names;
use crate::network::at;
use crate::volume::{Place, is_hollow, volume_mount};
use dbaas_node_start::NODE_SCRIPT;
use dbaas_node_start::control::NODE_DIR;

const INIT_SCRIPT: &str = include_str!("scripts/init.sh");
const PORT: &str = "5432/tcp";

/// A node's container as it was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) id: String,
    pub(crate) status: ContainerStateStatusEnum,
    pub(crate) running: bool,
    pub(crate) exit_code: i64,
    pub(crate) oom_killed: bool,
    pub(crate) life: Life,
    pub(crate) image_id: String,
    pub(crate) labels: HashMap<String, String>,
    /// Where the node's directory is within it.
    pub(crate) node_dir: String,
    /// Where the volume is on the engine's machine; empty where that is not told.
    pub(crate) source: String,
    /// Whether it is on the instance's network.
    pub(crate) on_network: bool,
    /// Which network of that name; empty before the first start.
    pub(crate) network_id: String,
}

impl Found {
    pub(crate) fn read(found: ContainerInspectResponse, node: NodeRef) -> Found {
        let state = found.state.unwrap_or_default();
        let id = found.id.unwrap_or_default();
        let volume = names::node(node);
        let mount = found
            .mounts
            .unwrap_or_default()
            .into_iter()
            .find(|m| m.name.as_deref() == Some(volume.as_str()))
            .unwrap_or_default();
        let target = mount
            .destination
            .unwrap_or_else(|| "/var/lib/postgresql/data".to_owned());
        let networks = found
            .network_settings
            .and_then(|n| n.networks)
            .unwrap_or_default();
        Found {
            life: Life {
                container: id.clone(),
                started_at: state.started_at.unwrap_or_default(),
                finished_at: state.finished_at.unwrap_or_default(),
            },
            status: state.status.unwrap_or(ContainerStateStatusEnum::EMPTY),
            running: state.running.unwrap_or(false) || state.pid.is_some_and(|pid| pid > 0),
            exit_code: state.exit_code.unwrap_or_default(),
            oom_killed: state.oom_killed.unwrap_or(false),
            image_id: found.image.unwrap_or_default(),
            labels: found.config.and_then(|c| c.labels).unwrap_or_default(),
            node_dir: format!("{target}/{NODE_DIR}"),
            source: mount.source.unwrap_or_default(),
            on_network: networks.contains_key(&names::network(node.instance)),
            network_id: networks
                .get(&names::network(node.instance))
                .and_then(|n| n.network_id.clone())
                .unwrap_or_default(),
            id,
        }
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.labels.get(names::PORT)?.parse().ok()
    }

    /// The directory that the volume is mounted at.
    pub(crate) fn mount(&self) -> &str {
        self.node_dir.trim_end_matches(NODE_DIR).trim_end_matches('/')
    }
}

pub(crate) fn collision(what: &str, name: &str) -> InfraError {
    let message = format!(
        "the engine has a {what} {name} already that is not this control plane's; it is left alone. Remove it, or give it another name"
    );
    InfraError::new(InfraErrorKind::Collision, message)
}

impl Inner {
    /// The node's container, if there is one; an error if one of its name is somebody else's.
    pub(crate) async fn find(&self, docker: &Docker, node: NodeRef) -> Result<Option<Found>, InfraError> {
        let name = names::node(node);
        let found = if_there(
            docker
                .inspect_container(&name, None::<InspectContainerOptions>)
                .await,
        )
        .map_err(|e| shown("looking at the node's container", &e))?;
        let Some(found) = found else { return Ok(None) };
        let labels = found.config.as_ref().and_then(|c| c.labels.as_ref());
        if !names::is_ours(labels, &self.options.owner, node) {
            return Err(collision("container", &name));
        }
        let found = Found::read(found, node);
        if let Some(disks) = self.disks.as_ref().filter(|_| !found.running) {
            // Whatever is asked of it next mounts its volume.
            disks.attach(node.node).await?;
        }
        Ok(Some(found))
    }

    /// Ids of all containers of a node, those that prepare included.
    pub(crate) async fn containers_of(
        &self,
        docker: &Docker,
        node: NodeRef,
    ) -> Result<Vec<String>, InfraError> {
        let labels = names::filters([
            (names::OWNER, self.options.owner.clone()),
            (names::NODE, node.node.to_string()),
        ]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&labels)
            .build();
        let found = docker
            .list_containers(Some(options))
            .await
            .map_err(|e| shown("listing the node's containers", &e))?;
        Ok(found.into_iter().filter_map(|c| c.id).collect())
    }

    /// Nodes that have a container.
    pub(crate) async fn nodes_with_container(
        &self,
        docker: &Docker,
        instance: Option<InstanceId>,
    ) -> Result<HashSet<NodeRef>, InfraError> {
        let labels = self.labels_of_containers(docker, instance).await?;
        Ok(labels.iter().filter_map(names::node_of).collect())
    }

    /// The labels of nodes' containers.
    pub(crate) async fn labels_of_containers(
        &self,
        docker: &Docker,
        instance: Option<InstanceId>,
    ) -> Result<Vec<HashMap<String, String>>, InfraError> {
        let mut labels = vec![
            (names::OWNER, self.options.owner.clone()),
            (names::ROLE, names::ROLE_SERVER.to_owned()),
        ];
        labels.extend(instance.map(|i| (names::INSTANCE, i.to_string())));
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&names::filters(labels))
            .build();
        let found = docker
            .list_containers(Some(options))
            .await
            .map_err(|e| shown("listing containers", &e))?;
        Ok(found.into_iter().filter_map(|c| c.labels).collect())
    }

    /// What the node's container has to be; another value makes a new container at the next start.
    pub(crate) fn config_of(&self, spec: &NodeSpec, port: u16) -> String {
        let mut hasher = std::hash::DefaultHasher::new();
        (
            NODE_SCRIPT,
            spec.image.as_str(),
            self.options.publish_address,
            port,
            shm_bytes(&spec.resources),
        )
            .hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    /// Makes the node's container, off. Network and volume are there.
    pub(crate) async fn create_container(
        &self,
        docker: &Docker,
        spec: &NodeSpec,
        place: &Place,
        image: &Image,
    ) -> Result<(), InfraError> {
        let port = place.port;
        let name = names::node(spec.node);
        let mut labels = names::node_labels(&self.options.owner, spec.node);
        labels.insert(names::ROLE.to_owned(), names::ROLE_SERVER.to_owned());
        labels.insert(names::NODE_NAME.to_owned(), spec.name.clone());
        labels.insert(names::IMAGE.to_owned(), spec.image.to_string());
        if let Some(digest) = image.digest_of(&spec.image) {
            labels.insert(names::DIGEST.to_owned(), digest.to_owned());
        }
        labels.insert(names::PORT.to_owned(), port.to_string());
        labels.insert(names::IP.to_owned(), place.ip.clone());
        labels.insert(names::CONFIG.to_owned(), self.config_of(spec, port));
        let network = names::network(spec.node.instance);
        let node_dir = format!("{}/{NODE_DIR}", image.volume_path);
        let bindings = vec![PortBinding {
            host_ip: Some(self.options.publish_address.to_string()),
            host_port: Some(port.to_string()),
        }];
        let body = ContainerCreateBody {
            image: Some(image.id.clone()),
            user: Some("postgres".to_owned()),
            entrypoint: Some(
                ["/bin/sh", "-c", NODE_SCRIPT, "dbaas-node"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            cmd: Some(vec![node_dir]),
            exposed_ports: Some(vec![PORT.to_owned()]),
            labels: Some(labels),
            stop_signal: Some("SIGINT".to_owned()),
            stop_timeout: Some(60),
            host_config: Some(HostConfig {
                mounts: Some(vec![volume_mount(
                    &self.options.owner,
                    spec.node,
                    &image.volume_path,
                )]),
                network_mode: Some(network.clone()),
                port_bindings: Some(HashMap::from([(PORT.to_owned(), Some(bindings))])),
                nano_cpus: Some(self.nano_cpus(docker, &spec.resources).await?),
                memory: Some(memory_bytes(&spec.resources)),
                memory_swap: Some(memory_bytes(&spec.resources)),
                shm_size: Some(shm_bytes(&spec.resources)),
                // A peer whose container is off has no name: that is to be noticed quickly.
                dns_options: Some(vec!["timeout:1".to_owned(), "attempts:1".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                cap_drop: Some(vec!["ALL".to_owned()]),
                ..self.host_config()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network, at(&place.ip))])),
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        match docker.create_container(Some(options), body).await {
            Ok(_) => Ok(()),
            // Made meanwhile, or somebody else's.
            Err(e) if status_of(&e) == Some(409) => match self.find(docker, spec.node).await? {
                Some(_) => Ok(()),
                None => Err(shown("making the node's container", &e)),
            },
            Err(e) => Err(shown("making the node's container", &e)),
        }
    }

    /// The container that initialises a node and its copies; started at once.
    pub(crate) async fn run_init(
        &self,
        docker: &Docker,
        node: NodeRef,
        image: &str,
        boot_id: &str,
        seeds: &[NodeRef],
    ) -> Result<(), InfraError> {
        let mut mounts = vec![volume_mount(&self.options.owner, node, "/dbaas/0")];
        let mut cmd = vec![
            boot_id.to_owned(),
            dbaas_core::boot::ADMIN_ROLE.to_owned(),
            format!("/dbaas/0/{NODE_DIR}"),
        ];
        for (index, seed) in seeds.iter().enumerate() {
            let target = format!("/dbaas/{}", index + 1);
            mounts.push(volume_mount(&self.options.owner, *seed, &target));
            cmd.push(format!("{target}/{NODE_DIR}"));
        }
        let mut labels = names::node_labels(&self.options.owner, node);
        labels.insert(names::ROLE.to_owned(), names::ROLE_INIT.to_owned());
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            user: Some("postgres".to_owned()),
            entrypoint: Some(
                ["/bin/sh", "-c", INIT_SCRIPT, "dbaas-init"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            cmd: Some(cmd),
            labels: Some(labels),
            host_config: Some(HostConfig {
                mounts: Some(mounts),
                network_mode: Some("none".to_owned()),
                auto_remove: Some(true),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                cap_drop: Some(vec!["ALL".to_owned()]),
                ..self.host_config()
            }),
            ..ContainerCreateBody::default()
        };
        let name = names::init(node);
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let made = docker
            .create_container(Some(options), body)
            .await
            .map_err(|e| shown("making the container that initialises the node", &e))?;
        docker
            .start_container(&made.id, None)
            .await
            .map_err(|e| shown("starting the container that initialises the node", &e))
    }

    fn host_config(&self) -> HostConfig {
        HostConfig {
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), "16m".to_owned()),
                    ("max-file".to_owned(), "2".to_owned()),
                ])),
            }),
            ..HostConfig::default()
        }
    }

    /// Makes the container of a node whose container somebody removed, from what the volume says. `None`: the
    /// volume is all that is to be there, or there is no volume. The caller holds the node's lock.
    pub(crate) async fn restore_container(
        self: &Arc<Self>,
        docker: &Docker,
        node: NodeRef,
    ) -> Result<Option<Found>, InfraError> {
        if let Some(found) = self.find(docker, node).await? {
            return Ok(Some(found));
        }
        let Some(volume) = self.find_volume(docker, node).await? else {
            return Ok(None);
        };
        if is_hollow(&volume) {
            self.remove_volume(docker, node).await?;
            return Ok(None);
        }
        let made_at = volume
            .created_at
            .as_ref()
            .map(|t| format!("{t:?}"))
            .unwrap_or_default();
        if self.kept.lock().contains(&(node, made_at.clone())) {
            return Ok(None);
        }
        let label = |name: &str| volume.labels.get(name).cloned().unwrap_or_default();
        let place = Place::of(&volume.labels)?;
        let image: ImageRef = label(names::IMAGE).parse().map_err(|_| {
            let message = format!("the volume {} lacks the label of its image", names::node(node));
            InfraError::new(InfraErrorKind::Other, message)
        })?;
        let found_image = image::ensure(self, &image, node.instance).await?;
        self.ensure_network(docker, node.instance).await?;
        // A first guess at the spec, good enough to read the true one.
        let guess = NodeSpec::new(node, label(names::NODE_NAME), image, smallest()?);
        self.create_container(docker, &guess, &place, &found_image)
            .await?;
        let Some(found) = self.find(docker, node).await? else {
            return Ok(None);
        };
        let control = self.read_control(docker, &found).await?;
        if control.ticket == dbaas_node_start::control::Ticket::Kept || control.spec.is_none() {
            self.remove_container(docker, &found.id).await?;
            self.kept.lock().insert((node, made_at));
            return Ok(None);
        }
        tracing::warn!(node = %node.node, "the node's container was removed by somebody; it is made again, off");
        if let Some(spec) = &control.spec
            && *spec != guess
        {
            self.remove_container(docker, &found.id).await?;
            let image = image::ensure(self, &spec.image, node.instance).await?;
            self.create_container(docker, spec, &place, &image).await?;
            return self.find(docker, node).await;
        }
        Ok(Some(found))
    }

    /// Removes a container, with the volumes that the engine made for it; not the node's.
    pub(crate) async fn remove_container(&self, docker: &Docker, id: &str) -> Result<(), InfraError> {
        let options = RemoveContainerOptionsBuilder::default()
            .v(true)
            .force(true)
            .build();
        if_there(docker.remove_container(id, Some(options)).await)
            .map(|_| ())
            .map_err(|e| shown("removing the node's container", &e))
    }
}
