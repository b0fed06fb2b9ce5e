//! [`Sealer`]: secrets at rest, encrypted with a key that lies beside the store, not in it.
//!
//! XChaCha20-Poly1305 with a random 24-byte nonce for each secret (draft-irtf-cfrg-xchacha-03: random nonces
//! are safe at any number of secrets that fits on a disk). The associated data (the id of the record) binds a
//! sealed secret to its place: moved to another record it does not open.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use dbaas_core::secret::{SecretSealer, UnsealError};
use rand::rngs::{OsRng, StdRng};
use rand::{RngCore, SeedableRng, TryRngCore};
use zeroize::Zeroizing;

use crate::private_file;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const VERSION_PREFIX: &str = "v1:";

/// Encrypts small secrets for storage. Cheap to share by reference; holds the key in memory, wiped when
/// dropped.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// let sealer = dbaas_store::Sealer::load_or_create(&directory.path().join("secrets.key"))?;
/// let sealed = sealer.seal(b"instance 7", b"correct horse");
/// assert_eq!(&**sealer.open(b"instance 7", &sealed)?, b"correct horse");
/// assert!(sealer.open(b"instance 8", &sealed).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sealer {
    cipher: XChaCha20Poly1305,
    /// Seeded by the system when the sealer was made, so that sealing itself cannot fail.
    nonces: Mutex<StdRng>,
}

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is none, and the store that needs it exists.
    #[error(
        "the key file {} is missing: restore it from a backup; without it the secrets in the store cannot be read",
        path.display()
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It does not hold a key.
    #[error("the key file {} does not hold exactly {KEY_BYTES} bytes: restore it from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// Others than its owner may read or write it.
    #[error("the key file {} can be read or written by others (mode {mode:o}): run chmod 600 on it", path.display())]
    NotPrivate {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It cannot be read or made.
    #[error("the key file {} cannot be used", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no random numbers: {0}")]
    NoRandomness(String),
}

/// A sealed secret does not open. Says nothing about its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The text was not made by [`Sealer::seal`], or by a newer version of it.
    #[error("not a sealed secret of a version that this program knows")]
    UnknownFormat,
    /// Changed, cut, of another record, or sealed with another key.
    #[error(
        "the sealed secret does not open: it was changed, belongs to another record, or the key file is another one"
    )]
    DoesNotOpen,
}

impl Sealer {
    /// Reads the key file.
    ///
    /// # Errors
    /// [`KeyFileError::Missing`] if there is none; otherwise why it cannot be used.
    pub fn load(path: &Path) -> Result<Sealer, KeyFileError> {
        match read_key(path)? {
            Some(key) => Sealer::new(&key),
            None => Err(KeyFileError::Missing {
                path: path.to_owned(),
            }),
        }
    }

    /// Reads the key file, or makes it (mode 0600, random) if there is none.
    ///
    /// # Errors
    /// Why the file cannot be used or made.
    pub fn load_or_create(path: &Path) -> Result<Sealer, KeyFileError> {
        if let Some(key) = read_key(path)? {
            return Sealer::new(&key);
        }
        let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
        OsRng
            .try_fill_bytes(&mut *key)
            .map_err(|error| KeyFileError::NoRandomness(error.to_string()))?;
        private_file::create(path, |draft| std::fs::write(draft, key.as_slice())).map_err(|source| {
            KeyFileError::Io {
                path: path.to_owned(),
                source,
            }
        })?;
        // Read back: if somebody else made it at the same time, theirs is the key.
        Sealer::load(path)
    }

    /// [`Sealer::load_or_create`] before the store exists, [`Sealer::load`] once it does: a key that was lost
    /// must not be replaced in silence. Call it before opening the store.
    ///
    /// # Errors
    /// Why the file cannot be used or made.
    pub fn beside_store(key_path: &Path, store_path: &Path) -> Result<Sealer, KeyFileError> {
        match store_path.try_exists() {
            Ok(true) => Sealer::load(key_path),
            Ok(false) => Sealer::load_or_create(key_path),
            Err(source) => Err(KeyFileError::Io {
                path: store_path.to_owned(),
                source,
            }),
        }
    }

    fn new(key: &[u8; KEY_BYTES]) -> Result<Sealer, KeyFileError> {
        let nonces =
            StdRng::try_from_os_rng().map_err(|error| KeyFileError::NoRandomness(error.to_string()))?;
        Ok(Sealer {
            cipher: XChaCha20Poly1305::new(Key::from_slice(key)),
            nonces: Mutex::new(nonces),
        })
    }

    /// Encrypts. `aad` names the place that the secret belongs to; the same bytes must be given to
    /// [`Sealer::open`]. The result is printable ASCII: `v1:` and base64.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> String {
        let mut nonce = [0_u8; NONCE_BYTES];
        self.nonces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(&mut nonce);
        let payload = Payload { msg: plaintext, aad };
        let Ok(ciphertext) = self.cipher.encrypt(XNonce::from_slice(&nonce), payload) else {
            unreachable!("only a plaintext above 256 GB cannot be encrypted")
        };
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(&ciphertext);
        format!("{VERSION_PREFIX}{}", STANDARD_NO_PAD.encode(sealed))
    }

    /// Decrypts what [`Sealer::seal`] made with the same `aad`.
    ///
    /// # Errors
    /// [`SealError`] if it is anything else.
    pub fn open(&self, aad: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let encoded = sealed
            .strip_prefix(VERSION_PREFIX)
            .ok_or(SealError::UnknownFormat)?;
        let bytes = STANDARD_NO_PAD
            .decode(encoded)
            .map_err(|_| SealError::DoesNotOpen)?;
        let (nonce, ciphertext) = bytes
            .split_at_checked(NONCE_BYTES)
            .ok_or(SealError::DoesNotOpen)?;
        let payload = Payload { msg: ciphertext, aad };
        let plaintext = self.cipher.decrypt(XNonce::from_slice(nonce), payload);
        plaintext.map(Zeroizing::new).map_err(|_| SealError::DoesNotOpen)
    }
}

impl SecretSealer for Sealer {
    fn seal(&self, context: &[u8], plaintext: &[u8]) -> String {
        Sealer::seal(self, context, plaintext)
    }

    fn open(&self, context: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        Sealer::open(self, context, sealed).map_err(|_| UnsealError)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

fn read_key(path: &Path) -> Result<Option<Zeroizing<[u8; KEY_BYTES]>>, KeyFileError> {
    let io_error = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    // Not blocking: what lies there may be a named pipe.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = match std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let metadata = file.metadata().map_err(io_error)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::NotPrivate {
            path: path.to_owned(),
            mode,
        });
    }
    let damaged = || KeyFileError::Damaged {
        path: path.to_owned(),
    };
    if !metadata.is_file() || metadata.len() != KEY_BYTES as u64 {
        return Err(damaged());
    }
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    file.read_exact(&mut *key).map_err(io_error)?;
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};

    use super::*;

    fn sealer() -> (tempfile::TempDir, PathBuf, Sealer) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let sealer = Sealer::load_or_create(&path).unwrap();
        (directory, path, sealer)
    }

    #[test]
    fn opens_what_it_sealed_also_after_a_restart() {
        let (_directory, path, sealer) = sealer();
        for plaintext in [&b""[..], b"x", &[0; 4096]] {
            let sealed = sealer.seal(b"id", plaintext);
            assert!(sealed.starts_with("v1:") && sealed.is_ascii());
            let again = Sealer::load_or_create(&path).unwrap();
            assert_eq!(&**again.open(b"id", &sealed).unwrap(), plaintext);
        }
        assert_ne!(
            sealer.seal(b"id", b"x"),
            sealer.seal(b"id", b"x"),
            "each has its own nonce"
        );
    }

    #[test]
    fn refuses_what_was_changed_moved_or_cut() {
        let (_directory, _, sealer) = sealer();
        let (_other_directory, _, other) = super::tests::sealer();
        let sealed = sealer.seal(b"id", b"a secret");
        assert_eq!(sealer.open(b"ie", &sealed), Err(SealError::DoesNotOpen));
        assert_eq!(other.open(b"id", &sealed), Err(SealError::DoesNotOpen));
        let bytes = STANDARD_NO_PAD.decode(&sealed[3..]).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let changed = format!("v1:{}", STANDARD_NO_PAD.encode(&changed));
            assert_eq!(
                sealer.open(b"id", &changed),
                Err(SealError::DoesNotOpen),
                "byte {index}"
            );
            let cut = format!("v1:{}", STANDARD_NO_PAD.encode(&bytes[..index]));
            assert_eq!(
                sealer.open(b"id", &cut),
                Err(SealError::DoesNotOpen),
                "cut at {index}"
            );
        }
        for text in ["", "v1", "v2:AAAA", "plain", "\u{1F418}"] {
            assert_eq!(sealer.open(b"id", text), Err(SealError::UnknownFormat));
        }
        for text in ["v1:", "v1:!", "v1:AAAA="] {
            assert_eq!(sealer.open(b"id", text), Err(SealError::DoesNotOpen));
        }
    }

    #[test]
    fn the_key_file_is_private_and_checked() {
        let (directory, path, _) = sealer();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Sealer::load(&path),
            Err(KeyFileError::NotPrivate { mode: 0o640, .. })
        ));
        assert!(matches!(
            Sealer::load_or_create(&path),
            Err(KeyFileError::NotPrivate { .. })
        ));
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, [1; 31]).unwrap();
        assert!(matches!(
            Sealer::load_or_create(&path),
            Err(KeyFileError::Damaged { .. })
        ));
        assert!(matches!(
            Sealer::load(&directory.path().join("none")),
            Err(KeyFileError::Missing { .. })
        ));
        let nowhere = directory.path().join("no such directory").join("key");
        assert!(matches!(
            Sealer::load_or_create(&nowhere),
            Err(KeyFileError::Io { .. })
        ));
    }

    #[test]
    fn a_lost_key_is_not_replaced_once_the_store_exists() {
        let directory = tempfile::tempdir().unwrap();
        let (key, store) = (directory.path().join("key"), directory.path().join("store"));
        Sealer::beside_store(&key, &store).unwrap();
        std::fs::write(&store, "").unwrap();
        Sealer::beside_store(&key, &store).unwrap();
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(
            Sealer::beside_store(&key, &store),
            Err(KeyFileError::Missing { .. })
        ));
        assert!(!key.exists());
    }

    #[test]
    fn debug_shows_no_key() {
        let (_directory, path, sealer) = sealer();
        assert_eq!(format!("{sealer:?}"), "Sealer(..)");
        assert_eq!(std::fs::read(path).unwrap().len(), 32);
    }
}
