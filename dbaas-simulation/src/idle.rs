//! What instances cost that need nothing.
