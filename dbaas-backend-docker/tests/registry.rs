//! Images from a private registry: with the right login, a wrong one, none; what is not there, and what is
//! not what it says.
#![allow(clippy::print_stderr, reason = "skipped tests say so loudly")]

mod fixture;
mod node;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dbaas_backend_docker::{DockerBackend, DockerOptions, RegistryLogin};
use dbaas_core::infrastructure::{InfraErrorKind, Infrastructure, NodeSpec};
use dbaas_core::secret::Secret;
use fixture::Fixture;
use node::{init, node, spec, until};

const USER: &str = "puller";
const PASSWORD: &str = "correct-horse-of-the-registry";
/// Of [`PASSWORD`].
const HTPASSWD: &str = "puller:$2y$05$BnREZ15dLf5uKzxSl6GeGeDWCeNlyE/B3cXjEULm66G83XrDYlFaW\n";

/// A registry on loopback, which engines trust without TLS. Ends with the test.
struct Registry {
    process: Child,
    directory: PathBuf,
    address: String,
}

impl Registry {
    /// `None`, loudly, where Debian's `docker-registry` is not installed and nothing demands it.
    fn start() -> Option<Registry> {
        let directory = std::env::temp_dir().join(format!("dbaas-registry-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&directory).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let (data, htpasswd) = (directory.join("data"), directory.join("htpasswd"));
        std::fs::write(&htpasswd, HTPASSWD).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{address}\"}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            data.display(),
            htpasswd.display()
        );
        let file = directory.join("config.yml");
        std::fs::write(&file, config).unwrap();
        let started = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(process) => Some(Registry {
                process,
                directory,
                address,
            }),
            Err(error) => {
                std::fs::remove_dir_all(&directory).unwrap();
                let required = std::env::var("DBAAS_REQUIRE_DOCKER").is_ok_and(|v| v == "1");
                assert!(!required, "docker-registry: {error}");
                eprintln!("SKIPPED: docker-registry is not installed ({error})");
                None
            }
        }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Logins as `docker login` writes them, in a directory as the program wants it.
    fn login(&self, fixture: &Fixture) -> PathBuf {
        let config = self.directory.join("docker");
        let begin = Instant::now();
        loop {
            let arguments = [
                "--config",
                config.to_str().unwrap(),
                "login",
                "-u",
                USER,
                "-p",
                PASSWORD,
            ];
            match fixture.docker(&[&arguments[..], &[&self.address]].concat()) {
                Ok(_) => return config,
                Err(error) => assert!(begin.elapsed() < Duration::from_secs(30), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Has the registry keep an image of the engine's under this name, and the engine forget that name.
    fn push(&self, fixture: &Fixture, from: &str, name: &str) -> String {
        let config = self.login(fixture);
        let image = self.image(name);
        fixture.docker(&["tag", from, &image]).unwrap();
        let config = ["--config", config.to_str().unwrap()];
        fixture
            .docker(&[&config[..], &["push", "-q", &image]].concat())
            .unwrap();
        fixture.docker(&["rmi", &image]).unwrap();
        image
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Applies until it is made, or is told to be impossible; all that was said.
async fn pulled(backend: &DockerBackend, spec: &NodeSpec) -> Result<Vec<String>, String> {
    let begin = Instant::now();
    let mut told: Vec<String> = Vec::new();
    loop {
        match backend.apply(spec).await {
            Ok(()) => return Ok(told),
            Err(error) => {
                assert_eq!(error.kind(), InfraErrorKind::ImageUnavailable, "{error}");
                let message = error.to_string();
                assert!(
                    !message.contains(PASSWORD) && !message.contains("wrong-horse"),
                    "{message}"
                );
                if message.contains("cannot be pulled") || message.contains("holds PostgreSQL") {
                    return Err(message);
                }
                if told.last() != Some(&message) {
                    told.push(message);
                }
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "{told:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn private_images() {
    let Some(fixture) = Fixture::new(15) else { return };
    let Some(registry) = Registry::start() else { return };
    let image = registry.push(&fixture, "postgres:15", "postgres:15");
    // A tag that promises another version.
    let lies = registry.push(&fixture, "postgres:15", "postgres:14");
    let login = |password: &str| RegistryLogin {
        registry: registry.address.clone(),
        user: USER.to_owned(),
        password: Secret::new(password),
    };
    let with = |logins: Vec<RegistryLogin>| DockerOptions {
        pull: true,
        registry_logins: logins,
        ..fixture.options.clone()
    };
    let mut wanted = spec(&fixture, node());
    wanted.image = image.parse().unwrap();

    let nobody = DockerBackend::connect(with(vec![])).unwrap();
    let error = pulled(&nobody, &wanted).await.unwrap_err();
    assert!(error.contains("there is no login for 127.0.0.1"), "{error}");
    let elsewhere = RegistryLogin {
        registry: "registry.example".into(),
        ..login(PASSWORD)
    };
    let stranger = DockerBackend::connect(with(vec![elsewhere])).unwrap();
    let error = pulled(&stranger, &wanted).await.unwrap_err();
    assert!(error.contains("there is no login for"), "{error}");
    let wrong = DockerBackend::connect(with(vec![login("wrong-horse")])).unwrap();
    let error = pulled(&wrong, &wanted).await.unwrap_err();
    assert!(error.contains("was refused"), "{error}");

    let right = DockerBackend::connect(with(vec![login(PASSWORD)])).unwrap();
    let told = pulled(&right, &wanted).await.unwrap();
    assert!(told.iter().any(|t| t.contains("is being pulled")), "{told:?}");
    right.start(wanted.node, &init()).await.unwrap();
    until(
        &right,
        wanted.node,
        dbaas_core::infrastructure::PowerState::Running,
    )
    .await;
    let name = Fixture::name(wanted.node);
    let shown = fixture.docker(&["inspect", &name]).unwrap()
        + &fixture.docker(&["volume", "inspect", &name]).unwrap()
        + &format!("{right:?}");
    assert!(shown.contains("dbaas.digest") && !shown.contains(PASSWORD));

    let mut missing = spec(&fixture, node());
    missing.image = registry.image("postgres:15.99").parse().unwrap();
    let error = pulled(&right, &missing).await.unwrap_err();
    assert!(
        error.contains("not found") || error.contains("manifest unknown"),
        "{error}"
    );
    missing.image = lies.parse().unwrap();
    let error = pulled(&right, &missing).await.unwrap_err();
    assert!(error.contains("holds PostgreSQL 15, not 14"), "{error}");

    // The tag moves on; another node of the instance gets what the first one has, also on an engine that has
    // to pull it again.
    let digest = fixture
        .docker(&[
            "inspect",
            "-f",
            "{{index .Config.Labels \"dbaas.digest\"}}",
            &name,
        ])
        .unwrap();
    registry.push(&fixture, "postgres:18", "postgres:15");
    right
        .power_off(wanted.node, dbaas_core::infrastructure::PowerOff::Immediate)
        .await
        .unwrap();
    fixture.docker(&["rm", "-f", &name]).unwrap();
    let _ = fixture.docker(&["rmi", &image]);
    let _ = fixture.docker(&["rmi", &digest]);
    // Logins as `docker login` left them.
    let file = DockerOptions {
        registry_login_file: Some(registry.login(&fixture).join("config.json")),
        ..with(vec![])
    };
    let later = DockerBackend::connect(file).unwrap();
    let mut second = wanted.clone();
    second.node.node = node().node;
    second.name = "n2".into();
    pulled(&later, &second).await.unwrap();
    let has = [
        "inspect",
        "-f",
        "{{index .Config.Labels \"dbaas.digest\"}}",
        &Fixture::name(second.node),
    ];
    assert_eq!(fixture.docker(&has).unwrap(), digest);
    for image in [&image, &lies, &digest] {
        let _ = fixture.docker(&["rmi", "-f", image]);
    }
}
