//! What was measured, and how it is told.

use std::fmt;
use std::time::Duration;

/// What so many instances cost. `None` where the system does not say.
#[derive(Debug, Clone)]
pub struct Figures {
    /// How many instances.
    pub instances: usize,
    /// Nodes of each.
    pub nodes: u64,
    /// Until all of them were ACTIVE.
    pub created_in: Duration,
    /// Processor time of that: the controller's, the world's.
    pub creation: Option<(Duration, Duration)>,
    /// Resident memory that they added, with their simulated nodes, in bytes.
    pub added_bytes: Option<u64>,
    /// The simulated nodes' part of it.
    pub world_bytes: Option<u64>,
    /// The time in which nothing was asked for.
    pub measured: Duration,
    /// Processor time in it: the controller's, the world's.
    pub idle: Option<(Duration, Duration)>,
    /// How often an instance was looked at in it.
    pub looks: u64,
    /// Batches committed to the store in it.
    pub commits: u64,
    /// How long pages took.
    pub pages: Vec<Latency>,
    /// What came of a restart of the controller.
    pub restart: Restart,
}

/// A controller that starts with instances in its store.
#[derive(Debug, Clone)]
pub struct Restart {
    /// Until it answered, and acted.
    pub serving_in: Duration,
    /// So many instances were looked at ...
    pub looked_at: usize,
    /// ... within this time.
    pub looked_at_in: Duration,
    /// Instances whose epoch changed.
    pub failovers: usize,
    /// Batches committed to the store meanwhile.
    pub commits: u64,
}

/// How long calls of one kind took.
#[derive(Debug, Clone)]
pub struct Latency {
    what: &'static str,
    took: Vec<Duration>,
}

impl Latency {
    pub(super) fn new(what: &'static str) -> Self {
        Latency {
            what,
            took: Vec::new(),
        }
    }

    pub(super) fn took(&mut self, time: Duration) {
        self.took.push(time);
    }

    /// In thousandths.
    fn quantile(&self, per_mille: usize) -> Duration {
        let mut sorted = self.took.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get(last * per_mille / 1_000).copied().unwrap_or_default()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.instances.max(1) as f64;
        writeln!(f, "{} instances of {} nodes", self.instances, self.nodes)?;
        let created = self.created_in.as_secs_f64();
        writeln!(
            f,
            "all ACTIVE after       {created:.1} s, {:.2} ms each",
            created * 1e3 / each
        )?;
        if let Some((controller, world)) = self.creation {
            let ms = |time: Duration| time.as_secs_f64() * 1e3 / each;
            writeln!(
                f,
                "  processor            {:.2} ms each, and the simulated world's {:.2} ms",
                ms(controller),
                ms(world)
            )?;
        }
        if let Some((all, world)) = self.added_bytes.zip(self.world_bytes) {
            let kb = |bytes: u64| bytes as f64 / 1024.0 / each;
            writeln!(
                f,
                "memory                 {:.1} kB each, {:.1} kB of it the simulated world's",
                kb(all),
                kb(world)
            )?;
        }
        if let Some((controller, world)) = self.idle {
            let share = |time: Duration| 100.0 * time.as_secs_f64() / self.measured.as_secs_f64().max(0.001);
            writeln!(
                f,
                "idle for {:.0} s          {:.1} % of a core, and the simulated world's {:.1} %; {:.0} looks a second, {} writes",
                self.measured.as_secs_f64(),
                share(controller),
                share(world),
                self.looks as f64 / self.measured.as_secs_f64().max(0.001),
                self.commits
            )?;
        }
        for page in &self.pages {
            let ms = |per_mille| page.quantile(per_mille).as_secs_f64() * 1e3;
            writeln!(
                f,
                "{:<23}median {:.2} ms, p99 {:.2} ms",
                page.what,
                ms(500),
                ms(990)
            )?;
        }
        let Restart {
            serving_in,
            looked_at,
            looked_at_in,
            failovers,
            commits,
        } = self.restart;
        write!(
            f,
            "restart                serves after {:.2} s, {looked_at} looked at after {:.1} s, {failovers} failovers, {commits} writes",
            serving_in.as_secs_f64(),
            looked_at_in.as_secs_f64()
        )
    }
}

/// Resident memory of this process, from `/proc`.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// User and system time of a process or thread, from `/proc`; its ticks are hundredths of a second.
pub(super) fn processor_time(of: &str) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{of}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}
