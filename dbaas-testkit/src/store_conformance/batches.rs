//! Batches: order within, references, all or nothing.

use super::*;
use dbaas_core::store::{ListQuery, NewEvent, REFERRERS_MAX};

fn referring(n: u128, to: &[u128]) -> Document {
    Document {
        references: to.iter().map(|n| id(*n)).collect(),
        ..document(n)
    }
}

fn event() -> Op {
    let subject = Some(id(1));
    Op::Append(NewEvent {
        subject,
        at: at(0),
        kind: "seen".into(),
        message: "seen".into(),
        node: None,
    })
}

pub(super) async fn operations_see_those_before_them(store: &dyn Store) {
    use StoreErrorKind::{Conflict, NameTaken};
    let first = put(store, create(named(1, "a"))).await;
    let next = DocumentVersion(first.0 + 1);
    let versions = commit(
        store,
        [
            update(document(1), first),
            create(named(2, "a")),
            event(),
            Op::Require(key(1), Precondition::MatchesVersion(next)),
            update(named(1, "b"), next),
        ],
    );
    let versions = versions.await.expect("each operation sees those before it");
    assert_eq!(versions.len(), 3, "one version for every Put, in order");
    assert_eq!((versions[0], versions[2]), (next, DocumentVersion(next.0 + 1)));
    assert_eq!(
        store
            .find(THING, "a")
            .await
            .expect("find works")
            .map(|d| d.document.key),
        Some(key(2))
    );

    // The other way round the name is still taken when it is asked for.
    let ops = [create(named(3, "b")), Op::Delete(key(1), versions[2])];
    refused(store, ops, NameTaken, 0).await;
    refused(store, [create(document(3)), create(document(3))], Conflict, 1).await;
    refused(
        store,
        [Op::Delete(key(1), versions[2]), Op::Delete(key(1), versions[2])],
        Conflict,
        1,
    )
    .await;
    let ops = [
        create(document(3)),
        Op::Require(key(3), Precondition::DoesNotExist),
        create(named(4, "a")),
    ];
    refused(store, ops, Conflict, 1).await;
    assert_eq!(get(store, key(3)).await, None);
}

pub(super) async fn references(store: &dyn Store) {
    use StoreErrorKind::Referenced;
    let target = put(store, create(document(1))).await;
    commit(store, [Op::RequireUnreferenced(id(1))])
        .await
        .expect("nothing refers to it yet");
    let two = put(store, create(referring(2, &[1, 1, 5]))).await;
    let three = put(store, create(referring(3, &[1]))).await;

    let delete = || {
        [
            event(),
            Op::Delete(key(1), target),
            Op::RequireUnreferenced(id(1)),
        ]
    };
    let mut referrers = refused(store, delete(), Referenced, 2).await.referrers;
    referrers.sort_unstable();
    assert_eq!(referrers, [id(2), id(3)], "the error names who refers");
    assert!(get(store, key(1)).await.is_some());
    refused(store, [Op::RequireUnreferenced(id(5))], Referenced, 0).await;

    // Seen as the batch leaves it, wherever the operation stands.
    let ops = [Op::RequireUnreferenced(id(9)), create(referring(9, &[9]))];
    refused(store, ops, Referenced, 0).await;
    let three = put(store, update(document(3), three)).await;
    let ops = [
        Op::RequireUnreferenced(id(1)),
        Op::Delete(key(1), target),
        Op::Delete(key(2), two),
    ];
    commit(store, ops)
        .await
        .expect("the only referrer goes in the same batch");
    assert_eq!((get(store, key(1)).await, get(store, key(2)).await), (None, None));
    commit(store, [Op::RequireUnreferenced(id(5))])
        .await
        .expect("the referrer is gone");

    // What is refused for another reason is reported first.
    put(store, update(referring(3, &[8]), three)).await;
    let ops = [Op::RequireUnreferenced(id(8)), create(document(3))];
    refused(store, ops, StoreErrorKind::Conflict, 1).await;

    commit(store, (100..140).map(|n| create(referring(n, &[7]))))
        .await
        .expect("many may refer");
    let error = refused(store, [Op::RequireUnreferenced(id(7))], Referenced, 0).await;
    assert!(
        (1..=REFERRERS_MAX).contains(&error.referrers.len()),
        "some of the referrers are named"
    );
}

pub(super) async fn a_refused_batch_leaves_nothing(store: &dyn Store) {
    let kept = put(
        store,
        create(Document {
            parent: Some(id(70)),
            ..referring(1, &[60])
        }),
    )
    .await;
    let gone = put(store, create(named(2, "old"))).await;
    let good = || {
        vec![
            create(named(10, "new")),
            create(Document {
                parent: Some(id(70)),
                ..referring(11, &[61])
            }),
            update(named(1, "renamed"), kept),
            Op::Delete(key(2), gone),
            event(),
            Op::Require(key(10), Precondition::MatchesVersion(DocumentVersion(u64::MAX))),
        ]
    };
    let bad: [(Op, StoreErrorKind); 5] = [
        (create(document(1)), StoreErrorKind::Conflict),
        (Op::Delete(key(50), DocumentVersion(1)), StoreErrorKind::Conflict),
        (
            Op::Require(key(50), Precondition::MatchesVersion(DocumentVersion(1))),
            StoreErrorKind::Conflict,
        ),
        (create(named(51, "taken")), StoreErrorKind::NameTaken),
        (Op::RequireUnreferenced(id(62)), StoreErrorKind::Referenced),
    ];
    put(
        store,
        create(Document {
            references: vec![id(62)],
            ..named(3, "taken")
        }),
    )
    .await;
    let listing = || async {
        let list = |parent| {
            store.list(ListQuery {
                kind: THING,
                parent,
                after: None,
                limit: 100,
            })
        };
        let events = store.events(None, 0, 100).await.expect("events work");
        let all = list(None).await.expect("list works");
        (all, list(Some(id(70))).await.expect("list works"), events)
    };
    let before = listing().await;
    for (bad, kind) in bad {
        for position in 0..good().len() {
            let mut ops = good();
            ops.pop();
            ops.insert(position, bad.clone());
            refused(store, ops, kind, position).await;
            assert_eq!(
                listing().await,
                before,
                "a batch refused at operation {position} ({kind:?}) left something"
            );
            assert_eq!(store.find(THING, "new").await.expect("find works"), None);
            assert_eq!(store.find(THING, "renamed").await.expect("find works"), None);
            let old = store.find(THING, "old").await.expect("find works");
            assert_eq!(old.map(|found| found.version), Some(gone));
            commit(store, [Op::RequireUnreferenced(id(61))])
                .await
                .expect("no reference was left");
            refused(
                store,
                [Op::RequireUnreferenced(id(60))],
                StoreErrorKind::Referenced,
                0,
            )
            .await;
        }
    }
    let last = good().len() - 1;
    refused(store, good(), StoreErrorKind::Conflict, last).await;
    let mut ops = good();
    ops.pop();
    commit(store, ops)
        .await
        .expect("without the bad operation it is taken");
}
