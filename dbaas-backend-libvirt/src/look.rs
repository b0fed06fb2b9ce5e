//! What libvirt says of a node, at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dbaas_core::infrastructure::{DataState, InfraError, InfraErrorKind, NodeRef};

use crate::backend::Inner;
use crate::control_disk::{self, Phase, Report};
use crate::names::{self, Volume};
use crate::record::{Record, Wanted};
use crate::xml::{self, Place};

/// A domain's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// Paused, suspended to memory, or waiting for something.
    Frozen,
    Off,
    /// There is no domain.
    Undefined,
}

/// A node as found.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) node: NodeRef,
    pub(crate) state: State,
    /// libvirt's words for how it came to be so.
    pub(crate) reason: String,
    /// `None`: there is something of this name, and it is not ours.
    pub(crate) record: Option<Record>,
    pub(crate) volumes: BTreeSet<String>,
    pub(crate) report: Option<Report>,
}

impl Look {
    pub(crate) fn has(&self, volume: Volume) -> bool {
        self.volumes.contains(&names::volume(self.node, volume))
    }

    pub(crate) fn is_on(&self) -> bool {
        matches!(self.state, State::Running | State::Frozen)
    }

    /// The record of a node that exists.
    pub(crate) fn existing(&self) -> Result<Record, InfraError> {
        self.record
            .clone()
            .filter(|record| record.wanted != Wanted::Kept)
            .ok_or_else(|| not_found(self.node))
    }

    /// What the last start reported, if it did.
    pub(crate) fn report_of_boot(&self) -> Option<&Report> {
        let boot = self.record.as_ref()?.boot.as_ref()?;
        self.report
            .as_ref()
            .filter(|report| report.boot_id == boot.boot_id)
    }

    pub(crate) fn data(&self) -> DataState {
        match &self.report {
            Some(report) if self.has(Volume::Data) => report.data,
            _ => DataState::Empty,
        }
    }

    /// It runs, and its boot script has said nothing of this start.
    pub(crate) fn is_silent(&self) -> bool {
        self.is_on() && self.report_of_boot().is_none()
    }

    /// The guest waits until its disk has been copied.
    pub(crate) fn waits_for_copies(&self) -> bool {
        let waits = |report: &Report| report.phase == Phase::Initialised;
        self.is_on() && self.report_of_boot().is_some_and(waits)
    }
}

pub(crate) fn not_found(node: NodeRef) -> InfraError {
    InfraError::new(
        InfraErrorKind::NotFound,
        format!("there is no node {}", node.node),
    )
}

impl Inner {
    /// Domains and volumes that begin with these words.
    pub(crate) async fn named(
        &self,
        prefix: &str,
    ) -> Result<(BTreeSet<NodeRef>, BTreeMap<NodeRef, BTreeSet<String>>), InfraError> {
        let questions = [
            "list --all --name".to_owned(),
            format!("vol-list {}", self.options.pool),
        ];
        let answers = self.libvirt.ask(&questions).await?;
        let [domains, listed] = answers.as_slice() else {
            return Err(InfraError::new(
                InfraErrorKind::Other,
                "libvirt answers too little",
            ));
        };
        let domains = String::from_utf8_lossy(domains)
            .lines()
            .map(str::trim)
            .filter(|name| name.starts_with(prefix))
            .filter_map(names::node_of_domain)
            .collect();
        let mut volumes: BTreeMap<NodeRef, BTreeSet<String>> = BTreeMap::new();
        for name in crate::pool::volume_names(listed) {
            if let Some((node, _)) = names::node_of_volume(&name).filter(|_| name.starts_with(prefix)) {
                volumes.entry(node).or_default().insert(name);
            }
        }
        if volumes.is_empty() && listed.is_empty() {
            // A pool that is not there has no volumes, and says so only by failing.
            self.volumes().await?;
        }
        Ok((domains, volumes))
    }

    /// Everything of the nodes whose names begin so.
    pub(crate) async fn look_at_all(&self, prefix: &str) -> Result<Vec<Look>, InfraError> {
        let (domains, volumes) = self.named(prefix).await?;
        let nodes: BTreeSet<NodeRef> = domains.iter().chain(volumes.keys()).copied().collect();
        let mut questions = Vec::new();
        for node in &nodes {
            let (domain, control) = (names::domain(*node), names::volume(*node, Volume::Control));
            let has_control = volumes.get(node).is_some_and(|v| v.contains(&control));
            if domains.contains(node) {
                questions.push(format!("dumpxml --inactive {domain}"));
                questions.push(format!("domstate --reason {domain}"));
            } else if has_control {
                questions.push(self.read_question(&control, 0, control_disk::BLOCK as u64));
                questions.push("echo".to_owned());
            } else {
                questions.extend(["echo".to_owned(), "echo".to_owned()]);
            }
            questions.push(if has_control {
                self.read_question(&control, control_disk::REPORT_AT, control_disk::REPORT_BYTES)
            } else {
                "echo".to_owned()
            });
        }
        let answers = self.libvirt.ask(&questions).await?;
        let mut looks = Vec::new();
        for (node, answers) in nodes.into_iter().zip(answers.chunks(3)) {
            let [said, state, report] = answers else { continue };
            let is_domain = domains.contains(&node);
            if is_domain && said.is_empty() {
                // Gone meanwhile.
                return Err(InfraError::new(InfraErrorKind::Other, GONE));
            }
            looks.push(Look {
                node,
                record: if is_domain {
                    self.record_of_domain(node, said)?
                } else {
                    self.record_of_disk(node, said)?
                },
                state: if is_domain {
                    read_state(state)
                } else {
                    State::Undefined
                },
                reason: String::from_utf8_lossy(state).trim().to_owned(),
                volumes: volumes.get(&node).cloned().unwrap_or_default(),
                report: Report::parse(report),
            });
        }
        Ok(looks)
    }

    fn record_of_domain(&self, node: NodeRef, said: &[u8]) -> Result<Option<Record>, InfraError> {
        match xml::read_domain(said)?.ours {
            Some((owner, record)) if owner == self.options.owner => Record::parse(&record, node).map(Some),
            _ => Ok(None),
        }
    }

    fn record_of_disk(&self, node: NodeRef, header: &[u8]) -> Result<Option<Record>, InfraError> {
        let Some(json) = control_disk::record_of(header) else {
            return Ok(None);
        };
        let record = Record::parse(&json, node)?;
        Ok((record.owner == self.options.owner).then_some(record))
    }

    /// One node. `None`: there is nothing of this name.
    pub(crate) async fn look(&self, node: NodeRef) -> Result<Option<Look>, InfraError> {
        let mut tries = 0;
        loop {
            match self.look_at_all(&names::domain(node)).await {
                Ok(looks) => return Ok(looks.into_iter().find(|look| look.node == node)),
                Err(e) if e.to_string() == GONE && tries < 5 => tries += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// One node, which the caller works on alone; its domain made again if somebody undefined it.
    pub(crate) async fn look_alone(&self, node: NodeRef) -> Result<Option<Look>, InfraError> {
        let Some(mut look) = self.look(node).await? else {
            return Ok(None);
        };
        if let (State::Undefined, Some(record)) = (&look.state, &look.record)
            && record.wanted != Wanted::Kept
        {
            tracing::warn!(node = %node.node, "the node's domain was undefined by somebody; it is made again");
            self.define(record).await?;
            look.state = State::Off;
        }
        Ok(Some(look))
    }

    /// Writes the domain.
    pub(crate) async fn define(&self, record: &Record) -> Result<(), InfraError> {
        let place = Place {
            pool: &self.options.pool,
            pool_path: &self.pool_path().await?,
            network: &self.options.network,
            accelerator: self.accelerator().await?,
        };
        let xml = xml::domain(record, &place)?;
        let defined = self
            .libvirt
            .run(&["define", "/dev/stdin"], Some(xml.into_bytes()))
            .await;
        match defined {
            Err(e)
                if e.to_string().contains("already exists with uuid")
                    || e.to_string().contains("is already defined") =>
            {
                Err(InfraError::new(InfraErrorKind::Collision, e.to_string()))
            }
            other => other.map(|_| ()),
        }
    }

    /// Writes the record: in the metadata, and on the control disk of a node that is off. There nothing is to
    /// be started by it, and no secret is left.
    pub(crate) async fn save_off(&self, record: &Record, wipe: bool) -> Result<(), InfraError> {
        let control = names::volume(record.node(), Volume::Control);
        let mut bytes = control_disk::header(record, None, None)?;
        if wipe {
            bytes.extend(control_disk::no_archive());
        }
        self.write_at(&control, 0, bytes).await?;
        self.define(record).await
    }

    /// Runs one node's work in the background, alone.
    pub(crate) async fn lock(&self, node: NodeRef) -> tokio::sync::OwnedMutexGuard<()> {
        let handle = self.nodes.handle(node);
        Arc::clone(&handle.op).lock_owned().await
    }
}

/// A domain that was listed vanished before it was looked at.
pub(crate) const GONE: &str = "a node vanished while it was looked at";

/// `running (booted)`, `shut off (destroyed)`, …
pub(crate) fn read_state(said: &[u8]) -> State {
    let said = String::from_utf8_lossy(said);
    let state = said.trim();
    if state.starts_with("shut off") || state.starts_with("crashed") {
        State::Off
    } else if state.starts_with("running") || state.starts_with("in shutdown") {
        State::Running
    } else if state.is_empty() {
        State::Undefined
    } else {
        // Never taken for off: paused, idle, pmsuspended, and whatever newer ones say.
        State::Frozen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        for (said, state) in [
            ("running (booted)\n", State::Running),
            ("in shutdown (user)", State::Running),
            ("paused (user)", State::Frozen),
            ("pmsuspended", State::Frozen),
            ("something new", State::Frozen),
            ("shut off (crashed)", State::Off),
            ("crashed (panicked)", State::Off),
            ("", State::Undefined),
        ] {
            assert_eq!(read_state(said.as_bytes()), state, "{said}");
        }
    }
}
