//! Reading a request's body: bounded in size and in time, and only what is declared as JSON.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use dbaas_core::limits;
use http_body_util::BodyExt;
use zeroize::Zeroizing;

use crate::decode::Object;
use crate::problem::{Problem, ProblemKind};

/// A body must have arrived within this time.
const BODY_DEADLINE: Duration = Duration::from_secs(20);

/// The bytes of a body that is declared as JSON. Wiped when dropped: a password may be in it.
pub(crate) struct JsonBody(Zeroizing<Vec<u8>>);

impl JsonBody {
    /// The JSON object that it is.
    pub(crate) fn object(&self) -> Result<Object<'_>, Problem> {
        Object::parse(&self.0)
    }

    /// The bytes as they came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        check_content_type(&parts.headers)?;
        read(body).await.map(JsonBody)
    }
}

/// A body that may be left out: of actions. What is there must be JSON.
pub(crate) struct OptionalJsonBody(Option<JsonBody>);

impl OptionalJsonBody {
    /// The JSON object; without a body one without fields.
    pub(crate) fn object(&self) -> Result<Object<'_>, Problem> {
        self.0
            .as_ref()
            .map_or_else(|| Ok(Object::empty()), JsonBody::object)
    }

    /// The bytes as they came; none without a body.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], JsonBody::bytes)
    }
}

impl<S: Sync> FromRequest<S> for OptionalJsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        if bytes.is_empty() {
            return Ok(OptionalJsonBody(None));
        }
        check_content_type(&parts.headers)?;
        Ok(OptionalJsonBody(Some(JsonBody(bytes))))
    }
}

/// A manifest: YAML, or JSON, which is YAML, too.
pub(crate) struct DocumentBody(Zeroizing<Vec<u8>>);

impl DocumentBody {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(&self.0).map_err(|error| {
            let detail = format!("not UTF-8: the byte at offset {} is not", error.valid_up_to());
            Problem::new(ProblemKind::MalformedBody, detail)
        })
    }
}

impl<S: Sync> FromRequest<S> for DocumentBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let given = parts.headers.get(header::CONTENT_TYPE);
        let essence = given.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = essence
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let is_yaml = [
            "application/yaml",
            "application/x-yaml",
            "text/yaml",
            "text/x-yaml",
        ];
        if !is_yaml.contains(&essence.as_str()) && check_content_type(&parts.headers).is_err() {
            let detail =
                "Content-Type must be application/yaml or application/json, without Content-Encoding";
            return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
        }
        read(body).await.map(DocumentBody)
    }
}

/// `application/json`, or another type that says that it is JSON; UTF-8, not compressed.
fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return refuse("compressed bodies are not read; send it without Content-Encoding");
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return refuse("there is no Content-Type; it must be application/json");
    };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_json =
        essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if !is_json {
        return refuse("Content-Type must be application/json");
    }
    for parameter in parts {
        if let Some((name, charset)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("charset")
            && !charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        {
            return refuse("JSON is UTF-8; no other charset is read");
        }
    }
    Ok(())
}

async fn read(body: Body) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let too_large = || {
        let detail = format!("a body may have at most {} bytes", limits::BODY_BYTES_MAX);
        Problem::new(ProblemKind::BodyTooLarge, detail)
    };
    // A declared length is refused before anything is read.
    let announced = body.size_hint().lower();
    if announced > limits::BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let collect = async move {
        let mut body = body;
        let mut bytes = Zeroizing::new(Vec::with_capacity(announced as usize));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| {
                Problem::new(
                    ProblemKind::MalformedBody,
                    "the connection ended in the middle of the body",
                )
            })?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > limits::BODY_BYTES_MAX {
                    return Err(too_large());
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(bytes)
    };
    tokio::time::timeout(BODY_DEADLINE, collect)
        .await
        .unwrap_or_else(|_| {
            let detail = format!("the body did not arrive within {} s", BODY_DEADLINE.as_secs());
            Err(Problem::new(ProblemKind::BodyTimeout, detail))
        })
}
