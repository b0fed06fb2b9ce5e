//! What the benchmarks of backends have in common whose nodes are no processes of this machine: the tables,
//! and what is measured of ours. What is measured by hand beside it is each one's own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use dbaas_workload::client::{Access, Client, ClientOptions, Target};

use super::BenchOptions;
use super::by_hand::patient;
use super::failover::{Fault, ours};
use super::figures::{Goal, Row, Samples, Table};
use super::provision::delete;
use crate::{Cluster, Stack};

const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Freeze, Fault::Switchover];

/// A place where nodes run, and what is asked of it.
pub(super) struct Place {
    /// What tables call it.
    pub(super) name: &'static str,
    /// How long anything may take.
    pub(super) within: Duration,
    /// What was removed a moment ago must not be paid for by what is measured next.
    pub(super) calm: Duration,
    /// How one node is made by hand, in words.
    pub(super) floor: &'static str,
    /// One node takes at most so many times as long as by hand.
    pub(super) times: f64,
    /// What each fault is here, and how long writes may pause for it.
    pub(super) faults: fn(Fault) -> (&'static str, Duration),
}

/// From the request to usable.
#[derive(Default)]
pub(super) struct Usable {
    pub(super) floor: Samples,
    pub(super) one: Samples,
    pub(super) three: Samples,
}

impl Usable {
    pub(super) fn table(&self, place: &Place, notes: Vec<String>) -> Table {
        Table {
            title: format!(
                "{}: from the request to a user who has logged in to a database",
                place.name
            ),
            rows: vec![
                Row::new(place.floor, &self.floor),
                Row::new("one node (beside its floor)", &self.one)
                    .beside(&self.floor)
                    .goal(Goal::Times(place.times)),
                Row::new("three nodes, k = 1 (beside one node)", &self.three)
                    .beside(&self.one)
                    .goal(Goal::Times(2.0)),
            ],
            notes,
        }
    }
}

/// Asks for an instance and logs in; then deletes it. Until the login.
pub(super) async fn usable(
    stack: &Stack,
    place: &Place,
    name: &str,
    (nodes, k): (u64, u64),
    options: &BenchOptions,
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let cluster = Cluster::request(stack, name, nodes, k, options.major).await?;
    cluster.wait_ready(stack).await?;
    let mut client = Client::new(cluster.target(stack).await?, patient(Access::ReadWrite));
    client.connect(Instant::now() + place.within).await?;
    let usable = started.elapsed();
    tracing::info!(name, ?usable, events = ?cluster.events(stack).await?, "instance usable");
    client.disconnect();
    delete(stack, &cluster).await?;
    tokio::time::sleep(place.calm).await;
    Ok(usable)
}

/// The write pauses of clients of several kinds.
pub(super) struct Pauses {
    clients: Vec<(&'static str, ClientOptions)>,
    /// By the client's number.
    samples: BTreeMap<(Fault, usize), Samples>,
    steps: BTreeMap<Fault, BTreeMap<String, Samples>>,
    acknowledged: u64,
}

impl Pauses {
    /// For clients, each with what it does in words.
    pub(super) fn of(clients: Vec<(&'static str, ClientOptions)>) -> Self {
        Pauses {
            clients,
            samples: BTreeMap::new(),
            steps: BTreeMap::new(),
            acknowledged: 0,
        }
    }

    /// Every fault under every client, once.
    pub(super) async fn round(
        &mut self,
        stack: &Stack,
        cluster: &Cluster,
        target: &Target,
        round: usize,
        progress: &mut dyn FnMut(String),
    ) -> anyhow::Result<()> {
        for (number, (name, client)) in self.clients.iter().enumerate() {
            for fault in FAULTS {
                let sample = ours(stack, cluster, target, fault, client).await?;
                progress(format!(
                    "round {}: {fault:?}, {name}: {:?} {:?}",
                    round + 1,
                    sample.pause,
                    sample.steps
                ));
                self.samples
                    .entry((fault, number))
                    .or_default()
                    .push(sample.pause);
                let steps = self.steps.entry(fault).or_default();
                for (kind, after) in sample.steps {
                    steps.entry(kind).or_default().push(after);
                }
                self.acknowledged += sample.acknowledged;
            }
        }
        Ok(())
    }

    /// The pauses, beside what somebody takes by hand, if anybody did; and when what happened.
    pub(super) fn tables(&self, place: &Place, floor: Option<(&str, &Samples)>) -> Vec<Table> {
        let mut rows: Vec<Row> = floor
            .iter()
            .map(|(what, samples)| Row::new(*what, samples))
            .collect();
        for ((fault, client), samples) in &self.samples {
            let (what, goal) = (place.faults)(*fault);
            let name = self.clients.get(*client).map_or("", |(name, _)| name);
            let row = Row::new(format!("{what}, client {name}"), samples).goal(Goal::Median(goal));
            rows.push(match floor {
                Some((_, floor)) => row.beside(floor),
                None => row,
            });
        }
        let mut tables = vec![Table {
            title: format!(
                "{}: write pause of a client that reconnects; three nodes, k = 1",
                place.name
            ),
            rows,
            notes: vec![format!(
                "Every one of {} acknowledged rows was read back from the new primary.",
                self.acknowledged
            )],
        }];
        for (fault, steps) in &self.steps {
            let mut rows: Vec<(Duration, Row)> = steps
                .iter()
                .map(|(kind, samples)| (samples.median(), Row::new(kind.clone(), samples)))
                .collect();
            rows.sort_by_key(|(median, _)| *median);
            tables.push(Table {
                title: format!("{}: time from the fault, all clients", (place.faults)(*fault).0),
                rows: rows.into_iter().map(|(_, row)| row).collect(),
                notes: Vec::new(),
            });
        }
        tables
    }
}
