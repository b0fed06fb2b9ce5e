//! Several callers at once: whatever the order, the outcome is one that some order gives.

use super::*;
use dbaas_core::store::{NewEvent, StoredEvent};
use tokio::task::JoinSet;

pub(super) async fn one_of_sixteen_equal_creates_wins(store: Arc<dyn Store>) {
    let equal_keys = |_| document(1);
    let equal_names = |n| named(100 + n, "same");
    let kinds = [StoreErrorKind::Conflict, StoreErrorKind::NameTaken];
    let documents: [&dyn Fn(u128) -> Document; 2] = [&equal_keys, &equal_names];
    for (make, kind) in documents.into_iter().zip(kinds) {
        let mut tasks = JoinSet::new();
        for n in 0..16 {
            let (store, document) = (Arc::clone(&store), make(n));
            tasks.spawn(async move { commit(&*store, [create(document)]).await });
        }
        let results = tasks.join_all().await;
        assert_eq!(
            results.iter().filter(|result| result.is_ok()).count(),
            1,
            "exactly one of sixteen wins"
        );
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}

pub(super) async fn counter_loses_no_increment(store: Arc<dyn Store>) {
    const TASKS: u64 = 8;
    const INCREMENTS: u64 = 20;
    put(
        &*store,
        create(Document {
            body: json!(0),
            ..document(1)
        }),
    )
    .await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut done = 0;
            // Each round somebody wins, so nobody needs more rounds than there are increments.
            for _ in 0..=TASKS * INCREMENTS {
                if done == INCREMENTS {
                    break;
                }
                let Some(stored) = get(&*store, key(1)).await else {
                    panic!("the counter is gone")
                };
                let count = stored.document.body.as_u64().expect("a number") + 1;
                let next = Document {
                    body: json!(count),
                    ..document(1)
                };
                // The log is written in the same batch: it must count the same.
                let event = NewEvent {
                    subject: Some(id(u128::from(task))),
                    at: at(0),
                    kind: "counted".into(),
                    message: count.to_string(),
                    node: None,
                };
                match commit(&*store, [Op::Append(event), update(next, stored.version)]).await {
                    Ok(_) => done += 1,
                    Err(error) => assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}"),
                }
            }
            done
        });
    }
    let done: u64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(done, TASKS * INCREMENTS, "everybody gets through");
    let count = get(&*store, key(1))
        .await
        .and_then(|stored| stored.document.body.as_u64());
    assert_eq!(count, Some(done), "no increment is lost");
    let events = store.events(None, 0, 1000).await.expect("events work");
    let counted: Vec<String> = events.into_iter().map(|stored| stored.event.message).collect();
    let expected: Vec<String> = (1..=done).map(|n| n.to_string()).collect();
    assert_eq!(counted, expected, "one event for each increment, in order");
}

pub(super) async fn one_of_eight_takes_the_lease(store: Arc<dyn Store>) {
    let mut last = 0;
    for round in 0..5 {
        let mut tasks = JoinSet::new();
        for n in 0..8 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let holder = format!("holder {round}-{n}");
                let now = at(round * 1000);
                store
                    .acquire_lease("x", &holder, now, 1000)
                    .await
                    .expect("the store answers about leases")
            });
        }
        let results = tasks.join_all().await;
        let (taken, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(taken.len(), 1, "exactly one of eight takes it");
        let Some(Ok(lease)) = taken.into_iter().next() else {
            panic!("one took it")
        };
        assert!(
            refused
                .into_iter()
                .filter_map(Result::err)
                .all(|seen| seen == lease),
            "the others see that one"
        );
        assert!(lease.token.fencing > last, "numbers grow with each holder");
        last = lease.token.fencing;
    }
}

pub(super) async fn a_following_reader_misses_no_event(store: Arc<dyn Store>) {
    const WRITERS: usize = 4;
    const EVENTS: usize = 25;
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for n in 0..EVENTS {
                let message = format!("{writer}:{n}");
                let event = NewEvent {
                    subject: None,
                    at: at(0),
                    kind: "e".into(),
                    message,
                    node: None,
                };
                commit(&*store, [Op::Append(event)])
                    .await
                    .expect("events are taken");
            }
        });
    }
    let mut followed: Vec<StoredEvent> = Vec::new();
    let read = async |followed: &mut Vec<StoredEvent>| {
        let after = followed.last().map_or(0, |last| last.sequence);
        let page = store.events(None, after, 7).await.expect("events work");
        followed.extend(page);
        tokio::task::yield_now().await;
    };
    while !tasks.is_empty() {
        read(&mut followed).await;
        while let Some(ended) = tasks.try_join_next() {
            ended.expect("the writer ends well");
        }
    }
    for _ in 0..WRITERS * EVENTS {
        read(&mut followed).await;
    }
    let all = store.events(None, 0, 1000).await.expect("events work");
    assert_eq!(all.len(), WRITERS * EVENTS);
    assert_eq!(
        followed, all,
        "a reader that follows the numbers sees every event once, in order"
    );
}
