//! What looks see.

use super::*;

pub(super) fn observe_node(world: &World, node: NodeRef, session: u64) -> Result<Answer, SqlError> {
    let found = world.nodes.get(&node).ok_or_else(unknown)?;
    let (Some(server), Some(disk)) = (found.server(), found.disk.as_ref()) else {
        return Err(unknown());
    };
    if !server.sessions.contains_key(&session) {
        return Err(unknown());
    }
    if found.frozen {
        return Ok(Answer::Wait);
    }
    let standby = server.in_recovery;
    let replayed = server.replayed.min(disk.log.len());
    let quiet = !world.is_active(node.instance);
    let standbys: Vec<StandbyFacts> = server
        .senders
        .values()
        .map(|sender| StandbyFacts {
            application_name: sender.name.clone(),
            state: "streaming".to_owned(),
            flush_lsn: Some(Lsn(sender.flush)),
            replay_lsn: Some(Lsn(sender.replay)),
        })
        .collect();
    let slots: Vec<SlotFacts> = disk
        .slots
        .iter()
        .map(|(name, lost)| SlotFacts {
            name: name.clone(),
            active: server.senders.values().any(|sender| sender.slot == *name),
            lost: *lost,
        })
        .collect();
    let receiver = server.receiver.as_ref().map(|receiver| ReceiverFacts {
        status: "streaming".to_owned(),
        last_message_ms: if quiet {
            0
        } else {
            world.now_ms.saturating_sub(receiver.last_message_ms)
        },
    });
    let facts = json!({
        "in_recovery": standby,
        "epoch": server.conf.epoch,
        "history": server.catalogue.history,
        "lsn": Lsn(world.wal.end(&disk.log[..replayed])),
        "receive_lsn": server.received.filter(|_| standby).map(Lsn),
        "replay_waits": standby && replayed == disk.log.len(),
        "receiver": receiver,
        "primary_conninfo": server.conf.primary_conninfo.as_deref().unwrap_or_default(),
        "primary_slot": server.conf.primary_slot_name.as_deref().unwrap_or_default(),
        "sync_names": server.conf.synchronous_standby_names.as_deref().unwrap_or_default(),
        "setting": server.catalogue.setting,
        "checkpointed": !standby && disk.checkpoint_timeline == disk.timeline,
        "checkpoint_redo": (!standby).then_some(Lsn(disk.checkpoint_redo)),
        "standbys": standbys,
        "slots": slots,
        "rebuild": server.conf.rebuild,
        "config_hash": server.file.hash,
        "hot_standby": server.started_with.hot_standby(),
        "pending_restart": server.file.pending_restart(&server.started_with),
        "started_at_ms": EPOCH_MS + server.started_at_ms,
        "has_replication_role": server.catalogue.has_replication_role,
        "has_register": server.catalogue.register.is_some(),
    });
    Ok(value(facts.to_string()))
}

/// The nodes' clocks: this many milliseconds since 1970 when the world begins.
const EPOCH_MS: u64 = 1_750_000_000_000;

/// Who has which level; everything else that can be missing inside of a database is there.
pub(super) fn observe_inside(catalogue: &Catalogue, roles: &[String; 3]) -> Answer {
    let levels = AccessLevel::ALL.into_iter().zip(roles);
    let members = levels.flat_map(|(level, role)| {
        let members = catalogue.levels.get(role).into_iter().flatten();
        members
            .filter(|name| !roles.contains(name))
            .map(move |name| AccessMember {
                level,
                name: name.clone(),
            })
    });
    let facts = InsideFacts {
        access: AccessFacts {
            prepared: roles.iter().all(|role| catalogue.levels.contains_key(role)),
            members: members.collect(),
            ..AccessFacts::default()
        },
        extensions: Vec::new(),
    };
    match serde_json::to_string(&facts) {
        Ok(text) => value(text),
        Err(_) => Answer::Rows(Vec::new()),
    }
}

/// The extensions that every simulated server has, each in one version.
pub(super) const EXTENSIONS: [&str; 4] = ["citext", "hstore", "pg_trgm", "uuid-ossp"];

pub(super) fn observe_extensions(catalogue: &Catalogue, here: &str, names: &[String]) -> Answer {
    let database = catalogue.databases.get(here);
    let facts = names.iter().filter_map(|name| {
        let known = EXTENSIONS.contains(&name.as_str());
        let there = database.filter(|database| database.extensions.contains(name));
        Some(ExtensionFacts {
            name: name.parse().ok()?,
            available: known.then(|| "1.0".to_owned()),
            trusted: known,
            place: ExtensionPlace::Any,
            needs: Vec::new(),
            installed: there.map(|database| InstalledExtension {
                version: "1.0".to_owned(),
                owner: database.owner.clone(),
                schema: "public".to_owned(),
                added: Vec::new(),
                dependents: Vec::new(),
            }),
        })
    });
    match serde_json::to_string(&facts.collect::<Vec<_>>()) {
        Ok(text) => value(text),
        Err(_) => Answer::Rows(Vec::new()),
    }
}

pub(super) fn observe_catalogue(server: &Server, end: u64) -> Answer {
    if server.in_recovery {
        return Answer::Rows(Vec::new());
    }
    let makers = |database: &Database| {
        let roles = database.makers.iter();
        roles
            .filter_map(|name| Some(server.catalogue.roles.get(name)?.oid))
            .collect()
    };
    let facts = CatalogueFacts {
        lsn: Lsn(end),
        roles: server
            .catalogue
            .roles
            .iter()
            .map(|(name, role)| RoleFacts {
                name: name.clone(),
                verifier_sha256: role
                    .verifier
                    .parse::<ScramVerifier>()
                    .ok()
                    .map(|v| v.fingerprint()),
                oid: role.oid,
                attributes_ok: role.can_login,
                id: server.catalogue.registered(role.oid),
            })
            .chain(server.catalogue.levels.keys().map(|name| RoleFacts {
                name: name.clone(),
                verifier_sha256: None,
                oid: 0,
                attributes_ok: false,
                id: None,
            }))
            .collect(),
        databases: server
            .catalogue
            .databases
            .iter()
            .map(|(name, database)| DatabaseFacts {
                name: name.clone(),
                oid: database.oid,
                owner: database.owner.clone(),
                allows_connections: true,
                public_connects: database.public_connects,
                public_grantors: Vec::new(),
                owners: makers(database),
                involved: makers(database),
                id: server.catalogue.registered(database.oid),
            })
            .collect(),
        lost: server
            .catalogue
            .register
            .iter()
            .flatten()
            .filter(|(_, oid)| !server.catalogue.exists(**oid))
            .map(|(id, _)| *id)
            .collect(),
    };
    match serde_json::to_string(&facts) {
        Ok(text) => value(text),
        Err(_) => Answer::Rows(Vec::new()),
    }
}
