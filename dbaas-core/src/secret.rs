//! [`Secret`]: text that must not be seen. Its `Debug` hides it, it has no `Display` and no `Serialize`.

use std::fmt;

use zeroize::Zeroizing;

/// A secret text: wiped from memory on drop, hidden in `Debug`.
///
/// Call sites of [`Secret::expose`] are the complete list of places where a secret is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Zeroizing::new(text.into()))
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Encrypts secrets that the store keeps.
pub trait SecretSealer: Send + Sync + 'static {
    /// Encrypts and authenticates; `context` (a record's id) must be the same when opening.
    fn seal(&self, context: &[u8], plaintext: &[u8]) -> String;

    /// Decrypts; an error if it was sealed with another key or context, or was changed.
    fn open(&self, context: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, UnsealError>;
}

/// A sealed secret cannot be opened: another key, another record, or damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored secret cannot be opened: it was sealed with another key, or is damaged")]
pub struct UnsealError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_it() {
        assert_eq!(format!("{:?}", Secret::new("hunter2!")), "Secret(…)");
    }
}
