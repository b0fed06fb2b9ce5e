use dbaas_core::lifecycle::ObjectLifecycle;
use tokio::time::Instant;

use super::*;
use crate::request::InstanceAction;

const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_hint_ends_the_wait_at_once() {
    let world = Arc::new(World::new().await);
    let id = world.instance("orders").await;
    let began = Instant::now();
    let waiting = {
        let control = world.control.clone();
        tokio::spawn(async move { control.wait_for_instance(id, Lifecycle::Active, LONG).await })
    };
    tokio::time::sleep(Duration::from_millis(1_250)).await;
    world.converge(id).await;
    let found = waiting.await.unwrap().unwrap();
    assert_eq!(found.status.lifecycle, Lifecycle::Active);
    assert!(
        began.elapsed() < Duration::from_millis(1_260),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_without_a_hint_is_seen_by_polling() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let user = world.user(id, "app").await;
    let waiting = {
        let control = world.control.clone();
        tokio::spawn(async move {
            control
                .wait_for_user(id, user, ObjectLifecycle::Active, LONG)
                .await
        })
    };
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let read = world.user_record(user).await;
    let mut record = read.record.clone();
    record.lifecycle = ObjectLifecycle::Active;
    world.engine_sees(&read, record).await;
    let began = Instant::now();
    assert_eq!(waiting.await.unwrap().unwrap().lifecycle, ObjectLifecycle::Active);
    assert!(began.elapsed() <= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_deadline_says_what_the_state_is() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let began = Instant::now();
    match world
        .control
        .wait_for_instance(id, Lifecycle::Active, Duration::from_millis(2_300))
        .await
    {
        Err(ControlError::Deadline { state, reason }) => {
            assert_eq!(state, "NEW");
            assert!(reason.contains("about to be created"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(
        began.elapsed() >= Duration::from_millis(2_300) && began.elapsed() < Duration::from_millis(2_400)
    );
    // Nobody waits for more than ten minutes, and nobody who does not want to.
    let began = Instant::now();
    let user = world.user(id, "app").await;
    let database = world.database(id, "shop", user).await;
    let waited = world
        .control
        .wait_for_database(id, database, ObjectLifecycle::Active, Duration::MAX)
        .await;
    assert!(
        matches!(&waited, Err(ControlError::Deadline { state, .. }) if state == "NEW"),
        "{waited:?}"
    );
    assert!(began.elapsed() >= Duration::from_secs(600) && began.elapsed() < Duration::from_secs(602));
    let began = Instant::now();
    let waited = world
        .control
        .wait_for_user(id, user, ObjectLifecycle::Active, Duration::ZERO)
        .await;
    assert!(matches!(waited, Err(ControlError::Deadline { .. })), "{waited:?}");
    assert!(began.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn the_active_state_of_an_older_request_is_no_answer() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    world.converge(id).await;
    world
        .control
        .act_on_instance(id, InstanceAction::Restart)
        .await
        .unwrap();
    // The engine writes about the old request once more.
    world
        .engine_writes(id, |record| record.status.lifecycle = Lifecycle::Active)
        .await;
    let waited = world
        .control
        .wait_for_instance(id, Lifecycle::Active, Duration::from_secs(5))
        .await;
    assert!(matches!(waited, Err(ControlError::Deadline { .. })), "{waited:?}");
    world.converge(id).await;
    world
        .control
        .wait_for_instance(id, Lifecycle::Active, Duration::from_secs(5))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_goes_while_it_is_waited_for_is_not_found() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let waiting = {
        let control = world.control.clone();
        tokio::spawn(async move { control.wait_for_instance(id, Lifecycle::Active, LONG).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.control.delete_instance(id, None).await.unwrap();
    world.engine_removes(id).await;
    assert!(matches!(
        waiting.await.unwrap(),
        Err(ControlError::NotFound { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn changes_of_many_other_instances_neither_end_nor_break_a_wait() {
    let world = World::new().await;
    let (id, other) = (world.instance("orders").await, world.instance("other").await);
    let waiting = {
        let control = world.control.clone();
        tokio::spawn(async move { control.wait_for_instance(id, Lifecycle::Active, LONG).await })
    };
    tokio::time::sleep(Duration::from_millis(10)).await;
    for _ in 0..10 {
        // Many more than a reader may lag behind.
        for _ in 0..5_000 {
            world.control.inner.ports.hint(other);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!waiting.is_finished());
    world.converge(id).await;
    waiting.await.unwrap().unwrap();
}
