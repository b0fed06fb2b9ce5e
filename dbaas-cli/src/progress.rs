//! Waiting for what was asked for, step by step: the events of the instance, as they happen, go to standard
//! error.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::arguments::Waiting;
use crate::client::{Client, ROOT};
use crate::failure::{Failure, Kind};
use crate::resolve::Found;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(150);
/// Events of one look.
const EVENTS: usize = 100;

/// Tells the steps of an instance.
pub(crate) struct Steps<'a> {
    client: &'a Client,
    /// Path of the instance.
    path: String,
    /// The last event that was told.
    last: u64,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl<'a> Steps<'a> {
    /// From the beginning of the instance's log.
    pub(crate) fn from_the_beginning(client: &'a Client, path: &str) -> Self {
        // A spinner is for a terminal; the steps are told in any case.
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Steps {
            client,
            path: path.to_owned(),
            last: 0,
            began: Instant::now(),
            bar,
        }
    }

    /// From now on, if somebody waits.
    pub(crate) async fn from_now(
        client: &'a Client,
        path: &str,
        waiting: Waiting,
    ) -> Result<Option<Self>, Failure> {
        if !waiting.wait {
            return Ok(None);
        }
        let mut steps = Steps::from_the_beginning(client, path);
        loop {
            let events = steps.next().await?;
            steps.last = events.last().map_or(steps.last, sequence);
            if events.len() < EVENTS {
                return Ok(Some(steps));
            }
        }
    }

    async fn next(&self) -> Result<Vec<Value>, Failure> {
        let path = format!("{}/events?after={}&limit={EVENTS}", self.path, self.last);
        let mut page = self.client.get(&path).await?;
        match page["events"].take() {
            Value::Array(events) => Ok(events),
            _ => Ok(Vec::new()),
        }
    }

    /// Tells what is new.
    async fn tell(&mut self) -> Result<(), Failure> {
        for event in self.next().await? {
            self.last = sequence(&event);
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            let line = format!(
                "{:>7.2} s  {}: {}",
                self.began.elapsed().as_secs_f64(),
                text("kind"),
                text("message")
            );
            match &self.bar {
                Some(bar) => bar.println(line),
                None => {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
        }
        Ok(())
    }

    fn show(&self, reason: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(reason.to_owned());
        }
    }

    /// Waits until the instance is as it was asked for.
    pub(crate) async fn until_done(mut self, timeout: Duration) -> Result<Value, Failure> {
        loop {
            // First the state, then the steps: what is told includes what led to it.
            let instance = self.client.get(&self.path).await?;
            self.tell().await?;
            let is_observed = instance["observed_generation"] == instance["generation"];
            if instance["status"] == "ACTIVE" && is_observed {
                return Ok(instance);
            }
            let reason = instance["reason"].as_str().unwrap_or_default();
            self.show(reason);
            if self.began.elapsed() > timeout {
                let status = instance["status"].as_str().unwrap_or_default();
                return Err(late(timeout, &format!("the instance is {status}: {reason}")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until nothing is done about an element any more.
    pub(crate) async fn until_settled(mut self, timeout: Duration) -> Result<Value, Failure> {
        loop {
            let element = self.client.get(&self.path).await?;
            self.tell().await?;
            let reason = element["reason"].as_str().unwrap_or_default();
            match element["status"].as_str() {
                Some("ACTIVE") => return Ok(element),
                Some("ERROR") => return Err(Failure::failed(reason)),
                _ => self.show(reason),
            }
            if self.began.elapsed() > timeout {
                return Err(late(timeout, &format!("the element is not done: {reason}")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the instance is gone.
    pub(crate) async fn until_gone(mut self, timeout: Duration) -> Result<(), Failure> {
        loop {
            let told = match self.client.get(&self.path).await {
                // An element that failed is not gone on with by itself, as an instance is.
                Ok(found) if found["status"] == "ERROR" && found.get("manifest").is_some() => {
                    self.tell().await?;
                    return Err(Failure::failed(found["reason"].as_str().unwrap_or_default()));
                }
                Ok(found) => {
                    self.show(found["reason"].as_str().unwrap_or_default());
                    self.tell().await
                }
                Err(failure) => Err(failure),
            };
            match told {
                Ok(()) => {}
                Err(failure) if failure.kind == Kind::NotFound => return Ok(()),
                Err(failure) => return Err(failure),
            }
            if self.began.elapsed() > timeout {
                return Err(late(timeout, "it is still being deleted"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn sequence(event: &Value) -> u64 {
    event["sequence"].as_u64().unwrap_or_default()
}

fn late(timeout: Duration, state: &str) -> Failure {
    Failure::timed_out(format!("after {} s {state}", timeout.as_secs_f64()))
        .hint("the work goes on; --timeout waits longer")
}

/// Waits, if told so, until a user or a database is there as it was asked for.
pub(crate) async fn object_done(
    client: &Client,
    path: &str,
    item: Value,
    waiting: Waiting,
) -> Result<Value, Failure> {
    if !waiting.wait {
        return Ok(item);
    }
    let timeout = waiting.timeout.min(Duration::from_secs(600));
    let query = format!("{path}?wait=ACTIVE&timeout={}ms", timeout.as_millis());
    let answer = client.get_waiting(&query, timeout).await?;
    match answer.wait.as_deref() {
        Some("reached") => Ok(answer.json),
        Some("stopping") => Err(Failure::failed("the server ended meanwhile")),
        _ => {
            let text = |field: &str| answer.json[field].as_str().unwrap_or_default().to_owned();
            Err(late(
                timeout,
                &format!("it is {}: {}", text("status"), text("reason")),
            ))
        }
    }
}

/// Waits, if told so, until a user or a database is gone.
pub(crate) async fn object_gone(client: &Client, path: &str, waiting: Waiting) -> Result<(), Failure> {
    if !waiting.wait {
        return Ok(());
    }
    let began = Instant::now();
    loop {
        match client.get(path).await {
            Err(failure) if failure.kind == Kind::NotFound => return Ok(()),
            Err(failure) => return Err(failure),
            Ok(item) if began.elapsed() > waiting.timeout => {
                let reason = item["reason"].as_str().unwrap_or_default();
                return Err(late(
                    waiting.timeout,
                    &format!("it is still being dropped: {reason}"),
                ));
            }
            Ok(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Follows the log of an instance until it is gone or the program is ended.
pub(crate) async fn follow(
    client: &Client,
    instance: &Found,
    mut each: impl FnMut(&Value) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut last = 0;
    loop {
        let path = format!(
            "{ROOT}/instances/{}/events?after={last}&limit=1000",
            instance.uuid()
        );
        let page = match client.get(&path).await {
            Ok(page) => page,
            Err(failure) if failure.kind == Kind::NotFound => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let events = page["events"].as_array().cloned().unwrap_or_default();
        for event in &events {
            each(event)?;
            last = sequence(event);
        }
        if events.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
}
