//! [`BankWorkload`]: transfers between accounts. Money neither appears nor vanishes, and the ledger explains
//! every balance.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use uuid::Uuid;

use crate::client::{Access, Client, ClientOptions, Failure, Target};
use crate::gap::Timeline;

const CONNECT_ROUND: Duration = Duration::from_secs(5);
const SETUP_WITHIN: Duration = Duration::from_secs(30);
const READ_WITHIN: Duration = Duration::from_secs(60);

/// What keeps two transfers from overwriting each other's balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// `SERIALIZABLE`; some are refused with 40001.
    Serializable,
    /// `READ COMMITTED` with `SELECT … FOR UPDATE`.
    ForUpdate,
}

/// What a [`BankWorkload`] is to do.
#[derive(Debug, Clone)]
pub struct BankOptions {
    /// Number of accounts, at least 2.
    pub accounts: u32,
    /// What each has at first.
    pub initial_balance: i64,
    /// How many transfer at once.
    pub tellers: u32,
    /// What keeps them apart.
    pub isolation: Isolation,
    /// Between two transfers of a teller.
    pub pause_between: Duration,
    /// Between two checks of the total while transfers go on.
    pub audit_every: Duration,
    /// Bound of what is kept in memory; a teller that got there stops.
    pub max_transfers_per_teller: usize,
    /// How they connect.
    pub client: ClientOptions,
}

impl Default for BankOptions {
    fn default() -> Self {
        BankOptions {
            accounts: 50,
            initial_balance: 1_000,
            tellers: 4,
            isolation: Isolation::ForUpdate,
            // As fast as it can would take the processors from what is tested.
            pause_between: Duration::from_millis(10),
            audit_every: Duration::from_millis(100),
            max_transfers_per_teller: 500_000,
            client: ClientOptions::default(),
        }
    }
}

/// A transfer that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// Unique within the run.
    pub id: u64,
    /// Account that pays.
    pub from: u32,
    /// Account that gets.
    pub to: u32,
    /// How much.
    pub amount: i64,
}

/// What came of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferOutcome {
    /// The commit was acknowledged.
    Acknowledged(Instant),
    /// `COMMIT` was sent and not answered.
    Unknown,
    /// Refused, or given up before `COMMIT` was sent: must not be there.
    NotCommitted,
}

/// A running workload. Dropping it stops it and loses the record.
#[derive(Debug)]
pub struct BankWorkload {
    run: Uuid,
    options: BankOptions,
    started: Instant,
    stop: watch::Sender<bool>,
    acknowledged: Arc<AtomicU64>,
    tellers: JoinSet<TellerRecord>,
    auditor: JoinSet<AuditRecord>,
}

#[derive(Debug, Default)]
struct TellerRecord {
    transfers: Vec<(Transfer, TransferOutcome)>,
    errors: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct AuditRecord {
    audits: u64,
    wrong_totals: Vec<i64>,
}

impl BankWorkload {
    /// Makes the tables if they are not there, opens the accounts, and starts.
    pub async fn start(target: &Target, options: &BankOptions) -> Result<Self, Failure> {
        let run = Uuid::new_v4();
        let options = BankOptions {
            accounts: options.accounts.max(2),
            ..options.clone()
        };
        let mut client = Client::new(
            target.clone(),
            ClientOptions {
                statement_timeout: READ_WITHIN,
                access: Access::ReadWrite,
                ..options.client.clone()
            },
        );
        let create = "CREATE TABLE IF NOT EXISTS dbaas_bank_account (run uuid NOT NULL, id int NOT NULL, \
                      balance bigint NOT NULL CHECK (balance >= 0), PRIMARY KEY (run, id)); \
                      CREATE TABLE IF NOT EXISTS dbaas_bank_ledger (run uuid NOT NULL, id bigint NOT NULL, \
                      payer int NOT NULL, payee int NOT NULL, amount bigint NOT NULL, PRIMARY KEY (run, id))";
        let deadline = Instant::now() + SETUP_WITHIN;
        client.send_until_done(create, deadline).await?;
        let open = format!(
            "INSERT INTO dbaas_bank_account SELECT '{run}', id, {} FROM generate_series(0, {}) AS id ON CONFLICT DO NOTHING",
            options.initial_balance,
            options.accounts - 1
        );
        client.send_until_done(&open, deadline).await?;

        let (stop, stopped) = watch::channel(false);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let mut tellers = JoinSet::new();
        for teller in 0..options.tellers {
            let client = Client::new(target.clone(), options.client.clone());
            let job = Teller {
                run,
                teller,
                client,
                options: options.clone(),
                acknowledged: Arc::clone(&acknowledged),
            };
            tellers.spawn(job.transfer_until(stopped.clone()));
        }
        let mut auditor = JoinSet::new();
        let client = Client::new(target.clone(), options.client.clone());
        auditor.spawn(audit_until(run, client, options.clone(), stopped));
        Ok(BankWorkload {
            run,
            options,
            started,
            stop,
            acknowledged,
            tellers,
            auditor,
        })
    }

    /// How many transfers were acknowledged up to now.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until `more` further transfers were acknowledged; `false` if that was not so within the time.
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

    /// Stops (a transfer under way is waited for) and hands the record over.
    pub async fn stop(mut self) -> BankReport {
        let stopped = Instant::now();
        self.stop.send_replace(true);
        let mut transfers = Vec::new();
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(joined) = self.tellers.join_next().await {
            match joined {
                Ok(record) => {
                    transfers.extend(record.transfers);
                    for (label, count) in record.errors {
                        *errors.entry(label).or_default() += count;
                    }
                }
                Err(_) => *errors.entry("teller_panicked".to_owned()).or_default() += 1,
            }
        }
        let mut audit = AuditRecord::default();
        while let Some(joined) = self.auditor.join_next().await {
            match joined {
                Ok(record) => audit = record,
                Err(_) => *errors.entry("auditor_panicked".to_owned()).or_default() += 1,
            }
        }
        let times = transfers.iter().filter_map(|(_, outcome)| match outcome {
            TransferOutcome::Acknowledged(at) => Some(*at),
            TransferOutcome::Unknown | TransferOutcome::NotCommitted => None,
        });
        let timeline = Timeline::new(self.started, stopped, times.collect());
        let unknown = transfers
            .iter()
            .filter(|(_, outcome)| *outcome == TransferOutcome::Unknown)
            .count() as u64;
        BankReport {
            run: self.run,
            acknowledged: timeline.acknowledged().len() as u64,
            unknown,
            errors,
            audits: audit.audits,
            wrong_totals: audit.wrong_totals,
            timeline,
            accounts: self.options.accounts,
            initial_balance: self.options.initial_balance,
            transfers,
        }
    }
}

struct Teller {
    run: Uuid,
    teller: u32,
    client: Client,
    options: BankOptions,
    acknowledged: Arc<AtomicU64>,
}

impl Teller {
    async fn transfer_until(mut self, mut stopped: watch::Receiver<bool>) -> TellerRecord {
        let mut record = TellerRecord::default();
        let mut next = u64::from(self.teller) << 32;
        while !*stopped.borrow() && record.transfers.len() < self.options.max_transfers_per_teller {
            let connected = tokio::select! {
                connected = self.client.connect(Instant::now() + CONNECT_ROUND) => connected,
                _ = stopped.changed() => break,
            };
            if let Err(failure) = connected {
                *record.errors.entry(failure.label()).or_default() += 1;
                continue;
            }
            let transfer = self.choose(next);
            next += 1;
            match self.transfer(transfer).await {
                Ok(done) => record.transfers.push(done),
                Err((failure, outcome)) => {
                    *record.errors.entry(failure.label()).or_default() += 1;
                    record.transfers.push((transfer, outcome));
                }
            }
            if !self.options.pause_between.is_zero() {
                sleep(self.options.pause_between).await;
            }
        }
        record
    }

    fn choose(&self, id: u64) -> Transfer {
        let mut random = rand::rng();
        let from = random.random_range(0..self.options.accounts);
        let to = (from + random.random_range(1..self.options.accounts)) % self.options.accounts;
        Transfer {
            id,
            from,
            to,
            amount: random.random_range(1..=100),
        }
    }

    /// Reads both balances, and writes what it computed from them: a lost update would show. Pays no more
    /// than there is, so the amount may become less than was chosen.
    async fn transfer(
        &mut self,
        chosen: Transfer,
    ) -> Result<(Transfer, TransferOutcome), (Failure, TransferOutcome)> {
        let run = self.run;
        let (begin, lock) = match self.options.isolation {
            Isolation::Serializable => ("BEGIN ISOLATION LEVEL SERIALIZABLE", ""),
            Isolation::ForUpdate => ("BEGIN ISOLATION LEVEL READ COMMITTED", " FOR UPDATE"),
        };
        let read = format!(
            "{begin}; SELECT id, balance FROM dbaas_bank_account WHERE run = '{run}' AND id IN ({}, {}) ORDER BY id{lock}",
            chosen.from, chosen.to
        );
        let rows = match self.client.send(&read).await {
            Ok(rows) => rows,
            Err(failure) => return Err(self.give_up(failure).await),
        };
        let balance = |account: u32| {
            rows.iter().find_map(|row| match row.as_slice() {
                [Some(id), Some(balance)] if id.parse() == Ok(account) => balance.parse::<i64>().ok(),
                _ => None,
            })
        };
        let (Some(payer), Some(payee)) = (balance(chosen.from), balance(chosen.to)) else {
            let failure = Failure::Unknown("an account is missing".to_owned());
            return Err(self.give_up(failure).await);
        };
        let transfer = Transfer {
            amount: chosen.amount.min(payer),
            ..chosen
        };
        let write = format!(
            "UPDATE dbaas_bank_account SET balance = {} WHERE run = '{run}' AND id = {}; \
             UPDATE dbaas_bank_account SET balance = {} WHERE run = '{run}' AND id = {}; \
             INSERT INTO dbaas_bank_ledger VALUES ('{run}', {}, {}, {}, {})",
            payer - transfer.amount,
            transfer.from,
            payee + transfer.amount,
            transfer.to,
            transfer.id,
            transfer.from,
            transfer.to,
            transfer.amount
        );
        if let Err(failure) = self.client.send(&write).await {
            return Err(self.give_up(failure).await);
        }
        match self.client.send("COMMIT").await {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                Ok((transfer, TransferOutcome::Acknowledged(Instant::now())))
            }
            Err(failure @ Failure::Refused { .. }) => Err((failure, TransferOutcome::NotCommitted)),
            // Kept with the amount that was sent, which the ledger may show.
            Err(_) => Ok((transfer, TransferOutcome::Unknown)),
        }
    }

    /// `COMMIT` was not sent, so whatever happened nothing may be there.
    async fn give_up(&mut self, failure: Failure) -> (Failure, TransferOutcome) {
        if self.client.send("ROLLBACK").await.is_err() {
            self.client.disconnect();
        }
        (failure, TransferOutcome::NotCommitted)
    }
}

async fn audit_until(
    run: Uuid,
    mut client: Client,
    options: BankOptions,
    mut stopped: watch::Receiver<bool>,
) -> AuditRecord {
    let total = i64::from(options.accounts) * options.initial_balance;
    let sql = format!("SELECT sum(balance) FROM dbaas_bank_account WHERE run = '{run}'");
    let mut record = AuditRecord::default();
    while !*stopped.borrow() {
        let read = async {
            client.connect(Instant::now() + CONNECT_ROUND).await?;
            client.send(&sql).await
        };
        let read = tokio::select! {
            read = read => read,
            _ = stopped.changed() => break,
        };
        if let Ok(rows) = read {
            record.audits += 1;
            let sum = rows
                .first()
                .and_then(|row| row.first()?.as_deref()?.parse::<i64>().ok())
                .unwrap_or(0);
            if sum != total {
                record.wrong_totals.push(sum);
            }
        }
        sleep(options.audit_every).await;
    }
    record
}

/// What a [`BankWorkload`] did.
#[derive(Debug, Clone)]
pub struct BankReport {
    /// Names the rows of this run.
    pub run: Uuid,
    /// Acknowledged transfers.
    pub acknowledged: u64,
    /// Transfers of which nobody knows.
    pub unknown: u64,
    /// Failures by SQLSTATE (or `unknown`, `not_connected`).
    pub errors: BTreeMap<String, u64>,
    /// How often the total was checked while transfers went on.
    pub audits: u64,
    /// Totals that were wrong then.
    pub wrong_totals: Vec<i64>,
    /// When they were acknowledged, and the pauses.
    pub timeline: Timeline,
    accounts: u32,
    initial_balance: i64,
    transfers: Vec<(Transfer, TransferOutcome)>,
}

impl BankReport {
    /// Every transfer that was tried.
    pub fn transfers(&self) -> &[(Transfer, TransferOutcome)] {
        &self.transfers
    }

    /// Reads accounts and ledger in one snapshot and compares. `access` as for
    /// [`crate::set::SetReport::verify`].
    pub async fn verify(&self, target: &Target, access: Access) -> Result<BankVerdict, Failure> {
        let options = ClientOptions {
            statement_timeout: READ_WITHIN,
            access,
            ..ClientOptions::default()
        };
        let mut client = Client::new(target.clone(), options);
        let run = self.run;
        // One statement, so one snapshot.
        let sql = format!(
            "SELECT 'account', id, balance, NULL, NULL FROM dbaas_bank_account WHERE run = '{run}' \
             UNION ALL SELECT 'transfer', id, payer, payee, amount FROM dbaas_bank_ledger WHERE run = '{run}'"
        );
        let rows = client.send_until_done(&sql, Instant::now() + READ_WITHIN).await?;
        let mut balances = BTreeMap::new();
        let mut ledger = BTreeMap::new();
        for row in &rows {
            parse(row, &mut balances, &mut ledger)
                .ok_or_else(|| Failure::Unknown("a row that this workload cannot have written".to_owned()))?;
        }
        Ok(self.judge(&balances, &ledger))
    }

    fn judge(&self, balances: &BTreeMap<u32, i64>, ledger: &BTreeMap<u64, Transfer>) -> BankVerdict {
        let mut verdict = BankVerdict {
            total: balances.values().sum(),
            expected_total: i64::from(self.accounts) * self.initial_balance,
            ledger_entries: ledger.len() as u64,
            ..BankVerdict::default()
        };
        let mut tried = BTreeMap::new();
        for (transfer, outcome) in &self.transfers {
            tried.insert(transfer.id, ());
            match (outcome, ledger.get(&transfer.id)) {
                (TransferOutcome::Acknowledged(_), None) => verdict.lost.push(*transfer),
                (TransferOutcome::NotCommitted, Some(_)) => verdict.not_committed_but_present.push(*transfer),
                (TransferOutcome::Acknowledged(_) | TransferOutcome::Unknown, Some(entry))
                    if entry != transfer =>
                {
                    verdict.altered.push(*transfer);
                }
                (TransferOutcome::Unknown, Some(_)) => verdict.unknown_present += 1,
                _ => {}
            }
        }
        verdict.phantom = ledger
            .values()
            .filter(|entry| !tried.contains_key(&entry.id))
            .copied()
            .collect();
        let mut explained: BTreeMap<u32, i64> =
            (0..self.accounts).map(|id| (id, self.initial_balance)).collect();
        for entry in ledger.values() {
            *explained.entry(entry.from).or_default() -= entry.amount;
            *explained.entry(entry.to).or_default() += entry.amount;
        }
        verdict.unexplained_accounts = explained
            .keys()
            .chain(balances.keys())
            .filter(|id| explained.get(id) != balances.get(id))
            .copied()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect();
        verdict
    }
}

fn parse(
    row: &[Option<String>],
    balances: &mut BTreeMap<u32, i64>,
    ledger: &mut BTreeMap<u64, Transfer>,
) -> Option<()> {
    let field = |index: usize| row.get(index)?.as_deref();
    if field(0)? == "account" {
        balances.insert(field(1)?.parse().ok()?, field(2)?.parse().ok()?);
    } else {
        let id = field(1)?.parse().ok()?;
        let transfer = Transfer {
            id,
            from: field(2)?.parse().ok()?,
            to: field(3)?.parse().ok()?,
            amount: field(4)?.parse().ok()?,
        };
        ledger.insert(id, transfer);
    }
    Some(())
}

/// What was found when accounts and ledger were read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BankVerdict {
    /// Sum of all balances.
    pub total: i64,
    /// What it has to be.
    pub expected_total: i64,
    /// Transfers in the ledger.
    pub ledger_entries: u64,
    /// Acknowledged, and not in the ledger.
    pub lost: Vec<Transfer>,
    /// In the ledger, and never tried.
    pub phantom: Vec<Transfer>,
    /// In the ledger with other values.
    pub altered: Vec<Transfer>,
    /// In the ledger, although refused or given up before `COMMIT`.
    pub not_committed_but_present: Vec<Transfer>,
    /// Accounts whose balance is not what the ledger makes it.
    pub unexplained_accounts: Vec<u32>,
    /// Of unknown outcome, and there.
    pub unknown_present: u64,
}

impl BankVerdict {
    /// The invariants hold.
    pub fn is_sound(&self) -> bool {
        self.total == self.expected_total
            && self.lost.is_empty()
            && self.phantom.is_empty()
            && self.altered.is_empty()
            && self.not_committed_but_present.is_empty()
            && self.unexplained_accounts.is_empty()
    }
}
