//! `…/instances/{instance}/events`: the log of what happened, as pages or as Server-Sent Events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use dbaas_controller::error::ControlError;
use dbaas_core::id::InstanceId;
use dbaas_core::limits;
use dbaas_core::store::StoredEvent;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::{App, WaitingPlace, wants_event_stream};
use crate::listing::{Listing, Wanted};
use crate::path::InstancePath;
use crate::problem::Problem;
use crate::query::{Collection, Query, sequence};
use crate::v1;

/// Where an event stream goes on after its connection broke.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often a stream looks by itself, without a hint that something changed.
const POLL: Duration = Duration::from_secs(5);
/// A stream ends after so long; clients connect again by themselves and go on where they were.
const STREAM_MAX: Duration = Duration::from_secs(60 * 60);
/// Events that a stream reads at once.
const BATCH: usize = 100;
/// Errors of the store in a row after which a stream ends.
const ERRORS_MAX: u32 = 3;

/// After which event a log is to go on: the latest, where several say so.
pub(super) fn after(query: &mut Query) -> Option<u64> {
    let cursor = query.one("cursor", |text| Collection::Events.read_log_cursor(text));
    let marker = query.one("page_marker", sequence);
    let after = query.one("after", sequence);
    cursor.max(marker).max(after)
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    InstancePath(id): InstancePath,
    place: Option<Extension<WaitingPlace>>,
    headers: HeaderMap,
    wanted: Wanted,
    mut query: Query,
) -> Result<Response, Problem> {
    let limit = query.limit();
    let after = after(&mut query);
    query.finish()?;
    let last = match headers.get(LAST_EVENT_ID) {
        None => None,
        Some(value) => {
            let last = value
                .to_str()
                .map_err(|_| "must be the id of an event")
                .and_then(sequence);
            Some(last.map_err(|detail| Problem::header(&LAST_EVENT_ID, detail))?)
        }
    };
    // The layer that bounds the streams has given this one its place.
    if let Some(Extension(place)) = place
        && wants_event_stream(&headers)
    {
        return stream(app, Log::Instance(id), last.or(after).unwrap_or(0), place).await;
    }
    // One more than is asked for tells whether there is more, except at the greatest page: there a full one
    // may be followed by an empty one.
    let mut events = app
        .control
        .events(id, after.unwrap_or(0), limit.saturating_add(1))
        .await?;
    let is_full = events.len() > limit || (events.len() == limit && limit == *limits::PAGE_ITEMS.end());
    events.truncate(limit);
    let next = events.last().filter(|_| is_full).map(|last| {
        let cursor = Collection::Events.log_cursor(last.sequence);
        (cursor, last.sequence.to_string())
    });
    let events: Vec<v1::events::Event<'_>> = events.iter().map(v1::events::Event::of).collect();
    Ok(Listing::new("events", Collection::Events, limit, wanted).page(&events, next))
}

/// Whose events are followed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Log {
    /// An instance's.
    Instance(InstanceId),
    /// An element's.
    Element(Uuid),
}

impl Log {
    fn subject(self) -> Uuid {
        match self {
            Log::Instance(id) => id.uuid(),
            Log::Element(id) => id,
        }
    }

    /// What is new; not found when it is gone, and everything about it was read.
    async fn read(self, app: &App, after: u64) -> Result<Vec<StoredEvent>, ControlError> {
        match self {
            Log::Instance(id) => app.control.events(id, after, BATCH).await,
            Log::Element(id) => {
                let events = app.control.events_about(id, after, BATCH).await?;
                if events.is_empty() {
                    app.control.element(id).await?;
                }
                Ok(events)
            }
        }
    }
}

/// A stream under way.
struct Follower {
    app: Arc<App>,
    log: Log,
    /// The last event that was sent.
    last: u64,
    ready: VecDeque<StoredEvent>,
    hints: Option<Receiver<InstanceId>>,
    until: Instant,
    errors: u32,
    /// Held until the stream ends.
    _place: WaitingPlace,
}

pub(super) async fn stream(
    app: Arc<App>,
    log: Log,
    last: u64,
    place: WaitingPlace,
) -> Result<Response, Problem> {
    // Listens before the first look, so that nothing falls between the two; the look also tells whether the
    // instance exists.
    let hints = Some(app.control.changes());
    let ready = log.read(&app, last).await?.into();
    let until = Instant::now() + STREAM_MAX;
    let follower = Follower {
        app,
        log,
        last,
        ready,
        hints,
        until,
        errors: 0,
        _place: place,
    };
    Ok(Sse::new(follow(follower))
        .keep_alive(KeepAlive::default())
        .into_response())
}

fn follow(follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    unfold(follower, |mut follower| async move {
        loop {
            if let Some(event) = follower.ready.pop_front() {
                follower.last = event.sequence;
                return Some((Ok(sent(&event)), follower));
            }
            if follower.app.is_stopping() || Instant::now() >= follower.until {
                return None;
            }
            match follower.log.read(&follower.app, follower.last).await {
                Ok(events) => {
                    follower.errors = 0;
                    follower.ready = events.into();
                }
                // It is gone.
                Err(ControlError::NotFound { .. }) => return None,
                Err(error) => {
                    follower.errors += 1;
                    if follower.errors >= ERRORS_MAX {
                        tracing::warn!(%error, "an event stream ends: the log cannot be read");
                        return None;
                    }
                }
            }
            if follower.ready.is_empty() {
                follower.wait().await;
            }
        }
    })
}

impl Follower {
    /// Returns when there may be something new, and never later than the next poll.
    async fn wait(&mut self) {
        let look_at = self.until.min(Instant::now() + POLL);
        while let Some(hints) = &mut self.hints {
            tokio::select! {
                () = self.app.stopped() => return,
                () = tokio::time::sleep_until(look_at) => return,
                hint = hints.recv() => match hint {
                    Ok(changed) if changed.uuid() != self.log.subject() => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return,
                    Err(RecvError::Closed) => self.hints = None,
                },
            }
        }
        tokio::select! {
            () = self.app.stopped() => {}
            () = tokio::time::sleep_until(look_at) => {}
        }
    }
}

fn sent(event: &StoredEvent) -> Event {
    let json = serde_json::to_string(&v1::events::Event::of(event)).unwrap_or_default();
    let sent = Event::default().id(event.sequence.to_string()).data(json);
    // A field of the stream is one line.
    let is_word = event.event.kind.bytes().all(|b| b.is_ascii_graphic());
    if is_word {
        sent.event(&event.event.kind)
    } else {
        sent
    }
}
