//! How long a page takes, one call after the other, while the instances are looked at.

use std::time::{Duration, Instant};

use dbaas_controller::ControlPlane;
use dbaas_controller::error::ControlError;
use dbaas_controller::request::{InstanceFilter, Page};
use dbaas_core::id::{InstanceId, ProjectId};
use dbaas_core::lifecycle::Lifecycle;
use dbaas_core::name::InstanceName;

use super::figures::Latency;

/// Calls of each kind.
const CALLS: usize = 300;
/// Between two calls.
const PAUSE: Duration = Duration::from_millis(3);

pub(super) async fn measure(control: &ControlPlane, ids: &[InstanceId]) -> anyhow::Result<Vec<Latency>> {
    let page = |index: usize| Page {
        after: ids.get(index % ids.len().max(1)).copied(),
        limit: 100,
    };
    let all = InstanceFilter::default;
    let named = |index: usize| {
        let name = InstanceName::new(format!("idle-{}", index % ids.len().max(1)))?;
        anyhow::Ok(InstanceFilter {
            projects: vec![ProjectId::DEFAULT],
            names: vec![name],
            ..all()
        })
    };
    let in_error = || InstanceFilter {
        lifecycles: vec![Lifecycle::Error],
        ..all()
    };
    let active = || InstanceFilter {
        lifecycles: vec![Lifecycle::Active],
        ..all()
    };
    let from_the_start = Page {
        after: None,
        limit: 100,
    };
    let mut pages = Vec::new();
    let list = timed("a page of 100", |index| {
        control.instances(all(), page(index * 37))
    });
    pages.push(list.await?);
    let mut by_name = Latency::new("by name");
    for index in 0..CALLS {
        let filter = named(index * 37)?;
        let began = Instant::now();
        control.instances(filter, from_the_start).await?;
        by_name.took(began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    pages.push(by_name);
    let filtered = timed("100 that are ACTIVE", |index| {
        control.instances(active(), page(index * 37))
    });
    pages.push(filtered.await?);
    let nothing = timed("those in ERROR (none)", |_| {
        control.instances(in_error(), from_the_start)
    });
    pages.push(nothing.await?);
    let events = timed("events of one", |index| {
        control.events(ids[index * 37 % ids.len()], 0, 100)
    });
    pages.push(events.await?);
    Ok(pages)
}

async fn timed<T, F>(what: &'static str, call: impl Fn(usize) -> F) -> Result<Latency, ControlError>
where
    F: Future<Output = Result<T, ControlError>>,
{
    let mut latency = Latency::new(what);
    for index in 0..CALLS {
        let began = Instant::now();
        call(index).await?;
        latency.took(began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(latency)
}
