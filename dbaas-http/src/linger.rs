//! Answers that are given before the request's body was read (413, 401, 404, 415, 503, …).
//!
//! A server that closes a connection with unread data on it resets the connection, and a client that still
//! sends loses the answer: Python's urllib reports a broken pipe in place of a 413. So what is left of the
//! body is read and discarded while the answer goes out, within bounds; a client that has sent everything
//! then finds the answer, and may use the connection again. Beyond the bounds the body is dropped, and hyper
//! closes the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use parking_lot::Mutex;

/// Bytes that are read and discarded at most: a hundred times the largest body that is accepted.
pub(crate) const DISCARDED_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Time that reading and discarding takes at most.
const DISCARDED_TIME_MAX: Duration = Duration::from_secs(30);

/// A body that was lent to the handlers: what they did not read comes back when they drop it.
struct Lent {
    body: Option<Body>,
    returned: Arc<Mutex<Option<Body>>>,
    /// The client waits for `100 Continue`, which hyper sends when the body is read first.
    is_awaited: bool,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        self.is_awaited = false;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            // At its end, or broken: there is nothing left to read.
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| http_body::SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A client that waits for permission sends nothing; reading would be the permission.
        if let Some(body) = self.body.take()
            && !self.is_awaited
            && !body.is_end_stream()
        {
            *self.returned.lock() = Some(body);
        }
    }
}

/// Lets the handlers answer whenever they like, and reads what they left of the body.
pub(crate) async fn linger(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let returned = Arc::new(Mutex::new(None));
    let lent = Lent {
        is_awaited: parts.headers.contains_key(header::EXPECT),
        body: Some(body),
        returned: returned.clone(),
    };
    let response = next.run(Request::from_parts(parts, Body::new(lent))).await;
    let left = returned.lock().take();
    if let Some(left) = left {
        // Beside the answer, which must not wait for it. Ends by itself when the connection does.
        tokio::spawn(tokio::time::timeout(DISCARDED_TIME_MAX, discard(left)));
    }
    response
}

async fn discard(mut body: Body) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > DISCARDED_BYTES_MAX {
            return;
        }
    }
}
