//! [`ScramVerifier`]: what is kept and sent instead of a password, in PostgreSQL's own format
//! (`SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`, as in `pg_authid.rolpassword`).
//!
//! Source: RFC 5802 section 3, RFC 7677, PostgreSQL's `src/common/scram-common.c`.
//!
//! ```
//! use dbaas_core::password::Password;
//! use dbaas_core::scram::{Iterations, ScramVerifier};
//!
//! let password = Password::new("correct horse")?;
//! let verifier = ScramVerifier::derive(&password, [7; 16], Iterations::default());
//! assert!(verifier.verify(&password));
//! assert_eq!(verifier.to_string().parse(), Ok(verifier));
//! # Ok::<(), dbaas_core::password::PasswordError>(())
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::limits;
use crate::password::Password;
use crate::size::OutOfBounds;

const PREFIX: &str = "SCRAM-SHA-256$";
/// Bytes of salt, as PostgreSQL uses.
pub const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// Rounds of PBKDF2, within [`limits::SCRAM_ITERATIONS`]. By default 4096, as in PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Iterations(u32);

impl Iterations {
    /// For a password of 256 random bits. Rounds make guessing slow, and nobody guesses such a one; they
    /// would make nothing but every login slow, for whoever logs in. Outside of the bounds, so that no
    /// password that somebody chose is ever hashed like this.
    pub const OF_RANDOM_PASSWORD: Iterations = Iterations(64);

    /// Checks the bounds.
    pub fn new(rounds: u32) -> Result<Self, OutOfBounds> {
        if limits::SCRAM_ITERATIONS.contains(&rounds) {
            return Ok(Iterations(rounds));
        }
        let (min, max) = (*limits::SCRAM_ITERATIONS.start(), *limits::SCRAM_ITERATIONS.end());
        Err(OutOfBounds {
            min: min.into(),
            max: max.into(),
            unit: "iterations",
            got: rounds.into(),
        })
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Iterations {
    fn default() -> Self {
        Iterations(limits::SCRAM_ITERATIONS_DEFAULT)
    }
}

impl TryFrom<u32> for Iterations {
    type Error = OutOfBounds;

    fn try_from(rounds: u32) -> Result<Self, OutOfBounds> {
        Iterations::new(rounds)
    }
}

impl From<Iterations> for u32 {
    fn from(iterations: Iterations) -> u32 {
        iterations.0
    }
}

/// A SCRAM-SHA-256 verifier. It allows to check a password, and is still a secret: it allows to impersonate
/// the server and to guess offline. `Debug` shows nothing of it; `Display` and serde give PostgreSQL's text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScramVerifier {
    iterations: Iterations,
    salt: [u8; SALT_BYTES],
    stored_key: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

/// The text is not a SCRAM-SHA-256 verifier as PostgreSQL writes it. Holds nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a SCRAM-SHA-256 verifier (SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>): {reason}"
)]
pub struct InvalidVerifier {
    /// What is wrong.
    pub reason: &'static str,
}

impl ScramVerifier {
    /// Hashes a password. The salt must be random and never used before.
    pub fn derive(password: &Password, salt: [u8; SALT_BYTES], iterations: Iterations) -> ScramVerifier {
        let mut salted = Zeroizing::new([0u8; KEY_BYTES]);
        pbkdf2::pbkdf2_hmac::<Sha256>(password.expose().as_bytes(), &salt, iterations.0, salted.as_mut());
        let client_key = Zeroizing::new(hmac_sha256(&salted, b"Client Key"));
        ScramVerifier {
            iterations,
            salt,
            stored_key: Sha256::digest(client_key.as_ref()).into(),
            server_key: hmac_sha256(&salted, b"Server Key"),
        }
    }

    /// Whether this is the verifier of the password. Takes the same time whether it is or not.
    pub fn verify(&self, password: &Password) -> bool {
        let other = ScramVerifier::derive(password, self.salt, self.iterations);
        let stored = self.stored_key.ct_eq(&other.stored_key);
        let server = self.server_key.ct_eq(&other.server_key);
        (stored & server).into()
    }

    /// The rounds of PBKDF2.
    pub fn iterations(&self) -> Iterations {
        self.iterations
    }

    /// The salt.
    pub fn salt(&self) -> &[u8; SALT_BYTES] {
        &self.salt
    }

    /// `StoredKey` of RFC 5802, as a server needs it.
    pub fn stored_key(&self) -> &[u8; KEY_BYTES] {
        &self.stored_key
    }

    /// `ServerKey` of RFC 5802, as a server needs it.
    pub fn server_key(&self) -> &[u8; KEY_BYTES] {
        &self.server_key
    }

    /// SHA-256 of the text in lower-case hexadecimal: tells whether a role still has this verifier without
    /// reading the verifier back. In SQL: `encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex')`.
    pub fn fingerprint(&self) -> String {
        let text = Zeroizing::new(self.to_string());
        Sha256::digest(text.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// HMAC-SHA-256 (RFC 2104).
pub(crate) fn hmac_sha256(key: &[u8; KEY_BYTES], message: &[u8]) -> [u8; KEY_BYTES] {
    // A key as long as the digest is padded with zeroes to the block.
    let mut block = [0u8; 64];
    block[..KEY_BYTES].copy_from_slice(key);
    let mac = Hmac::<Sha256>::new((&block).into());
    block.zeroize();
    mac.chain_update(message).finalize().into_bytes().into()
}

impl Drop for ScramVerifier {
    fn drop(&mut self) {
        self.stored_key.zeroize();
        self.server_key.zeroize();
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |bytes: &[u8]| Zeroizing::new(BASE64.encode(bytes));
        write!(
            f,
            "{PREFIX}{}:{}${}:{}",
            self.iterations.0,
            *encode(&self.salt),
            *encode(&self.stored_key),
            *encode(&self.server_key)
        )
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramVerifier(***)")
    }
}

/// Strict: exactly what [`Display`](fmt::Display) writes, so that a verifier has one text and one
/// fingerprint.
impl FromStr for ScramVerifier {
    type Err = InvalidVerifier;

    fn from_str(text: &str) -> Result<Self, InvalidVerifier> {
        let invalid = |reason| InvalidVerifier { reason };
        let rest = text
            .strip_prefix(PREFIX)
            .ok_or(invalid("does not begin with SCRAM-SHA-256$"))?;
        let (head, keys) = rest.split_once('$').ok_or(invalid("the keys are missing"))?;
        let (rounds, salt) = head.split_once(':').ok_or(invalid("the salt is missing"))?;
        let (stored, server) = keys.split_once(':').ok_or(invalid("the server key is missing"))?;
        if !rounds.bytes().all(|b| b.is_ascii_digit()) || rounds.starts_with('0') {
            return Err(invalid("the iterations are not a plain number"));
        }
        let rounds = rounds
            .parse()
            .map_err(|_| invalid("the iterations are not a plain number"))?;
        let iterations = match rounds {
            _ if rounds == Iterations::OF_RANDOM_PASSWORD.0 => Iterations::OF_RANDOM_PASSWORD,
            rounds => Iterations::new(rounds).map_err(|_| invalid("the iterations are out of bounds"))?,
        };
        Ok(ScramVerifier {
            iterations,
            salt: decode(salt).ok_or(invalid("the salt is not 16 bytes in base64"))?,
            stored_key: decode(stored).ok_or(invalid("the stored key is not 32 bytes in base64"))?,
            server_key: decode(server).ok_or(invalid("the server key is not 32 bytes in base64"))?,
        })
    }
}

/// Exactly N bytes in canonical base64 (padding, no stray bits).
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

impl TryFrom<String> for ScramVerifier {
    type Error = InvalidVerifier;

    fn try_from(text: String) -> Result<Self, InvalidVerifier> {
        Zeroizing::new(text).parse()
    }
}

impl From<ScramVerifier> for String {
    fn from(verifier: ScramVerifier) -> String {
        verifier.to_string()
    }
}

#[cfg(test)]
mod tests;
