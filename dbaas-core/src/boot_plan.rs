//! [`BootPlan`]: a node's start as the planner decides it, without secrets; [`BootPlan::recipe`] adds them.

use crate::boot::{BootFile, BootRecipe, BootRole, PASSFILE, Prepare, REPLICATION_ROLE, ReplicationSource};
use crate::cluster::Epoch;
use crate::config::{AutoConf, Configuration, POSTGRESQL_AUTO_CONF, PgpassEntry, PrimaryConninfo};
use crate::id::NodeId;
use crate::infrastructure::Endpoint;
use crate::observation::FollowTarget;
use crate::secret::Secret;

/// A node's start, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootPlan {
    /// The epoch in which it was decided.
    pub epoch: Epoch,
    /// How the data directory comes to be.
    pub prepare: PreparePlan,
    /// A base backup's number ([`NodeRecord::rebuilds`](crate::node::NodeRecord::rebuilds)); 0 for every
    /// other way.
    pub rebuild: u32,
    /// Primary or standby.
    pub role: BootRole,
    /// Whom it follows; `None` for a primary and for a standby that starts sealed.
    pub follow: Option<FollowTarget>,
    /// `synchronous_standby_names`.
    pub sync_names: String,
    /// `postgresql.conf` and `pg_hba.conf`.
    pub configuration: Configuration,
}

/// [`Prepare`] without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreparePlan {
    /// The data is there.
    Existing,
    /// A new cluster, copied to these nodes.
    Init {
        /// The nodes that get a copy.
        seeds: Vec<NodeId>,
    },
    /// The copy of the first node's.
    SeedOf {
        /// The first node.
        source: NodeId,
    },
    /// A base backup.
    BaseBackup {
        /// From this node.
        source: NodeId,
        /// There.
        endpoint: Endpoint,
        /// With this slot.
        slot: String,
    },
    /// A rewind.
    Rewind {
        /// To this node's history.
        source: NodeId,
        /// There.
        endpoint: Endpoint,
    },
}

/// What a node's `primary_conninfo` is to be.
pub fn conninfo(target: &FollowTarget) -> String {
    PrimaryConninfo {
        host: target.endpoint.host.clone(),
        port: target.endpoint.port,
        user: REPLICATION_ROLE.to_owned(),
        application_name: target.application_name.clone(),
    }
    .render()
}

impl BootPlan {
    /// The recipe that a backend carries out.
    pub fn recipe(&self, admin: &Secret, replication: &Secret) -> BootRecipe {
        let source = |node: NodeId, endpoint: &Endpoint| ReplicationSource {
            node,
            endpoint: endpoint.clone(),
            user: REPLICATION_ROLE.to_owned(),
            password: replication.clone(),
        };
        let prepare = match &self.prepare {
            PreparePlan::Existing => Prepare::Existing,
            PreparePlan::Init { seeds } => Prepare::Init {
                admin_password: admin.clone(),
                seeds: seeds.clone(),
            },
            PreparePlan::SeedOf { source } => Prepare::SeedOf { source: *source },
            PreparePlan::BaseBackup {
                source: node,
                endpoint,
                slot,
            } => Prepare::BaseBackup {
                source: source(*node, endpoint),
                slot: slot.clone(),
            },
            PreparePlan::Rewind {
                source: node,
                endpoint,
            } => Prepare::Rewind {
                source: source(*node, endpoint),
            },
        };
        let auto_conf = AutoConf {
            epoch: self.epoch,
            rebuild: self.rebuild,
            synchronous_standby_names: Some(self.sync_names.clone()),
            primary_conninfo: Some(self.follow.as_ref().map(conninfo).unwrap_or_default()),
            primary_slot_name: self.follow.as_ref().map(|f| f.slot.clone()),
            extra: Vec::new(),
        };
        let mut files = vec![file(POSTGRESQL_AUTO_CONF, auto_conf.render())];
        let configuration = self.configuration.files();
        files.extend(configuration.map(|(name, text)| file(name, text)));
        // The passwords that the control plane generates hold nothing that a password file cannot.
        if let Ok(line) = PgpassEntry::for_user(REPLICATION_ROLE, replication.clone()).render() {
            files.push(BootFile {
                name: PASSFILE.to_owned(),
                content: line,
            });
        }
        BootRecipe {
            epoch: self.epoch,
            prepare,
            role: self.role,
            files,
        }
    }
}

fn file(name: &str, content: String) -> BootFile {
    BootFile {
        name: name.to_owned(),
        content: Secret::new(content),
    }
}
