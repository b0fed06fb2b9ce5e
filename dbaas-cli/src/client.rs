//! The REST interface, called: one connection for each request, JSON both ways.

use std::time::Duration;

use http::{HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// A server that can be reached answers a connection within this time.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time until an answer, beyond what a request asks to wait.
const ANSWER: Duration = Duration::from_secs(40);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where everything is.
pub(crate) const ROOT: &str = "/v1/types/postgres";

/// A server, and how to be known to it.
pub(crate) struct Client {
    url: Uri,
    host: String,
    port: u16,
    token: Option<Zeroizing<String>>,
}

/// What a request carries.
struct Body {
    media_type: &'static str,
    bytes: Bytes,
}

impl Body {
    fn json(value: &Value) -> Self {
        Body {
            media_type: "application/json",
            bytes: Bytes::from(value.to_string()),
        }
    }
}

/// An answer that is no error.
pub(crate) struct Answer {
    pub(crate) json: Value,
    /// How a wait ended: `reached`, `timeout`, `stopping`.
    pub(crate) wait: Option<String>,
    /// Its version.
    pub(crate) tag: Option<String>,
}

/// What of a response is looked at.
struct Received {
    status: u16,
    wait: Option<String>,
    tag: Option<String>,
    bytes: Bytes,
}

impl Client {
    pub(crate) fn new(url: &str, token: Option<Zeroizing<String>>) -> Result<Self, Failure> {
        let wrong = |reason: &str| {
            Failure::usage(format!("{url:?} is not the URL of a server: {reason}"))
                .hint("it looks like http://127.0.0.1:8432")
        };
        let parsed: Uri = url
            .trim_end_matches('/')
            .parse()
            .map_err(|_| wrong("it is no URL"))?;
        match parsed.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("encrypted connections are not supported yet")),
            _ => return Err(wrong("it does not begin with http://")),
        }
        let authority = parsed.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it holds a user; tokens go into DBAAS_TOKEN"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(80);
        Ok(Client {
            url: parsed,
            host,
            port,
            token,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.call(Method::GET, path, None, Duration::ZERO).await?.json)
    }

    /// A GET that waits at the server.
    pub(crate) async fn get_waiting(&self, path: &str, wait: Duration) -> Result<Answer, Failure> {
        self.call(Method::GET, path, None, wait).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let answer = self
            .call(Method::POST, path, Some(Body::json(body)), Duration::ZERO)
            .await;
        Ok(answer?.json)
    }

    /// A text that is no JSON.
    pub(crate) async fn post_text(
        &self,
        path: &str,
        media_type: &'static str,
        text: &str,
    ) -> Result<Value, Failure> {
        let body = Body {
            media_type,
            bytes: Bytes::copy_from_slice(text.as_bytes()),
        };
        Ok(self
            .call(Method::POST, path, Some(body), Duration::ZERO)
            .await?
            .json)
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.patch_if(path, body, None).await
    }

    /// A resource with its version.
    pub(crate) async fn get_tagged(&self, path: &str) -> Result<Answer, Failure> {
        self.call(Method::GET, path, None, Duration::ZERO).await
    }

    /// A change that is made only if the resource still has this version.
    pub(crate) async fn patch_if(
        &self,
        path: &str,
        body: &Value,
        tag: Option<&str>,
    ) -> Result<Value, Failure> {
        let mut request = self.request(&Method::PATCH, path, Some(Body::json(body)))?;
        if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
            request.headers_mut().insert(header::IF_MATCH, tag);
        }
        Ok(self.answered(request, Duration::ZERO).await?.json)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), Failure> {
        self.call(Method::DELETE, path, None, Duration::ZERO)
            .await
            .map(drop)
    }

    /// All items of a collection, page by page.
    pub(crate) async fn list(&self, path: &str, name: &str) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut cursor = String::new();
        loop {
            let mut page = self.get(&format!("{path}{separator}limit=1000{cursor}")).await?;
            match page[name].take() {
                Value::Array(found) => items.extend(found),
                _ => return Err(self.strange("a list without items")),
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(items),
            }
        }
    }

    fn strange(&self, what: &str) -> Failure {
        Failure::failed(format!("{} answered {what}", self.url)).hint("is it a dbaas server?")
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Body>,
        wait: Duration,
    ) -> Result<Answer, Failure> {
        let request = self.request(&method, path, body)?;
        self.answered(request, wait).await
    }

    async fn answered(&self, request: Request<Full<Bytes>>, wait: Duration) -> Result<Answer, Failure> {
        let received = tokio::time::timeout(ANSWER + wait, self.exchange(request))
            .await
            .map_err(|_| Failure::timed_out(format!("{} does not answer", self.url)))??;
        let Received {
            status,
            wait,
            tag,
            bytes,
        } = received;
        if status == 204 {
            return Ok(Answer {
                json: Value::Null,
                wait,
                tag,
            });
        }
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|_| self.strange("something that is no JSON"))?;
        if !(200..300).contains(&status) {
            return Err(Failure::of_problem(status, &json));
        }
        Ok(Answer { json, wait, tag })
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: Option<Body>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let internal = |_| Failure::failed("the request cannot be written");
        let prefix = self.url.path().trim_end_matches('/');
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(header::HOST, self.url.authority().map_or("", |a| a.as_str()))
            .header(
                header::ACCEPT,
                "application/json;profile=object, application/json",
            )
            .header(
                header::USER_AGENT,
                concat!("dbaas-cli/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(token) = &self.token {
            let text = Zeroizing::new(format!("Bearer {}", token.as_str()));
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| Failure::usage("the token has characters that no token has"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if method == Method::POST {
            // Whatever happens on the way, it is done once.
            request = request.header("idempotency-key", Uuid::new_v4().to_string());
        }
        let bytes = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, body.media_type);
                body.bytes
            }
        };
        request.body(Full::new(bytes)).map_err(internal)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Received, Failure> {
        let unreachable = |reason: String| {
            Failure::failed(format!("{} cannot be reached: {reason}", self.url)).hint(
                "is the server running (dbaas server), and is DBAAS_URL, --url or the context the right one?",
            )
        };
        let connected =
            tokio::time::timeout(CONNECT, TcpStream::connect((self.host.as_str(), self.port))).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(error.to_string())),
            Err(_) => return Err(unreachable(format!("no answer within {} s", CONNECT.as_secs()))),
        };
        let _ = stream.set_nodelay(true);
        let broken = |error: hyper::Error| {
            Failure::failed(format!("the connection to {} broke: {error}", self.url))
                .hint("look before you try again: the request may have been carried out")
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let text = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (wait, tag) = (text("dbaas-wait"), text("etag"));
        let bytes = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| Failure::failed(format!("the answer of {} broke off: {error}", self.url)))?
            .to_bytes();
        connection.abort();
        Ok(Received {
            status,
            wait,
            tag,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let client = Client::new("http://[::1]:8432/", None).unwrap();
        assert_eq!((client.host.as_str(), client.port), ("::1", 8432));
        let client = Client::new("http://db.example/below", None).unwrap();
        let request = client.request(&Method::GET, "/v1", None).unwrap();
        assert_eq!(request.uri(), "/below/v1");
        assert_eq!(client.port, 80);
        for bad in [
            "",
            "localhost:8432",
            "https://db.example",
            "ftp://x",
            "http://token@host",
            "http://",
        ] {
            assert!(Client::new(bad, None).is_err(), "{bad}");
        }
    }
}
