//! Single documents: preconditions, contents, versions, names, listings, expiry.

use std::collections::BTreeSet;

use super::*;
use dbaas_core::store::{LIST_LIMIT_MAX, ListQuery};

pub(super) async fn preconditions(store: &dyn Store) {
    use StoreErrorKind::Conflict;
    let never = DocumentVersion(1);
    assert_eq!(get(store, key(1)).await, None, "a new store is empty");
    refused(store, [update(document(1), never)], Conflict, 0).await;
    refused(store, [Op::Delete(key(1), never)], Conflict, 0).await;
    refused(
        store,
        [Op::Require(key(1), Precondition::MatchesVersion(never))],
        Conflict,
        0,
    )
    .await;
    commit(store, [Op::Require(key(1), Precondition::DoesNotExist)])
        .await
        .expect("it does not exist");

    let first = put(store, create(document(1))).await;
    assert!(first.0 >= 1, "versions start at 1 or above");
    refused(store, [create(document(1))], Conflict, 0).await;
    refused(
        store,
        [Op::Require(key(1), Precondition::DoesNotExist)],
        Conflict,
        0,
    )
    .await;
    for wrong in [0, first.0 - 1, first.0 + 1, u64::MAX] {
        if wrong != first.0 {
            let wrong = DocumentVersion(wrong);
            refused(store, [update(document(1), wrong)], Conflict, 0).await;
            refused(store, [Op::Delete(key(1), wrong)], Conflict, 0).await;
            refused(
                store,
                [Op::Require(key(1), Precondition::MatchesVersion(wrong))],
                Conflict,
                0,
            )
            .await;
        }
    }
    let second = put(store, update(document(1), first)).await;
    assert_eq!(second.0, first.0 + 1, "each write adds one to the version");
    refused(store, [update(document(1), first)], Conflict, 0).await;
    assert_eq!(
        get(store, key(1)).await.map(|stored| stored.version),
        Some(second)
    );

    let namesake = DocumentKey {
        kind: OTHER,
        id: id(1),
    };
    assert_eq!(get(store, namesake).await, None, "kinds are apart");
    put(
        store,
        create(Document {
            key: namesake,
            ..document(1)
        }),
    )
    .await;
    commit(store, [Op::Delete(key(1), second)])
        .await
        .expect("the version matches");
    assert_eq!(get(store, key(1)).await, None, "deleted is gone");
    assert!(
        get(store, namesake).await.is_some(),
        "the same id of another kind stays"
    );
    assert_eq!(commit(store, []).await.expect("an empty batch is taken"), []);
}

pub(super) async fn contents_come_back_as_written(store: &dyn Store) {
    let full = Document {
        key: key(1),
        parent: Some(id(50)),
        unique: Some("prüfung/\u{1F418} '\"\\%_\0 end ".to_owned()),
        references: vec![id(9), id(7), id(9)],
        expires_at: Some(at(5)),
        body: json!({
            "text": "a'b\"c\\ \u{0} \u{1F418}", "null": null, "list": [1, -1, true, [], {}],
            "max": u64::MAX, "min": i64::MIN, "float": 0.1 + 0.2, "tiny": 5e-324, "big": 1.797_693_134_862_315_7e308,
        }),
    };
    let version = put(store, create(full.clone())).await;
    let expected = StoredDocument {
        document: full.clone(),
        version,
    };
    assert_eq!(
        get(store, key(1)).await,
        Some(expected.clone()),
        "get returns what was written"
    );
    let found = store
        .find(THING, full.unique.as_deref().unwrap_or_default())
        .await;
    assert_eq!(
        found.expect("find works"),
        Some(expected.clone()),
        "find returns what was written"
    );
    let listed = store
        .list(ListQuery {
            kind: THING,
            parent: None,
            after: None,
            limit: 10,
        })
        .await;
    assert_eq!(
        listed.expect("list works"),
        [expected],
        "list returns what was written"
    );

    let bare = Document {
        body: json!(null),
        ..document(1)
    };
    let version = put(store, update(bare.clone(), version)).await;
    assert_eq!(
        get(store, key(1)).await,
        Some(StoredDocument {
            document: bare,
            version
        }),
        "a write replaces parent, name, references and expiry too"
    );
    let large = Document {
        body: json!({ "text": "x".repeat(2 << 20) }),
        ..document(2)
    };
    let version = put(store, create(large.clone())).await;
    assert_eq!(
        get(store, key(2)).await,
        Some(StoredDocument {
            document: large,
            version
        }),
        "a body of 2 MiB"
    );
}

pub(super) async fn versions_are_never_reused(store: &dyn Store) {
    let mut seen = BTreeSet::new();
    for round in 0..4 {
        let mut version = put(store, create(document(1))).await;
        assert!(
            seen.insert(version),
            "version {} is used again after a re-creation",
            version.0
        );
        for _ in 0..round {
            version = put(store, update(document(1), version)).await;
            assert!(seen.insert(version), "version {} is used again", version.0);
        }
        commit(store, [Op::Delete(key(1), version)])
            .await
            .expect("the version matches");
    }
    let soon = Document {
        expires_at: Some(at(0)),
        ..document(1)
    };
    assert!(seen.insert(put(store, create(soon)).await));
    store.expire(at(1), 100).await.expect("expire works");
    assert!(
        seen.insert(put(store, create(document(1))).await),
        "used again after an expiry"
    );

    let versions = commit(
        store,
        [
            create(document(2)),
            Op::Delete(key(1), *seen.last().expect("not empty")),
        ],
    );
    let second = versions.await.expect("both hold")[0];
    let ops = [Op::Delete(key(2), second), create(document(2))];
    let third = commit(store, ops)
        .await
        .expect("a batch may delete and create again")[0];
    assert!(third > second, "version {} is used again within a batch", third.0);
}

pub(super) async fn unique_names(store: &dyn Store) {
    use StoreErrorKind::{Conflict, NameTaken};
    let one = put(store, create(named(1, "a"))).await;
    refused(store, [create(named(2, "a"))], NameTaken, 0).await;
    refused(store, [create(document(3)), create(named(2, "a"))], NameTaken, 1).await;
    refused(store, [create(named(1, "a"))], Conflict, 0).await;
    put(store, create(named(2, "A"))).await;
    put(store, create(named(3, "a "))).await;
    put(
        store,
        create(Document {
            key: DocumentKey {
                kind: OTHER,
                id: id(4),
            },
            ..named(4, "a")
        }),
    )
    .await;
    put(store, create(document(5))).await;
    put(store, create(document(6))).await;

    let found = store.find(THING, "a").await.expect("find works").expect("found");
    assert_eq!((found.document.key, found.version), (key(1), one));
    assert_eq!(store.find(THING, "b").await.expect("find works"), None);
    assert_eq!(store.find("thin", "a").await.expect("find works"), None);

    let one = put(store, update(named(1, "a"), one)).await;
    let one = put(store, update(named(1, "b"), one)).await;
    assert_eq!(
        store.find(THING, "a").await.expect("find works"),
        None,
        "a renamed document gives up its name"
    );
    put(store, create(named(7, "a"))).await;
    refused(store, [update(named(1, "a"), one)], NameTaken, 0).await;
    commit(store, [Op::Delete(key(1), one)])
        .await
        .expect("the version matches");
    put(store, create(named(8, "b"))).await;
    assert_eq!(
        store
            .find(THING, "b")
            .await
            .expect("find works")
            .map(|found| found.document.key),
        Some(key(8))
    );
}

pub(super) async fn listing_and_paging(store: &dyn Store) {
    // Written in another order than they are listed in; ids at both ends of what there is.
    let mut ids: Vec<u128> = (0..25).map(|n| (n * 7) % 25 + 1).collect();
    ids.extend([0, u128::MAX]);
    for n in &ids {
        let parent = (n % 2 == 0).then(|| id(1000));
        put(
            store,
            create(Document {
                parent,
                ..document(*n)
            }),
        )
        .await;
    }
    put(
        store,
        create(Document {
            key: DocumentKey {
                kind: OTHER,
                id: id(3),
            },
            ..document(3)
        }),
    )
    .await;
    put(
        store,
        create(Document {
            parent: Some(id(1001)),
            ..document(100)
        }),
    )
    .await;
    ids.push(100);
    ids.sort_unstable();

    for parent in [None, Some(id(1000))] {
        let expected: Vec<Uuid> = ids
            .iter()
            .filter(|n| parent.is_none() || (*n % 2 == 0 && **n != 100))
            .map(|n| id(*n))
            .collect();
        for limit in [1, 2, 7, 1000] {
            let mut listed: Vec<Uuid> = Vec::new();
            loop {
                let query = ListQuery {
                    kind: THING,
                    parent,
                    after: listed.last().copied(),
                    limit,
                };
                let page = store.list(query).await.expect("list works");
                assert!(page.len() <= limit, "a page holds at most its limit");
                listed.extend(page.iter().map(|stored| stored.document.key.id));
                if page.is_empty() || listed.len() > expected.len() {
                    break;
                }
            }
            assert_eq!(
                listed, expected,
                "pages of {limit} of parent {parent:?} are in order of id and complete"
            );
        }
    }
    let list = |limit| {
        store.list(ListQuery {
            kind: THING,
            parent: None,
            after: None,
            limit,
        })
    };
    assert_eq!(
        list(0).await.expect("list works").len(),
        1,
        "a limit of 0 is taken as 1"
    );
    let all = list(usize::MAX).await.expect("a limit that is too large is cut");
    assert_eq!(all.len(), ids.len().min(LIST_LIMIT_MAX));
}

pub(super) async fn expiry(store: &dyn Store) {
    let expiring = |n, ms| Document {
        expires_at: Some(at(ms)),
        references: vec![id(99)],
        ..named(n, &n.to_string())
    };
    put(store, create(expiring(1, 10))).await;
    put(store, create(expiring(2, 20))).await;
    let third = put(store, create(expiring(3, 10))).await;
    put(store, create(document(4))).await;
    put(store, update(document(3), third)).await;

    assert_eq!(store.expire(at(9), 100).await.expect("expire works"), 0);
    assert!(get(store, key(1)).await.is_some(), "not yet expired");
    refused(store, [create(expiring(1, 50))], StoreErrorKind::Conflict, 0).await;
    assert_eq!(
        store.expire(at(10), 100).await.expect("expire works"),
        1,
        "expired at its very moment"
    );
    assert_eq!(get(store, key(1)).await, None);
    assert_eq!(
        store.find(THING, "1").await.expect("find works"),
        None,
        "its name is free"
    );
    put(store, create(expiring(1, 50))).await;
    assert!(
        get(store, key(3)).await.is_some(),
        "a later write took its expiry away"
    );
    assert_eq!(store.expire(at(1000), 100).await.expect("expire works"), 2);
    commit(store, [Op::RequireUnreferenced(id(99))])
        .await
        .expect("expired documents refer to nothing");
    assert_eq!(store.expire(at(1000), 100).await.expect("expire works"), 0);
    assert!(get(store, key(4)).await.is_some(), "what has no expiry stays");
}
