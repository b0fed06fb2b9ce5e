//! What nodes are configured with: what their size gives, what the user asked for, and for standbys at least
//! what hot standby needs.

use std::collections::BTreeMap;

use crate::config::{Configuration, HOT_STANDBY_FLOOR_SETTINGS, HbaRules, Settings, hot_standby_floor};
use crate::id::NodeId;
use crate::instance::InstanceRecord;
use crate::size::CpuCores;
use crate::version::PostgresMajor;

/// `postgresql.conf` and `pg_hba.conf` of a node that runs.
pub fn desired_configuration(record: &InstanceRecord, hba: &HbaRules, node: NodeId) -> Configuration {
    let wanted = wanted(record);
    let is_primary = record.cluster.as_ref().is_some_and(|c| c.primary == node);
    let settings = if is_primary {
        wanted
    } else {
        over_the_floor(record, &wanted)
    };
    Configuration {
        settings,
        hba: hba.clone(),
    }
}

/// What an instance's nodes are to run with in the end: what their size gives, and the user's parameters.
pub(super) fn wanted(record: &InstanceRecord) -> Settings {
    let mut settings = by_size(record);
    record.effective_parameters().apply_to(&mut settings);
    settings
}

/// What the nodes' size gives. What a standby may not have less of never shrinks with it.
pub(super) fn by_size(record: &InstanceRecord) -> Settings {
    let major = record.spec.image.major().unwrap_or(PostgresMajor::OLDEST);
    let of = |cpu: CpuCores, ram| Settings::derive(major, cpu, ram, record.spec.resources.disk);
    let wanted = of(record.spec.resources.cpu, record.spec.resources.ram);
    if record.largest == record.spec.resources {
        return wanted;
    }
    hot_standby_floor(&of(record.largest.cpu, record.largest.ram), &wanted)
}

/// What a standby is configured with.
pub(super) fn over_the_floor(record: &InstanceRecord, wanted: &Settings) -> Settings {
    let mut settings = wanted.clone();
    for (name, floor) in floor(record) {
        if value(wanted, &name).is_some_and(|wanted| wanted < floor) {
            // The name is a setting's, and a number has no NUL.
            let _ = settings.set(&name, &floor.to_string());
        }
    }
    settings
}

/// The least of those settings that a standby may have. Before it is kept, every node runs with what its size
/// gives.
pub(super) fn floor(record: &InstanceRecord) -> BTreeMap<String, u64> {
    if record.parameters.floor.is_empty() {
        values(&by_size(record))
    } else {
        record.parameters.floor.clone()
    }
}

pub(super) fn value(settings: &Settings, name: &str) -> Option<u64> {
    settings.get(name).and_then(|value| value.trim().parse().ok())
}

pub(super) fn values(settings: &Settings) -> BTreeMap<String, u64> {
    let names = HOT_STANDBY_FLOOR_SETTINGS.iter();
    names
        .filter_map(|name| Some(((*name).to_owned(), value(settings, name)?)))
        .collect()
}
