//! Tells what happens to servers: their end by pidfd, at once; that they are frozen by looking a few times a
//! second. One thread for all of them, which sleeps while none runs.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use crate::backend::Inner;
use crate::files;
use crate::node::Node;
use crate::process::Process;
use crate::server::settle;
use crate::shared_memory;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The log of a running server is cut when it is longer than this.
const LOG_AT_MOST: u64 = 64 * 1024 * 1024;
/// What of it is put aside.
const LOG_KEPT: u64 = 8 * 1024 * 1024;
/// The event of the thread's own wake-up call.
const WAKE: u64 = 0;

/// The servers whose end is waited for.
#[derive(Debug)]
pub(crate) struct Watch {
    epoll: OwnedFd,
    wake: OwnedFd,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    next: u64,
    servers: HashMap<u64, (Arc<Node>, Arc<Process>)>,
}

impl Watch {
    pub(crate) fn new() -> io::Result<Arc<Watch>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(
            &epoll,
            &wake,
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN,
        )?;
        let watched = Mutex::new(Watched {
            next: WAKE + 1,
            servers: HashMap::new(),
        });
        Ok(Arc::new(Watch { epoll, wake, watched }))
    }

    /// From now on the end of this server is told.
    pub(crate) fn add(&self, node: &Arc<Node>, process: &Arc<Process>) -> io::Result<()> {
        let key = {
            let mut watched = self.watched.lock();
            let key = watched.next;
            watched.next += 1;
            watched
                .servers
                .insert(key, (Arc::clone(node), Arc::clone(process)));
            key
        };
        // Readable once it has ended: one that has ended already is told, too.
        epoll::add(
            &self.epoll,
            process.pidfd(),
            epoll::EventData::new_u64(key),
            epoll::EventFlags::IN,
        )?;
        self.wake_up();
        Ok(())
    }

    /// Makes the thread look whether it is still wanted.
    pub(crate) fn wake_up(&self) {
        // Full means that it is awake.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// The thread. It outlives the backend as long as a server runs, so that a child of this program never
    /// stays a zombie.
    pub(crate) fn run(&self, inner: &Weak<Inner>) {
        let mut round: u32 = 0;
        let mut next_look = Instant::now();
        let mut events = Vec::with_capacity(64);
        loop {
            let open = inner.upgrade().filter(|inner| !inner.is_closed());
            let any = !self.watched.lock().servers.is_empty();
            if open.is_none() && !any {
                return;
            }
            if let Some(inner) = open.as_ref().filter(|_| any && Instant::now() >= next_look) {
                round = round.wrapping_add(1);
                next_look = Instant::now() + LOOK_EVERY;
                inner
                    .nodes
                    .all()
                    .iter()
                    .for_each(|node| look_at(inner, node, round));
            }
            let looks = open.is_some() && any;
            drop(open);
            let left = next_look.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: left.min(LOOK_EVERY).subsec_nanos().into(),
            };
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                looks.then_some(&timeout),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    tracing::error!(error = %e, "cannot wait for the end of servers");
                    std::thread::sleep(LOOK_EVERY);
                }
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => {
                        let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
                    }
                    key => self.ended(key, inner),
                }
            }
        }
    }

    fn ended(&self, key: u64, inner: &Weak<Inner>) {
        let Some((node, process)) = self.watched.lock().servers.remove(&key) else {
            return;
        };
        if let Err(e) = epoll::delete(&self.epoll, process.pidfd()) {
            tracing::debug!(error = %e, "a pidfd that is not waited for");
        }
        let inner = inner.clone();
        let finish = move || match inner.upgrade().filter(|inner| !inner.is_closed()) {
            Some(inner) => {
                if let Err(e) = settle(&inner, &node, &process) {
                    tracing::error!(node = %node.id.node, error = %e, "a server has ended and left processes behind");
                }
            }
            None => {
                process.reap();
            }
        };
        // Killing what is left may take its time; the end of another server is told meanwhile.
        if let Err(e) = std::thread::Builder::new()
            .name("dbaas-settle".into())
            .spawn(finish)
        {
            tracing::error!(error = %e, "cannot start a thread; the end of a server is seen at the next look");
        }
    }
}

fn look_at(inner: &Inner, node: &Node, round: u32) {
    let (process, changed, knows_memory) = {
        let mut state = node.state.lock();
        let Some(process) = state.process.clone() else {
            return;
        };
        let frozen = process.is_stopped();
        let changed = frozen != state.seen_frozen;
        state.seen_frozen = frozen;
        (process, changed, !state.shared_memory.is_empty())
    };
    if changed {
        inner.changed(node.id);
    }
    // By now and then it has mapped what it maps for good.
    if !knows_memory && round.is_multiple_of(4) {
        shared_memory::remember(node, &process);
    }
    if round.is_multiple_of(40)
        && let Err(e) = cut_log(&node.dir.log())
    {
        tracing::warn!(node = %node.id.node, error = %e, "cannot cut the log");
    }
}

/// The server holds the log open for appending: it is copied and cut, not renamed.
fn cut_log(log: &Path) -> io::Result<()> {
    let length = files::length(log);
    if length <= LOG_AT_MOST {
        return Ok(());
    }
    let mut from = OpenOptions::new().read(true).write(true).open(log)?;
    io::Seek::seek(&mut from, io::SeekFrom::Start(length - LOG_KEPT))?;
    let mut to = std::fs::File::create(log.with_extension("1"))?;
    io::copy(&mut io::Read::take(&mut from, LOG_KEPT), &mut to)?;
    from.set_len(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_long_log_is_cut_under_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        writer.write_all(b"short\n").unwrap();
        cut_log(&log).unwrap();
        assert_eq!(files::tail(&log, 9).unwrap(), "short");
        writer.set_len(LOG_AT_MOST).unwrap();
        writer.write_all(b"\nlast before\n").unwrap();
        cut_log(&log).unwrap();
        assert_eq!(files::length(&log), 0);
        assert_eq!(files::length(&log.with_extension("1")), LOG_KEPT);
        assert_eq!(files::tail(&log.with_extension("1"), 1).unwrap(), "last before");
        writer.write_all(b"first after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "first after\n");
    }
}
