//! Leases: one holder, fencing numbers that only grow, commits that a lost lease cannot make.

use super::*;
use dbaas_core::store::{Lease, LeaseToken};

async fn acquire(store: &dyn Store, name: &str, holder: &str, now: i64, ttl_ms: u64) -> Result<Lease, Lease> {
    store
        .acquire_lease(name, holder, at(now), ttl_ms)
        .await
        .expect("the store answers about leases")
}

pub(super) async fn holders_and_expiry(store: &dyn Store) {
    let a = acquire(store, "x", "a", 0, 100).await.expect("nobody holds it");
    assert_eq!(
        (a.holder.as_str(), a.expires_at, a.token.name.as_str()),
        ("a", at(100), "x")
    );
    assert!(a.token.fencing >= 1, "fencing numbers start at 1");
    let seen = acquire(store, "x", "b", 99, 100).await.expect_err("a holds it");
    assert_eq!(seen, a, "who is refused learns who holds it and until when");

    let renewed = acquire(store, "x", "a", 50, 100).await.expect("a renews");
    assert_eq!(
        (renewed.token.clone(), renewed.expires_at),
        (a.token.clone(), at(150)),
        "a renewal keeps the number"
    );
    acquire(store, "x", "b", 149, 100)
        .await
        .expect_err("the renewal counts");
    acquire(store, "y", "b", 0, 100).await.expect("names are apart");

    let b = acquire(store, "x", "b", 150, 100)
        .await
        .expect("it has expired at this very moment");
    assert!(
        b.token.fencing > a.token.fencing,
        "a new holder gets a higher number"
    );
    assert_eq!(
        acquire(store, "x", "a", 160, 100).await,
        Err(b.clone()),
        "a lost it"
    );
    let late = acquire(store, "x", "b", 9_000, 100)
        .await
        .expect("late, but before anybody else");
    assert_eq!(late.token, b.token, "nobody held it in between");
    let again = acquire(store, "x", "a", 20_000, 100).await.expect("expired");
    assert!(
        again.token.fencing > b.token.fencing,
        "a comes back with a higher number, not its old one"
    );
    acquire(store, "x", "b", 20_000, u64::MAX)
        .await
        .expect_err("a holds it");
    acquire(store, "x", "a", 20_000, u64::MAX)
        .await
        .expect("a lease as good as for ever");
    acquire(store, "x", "b", i64::MAX / 2, 1)
        .await
        .map_or_else(drop, drop);
}

pub(super) async fn release(store: &dyn Store) {
    let nothing = LeaseToken {
        name: "never".into(),
        fencing: 1,
    };
    store
        .release_lease(&nothing)
        .await
        .expect("to release what nobody holds is no error");
    let a = acquire(store, "x", "a", 0, 1000).await.expect("free");
    let old = LeaseToken {
        fencing: a.token.fencing - 1,
        ..a.token.clone()
    };
    store
        .release_lease(&old)
        .await
        .expect("to release a lost lease is no error");
    assert_eq!(
        acquire(store, "x", "b", 1, 1000).await,
        Err(a.clone()),
        "an old token releases nothing"
    );
    store.release_lease(&a.token).await.expect("a gives it back");
    store.release_lease(&a.token).await.expect("twice is no error");
    let b = acquire(store, "x", "b", 1, 1000).await.expect("free at once");
    assert!(b.token.fencing > a.token.fencing, "numbers grow across a release");
    store.release_lease(&b.token).await.expect("b gives it back");
    let again = acquire(store, "x", "b", 2, 1000).await.expect("free");
    assert!(
        again.token.fencing > b.token.fencing,
        "a released number is dead, for its holder too"
    );
}

pub(super) async fn fencing_of_commits(store: &dyn Store) {
    let under = |token: &LeaseToken, n| Batch {
        lease: Some(token.clone()),
        ops: vec![create(document(n))],
    };
    let lost = |result: Result<Vec<DocumentVersion>, StoreError>, why: &str| {
        let error = result.expect_err(why);
        assert_eq!(error.kind(), StoreErrorKind::LeaseLost, "{why}: {error}");
    };
    lost(
        store
            .commit(under(
                &LeaseToken {
                    name: "x".into(),
                    fencing: 1,
                },
                1,
            ))
            .await,
        "nobody holds it",
    );
    let a = acquire(store, "x", "a", 0, 100).await.expect("free");
    store.commit(under(&a.token, 1)).await.expect("a holds it");
    for fencing in [0, a.token.fencing + 1, u64::MAX] {
        lost(
            store
                .commit(under(
                    &LeaseToken {
                        name: "x".into(),
                        fencing,
                    },
                    2,
                ))
                .await,
            "not a's number",
        );
    }
    lost(
        store
            .commit(under(
                &LeaseToken {
                    name: "X".into(),
                    ..a.token.clone()
                },
                2,
            ))
            .await,
        "another name",
    );

    let b = acquire(store, "x", "b", 100, 100).await.expect("expired");
    lost(store.commit(under(&a.token, 2)).await, "b took it");
    // The lease is checked before anything else.
    lost(store.commit(under(&a.token, 1)).await, "b took it");
    let empty = Batch {
        lease: Some(a.token.clone()),
        ops: Vec::new(),
    };
    lost(
        store.commit(empty).await,
        "an empty batch tells whether the lease is held",
    );
    assert_eq!(get(store, key(2)).await, None, "a refused batch wrote nothing");
    store.commit(under(&b.token, 2)).await.expect("b holds it");

    store.release_lease(&b.token).await.expect("b gives it back");
    lost(store.commit(under(&b.token, 3)).await, "b gave it back");
    put(store, create(document(3))).await;
}
