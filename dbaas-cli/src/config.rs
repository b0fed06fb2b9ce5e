//! Which server, and the token for it: options and environment first, then a context of the configuration
//! file.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::arguments::Global;
use crate::client::Client;
use crate::failure::Failure;

/// Where a server listens unless told otherwise.
const URL_DEFAULT: &str = "http://127.0.0.1:8432";
/// More than any such file has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the configuration file says.
#[derive(Deserialize, Serialize, Default, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Configuration {
    /// The context that is used unless another one is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// A server, and the token for it.
#[derive(Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
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

/// The configuration file and what it says; nothing, where there is none.
pub(crate) fn read() -> Result<(PathBuf, Configuration), Failure> {
    let path = path();
    if let Err(error) = std::fs::metadata(&path)
        && error.kind() == ErrorKind::NotFound
    {
        return Ok((path, Configuration::default()));
    }
    let configuration = parse(&text(&path)?).ok_or_else(|| {
        // What is wrong may be beside a token: the place is enough.
        Failure::usage(format!("{} is not a configuration of dbaas", path.display()))
            .hint("dbaas --help shows one")
    })?;
    Ok((path, configuration))
}

fn parse(text: &str) -> Option<Configuration> {
    serde_saphyr::from_str(text).ok()
}

/// Changes the configuration file: whole or not at all, and readable by its owner only. Comments in it do not
/// stay.
pub(crate) fn edit(change: impl FnOnce(&mut Configuration) -> Result<(), Failure>) -> Result<(), Failure> {
    let (path, mut configuration) = read()?;
    if configuration
        .contexts
        .values()
        .any(|context| context.token.is_some())
    {
        private(&path)?;
    }
    change(&mut configuration)?;
    // Where the file is a link, what it leads to is written.
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    let failed =
        |error: std::io::Error| Failure::failed(format!("{} cannot be written: {error}", path.display()));
    let text = serde_saphyr::to_string(&configuration).map(Zeroizing::new);
    // What would be read differently is not written.
    let text = text
        .ok()
        .filter(|text| parse(text).is_some_and(|read| read == configuration))
        .ok_or_else(|| Failure::failed("the configuration cannot be written as YAML"))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(directory) = directory {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(failed)?;
    }
    let mut draft = path.clone().into_os_string();
    draft.push(format!(".new-{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    })();
    written.map_err(|error| {
        // It may not be there.
        let _ = std::fs::remove_file(&draft);
        failed(error)
    })
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
