//! Lowers the priority of threads that train or answer in bulk, below that of threads whose answer somebody waits for.

/// Makes the calling thread give way to the others of this process, by a niceness of 0 to 19 (Linux; other systems have no
/// niceness of threads). What the system does not let be done is not worth failing for.
pub fn give_way(niceness: u8) {
    #[cfg(target_os = "linux")]
    raise(|_| niceness.into());
    #[cfg(not(target_os = "linux"))]
    let _no_niceness_of_threads = niceness;
}

/// Raises the niceness of the calling thread by so many steps, to 19 at most; otherwise as [`give_way`].
pub fn give_way_by(steps: u8) {
    #[cfg(target_os = "linux")]
    raise(|own| (own + i32::from(steps)).min(19));
    #[cfg(not(target_os = "linux"))]
    let _no_niceness_of_threads = steps;
}

/// Raises the niceness of the calling thread to what `from_own` makes of its own.
#[cfg(target_os = "linux")]
fn raise(from_own: impl FnOnce(i32) -> i32) {
    use rustix::process::{getpriority_process, setpriority_process};

    // On Linux each thread has its own niceness, against POSIX. It is never lowered, as the daemon may have been started nice.
    let own = getpriority_process(None).unwrap_or(0);
    let niceness = from_own(own);
    if niceness > own
        && let Err(cause) = setpriority_process(None, niceness)
    {
        tracing::warn!(%cause, niceness, "a thread does not give way to others");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn a_thread_gives_way_and_takes_nothing_back() {
        let niceness = || getpriority_process(None).unwrap();
        let other = niceness();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                give_way_by(1);
                assert_eq!(niceness(), (other + 1).min(19));
                give_way(19);
                assert_eq!(niceness(), 19);
                give_way(3);
                give_way_by(3);
                assert_eq!(niceness(), 19);
            });
        });
        assert_eq!(niceness(), other, "this thread stays as it was");
    }
}
