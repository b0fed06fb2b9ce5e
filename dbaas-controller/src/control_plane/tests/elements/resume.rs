//! Changes of elements that a crash cut short, and what goes on with them.

use super::*;

/// What is left when the process ends at its n-th write from now; `false`: it did less.
async fn cut_at(world: &World, writes: i64, work: impl Future<Output = ()>) -> bool {
    let count = Arc::new(AtomicI64::new(0));
    let crashed = Arc::new(tokio::sync::Notify::new());
    let (counted, crash) = (Arc::clone(&count), Arc::clone(&crashed));
    world.store.set_fault(Some(Arc::new(move |call: &StoreCall<'_>| {
        // The engine tries to become the one that acts now and then.
        if !call.is_write() || matches!(call, StoreCall::AcquireLease("controller", _)) {
            return Fault::None;
        }
        if counted.fetch_add(1, Ordering::SeqCst) >= writes {
            crash.notify_one();
            return Fault::Fail(StoreErrorKind::Unavailable);
        }
        Fault::None
    })));
    tokio::select! {
        biased;
        () = crashed.notified() => {}
        () = with_engine(world, work) => {}
    }
    let is_cut = count.load(Ordering::SeqCst) > writes;
    world.store.set_fault(None);
    // The lease of a process that died runs out.
    world.clock.advance(60_000);
    is_cut
}

#[tokio::test(start_paused = true)]
async fn what_a_crash_cuts_short_is_finished_by_the_next_one_unasked() {
    let mut resumed = 0;
    for writes in 0.. {
        let world = World::new().await;
        let text = demo();
        let request = ManifestRequest::new(text.clone());
        let applying = async {
            let _ = world.control.apply_manifest(request, refused()).await;
        };
        let is_cut = cut_at(&world, writes, applying).await;
        let next = world.restarted().await;
        with_engine(&world, next.resume_all()).await.unwrap();
        if world.control.elements(None, ALL).await.unwrap().items.is_empty() {
            assert!(is_cut, "it was applied");
            continue;
        }
        let found = element(&world).await;
        assert_eq!(
            found.status,
            ElementStatus::Active,
            "after {writes} writes: {found:?}"
        );
        assert!(plan(&world, &text).await.unwrap().is_empty());
        assert_eq!(world.repository().all::<UserRecord>(None).await.unwrap().len(), 1);
        assert_eq!(
            next.element_resources(found.id).await.unwrap().len(),
            5,
            "after {writes} writes"
        );
        resumed += kinds(&world, "apply_resumed").await;
        // There is nothing left to go on with.
        with_engine(&world, next.resume_all()).await.unwrap();
        if !is_cut {
            break;
        }
    }
    assert!(resumed > 8, "{resumed}");
}

#[tokio::test(start_paused = true)]
async fn an_uninstall_that_is_cut_short_goes_on_too() {
    let mut resumed = 0;
    for writes in 0.. {
        let world = World::new().await;
        let documents = world.store.document_count();
        apply(&world, &demo(), refused()).await.unwrap();
        let id = element(&world).await.id;
        let removing = async {
            let _ = world.control.uninstall_element(id, allowed()).await;
        };
        let is_cut = cut_at(&world, writes, removing).await;
        let next = world.restarted().await;
        with_engine(&world, next.resume_all()).await.unwrap();
        let events = world.control.events_about(id, 0, 1_000).await.unwrap();
        let is = |kind: &str| events.iter().any(|event| event.event.kind == kind);
        resumed += usize::from(is("uninstall_resumed"));
        if is("uninstall_begun") {
            assert!(is("uninstalled"), "after {writes} writes: {events:?}");
            assert_eq!(world.store.document_count(), documents, "after {writes} writes");
        }
        if !is_cut {
            break;
        }
    }
    assert!(resumed > 3, "{resumed}");
}

#[tokio::test(start_paused = true)]
async fn it_is_not_gone_on_with_for_ever() {
    let world = World::new().await;
    let short = ApplyOptions {
        timeout: Duration::from_secs(2),
        ..refused()
    };
    // Nothing becomes of the instance, since no engine runs; and the process ends.
    let request = ManifestRequest::new(demo());
    let applying = world.control.apply_manifest(request, short);
    let cut = tokio::time::timeout(Duration::from_secs(1), applying).await;
    assert!(cut.is_err(), "{cut:?}");
    world.clock.advance(60_000);
    let next = world.restarted().await;
    for tries in 1..=crate::elements::work::TRIES {
        let failed = next.resume_all().await.unwrap_err();
        assert!(matches!(failed, ControlError::Deadline { .. }), "{failed:?}");
        let found = next.element(element(&world).await.id).await.unwrap();
        let is_last = tries == crate::elements::work::TRIES;
        let expected = match is_last {
            true => ElementStatus::Error,
            false => ElementStatus::InProgress,
        };
        assert_eq!(found.status, expected, "{tries}: {found:?}");
        assert!(found.reason.contains("demo"), "{found:?}");
        // Not at once again.
        next.resume_all().await.unwrap();
        world.clock.advance(400_000);
    }
    next.resume_all().await.unwrap();
    assert_eq!(
        kinds(&world, "apply_resumed").await,
        crate::elements::work::TRIES as usize
    );
    assert_eq!(kinds(&world, "apply_failed").await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_gone_on_with_says_why() {
    let world = World::new().await;
    let shared = "name: shared\nexports:\n  v: {link: $core.vs.variables.$v}\nresources:\n  $core.vs.variables: {v: {value: 1}}\n";
    apply(&world, shared, refused()).await.unwrap();
    let text = "name: app\nimports:\n  v: {element: $shared, kind: resource, link: $core.vs.variables.$v}\n\
                resources:\n  $core.vs.variables: {w: {value: $app.imports.$v:value}}\n";
    let app = async {
        let request = ManifestRequest::new(text);
        let _ = world.control.apply_manifest(request, refused()).await;
    };
    // The element is written down by the second write, after the lease.
    assert!(cut_at(&world, 2, app).await);
    apply(&world, "name: shared\n", refused()).await.unwrap();
    let next = world.restarted().await;
    world.clock.advance(60_000);
    let failed = with_engine(&world, next.resume_all()).await;
    assert!(failed.is_err());
    let elements = next.elements(None, ALL).await.unwrap();
    let found = elements.items.iter().find(|found| found.name == "app");
    let found = &found.unwrap();
    assert_eq!(found.status, ElementStatus::Error);
    assert!(found.reason.contains("cannot be gone on with"), "{found:?}");
    next.resume_all().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_goes_on_by_itself_yields_to_what_is_asked_for() {
    let world = World::new().await;
    // Nothing becomes of the instance, since no engine runs; and the process ends.
    let applying = world
        .control
        .apply_manifest(ManifestRequest::new(demo()), refused());
    let cut = tokio::time::timeout(Duration::from_secs(1), applying).await;
    assert!(cut.is_err(), "{cut:?}");
    world.clock.advance(60_000);
    let next = world.restarted().await;
    let resuming = next.clone();
    let resumed = tokio::spawn(async move { resuming.resume_all().await });
    while kinds(&world, "apply_resumed").await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let changed = ManifestRequest::new(demo().replace("ram: 1024", "ram: 2048"));
    let (found, _) = with_engine(&world, next.apply_manifest(changed, refused()))
        .await
        .unwrap();
    assert_eq!(found.status, ElementStatus::Active);
    resumed.await.unwrap().unwrap();
    assert_eq!(kinds(&world, "applied").await, 1);
    // What was asked for later is what counts.
    next.resume_all().await.unwrap();
    let instances = world.repository().all::<InstanceRecord>(None).await.unwrap();
    assert_eq!(instances[0].record.spec.resources.ram.get(), 2_048);
}
