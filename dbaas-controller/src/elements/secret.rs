//! Generated passwords, and secrets at rest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dbaas_core::secret::{Secret, SecretSealer, UnsealError};
use rand::RngCore as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::record::Method;

/// A new value of so many characters.
pub(crate) fn generate(method: Method, length: usize) -> Secret {
    // Each character of either spelling takes less than a byte.
    let mut bytes = Zeroizing::new(vec![0u8; length]);
    rand::rng().fill_bytes(&mut bytes);
    let mut text = Zeroizing::new(String::with_capacity(2 * length));
    match method {
        Method::AutoHex => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            text.extend(
                bytes
                    .iter()
                    .map(|byte| char::from(DIGITS[usize::from(byte & 15)])),
            );
        }
        Method::AutoUrlSafe | Method::Manual => URL_SAFE_NO_PAD.encode_string(&*bytes, &mut text),
    }
    text.truncate(length);
    Secret::new(text.as_str())
}

/// Sealed for the record with this id.
pub(crate) fn seal(sealer: &dyn SecretSealer, id: Uuid, text: &str) -> String {
    sealer.seal(id.as_bytes(), text.as_bytes())
}

/// Opens what [`seal`] made.
pub(crate) fn open(sealer: &dyn SecretSealer, id: Uuid, sealed: &str) -> Result<Secret, UnsealError> {
    let bytes = sealer.open(id.as_bytes(), sealed)?;
    std::str::from_utf8(&bytes)
        .map(Secret::new)
        .map_err(|_| UnsealError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_long_as_asked_for_and_of_the_right_signs() {
        for length in [1, 2, 31, 32, 512] {
            let hex = generate(Method::AutoHex, length);
            assert_eq!(hex.expose().len(), length);
            assert!(
                hex.expose()
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            );
            let safe = generate(Method::AutoUrlSafe, length);
            assert_eq!(safe.expose().len(), length);
            assert!(
                safe.expose()
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            );
        }
        assert_ne!(generate(Method::AutoHex, 32), generate(Method::AutoHex, 32));
    }
}
