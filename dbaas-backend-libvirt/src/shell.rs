//! [`Shells`]: `virsh` programs that stay, and are asked questions by their standard input. A question costs
//! one of them about 1 ms, and a program that is started for it, connects and ends 20 ms and more.
//!
//! They change nothing and are trusted with nothing: whatever is odd about one (it ended, it lost its
//! connection, it complained of that) is answered by dropping it, and the question is asked by a program of
//! its own, which tells what is wrong.

use std::process::Stdio;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::virsh::{is_disconnected, split};

/// So many are kept while nobody asks.
const IDLE_MAX: usize = 4;

/// What a shell said: the answers, and its complaints.
pub(crate) type Said = (Vec<Vec<u8>>, String);

/// Shells that nobody asks at the moment.
#[derive(Debug, Default)]
pub(crate) struct Shells(Mutex<Vec<Shell>>);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Mute {
    /// Nothing within the deadline.
    Silent,
    /// It is of no use any more.
    Broken,
}

impl Shells {
    /// Asks one that is idle, or a new one. Each question has its answer, an empty one where it failed.
    pub(crate) async fn ask(
        &self,
        command: impl FnOnce() -> Command,
        questions: &[String],
        deadline: Duration,
    ) -> Result<Said, Mute> {
        let idle = self.0.lock().pop();
        let mut shell = match idle {
            Some(shell) => shell,
            None => Shell::start(command()).ok_or(Mute::Broken)?,
        };
        // Dropped on the way out unless its answer was whole: what would come later is nobody's.
        let said = timeout(deadline, shell.ask(questions)).await;
        let (answers, complaints) = said.map_err(|_| Mute::Silent)?.ok_or(Mute::Broken)?;
        if answers.len() != questions.len()
            || is_disconnected(&complaints)
            || complaints.contains("econnected")
        {
            return Err(Mute::Broken);
        }
        let mut idle = self.0.lock();
        if idle.len() < IDLE_MAX {
            idle.push(shell);
        }
        Ok((answers, complaints))
    }
}

/// One of them. Killed when dropped.
#[derive(Debug)]
struct Shell {
    _child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    /// Stands between answers. Written as XML escapes it, so that the line that asks for it, which the
    /// program repeats, does not have it; nor has anything else, as nobody knows the number.
    asked_by: String,
    mark: String,
}

impl Shell {
    fn start(mut command: Command) -> Option<Shell> {
        command
            .env("TERM", "dumb")
            .env("VIRSH_HISTSIZE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let number = uuid::Uuid::new_v4().simple();
        Some(Shell {
            stdin: child.stdin.take()?,
            stdout: child.stdout.take()?,
            stderr: child.stderr.take()?,
            _child: child,
            asked_by: format!("--xml \"<{number}>\""),
            mark: format!("&lt;{number}&gt;"),
        })
    }

    /// `None`: it ended.
    async fn ask(&mut self, questions: &[String]) -> Option<Said> {
        let asked_by = &self.asked_by;
        let mut line = format!("echo {asked_by}; ");
        for question in questions {
            line += &format!("{question}; echo {asked_by}; ");
        }
        line += &format!("echo --err {asked_by}\n");
        let mark = self.mark.as_bytes();
        let (written, out, err) = tokio::join!(
            self.stdin.write_all(line.as_bytes()),
            until_marks(&mut self.stdout, mark, questions.len() + 1),
            until_marks(&mut self.stderr, mark, 1),
        );
        written.ok()?;
        // What lies before the first is the program's own, such as its prompt.
        let answers = split(&out?, mark).split_off(1);
        let said = String::from_utf8_lossy(&err?).into_owned();
        let complaints = said.rsplit_once("error: ").map_or("", |(before, _)| before);
        Some((answers, complaints.to_owned()))
    }
}

/// Reads until so many marks are there. `None`: it ended before.
async fn until_marks(from: &mut (impl AsyncReadExt + Unpin), mark: &[u8], wanted: usize) -> Option<Vec<u8>> {
    let (mut text, mut found, mut searched) = (Vec::new(), 0, 0);
    while found < wanted {
        if from.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
        while let Some(at) = text
            .get(searched..)
            .and_then(|rest| rest.windows(mark.len()).position(|window| window == mark))
        {
            found += 1;
            searched += at + mark.len();
        }
        // A mark may have come in part.
        searched = searched.max((text.len() + 1).saturating_sub(mark.len()));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that does as `virsh` does there: repeats each line with a prompt, and carries it out.
    fn like_virsh(body: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", body]).kill_on_drop(true);
        command
    }

    const ANSWERS: &str = r#"
        while read -r line; do
            printf 'virsh # %s\n' "$line"
            mark=$(printf %s "$line" | sed 's/^echo --xml "<\([0-9a-f]*\)>.*/\&lt;\1\&gt;/')
            printf '%sone\n\000%stwo%s' "$mark" "$mark" "$mark"
            printf 'error: no such thing\nerror: %s\n' "$mark" >&2
        done"#;

    fn questions() -> Vec<String> {
        ["list", "domstate x"].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn answers_of_one_that_stays() {
        let shells = Shells::default();
        let long = Duration::from_secs(60);
        for _ in 0..3 {
            let (answers, said) = shells
                .ask(|| like_virsh(ANSWERS), &questions(), long)
                .await
                .unwrap();
            assert_eq!(answers, [b"one\n\0".to_vec(), b"two".to_vec()]);
            assert_eq!(said, "error: no such thing\n");
            assert_eq!(shells.0.lock().len(), 1);
        }
    }

    #[tokio::test]
    async fn one_that_is_odd_is_dropped() {
        let lost = r#"read -r line; echo 'error: Disconnected from x' >&2
            mark=$(printf %s "$line" | sed 's/^echo --xml "<\([0-9a-f]*\)>.*/\&lt;\1\&gt;/')
            printf '%s%s%s' "$mark" "$mark" "$mark"; printf 'error: %s\n' "$mark" >&2; sleep 60"#;
        for (body, deadline, silent) in [
            ("read -r line; echo only a part", 60_000, false),
            (lost, 60_000, false),
            ("sleep 60", 50, true),
        ] {
            let shells = Shells::default();
            let deadline = Duration::from_millis(deadline);
            let mute = shells
                .ask(|| like_virsh(body), &questions(), deadline)
                .await
                .unwrap_err();
            assert_eq!(matches!(mute, Mute::Silent), silent, "{body}: {mute:?}");
            assert!(shells.0.lock().is_empty());
        }
    }
}
