//! Limits of cpu and ram: on a directory that imitates a cgroup v2 hierarchy, and on a real one where there
//! is one (`ci/cgroups` brings one, in a virtual machine).

mod fixture;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use dbaas_core::boot::{BootRole, Prepare};
use dbaas_core::infrastructure::{DataDisposal, Enforcement, Infrastructure, PowerOff, PowerState};
use dbaas_core::size::{CpuCores, RamMb};
use fixture::{Fixture, pid_of, processes_below, recipe};

/// A server's life below a delegated directory; `looks` at the node's group and its processes while it runs.
async fn a_life(parent: &Path, looks: impl Fn(&Path, &[u32])) -> Option<PathBuf> {
    let mut fixture = Fixture::new(15)?;
    fixture.options.cgroup = Some(parent.to_owned());
    let backend = fixture.open();
    let capabilities = backend.capabilities();
    assert_eq!(
        (capabilities.cpu, capabilities.ram, capabilities.disk),
        (
            Enforcement::Enforced,
            Enforcement::Enforced,
            Enforcement::NotEnforced
        )
    );
    assert_eq!(backend.not_enforced().len(), 1, "the disk");
    let node = fixture.node();
    fixture.primary(&backend, node, vec![]).await;
    let seen = fixture.wait_running(&backend, node).await;
    assert_eq!(seen.power, PowerState::Running);
    fixture.sql(&backend, node, "SELECT 1").await;
    let group = parent.join(format!("dbaas-{}", node.node));
    let limit = |file: &str| fs::read_to_string(group.join(file)).unwrap().trim().to_owned();
    assert_eq!(
        (limit("cpu.max"), limit("memory.max")),
        ("100000 100000".into(), "536870912".into())
    );
    let processes = processes_below(&fixture.node_dir(node));
    assert!(
        processes.contains(&pid_of(&seen)) && processes.len() > 3,
        "{processes:?}"
    );
    looks(&group, &processes);

    let mut larger = fixture.spec(node);
    larger.resources.cpu = CpuCores::new(2).unwrap();
    larger.resources.ram = RamMb::new(1024).unwrap();
    backend.apply(&larger).await.unwrap();
    assert_eq!(
        (limit("cpu.max"), limit("memory.max")),
        ("200000 100000".into(), "1073741824".into())
    );

    // The next start of the program finds it held, and holds it.
    drop(backend);
    let backend = fixture.open();
    assert_eq!(pid_of(&fixture.observe(&backend, node).await), pid_of(&seen));
    assert_eq!(limit("cpu.max"), "200000 100000");
    looks(&group, &processes_below(&fixture.node_dir(node)));

    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    let again = recipe(1, Prepare::Existing, BootRole::Primary, None);
    backend.start(node, &again).await.unwrap();
    fixture.sql(&backend, node, "SELECT 1").await;
    looks(&group, &processes_below(&fixture.node_dir(node)));
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    backend.remove(node, DataDisposal::Delete).await.unwrap();
    Some(group)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imitated_hierarchy_is_written_as_a_real_one() {
    let parent = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("cgroup.controllers", "cpu memory"),
        ("cgroup.procs", ""),
        ("cgroup.subtree_control", ""),
    ] {
        fs::write(parent.path().join(name), text).unwrap();
    }
    a_life(parent.path(), |group, processes| {
        // A plain file holds what was written last: one of the server's processes.
        let last: u32 = fs::read_to_string(group.join("cgroup.procs"))
            .unwrap()
            .parse()
            .unwrap();
        assert!(processes.contains(&last) || !Path::new(&format!("/proc/{last}")).exists());
    })
    .await;
}

/// A directory of our own below a v2 hierarchy that gives cpu and memory to groups at its top; `None` where
/// there is none. Nothing of the hierarchy's own is changed.
fn real_parent() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let point = Path::new(line.split(' ').nth(4)?);
    let enabled = fs::read_to_string(point.join("cgroup.subtree_control")).ok()?;
    let has = |name: &str| enabled.split_whitespace().any(|controller| controller == name);
    let parent = point.join(format!("dbaas-test-{}", std::process::id()));
    (has("cpu") && has("memory") && fs::create_dir(&parent).is_ok()).then_some(parent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_hierarchy_holds_every_process() {
    let Some(parent) = real_parent() else {
        let expected = std::env::var_os("DBAAS_REQUIRE_CGROUPS").is_some_and(|v| v == "1");
        assert!(!expected, "no cgroup v2 hierarchy with cpu and memory");
        // Past the test harness, which hides what is printed.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no cgroup v2 hierarchy with cpu and memory in which we may make a group"
        );
        return;
    };
    let group = a_life(&parent, |group, processes| {
        let held = fs::read_to_string(group.join("cgroup.procs")).unwrap();
        for pid in processes
            .iter()
            .filter(|pid| Path::new(&format!("/proc/{pid}")).exists())
        {
            assert!(
                held.lines().any(|line| line == pid.to_string()),
                "{pid} is not in {held}"
            );
        }
    })
    .await;
    assert!(
        group.is_none_or(|group| !group.exists()),
        "the node's group goes with the node"
    );
    fs::remove_dir(&parent).unwrap();
}
