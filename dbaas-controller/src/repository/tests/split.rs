//! Callers' writes beside the engine's.

use dbaas_core::access::{AccessEntry, AccessLevel};
use dbaas_core::extension::{ExtensionName, ExtensionStatus, Extensions};
use dbaas_core::instance::{DesiredState, InstancePhase, Requests, SwitchoverRequest};
use dbaas_core::lifecycle::{Lifecycle, LifecycleEvent};
use dbaas_core::store::Op;

use super::*;

async fn loaded<R: Record>(repository: &Repository, id: Uuid) -> Versioned<R> {
    repository.load(id).await.unwrap().unwrap()
}

/// What a caller does: reads, changes, writes.
async fn ask<R: Record + Clone>(repository: &Repository, id: Uuid, change: impl FnOnce(&mut R)) -> R {
    let read = loaded::<R>(repository, id).await;
    let mut record = read.record.clone();
    change(&mut record);
    repository
        .ask(Change::new(), &record, &read)
        .await
        .unwrap()
        .record
}

/// What the engine does: takes over what was asked for, and writes what it made of it.
async fn observe<R: Record + Clone>(
    repository: &Repository,
    id: Uuid,
    write: impl FnOnce(&mut R),
) -> Versioned<R> {
    let read = loaded::<R>(repository, id).await;
    let mut record = read.record.clone();
    write(&mut record);
    let (change, observed) = Change::new().observe(record, &read);
    let versions = repository.commit(change).await.unwrap();
    let written = observed.committed(&versions);
    assert!(written.parts.is_taken());
    let again = loaded::<R>(repository, id).await;
    assert_eq!(
        (again.version, again.observed()),
        (written.version, written.observed())
    );
    written
}

async fn new_instance(repository: &Repository) -> Uuid {
    let version = version();
    let instance = instance(&version, "orders");
    let change = Change::new().create(&version).create(&instance);
    repository.commit(change).await.unwrap();
    let id = instance.id.uuid();
    let read = loaded::<InstanceRecord>(repository, id).await;
    assert_eq!(read.record, instance);
    assert_eq!((read.observed(), read.parts.is_taken()), (Some(0), false));
    id
}

fn told(record: &mut InstanceRecord, said: &str) {
    record.generation += 1;
    record.status.lifecycle = record.status.lifecycle.transition(LifecycleEvent::WorkBegan);
    record.status.reason = said.to_owned();
}

fn switchover(ms: i64) -> SwitchoverRequest {
    SwitchoverRequest {
        to: None,
        at: now().plus_ms(ms.unsigned_abs()),
        by_controller: false,
        prepared: false,
        checkpoint_after: None,
    }
}

#[tokio::test]
async fn what_is_asked_for_is_seen_at_once_and_done_once() {
    let (_, repository) = repository();
    let id = new_instance(&repository).await;
    observe::<InstanceRecord>(&repository, id, |record| {
        record.status.lifecycle = Lifecycle::Active;
        record.status.reason = "as asked for".to_owned();
    })
    .await;
    let asked = ask::<InstanceRecord>(&repository, id, |record| {
        record.requests.restart = Some(now());
        told(record, "about to restart");
    })
    .await;
    assert_eq!((asked.requests.restart, asked.generation), (Some(now()), 2));
    let read = loaded::<InstanceRecord>(&repository, id).await;
    assert_eq!(read.record, asked);
    assert_eq!(
        (read.record.status.lifecycle, read.record.status.reason.as_str()),
        (Lifecycle::InProgress, "about to restart")
    );
    assert!(!read.parts.is_taken());

    // The engine takes it over and goes on with a copy of its own; what it has done is not asked for again.
    observe::<InstanceRecord>(&repository, id, |record| {
        record.status.reason = "restarting".to_owned();
    })
    .await;
    let read = loaded::<InstanceRecord>(&repository, id).await;
    assert_eq!(read.record.requests.restart, Some(now()));
    assert_eq!(read.record.status.reason, "restarting");
    observe::<InstanceRecord>(&repository, id, |record| record.requests.restart = None).await;
    let grown = ask::<InstanceRecord>(&repository, id, |record| {
        record.spec.nodes = NodeCount::new(3).unwrap();
        told(record, "about to grow");
    })
    .await;
    assert_eq!(grown.requests, Requests::default());
}

#[tokio::test]
async fn a_stop_withdraws_what_was_asked_for_before_it_and_nothing_after_it() {
    let (_, repository) = repository();
    let id = new_instance(&repository).await;
    // One that is being carried out, and one that nobody has seen.
    ask::<InstanceRecord>(&repository, id, |record| {
        record.requests.switchover = Some(switchover(1));
        told(record, "a");
    })
    .await;
    observe::<InstanceRecord>(&repository, id, |_| {}).await;
    ask::<InstanceRecord>(&repository, id, |record| {
        record.requests.restart = Some(now());
        told(record, "b");
    })
    .await;
    let stopped = ask::<InstanceRecord>(&repository, id, |record| {
        record.desired = DesiredState::Stopped;
        record.requests = Requests::default();
        told(record, "c");
    })
    .await;
    assert_eq!(stopped.requests, Requests::default());
    let started = ask::<InstanceRecord>(&repository, id, |record| {
        record.desired = DesiredState::Running;
        told(record, "d");
    })
    .await;
    assert_eq!(
        started.requests,
        Requests::default(),
        "and so it is after the start"
    );
    let asked = ask::<InstanceRecord>(&repository, id, |record| {
        record.requests.switchover = Some(switchover(2));
        told(record, "e");
    })
    .await;
    assert_eq!(asked.requests.switchover, Some(switchover(2)));
    let taken = observe::<InstanceRecord>(&repository, id, |_| {}).await;
    assert_eq!(taken.record.requests, asked.requests);
    let read = loaded::<InstanceRecord>(&repository, id).await;
    assert_eq!(read.record.requests, asked.requests);
}

#[tokio::test]
async fn the_engines_own_request_outlives_a_callers_change() {
    let (_, repository) = repository();
    let id = new_instance(&repository).await;
    let own = SwitchoverRequest {
        by_controller: true,
        ..switchover(0)
    };
    observe::<InstanceRecord>(&repository, id, |record| {
        record.requests.switchover = Some(own.clone());
    })
    .await;
    let asked = ask::<InstanceRecord>(&repository, id, |record| {
        record.requests.restart = Some(now());
        told(record, "a");
    })
    .await;
    assert_eq!(asked.requests.switchover, Some(own));
    // Done by the engine: a caller's change after that does not bring it back.
    observe::<InstanceRecord>(&repository, id, |record| record.requests = Requests::default()).await;
    let asked = ask::<InstanceRecord>(&repository, id, |record| told(record, "b")).await;
    assert_eq!(asked.requests, Requests::default());
}

#[tokio::test]
async fn a_deletion_is_told_before_the_engine_sees_it() {
    let (_, repository) = repository();
    let id = new_instance(&repository).await;
    observe::<InstanceRecord>(&repository, id, |record| {
        record.status.phase = InstancePhase::Running
    })
    .await;
    ask::<InstanceRecord>(&repository, id, |record| {
        record.desired = DesiredState::Deleted;
        told(record, "about to go");
    })
    .await;
    let read = loaded::<InstanceRecord>(&repository, id).await;
    assert_eq!(read.record.status.phase, InstancePhase::Deleting);
}

#[tokio::test]
async fn the_engine_writes_what_differs_alone_and_never_over_a_callers_change() {
    let (_, repository) = repository();
    let id = new_instance(&repository).await;
    observe::<InstanceRecord>(&repository, id, |record| {
        record.sealed_credentials = "sealed".to_owned();
    })
    .await;
    let read = loaded::<InstanceRecord>(&repository, id).await;
    let mut record = read.record.clone();
    record.status.reason = "another".to_owned();
    let (change, _) = Change::new().observe(record.clone(), &read);
    let batch = change.into_batch().unwrap();
    let written: Vec<_> = batch
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::Put(document, _) => Some(document.key.kind),
            _ => None,
        })
        .collect();
    assert_eq!(written, ["instance_status"]);
    let (change, _) = Change::new().observe(read.record.clone(), &read);
    assert!(change.writes_nothing());

    ask::<InstanceRecord>(&repository, id, |record| told(record, "b")).await;
    let (change, _) = Change::new().observe(record, &read);
    let error = repository.commit(change).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Conflict);

    // And a caller's change is not kept from being written by the engine.
    let read = loaded::<InstanceRecord>(&repository, id).await;
    observe::<InstanceRecord>(&repository, id, |record| record.next_node_number = 7).await;
    let mut record = read.record.clone();
    told(&mut record, "c");
    repository.ask(Change::new(), &record, &read).await.unwrap();
    let after = loaded::<InstanceRecord>(&repository, id).await;
    assert_eq!(
        (after.record.next_node_number, after.record.generation),
        (7, record.generation)
    );
    assert_eq!(after.record.sealed_credentials, "sealed");
}

#[tokio::test]
async fn every_owner_that_was_taken_over_is_a_former_one_and_nobody_else() {
    let (_, repository) = repository();
    let instance = InstanceId::from_uuid(Uuid::now_v7());
    let [a, b, c] = ["a", "b", "c"].map(|name| user(instance, name));
    let shop = database(&a, "shop");
    let id = shop.id.uuid();
    repository.commit(Change::new().create(&shop)).await.unwrap();
    let give = |to: UserId| move |record: &mut DatabaseRecord| record.owner = to;
    // Nobody had seen the first one.
    let given = ask(&repository, id, give(b.id)).await;
    assert_eq!(given.former_owners, []);
    observe::<DatabaseRecord>(&repository, id, |_| {}).await;
    // Nobody has seen `c`.
    let given = ask(&repository, id, give(c.id)).await;
    assert_eq!(given.former_owners, [b.id]);
    let given = ask(&repository, id, give(a.id)).await;
    assert_eq!(given.former_owners, [b.id]);
    observe::<DatabaseRecord>(&repository, id, |_| {}).await;
    let given = ask(&repository, id, give(b.id)).await;
    assert_eq!(given.former_owners, [a.id], "the owner is no former one");
    let taken = observe::<DatabaseRecord>(&repository, id, |record| record.former_owners.clear()).await;
    assert_eq!(taken.record.former_owners, []);
    assert_eq!(
        loaded::<DatabaseRecord>(&repository, id).await.record,
        taken.record
    );
}

#[tokio::test]
async fn who_has_lost_access_is_noted_until_the_engine_has_seen_to_it() {
    let (_, repository) = repository();
    let instance = InstanceId::from_uuid(Uuid::now_v7());
    let [owner, reader, writer] = ["owner", "reader", "writer"].map(|name| user(instance, name));
    let entry = |user: &UserRecord, level| AccessEntry { user: user.id, level };
    let mut shop = database(&owner, "shop");
    shop.access.entries = vec![
        entry(&reader, AccessLevel::Read),
        entry(&writer, AccessLevel::Write),
    ];
    let id = shop.id.uuid();
    repository.commit(Change::new().create(&shop)).await.unwrap();
    assert_eq!(
        loaded::<DatabaseRecord>(&repository, id).await.record.access,
        shop.access
    );
    observe::<DatabaseRecord>(&repository, id, |_| {}).await;
    let lesser = vec![entry(&writer, AccessLevel::Read)];
    let asked = ask::<DatabaseRecord>(&repository, id, |record| {
        record.access.entries.clone_from(&lesser);
    })
    .await;
    assert_eq!(asked.access.entries, lesser);
    assert_eq!(asked.access.taken_back, [reader.id, writer.id]);
    // The owner has nothing to lose.
    let asked = ask::<DatabaseRecord>(&repository, id, |record| record.owner = reader.id).await;
    assert_eq!(asked.access.taken_back, [writer.id]);
    let taken = observe::<DatabaseRecord>(&repository, id, |record| record.access.taken_back.clear()).await;
    assert_eq!(
        loaded::<DatabaseRecord>(&repository, id).await.record,
        taken.record
    );
}

#[tokio::test]
async fn extensions_that_were_taken_over_are_to_go_when_they_are_left_out() {
    let (_, repository) = repository();
    let owner = user(InstanceId::from_uuid(Uuid::now_v7()), "owner");
    let [a, b, c] = ["a", "b", "c"].map(|name| name.parse::<ExtensionName>().unwrap());
    let mut shop = database(&owner, "shop");
    shop.extensions = Extensions::of(&[a.clone(), b.clone()]);
    let id = shop.id.uuid();
    repository.commit(Change::new().create(&shop)).await.unwrap();
    assert_eq!(loaded::<DatabaseRecord>(&repository, id).await.record, shop);
    let seen = ExtensionStatus {
        name: a.clone(),
        installed: Some("1".to_owned()),
        available: Some("2".to_owned()),
        problem: None,
    };
    let taken = observe::<DatabaseRecord>(&repository, id, |record| {
        record.extensions.seen = vec![seen.clone()];
    })
    .await;
    assert_eq!(
        loaded::<DatabaseRecord>(&repository, id).await.record,
        taken.record
    );

    // `c` is asked for and taken back before anybody sees it.
    for names in [vec![a.clone(), c.clone()], vec![a.clone()]] {
        ask::<DatabaseRecord>(&repository, id, |record| {
            record.extensions.set(&names);
        })
        .await;
    }
    let asked = ask::<DatabaseRecord>(&repository, id, |record| {
        assert!(record.extensions.request_update(now()));
    })
    .await;
    assert_eq!(asked.extensions.names, std::slice::from_ref(&a));
    assert_eq!(asked.extensions.removed, [b]);
    assert_eq!(asked.extensions.update_requested_at, Some(now()));
    assert!(asked.extensions.seen.is_empty(), "to be seen anew");
    let taken = observe::<DatabaseRecord>(&repository, id, |record| {
        record.extensions.removed.clear();
        record.extensions.update_requested_at = None;
    })
    .await;
    let described = ask::<DatabaseRecord>(&repository, id, |record| {
        record.description = Description::new("text").unwrap();
    })
    .await;
    assert_eq!(
        described.extensions, taken.record.extensions,
        "the update is done once"
    );
}

#[tokio::test]
async fn adoption_and_repair_are_asked_for_once() {
    let (_, repository) = repository();
    let app = user(InstanceId::from_uuid(Uuid::now_v7()), "app");
    let id = app.id.uuid();
    repository.commit(Change::new().create(&app)).await.unwrap();
    observe::<UserRecord>(&repository, id, |record| {
        record.lifecycle = ObjectLifecycle::Active;
        record.reason = "as asked for".to_owned();
    })
    .await;
    let asked = ask::<UserRecord>(&repository, id, |record| {
        record.adopting = true;
        record.reason = "about to be taken over".to_owned();
    })
    .await;
    assert!(asked.adopting);
    assert_eq!(
        (asked.lifecycle, asked.reason.as_str()),
        (ObjectLifecycle::New, "about to be taken over")
    );
    // Another change in between leaves what was told.
    let asked = ask::<UserRecord>(&repository, id, |record| record.repair.request(now())).await;
    assert!(asked.adopting && asked.reason == "about to be taken over");
    assert_eq!(asked.repair.requested_at, Some(now()));
    let taken = observe::<UserRecord>(&repository, id, |record| {
        record.adopting = false;
        record.repair.finish(now().plus_ms(5));
        record.lifecycle = ObjectLifecycle::Active;
        record.reason = "as asked for".to_owned();
    })
    .await;
    let described = ask::<UserRecord>(&repository, id, |record| {
        record.description = Description::new("text").unwrap();
    })
    .await;
    let expected = UserRecord {
        description: Description::new("text").unwrap(),
        ..taken.record
    };
    assert_eq!(
        described, expected,
        "nothing is done again, and it is as active as it was"
    );
}

#[tokio::test]
async fn pages_find_the_parts_of_every_record() {
    let (_, repository) = repository();
    let instance = InstanceId::from_uuid(Uuid::now_v7());
    let mut ids = Vec::new();
    for n in 0..10 {
        let user = user(instance, &format!("u{n}"));
        repository.commit(Change::new().create(&user)).await.unwrap();
        ids.push(user.id.uuid());
        // The engine has seen every third one only.
        if n % 3 == 0 {
            observe::<UserRecord>(&repository, user.id.uuid(), |record| {
                record.reason = format!("seen {n}")
            })
            .await;
        }
    }
    for limit in [1, 3, 4, 10, 20] {
        let mut found = Vec::new();
        loop {
            let after = found
                .last()
                .map(|last: &Versioned<UserRecord>| last.record.uuid());
            let page = repository
                .page::<UserRecord>(Some(instance.uuid()), after, limit)
                .await
                .unwrap();
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found.len(), ids.len());
        for (n, (found, id)) in found.iter().zip(&ids).enumerate() {
            assert_eq!(found, &loaded::<UserRecord>(&repository, *id).await);
            assert_eq!(found.record.reason == format!("seen {n}"), n % 3 == 0);
        }
    }
}

#[tokio::test]
async fn a_page_that_lost_a_record_meanwhile_still_finds_the_parts_of_its_last_one() {
    let (store, repository) = repository();
    let instance = InstanceId::from_uuid(Uuid::now_v7());
    let mut users = Vec::new();
    for n in 0..3 {
        let user = user(instance, &format!("u{n}"));
        repository.commit(Change::new().create(&user)).await.unwrap();
        users.push(
            observe::<UserRecord>(&repository, user.id.uuid(), |record| {
                record.reason = "seen".to_owned()
            })
            .await,
        );
    }
    // The first one is removed after its parts were listed.
    let batch = Change::new().delete(&users[0]).into_batch().unwrap();
    let weak = Arc::downgrade(&store);
    let batch = std::sync::Mutex::new(Some(batch));
    store.set_fault(Some(Arc::new(move |call| {
        use dbaas_testkit::memory_store::StoreCall;
        use futures_util::FutureExt as _;
        if let StoreCall::List(query) = call
            && query.kind == UserRecord::KIND
            && let Some(batch) = batch.lock().unwrap().take()
            && let Some(store) = weak.upgrade()
        {
            store.commit(batch).now_or_never().unwrap().unwrap();
        }
        Fault::None
    })));
    let page = repository
        .page::<UserRecord>(Some(instance.uuid()), None, 2)
        .await
        .unwrap();
    assert_eq!(page, users[1..]);
}

#[tokio::test]
async fn nothing_of_a_record_that_was_removed_is_left() {
    let (store, repository) = repository();
    let id = new_instance(&repository).await;
    let documents = store.document_count();
    observe::<InstanceRecord>(&repository, id, |record| {
        record.next_node_number = 2;
    })
    .await;
    assert_eq!(store.document_count(), documents + 2);
    let read = loaded::<InstanceRecord>(&repository, id).await;
    repository
        .commit(Change::new().remove_instance(&read, &[], &[]))
        .await
        .unwrap();
    assert_eq!(store.document_count(), documents - 1);
}
