//! [`TwoWritersProbe`]: writes to every node directly, all the time, and looks whether two nodes acknowledged
//! against the order of epochs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dbaas_core::infrastructure::Endpoint;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::{Access, Client, ClientOptions, Failure, Target};

const SETUP_WITHIN: Duration = Duration::from_secs(30);
const READ_WITHIN: Duration = Duration::from_secs(60);

/// What a [`TwoWritersProbe`] is to do.
#[derive(Debug, Clone)]
pub struct ProbeOptions {
    /// Tasks per node; more than one, so that a write that hangs does not hide what the node does meanwhile.
    pub writers_per_node: u32,
    /// Between two writes of a task.
    pub pause_between: Duration,
    /// For one write; then its outcome is unknown.
    pub statement_timeout: Duration,
    /// For one attempt at connecting.
    pub connect_timeout: Duration,
    /// Bound of what is kept in memory; a task that got there stops.
    pub max_writes_per_writer: usize,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        ProbeOptions {
            writers_per_node: 2,
            pause_between: Duration::from_millis(10),
            statement_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            max_writes_per_writer: 500_000,
        }
    }
}

/// A write that a node acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAck {
    /// Which node, by its place among the endpoints.
    pub node: usize,
    /// Which task.
    pub writer: u32,
    /// Which write of that task.
    pub seq: u64,
    /// When it was sent.
    pub sent: Instant,
    /// When the acknowledgement was here.
    pub acknowledged: Instant,
    /// `dbaas.epoch` of the node when it wrote; 0 where it has none.
    pub epoch: u64,
    /// The timeline that it wrote on.
    pub timeline: u32,
}

/// A running probe. Dropping it stops it and loses the record.
#[derive(Debug)]
pub struct TwoWritersProbe {
    run: Uuid,
    endpoints: Vec<Endpoint>,
    login: Target,
    stop: watch::Sender<bool>,
    counts: Vec<Arc<Counts>>,
    writers: JoinSet<WriterRecord>,
}

/// What came of the writes to one node up to now.
#[derive(Debug, Default)]
struct Counts {
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct WriterRecord {
    acks: Vec<ProbeAck>,
    errors: BTreeMap<String, u64>,
}

impl TwoWritersProbe {
    /// Makes the table on whichever node is the primary and starts the tasks. Each connects to one node only,
    /// whatever that is, with `synchronous_commit = on`. The hosts of `login` are not used.
    pub async fn start(
        endpoints: &[Endpoint],
        login: &Target,
        options: &ProbeOptions,
    ) -> Result<Self, Failure> {
        let setup = ClientOptions {
            statement_timeout: READ_WITHIN,
            ..ClientOptions::default()
        };
        let create = "CREATE TABLE IF NOT EXISTS dbaas_probe (run uuid NOT NULL, node int NOT NULL, writer int NOT NULL, \
                      seq bigint NOT NULL, PRIMARY KEY (run, node, writer, seq))";
        Client::new(login.at(endpoints.to_vec()), setup)
            .send_until_done(create, Instant::now() + SETUP_WITHIN)
            .await?;

        let run = Uuid::new_v4();
        let (stop, stopped) = watch::channel(false);
        let mut writers = JoinSet::new();
        let counts: Vec<Arc<Counts>> = endpoints.iter().map(|_| Arc::default()).collect();
        for (node, endpoint) in endpoints.iter().enumerate() {
            for writer in 0..options.writers_per_node {
                let client_options = ClientOptions {
                    access: Access::Any,
                    connect_timeout: options.connect_timeout,
                    statement_timeout: options.statement_timeout,
                    retry_pause: options.pause_between.max(Duration::from_millis(5)),
                    settings: vec![("synchronous_commit", "on")],
                    ..ClientOptions::default()
                };
                let client = Client::new(login.at(vec![endpoint.clone()]), client_options);
                let job = Writer {
                    run,
                    node,
                    writer,
                    client,
                    options: options.clone(),
                    counts: Arc::clone(&counts[node]),
                };
                writers.spawn(job.write_until(stopped.clone()));
            }
        }
        Ok(TwoWritersProbe {
            run,
            endpoints: endpoints.to_vec(),
            login: login.clone(),
            stop,
            counts,
            writers,
        })
    }

    /// How many writes this node acknowledged up to now.
    pub fn acknowledged(&self, node: usize) -> u64 {
        (self.counts.get(node)).map_or(0, |counts| counts.acknowledged.load(Ordering::Relaxed))
    }

    /// How many writes to this node failed up to now.
    pub fn failed(&self, node: usize) -> u64 {
        (self.counts.get(node)).map_or(0, |counts| counts.failed.load(Ordering::Relaxed))
    }

    /// Stops the tasks and hands the record over.
    pub async fn stop(mut self) -> ProbeReport {
        self.stop.send_replace(true);
        let mut acks = Vec::new();
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(joined) = self.writers.join_next().await {
            match joined {
                Ok(record) => {
                    acks.extend(record.acks);
                    for (label, count) in record.errors {
                        *errors.entry(label).or_default() += count;
                    }
                }
                Err(_) => *errors.entry("writer_panicked".to_owned()).or_default() += 1,
            }
        }
        ProbeReport::new(self.run, self.endpoints, self.login, acks, errors)
    }
}

struct Writer {
    run: Uuid,
    node: usize,
    writer: u32,
    client: Client,
    options: ProbeOptions,
    counts: Arc<Counts>,
}

impl Writer {
    async fn write_until(mut self, mut stopped: watch::Receiver<bool>) -> WriterRecord {
        let mut record = WriterRecord::default();
        let mut seq = 0;
        while !*stopped.borrow() && record.acks.len() < self.options.max_writes_per_writer {
            let connected = tokio::select! {
                connected = self.client.connect(Instant::now() + Duration::from_secs(5)) => connected,
                _ = stopped.changed() => break,
            };
            let written = match connected {
                Ok(()) => self.write(seq).await,
                Err(failure) => Err(failure),
            };
            seq += 1;
            match written {
                Ok(ack) => {
                    record.acks.push(ack);
                    self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Err(failure) => {
                    *record.errors.entry(failure.label()).or_default() += 1;
                    self.counts.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            sleep(self.options.pause_between).await;
        }
        record
    }

    async fn write(&mut self, seq: u64) -> Result<ProbeAck, Failure> {
        let (run, node, writer) = (self.run, self.node, self.writer);
        let sql = format!(
            "INSERT INTO dbaas_probe VALUES ('{run}', {node}, {writer}, {seq}) RETURNING \
             coalesce(nullif(current_setting('dbaas.epoch', true), ''), '0'), \
             left(pg_walfile_name(pg_current_wal_lsn()), 8)"
        );
        let sent = Instant::now();
        let rows = self.client.send(&sql).await?;
        let acknowledged = Instant::now();
        let parsed = match rows.as_slice() {
            [row] => match row.as_slice() {
                [Some(epoch), Some(timeline)] => {
                    epoch.parse().ok().zip(u32::from_str_radix(timeline, 16).ok())
                }
                _ => None,
            },
            _ => None,
        };
        let (epoch, timeline) =
            parsed.ok_or_else(|| Failure::Unknown("the epoch of the node is not a number".to_owned()))?;
        Ok(ProbeAck {
            node,
            writer,
            seq,
            sent,
            acknowledged,
            epoch,
            timeline,
        })
    }
}

/// Two acknowledgements against the order of epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The one of the greater epoch, which came first.
    pub newer_epoch: ProbeAck,
    /// The one of the smaller epoch, or of another node in the same epoch.
    pub other: ProbeAck,
}

/// What a [`TwoWritersProbe`] saw.
#[derive(Debug, Clone)]
pub struct ProbeReport {
    /// Names the rows of this run in table `dbaas_probe`.
    pub run: Uuid,
    /// Every acknowledged write, in the order in which the acknowledgements came.
    pub acks: Vec<ProbeAck>,
    /// Failures by SQLSTATE (25006: a standby) or `unknown`, `not_connected`.
    pub errors: BTreeMap<String, u64>,
    /// Must be empty: writes that were *sent* after a write of a greater epoch had been acknowledged, and
    /// were acknowledged themselves.
    pub violations: Vec<Conflict>,
    /// Must be empty: epochs in which more than one node acknowledged.
    pub shared_epochs: Vec<u64>,
    /// Writes that were sent before, and acknowledged after, the first acknowledgement of a greater epoch.
    /// That is allowed where the write is part of the new primary's history (its standby had confirmed it and
    /// only the answer was late, as with a primary that was frozen): [`Self::lost`] tells.
    pub late_answers: Vec<Conflict>,
    endpoints: Vec<Endpoint>,
    login: Target,
}

impl ProbeReport {
    fn new(
        run: Uuid,
        endpoints: Vec<Endpoint>,
        login: Target,
        mut acks: Vec<ProbeAck>,
        errors: BTreeMap<String, u64>,
    ) -> Self {
        acks.sort_by_key(|ack| ack.acknowledged);
        let (violations, late_answers) = conflicts(&acks);
        let shared_epochs = shared_epochs(&acks);
        ProbeReport {
            run,
            acks,
            errors,
            violations,
            shared_epochs,
            late_answers,
            endpoints,
            login,
        }
    }

    /// How many writes each node acknowledged.
    pub fn acks_by_node(&self) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        for ack in &self.acks {
            *counts.entry(ack.node).or_default() += 1;
        }
        counts
    }

    /// No two nodes acknowledged against the order of epochs. See also [`Self::lost`].
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty() && self.shared_epochs.is_empty()
    }

    /// Acknowledged writes, of whatever node, that the present primary does not have. Must be empty.
    pub async fn lost(&self) -> Result<Vec<ProbeAck>, Failure> {
        let options = ClientOptions {
            statement_timeout: READ_WITHIN,
            ..ClientOptions::default()
        };
        let mut client = Client::new(self.login.at(self.endpoints.clone()), options);
        let sql = format!(
            "SELECT node, writer, seq FROM dbaas_probe WHERE run = '{}'",
            self.run
        );
        let rows = client.send_until_done(&sql, Instant::now() + READ_WITHIN).await?;
        let found: BTreeSet<(usize, u32, u64)> = rows
            .iter()
            .filter_map(|row| match row.as_slice() {
                [Some(node), Some(writer), Some(seq)] => {
                    Some((node.parse().ok()?, writer.parse().ok()?, seq.parse().ok()?))
                }
                _ => None,
            })
            .collect();
        let missing = |ack: &&ProbeAck| !found.contains(&(ack.node, ack.writer, ack.seq));
        Ok(self.acks.iter().filter(missing).cloned().collect())
    }
}

/// Violations and late answers of acknowledgements that are in order of time.
fn conflicts(acks: &[ProbeAck]) -> (Vec<Conflict>, Vec<Conflict>) {
    let (mut violations, mut late) = (Vec::new(), Vec::new());
    // For each epoch that was greater than all before it: its first acknowledgement.
    let mut firsts: Vec<&ProbeAck> = Vec::new();
    for ack in acks {
        match firsts.last() {
            Some(newest) if ack.epoch < newest.epoch => {
                // The earliest acknowledgement of any greater epoch.
                let Some(first) = firsts.iter().find(|first| first.epoch > ack.epoch) else {
                    continue;
                };
                let conflict = Conflict {
                    newer_epoch: (*first).clone(),
                    other: ack.clone(),
                };
                if ack.sent > first.acknowledged {
                    violations.push(conflict)
                } else {
                    late.push(conflict)
                }
            }
            Some(newest) if ack.epoch == newest.epoch => {}
            _ => firsts.push(ack),
        }
    }
    (violations, late)
}

fn shared_epochs(acks: &[ProbeAck]) -> Vec<u64> {
    let mut nodes: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for ack in acks {
        nodes.entry(ack.epoch).or_default().insert(ack.node);
    }
    nodes
        .into_iter()
        .filter(|(_, nodes)| nodes.len() > 1)
        .map(|(epoch, _)| epoch)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(node: usize, epoch: u64, sent_ms: u64, acknowledged_ms: u64, zero: Instant) -> ProbeAck {
        ProbeAck {
            node,
            writer: 0,
            seq: sent_ms,
            sent: zero + Duration::from_millis(sent_ms),
            acknowledged: zero + Duration::from_millis(acknowledged_ms),
            epoch,
            timeline: 1,
        }
    }

    fn report(acks: Vec<ProbeAck>) -> ProbeReport {
        let login = Target {
            hosts: vec![],
            database: "d".into(),
            user: "u".into(),
            password: dbaas_core::secret::Secret::new("p"),
        };
        ProbeReport::new(Uuid::nil(), vec![], login, acks, BTreeMap::new())
    }

    #[test]
    fn one_writer_after_the_other_is_sound() {
        let zero = Instant::now();
        let report = report(vec![
            ack(0, 1, 0, 5, zero),
            ack(1, 2, 10, 15, zero),
            ack(0, 3, 20, 25, zero),
        ]);
        assert!(report.is_sound());
        assert!(report.late_answers.is_empty());
    }

    #[test]
    fn old_epoch_after_a_newer_one_is_a_violation() {
        let zero = Instant::now();
        let acks = vec![
            ack(1, 2, 10, 15, zero),
            ack(0, 1, 0, 5, zero),
            ack(0, 1, 16, 18, zero),
            ack(2, 3, 20, 25, zero),
        ];
        let seen = report(acks);
        assert_eq!(seen.violations.len(), 1);
        assert_eq!(seen.violations[0].other.seq, 16);
        assert!(!seen.is_sound());
        // Measured against the first acknowledgement of any greater epoch, not of the greatest.
        let acks = vec![
            ack(1, 2, 10, 15, zero),
            ack(2, 3, 20, 25, zero),
            ack(0, 1, 16, 30, zero),
        ];
        assert_eq!(report(acks).violations.len(), 1);
    }

    #[test]
    fn late_answer_is_told_apart() {
        let zero = Instant::now();
        let report = report(vec![ack(0, 1, 0, 40, zero), ack(1, 2, 10, 15, zero)]);
        assert!(report.is_sound());
        assert_eq!(report.late_answers.len(), 1);
    }

    #[test]
    fn two_nodes_in_one_epoch_are_seen() {
        let zero = Instant::now();
        let report = report(vec![ack(0, 4, 0, 5, zero), ack(1, 4, 10, 15, zero)]);
        assert_eq!(report.shared_epochs, [4]);
        assert!(!report.is_sound());
    }
}
