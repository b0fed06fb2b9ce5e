//! A sealer that ties a text to its context and hides nothing: there are no secrets in a simulation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dbaas_core::secret::{SecretSealer, UnsealError};
use zeroize::Zeroizing;

pub(crate) struct SimSealer;

impl SecretSealer for SimSealer {
    fn seal(&self, context: &[u8], plaintext: &[u8]) -> String {
        format!("{}.{}", STANDARD.encode(context), STANDARD.encode(plaintext))
    }

    fn open(&self, context: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (sealed_for, text) = sealed.split_once('.').ok_or(UnsealError)?;
        if sealed_for != STANDARD.encode(context) {
            return Err(UnsealError);
        }
        STANDARD.decode(text).map(Zeroizing::new).map_err(|_| UnsealError)
    }
}
