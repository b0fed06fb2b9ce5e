//! Containers, volumes and networks: made, found, converged.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, ContainerUpdateBody,
    EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, Ipam, IpamConfig, Mount,
    MountType, MountVolumeOptions, NetworkConnectRequest, NetworkCreateRequest, NetworkingConfig,
    PortBinding, RestartPolicy, RestartPolicyNameEnum, Volume, VolumeCreateRequest,
};
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder,
    InspectContainerOptions, ListContainersOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind, NodeRef, NodeSpec, Resources};
use dbaas_core::version::ImageRef;
use futures_util::StreamExt;
use rand::Rng;

use crate::archive::{Account, read_files};
use crate::backend::{Inner, Life};
use crate::control::{Control, NODE_DIR};
use crate::engine::{if_there, shown, status_of};
use crate::image::{self, Image};
use crate::names;

const NODE_SCRIPT: &str = include_str!("scripts/node.sh");
const INIT_SCRIPT: &str = include_str!("scripts/init.sh");
const PORT: &str = "5432/tcp";
const MB: i64 = 1024 * 1024;
/// Files of a node that are read back are short; a preparation's output is cut at 16 kB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const ARCHIVE_BYTES_MAX: usize = 8 * 1024 * 1024;

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
    /// Whether it is on the instance's network.
    pub(crate) on_network: bool,
    /// Which network of that name; empty before the first start.
    pub(crate) network_id: String,
}

impl Found {
    fn read(found: ContainerInspectResponse, node: NodeRef) -> Found {
        let state = found.state.unwrap_or_default();
        let id = found.id.unwrap_or_default();
        let volume = names::node(node);
        let target = found
            .mounts
            .unwrap_or_default()
            .into_iter()
            .find(|m| m.name.as_deref() == Some(volume.as_str()))
            .and_then(|m| m.destination)
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

fn collision(what: &str, name: &str) -> InfraError {
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
        Ok(Some(Found::read(found, node)))
    }

    /// The node's volume, if there is one; an error if one of its name is somebody else's.
    pub(crate) async fn find_volume(
        &self,
        docker: &Docker,
        node: NodeRef,
    ) -> Result<Option<Volume>, InfraError> {
        let name = names::node(node);
        let found = if_there(docker.inspect_volume(&name).await)
            .map_err(|e| shown("looking at the node's volume", &e))?;
        let Some(found) = found else { return Ok(None) };
        if !names::is_ours(Some(&found.labels), &self.options.owner, node) {
            return Err(collision("volume", &name));
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
        Ok(found
            .into_iter()
            .filter_map(|c| names::node_of(&c.labels?))
            .collect())
    }

    /// Volumes of nodes.
    pub(crate) async fn volumes(
        &self,
        docker: &Docker,
        instance: Option<InstanceId>,
    ) -> Result<Vec<(NodeRef, Volume)>, InfraError> {
        let mut labels = vec![(names::OWNER, self.options.owner.clone())];
        labels.extend(instance.map(|i| (names::INSTANCE, i.to_string())));
        let options = ListVolumesOptionsBuilder::default()
            .filters(&names::filters(labels))
            .build();
        let found = docker
            .list_volumes(Some(options))
            .await
            .map_err(|e| shown("listing volumes", &e))?;
        let volumes = found.volumes.unwrap_or_default();
        Ok(volumes
            .into_iter()
            .filter_map(|v| Some((names::node_of(&v.labels)?, v)))
            .collect())
    }

    /// Makes the instance's network, if it is not there.
    pub(crate) async fn ensure_network(
        &self,
        docker: &Docker,
        instance: InstanceId,
    ) -> Result<Network, InfraError> {
        let _one_at_a_time = self.network.lock().await;
        let known = self
            .volumes(docker, Some(instance))
            .await?
            .into_iter()
            .find_map(|(_, v)| v.labels.get(names::SUBNET).cloned());
        // The engine gives fixed addresses only in networks whose addresses it was told. So it chooses them, and is told what it chose.
        for _ in 0..3 {
            match self.find_network(docker, instance).await? {
                Some(FoundNetwork::Made(network)) => return Ok(network),
                Some(FoundNetwork::Chosen(subnet)) => {
                    if_there(docker.remove_network(&names::network(instance)).await)
                        .map_err(|e| shown("making the instance's network", &e))?;
                    self.create_network(docker, instance, Some(&subnet)).await?;
                }
                None => self.create_network(docker, instance, known.as_deref()).await?,
            }
        }
        Err(InfraError::new(
            InfraErrorKind::Other,
            "the instance's network vanishes while it is being made",
        ))
    }

    /// The instance's network, if there is one; an error if one of its name is somebody else's.
    async fn find_network(
        &self,
        docker: &Docker,
        instance: InstanceId,
    ) -> Result<Option<FoundNetwork>, InfraError> {
        let name = names::network(instance);
        let found = if_there(docker.inspect_network(&name, None).await)
            .map_err(|e| shown("looking at the instance's network", &e))?;
        let Some(found) = found else { return Ok(None) };
        let labels = found.labels.unwrap_or_default();
        if labels.get(names::OWNER) != Some(&self.options.owner) {
            return Err(collision("network", &name));
        }
        if let Some(subnet) = labels.get(names::SUBNET) {
            return Ok(Some(FoundNetwork::Made(Network {
                id: found.id.unwrap_or_default(),
                subnet: subnet.clone(),
            })));
        }
        let configs = found.ipam.and_then(|i| i.config).unwrap_or_default();
        let mut subnets = configs.into_iter().filter_map(|c| c.subnet);
        let subnet = subnets.find(|s| s.contains('.')).ok_or_else(|| {
            InfraError::new(
                InfraErrorKind::Other,
                "the engine made a network without IPv4 addresses",
            )
        })?;
        Ok(Some(FoundNetwork::Chosen(subnet)))
    }

    async fn create_network(
        &self,
        docker: &Docker,
        instance: InstanceId,
        subnet: Option<&str>,
    ) -> Result<(), InfraError> {
        let mut labels = names::instance_labels(&self.options.owner, instance);
        labels.extend(subnet.map(|subnet| (names::SUBNET.to_owned(), subnet.to_owned())));
        let request = NetworkCreateRequest {
            name: names::network(instance),
            driver: Some("bridge".to_owned()),
            labels: Some(labels),
            ipam: subnet.map(|subnet| Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet.to_owned()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            ..NetworkCreateRequest::default()
        };
        match docker.create_network(request).await {
            Ok(_) => Ok(()),
            Err(e) => Err(shown("making the instance's network", &e)),
        }
    }

    /// Makes the node's volume, if it is not there, with a port and an address for the node.
    pub(crate) async fn ensure_volume(
        &self,
        docker: &Docker,
        spec: &NodeSpec,
        subnet: &str,
    ) -> Result<Volume, InfraError> {
        if let Some(volume) = self.find_volume(docker, spec.node).await? {
            return Ok(volume);
        }
        let _one_at_a_time = self.ports.lock().await;
        let port = self.choose_port(docker).await?;
        let ip = self.choose_ip(docker, spec.node, subnet).await?;
        let mut labels = names::node_labels(&self.options.owner, spec.node);
        labels.insert(names::NODE_NAME.to_owned(), spec.name.clone());
        labels.insert(names::IMAGE.to_owned(), spec.image.to_string());
        labels.insert(names::PORT.to_owned(), port.to_string());
        labels.insert(names::IP.to_owned(), ip.to_string());
        labels.insert(names::SUBNET.to_owned(), subnet.to_owned());
        let request = VolumeCreateRequest {
            name: Some(names::node(spec.node)),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        let volume = docker
            .create_volume(request)
            .await
            .map_err(|e| shown("making the node's volume", &e))?;
        // The engine hands out one that is there already, whosever it is.
        if !names::is_ours(Some(&volume.labels), &self.options.owner, spec.node) {
            return Err(collision("volume", &names::node(spec.node)));
        }
        Ok(volume)
    }

    /// An address of the network that no node of the instance has.
    async fn choose_ip(&self, docker: &Docker, node: NodeRef, subnet: &str) -> Result<Ipv4Addr, InfraError> {
        let taken: HashSet<String> = self
            .volumes(docker, Some(node.instance))
            .await?
            .into_iter()
            .filter_map(|(_, v)| v.labels.get(names::IP).cloned())
            .collect();
        hosts_of(subnet)
            .find(|ip| !taken.contains(&ip.to_string()))
            .ok_or_else(|| {
                let message = format!("the instance's network {subnet} has no free address");
                InfraError::new(InfraErrorKind::Exhausted, message)
            })
    }

    /// A port that no node has, and that nobody listens on as far as can be told from here. Where the search begins is left to chance, so that
    /// two control planes on one engine seldom meet.
    async fn choose_port(&self, docker: &Docker) -> Result<u16, InfraError> {
        let taken: HashSet<u16> = self
            .volumes(docker, None)
            .await?
            .into_iter()
            .filter_map(|(_, v)| v.labels.get(names::PORT)?.parse().ok())
            .collect();
        let ports: Vec<u16> = self.options.port_range.clone().collect();
        let offset = rand::rng().random_range(0..ports.len().max(1));
        let (before, after) = ports.split_at(offset.min(ports.len()));
        let address = self.options.publish_address;
        let in_use = |port: u16| {
            TcpListener::bind(SocketAddr::new(address, port))
                .is_err_and(|e| e.kind() == std::io::ErrorKind::AddrInUse)
        };
        after
            .iter()
            .chain(before)
            .copied()
            .find(|port| !taken.contains(port) && !in_use(*port))
            .ok_or_else(|| {
                let range = &self.options.port_range;
                let message = format!("no port between {} and {} is free", range.start(), range.end());
                InfraError::new(InfraErrorKind::Exhausted, message)
            })
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
                mounts: Some(vec![volume_mount(spec.node, &image.volume_path)]),
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
        let mut mounts = vec![volume_mount(node, "/dbaas/0")];
        let mut cmd = vec![
            boot_id.to_owned(),
            dbaas_core::boot::ADMIN_ROLE.to_owned(),
            format!("/dbaas/0/{NODE_DIR}"),
        ];
        for (index, seed) in seeds.iter().enumerate() {
            let target = format!("/dbaas/{}", index + 1);
            mounts.push(volume_mount(*seed, &target));
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

    /// Processor time; the engine refuses more than its machine has.
    async fn nano_cpus(&self, docker: &Docker, resources: &Resources) -> Result<i64, InfraError> {
        let known = *self.cpus.lock();
        let cpus = match known {
            Some(cpus) => cpus,
            None => {
                let info = docker
                    .info()
                    .await
                    .map_err(|e| shown("asking about the engine", &e))?;
                let cpus = info.ncpu.and_then(|n| u64::try_from(n).ok()).unwrap_or(1).max(1);
                *self.cpus.lock() = Some(cpus);
                cpus
            }
        };
        let wanted = u64::from(resources.cpu).min(cpus);
        Ok(i64::try_from(wanted).unwrap_or(1) * 1_000_000_000)
    }

    /// Changes the limits of a container, also while it runs.
    pub(crate) async fn update_limits(
        &self,
        docker: &Docker,
        id: &str,
        resources: &Resources,
    ) -> Result<(), InfraError> {
        let body = ContainerUpdateBody {
            nano_cpus: Some(self.nano_cpus(docker, resources).await?),
            memory: Some(memory_bytes(resources)),
            memory_swap: Some(memory_bytes(resources)),
            ..ContainerUpdateBody::default()
        };
        docker
            .update_container(id, body)
            .await
            .map_err(|e| shown("changing the node's limits", &e))
    }

    /// Puts the container on the instance's network again, if somebody took it off.
    pub(crate) async fn ensure_connected(
        &self,
        docker: &Docker,
        node: NodeRef,
        found: &Found,
    ) -> Result<(), InfraError> {
        if found.on_network {
            return Ok(());
        }
        tracing::warn!(node = %node.node, "the node's container is not on its network; connecting it again");
        let request = NetworkConnectRequest {
            container: found.id.clone(),
            endpoint_config: found.labels.get(names::IP).map(|ip| at(ip)),
        };
        docker
            .connect_network(&names::network(node.instance), request)
            .await
            .map_err(|e| shown("connecting the node to its network", &e))
    }

    /// The account that PostgreSQL runs as in the container's image.
    pub(crate) async fn account(&self, docker: &Docker, found: &Found) -> Result<Account, InfraError> {
        if let Some(account) = self.accounts.lock().get(&found.image_id) {
            return Ok(*account);
        }
        let files = self.download(docker, &found.id, "/etc/passwd").await?;
        let passwd = files.as_ref().and_then(|f| f.get("passwd"));
        let account = passwd
            .and_then(|text| postgres_account(text.expose()))
            .ok_or_else(|| {
                let message = "the image has no user postgres: it is not a PostgreSQL image";
                InfraError::new(InfraErrorKind::ImageUnavailable, message)
            })?;
        self.accounts.lock().insert(found.image_id.clone(), account);
        Ok(account)
    }

    /// The small files at a path in a container; `None` if there is no such path.
    pub(crate) async fn download(
        &self,
        docker: &Docker,
        id: &str,
        path: &str,
    ) -> Result<Option<std::collections::BTreeMap<String, dbaas_core::secret::Secret>>, InfraError> {
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut stream = std::pin::pin!(docker.download_from_container(id, Some(options)));
        let mut archive = Vec::new();
        while let Some(chunk) = stream.next().await {
            match chunk {
                Ok(chunk) => archive.extend_from_slice(&chunk),
                Err(e) if status_of(&e) == Some(404) => return Ok(None),
                Err(e) => return Err(shown("reading the node's files", &e)),
            }
            if archive.len() > ARCHIVE_BYTES_MAX {
                return Err(InfraError::new(
                    InfraErrorKind::Other,
                    format!("{path} in the node's container is too large"),
                ));
            }
        }
        read_files(&archive, FILE_BYTES_MAX)
            .map(Some)
            .map_err(|e| InfraError::new(InfraErrorKind::Other, format!("reading the node's files: {e}")))
    }

    /// Unpacks an archive in the node's volume.
    pub(crate) async fn upload(
        &self,
        docker: &Docker,
        found: &Found,
        archive: Vec<u8>,
    ) -> Result<(), InfraError> {
        let options = UploadToContainerOptionsBuilder::default()
            .path(found.mount())
            .build();
        docker
            .upload_to_container(&found.id, Some(options), bollard::body_full(archive.into()))
            .await
            .map_err(|e| shown("writing the node's files", &e))
    }

    /// Whether there is something at a path of the node's directory.
    pub(crate) async fn exists(
        &self,
        docker: &Docker,
        found: &Found,
        path: &str,
    ) -> Result<bool, InfraError> {
        let path = format!("{}/{path}", found.node_dir);
        let options = ContainerArchiveInfoOptionsBuilder::default().path(&path).build();
        if_there(docker.get_container_archive_info(&found.id, Some(options)).await)
            .map(|found| found.is_some())
            .map_err(|e| shown("looking into the node's volume", &e))
    }

    /// Reads what the volume says of the node.
    pub(crate) async fn read_control(&self, docker: &Docker, found: &Found) -> Result<Control, InfraError> {
        let path = format!("{}/dbaas", found.node_dir);
        match self.download(docker, &found.id, &path).await? {
            Some(files) => Control::read(&files),
            None => Ok(Control::empty()),
        }
    }

    /// Makes the container of a node whose container somebody removed, from what the volume says. `None`: the volume is all that is to be
    /// there, or there is no volume. The caller holds the node's lock.
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
        let found_image = image::ensure(self, &image).await?;
        self.ensure_network(docker, node.instance).await?;
        // A first guess at the spec, good enough to read the true one.
        let guess = NodeSpec {
            node,
            name: label(names::NODE_NAME),
            image,
            resources: smallest()?,
        };
        self.create_container(docker, &guess, &place, &found_image)
            .await?;
        let Some(found) = self.find(docker, node).await? else {
            return Ok(None);
        };
        let control = self.read_control(docker, &found).await?;
        if control.ticket == crate::control::Ticket::Kept || control.spec.is_none() {
            self.remove_container(docker, &found.id).await?;
            self.kept.lock().insert((node, made_at));
            return Ok(None);
        }
        tracing::warn!(node = %node.node, "the node's container was removed by somebody; it is made again, off");
        if let Some(spec) = &control.spec
            && *spec != guess
        {
            self.remove_container(docker, &found.id).await?;
            let image = image::ensure(self, &spec.image).await?;
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

/// Addresses for nodes in a network: not its own, not the gateway's, not the broadcast address. At most a few hundred of them.
fn hosts_of(subnet: &str) -> impl Iterator<Item = Ipv4Addr> {
    let parsed = subnet
        .split_once('/')
        .and_then(|(base, bits)| Some((base.parse::<Ipv4Addr>().ok()?, bits.parse::<u32>().ok()?)));
    let (base, count) = match parsed {
        Some((base, bits)) if bits <= 30 => (base.to_bits(), 1u64 << (32 - bits)),
        _ => (0, 0),
    };
    let last = count.saturating_sub(1).min(512);
    (2..last).filter_map(move |n| Some(Ipv4Addr::from_bits(base.checked_add(u32::try_from(n).ok()?)?)))
}

fn smallest() -> Result<Resources, InfraError> {
    let of = |e: dbaas_core::size::OutOfBounds| InfraError::new(InfraErrorKind::Other, e.to_string());
    Ok(Resources {
        cpu: dbaas_core::size::CpuCores::new(1).map_err(of)?,
        ram: dbaas_core::size::RamMb::new(512).map_err(of)?,
        disk: dbaas_core::size::DiskGb::new(8).map_err(of)?,
    })
}

/// An instance's network.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) id: String,
    /// Its addresses, such as `172.18.0.0/16`.
    pub(crate) subnet: String,
}

/// A network as it was found.
enum FoundNetwork {
    Made(Network),
    /// Made only to learn which addresses the engine chooses.
    Chosen(String),
}

/// A fixed address on a network.
fn at(ip: &str) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(ip.to_owned()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    }
}

/// Where a node is to be reached; never changes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    port: u16,
    ip: String,
}

impl Place {
    /// From the labels of a node's volume or container.
    pub(crate) fn of(labels: &HashMap<String, String>) -> Result<Place, InfraError> {
        let port = labels.get(names::PORT).and_then(|p| p.parse().ok());
        match (port, labels.get(names::IP)) {
            (Some(port), Some(ip)) => Ok(Place { port, ip: ip.clone() }),
            _ => Err(InfraError::new(
                InfraErrorKind::Other,
                "the node's volume or container lacks a label that it was made with",
            )),
        }
    }
}

fn volume_mount(node: NodeRef, target: &str) -> Mount {
    Mount {
        target: Some(target.to_owned()),
        source: Some(names::node(node)),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions {
            // The image's own directory has nothing that belongs there.
            no_copy: Some(true),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

fn memory_bytes(resources: &Resources) -> i64 {
    i64::try_from(u64::from(resources.ram))
        .unwrap_or(i64::MAX / MB)
        .saturating_mul(MB)
}

/// Parallel queries share memory through /dev/shm; it counts towards the memory limit.
fn shm_bytes(resources: &Resources) -> i64 {
    (memory_bytes(resources) / 2).max(64 * MB)
}

/// The line of `postgres` in a `passwd` file.
fn postgres_account(passwd: &str) -> Option<Account> {
    let line = passwd.lines().find(|l| l.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Account { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_an_image() {
        let debian = "root:x:0:0:root:/root:/bin/bash\npostgres:x:999:999::/var/lib/postgresql:/bin/bash\n";
        assert_eq!(postgres_account(debian), Some(Account { uid: 999, gid: 999 }));
        let alpine = "postgres:x:70:71:PostgreSQL user:/var/lib/postgresql:/bin/sh\n";
        assert_eq!(postgres_account(alpine), Some(Account { uid: 70, gid: 71 }));
        assert_eq!(postgres_account("root:x:0:0\n"), None);
        assert_eq!(postgres_account("postgres:x\n"), None);
    }

    #[test]
    fn addresses_of_a_network() {
        let ips: Vec<String> = hosts_of("172.18.0.0/16")
            .take(2)
            .map(|ip| ip.to_string())
            .collect();
        assert_eq!(ips, ["172.18.0.2", "172.18.0.3"]);
        assert_eq!(hosts_of("10.0.0.0/29").count(), 5);
        assert_eq!(hosts_of("10.0.0.0/31").count(), 0);
        assert_eq!(hosts_of("nonsense").count(), 0);
    }

    #[test]
    fn limits() {
        let resources = smallest().unwrap();
        assert_eq!(memory_bytes(&resources), 512 * MB);
        assert_eq!(shm_bytes(&resources), 256 * MB);
    }
}
