//! Where the figures were taken.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::figures::{Samples, ms};

/// The load average over one, five and fifteen minutes, as the kernel says it.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// A few lines about the machine. `directory`: where data lies, for what a write to its disk costs.
pub fn describe(directory: &Path, postgres: &str) -> std::io::Result<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .find(|l| l.starts_with(name))
            .and_then(|l| l.split_once(':'))
            .map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let fsync = fsync(directory)?;
    Ok(format!(
        "{cores} cores ({}), {} memory, Linux {}; {postgres}; fsync of 8 kB on the data's disk: median {} ms, max {} ms (n = {}); load average {}",
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        kernel.trim(),
        ms(fsync.median()),
        ms(fsync.max()),
        fsync.len(),
        load_average(),
    ))
}

/// What it costs to have a page written for good.
fn fsync(directory: &Path) -> std::io::Result<Samples> {
    let path = directory.join("fsync-probe");
    let mut file = std::fs::File::create(&path)?;
    let mut samples = Samples::default();
    for _ in 0..50 {
        let started = Instant::now();
        file.write_all(&[1; 8192])?;
        file.sync_data()?;
        samples.push(started.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    std::fs::remove_file(path)?;
    Ok(samples)
}
