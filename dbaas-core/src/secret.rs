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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_it() {
        assert!(!format!("{:?}", Secret::new("hunter2!")).contains("hunter"));
    }
}
