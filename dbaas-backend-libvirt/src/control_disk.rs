//! The control disk: a raw volume of 1 MiB that the control plane and the guest's boot script tell each other
//! things on. The layout is part of the contract of an image (`docs/libvirt-image.md`):
//!
//! ```text
//! block of 4096 bytes   written by            what
//!   0                   the control plane     the header: lines of text, then zeros
//!   1 … 239             the control plane     the archive of a start; the guest overwrites it with zeros when it has read it
//! 240 … 243             the guest             which program failed, and what it said
//! 248                   the guest             the report: one sector of lines of text
//! ```

use dbaas_core::boot::BootRecipe;
use dbaas_core::infrastructure::{DataState, InfraError, InfraErrorKind};

use crate::record::Record;

pub(crate) const BYTES: u64 = 1024 * 1024;
pub(crate) const BLOCK: usize = 4096;
const ARCHIVE_BYTES_MAX: usize = 239 * BLOCK;
pub(crate) const OUTPUT_AT: u64 = 240 * BLOCK as u64;
pub(crate) const OUTPUT_BYTES: u64 = 16 * 1024;
pub(crate) const REPORT_AT: u64 = 248 * BLOCK as u64;
pub(crate) const REPORT_BYTES: u64 = 512;

/// What the guest is to do with a start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due<'a> {
    pub(crate) boot_id: &'a str,
    pub(crate) recipe: &'a BootRecipe,
    /// The data disk is new: the guest makes a file system.
    pub(crate) format: bool,
    pub(crate) archive_bytes: usize,
    pub(crate) gateway: Option<&'a str>,
}

/// The header. Without a start, a guest switches itself off at once.
pub(crate) fn header(
    record: &Record,
    due: Option<Due<'_>>,
    copied: Option<&str>,
) -> Result<Vec<u8>, InfraError> {
    let mut text = format!("dbaas-control=1\nrecord={}\n", record.to_json()?);
    let mut line = |name: &str, value: &str| {
        if value.contains(['\n', '\r', '\0']) {
            let message = format!("{name} holds a line break");
            return Err(InfraError::new(InfraErrorKind::Unsupported, message));
        }
        text += &format!("{name}={value}\n");
        Ok(())
    };
    if let Some(due) = due {
        line("start", due.boot_id)?;
        line("epoch", &due.recipe.epoch.to_string())?;
        line("name", &record.spec.name)?;
        line("address", &record.address)?;
        line("gateway", due.gateway.unwrap_or_default())?;
        line("archive", &due.archive_bytes.to_string())?;
        if due.format {
            line("format", "yes")?;
        }
        if !record.copies.is_empty() && record.pooled.is_none() {
            line("copies", "yes")?;
        }
    }
    if let Some(boot_id) = copied {
        line("copied", boot_id)?;
    }
    padded(text.into_bytes(), BLOCK)
}

fn padded(mut bytes: Vec<u8>, size: usize) -> Result<Vec<u8>, InfraError> {
    if bytes.len() > size {
        let message = format!("the header of a control disk is too long ({} bytes)", bytes.len());
        return Err(InfraError::new(InfraErrorKind::Unsupported, message));
    }
    bytes.resize(size, 0);
    Ok(bytes)
}

/// Header and archive, to be written at the disk's beginning.
pub(crate) fn start(header: Vec<u8>, archive: Vec<u8>) -> Result<Vec<u8>, InfraError> {
    if archive.len() > ARCHIVE_BYTES_MAX {
        let message = format!("the recipe is too long ({} bytes)", archive.len());
        return Err(InfraError::new(InfraErrorKind::Unsupported, message));
    }
    let size = BLOCK + archive.len().div_ceil(BLOCK) * BLOCK;
    let mut bytes = header;
    bytes.extend_from_slice(&archive);
    padded(bytes, size)
}

/// Zeros over the whole place of archives.
pub(crate) fn no_archive() -> Vec<u8> {
    vec![0; ARCHIVE_BYTES_MAX]
}

/// The record in a header.
pub(crate) fn record_of(header: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(header);
    text.starts_with("dbaas-control=1\n").then_some(())?;
    text.lines()
        .find_map(|line| line.strip_prefix("record="))
        .map(str::to_owned)
}

/// How far a start came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Preparing,
    /// Initialised; the guest waits until the disk has been copied.
    Initialised,
    /// Not the guest's words: the disk is a copy of another node's, and was not started yet.
    Copied,
    Up,
    Failed,
    /// PostgreSQL ended by itself, or by the power button.
    Ended,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Of the start that it is about.
    pub(crate) boot_id: String,
    pub(crate) phase: Phase,
    pub(crate) data: DataState,
    pub(crate) free_mb: Option<u64>,
}

impl Report {
    /// `None`: nothing was ever reported.
    pub(crate) fn parse(sector: &[u8]) -> Option<Report> {
        let text = String::from_utf8_lossy(sector);
        text.starts_with("dbaas-report=1\n").then_some(())?;
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .map(str::trim)
        };
        Some(Report {
            boot_id: value("boot")?.to_owned(),
            phase: match value("state")?.split(' ').next()? {
                "preparing" => Phase::Preparing,
                "initialised" => Phase::Initialised,
                "copied" => Phase::Copied,
                "up" => Phase::Up,
                "failed" => Phase::Failed,
                "ended" => Phase::Ended,
                _ => return None,
            },
            data: match value("data")? {
                "initialised" => DataState::Initialised,
                "incomplete" => DataState::Incomplete,
                _ => DataState::Empty,
            },
            free_mb: value("free").and_then(|mb| mb.parse().ok()),
        })
    }
}

/// The report of a disk that is a copy.
pub(crate) fn report_of_copy() -> Vec<u8> {
    let mut bytes = b"dbaas-report=1\nboot=copy\nstate=copied\ndata=initialised\n".to_vec();
    bytes.resize(REPORT_BYTES as usize, 0);
    bytes
}

/// The report of a disk that is new.
pub(crate) fn no_report() -> Vec<u8> {
    vec![0; REPORT_BYTES as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let text =
            b"dbaas-report=1\nboot=b-1\nstate=ended 1\ndata=initialised\nmajor=15\nfree=77\n        \n";
        let report = Report::parse(text).unwrap();
        assert_eq!(
            (report.phase, report.data, report.free_mb),
            (Phase::Ended, DataState::Initialised, Some(77))
        );
        assert_eq!(Report::parse(&report_of_copy()).unwrap().phase, Phase::Copied);
        for nothing in [
            &no_report()[..],
            b"",
            b"dbaas-report=1\nboot=x\nstate=odd\ndata=\n",
        ] {
            assert_eq!(Report::parse(nothing), None);
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert!(start(vec![0; BLOCK], vec![1; ARCHIVE_BYTES_MAX]).is_ok());
        assert!(start(vec![0; BLOCK], vec![1; ARCHIVE_BYTES_MAX + 1]).is_err());
        assert_eq!(start(vec![0; BLOCK], vec![1; 1]).unwrap().len(), 2 * BLOCK);
    }
}
