use dbaas_core::instance::{FailoverRequest, InstancePhase, Requests, SwitchoverRequest};
use dbaas_core::store::StoreErrorKind;

use super::*;
use crate::request::{InstanceAction, InstanceFilter, UpdateInstance, UpdateVersion};

fn page(limit: usize) -> Page<InstanceId> {
    Page { after: None, limit }
}

#[tokio::test]
async fn a_new_instance_is_written_down_whole() {
    let world = World::new().await;
    let made = world
        .control
        .create_instance(world.request("orders"))
        .await
        .unwrap();
    let record = &made;
    assert_eq!(record.id.uuid().get_version_num(), 7);
    assert_eq!((record.generation, record.status.observed_generation), (1, 0));
    assert_eq!(
        (record.status.lifecycle, record.status.phase),
        (Lifecycle::New, InstancePhase::Creating)
    );
    assert_eq!(record.spec.image.as_str(), "postgres:15.17");
    assert_eq!(record.created_at, record.updated_at);
    assert!(record.nodes.is_empty());
    assert_eq!(world.control.instance(record.id).await.unwrap(), made);

    let kept = world.instance_record(record.id).await.record;
    assert!(kept.cluster.is_none());
    assert_eq!(kept.sealed_credentials, "", "the engine's to make");

    let events = world.control.events(record.id, 0, 10).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| event.event.kind.as_str()).collect();
    assert_eq!(kinds, ["create_requested"]);
    assert!(
        world
            .control
            .events(record.id, events[0].sequence, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_version_must_exist_and_take_new_instances() {
    let world = World::new().await;
    let mut request = world.request("orders");
    request.version = VersionId::from_uuid(Uuid::now_v7());
    assert_eq!(
        pointers(world.control.create_instance(request).await),
        ["/version"]
    );

    let kept = world.instance("kept").await;
    let update = UpdateVersion {
        deprecated: Some(true),
        ..UpdateVersion::default()
    };
    world
        .control
        .update_version(world.versions[0], update)
        .await
        .unwrap();
    let errors = invalid_fields(world.control.create_instance(world.request("orders")).await);
    assert!(
        errors[0].detail.contains("PostgreSQL 15.17 is deprecated"),
        "{errors:?}"
    );
    // The one that has it keeps it, and naming it again is no change.
    let before = world.control.instance(kept).await.unwrap();
    let update = UpdateInstance {
        version: Some(world.versions[0]),
        ..UpdateInstance::default()
    };
    assert_eq!(world.control.update_instance(kept, update).await.unwrap(), before);
}

#[tokio::test]
async fn a_name_is_unique_within_its_project() {
    let world = World::new().await;
    let first = world.instance("orders").await;
    match world.control.create_instance(world.request("orders")).await {
        Err(ControlError::NameTaken { what, name }) => {
            assert_eq!((what, &*name), ("instance of the project", "orders"))
        }
        other => panic!("{other:?}"),
    }
    let mut elsewhere = world.request("orders");
    elsewhere.project = ProjectId::from_uuid(Uuid::now_v7());
    world.control.create_instance(elsewhere).await.unwrap();

    let second = world.instance("other").await;
    let rename = |name| UpdateInstance {
        name: Some(InstanceName::new(name).unwrap()),
        ..UpdateInstance::default()
    };
    let refused = world.control.update_instance(second, rename("orders")).await;
    assert!(
        matches!(refused, Err(ControlError::NameTaken { .. })),
        "{refused:?}"
    );

    // A name is free again only when its instance is gone.
    world.control.delete_instance(first, None).await.unwrap();
    let error = world
        .control
        .create_instance(world.request("orders"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("still being deleted"), "{error}");
    world.engine_removes(first).await;
    world
        .control
        .update_instance(second, rename("orders"))
        .await
        .unwrap();
    world.instance("other").await;
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    world.converge(id).await;
    let before = world.control.instance(id).await.unwrap();
    let update = UpdateInstance {
        cpu: Some(CpuCores::new(4).unwrap()),
        disk: Some(DiskGb::new(32).unwrap()),
        nodes: Some(NodeCount::new(5).unwrap()),
        version: Some(world.versions[1]),
        ..UpdateInstance::default()
    };
    let after = world
        .control
        .update_instance(
            id,
            UpdateInstance {
                expected: Some(before.revision.asked),
                ..update.clone()
            },
        )
        .await
        .unwrap();
    let mut expected = before.clone();
    expected.spec.resources.cpu = CpuCores::new(4).unwrap();
    expected.spec.resources.disk = DiskGb::new(32).unwrap();
    expected.spec.nodes = NodeCount::new(5).unwrap();
    expected.spec.version = world.versions[1];
    expected.spec.image = "postgres:15.18".parse().unwrap();
    assert_eq!(after.spec, expected.spec);
    assert_eq!(after.generation, before.generation + 1);
    assert!(after.updated_at > before.updated_at);
    assert_eq!(after.nodes, before.nodes);
    // At once: who polls must not take the old ACTIVE for an answer.
    assert_eq!(after.status.lifecycle, Lifecycle::InProgress);
    let events = world.control.events(id, 0, 10).await.unwrap();
    let message = &events.last().unwrap().event.message;
    assert_eq!(
        message,
        "asked for: cpu from 2 to 4, disk_size from 16 GB to 32 GB, nodes_number from 3 to 5, version from \
         postgres:15.17 to postgres:15.18"
    );

    // The same again changes nothing, and writes nothing.
    world.forbid_commits();
    assert_eq!(
        world
            .control
            .update_instance(
                id,
                UpdateInstance {
                    expected: Some(after.revision.asked),
                    ..update
                }
            )
            .await
            .unwrap(),
        after
    );
    assert_eq!(
        world
            .control
            .update_instance(id, UpdateInstance::default())
            .await
            .unwrap(),
        after
    );
}

#[tokio::test]
async fn every_field_that_is_wrong_is_named_and_nothing_is_changed() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let before = world.control.instance(id).await.unwrap();
    let update = UpdateInstance {
        cpu: Some(CpuCores::new(8).unwrap()),
        disk: Some(DiskGb::new(15).unwrap()),
        version: Some(world.versions[2]),
        ..UpdateInstance::default()
    };
    let errors = invalid_fields(world.control.update_instance(id, update).await);
    assert_eq!(
        errors.iter().map(|e| &*e.pointer).collect::<Vec<_>>(),
        ["/disk_size", "/version"]
    );
    assert!(errors[0].detail.contains("16 GB"), "{errors:?}");
    assert!(errors[1].detail.contains("same major"), "{errors:?}");
    let unknown = UpdateInstance {
        version: Some(VersionId::from_uuid(Uuid::nil())),
        ..UpdateInstance::default()
    };
    assert_eq!(
        pointers(world.control.update_instance(id, unknown).await),
        ["/version"]
    );

    let update = UpdateVersion {
        deprecated: Some(true),
        ..UpdateVersion::default()
    };
    world
        .control
        .update_version(world.versions[1], update)
        .await
        .unwrap();
    let deprecated = UpdateInstance {
        version: Some(world.versions[1]),
        ..UpdateInstance::default()
    };
    assert_eq!(
        pointers(world.control.update_instance(id, deprecated).await),
        ["/version"]
    );
    assert_eq!(world.control.instance(id).await.unwrap(), before);
}

#[tokio::test]
async fn an_expected_version_is_held_against_users_and_not_against_the_engine() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    world.converge(id).await;
    let read = world.control.instance(id).await.unwrap();
    let grow = |gb| UpdateInstance {
        disk: Some(DiskGb::new(gb).unwrap()),
        ..UpdateInstance::default()
    };
    let refused = world
        .control
        .update_instance(
            id,
            UpdateInstance {
                expected: Some(stale(read.revision.asked)),
                ..grow(17)
            },
        )
        .await;
    assert!(
        matches!(refused, Err(ControlError::VersionMismatch)),
        "{refused:?}"
    );

    // The engine writes a status between the call's read and its write: nothing of either is lost, and the
    // first try succeeds.
    let status = DocumentKey {
        kind: "instance_status",
        id: id.uuid(),
    };
    world.before_next_commit(move |store| {
        rewrite_document(store, status, |body| {
            body["warnings"] = serde_json::json!(["drift"])
        });
    });
    let after = world
        .control
        .update_instance(
            id,
            UpdateInstance {
                expected: Some(read.revision.asked),
                ..grow(17)
            },
        )
        .await
        .unwrap();
    assert_eq!(after.spec.resources.disk.get(), 17);
    assert_eq!(after.revision.asked.0, read.revision.asked.0 + 1);
    let seen = world.control.instance(id).await.unwrap();
    assert_eq!(seen.status.warnings, ["drift"]);
    assert_eq!(seen.spec, after.spec);
    assert_eq!(
        seen.revision.asked, after.revision.asked,
        "the engine's write is no other version"
    );
    assert!(seen.revision.observed > read.revision.observed);

    // Another user does: the caller has not seen that.
    let other = move |store: &MemoryStore| {
        rewrite::<InstanceRecord>(store, id.uuid(), |body| {
            body["generation"] = serde_json::json!(body["generation"].as_u64().unwrap() + 1);
            body["spec"]["resources"]["disk"] = serde_json::json!(100);
        });
    };
    world.before_next_commit(other);
    let refused = world
        .control
        .update_instance(
            id,
            UpdateInstance {
                expected: Some(after.revision.asked),
                ..grow(18)
            },
        )
        .await;
    assert!(
        matches!(refused, Err(ControlError::VersionMismatch)),
        "{refused:?}"
    );
    // Who expects nothing is judged in the light of what is now.
    world.before_next_commit(move |store| {
        rewrite::<InstanceRecord>(store, id.uuid(), |body| {
            body["generation"] = serde_json::json!(body["generation"].as_u64().unwrap() + 1);
            body["spec"]["resources"]["disk"] = serde_json::json!(200);
        });
    });
    let errors = invalid_fields(world.control.update_instance(id, grow(150)).await);
    assert!(errors[0].detail.contains("200 GB"), "{errors:?}");
}

#[tokio::test]
async fn deletion_is_final_and_may_be_asked_for_again() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    world.converge(id).await;
    let user = world.user(id, "app").await;
    let database = world.database(id, "shop", user).await;
    let read = world.control.instance(id).await.unwrap();
    let refused = world
        .control
        .delete_instance(id, Some(stale(read.revision.asked)))
        .await;
    assert!(
        matches!(refused, Err(ControlError::VersionMismatch)),
        "{refused:?}"
    );

    world
        .control
        .delete_instance(id, Some(read.revision.asked))
        .await
        .unwrap();
    let record = world.control.instance(id).await.unwrap();
    assert_eq!(
        (record.desired, record.status.phase),
        (DesiredState::Deleted, InstancePhase::Deleting)
    );
    assert_eq!(record.generation, read.generation + 1);

    world.control.delete_instance(id, None).await.unwrap();
    world.control.delete_user(id, user, None).await.unwrap();
    world.control.delete_database(id, database, None).await.unwrap();
    let update = UpdateInstance {
        cpu: Some(CpuCores::MAX),
        ..UpdateInstance::default()
    };
    wrong_state(world.control.update_instance(id, update).await);
    for action in [
        InstanceAction::Start,
        InstanceAction::Stop,
        InstanceAction::Restart,
    ] {
        wrong_state(world.control.act_on_instance(id, action).await);
    }
    wrong_state(world.control.create_user(id, create_user("late")).await);
    wrong_state(
        world
            .control
            .create_database(id, create_database("late", user))
            .await,
    );

    world.engine_removes(id).await;
    let gone = [
        world.control.instance(id).await.map(drop),
        world.control.delete_instance(id, None).await,
        world.control.nodes(id).await.map(drop),
        world.control.connection(id).await.map(drop),
        world.control.events(id, 0, 10).await.map(drop),
        world.control.user(id, user).await.map(drop),
        world
            .control
            .databases(
                id,
                Page {
                    after: None,
                    limit: 1,
                },
            )
            .await
            .map(drop),
        world
            .control
            .act_on_instance(id, InstanceAction::Start)
            .await
            .map(drop),
        world.control.create_user(id, create_user("late")).await.map(drop),
    ];
    for result in gone {
        assert!(matches!(result, Err(ControlError::NotFound { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn listings_are_in_order_filtered_and_cut_into_pages() {
    let world = World::new().await;
    let other_project = ProjectId::from_uuid(Uuid::now_v7());
    let mut ids = Vec::new();
    for n in 0..7 {
        let mut request = world.request(&format!("i{n}"));
        request.project = if n % 2 == 0 {
            ProjectId::DEFAULT
        } else {
            other_project
        };
        request.version = world.versions[usize::from(n > 4)];
        ids.push(world.control.create_instance(request).await.unwrap().id);
    }
    let list = async |filter: InstanceFilter, after, limit| {
        let listed = world
            .control
            .instances(filter, Page { after, limit })
            .await
            .unwrap();
        let found: Vec<InstanceId> = listed.items.iter().map(|item| item.id).collect();
        (found, listed.next)
    };
    let all = InstanceFilter::default;
    assert_eq!(list(all(), None, 7).await, (ids.clone(), None));
    assert_eq!(list(all(), None, 3).await, (ids[..3].to_vec(), Some(ids[2])));
    assert_eq!(
        list(all(), Some(ids[2]), 3).await,
        (ids[3..6].to_vec(), Some(ids[5]))
    );
    assert_eq!(list(all(), Some(ids[5]), 3).await, (ids[6..].to_vec(), None));
    // A limit out of bounds is taken as the nearest.
    assert_eq!(list(all(), None, 0).await, (ids[..1].to_vec(), Some(ids[0])));
    assert_eq!(list(all(), None, usize::MAX).await, (ids.clone(), None));

    let odd = || InstanceFilter {
        projects: vec![other_project],
        ..all()
    };
    assert_eq!(list(odd(), None, 2).await, (vec![ids[1], ids[3]], Some(ids[3])));
    assert_eq!(list(odd(), Some(ids[3]), 2).await, (vec![ids[5]], None));
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|name| InstanceName::new(*name).unwrap())
            .collect::<Vec<_>>()
    };
    let named = InstanceFilter {
        names: names(&["i4", "i1", "none"]),
        ..all()
    };
    assert_eq!(list(named.clone(), None, 9).await, (vec![ids[1], ids[4]], None));
    // With a project, the same filter is answered by looking names up.
    let both = InstanceFilter {
        projects: vec![other_project, ProjectId::DEFAULT],
        ..named.clone()
    };
    assert_eq!(list(both.clone(), None, 9).await, (vec![ids[1], ids[4]], None));
    assert_eq!(list(both.clone(), None, 1).await, (vec![ids[1]], Some(ids[1])));
    assert_eq!(list(both, Some(ids[1]), 1).await, (vec![ids[4]], None));
    let narrow = InstanceFilter {
        projects: vec![other_project],
        ..named
    };
    assert_eq!(list(narrow, None, 9).await, (vec![ids[1]], None));
    let version = InstanceFilter {
        versions: vec![world.versions[1]],
        ..all()
    };
    assert_eq!(list(version, None, 9).await, (ids[5..].to_vec(), None));
    world.converge(ids[2]).await;
    let active = InstanceFilter {
        lifecycles: vec![Lifecycle::Active, Lifecycle::Error],
        ..all()
    };
    assert_eq!(list(active, None, 9).await, (vec![ids[2]], None));
    let any = world.control.instances(all(), page(100)).await.unwrap();
    assert_eq!(any.items.len(), 7);
}

#[tokio::test]
async fn a_switchover_names_a_standby_that_stays() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let to = |to| InstanceAction::Switchover { to };
    assert!(wrong_state(world.control.act_on_instance(id, to(None)).await).contains("being created"));
    world.converge(id).await;
    world
        .engine_writes(id, |record| record.nodes[2].leaving = true)
        .await;
    let nodes = world.control.instance(id).await.unwrap().nodes;
    let stranger = NodeId::from_uuid(Uuid::now_v7());
    for (node, reason) in [
        (stranger, "no such node"),
        (nodes[0].id, "primary already"),
        (nodes[2].id, "being removed"),
    ] {
        let errors = invalid_fields(world.control.act_on_instance(id, to(Some(node))).await);
        assert_eq!(errors[0].pointer, "/to");
        assert!(errors[0].detail.contains(reason), "{errors:?}");
    }
    let before = world.control.instance(id).await.unwrap();
    let after = world
        .control
        .act_on_instance(id, to(Some(nodes[1].id)))
        .await
        .unwrap();
    let request = requests(&world, id).await.switchover.unwrap();
    assert_eq!(
        request,
        SwitchoverRequest {
            to: Some(nodes[1].id),
            at: after.updated_at,
            by_controller: false,
            prepared: false,
            checkpoint_after: None,
        }
    );
    assert_eq!(after.generation, before.generation + 1);
    // A later one replaces it.
    world.control.act_on_instance(id, to(None)).await.unwrap();
    assert_eq!(requests(&world, id).await.switchover.unwrap().to, None);
    let message = world.control.events(id, 0, 10).await.unwrap()[1]
        .event
        .message
        .clone();
    assert_eq!(message, "asked for: switchover from n1 to n2");

    world
        .engine_writes(id, |record| record.nodes[1].leaving = true)
        .await;
    assert!(wrong_state(world.control.act_on_instance(id, to(None)).await).contains("needs a standby"));
}

async fn requests(world: &World, id: InstanceId) -> Requests {
    world.instance_record(id).await.record.requests
}

#[tokio::test]
async fn stop_start_restart_and_failover() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    world.converge(id).await;
    let act = async |action| world.control.act_on_instance(id, action).await;
    let running = act(InstanceAction::Start).await.unwrap();
    assert_eq!(running, world.control.instance(id).await.unwrap());
    assert_eq!(running.generation, 1, "a start of what runs is no change");

    let record = act(InstanceAction::Restart).await.unwrap();
    assert_eq!(requests(&world, id).await.restart, Some(record.updated_at));
    let record = act(InstanceAction::Failover {
        allow_data_loss: true,
    })
    .await
    .unwrap();
    let failover = FailoverRequest {
        allow_data_loss: true,
        from: Some(record.nodes[0].id),
        at: record.updated_at,
    };
    assert_eq!(requests(&world, id).await.failover, Some(failover));
    assert!(
        requests(&world, id).await.restart.is_some(),
        "requests of another kind stay"
    );
    act(InstanceAction::Switchover { to: None }).await.unwrap();

    let stopped = act(InstanceAction::Stop).await.unwrap();
    assert_eq!(stopped.desired, DesiredState::Stopped);
    assert_eq!(requests(&world, id).await, Requests::default());
    assert_eq!(act(InstanceAction::Stop).await.unwrap(), stopped);
    for action in [
        InstanceAction::Restart,
        InstanceAction::Switchover { to: None },
        InstanceAction::Failover {
            allow_data_loss: false,
        },
    ] {
        assert!(wrong_state(act(action).await).contains("start it first"));
    }
    // What is asked for may change while it is off.
    world.user(id, "app").await;
    let record = act(InstanceAction::Start).await.unwrap();
    assert_eq!((record.desired, record.generation), (DesiredState::Running, 6));
}

#[tokio::test]
async fn nodes_and_endpoints_are_those_of_the_record() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let none = world.control.connection(id).await.unwrap();
    assert_eq!(
        none,
        ConnectionInfo {
            primary: None,
            endpoints: Vec::new()
        }
    );
    world.converge(id).await;
    world
        .engine_writes(id, |record| {
            record.status.primary_endpoint = record.nodes[1].endpoint.clone();
            record.nodes[2].leaving = true;
        })
        .await;
    let connection = world.control.connection(id).await.unwrap();
    assert_eq!(connection.primary.unwrap().port, 5002);
    assert_eq!(
        connection.endpoints.iter().map(|e| e.port).collect::<Vec<_>>(),
        [5002, 5001]
    );
    let nodes = world.control.nodes(id).await.unwrap();
    assert_eq!(
        nodes.iter().map(|n| &*n.name).collect::<Vec<_>>(),
        ["n1", "n2", "n3"]
    );
    assert!(nodes.iter().all(|node| node.lag_bytes.is_none()));
}

#[tokio::test]
async fn a_store_that_fails_is_said_to_fail() {
    let world = World::new().await;
    let id = world.instance("orders").await;
    let fail = |kind| Some(Arc::new(move |_: &StoreCall<'_>| Fault::Fail(kind)) as _);
    world.store.set_fault(fail(StoreErrorKind::Unavailable));
    let error = world.control.instance(id).await.unwrap_err();
    assert!(
        matches!(
            error,
            ControlError::Unavailable {
                outcome_unknown: false,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_retryable());
    let error = world
        .control
        .create_instance(world.request("other"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ControlError::Unavailable {
                outcome_unknown: false,
                ..
            }
        ),
        "{error:?}"
    );

    world.store.set_fault(Some(Arc::new(|call| {
        if call.is_write() {
            Fault::RequestLost
        } else {
            Fault::None
        }
    })));
    let stop = world.control.act_on_instance(id, InstanceAction::Stop).await;
    assert!(
        matches!(
            stop,
            Err(ControlError::Unavailable {
                outcome_unknown: true,
                ..
            })
        ),
        "{stop:?}"
    );
    let error = world
        .control
        .create_instance(world.request("other"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ControlError::Unavailable {
                outcome_unknown: true,
                ..
            }
        ),
        "{error:?}"
    );
    // A create can tell by itself whether it happened.
    world.store.set_fault(Some(Arc::new(|call| {
        if call.is_write() {
            Fault::AnswerLost
        } else {
            Fault::None
        }
    })));
    let made = world
        .control
        .create_instance(world.request("other"))
        .await
        .unwrap();
    assert_eq!(world.control.instance(made.id).await.unwrap(), made);
}
