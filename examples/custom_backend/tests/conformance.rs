//! What the suite of `dbaas-testkit` says of the backend. This is all that it takes to run it on one's own.

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dbaas_controller::request::{CreateInstance, Page};
use dbaas_core::config::HbaRules;
use dbaas_core::infrastructure::{Infrastructure, NodeRef, ObservedNode};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_example_custom_backend::ScriptBackend;
use dbaas_testkit::infrastructure_conformance::{Site, run};

struct Place {
    root: tempfile::TempDir,
    bin: PathBuf,
    /// Each test has its own: they run at the same time.
    ports: RangeInclusive<u16>,
}

#[async_trait]
impl Site for Place {
    async fn open(&self) -> Arc<dyn Infrastructure> {
        Arc::new(ScriptBackend::open(self.root.path(), &self.bin, self.ports.clone()).expect("opens"))
    }

    async fn kill(&self, node: &ObservedNode) {
        let pid = node.backend_ref.as_ref().and_then(|name| name.strip_prefix("pid "));
        signal(pid.expect("it runs"), "KILL");
    }

    async fn freeze(&self, node: &ObservedNode) -> bool {
        let processes = self.processes(&self.dir(node.node));
        processes.iter().for_each(|pid| signal(pid, "STOP"));
        true
    }

    async fn running(&self, node: NodeRef) -> Option<usize> {
        Some(self.processes(&self.dir(node)).len())
    }
}

impl Place {
    fn dir(&self, node: NodeRef) -> PathBuf {
        let root = self.root.path().canonicalize().expect("it is there");
        root.join(node.instance.to_string()).join(node.node.to_string())
    }

    fn processes(&self, dir: &Path) -> Vec<String> {
        let all = std::fs::read_dir("/proc").expect("Linux").flatten();
        all.filter(|one| std::fs::read_link(one.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir)))
            .filter_map(|one| one.file_name().into_string().ok())
            .filter(|name| name.parse::<u32>().is_ok())
            .collect()
    }
}

impl Drop for Place {
    /// Nothing stays behind, also when the suite has failed.
    fn drop(&mut self) {
        let root = self.root.path().canonicalize().expect("it is there");
        self.processes(&root).iter().for_each(|pid| signal(pid, "KILL"));
    }
}

fn signal(pid: &str, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), pid]).stderr(Stdio::null()).status();
}

/// The newest PostgreSQL of this machine.
fn postgres() -> Option<PathBuf> {
    let downloads = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgresql");
    let Some((_, postgres)) = dbaas_backend_local::discover(&[], &downloads).pop_last() else {
        let required = std::env::var_os("DBAAS_REQUIRE_POSTGRES").is_some_and(|value| value == "1");
        assert!(!required, "there is no PostgreSQL");
        let _ = writeln!(std::io::stderr(), "SKIPPED: there is no PostgreSQL on this machine");
        return None;
    };
    Some(postgres.bin_dir)
}

fn place(bin: PathBuf, ports: RangeInclusive<u16>) -> Place {
    let root = tempfile::tempdir_in("/tmp").expect("a directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.path(), open).expect("PostgreSQL's user may enter it");
    Place { root, bin, ports }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let Some(bin) = postgres() else { return };
    run(&place(bin, 26_432..=26_931)).await;
}

/// Who may connect is changed: a backend has nothing to do for that, and no server is started anew.
#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_reaches_a_running_node() {
    let Some(bin) = postgres() else { return };
    let place = place(bin, 26_932..=27_431);
    let open = async |clients: &str| {
        let mut settings = dbaas_controller::settings::ControllerSettings::default();
        let clients = vec![clients.parse().expect("a network")];
        settings.hba = Some(HbaRules { clients, ..HbaRules::loopback() });
        let backend = async { ScriptBackend::open(place.root.path(), &place.bin, place.ports.clone()) };
        let state = place.root.path().join("state");
        dbaas_embedded::open_on(&state, backend, settings).await.expect("opens").control_plane
    };
    let at_most = Duration::from_secs(120);
    let active = Lifecycle::Active;
    let plane = open("192.0.2.0/25").await;
    let versions = plane.versions(Page { after: None, limit: 1 }).await.expect("a catalogue");
    let request = CreateInstance::new("one".parse().expect("a name"), versions.items[0].id);
    let id = plane.create_instance(request).await.expect("asked for").id;
    let record = plane.wait_for_instance(id, active, at_most).await.expect("it runs");
    let node = NodeRef { instance: id, node: record.nodes[0].id };
    let hba = || std::fs::read_to_string(place.dir(node).join("data/pg_hba.conf")).expect("it is there");
    assert!(hba().contains("192.0.2.0/25"));
    plane.shutdown(Duration::from_secs(5)).await;
    drop(plane);

    let plane = open("198.51.100.0/24").await;
    let deadline = Instant::now() + at_most;
    while !hba().contains("198.51.100.0/24") || hba().contains("192.0.2.0/25") {
        assert!(Instant::now() < deadline, "it was not written: {}", hba());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let after = plane.wait_for_instance(id, active, at_most).await.expect("it runs");
    assert_eq!(after.nodes[0].backend_ref, record.nodes[0].backend_ref, "the same server goes on");
    plane.shutdown(Duration::from_secs(5)).await;
}
