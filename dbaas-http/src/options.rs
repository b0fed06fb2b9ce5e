//! What an embedder decides about the router.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dbaas_core::limits;
use tokio::sync::watch;

use crate::access::Access;
use crate::listing::ListStyle;

/// Renders the program's metrics in Prometheus' text format.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// What an embedder decides about the router.
///
/// ```
/// use dbaas_http::{Access, HttpOptions};
///
/// let options = HttpOptions::new(Access::Embedder).with_bounds(64, 256);
/// assert_eq!(options.waiting_max, 256);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Who may call.
    pub access: Access,
    /// What `GET /metrics` answers; without it the path is not there.
    pub metrics: Option<MetricsText>,
    /// How lists are answered where the request does not say.
    pub list_style: ListStyle,
    /// Requests that are worked on at once; more are refused with 503.
    pub in_flight_max: usize,
    /// Long polls and event streams at once, which are counted apart; more are refused with 429.
    pub waiting_max: usize,
    /// Longest wait of a long poll; a client that asks for more gets the answer after this.
    pub wait_max: Duration,
    /// A request that is not a long poll or an event stream is given up after so long.
    pub request_deadline: Duration,
    /// Turns to `true` when the program is about to end: `/readyz` then answers 503, long polls answer at
    /// once, event streams end.
    pub stopping: Option<watch::Receiver<bool>>,
}

impl HttpOptions {
    /// The defaults: 512 requests and 256 waiting clients at once, 30 s for each request, no metrics.
    pub fn new(access: Access) -> Self {
        HttpOptions {
            access,
            metrics: None,
            list_style: ListStyle::Objects,
            in_flight_max: 512,
            waiting_max: 256,
            wait_max: Duration::from_millis(limits::WAIT_MS_MAX),
            request_deadline: Duration::from_secs(30),
            stopping: None,
        }
    }

    /// With metrics.
    #[must_use]
    pub fn with_metrics(mut self, render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Some(Arc::new(render));
        self
    }

    /// With lists in another shape.
    #[must_use]
    pub fn with_list_style(mut self, list_style: ListStyle) -> Self {
        self.list_style = list_style;
        self
    }

    /// With a signal that the program is about to end.
    #[must_use]
    pub fn with_stopping(mut self, stopping: watch::Receiver<bool>) -> Self {
        self.stopping = Some(stopping);
        self
    }

    /// With another bound on the time that long polls wait.
    #[must_use]
    pub fn with_wait_max(mut self, wait_max: Duration) -> Self {
        self.wait_max = wait_max;
        self
    }

    /// With other bounds on what is worked on at once.
    #[must_use]
    pub fn with_bounds(mut self, in_flight_max: usize, waiting_max: usize) -> Self {
        self.in_flight_max = in_flight_max;
        self.waiting_max = waiting_max;
        self
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("access", &self.access)
            .field("metrics", &self.metrics.is_some())
            .field("list_style", &self.list_style)
            .field("in_flight_max", &self.in_flight_max)
            .field("waiting_max", &self.waiting_max)
            .field("wait_max", &self.wait_max)
            .field("request_deadline", &self.request_deadline)
            .finish_non_exhaustive()
    }
}
