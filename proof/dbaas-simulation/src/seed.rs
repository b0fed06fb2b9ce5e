//! One seed's run, from an empty world to one in which everything is as asked for.

use std::time::Duration;

use dbaas_controller::error::ControlError;
use dbaas_controller::request::{InstanceAction, UpdateInstance};
use dbaas_core::id::InstanceId;
use dbaas_core::instance::{DesiredState, InstanceRecord};
use rand::Rng as _;

use crate::scenario::Scenario;

/// After the faults have ended everything is as asked for within this time.
const CONVERGES_WITHIN: Duration = Duration::from_secs(600);
/// Without faults an instance is there within this time.
const CREATED_WITHIN: Duration = Duration::from_secs(60);

/// What came of a seed.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Promises that were broken; empty if all is well.
    pub violations: Vec<String>,
    /// What happened, with virtual milliseconds.
    pub trace: Vec<(u64, String)>,
    /// A hash of the trace.
    pub fingerprint: u64,
    /// For how long it ran, in virtual milliseconds.
    pub virtual_ms: u64,
    /// Commits that clients were told are safe.
    pub acknowledged: usize,
    /// Promotions.
    pub promotions: usize,
}

/// Lines of the trace that a report shows.
const REPORT_LINES: usize = 60;

impl Outcome {
    /// What is broken, how to see it again, and the end of the trace.
    pub fn report(&self) -> String {
        let mut text = format!("seed {} FAILED\n", self.seed);
        for violation in &self.violations {
            text.push_str(&format!("  {violation}\n"));
        }
        text.push_str(&format!(
            "  replay with: cargo run --profile optimised -p dbaas-simulation -- replay --seed {}\n",
            self.seed
        ));
        let first = self
            .trace
            .iter()
            .position(|(_, line)| line.starts_with("VIOLATION"))
            .map_or(self.trace.len(), |at| at + 1);
        for (ms, line) in &self.trace[first.saturating_sub(REPORT_LINES)..first] {
            let short: String = line.chars().take(200).collect();
            text.push_str(&format!("  {ms:>8} {short}\n"));
        }
        text
    }
}

/// Runs a seed. The same seed gives the same outcome.
pub fn run(seed: u64) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let outcome = runtime.block_on(play(seed));
    // What still waits is for a world that has ended.
    runtime.shutdown_background();
    outcome
}

async fn play(seed: u64) -> anyhow::Result<Outcome> {
    let mut scenario = Scenario::new(seed).await?;
    let mut violations = Vec::new();
    if let Err(error) = scenario.live(&mut violations).await {
        violations.push(format!("the run could not go on: {error:#}"));
    }
    let world = &scenario.world;
    violations.extend(world.violations());
    let trace = world.trace();
    let promotions = trace
        .iter()
        .filter(|(_, line)| line.contains(" is promoted "))
        .count();
    Ok(Outcome {
        seed,
        violations,
        fingerprint: world.fingerprint(),
        virtual_ms: world.now_ms(),
        acknowledged: scenario.instances.iter().map(|id| world.acknowledged(*id)).sum(),
        promotions,
        trace,
    })
}

impl Scenario {
    async fn live(&mut self, violations: &mut Vec<String>) -> anyhow::Result<()> {
        self.create().await?;
        for instance in self.instances.clone() {
            if let Some(control) = self.control() {
                self.create_user(control.clone(), instance)?;
                tokio::time::sleep(Duration::from_millis(50)).await;
                self.create_database(control, instance)?;
            }
        }
        if !self.profile.early && !self.converge(CREATED_WITHIN, violations).await {
            return Ok(());
        }
        self.disturb().await?;
        self.end_faults().await?;
        for instance in self.instances.clone() {
            self.start_again(instance).await;
        }
        if !self.converge(CONVERGES_WITHIN, violations).await {
            return Ok(());
        }
        self.check_at_rest(violations).await;
        if self.rng.random_range(0..6) == 0 {
            self.delete(violations).await;
        }
        Ok(())
    }

    async fn disturb(&mut self) -> anyhow::Result<()> {
        self.begin_chaos();
        let until = self.world.now_ms() + self.profile.faulty_ms;
        while self.world.now_ms() < until && self.world.violations().is_empty() {
            let pause_ms = self.rng.random_range(10..=self.profile.longest_pause_ms);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            if self.profile.requests && self.rng.random_range(0..3) == 0 {
                self.request().await?;
            } else {
                self.fault().await?;
            }
        }
        Ok(())
    }

    /// What was stopped is started, and what no server starts with is taken back, so that there is something
    /// to converge to.
    async fn start_again(&self, instance: InstanceId) {
        // What is still on its way, such as a stop, comes first.
        tokio::time::sleep(Duration::from_secs(35)).await;
        for _ in 0..60 {
            let record = self.record(instance).await.ok();
            let is = |of: fn(&InstanceRecord) -> bool| record.as_ref().is_some_and(of);
            let stopped = is(|record| record.desired == DesiredState::Stopped);
            let refused = is(|record| record.spec.parameters.get("max_connections") == Some("9000"));
            if !stopped && !refused {
                return;
            }
            if let Some(control) = self.control() {
                if stopped {
                    let _ = control.act_on_instance(instance, InstanceAction::Start).await;
                }
                let change = UpdateInstance {
                    parameters: [("max_connections".to_owned(), None)].into(),
                    ..UpdateInstance::default()
                };
                if refused {
                    let _ = control.update_instance(instance, change).await;
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until everything is as asked for.
    async fn converge(&self, within: Duration, violations: &mut Vec<String>) -> bool {
        let until = tokio::time::Instant::now() + within;
        loop {
            if !self.world.violations().is_empty() {
                return false;
            }
            let mut missing = None;
            for instance in &self.instances {
                if let Some(text) = self.missing(*instance).await {
                    missing = Some(text);
                    break;
                }
            }
            let Some(missing) = missing else {
                self.world.note("everything is as asked for");
                return true;
            };
            if tokio::time::Instant::now() >= until {
                violations.push(format!(
                    "not as asked for after {} s: {missing}",
                    within.as_secs()
                ));
                for instance in self.instances.clone() {
                    self.describe(instance).await;
                }
                return false;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Adds to the trace what there is, and what was asked for.
    async fn describe(&self, instance: InstanceId) {
        if let Ok(record) = self.record(instance).await {
            self.world
                .note(format!("record: {:?} {:?}", record.cluster, record.requests));
            for node in &record.nodes {
                self.world.note(format!("record: {node:?}"));
            }
        }
        for line in self.world.describe(instance) {
            self.world.note(line);
        }
    }

    /// Clients can write, everything that they were ever told is there, and nothing is written to the store.
    async fn check_at_rest(&mut self, violations: &mut Vec<String>) {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let commits = self.store.commits();
        for instance in self.instances.clone() {
            let before = self.world.acknowledged(instance);
            tokio::time::sleep(Duration::from_secs(4)).await;
            if self.world.acknowledged(instance) <= before {
                violations.push("clients cannot write although the instance is ACTIVE".to_owned());
            }
            if !self.world.verify(instance) {
                violations.push("there is no primary although the instance is ACTIVE".to_owned());
            }
        }
        let written = self.store.commits() - commits;
        if written > 0 {
            violations.push(format!(
                "{written} writes to the store although nothing is to be done"
            ));
        }
    }

    async fn delete(&mut self, violations: &mut Vec<String>) {
        let Some(control) = self.control() else { return };
        for instance in self.instances.clone() {
            self.world.set_clients(instance, 0);
            self.world.expect_deletion(instance);
            self.world.note("request: deletion of the instance");
            if let Err(error) = control.delete_instance(instance, None).await {
                violations.push(format!("the instance cannot be deleted: {error}"));
                continue;
            }
            let mut gone = false;
            for _ in 0..120 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                gone = matches!(
                    control.instance(instance).await,
                    Err(ControlError::NotFound { .. })
                );
                if gone {
                    break;
                }
            }
            if !gone || !self.nodes(instance).is_empty() {
                violations.push("something of a deleted instance is left after two minutes".to_owned());
            }
        }
    }
}
