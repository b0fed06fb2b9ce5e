//! What the suite of `dbaas-testkit` says of the backend. This is all that it takes to run it on one's own.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use dbaas_core::infrastructure::{Infrastructure, NodeRef, ObservedNode};
use dbaas_example_custom_backend::ScriptBackend;
use dbaas_testkit::infrastructure_conformance::{Site, run};

struct Place {
    root: tempfile::TempDir,
    bin: PathBuf,
}

#[async_trait]
impl Site for Place {
    async fn open(&self) -> Arc<dyn Infrastructure> {
        Arc::new(ScriptBackend::open(self.root.path(), &self.bin).expect("opens"))
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

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms() {
    let downloads = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/postgresql");
    let Some((_, postgres)) = dbaas_backend_local::discover(&[], &downloads).pop_last() else {
        let required = std::env::var_os("DBAAS_REQUIRE_POSTGRES").is_some_and(|value| value == "1");
        assert!(!required, "there is no PostgreSQL");
        let _ = writeln!(std::io::stderr(), "SKIPPED: there is no PostgreSQL on this machine");
        return;
    };
    let root = tempfile::tempdir_in("/tmp").expect("a directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(root.path(), open).expect("PostgreSQL's user may enter it");
    run(&Place { root, bin: postgres.bin_dir }).await;
}
