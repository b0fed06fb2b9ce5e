//! What all handlers share, and the layers around them: who calls, how many at once, what happened.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use dbaas_controller::ControlPlane;
use dbaas_controller::metrics::{HTTP_REQUESTS, HTTP_SECONDS};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::access::{Caller, Identity, Known, unknown_token};
use crate::options::HttpOptions;
use crate::problem::{Problem, ProblemKind};
use crate::scopes::{Scopes, is_scope, needed};

/// Paths below which no token is asked for and no bound applies.
const OPEN_PATHS: [&str; 6] = [
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/specifications",
    "/docs",
    "/problems",
];
/// Where the metrics are: with a token, without a bound.
const METRICS_PATH: &str = "/metrics";

/// What all handlers share.
pub(crate) struct App {
    pub(crate) control: ControlPlane,
    pub(crate) options: HttpOptions,
    /// What is made once.
    pub(crate) fixed: Fixed,
    in_flight: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// What is made once and sent often.
pub(crate) struct Fixed {
    /// The OpenAPI document.
    pub(crate) openapi: Bytes,
    /// The same in OpenAPI 3.0.
    pub(crate) openapi_3_0: Bytes,
    /// The page that shows it.
    pub(crate) docs: Bytes,
    /// Every path that is routed.
    pub(crate) paths: Vec<&'static str>,
}

/// The place of a long request among those that may wait; an event stream takes it along.
#[derive(Clone)]
pub(crate) struct WaitingPlace(#[allow(dead_code)] Arc<OwnedSemaphorePermit>);

impl App {
    pub(crate) fn new(control: ControlPlane, options: HttpOptions, fixed: Fixed) -> Self {
        let places = |n: usize| Arc::new(Semaphore::new(n.clamp(1, Semaphore::MAX_PERMITS)));
        let (in_flight, waiting) = (places(options.in_flight_max), places(options.waiting_max));
        App {
            control,
            options,
            fixed,
            in_flight,
            waiting,
        }
    }

    /// Whose token this is, of those that the administrator made.
    async fn kept_token(&self, text: &str) -> Result<Identity, Problem> {
        let found = self.control.token_of(text).await?.ok_or_else(unknown_token)?;
        let caller = match found.project {
            None => Caller::Admin,
            Some(project) => Caller::Project(project),
        };
        // What a newer release has written there is not known here, and allows nothing.
        let known = found.scopes.into_iter().filter(|word| is_scope(word));
        let scopes = Scopes::new(known).map_err(|_| unknown_token())?;
        let who = format!("{} with the token \"{}\"", caller.scope(), found.name);
        Ok(Identity { caller, scopes, who })
    }

    /// Whether the program is about to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.options
            .stopping
            .as_ref()
            .is_some_and(|stopping| *stopping.borrow())
    }

    /// Returns when the program is about to end.
    pub(crate) async fn stopped(&self) {
        if let Some(stopping) = &self.options.stopping
            && stopping.clone().wait_for(|stopping| *stopping).await.is_ok()
        {
            return;
        }
        // Nobody will ever say so.
        std::future::pending().await
    }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Finds out who calls, and puts that into the request.
pub(crate) async fn authenticate(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if !OPEN_PATHS.iter().any(|root| is_below(request.uri().path(), root)) {
        let extensions = request.extensions();
        let scopes = extensions.get::<Scopes>().cloned().unwrap_or_default();
        let given = extensions
            .get::<Caller>()
            .map(|caller| Identity::new(*caller, scopes));
        let known = app
            .options
            .access
            .known(request.method(), request.uri(), request.headers(), given)?;
        let identity = match known {
            Known::As(identity) => identity,
            Known::ByToken(token) => app.kept_token(token.expose()).await?,
        };
        if let Some(need) = needed(request.method(), request.uri().path()) {
            identity.scopes.require(need)?;
        }
        let extensions = request.extensions_mut();
        extensions.insert(identity.caller);
        extensions.insert(identity);
    }
    Ok(next.run(request).await)
}

/// Bounds how much is worked on at once, and for how long.
pub(crate) async fn admit(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let path = request.uri().path();
    if path == METRICS_PATH || OPEN_PATHS.iter().any(|root| is_below(path, root)) {
        return Ok(next.run(request).await);
    }
    if waits(&request) {
        let place = app.waiting.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("{} clients wait already", app.options.waiting_max);
            Problem::new(ProblemKind::TooManyWaiting, detail)
        })?;
        let place = WaitingPlace(Arc::new(place));
        request.extensions_mut().insert(place.clone());
        return Ok(next.run(request).await);
    }
    let _place = app.in_flight.try_acquire().map_err(|_| {
        let detail = format!(
            "{} requests are being worked on already",
            app.options.in_flight_max
        );
        Problem::new(ProblemKind::Overloaded, detail)
    })?;
    tokio::time::timeout(app.options.request_deadline, next.run(request))
        .await
        .map_err(|_| {
            let detail = format!(
                "the request took longer than {} s",
                app.options.request_deadline.as_secs()
            );
            Problem::new(ProblemKind::OutcomeUnknown, detail)
        })
}

/// Whether a request is a long poll or an event stream.
fn waits(request: &Request) -> bool {
    let polls = request.uri().query().is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair.split('=').next().is_some_and(|name| name == "wait"))
    });
    request.method() == Method::GET && (polls || wants_event_stream(request.headers()))
}

/// Whether the client asked for Server-Sent Events.
pub(crate) fn wants_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|accept| {
            accept.split(',').any(|range| {
                range
                    .split(';')
                    .next()
                    .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
            })
        })
}

/// Counts and logs every request: its route, never its query, headers or body.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = match request.method() {
        m if [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::HEAD,
        ]
        .contains(m) =>
        {
            m.to_string()
        }
        _ => "OTHER".to_owned(),
    };
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str)
        .to_owned();
    let mut response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    tracing::debug!(
        method,
        route,
        status,
        took_ms = took.as_millis() as u64,
        "request"
    );
    metrics::histogram!(HTTP_SECONDS, "method" => method.clone(), "route" => route.clone())
        .record(took.as_secs_f64());
    metrics::counter!(HTTP_REQUESTS, "method" => method, "route" => route, "status" => status.to_string())
        .increment(1);
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The answer to a panic in a handler. What it said is for the program's panic hook; it is not repeated here.
pub(crate) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    let id = Uuid::now_v7();
    tracing::error!(%id, "a request handler panicked");
    Problem::internal_with_id(id).into_response()
}
