//! Random calls of the façade, good ones and bad ones, beside a small model of what has to be seen; the
//! engine works behind it on a simulated backend all the while. A sequence that fails is made as short as it
//! can be and shown.
//!
//! `FACADE_SEED` decides what comes, `FACADE_CASES` how many sequences there are.

mod call;
mod check;
mod model;
mod plane;

use proptest::test_runner::{Config, RngSeed};
use proptest_state_machine::prop_state_machine;

use plane::Facade;

fn config() -> Config {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    Config {
        cases: number("FACADE_CASES")
            .and_then(|n| n.try_into().ok())
            .unwrap_or(6),
        rng_seed: RngSeed::Fixed(number("FACADE_SEED").unwrap_or(1)),
        // The seed is enough to find it again.
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]
    #[test]
    fn what_was_accepted_is_what_is_seen(sequential 10..80 => Facade);
}
