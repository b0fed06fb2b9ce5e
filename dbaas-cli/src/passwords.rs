//! Where a user's password comes from.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use rand::Rng as _;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::arguments::PasswordSource;
use crate::config;
use crate::failure::Failure;

/// Characters of a password that was made here: 24 of 62 are 142 bits.
const GENERATED_CHARS: usize = 24;
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// More than any password has.
const INPUT_BYTES_MAX: u64 = 4096;

/// A password, and whether the user has not seen it yet.
pub(crate) struct Chosen {
    pub(crate) password: Zeroizing<String>,
    pub(crate) is_new: bool,
}

impl PasswordSource {
    fn is_given(&self) -> bool {
        self.generate_password || self.password_stdin || self.password_file.is_some()
    }

    /// The password that an option leads to, if there is one.
    pub(crate) fn given(&self) -> Result<Option<Chosen>, Failure> {
        if self.is_given() {
            self.chosen("").map(Some)
        } else {
            Ok(None)
        }
    }

    /// The password; on a terminal it is asked for unless an option leads to one.
    pub(crate) fn chosen(&self, whose: &str) -> Result<Chosen, Failure> {
        let is_new = self.generate_password;
        let password = if is_new {
            generated()
        } else if let Some(file) = &self.password_file {
            first_line(&config::text(file)?)
        } else if self.password_stdin {
            let mut text = Zeroizing::new(String::new());
            let read = std::io::stdin()
                .lock()
                .take(INPUT_BYTES_MAX)
                .read_to_string(&mut text);
            read.map_err(|_| Failure::usage("standard input is not text"))?;
            first_line(&text)
        } else {
            asked(whose)?
        };
        Ok(Chosen { password, is_new })
    }
}

fn generated() -> Zeroizing<String> {
    let mut rng = rand::rng();
    let pick = |_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]);
    Zeroizing::new((0..GENERATED_CHARS).map(pick).collect())
}

/// Without the line's end, which editors and `echo` add.
fn first_line(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
}

fn asked(whose: &str) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(
            Failure::usage("there is no password, and nobody can be asked here")
                .hint("--generate-password makes one; --password-stdin and --password-file read one"),
        );
    }
    let once = hidden(&format!("Password of {whose}: "))?;
    let again = hidden("Once more: ")?;
    if once == again {
        Ok(once)
    } else {
        Err(Failure::usage("the two passwords are not the same"))
    }
}

/// Reads a line that is not shown.
fn hidden(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    let unreadable = || Failure::failed("the terminal cannot be read");
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).map_err(|_| unreadable())?;
    let mut quiet = shown.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    // Before the prompt: what is typed after it is not shown, and not lost.
    tcsetattr(&stdin, OptionalActions::Flush, &quiet).map_err(|_| unreadable())?;
    let _ = write!(std::io::stderr(), "{prompt}");
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().read_line(&mut line);
    let restored = tcsetattr(&stdin, OptionalActions::Now, &shown);
    let _ = writeln!(std::io::stderr());
    match (read, restored) {
        (Ok(bytes), Ok(())) if bytes > 0 => Ok(first_line(&line)),
        _ => Err(unreadable()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_differ_and_are_long() {
        let (one, other) = (generated(), generated());
        assert!(one.len() == GENERATED_CHARS && one != other);
        assert!(one.bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_line_end_is_not_part_of_a_password() {
        assert_eq!(first_line("correct horse\r\nmore").as_str(), "correct horse");
        assert_eq!(first_line("").as_str(), "");
    }
}
