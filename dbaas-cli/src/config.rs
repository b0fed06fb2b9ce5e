//! Which server, and the token for it: options and environment first, then a context of the configuration file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::arguments::Global;
use crate::client::Client;
use crate::failure::Failure;

/// Where a server listens unless told otherwise.
const URL_DEFAULT: &str = "http://127.0.0.1:8432";
/// More than any such file has.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Configuration {
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    url: String,
    token: Option<String>,
    token_file: Option<PathBuf>,
}

/// The server that the arguments, the environment and the configuration file lead to.
pub(crate) fn client(global: &Global) -> Result<Client, Failure> {
    let from_environment = std::env::var("DBAAS_TOKEN").ok().map(Zeroizing::new);
    if let Some(url) = &global.url
        && global.context.is_none()
    {
        // A context's token is for the context's server.
        return Client::new(url, from_environment);
    }
    let (path, configuration) = read()?;
    let name = global.context.as_ref().or(configuration.current.as_ref());
    let Some(name) = name else {
        return Client::new(global.url.as_deref().unwrap_or(URL_DEFAULT), from_environment);
    };
    let context = configuration.contexts.get(name).ok_or_else(|| {
        let known: Vec<&str> = configuration.contexts.keys().map(String::as_str).collect();
        let failure = Failure::usage(format!("{} has no context {name:?}", path.display()));
        match known.as_slice() {
            [] => failure,
            known => failure.with(format!("it has: {}", known.join(", "))),
        }
    })?;
    let token = match (from_environment, &context.token, &context.token_file) {
        (Some(token), ..) => Some(token),
        (None, Some(token), _) => {
            private(&path)?;
            Some(Zeroizing::new(token.clone()))
        }
        (None, None, Some(file)) => {
            private(file)?;
            Some(Zeroizing::new(text(file)?.trim().to_owned()))
        }
        (None, None, None) => None,
    };
    Client::new(global.url.as_deref().unwrap_or(&context.url), token)
}

fn read() -> Result<(PathBuf, Configuration), Failure> {
    let path = path();
    if let Err(error) = std::fs::metadata(&path)
        && error.kind() == ErrorKind::NotFound
    {
        return Ok((path, Configuration::default()));
    }
    let parsed = serde_saphyr::from_str(&text(&path)?);
    let configuration = parsed.map_err(|_| {
        // What is wrong may be beside a token: the place is enough.
        Failure::usage(format!("{} is not a configuration of dbaas", path.display()))
            .hint("dbaas --help shows one")
    })?;
    Ok((path, configuration))
}

fn path() -> PathBuf {
    let absolute = |name| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    if let Some(path) = std::env::var_os("DBAAS_CONFIG") {
        return PathBuf::from(path);
    }
    let directory = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    directory.unwrap_or_default().join("dbaas/config.yaml")
}

/// A text file of moderate size.
pub(crate) fn text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |error| Failure::failed(format!("{} cannot be read: {error}", path.display()));
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

/// Refuses a file with a secret that others can read.
fn private(path: &Path) -> Result<(), Failure> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            let shown = path.display();
            Err(
                Failure::usage(format!("{shown} holds a token and can be read by others"))
                    .hint(format!("chmod 600 {shown}")),
            )
        }
        // What cannot be looked at cannot be read either, which is told then.
        _ => Ok(()),
    }
}
