//! What the server says when it has started.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use dbaas_controller::ControlPlane;
use dbaas_controller::request::Page;
use dbaas_core::id::VersionId;
use dbaas_http::Access;

/// Where it listens, what it has, and how to begin.
pub(crate) async fn greeting(
    control: &ControlPlane,
    address: SocketAddr,
    directory: &Path,
    access: &Access,
) -> String {
    let versions = match control
        .versions(Page {
            after: None,
            limit: 1000,
        })
        .await
    {
        Ok(listed) => listed
            .items
            .into_iter()
            .filter(|version| !version.deprecated)
            .map(|version| (version.id, version.name.to_string()))
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "the catalogue cannot be read");
            Vec::new()
        }
    };
    text(
        &versions,
        control.backend_name(),
        address,
        directory,
        matches!(access, Access::Tokens(_)),
    )
}

fn text(
    versions: &[(VersionId, String)],
    backend: &str,
    address: SocketAddr,
    directory: &Path,
    needs_token: bool,
) -> String {
    let base = format!("http://{}", reachable(address));
    let names: Vec<&str> = versions.iter().map(|(_, name)| name.as_str()).collect();
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "dbaas-server {}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "  listening on  {base}");
    let _ = writeln!(text, "  all calls     {base}/docs");
    let _ = writeln!(text, "  data in       {}", directory.display());
    let _ = writeln!(text, "  backend       {backend}");
    let _ = writeln!(
        text,
        "  versions      {}",
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    );
    let token = if needs_token {
        " -H \"authorization: Bearer $TOKEN\""
    } else {
        ""
    };
    let _ = writeln!(text, "\nTo begin with:");
    match versions.last() {
        Some((id, _)) => {
            let body = format!(
                "{{\"name\":\"first\",\"cpu\":1,\"ram\":1024,\"disk_size\":10,\"nodes_number\":3,\"version\":\"{id}\"}}"
            );
            let _ = writeln!(
                text,
                "  curl -s{token} {base}/v1/postgres/instances -H 'content-type: application/json' \\\n    -d '{body}'"
            );
        }
        None => {
            let _ = writeln!(text, "  curl -s{token} {base}/v1/postgres/versions");
        }
    }
    text
}

/// An address that this machine can call: not the one that means all of them.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_to_begin() {
        let id: VersionId = "0197f3c2-6d3b-7c9e-9f5a-0242ac120002".parse().unwrap();
        let text = text(
            &[(id, "PostgreSQL 15.18".to_owned())],
            "local",
            "0.0.0.0:8432".parse().unwrap(),
            Path::new("/d"),
            true,
        );
        assert!(text.contains("http://127.0.0.1:8432/docs"), "{text}");
        assert!(
            text.contains("PostgreSQL 15.18") && text.contains("Bearer $TOKEN"),
            "{text}"
        );
        assert!(text.contains(&id.to_string()), "{text}");
    }
}
