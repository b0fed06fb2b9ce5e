//! Logins at image registries.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::auth::DockerCredentials;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind};
use dbaas_core::secret::Secret;
use dbaas_core::version::ImageRef;
use serde::Deserialize;

/// Where images without a registry in their name come from.
const DOCKER_HUB: &str = "docker.io";
/// More than any such file has.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A login at an image registry. It is shown to that registry only.
#[derive(Debug, Clone)]
pub struct RegistryLogin {
    /// The registry as images name it: `registry.example:5000`; `docker.io` for images that name none.
    pub registry: String,
    /// The user.
    pub user: String,
    /// The password or token.
    pub password: Secret,
}

/// What is sent along with a pull.
enum Login {
    Password { user: String, password: Secret },
    IdentityToken(Secret),
}

/// A file as `docker login` writes it: `config.json`.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default, rename = "credsStore")]
    store: String,
    #[serde(default, rename = "credHelpers")]
    helpers: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Auth {
    /// `user:password`, in Base64.
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> InfraError {
    let message = format!("the logins in {} cannot be used: {why}", path.display());
    InfraError::new(InfraErrorKind::Unsupported, message)
}

/// The registry that a key of the file, or a configured login, means.
fn normalised(registry: &str) -> &str {
    let host = registry
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    match host.split('/').next().unwrap_or(host) {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB,
        host => host,
    }
}

fn registry_of(image: &ImageRef) -> &str {
    image.registry().map_or(DOCKER_HUB, normalised)
}

fn read(path: &Path) -> Result<DockerConfig, InfraError> {
    let mut text = zeroize::Zeroizing::new(String::new());
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|e| unusable(path, e))?;
    // The error of the parser may show a part of what it read.
    serde_json::from_str(&text).map_err(|e| {
        let place = format!(
            "line {}, column {} is not what `docker login` writes",
            e.line(),
            e.column()
        );
        unusable(path, place)
    })
}

/// Checks a file of logins.
pub(crate) fn check(path: &Path) -> Result<(), InfraError> {
    let config = read(path)?;
    if config.auths.is_empty() && (!config.store.is_empty() || !config.helpers.is_empty()) {
        return Err(unusable(
            path,
            "they are kept by a credential helper, which is not asked; `docker --config DIRECTORY login` without one makes a file that can be used",
        ));
    }
    Ok(())
}

/// The login for an image's registry, if there is one. The file is read anew each time: logins expire.
pub(crate) fn credentials(
    logins: &[RegistryLogin],
    file: Option<&Path>,
    image: &ImageRef,
) -> Result<Option<DockerCredentials>, InfraError> {
    let registry = registry_of(image);
    let own = logins
        .iter()
        .find(|login| normalised(&login.registry) == registry);
    let login = match (own, file) {
        (Some(login), _) => Some(Login::Password {
            user: login.user.clone(),
            password: login.password.clone(),
        }),
        (None, Some(path)) => from_file(path, registry)?,
        (None, None) => None,
    };
    let to = Some(match registry {
        // What the engine knows it by.
        DOCKER_HUB => "https://index.docker.io/v1/".to_owned(),
        other => other.to_owned(),
    });
    Ok(login.map(|login| match login {
        Login::Password { user, password } => DockerCredentials {
            username: Some(user),
            password: Some(password.expose().to_owned()),
            serveraddress: to,
            ..DockerCredentials::default()
        },
        Login::IdentityToken(token) => DockerCredentials {
            identitytoken: Some(token.expose().to_owned()),
            serveraddress: to,
            ..DockerCredentials::default()
        },
    }))
}

fn from_file(path: &Path, registry: &str) -> Result<Option<Login>, InfraError> {
    let config = read(path)?;
    let found = config.auths.iter().find(|(key, _)| normalised(key) == registry);
    let Some((_, auth)) = found else { return Ok(None) };
    if !auth.identity_token.is_empty() {
        return Ok(Some(Login::IdentityToken(Secret::new(
            auth.identity_token.clone(),
        ))));
    }
    let decoded = STANDARD.decode(&auth.auth).ok().map(zeroize::Zeroizing::new);
    let text = decoded.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    match text.and_then(|text| text.trim_end_matches('\0').split_once(':')) {
        Some((user, password)) => Ok(Some(Login::Password {
            user: user.to_owned(),
            password: Secret::new(password),
        })),
        None => Err(unusable(
            path,
            format!("the one for {registry} is empty or damaged; `docker login {registry}` makes it anew"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("dbaas-logins-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_login_is_for_its_registry() {
        let own = RegistryLogin {
            registry: "registry.example:5000".into(),
            user: "me".into(),
            password: Secret::new("hunter22"),
        };
        let of = |image: &str| {
            let image = image.parse().unwrap();
            credentials(std::slice::from_ref(&own), None, &image).unwrap()
        };
        assert_eq!(
            of("registry.example:5000/postgres:15").unwrap().username.unwrap(),
            "me"
        );
        assert!(of("registry.example/postgres:15").is_none());
        assert!(of("postgres:15").is_none(), "shown to another registry");
        assert!(!format!("{own:?}").contains("hunter22"));
    }

    #[test]
    fn what_docker_login_writes() {
        // bWU6aHVudGVyMjI= is me:hunter22.
        let path = file(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"bWU6aHVudGVyMjI="},"r.example":{"identitytoken":"t0ken","auth":""},
                "bad.example":{"auth":"%"}},"HttpHeaders":{}}"#,
        );
        check(&path).unwrap();
        let of = |image: &str| credentials(&[], Some(&path), &image.parse().unwrap());
        let hub = of("postgres:15").unwrap().unwrap();
        assert_eq!(
            (hub.username.as_deref(), hub.password.as_deref()),
            (Some("me"), Some("hunter22"))
        );
        assert_eq!(
            of("r.example/postgres:15")
                .unwrap()
                .unwrap()
                .identitytoken
                .as_deref(),
            Some("t0ken")
        );
        assert!(of("bad.example/postgres:15").is_err());
        assert!(of("other.example/postgres:15").unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(check(&path).is_err());
    }

    #[test]
    fn files_that_are_of_no_use_show_nothing_of_themselves() {
        for text in [r#"{"credsStore":"pass"}"#, r#"{"auths":{"x":{"auth":hunter22}}}"#] {
            let path = file(text);
            let error = check(&path).unwrap_err();
            std::fs::remove_file(&path).unwrap();
            assert!(!error.to_string().contains("hunter22"), "{error}");
        }
    }
}
