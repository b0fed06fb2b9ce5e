//! A control plane over a store in memory and an infrastructure whose nodes never start: all that the
//! interface needs.

#![allow(dead_code)] // Each test uses a part of it.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dbaas_controller::ControlPlane;
use dbaas_controller::settings::ControllerSettings;
use dbaas_core::boot::BootRecipe;
use dbaas_core::config::HbaRules;
use dbaas_core::id::InstanceId;
use dbaas_core::infrastructure::{
    AvailableVersion, Capabilities, DataDisposal, Endpoint, InfraError, InfraErrorKind, InfraEvents,
    Infrastructure, NodeRef, NodeSpec, ObservedNodes, PowerOff,
};
use dbaas_core::secret::{SecretSealer, UnsealError};
use dbaas_core::sql_executor::{Rows, Script, SqlError, SqlErrorKind, SqlExecutor, SqlTarget};
use dbaas_http::{Access, HttpOptions, router};
use dbaas_testkit::memory_store::MemoryStore;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;
use zeroize::Zeroizing;

/// Two versions and no node that ever runs.
pub(crate) struct NothingRuns;

#[async_trait]
impl Infrastructure for NothingRuns {
    fn name(&self) -> &str {
        "nothing"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    fn hba_rules(&self) -> HbaRules {
        HbaRules::loopback()
    }

    async fn versions(&self) -> Result<Vec<AvailableVersion>, InfraError> {
        let version = |text: &str| AvailableVersion {
            version: text.parse().expect("a version"),
            image: format!("postgres:{text}").parse().expect("an image"),
            source: "nowhere".to_owned(),
        };
        Ok(vec![version("15.18"), version("18.4")])
    }

    async fn observe(&self, _: InstanceId) -> Result<ObservedNodes, InfraError> {
        Ok(ObservedNodes::default())
    }

    async fn list(&self) -> Result<Vec<NodeRef>, InfraError> {
        Ok(Vec::new())
    }

    async fn apply(&self, _: &NodeSpec) -> Result<(), InfraError> {
        Err(InfraError::new(
            InfraErrorKind::Unavailable,
            "no node ever runs here",
        ))
    }

    async fn start(&self, _: NodeRef, _: &BootRecipe) -> Result<(), InfraError> {
        Err(InfraError::new(
            InfraErrorKind::Unavailable,
            "no node ever runs here",
        ))
    }

    async fn power_off(&self, _: NodeRef, _: PowerOff) -> Result<(), InfraError> {
        Ok(())
    }

    async fn remove(&self, _: NodeRef, _: DataDisposal) -> Result<(), InfraError> {
        Ok(())
    }

    async fn logs(&self, _: NodeRef, _: usize) -> Result<String, InfraError> {
        Ok(String::new())
    }

    fn events(&self) -> InfraEvents {
        Box::pin(futures_util::stream::pending())
    }
}

struct NobodyAnswers;

#[async_trait]
impl SqlExecutor for NobodyAnswers {
    async fn run(&self, _: &SqlTarget, _: &Script) -> Result<Vec<Rows>, SqlError> {
        Err(SqlError::new(SqlErrorKind::Refused, "nobody answers here"))
    }

    fn forget(&self, _: &Endpoint) {}
}

/// Hides nothing: what it seals never leaves the test.
struct PlainSealer;

impl SecretSealer for PlainSealer {
    fn seal(&self, _: &[u8], plaintext: &[u8]) -> String {
        STANDARD.encode(plaintext)
    }

    fn open(&self, _: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        STANDARD
            .decode(sealed)
            .map(Zeroizing::new)
            .map_err(|_| UnsealError)
    }
}

/// A control plane under test, and the store below it.
pub(crate) struct World {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) control: ControlPlane,
    pub(crate) router: Router,
}

pub(crate) async fn control_plane(store: Arc<MemoryStore>) -> ControlPlane {
    ControlPlane::builder()
        .infrastructure(Arc::new(NothingRuns))
        .sql(Arc::new(NobodyAnswers))
        .store(store)
        .sealer(Arc::new(PlainSealer))
        .settings(ControllerSettings::default())
        .start()
        .await
        .expect("the control plane starts")
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    /// The kind of a problem, after a look at everything that every problem has.
    #[track_caller]
    pub(crate) fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16(), "{json}");
        assert!(json["title"].is_string() && json["detail"].is_string(), "{json}");
        let kind = json["type"]
            .as_str()
            .expect("a type")
            .strip_prefix("/problems/")
            .expect("a path");
        kind.to_owned()
    }

    /// The places that a problem names, each with its rule.
    pub(crate) fn errors(&self) -> Vec<(String, String)> {
        let json = self.json();
        let errors = json["errors"].as_array().cloned().unwrap_or_default();
        let place = |error: &Value| {
            let found = ["pointer", "parameter", "header"]
                .iter()
                .find_map(|key| error[key].as_str());
            found.expect("a place").to_owned()
        };
        errors
            .iter()
            .map(|e| (place(e), e["detail"].as_str().expect("a rule").to_owned()))
            .collect()
    }

    /// Whether a problem names this place.
    pub(crate) fn names(&self, place: &str) -> bool {
        self.errors().iter().any(|(named, _)| named == place)
    }
}

pub(crate) const INSTANCES: &str = "/v1/types/postgres/instances";
pub(crate) const VERSIONS: &str = "/v1/types/postgres/versions";

impl World {
    pub(crate) async fn new() -> Self {
        World::with(HttpOptions::new(Access::Anyone)).await
    }

    pub(crate) async fn with(options: HttpOptions) -> Self {
        let store = Arc::new(MemoryStore::new());
        let control = control_plane(store.clone()).await;
        let router = router(control.clone(), options);
        World {
            store,
            control,
            router,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("a router never fails");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
        }
    }

    /// A request with headers and a body as they are.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).expect("a request")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], Body::empty()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], Body::empty()).await
    }

    /// A JSON body as text.
    pub(crate) async fn text(&self, method: Method, path: &str, json: &str) -> Answer {
        self.call(
            method,
            path,
            &[("content-type", "application/json")],
            json.to_owned(),
        )
        .await
    }

    pub(crate) async fn post(&self, path: &str, json: &Value) -> Answer {
        self.text(Method::POST, path, &json.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, json: &Value) -> Answer {
        self.text(Method::PUT, path, &json.to_string()).await
    }

    /// URI of the first version of the catalogue.
    pub(crate) async fn version(&self) -> String {
        let versions = self.get(VERSIONS).await.json();
        format!(
            "{VERSIONS}/{}",
            versions["versions"][0]["uuid"].as_str().expect("a version")
        )
    }

    pub(crate) async fn instance_body(&self, name: &str) -> Value {
        serde_json::json!({ "name": name, "cpu": 1, "ram": 512, "disk_size": 8, "version": self.version().await })
    }

    /// Path of a new instance.
    pub(crate) async fn instance(&self, name: &str) -> String {
        let body = self.instance_body(name).await;
        let made = self.post(INSTANCES, &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        made.header("location").to_owned()
    }

    /// Path of a new user.
    pub(crate) async fn user(&self, instance: &str, name: &str) -> String {
        let body = serde_json::json!({ "name": name, "password": "correct horse" });
        let made = self.post(&format!("{instance}/users"), &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        made.header("location").to_owned()
    }

    /// Path of a new database.
    pub(crate) async fn database(&self, instance: &str, name: &str, owner: &str) -> String {
        let body = serde_json::json!({ "name": name, "owner": owner });
        let made = self.post(&format!("{instance}/databases"), &body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
        made.header("location").to_owned()
    }
}
