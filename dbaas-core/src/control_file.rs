//! `pg_control`: a copy of a data directory is given an identity of its own, so that it is another cluster.
//!
//! The identity is the system identifier, which standbys, `pg_rewind` and backups go by, and the secret that
//! mock SCRAM challenges are made of. Both lie in `global/pg_control`, at places that depend on the version
//! of that file and nothing else. `pg_resetwal` then writes WAL of the new identifier. It also forgets which
//! settings the last server ran with, `wal_level` among them, and a standby refuses to follow from such a
//! file: they are put back.
//!
//! Nothing is guessed: a file of another version, of another length or with another checksum than it says is
//! refused, and so is what `pg_controldata` does not confirm afterwards. Whoever is refused runs `initdb`.

use std::fmt;
use std::ops::Range;

/// Length of `pg_control` (`PG_CONTROL_FILE_SIZE`).
pub const CONTROL_FILE_BYTES: usize = 8192;
/// Length of the secret that mock challenges are made of (`MOCK_AUTH_NONCE_LEN`).
pub const NONCE_BYTES: usize = 32;

/// What distinguishes one cluster from every other one.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// As `pg_controldata` shows it.
    pub system_identifier: u64,
    /// The secret of mock authentication.
    pub nonce: [u8; NONCE_BYTES],
}

impl fmt::Debug for ClusterIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterIdentity")
            .field("system_identifier", &self.system_identifier)
            .finish_non_exhaustive()
    }
}

impl ClusterIdentity {
    /// An identity of 36 random bytes and the time, in seconds since 1970. The time is the upper half of the
    /// identifier, as `initdb` has it.
    pub fn new(unix_seconds: u32, random: [u8; 4], nonce: [u8; NONCE_BYTES]) -> Self {
        ClusterIdentity {
            system_identifier: u64::from(unix_seconds) << 32 | u64::from(u32::from_le_bytes(random)),
            nonce,
        }
    }
}

/// A control file that is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pg_control is not given another identity: {reason}")]
pub struct Unexpected {
    /// What is not as expected.
    pub reason: String,
}

fn unexpected(reason: impl Into<String>) -> Unexpected {
    Unexpected {
        reason: reason.into(),
    }
}

/// Where things lie in a version of the file.
struct Layout {
    /// `wal_level` to `track_commit_timestamp`: what the last server ran with.
    settings: Range<usize>,
    nonce: usize,
    checksum: usize,
}

/// By `pg_control_version`: 14 to 17 have one, 18 put a boolean before the secret.
fn layout(version: u32) -> Option<Layout> {
    match version {
        1300 => Some(Layout {
            settings: 172..201,
            nonce: 256,
            checksum: 288,
        }),
        1800 => Some(Layout {
            settings: 172..201,
            nonce: 257,
            checksum: 292,
        }),
        _ => None,
    }
}

/// The file with another identity. Its data directory must be one that was shut down, which `pg_resetwal`
/// checks.
pub fn with_identity(control_file: &[u8], identity: &ClusterIdentity) -> Result<Vec<u8>, Unexpected> {
    let layout = sound(control_file)?;
    let mut changed = control_file.to_vec();
    changed[..8].copy_from_slice(&identity.system_identifier.to_ne_bytes());
    changed[layout.nonce..layout.nonce + NONCE_BYTES].copy_from_slice(&identity.nonce);
    Ok(with_checksum(changed, &layout))
}

/// The file with the settings of the last server as another one has them: that of the template, of which this
/// one's data directory is a copy.
pub fn with_settings_of(control_file: &[u8], template: &[u8]) -> Result<Vec<u8>, Unexpected> {
    let (layout, of_template) = (sound(control_file)?, sound(template)?);
    if control_file[8..16] != template[8..16] {
        return Err(unexpected("the template's is of another version"));
    }
    let mut changed = control_file.to_vec();
    changed[layout.settings.clone()].copy_from_slice(&template[of_template.settings]);
    Ok(with_checksum(changed, &layout))
}

/// Where things lie in a file that is what it says.
fn sound(control_file: &[u8]) -> Result<Layout, Unexpected> {
    if control_file.len() != CONTROL_FILE_BYTES {
        let found = control_file.len();
        return Err(unexpected(format!(
            "it has {found} bytes instead of {CONTROL_FILE_BYTES}"
        )));
    }
    let version = number(control_file, 8).unwrap_or_default();
    let Some(layout) = layout(version) else {
        return Err(unexpected(format!("its version {version} is not known")));
    };
    if number(control_file, layout.checksum) != Some(crc32c(&control_file[..layout.checksum])) {
        return Err(unexpected("its checksum is elsewhere, or wrong"));
    }
    Ok(layout)
}

fn with_checksum(mut changed: Vec<u8>, layout: &Layout) -> Vec<u8> {
    let checksum = crc32c(&changed[..layout.checksum]);
    changed[layout.checksum..layout.checksum + 4].copy_from_slice(&checksum.to_ne_bytes());
    changed
}

/// Whether `pg_controldata` (with `LC_ALL=C`) shows a sound file of a cluster that was shut down, has this
/// identity, and can have standbys.
pub fn confirm(shown: &str, identity: &ClusterIdentity) -> Result<(), Unexpected> {
    if let Some(warning) = shown.lines().find(|line| line.contains("WARNING")) {
        return Err(unexpected(format!("pg_controldata says: {warning}")));
    }
    let value = |name: &str| {
        let found = shown.lines().filter_map(|line| line.split_once(':'));
        let mut found = found.filter(|(label, _)| *label == name);
        found.next().map(|(_, value)| value.trim().to_owned())
    };
    let expected = [
        (
            "Database system identifier",
            identity.system_identifier.to_string(),
        ),
        ("Mock authentication nonce", hexadecimal(&identity.nonce)),
        ("Database cluster state", "shut down".to_owned()),
        ("wal_level setting", "replica".to_owned()),
    ];
    for (name, expected) in expected {
        if value(name).as_deref() != Some(expected.as_str()) {
            return Err(unexpected(format!("pg_controldata shows another {name:?}")));
        }
    }
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number of the machine's own byte order, which is the server's.
fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

/// CRC-32C (Castagnoli), bit by bit: there are some three hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let after = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a file of this version, with what else it holds all zero but the identifier.
    fn file(version: u32) -> Vec<u8> {
        let mut file = vec![0; CONTROL_FILE_BYTES];
        file[..8].copy_from_slice(&7u64.to_ne_bytes());
        file[8..12].copy_from_slice(&version.to_ne_bytes());
        let at = layout(version).unwrap().checksum;
        let checksum = crc32c(&file[..at]);
        file[at..at + 4].copy_from_slice(&checksum.to_ne_bytes());
        file
    }

    fn identity() -> ClusterIdentity {
        ClusterIdentity::new(3, [1, 0, 0, 0], [0xab; NONCE_BYTES])
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn identity_and_checksum_change_and_nothing_else() {
        for (version, nonce, checksum) in [(1300, 256, 288), (1800, 257, 292)] {
            let before = file(version);
            let after = with_identity(&before, &identity()).unwrap();
            assert_eq!(after[..8], ((3u64 << 32) + 1).to_ne_bytes());
            assert_eq!(after[8..nonce], before[8..nonce]);
            assert_eq!(after[nonce..nonce + 32], [0xab; 32]);
            assert_eq!(number(&after, checksum), Some(crc32c(&after[..checksum])));
            assert_eq!(after[checksum + 4..], before[checksum + 4..]);
        }
    }

    #[test]
    fn settings_are_taken_from_the_template() {
        let mut template = file(1300);
        template[172] = 1;
        template[180] = 100;
        let layout = layout(1300).unwrap();
        let template = with_checksum(template, &layout);
        let mine = with_identity(&file(1300), &identity()).unwrap();
        let after = with_settings_of(&mine, &template).unwrap();
        assert_eq!((after[172], after[180]), (1, 100));
        assert_eq!(after[..172], mine[..172]);
        assert_eq!(after[201..288], mine[201..288]);
        assert!(sound(&after).is_ok());
        assert!(with_settings_of(&file(1800), &template).is_err());
    }

    #[test]
    fn what_is_not_as_expected_is_refused() {
        let refused = |file: &[u8]| with_identity(file, &identity()).unwrap_err().reason;
        assert_eq!(refused(&file(1300)[1..]), "it has 8191 bytes instead of 8192");
        let mut other = file(1300);
        other[8] = 0;
        assert_eq!(refused(&other), "its version 1280 is not known");
        let mut damaged = file(1800);
        damaged[100] ^= 1;
        assert_eq!(refused(&damaged), "its checksum is elsewhere, or wrong");
    }

    #[test]
    fn pg_controldata_has_the_last_word() {
        let shown = |identifier: u64, state: &str| {
            format!(
                "pg_control version number:            1300\n\
                 Database system identifier:           {identifier}\n\
                 Database cluster state:               {state}\n\
                 wal_level setting:                    replica\n\
                 Mock authentication nonce:            {}\n",
                "ab".repeat(32)
            )
        };
        let mine = identity().system_identifier;
        assert_eq!(confirm(&shown(mine, "shut down"), &identity()), Ok(()));
        assert!(confirm(&shown(mine, "in production"), &identity()).is_err());
        assert!(confirm(&shown(mine + 1, "shut down"), &identity()).is_err());
        assert!(confirm("", &identity()).is_err());
        let warned = format!(
            "WARNING: Calculated CRC checksum does not match\n{}",
            shown(mine, "shut down")
        );
        assert!(confirm(&warned, &identity()).is_err());
        assert!(
            !format!("{:?}", identity()).contains("171"),
            "the secret is not shown"
        );
    }
}
