//! A terminal session: the program on a pseudo-terminal, and somebody who types.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::program::Server;

/// A program that says nothing for so long hangs.
const DEADLINE: Duration = Duration::from_secs(300);

/// What was on the screen, and how the program ended.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) code: i32,
    pub(crate) screen: String,
}

/// Runs the program on a terminal; each answer is typed when its prompt is there.
pub(crate) fn run(server: &Server, arguments: &[&str], typed: &[(&str, &str)]) -> Session {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let open = || -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap()
    };
    let mut child = server
        .command(arguments)
        .env("TERM", "xterm")
        .stdin(open())
        .stdout(open())
        .stderr(open())
        .spawn()
        .unwrap();
    let mut controller = File::from(controller);
    let mut reader = controller.try_clone().unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        // An error is the terminal's end: nobody has it open any more.
        while let Ok(n @ 1..) = reader.read(&mut bytes) {
            if send
                .send(String::from_utf8_lossy(&bytes[..n]).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
    let (mut screen, mut seen, mut typed) = (String::new(), 0, typed.iter());
    let mut next = typed.next();
    let until = Instant::now() + DEADLINE;
    while let Ok(more) = receive.recv_timeout(until.saturating_duration_since(Instant::now())) {
        screen.push_str(&more);
        if let Some((prompt, answer)) = next
            && let Some(at) = screen[seen..].find(prompt)
        {
            seen += at + prompt.len();
            controller.write_all(answer.as_bytes()).unwrap();
            next = typed.next();
        }
    }
    if Instant::now() >= until {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(next.is_none(), "it never asked {next:?}: {screen}");
    Session {
        code: status.code().unwrap_or(-1),
        screen,
    }
}
