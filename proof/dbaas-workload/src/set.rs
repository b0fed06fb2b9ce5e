//! [`SetWorkload`]: several writers, each inserting unique ids, one per transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::{Access, Client, ClientOptions, Failure, Target};
use crate::gap::Timeline;

/// How long one attempt at connecting goes on before the writer looks whether it is to stop.
const CONNECT_ROUND: Duration = Duration::from_secs(5);
const SETUP_WITHIN: Duration = Duration::from_secs(30);
const READ_WITHIN: Duration = Duration::from_secs(60);
const PAGE_ROWS: usize = 20_000;

/// What a [`SetWorkload`] is to do.
#[derive(Debug, Clone)]
pub struct SetOptions {
    /// How many write at once, each on a connection of its own.
    pub writers: u32,
    /// Between two writes of a writer.
    pub pause_between: Duration,
    /// Bound of what is kept in memory; a writer that got there stops.
    pub max_attempts_per_writer: usize,
    /// How the writers connect.
    pub client: ClientOptions,
}

impl Default for SetOptions {
    fn default() -> Self {
        SetOptions {
            writers: 4,
            // As fast as it can would take the processors from what is tested.
            pause_between: Duration::from_millis(10),
            max_attempts_per_writer: 2_000_000,
            client: ClientOptions::default(),
        }
    }
}

/// One inserted id: unique within a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// Which writer.
    pub writer: u32,
    /// Which of its attempts, from 0.
    pub seq: u64,
}

impl RowId {
    /// What is stored beside the id, so that a changed value is seen (splitmix64).
    fn payload(self) -> i64 {
        let mut z = (u64::from(self.writer) << 40 ^ self.seq).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).cast_signed()
    }
}

/// What came of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The commit was acknowledged.
    Acknowledged(Instant),
    /// No answer, or the session ended: may be there.
    Unknown,
    /// The server said that it did not do it.
    Refused,
}

/// A running workload. Dropping it stops the writers and loses the record.
#[derive(Debug)]
pub struct SetWorkload {
    run: Uuid,
    started: Instant,
    stop: watch::Sender<bool>,
    acknowledged: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
    writers: JoinSet<WriterRecord>,
}

#[derive(Debug)]
struct WriterRecord {
    writer: u32,
    outcomes: Vec<Outcome>,
    errors: BTreeMap<String, u64>,
}

impl SetWorkload {
    /// Makes the table if it is not there and starts the writers.
    pub async fn start(target: &Target, options: &SetOptions) -> Result<Self, Failure> {
        let mut client = Client::new(
            target.clone(),
            ClientOptions {
                statement_timeout: READ_WITHIN,
                access: Access::ReadWrite,
                ..options.client.clone()
            },
        );
        let create = "CREATE TABLE IF NOT EXISTS dbaas_set (run uuid NOT NULL, writer int NOT NULL, seq bigint NOT NULL, \
                      payload bigint NOT NULL, PRIMARY KEY (run, writer, seq))";
        client
            .send_until_done(create, Instant::now() + SETUP_WITHIN)
            .await?;

        let run = Uuid::new_v4();
        let (stop, stopped) = watch::channel(false);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let unknown = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let mut writers = JoinSet::new();
        for writer in 0..options.writers {
            let client = Client::new(target.clone(), options.client.clone());
            let job = Writer {
                run,
                writer,
                client,
                options: options.clone(),
                acknowledged: Arc::clone(&acknowledged),
                unknown: Arc::clone(&unknown),
            };
            writers.spawn(job.write_until(stopped.clone()));
        }
        Ok(SetWorkload {
            run,
            started,
            stop,
            acknowledged,
            unknown,
            writers,
        })
    }

    /// How many writes were acknowledged up to now.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Of how many writes nobody knows, up to now, whether they were carried out.
    pub fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// Waits until `more` further writes were acknowledged; `false` if that was not so within the time.
    pub async fn wait_for_acknowledged(&self, more: u64, within: Duration) -> bool {
        let wanted = self.acknowledged() + more;
        let deadline = Instant::now() + within;
        while self.acknowledged() < wanted {
            if Instant::now() > deadline {
                return false;
            }
            sleep(Duration::from_millis(2)).await;
        }
        true
    }

    /// Stops the writers (a statement under way is waited for) and hands the record over.
    pub async fn stop(mut self) -> SetReport {
        let stopped = Instant::now();
        self.stop.send_replace(true);
        let mut outcomes = BTreeMap::new();
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(joined) = self.writers.join_next().await {
            match joined {
                Ok(record) => {
                    outcomes.insert(record.writer, record.outcomes);
                    for (label, count) in record.errors {
                        *errors.entry(label).or_default() += count;
                    }
                }
                // Its record is lost, so nothing may be concluded from this run.
                Err(_) => *errors.entry("writer_panicked".to_owned()).or_default() += 1,
            }
        }
        SetReport::new(self.run, self.started, stopped, outcomes, errors)
    }
}

struct Writer {
    run: Uuid,
    writer: u32,
    client: Client,
    options: SetOptions,
    acknowledged: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
}

impl Writer {
    async fn write_until(mut self, mut stopped: watch::Receiver<bool>) -> WriterRecord {
        let mut record = WriterRecord {
            writer: self.writer,
            outcomes: Vec::new(),
            errors: BTreeMap::new(),
        };
        while !*stopped.borrow() && record.outcomes.len() < self.options.max_attempts_per_writer {
            let connected = tokio::select! {
                connected = self.client.connect(Instant::now() + CONNECT_ROUND) => connected,
                // Also when the workload was dropped.
                _ = stopped.changed() => break,
            };
            let outcome = match connected {
                Ok(()) => {
                    self.insert(RowId {
                        writer: self.writer,
                        seq: record.outcomes.len() as u64,
                    })
                    .await
                }
                Err(failure) => Err(failure),
            };
            match outcome {
                Ok(at) => {
                    record.outcomes.push(Outcome::Acknowledged(at));
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                Err(failure) => {
                    *record.errors.entry(failure.label()).or_default() += 1;
                    match failure {
                        Failure::Refused { .. } => record.outcomes.push(Outcome::Refused),
                        Failure::Unknown(_) => {
                            record.outcomes.push(Outcome::Unknown);
                            self.unknown.fetch_add(1, Ordering::Relaxed);
                        }
                        Failure::NotConnected(_) => {}
                    }
                }
            }
            if !self.options.pause_between.is_zero() {
                sleep(self.options.pause_between).await;
            }
        }
        record
    }

    async fn insert(&mut self, id: RowId) -> Result<Instant, Failure> {
        let (run, writer, seq, payload) = (self.run, id.writer, id.seq, id.payload());
        let sql = format!("INSERT INTO dbaas_set VALUES ('{run}', {writer}, {seq}, {payload})");
        self.client.send(&sql).await?;
        Ok(Instant::now())
    }
}

/// What a [`SetWorkload`] did.
#[derive(Debug, Clone)]
pub struct SetReport {
    /// Names the rows of this run in table `dbaas_set`.
    pub run: Uuid,
    /// Acknowledged inserts.
    pub acknowledged: u64,
    /// Inserts of which nobody knows.
    pub unknown: u64,
    /// Inserts that the server refused.
    pub refused: u64,
    /// Failures by SQLSTATE (or `unknown`, `not_connected`).
    pub errors: BTreeMap<String, u64>,
    /// When they were acknowledged, and the pauses.
    pub timeline: Timeline,
    outcomes: BTreeMap<u32, Vec<Outcome>>,
}

impl SetReport {
    fn new(
        run: Uuid,
        started: Instant,
        stopped: Instant,
        outcomes: BTreeMap<u32, Vec<Outcome>>,
        errors: BTreeMap<String, u64>,
    ) -> Self {
        let (mut times, mut unknown, mut refused) = (Vec::new(), 0, 0);
        for outcome in outcomes.values().flatten() {
            match outcome {
                Outcome::Acknowledged(at) => times.push(*at),
                Outcome::Unknown => unknown += 1,
                Outcome::Refused => refused += 1,
            }
        }
        let acknowledged = times.len() as u64;
        let timeline = Timeline::new(started, stopped, times);
        SetReport {
            run,
            acknowledged,
            unknown,
            refused,
            errors,
            timeline,
            outcomes,
        }
    }

    /// What came of an attempt; `None` if it was never made.
    pub fn outcome(&self, id: RowId) -> Option<Outcome> {
        self.outcomes
            .get(&id.writer)?
            .get(usize::try_from(id.seq).ok()?)
            .copied()
    }

    /// Every id that was acknowledged.
    pub fn acknowledged_ids(&self) -> impl Iterator<Item = RowId> + '_ {
        self.outcomes.iter().flat_map(|(&writer, outcomes)| {
            outcomes
                .iter()
                .enumerate()
                .filter_map(move |(seq, outcome)| match outcome {
                    Outcome::Acknowledged(_) => Some(RowId {
                        writer,
                        seq: seq as u64,
                    }),
                    Outcome::Unknown | Outcome::Refused => None,
                })
        })
    }

    /// Reads every row of the run back and compares. With [`Access::ReadWrite`] from the primary among the
    /// hosts, with [`Access::Any`] from the first that answers, a standby too.
    pub async fn verify(&self, target: &Target, access: Access) -> Result<SetVerdict, Failure> {
        let options = ClientOptions {
            statement_timeout: READ_WITHIN,
            access,
            ..ClientOptions::default()
        };
        let mut client = Client::new(target.clone(), options);
        let mut verdict = SetVerdict::default();
        let mut seen: BTreeMap<u32, Vec<bool>> = self
            .outcomes
            .iter()
            .map(|(writer, outcomes)| (*writer, vec![false; outcomes.len()]))
            .collect();
        let mut after = (-1_i64, -1_i64);
        loop {
            let sql = format!(
                "SELECT writer, seq, payload FROM dbaas_set WHERE run = '{}' AND (writer, seq) > ({}, {}) \
                 ORDER BY writer, seq LIMIT {PAGE_ROWS}",
                self.run, after.0, after.1
            );
            let rows = client.send_until_done(&sql, Instant::now() + READ_WITHIN).await?;
            let full = rows.len() == PAGE_ROWS;
            for row in rows {
                let (id, payload) = parse(&row)?;
                after = (id.writer.into(), id.seq.cast_signed());
                self.judge(id, payload, &mut verdict);
                let mark = seen
                    .get_mut(&id.writer)
                    .and_then(|seen| seen.get_mut(usize::try_from(id.seq).ok()?));
                if let Some(mark) = mark {
                    *mark = true;
                }
            }
            if !full {
                break;
            }
        }
        verdict.lost = self
            .acknowledged_ids()
            .filter(|id| !seen.get(&id.writer).is_some_and(|seen| seen[id.seq as usize]))
            .collect();
        Ok(verdict)
    }

    fn judge(&self, id: RowId, payload: i64, verdict: &mut SetVerdict) {
        verdict.found += 1;
        match self.outcome(id) {
            Some(Outcome::Acknowledged(_)) => {}
            Some(Outcome::Unknown) => verdict.unknown_present += 1,
            Some(Outcome::Refused) => verdict.refused_but_present.push(id),
            None => verdict.phantom.push(id),
        }
        if payload != id.payload() {
            verdict.altered.push(id);
        }
    }
}

fn parse(row: &[Option<String>]) -> Result<(RowId, i64), Failure> {
    let field = |index: usize| row.get(index).and_then(Option::as_deref).unwrap_or_default();
    let parsed = || {
        let id = RowId {
            writer: field(0).parse().ok()?,
            seq: field(1).parse().ok()?,
        };
        Some((id, field(2).parse().ok()?))
    };
    parsed().ok_or_else(|| Failure::Unknown("a row that this workload cannot have written".to_owned()))
}

/// What was found when the rows were read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetVerdict {
    /// Rows of this run.
    pub found: u64,
    /// Acknowledged, and not there.
    pub lost: Vec<RowId>,
    /// There, and never attempted.
    pub phantom: Vec<RowId>,
    /// There with another value.
    pub altered: Vec<RowId>,
    /// There, although the server said that it did not do it.
    pub refused_but_present: Vec<RowId>,
    /// Of unknown outcome, and there.
    pub unknown_present: u64,
}

impl SetVerdict {
    /// Nothing lost, nothing that cannot be.
    pub fn is_sound(&self) -> bool {
        self.lost.is_empty()
            && self.phantom.is_empty()
            && self.altered.is_empty()
            && self.refused_but_present.is_empty()
    }
}
