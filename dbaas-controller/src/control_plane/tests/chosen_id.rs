//! Ids that the caller chooses: the same request again is the same resource, another one is refused.

use dbaas_core::password::Password;
use uuid::Uuid;

use super::*;

const ID: Uuid = Uuid::from_u128(0x6bdc_9203_bef4_4c63_9476_7d97_29c4_3e7f);

fn is_taken<T>(answer: Result<T, ControlError>) -> bool {
    matches!(answer, Err(ControlError::IdTaken { id, .. }) if id == ID)
}

#[tokio::test]
async fn an_instance_is_made_once() {
    let world = World::new().await;
    let request = CreateInstance {
        id: Some(InstanceId::from_uuid(ID)),
        ..world.request("orders")
    };
    let made = world.control.create_instance(request.clone()).await.unwrap();
    assert_eq!(made.id.uuid(), ID);
    world.converge(made.id).await;
    let again = world.control.create_instance(request.clone()).await.unwrap();
    assert_eq!(again.created_at, made.created_at);

    let other = CreateInstance {
        cpu: CpuCores::new(3).unwrap(),
        ..request.clone()
    };
    assert!(is_taken(world.control.create_instance(other).await));
    world.control.delete_instance(made.id, None).await.unwrap();
    assert!(is_taken(world.control.create_instance(request.clone()).await));

    let nobody = CreateInstance {
        id: Some(InstanceId::from_uuid(Uuid::nil())),
        ..request
    };
    let refused = world.control.create_instance(nobody).await;
    assert!(matches!(refused, Err(ControlError::Invalid { errors }) if errors[0].pointer == "/uuid"));
}

#[tokio::test]
async fn a_user_with_the_same_password_is_the_same() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let request = CreateUser {
        id: Some(UserId::from_uuid(ID)),
        ..create_user("app")
    };
    let make = |request| world.control.create_user(instance, request);
    let (one, two) = tokio::join!(make(request.clone()), make(request.clone()));
    assert_eq!(one.unwrap(), two.unwrap());

    let other = CreateUser {
        password: Password::new("another one").unwrap(),
        ..request.clone()
    };
    assert!(is_taken(make(other).await));
    let elsewhere = world.instance("elsewhere").await;
    assert!(is_taken(world.control.create_user(elsewhere, request).await));
}

#[tokio::test]
async fn a_database_is_made_once_and_its_id_is_not_used_again_after_it_was_dropped() {
    let world = World::new().await;
    let instance = world.instance("orders").await;
    let (owner, other) = (
        world.user(instance, "app").await,
        world.user(instance, "other").await,
    );
    let request = |owner| CreateDatabase {
        id: Some(DatabaseId::from_uuid(ID)),
        ..create_database("shop", owner)
    };
    let make = |request| world.control.create_database(instance, request);
    let made = make(request(owner)).await.unwrap();
    assert_eq!(make(request(owner)).await.unwrap(), made);
    assert!(is_taken(make(request(other)).await));

    // As the engine does when PostgreSQL has dropped it.
    world
        .engine_writes(instance, |record| record.dropped.note(ID))
        .await;
    let read = world.database_record(made.id).await;
    world
        .repository()
        .commit(Change::new().delete(&read))
        .await
        .unwrap();
    let refused = make(request(owner)).await;
    assert!(
        matches!(refused, Err(ControlError::WrongState { .. })),
        "{refused:?}"
    );
}
