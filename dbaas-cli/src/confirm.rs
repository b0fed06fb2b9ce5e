//! The question before data is gone.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::arguments::Consent;
use crate::failure::Failure;

/// Goes on if the user agrees: by `--yes`, or on a terminal by an answer.
pub(crate) fn confirm(consent: Consent, question: &str) -> Result<(), Failure> {
    if consent.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage(format!("{question}: nobody can be asked here"))
            .hint("add --yes if that is meant"));
    }
    let _ = write!(std::io::stderr(), "{question}? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => Err(Failure::failed("not done")),
    }
}
