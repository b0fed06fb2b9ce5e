//! Connections: bounded in number, each with a deadline for its request's head, and an orderly end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

/// Connections at once; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 2048;
/// A request's head must have arrived within this time; a connection that is kept open without a request ends
/// after it.
const HEAD_DEADLINE: Duration = Duration::from_secs(60);
/// Longest head of a request, in bytes (what one read brings may go beyond).
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// After accepting failed (out of file descriptors), the next try comes after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `end`, then lets those in hand finish for at most `drain`. Returns whether all did.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    end: impl Future<Output = ()>,
    drain: Duration,
) -> bool {
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut end = std::pin::pin!(end);
    loop {
        let accepted = tokio::select! {
            () = &mut end => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => spawn(stream, place, router.clone(), &connections),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tokio::time::timeout(drain, connections.shutdown()).await.is_ok()
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    // Never closed.
    let place = places
        .clone()
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

fn spawn(stream: TcpStream, place: OwnedSemaphorePermit, router: Router, connections: &GracefulShutdown) {
    // Answers are small and awaited.
    let _ = stream.set_nodelay(true);
    let service = router.map_request(|request: Request<Incoming>| request.map(Body::new));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = connection.await {
            // A client that went away, or did not speak HTTP.
            tracing::debug!(%error, "a connection ended");
        }
    });
}
