use dbaas_core::limits::IDEMPOTENCY_TTL_MS;

use super::*;
use crate::repository::IdempotencyRecord;

#[tokio::test]
async fn the_same_call_again_makes_nothing_new() {
    let world = World::new().await;
    let first = world
        .control
        .create_instance(world.request("orders").keyed(key("k", 1)))
        .await
        .unwrap();
    let documents = world.store.document_count();
    let again = world
        .control
        .create_instance(world.request("orders").keyed(key("k", 1)))
        .await
        .unwrap();
    assert_eq!(again, first);
    assert_eq!(world.store.document_count(), documents);

    // As it is now, not as it was.
    world.converge(first.id).await;
    let documents = world.store.document_count();
    let again = world
        .control
        .create_instance(world.request("orders").keyed(key("k", 1)))
        .await
        .unwrap();
    assert_eq!(again.status.lifecycle, Lifecycle::Active);

    let other = world
        .control
        .create_instance(world.request("other").keyed(key("k", 2)))
        .await;
    assert!(
        matches!(other, Err(ControlError::IdempotencyMismatch)),
        "{other:?}"
    );
    let taken = world
        .control
        .create_instance(world.request("orders").keyed(key("l", 1)))
        .await;
    assert!(matches!(taken, Err(ControlError::NameTaken { .. })), "{taken:?}");
    assert_eq!(
        world.store.document_count(),
        documents,
        "a refused call leaves no key behind"
    );

    world.control.delete_instance(first.id, None).await.unwrap();
    world.engine_removes(first.id).await;
    let gone = world
        .control
        .create_instance(world.request("orders").keyed(key("k", 1)))
        .await;
    assert!(matches!(gone, Err(ControlError::NotFound { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day_whether_or_not_the_store_was_tidied() {
    let world = World::new().await;
    for tidied in [false, true] {
        let name = format!("orders-{tidied}");
        let k = || key(&name, 1);
        world
            .control
            .create_instance(world.request(&name).keyed(k()))
            .await
            .unwrap();
        world
            .clock
            .advance(i64::try_from(IDEMPOTENCY_TTL_MS).unwrap() - 1_000);
        world
            .control
            .create_instance(world.request(&name).keyed(k()))
            .await
            .unwrap();
        world.clock.advance(1_000);
        if tidied {
            assert!(world.store.expire(world.clock.now(), 1_000).await.unwrap() > 0);
        }
        let taken = world
            .control
            .create_instance(world.request(&name).keyed(k()))
            .await;
        assert!(matches!(taken, Err(ControlError::NameTaken { .. })), "{taken:?}");
        let renamed = world
            .control
            .create_instance(world.request(&format!("{name}-2")).keyed(key(&name, 2)))
            .await;
        assert!(renamed.is_ok(), "{renamed:?}");
    }
}

#[tokio::test]
async fn keys_of_users_and_databases_are_their_instances() {
    let world = World::new().await;
    let (one, two) = (world.instance("one").await, world.instance("two").await);
    let first = world
        .control
        .create_user(one, create_user("app").keyed(key("k", 1)))
        .await
        .unwrap();
    let again = world
        .control
        .create_user(one, create_user("app").keyed(key("k", 1)))
        .await
        .unwrap();
    assert_eq!(again, first, "the verifier of the first call, not a new one");
    let elsewhere = world
        .control
        .create_user(two, create_user("app").keyed(key("k", 1)))
        .await
        .unwrap();
    assert_ne!(elsewhere.id, first.id);

    let request = || create_database("shop", first.id);
    let database = world
        .control
        .create_database(one, request().keyed(key("k", 1)))
        .await
        .unwrap();
    let again = world
        .control
        .create_database(one, request().keyed(key("k", 1)))
        .await
        .unwrap();
    assert_eq!(again, database);
    let mismatch = world
        .control
        .create_database(one, create_database("x", first.id).keyed(key("k", 3)))
        .await;
    assert!(
        matches!(mismatch, Err(ControlError::IdempotencyMismatch)),
        "{mismatch:?}"
    );
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_can_be_repeated() {
    let world = World::new().await;
    // The answer of the commit is lost, and so is the read after it.
    let lost = Arc::new(AtomicBool::new(false));
    world
        .store
        .set_fault(Some(Arc::new(move |call: &StoreCall<'_>| match call {
            StoreCall::Commit(_) if !lost.swap(true, Ordering::SeqCst) => Fault::AnswerLost,
            StoreCall::Get(key) if key.kind == "instance" && lost.load(Ordering::SeqCst) => {
                Fault::RequestLost
            }
            _ => Fault::None,
        })));
    let unknown = world
        .control
        .create_instance(world.request("orders").keyed(key("k", 1)))
        .await;
    assert!(
        matches!(
            unknown,
            Err(ControlError::Unavailable {
                outcome_unknown: true,
                ..
            })
        ),
        "{unknown:?}"
    );
    world.store.set_fault(None);
    let made = world
        .control
        .create_instance(world.request("orders").keyed(key("k", 1)))
        .await
        .unwrap();
    assert_eq!(made.spec.name.as_str(), "orders");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_at_once_with_one_key_make_one() {
    let world = Arc::new(World::new().await);
    for round in 0..10 {
        let name = format!("orders-{round}");
        let calls: Vec<_> = (0..16)
            .map(|_| {
                let (world, name) = (world.clone(), name.clone());
                tokio::spawn(async move {
                    world
                        .control
                        .create_instance(world.request(&name).keyed(key(&name, 1)))
                        .await
                })
            })
            .collect();
        let mut made = Vec::new();
        for call in calls {
            made.push(call.await.unwrap().unwrap());
        }
        assert!(made.iter().all(|other| *other == made[0]), "{made:?}");
    }
    let page = Page {
        after: None,
        limit: 1_000,
    };
    assert_eq!(
        world
            .control
            .instances(Default::default(), page)
            .await
            .unwrap()
            .items
            .len(),
        10
    );
}

#[tokio::test]
async fn a_key_that_won_between_look_and_refusal_still_answers() {
    let world = World::new().await;
    let made = world
        .control
        .create_instance(world.request("orders").keyed(key("k", 1)))
        .await
        .unwrap();
    let id = IdempotencyRecord::id_of(&format!("instance/{}", ProjectId::DEFAULT), "k");
    let read = world
        .repository()
        .load::<IdempotencyRecord>(id)
        .await
        .unwrap()
        .unwrap();
    world
        .repository()
        .commit(Change::new().delete(&read))
        .await
        .unwrap();
    // This call sees no key; then the first one's key appears, and its version is not to be had any more.
    let version = made.spec.version.uuid();
    world.before_next(
        |call| matches!(call, StoreCall::Get(key) if key.kind == "version"),
        move |store| {
            commit_now(store, Change::new().create(&read.record));
            rewrite::<dbaas_core::version::VersionRecord>(store, version, |body| {
                body["deprecated"] = true.into()
            });
        },
    );
    let again = world
        .control
        .create_instance(world.request("orders").keyed(key("k", 1)))
        .await
        .unwrap();
    assert_eq!(again, made);
}
