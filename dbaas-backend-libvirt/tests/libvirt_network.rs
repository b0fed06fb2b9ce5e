//! A network without addresses of its own, whose nodes clients reach by a host that forwards to them.

mod fixture;

use std::process::Command;
use std::time::{Duration, Instant};

use dbaas_backend_libvirt::LibvirtBackend;
use dbaas_core::infrastructure::{DataDisposal, Endpoint, Infrastructure, PowerOff, PowerState};
use fixture::Fixture;
use fixture::node::{PATIENCE, init, spec, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const NETWORK: &str = "dbaas-plain";
const BRIDGE: &str = "br-plain";

/// A bridge of this host, and a network that is nothing but it. Gone when dropped.
struct Plain(Fixture);

impl Plain {
    fn make(fixture: Fixture) -> Plain {
        let plain = Plain(fixture);
        plain.end();
        for command in [
            format!("link add {BRIDGE} type bridge"),
            format!("address add 10.77.0.1/24 dev {BRIDGE}"),
            format!("link set {BRIDGE} up"),
        ] {
            let status = Command::new("ip").args(command.split(' ')).status().unwrap();
            assert!(status.success(), "ip {command}: {status}");
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let xml = format!(
            "<network><name>{NETWORK}</name><forward mode='bridge'/><bridge name='{BRIDGE}'/></network>"
        );
        std::io::Write::write_all(&mut file, xml.as_bytes()).unwrap();
        plain
            .0
            .virsh(&["net-define", &file.path().to_string_lossy()])
            .unwrap();
        plain.0.virsh(&["net-start", NETWORK]).unwrap();
        plain
    }

    fn end(&self) {
        for verb in ["net-destroy", "net-undefine"] {
            let _ = self.0.virsh(&[verb, NETWORK]);
        }
        let _ = Command::new("ip").args(["link", "del", BRIDGE]).output();
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.end();
    }
}

/// Forwards every connection of a port, as a firewall or a balancer of somebody's would.
async fn forward(from: Endpoint, to: Endpoint) {
    let listener = TcpListener::bind((from.host.as_str(), from.port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect((to.host.as_str(), to.port)).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
}

/// Asks whether PostgreSQL would speak TLS; it says yes or no.
async fn answers(at: &Endpoint) -> Option<u8> {
    let mut stream = TcpStream::connect((at.host.as_str(), at.port)).await.ok()?;
    stream
        .write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])
        .await
        .ok()?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.ok()?;
    Some(answer[0])
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "boots a machine more; ci/libvirt/run rest runs it"]
async fn without_addresses_of_its_own_and_behind_a_forwarder() {
    let Some(fixture) = Fixture::new() else { return };
    let mut options = fixture.options.clone();
    let plain = Plain::make(fixture);
    options.network = NETWORK.into();
    let bare = LibvirtBackend::connect(options.clone()).unwrap();
    let refused = bare.apply(&spec()).await.unwrap_err().to_string();
    assert!(refused.contains("no IPv4 addresses of its own"), "{refused}");
    options.addresses = Some("10.77.0.20-10.77.0.29/24".parse().unwrap());
    options.gateway = Some("10.77.0.1".parse().unwrap());
    options.advertise_host = Some("127.0.0.1".into());
    let backend = LibvirtBackend::connect(options).unwrap();
    let spec = spec();
    backend.apply(&spec).await.unwrap();
    backend.start(spec.node, &init(1)).await.unwrap();
    let seen = until(&backend, spec.node, "runs", |p| *p == PowerState::Running).await;
    let (told, own) = (seen.endpoint.unwrap(), seen.peer_endpoint.unwrap());
    assert_eq!(own.to_string(), "10.77.0.20:5432");
    assert_eq!(told.to_string(), "127.0.0.1:15452");
    forward(told.clone(), own).await;
    let deadline = Instant::now() + PATIENCE;
    while !matches!(answers(&told).await, Some(b'N' | b'S')) {
        assert!(Instant::now() < deadline, "PostgreSQL answers by the forwarder");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    backend.power_off(spec.node, PowerOff::Immediate).await.unwrap();
    backend.remove(spec.node, DataDisposal::Delete).await.unwrap();
    assert_eq!(plain.0.left(), Vec::<String>::new());
}
