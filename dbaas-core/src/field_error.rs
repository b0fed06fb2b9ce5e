//! [`FieldError`]: a field that is wrong, and the rule.

/// A field that is wrong, and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer of the field: `/owner`.
    pub pointer: String,
    /// The rule, for people.
    pub detail: String,
}

impl FieldError {
    /// The field at this pointer breaks this rule.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}
