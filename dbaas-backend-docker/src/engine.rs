//! The connection to the engine, and its errors as this crate's callers see them.

use std::io;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind};
use tokio::sync::Mutex;

/// The oldest API that has all that is used here (Docker 20.10).
const API_OLDEST: (usize, usize) = (1, 41);
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// An engine that may be away at times.
pub(crate) struct Engine {
    host: String,
    timeout: Duration,
    connected: Mutex<Option<Docker>>,
}

/// What the engine said of its machine, once: it stays so.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) cpus: parking_lot::Mutex<Option<u64>>,
    /// What processors it has, such as `linux/amd64`.
    pub(crate) platform: parking_lot::Mutex<Option<String>>,
}

impl Engine {
    pub(crate) fn new(host: Option<&str>, timeout: Duration) -> Result<Self, InfraError> {
        let host = match host {
            Some(host) => host.to_owned(),
            None => std::env::var("DOCKER_HOST")
                .ok()
                .filter(|h| !h.is_empty())
                .unwrap_or_else(|| DEFAULT_HOST.to_owned()),
        };
        let known = ["unix://", "tcp://", "http://", "https://", "npipe://"];
        if !known.iter().any(|scheme| host.starts_with(scheme)) {
            let message = format!(
                "{host:?} is not the address of a Docker Engine, such as {DEFAULT_HOST} or tcp://192.0.2.1:2376"
            );
            return Err(InfraError::new(InfraErrorKind::Unsupported, message));
        }
        Ok(Engine {
            host,
            timeout,
            connected: Mutex::new(None),
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it may be on this machine: a socket is seldom another machine's.
    pub(crate) fn is_local(&self) -> bool {
        self.host.starts_with("unix://")
    }

    /// The engine, asked once which API it speaks.
    pub(crate) async fn docker(&self) -> Result<Docker, InfraError> {
        let mut connected = self.connected.lock().await;
        if let Some(docker) = &*connected {
            return Ok(docker.clone());
        }
        let docker = Docker::connect_with_host(&self.host)
            .map_err(|e| self.unreachable(&e))?
            .with_timeout(self.timeout);
        let docker = docker
            .negotiate_version()
            .await
            .map_err(|e| self.unreachable(&e))?;
        let api = docker.client_version();
        if (api.major_version, api.minor_version) < API_OLDEST {
            let message = format!(
                "the Docker Engine at {} speaks API {api} only; 1.41 (Docker 20.10) or newer is needed",
                self.host
            );
            return Err(InfraError::new(InfraErrorKind::Unavailable, message));
        }
        tracing::debug!(host = self.host, %api, "connected to the engine");
        *connected = Some(docker.clone());
        Ok(docker)
    }

    /// Asks anew at the next call: the engine may be another one after a restart.
    pub(crate) async fn forget(&self) {
        *self.connected.lock().await = None;
    }

    fn unreachable(&self, error: &Error) -> InfraError {
        let message = format!(
            "the Docker Engine at {} does not answer ({error}); does it run, and may this user use its socket?",
            self.host
        );
        InfraError::new(InfraErrorKind::Unavailable, message)
    }
}

/// The status that the engine answered with, if it answered.
pub(crate) fn status_of(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

pub(crate) fn is_missing(error: &Error) -> bool {
    status_of(error) == Some(404)
}

/// `None` where the engine says that there is no such thing.
pub(crate) fn if_there<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_missing(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// An engine's error, with what was tried.
pub(crate) fn shown(what: &str, error: &Error) -> InfraError {
    use InfraErrorKind as Kind;
    let kind = match error {
        Error::RequestTimeoutError => Kind::OutcomeUnknown,
        Error::DockerResponseServerError { status_code, message } => match status_code {
            404 if message.contains("No such image") => Kind::ImageUnavailable,
            404 => Kind::NotFound,
            409 => Kind::InvalidState,
            _ if message.contains("port is already allocated")
                || message.contains("address already in use") =>
            {
                Kind::Collision
            }
            _ if message.contains("non-overlapping IPv4 address pool") => Kind::Exhausted,
            _ if message.contains("no space left on device") => Kind::Exhausted,
            503 => Kind::Unavailable,
            _ => Kind::Other,
        },
        // The connection was refused or there is no socket: nothing was sent. Everything else may have
        // reached the engine.
        Error::HyperLegacyError { err } if err.is_connect() => Kind::Unavailable,
        Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } => Kind::OutcomeUnknown,
        Error::SocketNotFoundError(_) => Kind::Unavailable,
        Error::IOError { err } if err.kind() == io::ErrorKind::ConnectionRefused => Kind::Unavailable,
        Error::IOError { .. } => Kind::OutcomeUnknown,
        _ => Kind::Other,
    };
    let advice = match kind {
        Kind::Exhausted if error.to_string().contains("IPv4") => {
            "; add `default-address-pools` to the engine's daemon.json, or remove networks that nobody needs"
        }
        Kind::Unavailable => "; the Docker Engine cannot be reached",
        _ if error.to_string().contains("failed to mount local volume") => {
            "; a node with a disk of a fixed size needs the control plane to be run with the directory of the disks (disk_limits)"
        }
        _ => "",
    };
    let said = match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        other => other.to_string(),
    };
    InfraError::new(kind, format!("{what}: {said}{advice}"))
}

pub(crate) fn invalid(message: impl Into<String>) -> InfraError {
    InfraError::new(InfraErrorKind::InvalidState, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError {
            status_code,
            message: message.into(),
        }
    }

    #[test]
    fn what_the_engine_says() {
        let cases = [
            (answer(404, "No such container: x"), InfraErrorKind::NotFound),
            (
                answer(404, "No such image: postgres:15"),
                InfraErrorKind::ImageUnavailable,
            ),
            (
                answer(
                    500,
                    "driver failed: Bind for 127.0.0.1:1 failed: port is already allocated",
                ),
                InfraErrorKind::Collision,
            ),
            (
                answer(
                    500,
                    "could not find an available, non-overlapping IPv4 address pool",
                ),
                InfraErrorKind::Exhausted,
            ),
            (answer(500, "?"), InfraErrorKind::Other),
            (Error::RequestTimeoutError, InfraErrorKind::OutcomeUnknown),
        ];
        for (error, kind) in cases {
            assert_eq!(shown("x", &error).kind(), kind, "{error}");
        }
    }

    #[test]
    fn addresses() {
        let new = |host| Engine::new(Some(host), Duration::from_secs(1)).is_ok();
        assert!(new("unix:///x") && new("tcp://h:1"));
        assert!(!new("/var/run/docker.sock") && !new("ftp://x"));
    }

    #[tokio::test]
    async fn an_engine_that_is_away_is_unavailable() {
        let engine = Engine::new(Some("unix:///nonexistent/docker.sock"), Duration::from_secs(1)).unwrap();
        let error = engine.docker().await.unwrap_err();
        assert_eq!(error.kind(), InfraErrorKind::Unavailable, "{error}");
        assert!(error.is_retryable());
    }
}
