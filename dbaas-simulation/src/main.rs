//! Runs seeds, replays one, or measures idle instances.

fn main() {
    let mut args = std::env::args().skip(1);
    let from: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(0);
    let count: u64 = args.next().and_then(|a| a.parse().ok()).unwrap_or(1);
    for seed in from..from + count {
        let started = std::time::Instant::now();
        let outcome = dbaas_simulation::seed::run(seed).unwrap();
        println!("{seed}: {} acked, {} promotions, {} virtual ms, {:?}, {:x} {:?}", outcome.acknowledged, outcome.promotions, outcome.virtual_ms, started.elapsed(), outcome.fingerprint, outcome.violations);
        if count == 1 { for (ms, line) in &outcome.trace { println!("{ms:>8} {line}"); } }
    }
}
