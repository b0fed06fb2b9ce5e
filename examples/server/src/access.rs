//! Who may call: the token file, and that nobody listens to the world without one.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use dbaas_http::{Access, TokenStore};

/// More than any token file has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Decides who may call; refuses to serve other machines without tokens.
pub(crate) fn access(listen: SocketAddr, token_file: Option<&Path>) -> anyhow::Result<Access> {
    match token_file {
        Some(path) => Ok(Access::Tokens(tokens(path)?)),
        None if listen.ip().is_loopback() => Ok(Access::Anyone),
        None => bail!(
            "{listen} can be reached by other machines, so tokens are needed:\n  \
             (umask 077; echo \"admin:$(openssl rand -hex 32)\" > tokens)\n\
             and then: --token-file tokens"
        ),
    }
}

fn tokens(path: &Path) -> anyhow::Result<TokenStore> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("the token file {shown} cannot be read"))?;
    // Of the open file, so that nobody can put another one in its place between the look and the reading.
    let metadata = file
        .metadata()
        .with_context(|| format!("the token file {shown} cannot be read"))?;
    ensure!(
        metadata.mode() & 0o077 == 0,
        "the token file {shown} can be read by others than its owner; first: chmod 600 {shown}"
    );
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("the token file {shown} is not text"))?;
    let store = TokenStore::parse(&text).with_context(|| format!("the token file {shown}"))?;
    ensure!(
        !store.is_empty(),
        "the token file {shown} has no token in it; a line is admin:<token>"
    );
    Ok(store)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn other_machines_need_a_token() {
        assert!(matches!(
            access("127.0.0.1:1".parse().unwrap(), None),
            Ok(Access::Anyone)
        ));
        assert!(matches!(
            access("[::1]:1".parse().unwrap(), None),
            Ok(Access::Anyone)
        ));
        for open in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            let refused = access(open.parse().unwrap(), None).unwrap_err().to_string();
            assert!(refused.contains("--token-file"), "{refused}");
        }
    }

    #[test]
    fn a_token_file_is_private_and_has_tokens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        let written = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            access("0.0.0.0:1".parse().unwrap(), Some(&path)).map_err(|error| format!("{error:#}"))
        };
        assert!(matches!(
            written("admin:0123456789abcdef\n", 0o600),
            Ok(Access::Tokens(_))
        ));
        assert!(
            written("admin:0123456789abcdef\n", 0o644)
                .unwrap_err()
                .contains("chmod 600")
        );
        assert!(written("# none\n", 0o600).unwrap_err().contains("no token"));
        let short = written("\nadmin:short\n", 0o600).unwrap_err();
        assert!(short.contains("line 2") && !short.contains("short"), "{short}");
        assert!(access("0.0.0.0:1".parse().unwrap(), Some(&directory.path().join("none"))).is_err());
    }
}
