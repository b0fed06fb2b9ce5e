//! [`Hypervisor`]: what the backend asks of libvirt, and [`Virsh`], which asks by the `virsh` program.
//!
//! Why a program and not a binding: the `virt` crate pins `libc` to one version, is LGPL and blocks its
//! thread in C; each of these would be imposed on every program that embeds the control plane. `virsh` is
//! installed wherever libvirt is, speaks to every kind of remote libvirt, and can be killed when it does not
//! answer. Each change has a process of its own, so that a failure is that change's, and what is not answered
//! in time can be ended with it; questions go to ones that stay ([`Shells`]), events come from another.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use dbaas_core::infrastructure::{InfraError, InfraErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::shell::{Mute, Shells};

/// Between the answers to several questions.
const MARK: &str = "@@dbaas@@";

/// libvirt, as the backend needs it.
#[async_trait]
pub(crate) trait Hypervisor: Send + Sync + 'static {
    /// Runs one command, with something to read for it; gives what it printed.
    async fn run(&self, command: &[&str], input: Option<Vec<u8>>) -> Result<Vec<u8>, InfraError>;

    /// Asks several questions at once, each a line of words without blanks or quotes in them. One that fails
    /// has an empty answer.
    async fn ask(&self, questions: &[String]) -> Result<Vec<Vec<u8>>, InfraError>;

    /// Runs several commands in one line, with something to read for one of them; gives what they printed,
    /// and what they complained of.
    async fn run_line(&self, line: &str, input: Vec<u8>) -> Result<(Vec<u8>, String), InfraError>;

    /// A process that tells of events on its standard output, line by line, until it ends.
    fn follow_events(&self) -> Result<Child, InfraError>;

    /// The URI, for people.
    fn uri(&self) -> &str;
}

/// libvirt by `virsh`.
#[derive(Debug)]
pub(crate) struct Virsh {
    pub(crate) uri: String,
    pub(crate) deadline: Duration,
    pub(crate) shells: Shells,
}

impl Virsh {
    fn command(&self) -> Command {
        let mut command = Command::new("virsh");
        command
            .args(["-q", "-c", &self.uri])
            .env("LC_ALL", "C")
            .kill_on_drop(true)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn silent(&self) -> InfraError {
        let message = format!(
            "libvirt at {} did not answer within {:?}",
            self.uri, self.deadline
        );
        InfraError::new(InfraErrorKind::OutcomeUnknown, message)
    }

    async fn output(
        &self,
        mut command: Command,
        input: Option<Vec<u8>>,
    ) -> Result<(bool, Vec<u8>, String), InfraError> {
        command.stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = command.spawn().map_err(|e| {
            let message = format!("the virsh program does not start: {e}; it comes with libvirt's clients");
            InfraError::new(InfraErrorKind::Unavailable, message)
        })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let work = async {
            let write = async {
                if let (Some(mut stdin), Some(input)) = (stdin, input) {
                    // A command that failed reads nothing; its own words say why.
                    let _ = stdin.write_all(&input).await;
                }
            };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let read_out = async {
                if let Some(mut stdout) = stdout {
                    let _ = stdout.read_to_end(&mut out).await;
                }
            };
            let read_err = async {
                if let Some(mut stderr) = stderr {
                    let _ = stderr.read_to_end(&mut err).await;
                }
            };
            tokio::join!(write, read_out, read_err);
            let ended = child.wait().await;
            (ended, out, err)
        };
        let (ended, out, err) = tokio::time::timeout(self.deadline, work)
            .await
            .map_err(|_| self.silent())?;
        let ended = ended
            .map_err(|e| InfraError::new(InfraErrorKind::OutcomeUnknown, format!("virsh was lost: {e}")))?;
        Ok((ended.success(), out, String::from_utf8_lossy(&err).into_owned()))
    }
}

#[async_trait]
impl Hypervisor for Virsh {
    async fn run(&self, words: &[&str], input: Option<Vec<u8>>) -> Result<Vec<u8>, InfraError> {
        let mut command = self.command();
        command.args(words);
        match self.output(command, input).await? {
            (true, out, _) => Ok(out),
            (false, _, said) => Err(failure(words.first().copied().unwrap_or("virsh"), &said)),
        }
    }

    async fn ask(&self, questions: &[String]) -> Result<Vec<Vec<u8>>, InfraError> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let by_shell = || {
            let mut command = self.command();
            // One on another machine that falls silent is given up.
            command.args(["-k", "5", "-K", "3"]);
            command
        };
        match self.shells.ask(by_shell, questions, self.deadline).await {
            Ok((answers, _)) => return Ok(answers),
            Err(Mute::Silent) => return Err(self.silent()),
            Err(Mute::Broken) => {}
        }
        let mut script = String::new();
        for question in questions {
            script += &format!("{question}; echo {MARK}; ");
        }
        let mut command = self.command();
        command.arg(script);
        let (_, out, said) = self.output(command, None).await?;
        let mut answers = split(&out, MARK.as_bytes());
        answers.truncate(questions.len());
        if answers.len() < questions.len() {
            return Err(failure("asking", &said));
        }
        // Each question that failed has its line; that the connection failed is told of all of them.
        if is_disconnected(&said) {
            return Err(failure("asking", &said));
        }
        Ok(answers)
    }

    async fn run_line(&self, line: &str, input: Vec<u8>) -> Result<(Vec<u8>, String), InfraError> {
        let mut command = self.command();
        command.arg(line);
        let (_, out, said) = self.output(command, Some(input)).await?;
        Ok((out, said))
    }

    fn follow_events(&self) -> Result<Child, InfraError> {
        let mut command = self.command();
        // A libvirt on another machine that falls silent is given up.
        command
            .args(["-k", "5", "-K", "3", "event", "--all", "--loop"])
            .stdin(Stdio::null());
        command
            .spawn()
            .map_err(|e| InfraError::new(InfraErrorKind::Unavailable, format!("virsh: {e}")))
    }

    fn uri(&self) -> &str {
        &self.uri
    }
}

/// What lies before each mark.
pub(crate) fn split(text: &[u8], mark: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(mark.len()).position(|w| w == mark) {
        let (part, after) = rest.split_at(at);
        parts.push(part.to_vec());
        rest = after.get(mark.len()..).unwrap_or_default();
    }
    parts
}

pub(crate) fn is_disconnected(said: &str) -> bool {
    [
        "failed to connect to the hypervisor",
        "Failed to connect socket",
        "Cannot recv data",
        "End of file while reading data",
        "Disconnected from",
        "client socket is closed",
        "connection lost",
    ]
    .iter()
    .any(|text| said.contains(text))
}

/// What a failure means. `virsh` tells no codes, only English texts.
pub(crate) fn failure(what: &str, said: &str) -> InfraError {
    let connecting = said.contains("failed to connect to the hypervisor");
    let kind = if connecting {
        InfraErrorKind::Unavailable
    } else if is_disconnected(said) || said.contains("cannot acquire state change lock") {
        InfraErrorKind::OutcomeUnknown
    } else if is_missing(said) {
        InfraErrorKind::NotFound
    } else if said.contains("No space left") || said.contains("Cannot allocate memory") {
        InfraErrorKind::Exhausted
    } else {
        InfraErrorKind::Other
    };
    let told: Vec<&str> = said
        .lines()
        .map(|line| line.trim_start_matches("error: ").trim())
        .filter(|line| !line.is_empty())
        .collect();
    let told: String = told.join("; ").chars().take(400).collect();
    InfraError::new(kind, format!("libvirt, {what}: {told}"))
}

fn is_missing(said: &str) -> bool {
    [
        "failed to get domain",
        "Domain not found",
        "failed to get vol",
        "Storage volume not found",
    ]
    .iter()
    .any(|text| said.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_lie_between_marks() {
        assert_eq!(
            split(b"a\nMb\0MM rest", b"M"),
            [b"a\n".to_vec(), b"b\0".to_vec(), vec![]]
        );
    }

    #[test]
    fn what_failures_mean() {
        let cases = [
            (
                "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/x': No such file",
                InfraErrorKind::Unavailable,
            ),
            (
                "error: Failed to destroy domain 'x'\nerror: End of file while reading data: Input/output error",
                InfraErrorKind::OutcomeUnknown,
            ),
            ("error: failed to get domain 'x'\n", InfraErrorKind::NotFound),
            (
                "error: cannot write: No space left on device",
                InfraErrorKind::Exhausted,
            ),
            ("error: anything", InfraErrorKind::Other),
        ];
        for (said, kind) in cases {
            assert_eq!(failure("x", said).kind(), kind, "{said}");
        }
    }

    #[tokio::test]
    async fn a_libvirt_that_is_not_there_is_unavailable() {
        let virsh = Virsh {
            uri: "qemu+unix:///system?socket=/nonexistent/libvirt-sock".into(),
            deadline: Duration::from_secs(30),
            shells: Shells::default(),
        };
        let error = virsh.run(&["list"], None).await.unwrap_err();
        assert_eq!(error.kind(), InfraErrorKind::Unavailable, "{error}");
        let error = virsh.ask(&["list".to_owned()]).await.unwrap_err();
        assert_eq!(error.kind(), InfraErrorKind::Unavailable, "{error}");
    }
}
