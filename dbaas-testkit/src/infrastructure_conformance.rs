//! The suite that every [`Infrastructure`] runs: the contract of [`dbaas_core::infrastructure`] and
//! [`dbaas_core::boot`] as code, on real nodes.
//!
//! Describe where your backend runs by a [`Site`] and call [`run`] from a test, on a runtime with several
//! threads. It panics where the backend breaks the contract; the message says what was expected.
//! `examples/custom_backend/tests/conformance.rs` is a whole test to copy.
//!
//! ```no_run
//! use std::sync::Arc;
//! use dbaas_core::infrastructure::{Infrastructure, ObservedNode};
//! use dbaas_testkit::infrastructure_conformance::{Site, run};
//!
//! struct MySite;
//!
//! #[async_trait::async_trait]
//! impl Site for MySite {
//!     async fn open(&self) -> Arc<dyn Infrastructure> {
//!         todo!("connect to the same place every time")
//!     }
//!
//!     async fn kill(&self, node: &ObservedNode) {
//!         let _ = node.backend_ref.as_ref().expect("what to kill");
//!     }
//! }
//!
//! # async fn example() {
//! run(&MySite).await;
//! # }
//! ```

mod boots;
mod calls;
mod faults;
mod removal;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dbaas_core::boot::{BootFile, BootRecipe, BootRole, Prepare};
use dbaas_core::cluster::Epoch;
use dbaas_core::id::{InstanceId, NodeId};
use dbaas_core::infrastructure::{
    DataDisposal, Endpoint, InfraError, InfraErrorKind, Infrastructure, NodeRef, NodeSpec, ObservedNode,
    PowerOff, PowerState, Resources,
};
use dbaas_core::secret::Secret;
use dbaas_core::size::{CpuCores, DiskGb, RamMb};
use dbaas_core::version::ImageRef;
use futures_util::FutureExt as _;
use futures_util::future::LocalBoxFuture;
use uuid::Uuid;

/// Where a backend runs: how to get at it, and how to do to its nodes what nobody should.
#[async_trait]
pub trait Site: Send + Sync {
    /// The backend on the same place as always, as a program gets it after it was started again. The value
    /// before it has been dropped.
    async fn open(&self) -> Arc<dyn Infrastructure>;

    /// Ends the node's server from outside, without warning, as a crash or a power cut does; not through the
    /// backend.
    async fn kill(&self, node: &ObservedNode);

    /// Freezes everything of the node from outside: SIGSTOP, a paused container. `false`: there is no such
    /// thing here.
    async fn freeze(&self, node: &ObservedNode) -> bool {
        let _ = node;
        false
    }

    /// How many processes (containers, machines) of this node run, found out by other means than the backend.
    /// `None`: cannot tell.
    async fn running(&self, node: NodeRef) -> Option<usize> {
        let _ = node;
        None
    }

    /// What nodes are made of. By default the newest version that the backend offers.
    async fn image(&self, backend: &dyn Infrastructure) -> ImageRef {
        let versions = backend.versions().await.expect("the backend tells its versions");
        let newest = versions
            .into_iter()
            .max_by_key(|v| v.version)
            .expect("the backend has a version");
        newest.image
    }

    /// Whether PostgreSQL answers at an endpoint. By default: whether something there answers an
    /// `SSLRequest`.
    async fn answers(&self, endpoint: &Endpoint) -> bool {
        let endpoint = endpoint.clone();
        tokio::task::spawn_blocking(move || answers_ssl_request(&endpoint))
            .await
            .unwrap_or(false)
    }

    /// How long a node may take for anything.
    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }
}

/// Runs every case, one after the other, each with nodes of its own; each leaves nothing.
///
/// # Panics
/// When the backend does not do what the contract says; the message says what was expected.
pub async fn run(site: &dyn Site) {
    run_part(site, 0, 1).await;
}

/// Runs each `of`-th case, from the `part`-th (0 is the first): for nodes that take minutes. Parts may run at
/// the same time, each on a site of its own, as two programs that share a place; all parts together are
/// [`run`].
///
/// # Panics
/// As [`run`].
pub async fn run_part(site: &dyn Site, part: usize, of: usize) {
    for (name, case) in CASES.iter().skip(part).step_by(of.max(1)) {
        let began = Instant::now();
        case(site).await;
        say(name, began.elapsed());
    }
}

type RunCase = for<'a> fn(&'a dyn Site) -> LocalBoxFuture<'a, ()>;

/// Those that take long beside each other are in different halves.
const CASES: &[(&str, RunCase)] = &[
    ("what does not exist", |site| {
        calls::what_does_not_exist(site).boxed_local()
    }),
    ("apply converges", |site| {
        calls::apply_converges(site).boxed_local()
    }),
    ("sizes of a running node", |site| {
        calls::sizes_of_a_running_node(site).boxed_local()
    }),
    ("equal calls at the same time", |site| {
        calls::equal_calls_at_the_same_time(site).boxed_local()
    }),
    ("a caller that goes away", |site| {
        calls::a_caller_that_goes_away(site).boxed_local()
    }),
    ("first start and restarts", |site| {
        boots::first_start_and_restarts(site).boxed_local()
    }),
    ("what may not be started", |site| {
        boots::what_may_not_be_started(site).boxed_local()
    }),
    ("stale epochs", |site| boots::stale_epochs(site).boxed_local()),
    ("seeds", |site| boots::seeds(site).boxed_local()),
    ("a failed preparation", |site| {
        boots::a_failed_preparation(site).boxed_local()
    }),
    ("a crash between any two calls", |site| {
        faults::a_crash_between_any_two_calls(site).boxed_local()
    }),
    ("a killed node", |site| faults::a_killed_node(site).boxed_local()),
    ("a frozen node", |site| faults::a_frozen_node(site).boxed_local()),
    ("off in the middle of a preparation", |site| {
        faults::off_in_the_middle_of_a_preparation(site).boxed_local()
    }),
    ("the program goes and comes back", |site| {
        faults::the_program_goes_and_comes_back(site).boxed_local()
    }),
    ("with and without data", |site| {
        removal::with_and_without_data(site).boxed_local()
    }),
    ("orphans are found", |site| {
        removal::orphans_are_found(site).boxed_local()
    }),
];

/// For whoever looks on: where the time goes.
#[allow(clippy::print_stderr, reason = "a test's progress")]
fn say(name: &str, took: Duration) {
    eprintln!("conformance: {name}: {took:.1?}");
}

/// An instance on the place that is tested.
struct Case<'a> {
    site: &'a dyn Site,
    backend: Option<Arc<dyn Infrastructure>>,
    image: ImageRef,
    instance: InstanceId,
}

impl<'a> Case<'a> {
    async fn new(site: &'a dyn Site) -> Self {
        let backend = site.open().await;
        let image = site.image(&*backend).await;
        Case {
            site,
            backend: Some(backend),
            image,
            instance: InstanceId::from_uuid(Uuid::now_v7()),
        }
    }

    fn backend(&self) -> &dyn Infrastructure {
        &**self.backend.as_ref().expect("open")
    }

    /// As if the program that holds the backend had ended and was started again.
    async fn reopen(&mut self) {
        drop(self.backend.take());
        self.backend = Some(self.site.open().await);
    }

    fn node(&self) -> NodeRef {
        NodeRef {
            instance: self.instance,
            node: NodeId::from_uuid(Uuid::now_v7()),
        }
    }

    fn spec(&self, node: NodeRef) -> NodeSpec {
        NodeSpec::new(node, "n1", self.image.clone(), resources(1))
    }

    /// A node that is made and off.
    async fn applied(&self) -> NodeRef {
        let node = self.node();
        self.backend().apply(&self.spec(node)).await.expect("apply");
        node
    }

    /// A node that runs, of epoch 1.
    async fn running(&self) -> NodeRef {
        let node = self.applied().await;
        self.backend().start(node, &init(1, vec![])).await.expect("start");
        self.until_answers(node).await;
        node
    }

    async fn find(&self, node: NodeRef) -> Option<ObservedNode> {
        let all = self
            .backend()
            .observe(self.instance)
            .await
            .expect("observe")
            .found;
        assert!(
            all.iter().all(|o| o.node.instance == self.instance),
            "observe tells of another instance"
        );
        let mut by_node: BTreeMap<NodeId, ObservedNode> = BTreeMap::new();
        for observed in all {
            assert!(
                by_node.insert(observed.node.node, observed).is_none(),
                "observe tells of a node twice"
            );
        }
        by_node.remove(&node.node)
    }

    async fn observe(&self, node: NodeRef) -> ObservedNode {
        self.find(node).await.expect("the node is observed")
    }

    async fn until(&self, node: NodeRef, what: &str, is: impl Fn(&ObservedNode) -> bool) -> ObservedNode {
        let deadline = Instant::now() + self.site.patience();
        loop {
            let seen = self.observe(node).await;
            if is(&seen) {
                return seen;
            }
            if Instant::now() >= deadline {
                let log = self.backend().logs(node, 40).await.unwrap_or_default();
                panic!("expected: {what}; seen: {seen:?}\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs, and PostgreSQL answers.
    async fn until_answers(&self, node: NodeRef) -> ObservedNode {
        let seen = self
            .until(node, "runs", |o| {
                matches!(o.power, PowerState::Running | PowerState::Exited(_))
            })
            .await;
        assert_eq!(
            seen.power,
            PowerState::Running,
            "{}",
            self.backend().logs(node, 40).await.unwrap_or_default()
        );
        let endpoint = seen.endpoint.clone().expect("a running node has an endpoint");
        let deadline = Instant::now() + self.site.patience();
        while !self.site.answers(&endpoint).await {
            let log = self.backend().logs(node, 40).await.unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "PostgreSQL at {endpoint} does not answer\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        seen
    }

    async fn off(&self, node: NodeRef, mode: PowerOff) {
        self.backend().power_off(node, mode).await.expect("power_off");
        self.nothing_runs(node, "after power_off").await;
        let seen = self.observe(node).await;
        assert_eq!(seen.power, PowerState::Off, "after power_off");
        if let Some(endpoint) = &seen.endpoint {
            assert!(
                !self.site.answers(endpoint).await,
                "answers after power_off has said that it is off"
            );
        }
    }

    /// Nothing of the node runs, whatever the backend says.
    async fn nothing_runs(&self, node: NodeRef, when: &str) {
        if let Some(running) = self.site.running(node).await {
            assert_eq!(running, 0, "something of the node runs {when}");
        }
    }

    /// Takes everything away and makes sure that it is gone.
    async fn end(self) {
        for seen in self
            .backend()
            .observe(self.instance)
            .await
            .expect("observe")
            .found
        {
            self.backend()
                .power_off(seen.node, PowerOff::Immediate)
                .await
                .expect("power_off");
            self.nothing_runs(seen.node, "after power_off").await;
            self.backend()
                .remove(seen.node, DataDisposal::Delete)
                .await
                .expect("remove");
        }
        assert!(
            self.backend()
                .observe(self.instance)
                .await
                .expect("observe")
                .found
                .is_empty(),
            "something is left"
        );
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, InfraError>, kind: InfraErrorKind, what: &str) {
    match result {
        Err(e) if e.kind() == kind => assert!(!e.to_string().is_empty(), "{what}: says nothing"),
        other => panic!("{what}: expected {kind:?}, got {other:?}"),
    }
}

fn resources(cores: u64) -> Resources {
    Resources {
        cpu: CpuCores::new(cores).expect("in bounds"),
        ram: RamMb::new(512 * cores).expect("in bounds"),
        disk: DiskGb::new(8).expect("in bounds"),
    }
}

const GRACEFUL: PowerOff = PowerOff::Graceful { deadline_ms: 60_000 };

fn init(epoch: u64, seeds: Vec<NodeId>) -> BootRecipe {
    recipe(
        epoch,
        Prepare::Init {
            admin_password: Secret::new("conformance-1"),
            seeds,
        },
        BootRole::Primary,
    )
}

fn existing(epoch: u64) -> BootRecipe {
    recipe(epoch, Prepare::Existing, BootRole::Primary)
}

fn recipe(epoch: u64, prepare: Prepare, role: BootRole) -> BootRecipe {
    let file = |name: &str, content: String| BootFile {
        name: name.into(),
        content: Secret::new(content),
    };
    // At least what initdb assumes, or a seed copy cannot start as a standby.
    let conf = "listen_addresses = ''\nshared_buffers = 16MB\nmax_connections = 100\nwal_level = replica\nhot_standby = on\n";
    let files = vec![
        file("postgresql.conf", conf.into()),
        file("pg_hba.conf", "host all all all scram-sha-256\n".into()),
        file("postgresql.auto.conf", format!("dbaas.epoch = '{epoch}'\n")),
    ];
    BootRecipe::new(Epoch(epoch), prepare, role, files)
}

/// PostgreSQL answers an `SSLRequest` (Frontend/Backend Protocol, "Message Formats") with one letter, before
/// anything else.
fn answers_ssl_request(endpoint: &Endpoint) -> bool {
    let ask = || -> std::io::Result<bool> {
        let short = Duration::from_millis(500);
        let Some(address) = (endpoint.host.as_str(), endpoint.port).to_socket_addrs()?.next() else {
            return Ok(false);
        };
        let mut stream = std::net::TcpStream::connect_timeout(&address, short)?;
        stream.set_read_timeout(Some(short))?;
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
        let mut answer = [0u8];
        stream.read_exact(&mut answer)?;
        Ok(matches!(&answer, b"S" | b"N"))
    };
    ask().unwrap_or(false)
}
