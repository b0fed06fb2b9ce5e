//! Whole instances on this machine's PostgreSQL. One program, so that tests of which most wait run beside one
//! another.

/// What `.ci/run` has run beside all other tests, by this name.
mod end_to_end {
    mod access;
    mod attack;
    mod day_two;
    mod deletion;
    mod extensions;
    mod failover;
    mod health;
    mod identity;
    mod manifest;
    mod migration;
    mod ownership;
    mod settings;
    mod tenants;
    mod tenants_at_random;
}
