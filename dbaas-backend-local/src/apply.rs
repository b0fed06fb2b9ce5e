//! `apply`: makes a node's directory and gives it a port.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::Path;

use dbaas_core::infrastructure::{InfraError, InfraErrorKind, NodeSpec};

use crate::backend::Inner;
use crate::discovery::Installation;
use crate::errors::{invalid, io_error};
use crate::files::{self, Durability};
use crate::node::{FORMAT, Kept, Node, Record, Wanted, read_json};
use crate::port::HeldPort;

pub(crate) fn apply(inner: &Inner, node: &Node, spec: NodeSpec) -> Result<(), InfraError> {
    let shown = |e: io::Error| io_error("making the node's directory", &e);
    let installation = inner.installed.for_image(&spec.image)?;
    check_major(node, &installation)?;
    let known = node.state.lock().record.clone();
    if let Some(record) = known {
        let resources = spec.resources;
        if record.spec != spec {
            node.save(Record { spec, ..record }, Durability::Disk)
                .map_err(shown)?;
        }
        return inner.cgroups.limit(node.id.node, resources).map_err(shown);
    }
    let kept = find_kept(node)?;
    node.make_dirs(&inner.account).map_err(shown)?;
    let (port, held) = choose_port(inner)?;
    node.state.lock().held_port = Some(held);
    let boot = kept.and_then(|k| k.boot);
    let saved = node.save(
        Record {
            format: FORMAT,
            spec,
            port,
            wanted: Wanted::Off,
            boot,
        },
        Durability::Disk,
    );
    inner.reserved_ports.lock().remove(&port);
    saved.map_err(shown)?;
    files::remove_if_there(&node.dir.kept()).map_err(shown)?;
    let password = fs::read_to_string(node.dir.bootstrap_password()).ok();
    node.state.lock().bootstrap_password = password.map(dbaas_core::secret::Secret::new);
    inner.changed(node.id);
    Ok(())
}

/// Data of an earlier life of the node; an error if the directory is somebody else's.
fn find_kept(node: &Node) -> Result<Option<Kept>, InfraError> {
    let shown = |e: io::Error| InfraError::new(InfraErrorKind::Collision, format!("cannot be read: {e}"));
    let collision = |what: &Path| {
        let message = format!(
            "{} is there and is not a node of this backend; move it away",
            what.display()
        );
        InfraError::new(InfraErrorKind::Collision, message)
    };
    if node.dir.record().exists() {
        return Err(collision(&node.dir.record()));
    }
    if let Some(kept) = read_json::<Kept>(&node.dir.kept()).map_err(shown)? {
        return if kept.format > FORMAT {
            Err(collision(&node.dir.kept()))
        } else {
            Ok(Some(kept))
        };
    }
    let entries = match fs::read_dir(node.dir.path()) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(shown(e)),
    };
    for entry in entries.flatten() {
        // What an `apply` that was interrupted leaves.
        if !["run", ".node.json.new"].contains(&entry.file_name().to_string_lossy().as_ref()) {
            return Err(collision(&entry.path()));
        }
    }
    Ok(None)
}

/// A data directory belongs to one major version for ever.
pub(crate) fn check_major(node: &Node, installation: &Installation) -> Result<(), InfraError> {
    let Ok(text) = fs::read_to_string(node.dir.data().join("PG_VERSION")) else {
        return Ok(());
    };
    let there = text.trim();
    let wanted = installation.version.major.to_string();
    if there == wanted || node.dir.incomplete().exists() {
        return Ok(());
    }
    Err(invalid(format!(
        "the node's data directory is of PostgreSQL {there}, not {wanted}; an upgrade is not a restart"
    )))
}

/// Reserves a port that no other node has and that nobody listens on, of this backend or another. Where the
/// search begins depends on the data directory, so that two of them on one machine seldom meet.
fn choose_port(inner: &Inner) -> Result<(u16, HeldPort), InfraError> {
    let mut reserved = inner.reserved_ports.lock();
    let taken: std::collections::HashSet<u16> = inner
        .nodes
        .all()
        .iter()
        .filter_map(|n| n.state.lock().record.as_ref().map(|r| r.port))
        .collect();
    let ports: Vec<u16> = inner.options.port_range.clone().collect();
    let mut hasher = std::hash::DefaultHasher::new();
    inner.root.hash(&mut hasher);
    let offset = usize::try_from(hasher.finish() % (ports.len().max(1) as u64)).unwrap_or(0) & !0xf;
    let (before, after) = ports.split_at(offset.min(ports.len()));
    let address = inner.options.listen_address;
    let (port, held) = after
        .iter()
        .chain(before)
        .copied()
        .filter(|port| !taken.contains(port) && !reserved.contains(port))
        .find_map(|port| Some((port, HeldPort::take(address, port).ok()?)))
        .ok_or_else(|| {
            let range = &inner.options.port_range;
            let message = format!(
                "no port between {} and {} is free on {address}",
                range.start(),
                range.end()
            );
            InfraError::new(InfraErrorKind::Exhausted, message)
        })?;
    reserved.insert(port);
    Ok((port, held))
}
