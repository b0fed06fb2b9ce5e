//! What only an engine can tell: whose things are touched, where secrets show, what happens behind the
//! backend's back.

mod fixture;
mod node;

use std::time::{Duration, Instant};

use dbaas_backend_docker::{DockerBackend, DockerOptions};
use dbaas_core::boot::Prepare;
use dbaas_core::infrastructure::{
    DataState, InfraError, InfraErrorKind, Infrastructure, PowerOff, PowerState,
};
use dbaas_core::secret::Secret;
use fixture::Fixture;
use node::{PASSWORD, init, node, observe, recipe, resources, spec, until};
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn behind_the_backends_back() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let node = node();
    let name = Fixture::name(node);
    backend.apply(&spec(&fixture, node)).await.unwrap();

    // A container that somebody else starts does nothing, before the first start and after one.
    fixture.docker(&["start", "-a", &name]).unwrap_err();
    assert_eq!(observe(&backend, node).await.power, PowerState::Off);
    backend.start(node, &init()).await.unwrap();
    let running = until(&backend, node, PowerState::Running).await;
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    fixture.docker(&["start", "-a", &name]).unwrap_err();
    let seen = observe(&backend, node).await;
    assert_eq!((seen.power, seen.data), (PowerState::Off, DataState::Initialised));
    assert!(
        backend
            .logs(node, 1)
            .await
            .unwrap()
            .contains("started by its control plane only")
    );

    // No secret where everybody looks.
    backend.start(node, &recipe(2, Prepare::Existing)).await.unwrap();
    until(&backend, node, PowerState::Running).await;
    let told = fixture.docker(&["inspect", &name]).unwrap() + &backend.logs(node, 1000).await.unwrap();
    assert!(told.contains("dbaas.node") && !told.contains(PASSWORD));
    let files =
        "cd /var/lib/postgresql/data/node && stat -c '%a %U %n' pgdata pgdata/dbaas.pgpass && ls dbaas";
    let begin = Instant::now();
    let mut shown = String::new();
    // It runs from the first moment, and PostgreSQL a little later.
    while !shown.contains("up-") && begin.elapsed() < Duration::from_secs(60) {
        shown = fixture.docker(&["exec", &name, "sh", "-c", files]).unwrap();
    }
    assert!(
        shown.contains("700 postgres pgdata") && shown.contains("600 postgres pgdata/dbaas.pgpass"),
        "{shown}"
    );
    assert!(
        !shown.contains("boot-"),
        "passwords of a start stay behind: {shown}"
    );

    // Limits are the engine's, and change while it runs.
    let mut larger = spec(&fixture, node);
    larger.resources = resources(1024);
    backend.apply(&larger).await.unwrap();
    let memory = fixture.docker(&[
        "inspect",
        "-f",
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}",
        &name,
    ]);
    assert_eq!(memory.unwrap(), format!("{} 1000000000", 1024u64 * 1024 * 1024));

    // Off its network it is as good as frozen; a start puts it back, also on a network that was made anew.
    let network = format!("dbaas-{}", node.instance);
    fixture
        .docker(&["network", "disconnect", &network, &name])
        .unwrap();
    assert_eq!(observe(&backend, node).await.power, PowerState::Frozen);
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    fixture.docker(&["network", "rm", &network]).unwrap();
    backend.start(node, &recipe(2, Prepare::Existing)).await.unwrap();
    let again = until(&backend, node, PowerState::Running).await;
    assert_eq!(
        (&again.endpoint, &again.peer_endpoint),
        (&running.endpoint, &running.peer_endpoint)
    );

    // Its container removed, the node is still there, and so is its data.
    fixture.docker(&["rm", "-f", &name]).unwrap();
    let seen = observe(&backend, node).await;
    assert!(matches!(seen.power, PowerState::Exited(_)), "{seen:?}");
    assert_eq!(
        (seen.data, &seen.endpoint),
        (DataState::Initialised, &running.endpoint)
    );
    backend.start(node, &recipe(3, Prepare::Existing)).await.unwrap();
    until(&backend, node, PowerState::Running).await;
    backend.power_off(node, PowerOff::Immediate).await.unwrap();

    // Its volume removed too, there is nothing left of it.
    fixture.docker(&["rm", "-f", &name]).unwrap();
    fixture.docker(&["volume", "rm", &name]).unwrap();
    assert!(backend.observe(node.instance).await.unwrap().found.is_empty());

    // A volume that the engine made for a container whose volume was removed at that moment is nobody's data.
    let labels = [
        fixture.filter(),
        format!("label=dbaas.instance={}", node.instance),
        format!("label=dbaas.node={}", node.node),
    ];
    let mut hollow = vec!["volume", "create"];
    for label in &labels {
        hollow.extend(["--label", label.trim_start_matches("label=")]);
    }
    hollow.push(&name);
    fixture.docker(&hollow).unwrap();
    assert!(backend.observe(node.instance).await.unwrap().found.is_empty());
    fixture.docker(&hollow).unwrap();
    backend.apply(&spec(&fixture, node)).await.unwrap();
    assert_eq!(observe(&backend, node).await.data, DataState::Empty);
}

/// A node waits for the container that initialises it no longer than that lives.
#[tokio::test(flavor = "multi_thread")]
async fn initialisation_interrupted() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let (node, mut seed) = (node(), node());
    seed.instance = node.instance;
    for node in [node, seed] {
        backend.apply(&spec(&fixture, node)).await.unwrap();
    }
    let start = || {
        let prepare = Prepare::Init {
            admin_password: Secret::new(PASSWORD),
            seeds: vec![seed.node],
        };
        recipe(1, prepare)
    };
    let begin = Instant::now();
    let init = format!("{}-init", Fixture::name(node));
    // As soon as it runs: it may be through before the start returns.
    let kill = async {
        while let Err(error) = fixture.docker(&["kill", &init]) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let recipe = start();
    let (first, ()) = tokio::join!(backend.start(node, &recipe), kill);
    first.unwrap();
    let seen = loop {
        let seen = backend.observe(node.instance).await.unwrap().found;
        let seen = seen.into_iter().find(|n| n.node == node).unwrap();
        if matches!(seen.power, PowerState::Exited(_)) {
            break seen;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(format!("{seen:?}").contains("ended before its time"), "{seen:?}");
    backend.start(node, &start()).await.unwrap();
    let begin = Instant::now();
    loop {
        let seen = backend.observe(node.instance).await.unwrap().found;
        let seen = seen.into_iter().find(|n| n.node == node).unwrap();
        if seen.power == PowerState::Running {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{seen:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// An engine that answers too late has done it, or not: that is never taken for either. Above all nothing is
/// said to be off that runs.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_too_late() {
    let Some(fixture) = Fixture::new(15) else { return };
    let node = node();
    let impatient = |ms: u64| {
        DockerBackend::connect(DockerOptions {
            request_timeout: Duration::from_millis(ms),
            ..fixture.options.clone()
        })
        .unwrap()
    };
    let is_unknown = |error: &InfraError| {
        matches!(
            error.kind(),
            InfraErrorKind::OutcomeUnknown | InfraErrorKind::Unavailable
        )
    };
    for ms in [1, 2, 4, 8, 16, 32] {
        let short = impatient(ms);
        if let Err(error) = short.apply(&spec(&fixture, node)).await {
            assert!(is_unknown(&error), "{:?} {error}", error.kind());
        }
        // There may be no node yet.
        let _ = short.start(node, &init()).await;
    }
    let backend = fixture.open();
    backend.apply(&spec(&fixture, node)).await.unwrap();
    backend.start(node, &init()).await.unwrap();
    until(&backend, node, PowerState::Running).await;
    for ms in [1, 2, 4, 8, 16, 32, 64] {
        match impatient(ms).power_off(node, PowerOff::Immediate).await {
            Ok(()) => {
                let state = ["inspect", "-f", "{{.State.Running}}", &Fixture::name(node)];
                assert_eq!(fixture.docker(&state).unwrap(), "false");
            }
            Err(error) => assert!(is_unknown(&error), "{:?} {error}", error.kind()),
        }
    }
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
    assert_eq!(observe(&backend, node).await.power, PowerState::Off);
    backend.start(node, &recipe(2, Prepare::Existing)).await.unwrap();
    until(&backend, node, PowerState::Running).await;
    backend.power_off(node, PowerOff::Immediate).await.unwrap();
}

/// Two controllers, one of which has just ended, ask for a start at the same time. What runs is never taken
/// for what was asked for last.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_another_one_overtook() {
    let Some(fixture) = Fixture::new(15) else { return };
    let (backend, node) = (fixture.open(), node());
    let name = Fixture::name(node);
    // Another start is written down, and the container runs already.
    let overtake = || {
        let other = Uuid::new_v4();
        format!("sed -i 's/\"boot_id\":\"[^\"]*\"/\"boot_id\":\"{other}\"/' boot.json")
    };
    let there = "cd /var/lib/postgresql/data/node/dbaas";
    let is_used = "grep -qs '^used' ticket";
    backend.apply(&spec(&fixture, node)).await.unwrap();

    // While it prepares: it ends by itself. Who overtakes it waits beside it: to begin to run something in
    // the container may take longer than to prepare.
    let beside = format!(
        "echo ready; until {there} && {is_used}; do sleep 0.01; done; {}",
        overtake()
    );
    let label = format!("dbaas.owner={}", fixture.options.owner);
    let image = fixture.image();
    let mut run = vec!["run", "-d", "--label", &label, "--volumes-from", &name];
    run.extend(["--entrypoint", "timeout", &image, "60", "sh", "-c", &beside]);
    let other = fixture.docker(&run).unwrap();
    let begin = Instant::now();
    while fixture.docker(&["logs", &other]).unwrap() != "ready" {
        assert!(begin.elapsed() < Duration::from_secs(30), "it runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    backend.start(node, &init()).await.unwrap();
    assert_eq!(fixture.docker(&["wait", &other]).unwrap(), "0");
    fixture.docker(&["rm", &other]).unwrap();
    until(&fixture.open(), node, PowerState::Off).await;
    let logs = fixture.open().logs(node, 5).await.unwrap();
    assert!(logs.contains("another start was asked for"), "{logs}");

    // When it serves already: it is to be switched off, and started anew.
    let backend = fixture.open();
    backend.start(node, &recipe(1, Prepare::Existing)).await.unwrap();
    until(&backend, node, PowerState::Running).await;
    let script = format!("{there} && {is_used} && {}", overtake());
    fixture.docker(&["exec", &name, "sh", "-c", &script]).unwrap();
    let next = fixture.open();
    assert_eq!(observe(&next, node).await.power, PowerState::Frozen);
    next.power_off(node, PowerOff::Immediate).await.unwrap();
    assert_eq!(observe(&next, node).await.power, PowerState::Off);
    next.start(node, &recipe(1, Prepare::Existing)).await.unwrap();
    until(&next, node, PowerState::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_others_is_touched() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let node = node();
    let name = Fixture::name(node);
    // Removed by the fixture, which knows the first label; the backend needs more to take it for its own.
    let label = format!("dbaas.owner={}", fixture.options.owner);
    fixture
        .docker(&["create", "--name", &name, "--label", &label, &fixture.image()])
        .unwrap();
    for error in [
        backend.apply(&spec(&fixture, node)).await.unwrap_err(),
        backend.start(node, &init()).await.unwrap_err(),
        backend.power_off(node, PowerOff::Immediate).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), InfraErrorKind::Collision, "{error}");
    }
    fixture.docker(&["inspect", &name]).unwrap();

    // Another control plane on the same engine sees nothing of it.
    let (theirs, ours) = (Fixture::new(15).unwrap(), node::node());
    backend.apply(&spec(&fixture, ours)).await.unwrap();
    let other = theirs.open();
    assert!(other.list().await.unwrap().is_empty());
    assert!(other.observe(ours.instance).await.unwrap().found.is_empty());
    assert_eq!(backend.list().await.unwrap(), [ours]);
}

/// Images without files, removed at the end.
struct Images<'a> {
    fixture: &'a Fixture,
    prefix: String,
}

impl<'a> Images<'a> {
    fn new(fixture: &'a Fixture) -> Self {
        let prefix = format!("dbaas-test-{}", Uuid::now_v7().simple());
        Images { fixture, prefix }
    }

    fn import(&self, name: &str, env: &str) -> String {
        let image = format!("{}/{name}", self.prefix);
        let change = format!("ENV {env}");
        // Blocks of zeroes are the end of an archive.
        self.read_by(&["import", "-c", &change, "-", &image], &[0; 10240]);
        image
    }

    fn of_other_processors(&self, name: &str) -> String {
        let image = format!("{}/{name}", self.prefix);
        let manifest = format!(r#"[{{"Config":"config.json","RepoTags":["{image}"],"Layers":[]}}]"#);
        let config = r#"{"architecture":"s390x","os":"linux","config":{"Env":["PG_MAJOR=15"]},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in [("manifest.json", manifest.as_str()), ("config.json", config)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        self.read_by(&["load"], &archive.into_inner().unwrap());
        image
    }

    fn read_by(&self, command: &[&str], archive: &[u8]) {
        let path = std::env::temp_dir().join(format!("{}.tar", self.prefix));
        std::fs::write(&path, archive).unwrap();
        let input = std::fs::File::open(&path).unwrap();
        let done = self.fixture.docker_reading(command, input.into());
        std::fs::remove_file(&path).unwrap();
        done.unwrap();
    }
}

impl Drop for Images<'_> {
    fn drop(&mut self) {
        for name in ["elsewhere", "nothing", "older", "hollow"] {
            let _ = self
                .fixture
                .docker(&["rmi", "-f", &format!("{}/{name}:15", self.prefix)]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_cannot_be_had() {
    let Some(fixture) = Fixture::new(15) else { return };
    let backend = fixture.open();
    let mut wanted = spec(&fixture, node());
    wanted.image = "postgres:14.0".parse().unwrap();
    let error = backend.apply(&wanted).await.unwrap_err();
    assert_eq!(error.kind(), InfraErrorKind::ImageUnavailable);
    assert!(error.to_string().contains("docker pull"), "{error}");
    // What the engine has under a name that promises something else.
    let own = Images::new(&fixture);
    for (image, told) in [
        (own.of_other_processors("elsewhere:15"), "is for linux/s390x"),
        (own.import("nothing:15", "PATH=/bin"), "is not a PostgreSQL image"),
        (
            own.import("older:15", "PG_MAJOR=14"),
            "holds PostgreSQL 14, not 15",
        ),
    ] {
        wanted.image = image.parse().unwrap();
        let error = backend.apply(&wanted).await.unwrap_err();
        assert_eq!(error.kind(), InfraErrorKind::ImageUnavailable, "{image}: {error}");
        assert!(error.to_string().contains(told), "{image}: {error}");
        wanted.node = node();
    }
    let half_made = backend.list().await.unwrap();
    assert!(half_made.is_empty(), "a node was half made: {half_made:?}");
    wanted.image = own.import("hollow:15", "PG_MAJOR=15").parse().unwrap();
    let error = backend.apply(&wanted).await.unwrap_err();
    assert!(error.to_string().contains("has no user postgres"), "{error}");
    let away = DockerBackend::connect(DockerOptions {
        host: Some("unix:///nonexistent/docker.sock".into()),
        ..DockerOptions::default()
    })
    .unwrap();
    assert_eq!(away.list().await.unwrap_err().kind(), InfraErrorKind::Unavailable);
}
