//! What may wait for the processor: initdb keeps one busy for a second, and must slow down neither instances
//! that serve nor the control plane's answers. On a machine with nothing else to do it takes as long as ever.

use std::thread;

/// For an instance that somebody waits for.
const SOMEBODY_WAITS: i32 = 10;
/// For the warm pool.
pub(crate) const AHEAD_OF_NEED: i32 = 15;

/// Lowers the priority of this thread for good, unless it is lower already; on Linux it is the thread's own,
/// and what it starts inherits it.
pub(crate) fn lower_to(nice: i32) {
    if rustix::process::getpriority_process(None).is_ok_and(|now| now >= nice) {
        return;
    }
    if let Err(e) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(error = %e, nice, "cannot lower a thread's priority");
    }
}

/// Does the work on a thread of lower priority and waits for it. `None` if it panicked.
pub(crate) fn behind_what_serves<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            lower_to(SOMEBODY_WAITS);
            work()
        });
        worker.join().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_and_what_it_starts_give_way_and_nothing_else_does() {
        let nice_of_child = || {
            let child = std::process::Command::new("nice").output().unwrap();
            String::from_utf8_lossy(&child.stdout)
                .trim()
                .parse::<i32>()
                .unwrap()
        };
        let before = nice_of_child();
        let within = behind_what_serves(nice_of_child).unwrap();
        assert_eq!(within, SOMEBODY_WAITS.max(before));
        assert_eq!(nice_of_child(), before);
    }
}
