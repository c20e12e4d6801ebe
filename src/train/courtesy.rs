//! Who gives way on the processor: the threads that train, to those that answer.

/// Makes the calling thread give way to the others of this process, by a niceness of 0 to 19 (Linux; other systems have no
/// niceness of threads). What the system does not let be done is not worth failing for.
pub fn give_way(niceness: u8) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};

        // On Linux a niceness is that of a thread, whatever POSIX says. It only rises: the daemon may have been started nice.
        let own = getpriority_process(None).unwrap_or(0);
        if i32::from(niceness) > own
            && let Err(cause) = setpriority_process(None, niceness.into())
        {
            tracing::warn!(%cause, "training does not give way to prediction");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _no_niceness_of_threads = niceness;
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
                give_way(19);
                assert_eq!(niceness(), 19);
                give_way(3);
                assert_eq!(niceness(), 19);
            });
        });
        assert_eq!(niceness(), other, "this thread stays as it was");
    }
}
