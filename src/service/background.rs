//! The threads of calls that take long. They give way to those that answer predictions, as training does.

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::{JoinHandle, spawn_blocking},
};

use crate::{
    error::{Error, Result},
    niceness::give_way,
};

/// At which priority the work for a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priority {
    /// That of the daemon: for short calls, and for changes, which are to answer at once.
    Normal,
    /// Below it: for calls that read or compute much.
    Background,
}

/// Runs work that blocks at a low priority. Its threads are started as they are needed.
#[derive(Debug)]
pub struct BackgroundThreads(Option<Runtime>);

impl Priority {
    /// That of a change, or of a preview of one.
    pub(super) fn of_change(validate_only: bool) -> Self {
        if validate_only { Self::Background } else { Self::Normal }
    }
}

impl BackgroundThreads {
    /// Threads of a niceness of 0 to 19, at most so many.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn new(niceness: u8, most: usize) -> Result<Self> {
        // Nothing but blocking work runs here, so no thread drives the runtime.
        let runtime = Builder::new_current_thread()
            .thread_name("background")
            .max_blocking_threads(most.max(1))
            .on_thread_start(move || give_way(niceness))
            .build()
            .map_err(|source| Error::io("starting the threads of long calls", source))?;
        Ok(Self(Some(runtime)))
    }

    /// Runs work at a priority.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        priority: Priority,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        match (priority, self.0.as_ref().map(Runtime::handle)) {
            (Priority::Background, Some(background)) => Handle::spawn_blocking(background, work),
            _ => spawn_blocking(work),
        }
    }
}

impl Drop for BackgroundThreads {
    fn drop(&mut self) {
        // The last clone of the services may be dropped where waiting for threads is not allowed. Who stops the daemon has
        // waited for the work.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn long_work_gives_way_and_changes_do_not() {
        let threads = BackgroundThreads::new(19, 2).unwrap();
        let niceness = || getpriority_process(None).unwrap();
        let own = niceness();
        for (priority, expected) in [
            (Priority::Background, 19),
            (Priority::Normal, own),
            (Priority::of_change(true), 19),
            (Priority::of_change(false), own),
        ] {
            assert_eq!(threads.spawn(priority, niceness).await.unwrap(), expected, "{priority:?}");
        }
    }
}
