//! The event log: order, paging, subjects, retention.

use super::*;
use dbaas_core::store::{EVENTS_LIMIT_MAX, NewEvent, StoredEvent};

fn event(subject: Option<Uuid>, message: &str) -> NewEvent {
    NewEvent {
        subject,
        at: at(3),
        kind: "changed".into(),
        message: message.into(),
        node: None,
    }
}

async fn append(store: &dyn Store, events: impl IntoIterator<Item = NewEvent>) {
    commit(store, events.into_iter().map(Op::Append))
        .await
        .expect("events are taken");
}

async fn read(store: &dyn Store, subject: Option<Uuid>, after: u64, limit: usize) -> Vec<StoredEvent> {
    store
        .events(subject, after, limit)
        .await
        .expect("events are read")
}

fn messages(events: &[StoredEvent]) -> Vec<&str> {
    events
        .iter()
        .map(|stored| stored.event.message.as_str())
        .collect()
}

pub(super) async fn order_paging_and_subjects(store: &dyn Store) {
    assert_eq!(read(store, None, 0, 10).await, [], "a new log is empty");
    let full = NewEvent {
        subject: Some(id(1)),
        at: at(-7),
        kind: "failover_started".into(),
        message: "\u{1F418} \"'\n".into(),
        node: Some(id(9)),
    };
    append(store, [full.clone()]).await;
    // A moment that lies earlier does not change the order: that is the order of appending.
    append(
        store,
        [event(Some(id(2)), "1"), event(None, "2"), event(Some(id(1)), "3")],
    )
    .await;
    let all = read(store, None, 0, 100).await;
    assert_eq!(all[0].event, full, "an event comes back as written");
    assert_eq!(messages(&all[1..]), ["1", "2", "3"], "in order of appending");
    assert!(all[0].sequence >= 1, "numbers start at 1");
    assert!(
        all.windows(2).all(|pair| pair[0].sequence < pair[1].sequence),
        "numbers increase"
    );

    let one = read(store, Some(id(1)), 0, 100).await;
    assert_eq!(
        one,
        [all[0].clone(), all[3].clone()],
        "a subject's events, with their numbers in the whole log"
    );
    assert_eq!(read(store, Some(id(1)), one[0].sequence, 100).await, one[1..]);
    assert_eq!(read(store, Some(id(77)), 0, 100).await, []);
    assert_eq!(
        read(store, Some(Uuid::nil()), 0, 100).await,
        [],
        "no subject is not the nil id"
    );

    for limit in 1..=5 {
        let mut paged: Vec<StoredEvent> = Vec::new();
        loop {
            let page = read(store, None, paged.last().map_or(0, |last| last.sequence), limit).await;
            assert!(page.len() <= limit);
            if page.is_empty() || paged.len() > all.len() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all, "pages of {limit}");
    }
    assert_eq!(
        read(store, None, 0, 0).await.len(),
        1,
        "a limit of 0 is taken as 1"
    );
    assert_eq!(read(store, None, u64::MAX, 10).await, []);
    append(store, (0..EVENTS_LIMIT_MAX).map(|n| event(None, &n.to_string()))).await;
    assert_eq!(
        read(store, None, 0, usize::MAX).await.len(),
        EVENTS_LIMIT_MAX,
        "a limit that is too large is cut"
    );
}

pub(super) async fn retention(store: &dyn Store) {
    for n in 0..10 {
        let n = n.to_string();
        append(store, [event(Some(id(1)), &n), event(None, &n)]).await;
    }
    append(store, [event(Some(id(2)), "rare")]).await;
    let before = read(store, None, 0, 100).await;
    assert_eq!(
        store.expire(at(0), 10).await.expect("expire works"),
        0,
        "events are not counted"
    );
    assert_eq!(read(store, None, 0, 100).await, before, "as many as are kept");
    store.expire(at(0), 3).await.expect("expire works");
    assert_eq!(
        messages(&read(store, Some(id(1)), 0, 100).await),
        ["7", "8", "9"],
        "the newest are kept"
    );
    assert_eq!(
        messages(&read(store, Some(id(2)), 0, 100).await),
        ["rare"],
        "each subject for itself"
    );
    let left = read(store, None, 0, 100).await;
    assert_eq!(left.len(), 7, "no subject is a subject too");
    assert!(left.iter().all(|stored| before.contains(stored)), "numbers stay");

    store.expire(at(0), 0).await.expect("expire works");
    assert_eq!(read(store, None, 0, 100).await, []);
    append(store, [event(Some(id(1)), "new")]).await;
    let new = read(store, Some(id(1)), 0, 100).await;
    let last = before.last().map_or(0, |stored| stored.sequence);
    assert!(
        new[0].sequence > last,
        "numbers are never used again, also after the log was emptied"
    );
    store.expire(at(0), 1).await.expect("expire works");
    assert_eq!(read(store, None, last, 100).await, new);
}
